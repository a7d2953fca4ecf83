"""Linear probes: what can be read off each layer, and what a probe would learn by heart."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from instar.config import InputError, ModelConfig
from instar.model.transformer import Transformer
from instar.probe.linear import (
    Example,
    Probes,
    by_layer,
    by_row,
    control,
    features_of,
    fit,
    gravity,
    held_out,
    planted,
    stream_of,
)

A, B, WORDS = 10, 11, 10  # the first token of a text is A or B, the others are words


@pytest.fixture(scope="module")
def model():
    """A model of four blocks that do nothing, but the second: it looks at all tokens alike and writes into a channel of
    its own how much A there was, and how much B."""
    model = Transformer(
        ModelConfig(vocab_size=12, d_model=16, layers=4, heads=1, norm="none", positions="none", max_positions=8)
    ).eval()
    with torch.no_grad():
        for weight in model.blocks.parameters():
            weight.zero_()
        model.embed.weight.zero_()
        model.embed.weight[:, :12] = torch.eye(12)
        attention = model.blocks[1].attention
        attention.v.weight[0, A], attention.v.weight[0, B] = 1.0, -1.0
        attention.out.weight[12, 0] = 1.0
    return model


@pytest.fixture(scope="module")
def texts():
    """Texts that begin with A or B, read at a later word that does not tell which; each a group of its own."""
    generator = np.random.default_rng(0)
    found = []
    for number in range(160):
        first = generator.choice([A, B])
        words = generator.integers(0, WORDS, 5).tolist()
        found.append(Example([int(first), *words], 4, "AB"[first - A], number))
    return found


@pytest.fixture(scope="module")
def found(model, texts):
    return by_layer(model, texts)


def test_what_is_planted_at_a_layer_is_found_from_there_on(texts, found):
    """Glassbox, probe: a feature planted at layer k is at chance before it and at 0.99 or more after it."""
    assert found.right.shape == found.guessed.shape == (5, 48)
    assert (found.accuracy[:2] < 0.7).all()
    assert (found.accuracy[2:] >= 0.99).all()
    assert found.gravity() == pytest.approx(2.0, abs=0.35)
    tested = [texts[group].label for group in found.groups]
    assert found.majority == max(tested.count("A"), tested.count("B")) / 48
    assert not found.shared
    assert len(found.taught) == 112
    assert max(probe.slope for probe in found.fitted) < 1e-4
    assert found.classes == ("A", "B")
    low, high = found.interval(lambda probes: probes.accuracy)
    assert (low <= found.accuracy).all()
    assert (found.accuracy <= high).all()
    assert high[0] - low[0] > 0.1


def test_a_label_that_each_word_was_given_is_no_finding(found):
    """A probe tells from the word itself what was drawn for it: the control of the first layer is right where the
    probe is not, and selectivity is below 0."""
    assert (found.control >= 0.99).all()
    assert (found.selectivity[:2] < -0.3).all()


def test_other_states_can_be_probed(model, texts):
    """What is probed is for the caller to say; the stream is what the blocks are given and the last one gives."""
    found = by_layer(model, texts[:40], states=lambda model, ids: stream_of(model, ids)[2:3])
    assert found.accuracy.tolist() == [1.0]
    rows = stream_of(model, texts[0].ids)
    assert rows.shape == (5, 6, 16)
    assert torch.equal(rows[0], model.embed.weight[list(texts[0].ids)].detach())
    pair = Transformer(ModelConfig(vocab_size=12, d_model=16, layers=1, heads=1, encoder_layers=2, max_positions=8))
    assert stream_of(pair, [1, 2, 3]).shape == (3, 3, 16)


def test_a_label_in_the_states_is_found(model, texts):
    """What is written beside states that say nothing is told; by itself a row of them is probed as in `by_layer`."""
    texts = texts[:80]
    features = features_of(model, texts, stream_of)
    assert by_row(features[:1], texts).accuracy[0] < 0.75
    assert planted(features[0], texts) == 1.0


def test_the_probe_is_the_minimum():
    """Its gradient is 0 on the training data, standardised, with the penalty; the same data give the same probe."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(120, 6, generator=generator) * torch.tensor([1.0, 100.0, 0.01, 1.0, 1.0, 0.0]) + 5
    labels = (x[:, 0] + x[:, 1] / 100 + torch.randn(120, generator=generator) > 6).long() + (x[:, 2] > 5.005)
    probe = fit(x, labels)
    weight, bias = probe.weight.clone().requires_grad_(), probe.bias.clone().requires_grad_()
    wide = x.double()
    standard = (wide - wide.mean(0)) / wide.std(0, correction=0)
    standard[:, 5] = 0
    loss = F.cross_entropy(standard @ weight.T + bias, labels) + 0.005 * weight.square().sum()
    loss.backward()
    assert max(float(weight.grad.abs().max()), float(bias.grad.abs().max())) < 2e-5
    assert not weight[:, 5].any()
    assert float(probe.right(x, labels).double().mean()) > 0.65
    assert torch.equal(fit(x, labels).weight, probe.weight)


def test_groups_are_whole():
    """No group is trained on and tested on; about that share is tested, and on neither side there is nothing."""
    groups = [number // 7 for number in range(210)]
    tested = held_out(groups, 0.3)
    assert not {group for group, is_tested in zip(groups, tested) if is_tested} & {
        group for group, is_tested in zip(groups, tested) if not is_tested
    }
    assert 0.25 < tested.mean() < 0.35
    assert {held_out(["a"] * 99 + ["b"], 0.5, seed=seed).sum() for seed in range(9)} == {1}, "overshoots"
    assert held_out(["a"] * 6 + ["b"] * 4, 0.3).tolist() == [False] * 6 + [True] * 4
    assert not np.array_equal(tested, held_out(groups, 0.3, seed=1))
    with pytest.raises(InputError, match="all 2 examples are of one group"):
        held_out(["a", "a"])


def test_labels_of_a_control_go_with_the_word():
    """One label a kind, drawn as the labels are spread."""
    labels = np.array([0] * 80 + [1] * 20)
    drawn = control(list(range(50)) * 2, labels)
    assert np.array_equal(drawn[:50], drawn[50:])
    assert 0.05 < drawn[:50].mean() < 0.4


def test_a_control_of_kinds_that_were_never_trained_on_is_none(model, texts):
    """Where the group is the kind itself, labels drawn for what is tested cannot be learnt: no number is given."""
    examples = [Example([n % 7, n % 5], 1, "ab"[n % 2], n % 5, n % 5) for n in range(40)]
    features = torch.randn(2, 40, 6, generator=torch.Generator().manual_seed(1))
    found = by_row(features, examples)
    assert np.isnan(found.control).all()
    assert np.isnan(found.selectivity).all()
    assert np.isfinite(found.accuracy).all()
    elsewhere = by_row(features, [one._replace(group=n % 4) for n, one in enumerate(examples)])
    assert np.isfinite(elsewhere.selectivity).all()


def test_centre_of_gravity():
    """The mean of the layers, weighted by what each adds to the best so far; falling scores add nothing."""
    assert gravity([0.5, 0.5, 1.0, 1.0], 0.5) == 2.0
    assert gravity([0.5, 0.75, 0.5, 1.0], 0.5) == 2.0
    assert gravity([1.0, 1.0, 1.0], 0.5) == 0.0
    assert gravity([0.75, 1.0], 0.5) == 0.5
    assert gravity([0.75, 1.0]) == 1.0
    assert math.isnan(gravity([0.5, 0.4], 0.5))


def test_intervals_draw_whole_groups():
    """Two groups, one always right and one never: the interval is from 0 to 1; what is not a number is left out."""
    right = np.array([[True] * 50 + [False] * 50])
    probes = Probes(right, right, ("a",) * 50 + ("b",) * 50, 0.5, ("x", "y"), ("c",))
    low, high = probes.interval(lambda probes: probes.accuracy)
    assert (float(low[0]), float(high[0])) == (0.0, 1.0)
    low, high = probes.interval(lambda probes: math.nan if probes.accuracy[0] < 1 else 3.0)
    assert (float(low), float(high)) == (3.0, 3.0)
    assert np.isnan(probes.interval(lambda probes: math.nan)[0])


def test_what_cannot_be_probed(model, texts):
    """No examples, one class, one group, a place beyond the text."""
    for wrong, said in (
        ([], "no examples"),
        ([text._replace(label="A") for text in texts], "one class"),
        ([text._replace(group=0) for text in texts], "one group"),
        ([*texts, texts[0]._replace(place=6)], "place=6 of a text of 6 tokens"),
    ):
        with pytest.raises(InputError, match=said):
            by_layer(model, wrong)
    with pytest.raises(InputError, match="found 0 examples of 2 classes"):
        fit(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), 2)
