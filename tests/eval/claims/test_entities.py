"""Whether attention lifts entities: heads built by hand that look at them, or everywhere alike."""

import json
from random import Random

import numpy as np
import pytest
import torch

from instar.config import InputError, ModelConfig
from instar.eval.claims import CLAIMS, entities
from instar.eval.claims.entities import annotated, content_words, verdict_of
from instar.eval.claims.lifts import ALL, OTHERS, Lifts, best_head, lifts, p_of
from instar.eval.claims.verdict import Case
from instar.model.transformer import Transformer
from instar.text.tokenizer import Tokenizer

FILLERS = "天地日月山水火木金土"


def built(looks=True, causal=True):
    """(model, tokenizer): head 0 looks at 甲 from everywhere, or everywhere alike as head 1 does; a character is a
    token."""
    tokenizer = Tokenizer.train([f"{FILLERS}甲红色" * 9], 330, single_han=True, masks=not causal)
    model = Transformer(
        ModelConfig(vocab_size=tokenizer.vocab_size, d_model=8, layers=1, heads=2, norm="none", max_positions=64,
                    positions="none", tied=False, causal=causal, heads_of=("lm",) if causal else ("masked",)),
    )  # fmt: skip
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
        (id,) = tokenizer.encode("甲")
        model.embed.weight[id, 0] = 1.0
        model.embed.weight[:, 1] = 1.0
        model.blocks[0].attention.q.weight[0, 1] = 10.0
        model.blocks[0].attention.k.weight[0, 0] = 5.0 * looks
    return model, tokenizer


def texts(count):
    """Records of twenty characters with one entity, and a colour."""
    chance, found = Random(0), []
    for _ in range(count):
        letters = [chance.choice(FILLERS) for _ in range(18)] + ["红色"]
        place = chance.randrange(1, 16)
        letters[place] = "甲"
        spans = [{"start": place, "end": place + 1, "type": "thing"}, {"start": 0, "end": 1, "type": "x", "pronoun": 1}]
        found.append({"text": "".join(letters), "spans": spans, "lang": "zh"})
    return found


@pytest.mark.parametrize("causal", [True, False])
def test_heads_by_hand(causal):
    """Uniform head: lift 1, whatever is an entity; a head that looks at them has as much as there can be."""
    (record,) = texts(1)
    span = record["spans"][0]
    found = lifts(*built(causal=causal), record["text"], [(span["start"], span["end"], "thing")], [(18, 20)])
    assert found.heads[ALL][0, 1] == pytest.approx(1.0)
    assert found.heads[ALL][0, 0] > 3
    assert found.heads["thing"].tolist() == found.heads[ALL].tolist()
    assert found.mean() == pytest.approx(found.heads[ALL].mean())
    # of the colour's two characters the first is seen by the second, and in an encoder both by all
    assert found.heads[OTHERS][0, 1] == pytest.approx(1.0)
    assert found.heads[OTHERS][0, 0] < 0.2
    assert 0.5 < found.chance[ALL] < found.mean()


@pytest.mark.parametrize(("looks", "outcome"), [(True, "holds"), (False, "unclear")])
def test_the_verdict_is_of_the_heads(monkeypatch, looks, outcome):
    """It holds of heads that look at entities, and not of those that look everywhere alike, which have exactly 1."""
    monkeypatch.setattr(entities, "annotated", lambda case: texts(8))
    monkeypatch.setattr("instar.eval.claims.lifts.DRAWS", 60)
    verdict = CLAIMS["entities"](Case(*built(looks), limit=2))
    assert verdict.count == 8
    groups = verdict.data["groups"]
    if looks:
        assert verdict.verdict == "holds", verdict.found
        assert verdict.figure > 2
        assert verdict.data["p"] < 0.05
        assert groups[ALL]["more"][0] > 0 > groups[OTHERS]["more"][1]
    else:
        assert verdict.verdict != "holds"
        assert verdict.figure == pytest.approx(1.0, abs=1e-6)
        assert verdict.data["p"] == 1.0
        assert groups[ALL]["random"] == pytest.approx(1.0, abs=1e-6)


def test_random_spans_count_as_well():
    """An interval above 1 is not enough where random spans have as much."""
    assert verdict_of((1.1, 1.3), 0.01) == "holds"
    assert verdict_of((1.1, 1.3), 0.97) == "unclear"
    assert verdict_of((0.9, 1.3), 0.01) == "unclear"
    assert verdict_of((0.7, 0.9), 0.99) == "fails"


def test_p_counts_draws_over_all_texts():
    """Of four draws two have as much on average over texts: p is 3 / 5."""
    ones = [
        Lifts({ALL: np.full((1, 2), mean)}, {ALL: 1.0}, np.array(random))
        for mean, random in [(1.0, [0.0, 5.0, 1.0, 0.2]), (2.0, [1.0, np.nan, 2.5, 0.3])]
    ]
    assert p_of(ones) == pytest.approx(3 / 5)


def test_the_best_head_is_measured_where_it_was_not_chosen():
    """A head that is best by chance in one half has its other half's lift: of noise the mean is 1, not the maximum."""
    chance = np.random.default_rng(0)
    ones = [Lifts({ALL: chance.normal(1.0, 0.5, (8, 32))}, {ALL: 1.0}, np.ones(1)) for _ in range(20)]
    _, values = best_head(ones, 0)
    assert len(values) == 10
    assert values.mean() < 1.3 < np.stack([one.heads[ALL] for one in ones]).mean(0).max()


def test_texts_of_the_world_tell_every_kind(case):
    """Stories and fixed facts, so that products, technologies and fields are among them; colours and verbs are no
    entities."""
    found = case(limit=16)
    records = annotated(found)
    assert {record["kind"] for record in records} == {"story", "facts"}
    types = {span["type"] for record in records for span in record["spans"]}
    assert {"person", "place", "thing", "animal", "product", "technology", "field", "organisation"} <= types
    assert {"red", "hugged", "bitten", "sing"} <= set(content_words("en"))
    assert {"红色", "咬"} <= set(content_words("zh"))


def test_texts_of_ones_own(case, tmp_path):
    """The same figure for a file, with how far the tokenizer knows it; one that cannot be read is said, no more."""
    lines = [{"tokens": ["Leo", "saw", "a", "ball", "."], "tags": ["B-PER", "O", "O", "I-THING", "O"]}] * 5
    good, bad = tmp_path / "good.jsonl", tmp_path / "bad.jsonl"
    good.write_text("\n".join(map(json.dumps, lines)))
    bad.write_text("\n".join(json.dumps({"tokens": ["Leo"], "tags": ["NNP"]}) for _ in range(3)))
    found = case(layers=1)
    found = Case(found.model, found.tokenizer, limit=2, data=[str(good), str(bad)])
    verdict = CLAIMS["entities"](found)
    assert "good.jsonl, 4 texts" in verdict.found.en
    assert "bad.jsonl: not measured" in verdict.found.en
    assert set(verdict.data["files"][0]["groups"]) == {ALL, "PER", "THING"}
    assert "NNP" in verdict.data["files"][1]["why"]


def test_texts_too_long_are_an_error(case):
    """A model that reads no text at all has no figure."""
    with pytest.raises(InputError, match=r"0 of \d+ texts"):
        entities.measure(case(max_positions=8, limit=4))
