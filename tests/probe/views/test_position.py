"""The view of positions."""

import re

import pytest

from instar.config.options.inspecting import InspectOptions
from instar.model.positions import NoPositions, Rotary, Sinusoidal
from instar.probe.look import Look
from instar.probe.panel import Matrix, Table
from instar.probe.views.position import position, turned_words


def asked(subject, **ask):
    return position(Look(subject, InspectOptions(**ask)))


@pytest.mark.parametrize(
    "positions", ["rotary", "sinusoidal", "sinusoidal_halves", "sinusoidal_t2t", "learned", "t5", "alibi", "none"]
)
@pytest.mark.parametrize("shape", ["decoder", "encoder", "encoder-decoder"])
def test_green_on_every_scheme_and_shape(subject_of, shape, positions):
    """Sinusoids and the others: even by distance, with a matrix of turns where there is one, and a set without
    positions; a map, its curve and the order lab are drawn."""
    panel = asked(subject_of(shape, positions=positions))
    assert panel.green, panel.checks
    names = {check.name for check in panel.checks}
    turns = positions.startswith("sin") or positions == "rotary"
    assert panel.title.en == f"Positions: {positions}"
    assert not re.search("[a-z]{3}", panel.title.zh), panel.title.zh
    even = {"toeplitz"} if turns or positions in ("t5", "alibi") else set()
    assert names == {"set"} | even | ({"shift"} if turns else set())
    assert panel.data["order"]["reordered"]
    assert panel.data["order"]["told"]["by_layer"][0] == 0 or shape != "decoder"
    if positions == "none":
        assert panel.arrays == {}
    else:
        heads, count, _ = panel.arrays["map"].shape
        assert panel.arrays["curve"].shape == (heads, 2 * count - 1)
        assert isinstance(panel.figures[0], Matrix)
    assert any(isinstance(figure, Table) for figure in panel.figures)


def test_windows_have_their_own_angles_and_no_set(subject_of):
    """A window tells near from far without positions, so no set is claimed; its layers may turn by other angles."""
    panel = asked(subject_of("windows", positions="rotary", window_theta=10.0))
    assert panel.green
    assert {check.name for check in panel.checks} == {"toeplitz", "shift"}
    other = asked(subject_of("windows", positions="rotary", window_theta=10.0), layer=0)
    assert not (other.arrays["map"] == panel.arrays["map"]).all()


def test_heads_have_maps_and_curves(subject_of):
    """Of a bias the mean of all heads, or the one asked for."""
    subject = subject_of(positions="alibi")
    mean, one = asked(subject), asked(subject, head=1)
    assert mean.arrays["map"].shape[0] == 4
    assert (one.figures[0].values == mean.arrays["map"][1]).all()
    assert (mean.figures[0].values == mean.arrays["map"].mean(0)).all()


def test_ids_and_texts_of_one_word(subject_of):
    """Without a tokenizer tokens are turned, all but the last; where nothing turns there is no lab, as is said."""
    numbers = subject_of(ids=[3, 5, 7, 4], vocab_size=9)
    assert [token.id for token in turned_words(numbers).tokens] == [7, 5, 3, 4]
    assert asked(numbers).green
    for subject in (subject_of(ids=[3], vocab_size=9), subject_of(text="Anna")):
        panel = asked(subject)
        assert panel.data["order"] is None
        assert "no two words" in panel.notes[-1].en


def test_both_orders_end_alike(subject_of):
    """The text goes on from the same token, whatever its last one is, and a Chinese text is turned by characters."""
    subject = subject_of(text="Anna had a red ball")
    turned = turned_words(subject)
    assert turned.tokens[-1] == subject.tokens[-1]
    assert sorted(token.id for token in turned.tokens) == sorted(token.id for token in subject.tokens)
    assert b"".join(t.raw for t in turned_words(subject_of(text="狗咬人。")).tokens).decode() == "人咬狗。"


def test_positions_that_are_not_even_are_red(subject_of, monkeypatch):
    """Sinusoids whose second half is stretched are neither Toeplitz nor turned by one matrix."""
    right = Sinusoidal.waves
    bent = lambda self, positions, device: right(self, positions + (positions > 9), device)  # noqa: E731
    monkeypatch.setattr(Sinusoidal, "waves", bent)
    red = [check.name for check in asked(subject_of(positions="sinusoidal")).checks if not check.green]
    assert red == ["toeplitz", "shift"]


def test_a_set_that_is_none_is_red(subject_of, monkeypatch):
    """Where `without positions` leaves rotary positions on, the first layer tells the orders apart."""
    turned = lambda self, *given, **more: Rotary(self.config).rotation(*given, **more)  # noqa: E731
    monkeypatch.setattr(NoPositions, "rotation", turned)
    kept = NoPositions.__init__

    def keep(self, config):
        kept(self, config)
        self.config = config

    monkeypatch.setattr(NoPositions, "__init__", keep)
    assert [check.name for check in asked(subject_of()).checks if not check.green] == ["set"]


def test_a_map_is_at_most_as_long_as_was_learned(subject_of):
    """A short model's map ends where its positions do, and one that is long enough has room for the shape."""
    assert asked(subject_of(positions="learned", max_positions=20)).arrays["map"].shape == (1, 20, 20)
    assert asked(subject_of()).arrays["map"].shape == (1, 32, 32)
