"""A run while it trains, as events: rows as they are written, and what else becomes of it."""

from __future__ import annotations

import asyncio
import zlib
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...text.figures import DRAWABLE
from ...train.history import Row, lines_of
from ...train.run import INSIDE, METRICS, SAMPLES, SKIPPED
from .runs import POINTS, RECENT, columns, seconds_left, stamps, state_of, thinned

POLL = 0.5  # seconds between two looks at the file
WATCHED = 4  # looks after which it is asked whether the run still lives
BESIDES = {SAMPLES: "samples", INSIDE: "inside", SKIPPED: "skips"}
Told = tuple[str, Mapping[str, Any], int | None]  # name, data and id of an event


class Tail:
    """The rows that a metrics.jsonl has grown by. A line that is not whole yet waits for its end; where a run goes on
    from an earlier step, which rewrites the file, the rows are compared with those before."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file, self._offset = 0, 0
        self._marks: list[tuple[int, int]] = []  # step and checksum of every row

    @property
    def last(self) -> int:
        """The last step that was read."""
        return self._marks[-1][0] if self._marks else 0

    def read(self) -> tuple[int | None, list[Row]]:
        """What is new: the step behind which all rows that were told before are void, None where they all stand; and
        the rows behind it."""
        try:
            now = self.path.stat()
        except FileNotFoundError:
            return None, []
        rewritten = now.st_ino != self._file or now.st_size < self._offset
        if rewritten:
            self._file, self._offset = now.st_ino, 0
        if now.st_size == self._offset:
            return (None, []) if not rewritten else self._compared([])
        with self.path.open("rb") as file:
            file.seek(self._offset)
            found = file.read()
        whole = found[: found.rfind(b"\n") + 1]
        self._offset += len(whole)
        read = []
        for line in whole.split(b"\n"):
            rows, _ = lines_of(line.decode(errors="replace"))
            if rows and type(step := rows[0].get("step")) is int and 0 < step < DRAWABLE:
                read.append((rows[0], (step, zlib.crc32(line))))
        return self._compared(read) if rewritten else (None, self._added(read))

    def _compared(self, read: Sequence[tuple[Row, tuple[int, int]]]) -> tuple[int | None, list[Row]]:
        same = 0
        while same < min(len(read), len(self._marks)) and read[same][1] == self._marks[same]:
            same += 1
        void = same < len(self._marks)
        del self._marks[same:]
        back = self.last if void else None
        return back, self._added(read[same:])

    def _added(self, read: Sequence[tuple[Row, tuple[int, int]]]) -> list[Row]:
        rows = []
        for row, mark in read:
            if mark[0] > self.last:
                self._marks.append(mark)
                rows.append(row)
        return rows


async def follow(
    folder: Path, recipe: Mapping[str, Any], after: int = 0,
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> AsyncGenerator[Told]:  # fmt: skip
    """The events of a run behind step `after`; the id of each is the last step that was told.

    rows {steps, columns, left_s}; rewind {step}: what was told of later steps is void; changed {samples, inside,
    skips}: which other files have grown; end {state}: finished, or stopped on its way, and nothing comes after.
    """
    tail = Tail(folder / METRICS)
    beside, recent = await asyncio.to_thread(stamps, folder, list(BESIDES)), deque[Row](maxlen=RECENT)
    first, looks = True, 0
    while True:
        # asked before the last look at the file, so that no row can come between
        state = await asyncio.to_thread(state_of, folder) if looks % WATCHED == 0 else "live"
        back, rows = await asyncio.to_thread(tail.read)
        if first and after > tail.last:
            back, after = 0, 0
        if back is not None:
            recent = deque([row for row in recent if row["step"] <= back], RECENT)
            yield "rewind", {"step": back}, back
        recent.extend(rows)
        shown = thinned([row for row in rows if row["step"] > after], POINTS) if first else rows
        if shown:
            left = seconds_left(list(recent), dict(recipe))
            yield "rows", {
                "steps": [row["step"] for row in shown], "columns": columns(shown), "left_s": left
            }, tail.last  # fmt: skip
        now = await asyncio.to_thread(stamps, folder, list(BESIDES))
        if now != beside:
            changed = [name for name, old, new in zip(BESIDES.values(), beside, now) if old != new]
            yield "changed", dict.fromkeys(changed, True), tail.last
            beside = now
        if state != "live":
            yield "end", {"state": state}, tail.last
            return
        first, looks = False, looks + 1
        await pause(POLL)
