"""Logs of whole lines, on a disk that may be full."""

import json
import math
from errno import ENOSPC

import pytest

from instar.train import jsonl
from instar.train.jsonl import Jsonl, forget_after, last_losses


def read(path):
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]]


def test_lines_wait_for_room(tmp_path, monkeypatch):
    """Story: huggingface/transformers#27820. A full disk costs one warning and no line."""
    path, said, full = tmp_path / "metrics.jsonl", [], []
    usual = jsonl._append

    def append(path, data):
        if full:
            raise OSError(ENOSPC, "No space left on device")
        usual(path, data)

    monkeypatch.setattr(jsonl, "_append", append)
    log = Jsonl(path, said.append)
    for step in range(1, 7):
        full[:] = [True] if step in (2, 3, 4) else []
        log.add([{"step": step, "loss": 0.5}])
    assert [row["step"] for row in read(path)] == [1, 2, 3, 4, 5, 6]
    assert len(said) == 1
    assert "No space left on device; its lines wait" in said[0]


def test_half_a_line_is_none(tmp_path, monkeypatch):
    """What was written of a line that did not fit is taken back."""
    path = tmp_path / "metrics.jsonl"

    class Small:
        """A file that takes ten bytes, and no more."""

        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.file.close()

        def write(self, data):
            if self.file.tell() > 30:
                raise OSError(ENOSPC, "No space left on device")
            return self.file.write(data[:10])

        def __getattr__(self, name):
            return getattr(self.file, name)

    usual = type(path).open
    log = Jsonl(path)
    log.add([{"step": 1}])
    monkeypatch.setattr(type(path), "open", lambda *rest, **named: Small(usual(*rest, **named)))
    log.add([{"step": 2, "loss": 0.123456789, "lr": 0.987654321}])
    monkeypatch.undo()
    assert path.read_text() == '{"step": 1}\n'
    log.flush()
    assert [row["step"] for row in read(path)] == [1, 2]


def test_going_on_forgets_later_rows_and_half_lines(tmp_path):
    """T17: rows up to the step stay, a line that a crash cut off goes; other ends of lines inside a text are text."""
    path = tmp_path / "samples.jsonl"
    Jsonl(path).add([{"step": step, "text": "a\u2028b\x85c"} for step in range(1, 6)])
    with path.open("a") as file:
        file.write('{"step": 6, "te')
    forget_after(3, path)
    assert [row["step"] for row in read(path)] == [1, 2, 3]
    forget_after(3, tmp_path / "none.jsonl")
    assert not (tmp_path / "none.jsonl").exists()


def test_the_last_losses_are_read_back(tmp_path):
    """What a mean over the last steps needs after a restart; a step without a finite loss is NaN."""
    path = tmp_path / "metrics.jsonl"
    Jsonl(path).add([{"step": step, "loss": loss} for step, loss in enumerate((0.1, math.inf, 0.3), 1)])
    assert last_losses(path, 2) == pytest.approx([math.nan, 0.3], nan_ok=True)
    assert last_losses(tmp_path / "none.jsonl", 2) == []
