"""A tokenizer and a tiny model whose probabilities vary."""

import pytest
import torch

from instar.config import ModelConfig
from instar.model.transformer import Transformer
from instar.text.tokenizer import Tokenizer

TEXTS = ["Anna had a red ball. She gave the ball to Tom.\n" * 4, "王明有一个红色的球。球在花园里。\n" * 2]


@pytest.fixture(scope="session")
def tokenizer():
    return Tokenizer.train(TEXTS, 320)


@pytest.fixture
def model(tokenizer):
    """fp64, 64 positions, logits of a standard deviation above 1."""
    config = ModelConfig(vocab_size=tokenizer.vocab_size, d_model=16, layers=2, heads=2, max_positions=64, tied=False)
    model = Transformer(config, seed=3).double()
    with torch.no_grad():
        model.heads["lm"].weight *= 20
    return model


@pytest.fixture
def make_masked():
    """tokenizer -> a masked model in fp64 whose probabilities vary."""

    def make(tokenizer):
        config = ModelConfig(
            vocab_size=tokenizer.vocab_size, d_model=16, layers=2, heads=2, max_positions=64, causal=False,
            heads_of=("masked",), tied=False,
        )  # fmt: skip
        model = Transformer(config, seed=3).double()
        with torch.no_grad():
            model.heads["masked"].out.weight *= 20
        return model

    return make
