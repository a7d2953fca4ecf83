"""The socket that a process of the server is born with."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterable


def inherited(arguments: Iterable[str]) -> socket.socket:
    """The line to the front, whose number is the only argument; it goes no further than this process. Ctrl-C and what
    ends a whole group of processes are for the front, which lets answers end before it goes, and these with it."""
    (descriptor,) = arguments
    line = socket.socket(fileno=int(descriptor))
    line.set_inheritable(False)
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, signal.SIG_IGN)
    os.dup2(2, 1)  # what anyone prints is no part of what the server prints
    return line
