"""A base and several adapters of it in one model."""

import pytest
import torch

from instar.adapt.folders import base_of, load, save_adapter
from instar.adapt.growth import add_tokens
from instar.adapt.lora import attach, freeze, using
from instar.adapt.shelf import take
from instar.config import InputError, ModelConfig
from instar.config.options import LoraOptions
from instar.hub.folders import save
from instar.model.transformer import Transformer
from instar.text.tokenizer import Tokenizer

TEXTS = ["Anna had a red ball. She gave the ball to Tom.\n" * 4]
SHAPE = dict(d_model=16, layers=2, heads=2)
IDS = torch.tensor([[5, 9, 2, 44, 17]])


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(TEXTS, 320)


@pytest.fixture(scope="module")
def base(tokenizer, tmp_path_factory):
    """A tiny model in a folder."""
    folder = tmp_path_factory.mktemp("shelf") / "base"
    save(
        Transformer(ModelConfig(vocab_size=tokenizer.vocab_size, d_model=16, layers=2, heads=2), seed=3),
        tokenizer,
        folder,
    )
    return folder


@pytest.fixture
def make_adapter(base, tokenizer, tmp_path):
    """make_adapter(name, seed, tokens=texts, heads=names, words=a tokenizer) -> the folder of an adapter of the base,
    which is not nothing."""

    def make(name, seed=1, *, tokens=(), heads=(), words=None, of=base):
        model, own = load(of)
        ids = []
        if tokens:
            own, ids = add_tokens(model, own, tokens)
        attach(model, "default", LoraOptions(rank=2), seed=seed, tokens=ids)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for full, weight in model.named_parameters():
                if full.endswith(".default.b"):
                    weight.normal_(generator=generator)
        freeze(model, train="default", heads=heads)
        save_adapter(model, "default", tmp_path / name, base_of(of), words or (own if tokens else None), heads=heads)
        return tmp_path / name

    return make


@torch.no_grad()
def logits(model, *active):
    with using(model, *active):
        return model(IDS)


def test_each_adapter_says_what_it_says_alone(base, make_adapter):
    """Two adapters and the bare model side by side; none is active, and each has a fingerprint of its own."""
    one, two = make_adapter("one", 1), make_adapter("two", 2)
    shelf = take(base, {"a.1": str(one), "keys": str(two)}, own="base")
    assert (list(shelf.adapters), shelf.base, shelf.words) == (["a.1", "keys"], "", base)
    assert shelf.model.active == ()
    found = [logits(shelf.model), *(logits(shelf.model, name) for name in shelf.adapters.values())]
    for own, folder in zip(found, (base, one, two)):
        assert (own - logits(load(folder)[0])).abs().max() < 1e-4
    assert (found[1] - found[2]).abs().max() > 1e-2
    assert take(base, {}, own="base").fingerprint != shelf.fingerprint
    assert not any(weight.requires_grad for weight in shelf.model.parameters())


def test_an_adapter_run_brings_its_base(base, make_adapter):
    """The folder of an adapter is served with what it was made for; others of the same base go with it."""
    one, two = make_adapter("one", 1), make_adapter("two", 2)
    shelf = take(one, {"two": str(two)}, own="mine")
    assert (list(shelf.adapters), shelf.base) == (["mine", "two"], "base")
    assert (logits(shelf.model, shelf.adapters["mine"]) - logits(load(one)[0])).abs().max() < 1e-4
    assert (logits(shelf.model) - logits(load(base)[0])).abs().max() < 1e-4


def test_tokens_that_an_adapter_learnt_are_known(base, make_adapter, tokenizer):
    """Its tokenizer, which adds to the base's, is that of all; two that differ cannot be served together."""
    grown = make_adapter("grown", 1, tokens=("<tool>", *(f"<spare{n}>" for n in range(70))))  # more than rows to spare
    shelf = take(base, {"plain": str(make_adapter("plain", 2)), "grown": str(grown)}, own="base")
    assert "<tool>" in shelf.tokenizer.specials
    assert shelf.words == grown
    assert shelf.model.config.vocab_size >= shelf.tokenizer.vocabulary.size
    other = make_adapter("other", 3, tokens=("<other>",))
    with pytest.raises(InputError, match="grown and other have different tokenizers"):
        take(base, {"grown": str(grown), "other": str(other)}, own="base")


def test_a_head_of_its_own_is_served_alone(tokenizer, tmp_path, make_adapter):
    """An adapter that trained the head has no base any more: it is merged; beside others it is refused."""
    base = tmp_path / "untied"
    config = ModelConfig(vocab_size=tokenizer.vocab_size, tied=False, **SHAPE)
    save(Transformer(config, seed=3), tokenizer, base)
    headed = make_adapter("headed", heads=("lm",), of=base)
    shelf = take(headed, {}, own="headed")
    assert (shelf.adapters, shelf.base, shelf.model.attached) == ({}, "", {})
    assert (logits(shelf.model) - logits(load(headed)[0])).abs().max() < 1e-5
    with pytest.raises(InputError, match="headed has trained a head of its own"):
        take(base, {"headed": str(headed)}, own="base")


def test_what_does_not_belong_together_is_refused(base, make_adapter, tokenizer, tmp_path):
    """A folder without an adapter, one that is not there, and an adapter of another base, told by its weights."""
    with pytest.raises(InputError, match="holds no adapter"):
        take(base, {"base": str(base)}, own="x")
    with pytest.raises(InputError, match="no such folder"):
        take(base, {"a": str(tmp_path / "nothing")}, own="x")
    other = tmp_path / "stranger"
    save(
        Transformer(ModelConfig(vocab_size=tokenizer.vocab_size, d_model=16, layers=2, heads=2), seed=9),
        tokenizer,
        other,
    )
    with pytest.raises(InputError, match="it is another model"):
        take(other, {"a": str(make_adapter("one"))}, own="x")
