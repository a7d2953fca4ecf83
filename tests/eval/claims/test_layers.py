"""Where in a stack something is learnt: planted features, and verdicts by hand."""

import numpy as np
import pytest
import torch

from instar.eval.claims import CLAIMS
from instar.eval.claims.layers import DEEP, Level, ends_of, level_of, verdict_of
from instar.probe import linear
from instar.probe.linear import Example, by_row


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """Resamples, and steps of a fit, which cost most of the time."""
    monkeypatch.setattr(linear, "RESAMPLES", 60)
    monkeypatch.setattr(linear, "STEPS", 12)


def planted(layer, seed=0, rows=7, count=40):
    """A task whose label can be read from row `layer` of the stream on, and before it not."""
    chance = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    features = torch.randn(rows, count, 6, generator=chance)
    features[layer:, :, 0] += 20.0 * labels
    asked = [Example([0], 0, "ab"[label], number, number) for number, label in enumerate(labels.tolist())]
    return by_row(features, asked)


def test_a_planted_feature_is_learnt_where_it_is():
    """Probe: planted at layer k, the centre of gravity is k; of two tasks it is the mean; of noise nothing is
    learnt."""
    tasks = [planted(5), planted(2, seed=1)]
    one = level_of(tasks[:1], 0)
    assert one.learnt
    assert one.centre == pytest.approx(5, abs=1.0)
    assert one.sure[0] <= one.centre <= one.sure[1]
    both = level_of(tasks, 0)
    assert both.centre == pytest.approx(np.mean([task.gravity() for task in tasks]))
    noise = planted(7)
    assert not level_of([noise], 0).learnt
    assert not level_of([tasks[0], noise], 0).learnt


def levels(*centres, width=0.5, learnt=True):
    drawn = np.linspace(-width, width, 101)
    return {name: Level(x, x + drawn, learnt) for name, x in zip(("syntax", "logic", "intent"), centres)}


@pytest.mark.parametrize(
    ("found", "layers", "outcome"),
    [
        (levels(2, 5, 9), DEEP, "holds"),
        (levels(2, 5, 9), DEEP - 1, "unclear"),  # whatever comes out
        (levels(9, 5, 2), DEEP - 1, "unclear"),
        (levels(9, 5, 2), DEEP, "fails"),
        (levels(2, 9, 5), 24, "fails"),
        (levels(2, 2.5, 9), 24, "unclear"),
        (levels(2, 5, 9, learnt=False), 24, "unclear"),
        (levels(2, float("nan"), 9), 24, "unclear"),
    ],
)
def test_verdicts_by_hand(found, layers, outcome):
    """In the order of the textbook with intervals apart it holds, in another it fails, and of a shallow model, of what
    overlaps, and of what was not learnt nothing is said."""
    assert verdict_of(found, layers) == outcome


def test_ends_leave_out_what_is_no_number():
    """95 % of what could be said."""
    low, high = ends_of(np.concatenate([np.arange(1001.0), [np.nan] * 50]))
    assert (low, high) == (25.0, 975.0)
    assert np.isnan(ends_of(np.array([np.nan]))).all()


def test_a_shallow_model_is_unclear_and_has_figures(case):
    """Two layers tell nothing of depth, and the curves are shown all the same; words and stories are kept apart."""
    verdict = CLAIMS["layers"](case(max_positions=256, d_model=8))
    assert verdict.verdict == "unclear", verdict.found
    assert "fewer than 12" in verdict.found.en
    assert set(verdict.data["tasks"]) == {"entity", "role", "relation", "intent"}
    assert len(verdict.data["tasks"]["role"]["accuracy"]) == 3
    assert len(verdict.figures) == 4
    assert "Tenney" in verdict.how.en
    assert "Vig" in verdict.how.zh
