"""Entities and arcs: heads built by hand that follow them, and heads that do not."""

from random import Random

import numpy as np
import pytest
import torch

from instar.config import InputError, ModelConfig
from instar.data.treebank import Sentence
from instar.data.world import records
from instar.model.transformer import Transformer
from instar.probe import relations, routing
from instar.probe.capture import capture
from instar.probe.relations import (
    Arc,
    Example,
    arc_scores,
    drawn_spans,
    entity_lift,
    grouped,
    of_record,
    of_treebank,
    p_value,
    stack_lifts,
)
from instar.probe.subject import Token
from instar.text.tokenizer import Tokenizer

FILLERS = "天地日月山水火木金土"


def uniform(heads, count):
    weights = torch.ones(heads, count, count).tril()
    return weights / weights.sum(-1, keepdim=True)


def places(count, *where):
    entity = torch.zeros(count, dtype=torch.bool)
    entity[list(where)] = True
    return entity


def test_a_uniform_head_lifts_nothing():
    """Known answer "Uniform head": lift 1 exactly, whatever the entities are, in a causal text and in an encoder's."""
    for entity in (places(20, 3, 4, 11), places(20, 19, 1), places(20, *range(1, 20))):
        assert entity_lift(uniform(2, 20), entity)[0].item() == pytest.approx(1.0, abs=1e-5)
    even = torch.full((1, 20, 20), 1 / 20)
    sees = torch.ones(20, 20, dtype=torch.bool)
    assert entity_lift(even, places(20, 3), sees=sees).item() == pytest.approx(1.0, abs=1e-5)


def test_a_lift_by_hand():
    """Three of four visible tokens are no entity and the entity has half of what the sink leaves: lift 2."""
    weights = torch.zeros(1, 6, 6)
    weights[0, 5] = torch.tensor([0.8, 0.1, 0.1 / 3, 0.1 / 3, 0.1 / 3, 0.0])
    assert entity_lift(weights, places(6, 1)).item() == pytest.approx(2.0, abs=1e-5)
    assert entity_lift(torch.cat([weights, uniform(1, 6)]), places(6, 1)).tolist() == pytest.approx([2.0, 1.0])
    # what a token takes of itself is no entity found
    weights[0, 5] = torch.tensor([0.0, 0.0, 0.25, 0.25, 0.0, 0.5])
    assert entity_lift(weights, places(6, 1, 5)).item() == pytest.approx(0.0, abs=1e-6)
    assert entity_lift(weights, places(6)).isnan().item()


def test_random_spans_tell_a_lift_from_chance():
    """A head on the entities has a p near the least that 200 draws can give, a uniform one the greatest."""
    entity = places(40, 7, 8, 20)
    weights = 0.1 * uniform(2, 40)
    weights[1] += 0.9 * uniform(1, 40)[0]
    for row in range(40):
        seen = [place for place in (7, 8, 20) if place < row] or [0]
        weights[0, row, seen] += 0.9 / len(seen)
    drawn = drawn_spans(entity, torch.arange(40) > 0, 200, seed=0)
    lifts = entity_lift(weights, torch.cat([entity[None], drawn])).numpy()
    assert lifts[0, 0] > 3
    assert 1 / 201 <= p_value(lifts[0, 0], lifts[0, 1:]) < 0.02
    assert p_value(lifts[1, 0], lifts[1, 1:]) == pytest.approx(1.0)
    assert np.isnan(p_value(np.nan, lifts[0, 1:]))


def test_the_lifts_of_a_stack_are_those_of_its_heads(monkeypatch):
    """However few heads exist at a time, each has the lift of its own weights."""
    model = Transformer(ModelConfig(vocab_size=20, d_model=16, layers=2, heads=4, kv_heads=2, max_positions=16), seed=2)
    side = capture(model, torch.arange(12)[None]).own
    masks = torch.stack([places(12, 3, 4), places(12, 7)])
    wanted = torch.stack([entity_lift(seam.weights()[0], masks) for seam in side.attended])
    monkeypatch.setattr(relations, "pieces", lambda seam: routing.pieces(seam, 1))
    torch.testing.assert_close(stack_lifts(side, masks), wanted)


def test_random_spans_keep_their_lengths_and_places():
    """Each draw has as many tokens as the entities, none in the sink, and spans of one, two and four."""
    entity = places(30, 4, 5, 9, 12, 13, 14, 15)
    free = torch.arange(30) > 2
    drawn = drawn_spans(entity, free, 300, seed=0)
    assert (drawn.sum(-1) == 7).all()
    assert not drawn[:, :3].any()
    assert drawn[:, 3:].float().mean(0).min() > 0.1
    assert {tuple(row.tolist()) for row in drawn} != {tuple(entity.tolist())}


def tiny(causal=True):
    """(model, tokenizer): head 0 looks from 乙 at 甲 wherever it stands, head 1 everywhere alike; a character is a
    token."""
    tokenizer = Tokenizer.train([f"{FILLERS}甲乙" * 9], 320, single_han=True, masks=not causal)
    model = Transformer(
        ModelConfig(vocab_size=tokenizer.vocab_size, d_model=8, layers=1, heads=2, norm="none", max_positions=32,
                    positions="none", tied=False, causal=causal, heads_of=("lm",) if causal else ("masked",)),
    )  # fmt: skip
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
        for channel, letter in enumerate("甲乙"):
            (id,) = tokenizer.encode(letter)
            model.embed.weight[id, channel] = 1.0
        model.blocks[0].attention.q.weight[0, 1] = 50.0
        model.blocks[0].attention.k.weight[0, 0] = 50.0
        model.blocks[0].attention.k.weight[0, 1] = 50.04  # at itself more than at any other, which is no finding
    return model, tokenizer


def scattered(count, chance):
    """Texts in which 乙 follows 甲 at some distance, and the arc between them."""
    examples = []
    for _ in range(count):
        letters = [chance.choice(FILLERS) for _ in range(14)]
        one, other = sorted(chance.sample(range(1, 14), 2))
        letters[one], letters[other] = "甲", "乙"
        spots = tuple((n, n + 1) for n in range(14))
        examples.append(Example("".join(letters), spots, (Arc(other, one, "does"),)))
    return examples


@pytest.mark.parametrize("causal", [True, False])
def test_a_head_that_follows_a_relation_is_a_hit(causal):
    """A head that finds the other word at any distance scores 1, and gains what no fixed offset finds; a uniform one
    does not."""
    found = arc_scores(*tiny(causal), scattered(40, Random(0)), least=20, resamples=200)
    score = next(score for score in found.scores if score.direction == "forth")
    assert (score.relation, score.head, score.count) == ("does", (0, 0), 40)
    assert score.accuracy[0].tolist() == pytest.approx([1.0, 0.0], abs=0.2)
    assert score.accuracy[0, 0] == 1.0
    assert score.best == pytest.approx(1 - score.fixed)
    assert score.interval[0] <= score.best <= score.interval[1]
    assert score.hit
    assert len(found.scores) == (1 if causal else 2)  # who is asked about stands before
    if not causal:
        assert not next(score for score in found.scores if score.direction == "back").hit


def test_a_fixed_offset_is_no_relation():
    """A head that always finds what stands at a distance that never changes gains nothing over that distance."""
    spots = tuple((n, n + 1) for n in range(8))
    chance = Random(1)
    texts = ["".join([chance.choice(FILLERS) for _ in range(3)]) + "甲天乙地水" for _ in range(24)]
    (score,) = arc_scores(*tiny(), [Example(text, spots, (Arc(5, 3, "does"),)) for text in texts]).scores
    assert (score.offset, score.fixed, score.accuracy[0, 0]) == (2, 1.0, 1.0)
    assert score.best == 0.0
    assert not score.hit


def test_the_offset_is_the_best_in_hindsight():
    """Where two offsets are about as frequent, the baseline is the better one of all texts: chosen on a part it would
    be wrong more often than either, and every head would seem to gain."""
    spots = tuple((n, n + 1) for n in range(8))
    examples = [
        Example("".join(text), spots, (Arc(6, 6 - back, "does"),))
        for n in range(40)
        for back in [1 + n % 2]
        for text in ["天地日月山水火木"]
    ]
    (score,) = arc_scores(*tiny(), examples, resamples=50).scores
    assert score.fixed == 0.5
    assert score.offset == 1


def test_what_is_not_asked_is_counted():
    """Texts too long, relations with few arcs and words in the sink are told by number, never dropped."""
    model, tokenizer = tiny()
    few = Example("甲天乙", ((0, 1), (1, 2), (2, 3)), (Arc(2, 1, "rare"), Arc(2, 0, "does")))
    long = Example("天" * 40, ((0, 1), (1, 2)), (Arc(1, 0, "does"),))
    found = arc_scores(model, tokenizer, [*scattered(20, Random(2)), few, long])
    assert found.few == {"rare forth": 1}
    assert found.lost == {"too long": 1, "in the sink": 1}
    assert found.texts == 21
    with pytest.raises(InputError, match="at least 2 texts"):
        arc_scores(model, tokenizer, [long])


def test_words_of_an_example_among_others():
    """Words are the tokens of their characters, the rest of the text keeps its own words, and a word whose tokens are
    another's has none."""
    text = "Leo's red cup"
    tokens = [Token(0, "", b"", -1, -1)] + [
        Token(n, text[a:b], b"", a, b) for n, (a, b) in enumerate([(0, 2), (2, 5), (5, 9), (9, 11), (11, 13)])
    ]
    groups, of = grouped(tokens, Example(text, ((10, 13), (0, 3), (3, 5)), ()))
    assert groups == [(1, 3), (3, 4), (4, 6)]
    assert of == [2, 0, None]


def test_arcs_of_a_treebank_and_of_the_world():
    """Roots and punctuation have no arc, subtypes are their relation; the world says who did what with what."""
    sentence = Sentence("Dogs bite .", ("Dogs", "bite", "."), (1, -1, 1), ("nsubj:pass", "root", "punct"),
                        ("NOUN", "VERB", "PUNCT"), ((0, 4), (5, 9), (10, 11)))  # fmt: skip
    assert of_treebank(sentence).arcs == (Arc(0, 1, "nsubj"),)
    record = next(iter(records("world:stories?annotate=1&lang=en")))
    example = of_record(record)
    named = {
        (arc.relation, *(example.text[slice(*example.places[word])] for word in (arc.from_word, arc.to_word)))
        for arc in example.arcs
    }
    told = {
        (arc["relation"], *(record["text"][span["start"] : span["end"]] for span in
                            (record["spans"][arc["from"]], record["spans"][arc["to"]])))
        for arc in record["arcs"]
    }  # fmt: skip
    assert named == told
    assert any(relation == "does" for relation, _, _ in named)
    with pytest.raises(InputError, match="annotate=1"):
        of_record({"text": "Leo"})
