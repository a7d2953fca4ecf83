"""Grammars beside the loop: what nobody waits for is not compiled, and what cannot be is not tried for each answer."""

from queue import SimpleQueue
from threading import Event

import pytest

from instar.config import InputError
from instar.config.options import SamplingOptions
from instar.serve import compiling as module
from instar.serve.compiling import Compiled, Compiling
from instar.serve.wire import Ask


def ask(id, regex="a", **options):
    return Ask(id, [1], SamplingOptions(regex=regex, **options), 0)


@pytest.fixture
def stand():
    """tried: the options of all that was compiled, one at a time, once `gate` is set; next(): what was done next."""

    class Stand:
        def __init__(self):
            self.tried, self.gate, self.done = [], Event(), SimpleQueue()
            self.compiling = Compiling(self.compile, self.done.put)
            self.gate.set()

        def compile(self, options):
            self.tried.append(options.regex)
            assert self.gate.wait(10)
            if "(" in options.regex:
                raise InputError("sampling.regex: unclosed")
            if "[" in options.regex:
                raise OSError("no process")
            return options.regex.upper()

        def next(self):
            return self.done.get(timeout=10)

    return Stand()


def test_a_grammar_is_told_once_it_is_ready(stand):
    """Each answer that was added comes back once, with its grammar."""
    first = ask(1)
    stand.compiling.add(first)
    assert len(stand.compiling) == 1
    assert stand.next() == (done := Compiled(first, "A"))
    assert stand.compiling.take(done)
    assert len(stand.compiling) == 0
    assert not stand.compiling.cancel(1)


def test_what_nobody_waits_for_is_not_compiled(stand):
    """S3, S22: requests that are given up before their grammars' turn cost those behind them nothing."""
    stand.gate.clear()
    for id in range(20):
        stand.compiling.add(ask(id, f"a{id}"))
    assert all(stand.compiling.cancel(id) for id in range(1, 19))
    assert not stand.compiling.cancel(1)
    stand.gate.set()
    done = [stand.next() for _ in range(20)]
    assert stand.tried == ["a0", "a19"]
    assert [one.found for one in done[:2]] == ["A0", None]
    assert [stand.compiling.take(one) for one in done] == [True, *[False] * 18, True]


def test_what_cannot_be_is_tried_once_for_all_answers(stand, monkeypatch):
    """S22: of n answers with one bad constraint the first tries it, with other ends it is another one; what failed by
    a fault of ours is tried again, and so is a refusal after a while. Few are kept."""
    monkeypatch.setattr(module, "REFUSED", 2)

    def found(*asks):
        for one in asks:
            stand.compiling.add(one)
        return [stand.next().found for _ in asks]

    assert [str(error) for error in found(*(ask(id, "(") for id in range(16)))] == ["sampling.regex: unclosed"] * 16
    assert stand.tried == ["("]
    found(ask(20, "(", stop_ids=(3,)), ask(21, "["), ask(22, "["))
    assert stand.tried == ["(", "(", "[", "["]
    found(ask(23, "(b"), ask(24, "("))  # the oldest of three was given up
    assert stand.tried[4:] == ["(b", "("]
    monkeypatch.setattr(module, "KEPT", -1.0)
    found(ask(25, "(c"), ask(26, "(c"))
    assert stand.tried[6:] == ["(c", "(c"]
