"""The log: lines of figures and known names, written aside, and nothing of a request in them."""

import asyncio
import io
import json
import logging
import threading
from dataclasses import replace

import pytest

from instar.serve import log
from instar.serve.log import Entry, Writer, escaped, logging_to, place, say, tell

ENTRY = Entry(
    id="req_1f", status=200, method="POST", route="/v1/chat/completions", client="addr:127.0.0.1", total=0.8124,
    model="demo", prompt=12, cached=8, answer=34, first=0.045,
)  # fmt: skip
PROBE = Entry(id="req_2a", status=200, method="GET", route="/ready", client="addr:127.0.0.1", total=0.001)


def written(*entries, json=False, quiet=False, more=lambda: None):
    """What is in the log after these requests."""
    stream = io.StringIO()
    with logging_to(stream, json=json, quiet=quiet) as writer:
        for entry in entries:
            tell(entry)
        more()
    return stream.getvalue().splitlines(), writer


def test_a_line_that_people_read():
    """One line has the time, what was asked and answered, tokens, times, and who asked."""
    (line,), _ = written(ENTRY)
    when, line = line[:19], line[19:]
    assert when[4] == "-"
    assert line == (
        "  200 POST /v1/chat/completions  demo  12+34 tokens (8 known)  first 45 ms, all 812 ms  addr:127.0.0.1  req_1f"
    )


def test_a_line_of_an_error():
    """What there is not is left out; what went wrong is told by its code, and who left."""
    entry = Entry(id="req_3", status=404, method="?", route="-", client="-", total=0.0012, error="not_found", left=True)
    (line,), _ = written(entry)
    assert line[19:] == "  404 ? -  all 1 ms  not_found  the client left  -  req_3"


def test_lines_for_programs():
    """With --json each line is one object, whatever it tells of."""
    lines, _ = written(ENTRY, json=True, more=lambda: (say("ready"), logging.getLogger("instar.serve").error("gone")))
    first, second, third = map(json.loads, lines)
    assert {"time", "level"} < set(first)
    assert {name: first[name] for name in ("status", "model", "prompt", "answer", "first_ms", "total_ms")} == {
        "status": 200, "model": "demo", "prompt": 12, "answer": 34, "first_ms": 45.0, "total_ms": 812.4,
    }  # fmt: skip
    assert (second["message"], third["level"], third["message"]) == ("ready", "error", "instar: gone")


@pytest.mark.parametrize(
    ("code", "error", "kept"),
    [
        (200, None, 0), (429, "queue_full", 0), (503, "draining", 0), (499, "cancelled", 0), (200, "draining", 0),
        (500, "internal_error", 1), (504, "timeout", 1), (503, "engine_died", 1), (200, "engine_died", 1),
    ],
)  # fmt: skip
def test_quiet_leaves_errors(code, error, kept):
    """--quiet leaves what is our fault; all is counted nevertheless."""
    lines, writer = written(replace(ENTRY, status=code, error=error), quiet=True)
    assert len(lines) == kept
    assert writer.tally.statuses == {code: 1}


def test_probes_are_told_where_their_answer_changes():
    """A load balancer asks every second; only what is new of it is a line. All of it is counted."""
    down = replace(PROBE, status=503, error="draining")
    lines, writer = written(PROBE, PROBE, down, down, PROBE, PROBE)
    assert [line.split()[2] for line in lines] == ["503", "200"]
    assert writer.tally.statuses == {200: 4, 503: 2}


@pytest.mark.parametrize(
    "text", ["a\r\nb", "\x1b[31mred", "\x9b2J", "a\u2028b\u0085", "\x00", "\ud800", "\u202e", "\x7f"]
)
def test_nothing_moves_the_cursor(text):
    """S23: a line is a line: what would end it, colour it or turn it round is an escape."""
    found = escaped(text)
    assert len(found.splitlines()) == 1
    assert found.isascii()
    assert found.encode()
    (line,), _ = written(more=lambda: logging.getLogger("instar.serve").error("<%s>", text))
    assert line.endswith(f"<{found}>")


def test_other_languages_stay_readable():
    """What is not a control character is written as it is."""
    assert escaped("王明 é \u2014") == "王明 é \u2014"


def test_an_exception_is_told_by_its_place():
    """S23: neither the words of an exception nor a path nor a line of code is in the log."""

    def fail(secret):
        raise ValueError(f"found {secret}")

    def more():
        with pytest.raises(ValueError, match="canary") as error:
            fail("canary")
        assert place(error.value).startswith("ValueError at test_log.py:")
        logging.getLogger("uvicorn.error").error("Exception in ASGI application\n", exc_info=error.value)

    (line,), _ = written(more=more)
    assert "canary" not in line
    assert "/" not in line.partition("  ")[2]
    assert "Exception in ASGI application: ValueError at test_log.py:" in line


def test_what_asyncio_has_to_say():
    """S23: what nobody awaited or caught is told as well, without what it was working at."""

    async def fail(secret):
        raise ValueError(f"found {secret}")

    def more():
        async def main():
            loop = asyncio.get_running_loop()
            for task in (asyncio.create_task(fail("canary")),):
                await asyncio.wait([task])
                loop.call_exception_handler(
                    {"message": "Task exception was never retrieved", "exception": task.exception(), "future": task}
                )
            loop.call_exception_handler({"message": "Exception in callback add('canary')", "handle": "canary"})
            logging.getLogger("asyncio").warning("socket.send() raised exception.")

        asyncio.run(main())

    lines, _ = written(more=more)
    assert "canary" not in "".join(lines)
    assert "Task exception was never retrieved: ValueError at test_log.py:" in lines[0]
    assert lines[1].endswith("asyncio: Exception in callback add")
    assert len(lines) == 2


class Stuck(io.StringIO):
    """A terminal that stands still until it is told to go on."""

    def __init__(self):
        super().__init__()
        self.go = threading.Event()

    def write(self, text):
        self.go.wait(10)
        return super().write(text)


def test_a_terminal_that_stands_still_holds_nobody_up(monkeypatch):
    """Lines wait up to a bound and are then lost, and counted; who logs never waits."""
    monkeypatch.setattr(log, "WAITING", 3)
    stream = Stuck()
    writer = Writer(stream, json=False, quiet=False)
    for number in range(20):
        writer.emit(logging.LogRecord("instar", logging.INFO, "", 0, f"line {number}", (), None))
    stream.go.set()
    writer.close()
    kept = stream.getvalue().splitlines()
    assert 3 <= len(kept) <= 4
    assert writer.lost == 20 - len(kept)


def test_a_full_disk_costs_lines_alone():
    """Where nothing can be written lines are lost and counted, and nothing is raised."""
    stream = open("/dev/full", "w")  # noqa: SIM115  closing it fails, too
    with logging_to(stream, json=False, quiet=False) as writer:
        for _ in range(5):
            tell(ENTRY)
    with pytest.raises(OSError, match="No space"):
        stream.close()
    assert writer.lost == 5
    assert writer.tally.statuses == {200: 5}


def test_loggers_are_as_before():
    """Afterwards nothing of it is left on the loggers of the process."""
    ours = logging.getLogger("instar")
    before = (ours.level, ours.propagate, list(ours.handlers), list(log.REQUESTS.filters))
    written(ENTRY)
    assert (ours.level, ours.propagate, list(ours.handlers), list(log.REQUESTS.filters)) == before
