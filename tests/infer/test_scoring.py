"""A scorer gives a text one reward, whatever it is given as, and refuses what it cannot read."""

import pytest
import torch

from instar.config import InputError, ModelConfig
from instar.data.preferences import answered
from instar.infer.scoring import Scorer, is_reward
from instar.model.transformer import Transformer
from instar.text.tokenizer import Tokenizer

TALK = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello there"}]


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(["Hi there, Hello. " * 3], 300)


@pytest.fixture(scope="module")
def scorer(tokenizer):
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size, d_model=16, layers=1, heads=2, max_positions=48, heads_of=("classify",),
        labels=1, pooling="last", dropout=0.5,
    )  # fmt: skip
    return Scorer(Transformer(config, seed=1), tokenizer, batch=2)


def test_texts_and_conversations_are_their_ids(scorer, tokenizer):
    """A text is a document with its end; a conversation is spelt as training spells pairs, up to the end of the answer;
    a model in training reads without dropout and goes on in training."""
    scorer.model.train()
    assert scorer.texts(["Hi", "Hello there"]) == scorer.ids(tokenizer.documents(["Hi", "Hello there"]))
    ((prompt, answer),) = answered([TALK], tokenizer)
    assert answer[-1] in tokenizer.stops
    assert scorer.messages([TALK]) == scorer.ids([[*prompt, *answer]]) == scorer.messages([TALK])
    assert scorer.model.training
    assert scorer.ids([]) == scorer.messages([]) == []


@pytest.mark.parametrize(
    ("rows", "words"),
    [([[1], []], "text 1 has 0 tokens, and the reward model reads 1 to 48"), ([[2] * 49], "text 0 has 49 tokens")],
)
def test_texts_that_cannot_be_read_are_named(scorer, rows, words):
    """Neither an empty one nor one that is too long is scored."""
    with pytest.raises(InputError, match=words):
        scorer.ids(rows)


def test_a_conversation_that_ends_otherwise_is_named(scorer):
    """There is no answer to score."""
    with pytest.raises(InputError, match="conversation 1 is said by user; wanted one that ends with an answer"):
        scorer.messages([TALK, TALK[:1]])


@pytest.mark.parametrize(
    "changes",
    [
        dict(heads_of=("lm",)), dict(labels=2), dict(pooling="first"), dict(causal=False), dict(pooled="tanh"),
        dict(encoder_layers=1),
    ],
)  # fmt: skip
def test_only_a_reward_model_scores(tokenizer, changes):
    """A language model, classes, and an encoder are refused by what they are."""
    usual = dict(heads_of=("classify",), labels=1, pooling="last")
    config = ModelConfig(vocab_size=tokenizer.vocab_size, d_model=16, layers=1, heads=2, **usual | changes)
    assert not is_reward(config)
    with pytest.raises(InputError, match="wanted a reward model"):
        Scorer(Transformer(config, seed=None), tokenizer)
    with pytest.raises(InputError, match="batch=0"):
        Scorer(Transformer(ModelConfig(vocab_size=9, d_model=16, layers=1, heads=2, **usual)), tokenizer, batch=0)
    assert torch.is_grad_enabled()
