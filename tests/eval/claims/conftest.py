"""A tiny decoder with a tokenizer that knows the words of the world, and a case of the two at the smallest size."""

import pytest

from instar.config import ModelConfig
from instar.data.world import records
from instar.eval.claims import Case
from instar.model.transformer import Transformer
from instar.text.tokenizer import Tokenizer


@pytest.fixture(scope="session")
def worldly():
    """It speaks English alone."""
    texts = [record["text"] for record in records("world:stories?lang=en&count=60")]
    return Tokenizer.train(texts, 400)


@pytest.fixture
def case(worldly):
    """case(**changes of the shape): two layers of random weights, two texts a figure."""

    def make(limit=2, fit=None, **changes):
        shape = {"d_model": 16, "layers": 2, "heads": 2, "max_positions": 96, "tied": False} | changes
        return Case(
            Transformer(ModelConfig(vocab_size=worldly.vocab_size, **shape), seed=1), worldly, limit=limit, fit=fit
        )

    return make


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Texts and answers are short."""
    for name, value in {"parallel.LONGEST": 20, "cache.NEW": 8, "decoding.NEW": 24, "decoding.SEARCHED": 8}.items():
        monkeypatch.setattr(f"instar.eval.claims.{name}", value)
