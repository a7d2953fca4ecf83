"""A tiny model that says anything, a model that says what it is told, and a tokenizer that splits characters."""

from types import SimpleNamespace

import pytest
import torch

from instar.config import ModelConfig
from instar.config.options import SamplingOptions
from instar.infer.request import Luck
from instar.model.transformer import Transformer
from instar.text.tokenizer import Tokenizer

TEXTS = ["Anna had a red ball. She gave the ball to Tom.\n" * 4, "王明有一个红色的球。球在花园里。\n" * 2]


@pytest.fixture(scope="session")
def tokenizer():
    """Barely merged: a Chinese character or an emoji is several tokens."""
    return Tokenizer.train(TEXTS, 320)


@pytest.fixture
def make_model():
    """fp64, with logits of a standard deviation above 1, so that its answers vary."""

    def make(vocab_size=61, **changes):
        shape = dict(d_model=16, layers=2, heads=2, max_positions=48, tied=False)
        model = Transformer(ModelConfig(vocab_size=vocab_size, **shape | changes), seed=3).double()
        with torch.no_grad():
            model.heads["lm"].weight *= 20
        return model

    return make


class Script(Transformer):
    """Behind a prompt of `start` tokens its likeliest answer is `ids`, then `end` for ever; it counts its passes."""

    def __init__(self, ids, *, start, end, vocab_size, max_positions=1024):
        super().__init__(ModelConfig(vocab_size=vocab_size, d_model=2, layers=1, heads=1, max_positions=max_positions))
        self.ids, self.start, self.end, self.passes = list(ids), start, end, 0
        self.heads["lm"] = torch.nn.Identity()

    def hidden(self, tokens, *, cache=None, **rest):
        self.passes += 1
        places = cache.positions(tokens.shape[1]) - self.start + 1
        cache.extend(tokens.shape[1])
        said = torch.tensor([*self.ids, self.end])[places.clamp(0, len(self.ids))]
        return 30 * torch.nn.functional.one_hot(said, self.config.vocab_size).float()


@pytest.fixture
def script(tokenizer):
    """script(text or ids, prompt ids) -> a model that answers so, then ends."""

    def make(said, prompt, end=None, **changes):
        ids = tokenizer.encode(said) if isinstance(said, str) else said
        end = tokenizer.eos if end is None else end
        return Script(ids, start=len(prompt), end=end, vocab_size=tokenizer.vocab_size, **changes)

    return make


class Asked(SimpleNamespace):
    """What those who guess see of a request."""

    __hash__ = object.__hash__
    __eq__ = object.__eq__

    def __init__(self, prompt, ids=(), *, source=(), stops=(), seed=0, max_new_tokens=10**6, **rules):
        options = SamplingOptions(max_new_tokens=max_new_tokens, **rules)
        super().__init__(prompt=list(prompt), ids=list(ids), source=list(source), options=options, stops=set(stops))
        self.luck, self.root = Luck(seed), b""


@pytest.fixture
def asked():
    """asked(prompt, ids, ...) -> a request without an engine."""
    return Asked
