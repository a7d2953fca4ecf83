"""The attention that is drawn is transformers' own: every family, every layer and head, encoders and encoder-decoders
too."""

import pytest
import torch

from instar.batch import View
from instar.hub.files import load_model
from instar.probe.capture import capture

NEAR = 1e-5
# a pooler, which attention does without
pytestmark = pytest.mark.filterwarnings("ignore:.*holds 2 weights that we compute RobertaModel without")
DECODERS = (
    "llama", "mistral", "qwen2", "qwen3", "olmo2", "gemma2", "gemma3_text", "mixtral", "qwen3_moe", "ernie4_5_moe",
    "phi3", "gpt_neox", "gpt2",
)  # fmt: skip
ENCODERS = {"bert": "BertForMaskedLM", "roberta": "RobertaModel", "modernbert": "ModernBertForMaskedLM"}
PAIRS = {"marian": "MarianMTModel", "bart": "BartForConditionalGeneration", "t5": "T5ForConditionalGeneration"}


def gap(seams, theirs, rows=None):
    """The largest difference of a share, in all layers and heads; rows (B, T): those that are real, others nobody
    reads."""
    assert len(seams) == len(theirs)
    found = [(seam.weights() - wanted).abs() for seam, wanted in zip(seams, theirs)]
    kept = found if rows is None else [gaps.transpose(1, 2)[rows] for gaps in found]
    return max(float(gaps.max()) for gaps in kept)


@pytest.fixture
def decoded(written, tokens):
    """decoded(family) -> our model, and what transformers' looks at."""

    def make(family):
        folder, theirs = written(family)
        with torch.no_grad():
            return load_model(folder), theirs(tokens, output_attentions=True).attentions

    return make


def test_every_family_is_here(foreign_shapes):
    """One that is added needs its attention compared."""
    assert set(foreign_shapes) == {*DECODERS, *ENCODERS, *PAIRS}


@pytest.mark.parametrize("family", DECODERS)
def test_decoders(decoded, tokens, family):
    """Grouped heads, windows, caps, rotations: each share within 1e-5."""
    ours, wanted = decoded(family)
    assert gap(capture(ours, tokens).own.attended, wanted) <= NEAR


@pytest.mark.parametrize("family", ENCODERS)
def test_encoders(written_encoder, text, family):
    """Three texts of different lengths side by side."""
    tokens, keep, types = text
    folder, theirs = written_encoder(ENCODERS[family])
    typed = family == "bert"
    with torch.no_grad():
        asked = {"token_type_ids": types} if typed else {}
        wanted = theirs(tokens, attention_mask=keep.long(), output_attentions=True, **asked).attentions
    trace = capture(load_model(folder), tokens, view=View(keep=keep, types=types if typed else None))
    assert gap(trace.own.attended, wanted, keep) <= NEAR


@pytest.mark.parametrize("family", PAIRS)
def test_encoder_decoders(written_pair, pair, family):
    """The encoder's own attention, the decoder's, and that between the two."""
    source, keep, tokens = pair
    folder, theirs = written_pair(PAIRS[family])
    with torch.no_grad():
        said = theirs(
            input_ids=source, attention_mask=keep.long(), decoder_input_ids=tokens, output_attentions=True
        )  # fmt: skip
    trace = capture(load_model(folder), tokens, source=source, source_view=View(keep=keep))
    assert trace.encoder is not None
    assert gap(trace.encoder.attended, said.encoder_attentions, keep) <= NEAR
    assert gap(trace.own.attended, said.decoder_attentions) <= NEAR
    assert gap(trace.own.crossed, said.cross_attentions) <= NEAR


@pytest.mark.parametrize("fault", ["scale", "cap", "window"])
def test_the_check_can_fail(decoded, tokens, fault):
    """A score scaled, capped or masked otherwise is caught by the very same check."""
    ours, wanted = decoded("gemma2")
    seam = capture(ours, tokens).own.attended[0]
    changed = {"scale": {"scale": 2 * seam.scale}, "cap": {"cap": 0.0}, "window": {"mask": None, "causal": True}}
    wrong = type(seam)(**{name: getattr(seam, name) for name in seam.__dataclass_fields__} | changed[fault])
    assert gap([wrong], wanted[:1]) > NEAR
