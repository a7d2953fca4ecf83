"""Trap 26, with an encoder: keys of the source that are kept, masked or moved wrongly. huggingface/transformers#18388
(a padded source), #5987 (where the decoder begins), and the threads of test_26.

The keys of a source are computed once, of all its real tokens and of no padding, and stay with their row. The oracle
reads one source at a time, unpadded, and everything again for each token.
"""

import pytest
import torch

from instar.batch import View
from instar.config import InputError, ModelConfig
from instar.config.options import SamplingOptions
from instar.infer.engine import Engine
from instar.model.cache import KVCache
from instar.model.transformer import Transformer

START, END = 1, 2
PAPER = dict(norm="layer", residual="post", mlp="plain", act="relu", bias=True, qkv_bias=True, scaled_embed=True)
SHAPES = {
    "paper": PAPER | dict(positions="sinusoidal"),
    "marian": PAPER | dict(positions="sinusoidal_halves", act="silu", head_bias=True),
    "bart": PAPER | dict(positions="learned", position_start=2, embed_norm=True, act="gelu", scaled_embed=False),
    "t5": dict(positions="t5", relative_buckets=8, relative_distance=20, kv_heads=4),
    "rotary, grouped": dict(positions="rotary", kv_heads=2),
    "two vocabularies": dict(positions="alibi", source_vocab_size=17, encoder_layers=1),
}
SOURCES = [[5, 16, 3, 7, 7, 9, 0, 11, 4], [12], [3, 4, 5, 6, 7], [8, 8]]


@pytest.fixture(params=SHAPES)
def model(request):
    """fp64, with logits of a standard deviation above 1."""
    shape = dict(
        vocab_size=41, d_model=16, encoder_layers=2, layers=2, heads=4, max_positions=40, tied=False, start=START
    )
    model = Transformer(ModelConfig(**shape | SHAPES[request.param]), seed=4).double().eval()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for weight in model.parameters():  # biases and distances too, so that one left out would show
            weight += 0.1 * torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
        model.heads["lm"].weight *= 20
    return model


def padded(rows):
    """(B, S), wrong ids behind each row, and which are real."""
    width = max(map(len, rows))
    keep = torch.tensor([[place < len(row) for place in range(width)] for row in rows])
    return torch.tensor([[*row, *[13] * (width - len(row))] for row in rows]), keep


@pytest.mark.parametrize("cuts", [[12], [1] * 12, [5, 1, 1, 5]], ids=["prefill", "single", "chunks"])
@torch.no_grad()
def test_however_an_answer_is_cut(model, cuts):
    """Every logit of four answers side by side, about ragged sources, is that of one pass about one source."""
    tokens = torch.randint(0, 41, (4, 12), generator=torch.Generator().manual_seed(3))
    wanted = torch.cat([model(tokens[n : n + 1], source=torch.tensor([source])) for n, source in enumerate(SOURCES)])
    assert (wanted[0] - model(tokens[:1], source=torch.tensor([SOURCES[2]]))[0]).abs().max() > 0.1
    source, keep = padded(SOURCES)
    torch.testing.assert_close(model(tokens, source=source, source_view=View(keep=keep)), wanted, rtol=0, atol=1e-10)
    cache = KVCache(model.config, 4, 12, source_capacity=9, dtype=torch.float64)
    parts = list(tokens.split(cuts, dim=1))
    found = [model(parts[0], source=source, source_view=View(keep=keep), cache=cache)]
    found += [model(part, cache=cache) for part in parts[1:]]
    torch.testing.assert_close(torch.cat(found, dim=1), wanted, rtol=0, atol=1e-10)


@torch.no_grad()
def by_hand(model, source, count):
    """The likeliest next token again and again, and how likely each was: one source, no padding, no cache."""
    ids, chances = [START], []
    while len(chances) < count:
        said = model(torch.tensor([ids]), source=torch.tensor([source]))[0, -1].log_softmax(-1)
        if int(said.argmax()) == END:
            break
        chances.append(float(said.max()))
        ids.append(int(said.argmax()))
    return ids[1:], chances


@pytest.mark.parametrize("slots", [1, 3, 8])
def test_the_engine_says_what_the_plain_loop_says(model, slots):
    """Ragged sources, rows that are left and taken again: ids are equal, log-probabilities to 1e-10."""
    asked = [(source, count) for source, count in zip(SOURCES * 2, (4, 20, 3, 9, 12, 1, 30, 7))]
    engine = Engine(model, slots=slots, stops=[END])
    requests = [
        engine.submit([], SamplingOptions(strategy="greedy", max_new_tokens=count), source=source)
        for source, count in asked
    ]
    engine.run()
    for (source, count), request in zip(asked, requests):
        ids, chances = by_hand(model, source, count)
        assert (request.prompt, request.ids) == ([START], ids)
        assert request.logprobs == pytest.approx(chances, abs=1e-10)
    assert len({tuple(request.ids[:3]) for request in requests}) > 1


def test_a_source_is_read_once(model):
    """The encoder runs for the step that admits a request, and for no other."""
    passes = []
    model.encoder.blocks[0].register_forward_hook(lambda *_: passes.append(1))
    engine = Engine(model, slots=2)
    for source in SOURCES[:2]:
        engine.submit([], SamplingOptions(strategy="greedy", max_new_tokens=6), source=source)
    engine.run()
    assert len(passes) == 1


@pytest.mark.parametrize(
    ("prompt", "source", "message"),
    [
        ([], None, "an encoder-decoder answers a source, and there is none; pass source"),
        ([], [], "the source is empty"),
        ([], [3] * 41, "the source has 41 tokens, but the model reads 40; shorten it"),
        ([], [41], "the source holds ids outside 0 to "),
        ([1] * 40, [3], "the prompt has 40 tokens and 8 more are wanted, but the model reads 40; ask for at most 1"),
    ],
)
def test_sources_that_cannot_be(model, prompt, source, message):
    """Refused before any work, by name."""
    engine = Engine(model)
    with pytest.raises(InputError) as error:
        engine.submit(prompt, SamplingOptions(strategy="greedy", max_new_tokens=8), source=source)
    assert message in str(error.value)
    assert not engine.busy
