"""How often a reward model finds the better answer better, per language, kind and aspect."""

from types import SimpleNamespace

import pytest
import torch

from instar.config import InputError, ModelConfig
from instar.data.world import records
from instar.eval import reward
from instar.eval.reward import compare, pair_of, report
from instar.infer.scoring import Scorer
from instar.model.transformer import Transformer

ANY = SimpleNamespace(config=None)


@pytest.fixture
def scoring(monkeypatch):
    """Let a function of the last message be the reward."""

    def make(pay):
        class Said:
            def __init__(self, model, tokenizer, *, batch):
                self.heard = []

            def messages(self, conversations, *, tools=None):
                return [pay(messages[-1]["content"]) for messages in conversations]

        monkeypatch.setattr(reward, "Scorer", Said)
        monkeypatch.setattr(reward, "is_reward", lambda config: True)

    return make


def pairs(query="count=60"):
    return [pair_of(record) for record in records(f"world:preferences?{query}")]


def test_a_reward_that_likes_short_answers(scoring):
    """It tells brief from rambling always; of two answers of one length it says nothing, which counts half."""
    scoring(lambda said: -float(len(said)))
    found = report(compare(ANY, None, pairs("aspects=brief&count=30")))
    assert (found["accuracy"], found["records"]) == (1.0, 30)
    assert found["margin"] == pytest.approx(found["chosen"] - found["rejected"])
    assert found["margin"] > 20
    scoring(lambda said: 3.0)
    found = report(compare(ANY, None, pairs()))
    assert (found["accuracy"], found["margin"]) == (0.5, 0.0)
    assert {aspect: part["records"] for aspect, part in found["groups"]["aspect"].items()} == dict.fromkeys(
        ("right", "polite", "brief"), 20
    )
    assert set(found["groups"]) == {"lang", "kind", "aspect"}


def test_many_pairs_keep_their_order(scoring, monkeypatch):
    """More than are scored at a time are each compared with their own other half, and counted as they are done."""
    monkeypatch.setattr(reward, "PART", 7)
    scoring(lambda said: float(sum(map(ord, said))))
    made, done = pairs(), []
    compared = compare(ANY, None, made, each=done.append)
    assert [one.chosen for one in compared] == [sum(map(ord, pair.chosen["content"])) for pair, _ in made]
    assert [one.rejected for one in compared] == [sum(map(ord, pair.rejected["content"])) for pair, _ in made]
    assert (sum(done), max(done)) == (60, 7)


def test_a_real_reward_model(tokenizer):
    """Its rewards are the scorer's, of the whole conversation; it is held against no other."""
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size, d_model=16, layers=1, heads=2, max_positions=1024, heads_of=("classify",),
        labels=1, pooling="last",
    )  # fmt: skip
    model = Transformer(config, seed=1)
    with torch.no_grad():
        model.heads["classify"].out.weight.normal_(generator=torch.Generator().manual_seed(0))
    made = pairs("lang=en&threads=1&count=4")
    compared = compare(model, tokenizer, made)
    said = [[*pair.prompt, pair.chosen] for pair, _ in made]
    assert [one.chosen for one in compared] == pytest.approx(Scorer(model, tokenizer).messages(said), abs=1e-5)
    assert len({one.chosen for one in compared}) == 4
    with pytest.raises(InputError, match="held against no reference"):
        compare(model, tokenizer, made, reference=model)


def test_a_language_model_is_held_against_its_reference(tokenizer):
    """Without one, the likelier answer is the better; against itself nothing is gained, and every pair counts half."""
    model = Transformer(
        ModelConfig(vocab_size=tokenizer.vocab_size, d_model=16, layers=1, heads=2, max_positions=1024), seed=1
    )
    made = pairs("lang=en&threads=1&aspects=brief&count=4")
    assert report(compare(model, tokenizer, made))["accuracy"] == 1.0  # fewer tokens at about the same price each
    gained = report(compare(model, tokenizer, made, reference=model))
    assert (gained["accuracy"], gained["margin"]) == (0.5, 0.0)


def test_records_that_are_no_pairs():
    """The error says what is wanted."""
    with pytest.raises(InputError, match=r'wanted \{"prompt", "chosen", "rejected"\}'):
        pair_of({"text": "Anna"})
