"""Decoders that say a class, or a reward, of a text compute what transformers computes, and it reads what we write."""

import json
from dataclasses import replace

import pytest
import torch

from instar.batch import View
from instar.config import ModelConfig
from instar.hub.families import CLASSIFIERS, DECODERS, SPEAK_ALONE, config_from_hf, config_to_hf
from instar.hub.files import load_model, save_model
from instar.model.transformer import Transformer

KINDS = {
    "LlamaForSequenceClassification": "llama", "MistralForSequenceClassification": "mistral",
    "Qwen2ForSequenceClassification": "qwen2", "Qwen3ForSequenceClassification": "qwen3",
    "Olmo2ForSequenceClassification": "olmo2", "Gemma2ForSequenceClassification": "gemma2",
    "Gemma3TextForSequenceClassification": "gemma3_text", "MixtralForSequenceClassification": "mixtral",
    "Qwen3MoeForSequenceClassification": "qwen3_moe", "Phi3ForSequenceClassification": "phi3",
    "GPTNeoXForSequenceClassification": "gpt_neox", "GPT2ForSequenceClassification": "gpt2",
}  # fmt: skip
CHANGES = {"phi3": dict(rope_parameters=dict(rope_type="default", rope_theta=500.0, partial_rotary_factor=0.5))}
PAD = 60


@pytest.fixture
def written(foreign_shapes, tmp_path):
    """make(architecture, labels) -> the folder that transformers writes, and the model, of large random weights."""
    transformers = pytest.importorskip("transformers")

    def make(architecture, labels):
        family = KINDS[architecture]
        shape = foreign_shapes[family] | CHANGES.get(family, {}) | dict(num_labels=labels, pad_token_id=PAD)
        config = transformers.AutoConfig.for_model(family, **shape)
        config._attn_implementation = "eager"
        model = getattr(transformers, architecture)(config).eval()
        generator = torch.Generator().manual_seed(3)
        with torch.no_grad():
            for weight in model.parameters():
                weight += 0.2 * torch.randn(weight.shape, generator=generator)
        model.save_pretrained(tmp_path)
        return tmp_path, model

    return make


@pytest.fixture
def texts():
    """Three texts padded on the right, and which tokens are real."""
    keep = torch.arange(24) < torch.tensor([24, 9, 17])[:, None]
    drawn = torch.randint(0, PAD, keep.shape, generator=torch.Generator().manual_seed(5))
    return drawn.masked_fill(~keep, PAD), keep


@torch.no_grad()
def same(ours, theirs, texts):
    """The one check: what is said of each text within 1e-5."""
    tokens, keep = texts
    wanted = theirs(tokens, attention_mask=keep.long()).logits
    gap = ours(tokens, view=View(keep=keep)) - wanted
    return bool((gap.abs() <= 1e-5 * max(1.0, float(wanted.abs().max()))).all())


@pytest.mark.parametrize("labels", [1, 3])
@pytest.mark.parametrize("architecture", KINDS)
def test_what_is_said_of_a_text_equals_that_of_transformers(written, texts, architecture, labels):
    """A folder of transformers, loaded, scores equally; saved again it gives back every tensor; read at another token
    the check fails."""
    from safetensors.torch import load_file

    folder, theirs = written(architecture, labels)
    ours = load_model(folder)
    assert (ours.config.heads_of, ours.config.labels, ours.config.pooling) == (("classify",), labels, "last")
    assert same(ours, theirs, texts)
    wrong = Transformer(replace(ours.config, pooling="first")).eval()
    wrong.load_state_dict(ours.state_dict())
    assert not same(wrong, theirs, texts)
    save_model(ours, folder / "again")
    before, after = (load_file(path / "model.safetensors") for path in (folder, folder / "again"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_every_decoder_of_transformers_has_one():
    """No family is forgotten, and what is left out has no such class in transformers."""
    transformers = pytest.importorskip("transformers")
    assert {family.architecture for family in CLASSIFIERS} == set(KINDS)
    assert len(CLASSIFIERS) + len(SPEAK_ALONE) == len(DECODERS)
    assert all(hasattr(transformers, name) for name in KINDS)
    for name in SPEAK_ALONE:
        assert not hasattr(transformers, name.replace("ForCausalLM", "ForSequenceClassification"))


@pytest.mark.parametrize("name", ["plain", "named"])
def test_transformers_reads_what_we_write(tmp_path, texts, name):
    """AutoModelForSequenceClassification finds every weight, calls classes by their names, and says the same."""
    auto = pytest.importorskip("transformers").AutoModelForSequenceClassification
    names = ("good", "bad") if name == "named" else ()
    shape = ModelConfig(
        vocab_size=61, d_model=32, layers=2, heads=4, max_positions=64, qk_norm=True, heads_of=("classify",),
        labels=len(names) or 1, label_names=names, pooling="last", tied=False,
    )  # fmt: skip
    assert config_from_hf(json.loads(json.dumps(config_to_hf(shape)))) == shape
    ours = Transformer(shape, seed=3).eval()
    save_model(ours, tmp_path, tokens={"pad_token_id": PAD})
    theirs, told = auto.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(told[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert same(ours, theirs.eval(), texts)
    assert list(theirs.config.id2label.values()) == list(names or ["LABEL_0"])
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == ["Qwen3ForSequenceClassification"]
