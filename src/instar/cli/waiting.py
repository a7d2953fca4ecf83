"""How the threads of a command wait for each other, decided before torch is imported, which reads it then.

Between two products they can spin, ready to go on at once, or sleep and be woken. On cores that others want as well
spinning takes from everyone: a decoding step took eight times as long (`docs/results.md`). Large pages make weights
quicker to read.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping

BUSY = 0.25  # of the cores at work already: sleep
WORDS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def prepare(environment: MutableMapping[str, str] = os.environ, *, serves: bool = False) -> None:
    """Choose, unless the user has. serves: a server shares its machine for as long as it runs."""
    if (serves or busy()) and not any(word in environment for word in WORDS):
        environment["OMP_WAIT_POLICY"] = "PASSIVE"
    environment.setdefault("THP_MEM_ALLOC_ENABLE", "1")


def busy() -> bool:
    """Whether others are at work on this machine."""
    try:
        return os.getloadavg()[0] > BUSY * cores()
    except OSError:  # a system that does not tell
        return False


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
