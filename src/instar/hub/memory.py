"""How much memory is free, so that what cannot fit is refused before it is begun."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch

MEMINFO, GROUP = Path("/proc/meminfo"), Path("/sys/fs/cgroup")


def free_bytes(device: torch.device) -> int | None:
    """Bytes that could be allocated on a device now; None where this system does not tell.

    On a CPU: what the kernel could give without swapping, or what is left to this container, whichever is less.
    """
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    known = [found for found in (_kernel(), _container()) if found is not None]
    return min(known) if known else _installed()


def _kernel() -> int | None:
    lines = MEMINFO.read_text().splitlines() if MEMINFO.is_file() else []
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(found[0]) * 1024 if found else None


def _container() -> int | None:
    """What the control group still allows; the file cache in it gives way."""
    try:
        most = (GROUP / "memory.max").read_text().strip()
        used = int((GROUP / "memory.current").read_text())
        parts = dict(line.split() for line in (GROUP / "memory.stat").read_text().splitlines())
        cached = int(parts["inactive_file"]) + int(parts["active_file"])
    except (OSError, ValueError, KeyError):  # another system, or an older kernel
        return None
    return None if most == "max" else max(0, int(most) - used + cached)


def _installed() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows has none of these words
        return None


def resident() -> int:
    """Bytes of memory that this process takes."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:  # a system without it: the most it ever took, in KiB, on a Mac in bytes
        import resource  # Windows has none

        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024
