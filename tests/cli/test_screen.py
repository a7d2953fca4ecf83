"""Which stream gets which words."""

import io
import json
from types import SimpleNamespace

import pytest
from rich.console import Console

from instar.cli.screen import Pace, Screen, figure, table
from instar.config.options import Screen as Options

LONG = "/a/rather/long/path" * 8


@pytest.mark.parametrize(("json_too", "quiet"), [(False, False), (True, False), (False, True), (True, True)])
def test_streams(json_too, quiet, capsys):
    """Results and notes have a stream each; with --json only the object is on stdout; --quiet takes all but that."""
    screen = Screen(Options(json=json_too, quiet=quiet))
    screen.say("a note")
    screen.show(table("a table", ["", "value"], [["x", 1]]))
    screen.finish({"x": 1})
    out, err = capsys.readouterr()
    assert ("a note" in err) == (not quiet)
    assert ("a table" in out + err) == (not quiet and not json_too)
    assert out == '{"x": 1}\n' if json_too else '"x"' not in out


def test_lines_are_left_whole(capsys, monkeypatch):
    """A line longer than the screen is not broken, so that a path can be copied; brackets are no markup."""
    monkeypatch.setenv("COLUMNS", "80")
    screen = Screen(Options())
    screen.say(f"[red]{LONG}")
    screen.show(f"[red]{LONG}")
    assert capsys.readouterr() == (f"[red]{LONG}\n", f"[red]{LONG}\n")


def test_json_has_no_nan(capsys):
    """JSON knows neither NaN nor infinity; strict readers refuse the whole line."""
    Screen(Options(json=True)).finish({"a": [float("nan"), (1.5, float("inf"))], "名": "球"})
    line = capsys.readouterr().out
    assert json.loads(line) == {"a": [None, [1.5, None]], "名": "球"}
    assert "球" in line


@pytest.mark.parametrize(
    ("terminal", "quiet", "seen"), [(True, False, True), (True, True, False), (False, False, False)]
)
def test_a_bar_only_for_who_watches(terminal, quiet, seen):
    """A bar on a terminal, and nothing in a file or with --quiet."""
    screen = Screen(Options(quiet=quiet))
    screen.notes = Console(file=io.StringIO(), force_terminal=terminal, width=80)
    with screen.counting("questions answered", 4) as each:
        each(1)
        each(3)
    assert ("questions answered" in screen.notes.file.getvalue()) == seen
    assert ("4/4" in screen.notes.file.getvalue()) == seen


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "yes"),
        (False, "no"),
        (None, ""),
        (1234567, "1,234,567"),
        (0.8754, "0.875"),
        (1234.56, "1,234.6"),
        ("a", "a"),
    ],
)
def test_figures(value, text):
    """Numbers as people read them."""
    assert figure(value) == text


def test_measured_work_has_a_pace(monkeypatch):
    """Bytes in megabytes with speed and time left from where a phase began, another unit as it is; a line every ten
    seconds where nobody watches."""
    clock, said = iter([0.0, 0.0, 4.0, 20.0, 24.0, 25.0, 26.0, 27.0]), []
    monkeypatch.setattr("instar.cli.screen.time.perf_counter", lambda: next(clock))
    pace = Pace()

    def state(done, total, unit="bytes", phase="read"):
        return SimpleNamespace(phase=phase, number=1, phases=2, done=done, total=total, unit=unit)

    assert pace.figures(state(10_000_000, 50_000_000)) == "10.0 of 50.0 MB"
    assert pace.figures(state(18_000_000, 50_000_000)) == "18.0 of 50.0 MB, 2.00 MB/s, 0:00:16 left"
    assert pace.figures(state(0, 8, "tasks", "pairs")) == "0 of 8 tasks"
    assert pace.figures(state(2, 8, "tasks", "pairs")) == "2 of 8 tasks, 0.50 tasks/s, 0:00:12 left"
    pace.tell(state(8, 8, "tasks", "pairs"), said.append)
    assert said == ["pairs: 8 of 8 tasks"]
