"""Trap 7: an evaluation loss that depends on the batch size. huggingface/transformers#39241, #41898, #16716, #35078.

A mean over batches of means over tokens weighs a short batch like a long one, and padding changes it too. Here the
surprise of every token is summed and divided once.
"""

import pytest
import torch

from instar.config import ModelConfig
from instar.eval.perplexity import measure
from instar.model.transformer import Transformer
from instar.text.tokenizer import Tokenizer

TEXTS = ["Anna had a red ball. " * n for n in (1, 9, 2, 30, 1, 5, 3)] + ["", "球在花园里。" * 4, "x"]


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(TEXTS, 320)


def make_model(tokenizer):
    config = ModelConfig(vocab_size=tokenizer.vocab_size, d_model=16, layers=2, heads=2, max_positions=64, tied=False)
    model = Transformer(config, seed=1).double()
    with torch.no_grad():
        model.heads["lm"].weight *= 20
    return model


@torch.no_grad()
def by_hand(model, tokenizer, texts):
    """Every document alone, one window after the other -> nats, tokens, mean of the documents' means."""
    nats, tokens, means = 0.0, 0, []
    for text in texts:
        ids = tokenizer.document(text)[:65]
        if len(ids) > 1:
            chances = model(torch.tensor([ids[:-1]]))[0].log_softmax(-1)
            own = -chances.gather(-1, torch.tensor(ids[1:])[:, None]).sum().item()
            nats, tokens = nats + own, tokens + len(ids) - 1
            means.append(own / (len(ids) - 1))
    return nats, tokens, sum(means) / len(means)


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_the_loss_is_the_same_for_any_batch(tokenizer, batch):
    """Nats to 1e-12 and counts exactly those of one document at a time, long ones cut into windows."""
    model = make_model(tokenizer)
    one = measure(model, tokenizer, TEXTS, batch=1)
    many = measure(model, tokenizer, TEXTS, batch=batch)
    assert many.nats == pytest.approx(one.nats, rel=1e-12)
    assert (many.tokens, many.bytes, many.documents) == (one.tokens, one.bytes, len(TEXTS))


def test_the_loss_is_weighted_by_tokens(tokenizer):
    """It is the sum over the count, which is not the mean of the documents' means."""
    model = make_model(tokenizer)
    short = [text for text in TEXTS if len(tokenizer.document(text)) <= 65]
    nats, tokens, mean_of_means = by_hand(model, tokenizer, short)
    found = measure(model, tokenizer, short, batch=3)
    assert found.loss == pytest.approx(nats / tokens, rel=1e-12)
    assert abs(found.loss - mean_of_means) > 1e-4


def test_dropout_is_off_and_the_mode_is_left_alone(tokenizer):
    """A model in training is measured without dropout and goes on in training."""
    model = make_model(tokenizer)
    model.drop = torch.nn.Dropout(0.5)
    still = measure(model.eval(), tokenizer, TEXTS).nats
    assert measure(model.train(), tokenizer, TEXTS).nats == still
    assert model.training
