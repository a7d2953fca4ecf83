"""The error that means "your input is wrong", and near matches for misspelt words."""

from __future__ import annotations

import difflib
import traceback
from collections.abc import Iterable
from pathlib import Path


class InputError(ValueError):
    """An option, file, record, checkpoint or request that the user can put right.

    The message says what was found, what was wanted and the remedy. The command line prints it without a
    traceback and exits with 2; the server answers 4xx.
    """


def nearest(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean X?` for the closest of `known`, or nothing.

    Example: nearest("train.lrr", ["train.lr", "train.steps"]) -> "; did you mean train.lr?"
    """
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""


def unknown(kind: str, word: str, known: Iterable[str]) -> InputError:
    """The one sentence for an unknown option, command, key or name."""
    names = sorted(known)
    hint = nearest(word, names)
    listing = "" if hint or len(names) > 24 else f"; known: {', '.join(names)}"
    return InputError(f"unknown {kind} {word}{hint}{listing}")


def places(error: BaseException, most: int = 4) -> str:
    """Where in the program an error came from, innermost first; no folder is named. Example: chat.py:31 < app.py:80"""
    found = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
    return " < ".join(found[: -most - 1 : -1])


def brief(error: BaseException, most: int = 200) -> str:
    """An error in one line for a log: what, and where.

    Example: "RuntimeError: shapes do not fit (at layers.py:52 < attention.py:99 < reader.py:75)".
    """
    said, where = str(error).partition("\n")[0][:most], places(error)
    return f"{type(error).__name__}: {said}" + (f" (at {where})" if where else "")


class Interrupted(Exception):
    """Stopped by a signal after everything was saved; the command exits with 75 and can be run again to go on."""


class Diverged(RuntimeError):
    """Training gives no finite numbers any more; nothing of it was saved. The command says so and exits with 1."""


class Failed(RuntimeError):
    """Work that other processes do for a command failed there; the message says what, and where its log is. The command
    exits with 1."""
