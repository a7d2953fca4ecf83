"""Whether heads follow relations, each its own: heads built by hand, and scores by hand."""

from random import Random

import numpy as np
import pytest
import torch

from instar.config import ModelConfig
from instar.eval.claims import CLAIMS, relations
from instar.eval.claims.relations import ANY, Followed, examples, own
from instar.eval.claims.verdict import Case
from instar.model.transformer import Transformer
from instar.probe.relations import Arc, Example, RelationScore, RelationScores
from instar.text.tokenizer import Tokenizer

FILLERS = "天地日月山水火木金土"
PAIRS = {"does": "甲乙", "part-whole": "丙丁", "owner-thing": "戊己"}


def built(heads):
    """(model, tokenizer): of each pair of letters a head finds the first from the second; heads: which, by relation."""
    letters = "".join(PAIRS.values())
    tokenizer = Tokenizer.train([f"{FILLERS}{letters}" * 9], 330, single_han=True)
    model = Transformer(
        ModelConfig(vocab_size=tokenizer.vocab_size, d_model=8, layers=1, heads=2, norm="none", max_positions=32,
                    positions="none", tied=False),
    )  # fmt: skip
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
        for channel, letter in enumerate(letters):
            (id,) = tokenizer.encode(letter)
            model.embed.weight[id, channel] = 1.0
        for number, relation in enumerate(PAIRS):
            if relation in heads:
                row = 4 * heads[relation] + number
                model.blocks[0].attention.q.weight[row, 2 * number + 1] = 50.0
                model.blocks[0].attention.k.weight[row, 2 * number] = 50.0
    return model, tokenizer


def scattered(count):
    """Texts with the letters of each pair at some distance, the first before the second, and an arc between them."""
    chance, found = Random(0), []
    for _ in range(count):
        letters = [chance.choice(FILLERS) for _ in range(18)]
        free = list(range(1, 18))
        arcs = []
        for relation, pair in PAIRS.items():
            one, other = sorted(chance.sample(free, 2))
            free = [place for place in free if place not in (one, other)]
            letters[one], letters[other] = pair
            arcs.append(Arc(other, one, relation))
        found.append(Example("".join(letters), tuple((n, n + 1) for n in range(18)), tuple(arcs)))
    return found


@pytest.mark.parametrize(
    ("heads", "outcome", "followed"),
    [
        ({"does": 0, "part-whole": 1, "owner-thing": 0}, "holds", 3),
        ({"does": 0, "part-whole": 0, "owner-thing": 0}, "unclear", 3),  # one head does all
        ({"does": 0, "part-whole": 1}, "unclear", 2),
        ({}, "fails", 0),
    ],
)
def test_heads_by_hand(monkeypatch, heads, outcome, followed):
    """Two heads that follow three relations are what is claimed; one that follows all, or two relations, are not, and
    heads that look everywhere alike follow none."""
    monkeypatch.setattr(relations, "examples", lambda case, code: scattered(30))
    monkeypatch.setattr(Case, "languages", ("zh",))
    verdict = CLAIMS["relations"](Case(*built(heads), limit=2))
    assert (verdict.verdict, verdict.figure) == (outcome, followed), verdict.found
    assert verdict.count == 30
    assert verdict.figures


def score(relation, head, table, best, low=0.05, direction="forth"):
    """By hand, with a fixed offset that is never right, so that the gain of heads is their accuracy."""
    return RelationScore(relation, direction, 50, np.array(table), 1, 0.0, head, best, (low, best + 0.1))


def test_heads_are_better_at_their_own():
    """Own 0.8 and 0.6, at the other's 0.1 and 0.2: 0.55 better; of one head that does all it is 0; of one, nothing."""
    one, other = score("a", (0, 0), [[0.8, 0.2]], 0.8), score("b", (0, 1), [[0.1, 0.6]], 0.6)
    assert own([one, other]) == pytest.approx(((0.8 - 0.1) + (0.6 - 0.2)) / 2)
    same = [score("a", (0, 0), [[0.8, 0.2]], 0.8), score("b", (0, 0), [[0.4, 0.1]], 0.4)]
    assert own(same) == pytest.approx(0.0)
    assert np.isnan(own([one]))


def test_a_relation_is_followed_in_either_direction():
    """The direction that hits counts, once; all relations together are none; a gain whose interval has 0 is no hit."""
    table = [[0.3, 0.0]]
    scores = [
        score("a", (0, 0), table, 0.3, low=-0.1), score("a", (0, 0), table, 0.2, direction="back"),
        score(ANY, (0, 0), table, 0.5), score("b", (0, 0), table, 0.05),
    ]  # fmt: skip
    found = Followed(RelationScores(tuple(scores), {}, {}, 9))
    assert [(one.relation, one.direction) for one in found.hits] == [("a", "back")]
    assert found.outcome == "unclear"
    assert Followed(RelationScores((), {"a forth": 3}, {}, 9)).outcome == "unclear"
    assert Followed(RelationScores((scores[3],), {}, {}, 9)).outcome == "fails"


def test_texts_tell_rare_relations_too(case):
    """Parts of wholes are seldom told, and there are enough of them; every arc is one of any relation as well."""
    found = examples(case(limit=16), "en")
    names = [arc.relation for example in found for arc in example.arcs]
    counts = {name: names.count(name) for name in set(names)}
    assert counts["part-whole"] >= 20
    assert counts["does"] >= 20
    assert counts["thing-place"] >= 20
    for example in found:
        pairs = {(arc.from_word, arc.to_word) for arc in example.arcs if arc.relation != ANY}
        assert pairs == {(arc.from_word, arc.to_word) for arc in example.arcs if arc.relation == ANY}


def test_grammar_of_a_treebank(monkeypatch, tmp_path, case):
    """Of a treebank the relations of grammar are told by file, and a broken one is said and harms nothing."""
    sentence = "1\tLeo\t_\tPROPN\t_\t_\t2\tnsubj\t_\t_\n2\tsaw\t_\tVERB\t_\t_\t0\troot\t_\t_\n"
    sentence += "3\tthe\t_\tDET\t_\t_\t4\tdet\t_\t_\n4\tball\t_\tNOUN\t_\t_\t2\tobj\t_\t_\n\n"
    good, bad = tmp_path / "good.conllu", tmp_path / "bad.conllu"
    good.write_text(sentence * 24)
    bad.write_text("1\tLeo\n\n")
    found = case(layers=1)
    found = Case(found.model, found.tokenizer, limit=8, data=[str(good), str(bad)])
    monkeypatch.setattr(relations, "examples", lambda case, code: scattered(2))
    verdict = CLAIMS["relations"](found)
    assert "good.conllu, 25 sentences" in verdict.found.en or "good.conllu, 24 sentences" in verdict.found.en
    assert "bad.conllu: not measured" in verdict.found.en
    assert "wanted 10" in verdict.data["files"][1]["why"]
    assert {"nsubj", "obj", "det"} >= {one["relation"] for one in verdict.data["files"][0]["scores"]} > {"det"}
