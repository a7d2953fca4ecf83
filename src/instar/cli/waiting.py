"""How the threads of a command wait for each other, decided before torch is imported, which reads it then.

Between two products they can spin, ready to go on at once, or sleep and be woken. On cores that others want as well
spinning takes from everyone: a decoding step took eight times as long (`docs/results.md`). Large pages make weights
quicker to read.
"""

from __future__ import annotations

import os
import time
from collections.abc import MutableMapping
from pathlib import Path

BUSY = 0.25  # of the cores at work already: sleep
MOMENT = 0.1  # seconds in which that is seen
WORDS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def prepare(environment: MutableMapping[str, str] = os.environ, *, serves: bool = False) -> None:
    """Choose, unless the user has. serves: a server shares its machine for as long as it runs."""
    if (serves or busy()) and not any(word in environment for word in WORDS):
        environment["OMP_WAIT_POLICY"] = "PASSIVE"
    environment.setdefault("THP_MEM_ALLOC_ENABLE", "1")


def busy(stat: Path = Path("/proc/stat")) -> bool:
    """Whether others are at work on this machine: of late, and, where the system tells, still. Who has just installed
    this package has left a load behind and nobody at work, and cores that sleep train a quarter slower."""
    try:
        if os.getloadavg()[0] <= BUSY * cores():
            return False
    except OSError:  # a system that does not tell
        return False
    try:
        before = _spent(stat)
        time.sleep(MOMENT)
        used, all_of_it = (after - was for after, was in zip(_spent(stat), before))
    except (OSError, ValueError, IndexError):
        return True
    return used > BUSY * all_of_it


def _spent(stat: Path) -> tuple[int, int]:
    """The time in which the cores that this process may use were at work, and all their time, since the system began;
    in its ticks."""
    rows = [line.split()[:9] for line in stat.read_text().splitlines() if line[:3] == "cpu" and line[3:4].isdigit()]
    ours = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(len(rows))
    user, nice, system, idle, wait, *rest = (
        sum(map(int, column)) for column in zip(*(row[1:] for row in rows if int(row[0][3:]) in ours))
    )
    used = user + nice + system + sum(rest)
    return used, used + idle + wait


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
