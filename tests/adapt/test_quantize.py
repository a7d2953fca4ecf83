"""Whole models: which layers are rounded, and what it costs."""

from itertools import islice

import pytest
import torch

import instar
from instar.adapt import quantize as module
from instar.adapt.quantize import GROUP, bytes_of, quantize
from instar.config import InputError, ModelConfig
from instar.eval.perplexity import measure
from instar.model.grid import Grid
from instar.model.layers import Linear
from instar.model.quantized import QuantLinear, quantized
from instar.model.transformer import Transformer

TINY = ModelConfig(vocab_size=50, d_model=64, layers=2, heads=4, kv_heads=2, d_ff=96)
EXPERTS = ModelConfig(
    vocab_size=50, d_model=64, layers=1, heads=4, kv_heads=4, d_ff=96, experts=4, experts_used=1, d_expert=32
)
PAIR = ModelConfig(vocab_size=50, d_model=64, layers=2, heads=4, kv_heads=4, d_ff=96, encoder_layers=2)
TOKENS = torch.randint(0, 50, (4, 24), generator=torch.Generator().manual_seed(0))


def reads(model):
    """Lets a model read."""
    source = None if model.encoder is None else TOKENS
    return lambda: model(TOKENS, source=source)


@pytest.mark.parametrize("config", [TINY, EXPERTS, PAIR], ids=["decoder", "experts", "encoder-decoder"])
def test_which_layers_are_rounded(config):
    """All plain linear layers of both stacks; not embeddings, heads, nor what chooses experts."""
    model = Transformer(config)
    plain = {name for name, layer in model.named_modules() if type(layer) is Linear and not name.endswith("router")}
    done = quantize(model, Grid(8, 0, True), reads(model))
    assert {name for name, _ in quantized(model)} == plain
    assert (done.layers, done.left, done.seen) == (len(plain), [], True)
    assert done.weights == sum(layer.in_features * layer.out_features for _, layer in quantized(model))
    left = {name for name, layer in model.named_modules() if type(layer) is Linear}
    assert left == {name for name, _ in model.named_modules() if name.endswith("router")}
    assert model(TOKENS, source=None if model.encoder is None else TOKENS).isfinite().all()


def test_rows_that_do_not_divide_are_left():
    """A layer whose rows do not fill their groups stays as it is, and is named; where none is left, that is refused."""
    model = Transformer(TINY)
    done = quantize(model, Grid(4, 64, True))
    assert done.left == ["blocks.0.feed_forward.down", "blocks.1.feed_forward.down"]
    with pytest.raises(InputError, match="rows have 64, 96 weights"):
        quantize(Transformer(TINY), Grid(4, 128, True))


def test_only_once():
    """What is quantised is not quantised again."""
    model = Transformer(TINY)
    quantize(model, Grid(8, 0, True))
    with pytest.raises(InputError, match="quantised to 8 bits"):
        quantize(model, Grid(4, 32, True))


def test_one_part_at_a_time_gives_whole_models_too(monkeypatch):
    """With little memory layers are looked at in parts, each after the rounding of those before."""
    monkeypatch.setattr(module, "MEMORY", 1)
    model = Transformer(TINY)
    reading, read = [], reads(model)
    done = quantize(model, Grid(4, 32, True), lambda: (reading.append(len(dict(quantized(model)))), read()))
    assert reading == list(range(done.layers))


def test_reading_that_fails_leaves_the_model_as_it_was():
    """No layer is replaced, and nobody looks on any more."""
    model = Transformer(TINY)

    def fail():
        raise InputError("no text")

    with pytest.raises(InputError, match="no text"):
        quantize(model, Grid(8, 0, True), fail)
    assert not any(layer._forward_pre_hooks for layer in model.modules())
    assert not list(quantized(model))


def test_bytes():
    """8 bits a weight take a quarter of fp32, and scales a little."""
    model = Transformer(TINY)
    before = bytes_of(model)
    done = quantize(model, Grid(8, 0, True))
    rows = sum(layer.out_features for _, layer in quantized(model))
    assert before - bytes_of(model) == 3 * done.weights - 4 * rows


def test_training_mode_is_kept():
    """A model that was in training still is."""
    model = Transformer(TINY).train()
    quantize(model, Grid(8, 0, True), reads(model))
    assert model.training
    assert all(layer.training for layer in model.modules() if isinstance(layer, QuantLinear))


@pytest.fixture(scope="module")
def stories(shared):
    """Real text of the kind that the small checkpoint learned."""
    texts = (shared / "pretrain/en/tinystories.txt").read_text(encoding="utf-8").split("<|endoftext|>")
    return [text.strip() for text in islice(texts, 400) if text.strip()]


@pytest.mark.slow
@pytest.mark.parametrize(("bits", "most"), [(8, 0.003), (4, 0.03)])
def test_what_rounding_costs(bits, most, stories, shared):
    """On real text the perplexity of a real checkpoint grows by at most 0.3 % with 8 bits, and 3 % with 4."""
    model, tokenizer = instar.load(shared / "weights/TinyStories-656K")
    looked, measured = stories[::2], stories[1::2]
    before = measure(model, tokenizer, measured).perplexity
    quantize(model, Grid(bits, GROUP[bits], True), lambda: measure(model, tokenizer, looked))
    assert measure(model, tokenizer, measured).perplexity < before * (1 + most)
