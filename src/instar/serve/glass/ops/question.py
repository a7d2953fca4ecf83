"""What an operation is asked, strictly, and what the package refuses, told with its figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import wraps
from typing import Any

from ....config import InputError, unknown
from ....config.options import InspectOptions, SamplingOptions
from ....config.options.asking import usual_sampling
from ....config.strict import from_dict
from ....probe.memory import TooLarge
from ....probe.subject import TooLong
from ..box import Box, Operation, Reply
from ..trouble import bad_input, no_memory, too_long


def refusing(work: Operation) -> Operation:
    """An operation that tells too long texts (413) and too large looks (507) with their figures."""

    @wraps(work)
    def told(box: Box, args: Mapping[str, Any]) -> Reply:
        try:
            return work(box, args)
        except TooLong as error:
            raise too_long(error.limit, error.got) from None
        except TooLarge as error:
            raise no_memory(error.need, error.budget) from None

    return told


def ask_of(said: Mapping[str, Any], base: InspectOptions) -> InspectOptions:
    """The options of a view, nested as in YAML, on top of what is asked about. Raises InputError for a name, a value or
    a type that there is not."""
    return from_dict(InspectOptions, said, base=base)


def sampling_of(said: Mapping[str, Any], stop: Sequence[str] = ()) -> SamplingOptions:
    """Fields of SamplingOptions on top of what `instar generate` draws by, where anything is drawn; stop: texts that
    end the answer, beside those of the options. Raises InputError for a name, a value or a type that there is not."""
    usual = usual_sampling()
    if said.get("strategy") == "beam":
        usual = SamplingOptions("beam", max_new_tokens=usual.max_new_tokens)
    options = from_dict(SamplingOptions, said, base=usual, where="sampling")
    if stop:
        texts = [*options.stop, *stop]
        options = from_dict(SamplingOptions, {"stop": texts}, base=options, where="sampling")
    return options


def one_of(args: Mapping[str, Any], *names: str) -> str:
    """The name that is said. Raises Trouble (422) where none or several are."""
    found = [name for name in names if args.get(name) not in (None, "", [])]
    if len(found) != 1:
        raise bad_input(f"found {' and '.join(found) or 'nothing to read'}; wanted one of {', '.join(names)}")
    return found[0]


def place_of(name: str, number: int, count: int) -> int:
    """A place counted from 0, -1 being the last. Raises InputError for one that does not exist."""
    if not -1 <= number < count:
        raise InputError(f"{name}={number}, wanted 0 to {count - 1}, or -1 for the last")
    return number % count


def span_of(name: str, said: Sequence[int], count: int) -> slice:
    """[start, end) of so many. Raises InputError for one that holds nothing, or more than there is."""
    start, end = said
    if not 0 <= start < end <= count:
        raise InputError(f"{name}={start}:{end}, wanted a part of 0:{count}")
    return slice(start, end)


def word_of(name: str, word: str, known: Sequence[str]) -> str:
    """Raises InputError for a word that is not one of these."""
    if word not in known:
        raise unknown(f"value for {name}:", word, known)
    return word
