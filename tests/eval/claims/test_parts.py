"""Deep stacks, vocabularies, and facts."""

import math

import numpy as np
import pytest
import torch

from instar.data.world.facts import facts
from instar.eval.claims import CLAIMS, depth
from instar.eval.claims.depth import BOTH, NEITHER, NO_NORM, NO_RESIDUAL, _whole, gradients, shapes
from instar.eval.claims.knowledge import CANDIDATES, majority, questions, told, windows
from instar.eval.claims.vocabulary import share
from instar.model.transformer import Transformer


def kind_of(config):
    return {
        ("pre", "rms"): BOTH, ("pre", "none"): NO_NORM, ("none", "rms"): NO_RESIDUAL, ("none", "none"): NEITHER
    }[config.residual, config.norm]  # fmt: skip


def fitted(ends):
    """A fit whose losses fall to the given ends, by kind of shape."""

    def fit(config, texts, steps, *, lr=1e-3, seed=0):
        end = ends[kind_of(config)]
        return [float("nan")] if end is None else list(np.linspace(4.0, end, steps) + 1e-3 * np.arange(steps) % 2)

    return fit


@pytest.fixture
def shallow(monkeypatch):
    monkeypatch.setattr(depth, "LAYERS", 3)


@pytest.mark.parametrize(
    ("ends", "outcome"),
    [
        ({BOTH: 1.0, NO_NORM: None, NO_RESIDUAL: 3.0, NEITHER: 4.0}, "holds"),
        ({BOTH: 3.0, NO_NORM: 3.5, NO_RESIDUAL: 1.0, NEITHER: 4.0}, "fails"),
        ({BOTH: 2.0, NO_NORM: 1.0, NO_RESIDUAL: 3.0, NEITHER: 4.0}, "fails"),
    ],
)
def test_depth_needs_both(case, shallow, ends, outcome):
    """It holds only where taking away either costs loss; a run that diverged counts as guessing."""
    verdict = CLAIMS["depth"](case(fit=fitted(ends)))
    assert verdict.verdict == outcome, verdict.found
    assert set(verdict.data["gradients"]) == {BOTH, NO_NORM, NO_RESIDUAL, NEITHER}


def test_depth_without_a_trainer_is_unclear(case):
    """Nothing is made up where nothing can be trained."""
    verdict = CLAIMS["depth"](case())
    assert verdict.verdict == "unclear"
    assert "nothing that trains" in verdict.found.en


def test_losses_of_a_run_that_diverged():
    """They are a guess's, and no loss is worse than that."""
    assert _whole([5.0, math.nan], 4, 6.0) == [5.0, 6.0, 6.0, 6.0]
    assert _whole([5.0, 900.0], 2, 6.0) == [5.0, 6.0]


def test_gradients_vanish_without_both(case):
    """In a deep stack without residuals and norms no gradient reaches a layer; with both all get some."""
    kinds = shapes(case().model.config, 50)
    texts = [list(range(50)) * 4]
    assert min(gradients(kinds[BOTH], texts, 0)) > 1e-3
    assert max(gradients(kinds[NEITHER], texts, 0)) < 1e-12
    assert len(gradients(kinds[BOTH], texts, 0)) == depth.LAYERS == 24


@pytest.mark.parametrize("shape", [{}, {"tied": True, "kv_heads": 1}, {"mlp": "plain"}])
def test_share_of_embeddings_is_that_of_a_model(case, shape):
    """The formula counts what a model has, but for norms."""
    model = case(**shape).model
    tables = sum(w.numel() for name, w in model.named_parameters() if name.startswith(("embed.", "heads.")))
    matrices = sum(w.numel() for w in model.parameters() if w.ndim > 1)
    assert share(model.config, model.config.vocab_size) == pytest.approx(tables / matrices)


def test_vocabulary_trades(case, monkeypatch):
    """On stories a larger vocabulary has longer tokens; where sizes are the same it fails."""
    monkeypatch.setattr("instar.eval.claims.vocabulary.SIZES", (320, 512))
    verdict = CLAIMS["vocabulary"](case())
    assert verdict.verdict == "holds"
    assert verdict.figure > 1.0
    rows = verdict.data["rows"]
    assert rows[0][1] < rows[1][1]
    assert rows[0][2] < rows[1][2]


def test_sizes_that_no_text_fills_are_left_out(case, monkeypatch):
    """A few stories have no 3,000 merges: such a vocabulary is only called larger, and says nothing of size."""
    monkeypatch.setattr("instar.eval.claims.vocabulary.SIZES", (320, 448, 6144))
    assert CLAIMS["vocabulary"](case()).data["sizes"] == [320, 448]
    monkeypatch.setattr("instar.eval.claims.vocabulary.SIZES", (320, 6144))
    verdict = CLAIMS["vocabulary"](case())
    assert verdict.verdict == "unclear"
    assert "fill fewer than two" in verdict.found.en


def test_questions_are_new_words_for_all_facts(case, worldly):
    """Each fact once, the right answer among four different ones, in a wording that training keeps back."""
    found = case()
    asked = questions(found, 10_000)
    assert len(asked) == len(facts()) == len({one.question for one in asked})
    for one in asked:
        assert len(set(one.candidates)) == CANDIDATES
        assert one.answers[one.right] is one.fact.roles["o"]
    assert 0.05 < np.mean([not one.taught for one in asked]) < 0.2
    for window in windows(found.model, found, asked[:3], False)[:CANDIDATES]:
        assert worldly.decode(window.ids[window.first :]).strip() in asked[0].candidates
    sentences = [worldly.decode(window.ids) for window in told(found.model, found, asked[:1])]
    assert len(set(sentences)) == CANDIDATES
    assert all(one.endswith(".") for one in sentences)


def test_majority_is_the_most_frequent_answer(case):
    """A field of many products is guessed; where all answers are as frequent the guess is a quarter."""
    asked = questions(case(), 10_000)
    found = majority(asked)
    leaders = [found[n] for n, one in enumerate(asked) if one.fact.relation == "leader"]
    assert leaders == [0.25] * len(leaders)
    assert 0.25 < found.mean() < 0.5


def test_fresh_weights_know_nothing(case):
    """The claim does not hold of a model that was never taught."""
    verdict = CLAIMS["knowledge"](case(limit=8))
    assert verdict.verdict != "holds"
    assert verdict.chance >= 0.25


def test_a_model_that_was_taught_knows(case):
    """Taught the questions of some facts, a model answers those, and the claim holds; a part that is skipped costs."""
    found = case(limit=2, d_model=32)
    asked, model = questions(found, found.scaled(400, 8)), found.model
    ready = [windows(model, found, [one], False)[one.right] for one in asked]
    width = max(len(window.ids) for window in ready)
    tokens = torch.tensor([window.ids + [0] * (width - len(window.ids)) for window in ready])
    targets = torch.full_like(tokens, -100)
    for row, window in enumerate(ready):
        targets[row, window.first : len(window.ids)] = tokens[row, window.first : len(window.ids)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(40):
        logits = model(tokens[:, :-1])
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    verdict = CLAIMS["knowledge"](found)
    assert verdict.verdict == "holds", verdict.found
    assert verdict.figure == 1.0
    fresh = Transformer(model.config, seed=1)
    model.load_state_dict(fresh.state_dict())
    assert CLAIMS["knowledge"](found).figure < 0.7
