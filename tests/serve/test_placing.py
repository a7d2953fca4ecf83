"""Which engine a request goes to."""

from instar.config.options import SamplingOptions
from instar.serve import placing
from instar.serve.placing import NEAR, Placing
from instar.serve.wire import Ask, Embed


def ask(prompt, **rest):
    return Ask(0, list(prompt), SamplingOptions(), 0, **rest)


def test_the_least_busy_engine_is_chosen():
    """Of engines that know nothing of a prompt the one with the fewest requests gets it, and so it is with vectors."""
    assert Placing().choose({0: 5, 1: 2, 2: 4}, ask(range(40))) == 1
    assert Placing().choose({0: 5, 1: 2, 2: 4}, Embed(0, [[1]])) == 1
    assert Placing().choose({2: 9}, ask(range(40))) == 2


def test_a_conversation_goes_on_where_it_began():
    """Of engines that hardly differ the one that has read a prompt's beginning gets it: the next turn of a conversation
    is longer than the one before, and finds its keys there; but an idle engine is not left idle for it."""
    places = Placing()
    assert places.choose({0: 0, 1: 1}, ask(range(50))) == 0
    assert places.choose({0: NEAR, 1: 0}, ask(range(400))) == 0
    assert places.choose({0: NEAR + 1, 1: 0}, ask(range(400))) == 1
    assert places.choose({0: 0, 1: 0}, ask(range(400))) == 1  # by now it is known there


def test_what_no_engine_can_share_does_not_bind():
    """Prompts under another salt, of another adapter or of another source share nothing, and neither do short ones."""
    for other in (dict(salt="s"), dict(adapter="sft"), dict(source=[1])):
        places = Placing()
        assert places.choose({0: 1, 1: 0}, ask(range(64))) == 1
        assert places.choose({0: 0, 1: 1}, ask(range(64))) == 1
        assert places.choose({0: 0, 1: 1}, ask(range(64), **other)) == 0
    places = Placing()
    assert places.choose({0: 1, 1: 0}, ask(range(8))) == 1
    assert places.choose({0: 0, 1: 1}, ask(range(8))) == 0


def test_an_engine_that_died_knows_nothing():
    """After an engine was started again no prompt is sent there for what it knew before."""
    places = Placing()
    places.choose({0: 1, 1: 0}, ask(range(64)))
    places.forget(1)
    assert places.choose({0: 0, 1: 1}, ask(range(64))) == 0


def test_beginnings_are_forgotten_in_time(monkeypatch):
    """What is kept is bounded, and what was used last is kept longest."""
    monkeypatch.setattr(placing, "MOST", 8)
    places = Placing()
    assert places.choose({0: 0, 1: 1}, ask([99] * 64)) == 0
    for first in range(50):
        assert places.choose({0: 1, 1: 0}, ask([first] * 64)) == 1
        assert places.choose({0: 1, 1: 0}, ask([99] * 64)) == 0
    assert len(places._known) == 8
    assert places.choose({0: 0, 1: 1}, ask([0] * 64)) == 0
