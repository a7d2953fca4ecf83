"""Texts that are read a piece at a time, in between other work."""

import pytest
import torch

from instar.adapt.lora import activate, attach, using
from instar.config import InputError
from instar.config.options import LoraOptions
from instar.infer import readings as module
from instar.infer.readings import Readings
from instar.infer.surprise import pieces, surprise
from instar.infer.vectors import vectors_of

ROWS = [[5, 9, 2], [44] * 12, [17], [3, 60], [8, 21, 30, 2, 2]]


@pytest.fixture
def model(make_model):
    """With an adapter that is not active, and is not nothing."""
    made = make_model().float().eval()
    attach(made, "other", LoraOptions(rank=4))
    with torch.no_grad():
        for name, weight in made.named_parameters():
            if name.endswith(".b"):
                weight.normal_(generator=torch.Generator().manual_seed(1))
    activate(made)
    return made


def finish(readings):
    """All that is found, and after how many pieces."""
    found, turns = {}, 0
    while len(readings):
        found |= dict(readings.go_on())
        turns += 1
    return found, turns


def test_pieces_are_bounded_and_give_what_a_whole_would(model, monkeypatch):
    """No pass has more tokens than a chunk, padding counted, but for a text that is longer by itself; whoever asked for
    one text beside one who asked for many waits for a pass or two."""
    passes = []
    read = lambda model, rows, pooling: passes.append(rows) or vectors_of(model, rows, pooling)  # noqa: E731
    monkeypatch.setattr(module, "vectors_of", read)
    readings = Readings(model, chunk=8)
    readings.embed(1, ROWS * 3)
    readings.embed(2, [[5, 5]])
    readings.score(3, ROWS[1] * 2, top=1)
    found, _ = finish(readings)
    assert (found[1] - vectors_of(model, ROWS * 3)).abs().max() < 1e-5
    assert (found[2] - vectors_of(model, [[5, 5]])).abs().max() < 1e-5
    assert found[3].logprobs == pytest.approx(surprise(model, ROWS[1] * 2).logprobs, abs=1e-4)
    assert list(found) == [2, 3, 1]
    for rows in passes:
        assert len(rows) == 1 or len(rows) * max(map(len, rows)) <= 8
    assert any(len(rows) > 1 for rows in passes)


def test_texts_of_an_adapter_heed_it_and_no_others_do(model):
    """Those of the same adapter are read together, and the model is left as it was."""
    readings = Readings(model, chunk=512)
    readings.embed(1, ROWS)
    readings.embed(2, ROWS, "other")
    readings.embed(3, ROWS[:1], "other")
    readings.score(4, ROWS[1], adapter="other")
    found, turns = finish(readings)
    with using(model, "other"):
        wanted, chances = vectors_of(model, ROWS), surprise(model, ROWS[1])
    assert (found[1] - vectors_of(model, ROWS)).abs().max() < 1e-5
    assert (found[2] - wanted).abs().max() < 1e-5
    assert (found[3] - wanted[:1]).abs().max() < 1e-5
    assert found[4].logprobs == pytest.approx(chances.logprobs, abs=1e-4)
    assert (found[1] - found[2]).abs().max() > 1e-2
    assert turns == 4  # one, two and three, and the text with its end
    assert model.active == ()


def test_what_comes_to_grief_takes_nobody_along(model, monkeypatch):
    """The error is the answer to those texts, and others are read."""
    readings = Readings(model)
    readings.embed(1, ROWS, "nobody")
    readings.embed(2, ROWS)
    readings.embed(3, [])
    found, _ = finish(readings)
    assert isinstance(found[1], InputError)
    assert found[2].shape == (5, 16)
    assert found[3].shape == (0, 16)


def test_a_pass_that_fails_for_one_of_several(model, monkeypatch):
    """Texts of others that were read beside it are read again, and are what they would be."""
    passes = []

    def read(model, rows, pooling):
        passes.append(len(rows))
        if any(44 in row for row in rows):
            raise RuntimeError("the pass failed")
        return vectors_of(model, rows, pooling)

    monkeypatch.setattr(module, "vectors_of", read)
    readings = Readings(model)
    for id, rows in enumerate((ROWS[:1], [[7], [44]], ROWS[2:])):
        readings.embed(id, rows)
    found, turns = finish(readings)
    assert passes == [6, 1, 2, 3]
    assert str(found[1]) == "the pass failed"
    assert (found[0] - vectors_of(model, ROWS[:1])).abs().max() < 1e-5
    assert (found[2] - vectors_of(model, ROWS[2:])).abs().max() < 1e-5
    assert turns == 1


def test_keys_are_kept_for_one_text_at_a_time(model, monkeypatch):
    """Of many texts whose chances are wanted the first is read to its end before the next is begun, and whoever wants
    vectors waits for none of them."""
    open = []

    def watched(*what, **how):
        open.append(1)
        yield from pieces(*what, **how)
        open.pop()

    monkeypatch.setattr(module, "pieces", watched)
    readings = Readings(model, chunk=4)
    for id in range(3):
        readings.score(id, ROWS[1])
    readings.embed(3, ROWS[:1])
    found, most = [], 0
    while len(readings):
        found += [id for id, _ in readings.go_on()]
        most = max(most, len(open))
    assert most == 1
    assert found == [3, 0, 1, 2]


def test_what_nobody_waits_for_is_not_read(model):
    """It is dropped where it stands, and only once."""
    readings = Readings(model, chunk=4)
    readings.embed(1, ROWS)
    readings.go_on()
    assert readings.drop(1)
    assert not readings.drop(1)
    assert not len(readings)


@pytest.mark.parametrize("rows", [[[]], [[61]], [[1] * 49], [[-1]]])
def test_rows_that_cannot_be_read_are_refused_at_once(model, rows):
    """Before anything waits."""
    readings = Readings(model)
    with pytest.raises(InputError):
        readings.embed(1, rows)
    with pytest.raises(InputError):
        readings.score(2, rows[0])
    assert not len(readings)
