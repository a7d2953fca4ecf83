"""Constraints: which tokens may come next, so that an answer obeys a JSON schema, a regular expression, a choice or a
grammar.

The work is llguidance's (Microsoft, after "Efficient Guided Generation", Willard and Louf 2023): a matcher follows the
answer token by token and fills a mask, one bit for each token. A matcher that fails takes down its own request and no
other. This module knows nothing of models: masks are made beside a forward pass, in a thread.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..config import Failed, InputError
from ..config.options import CONSTRAINTS, SamplingOptions
from ..text.tokenizer import Tokenizer, check_fits
from ..text.vocabulary import library
from .grammars import grammar_of
from .trial import Trial, Words, begin, reason
from .trial import tokenizer as library_tokenizer

CACHE = 64 * 2**20
# a compiled grammar grows with every state that an answer leads it to; after so many tokens it is compiled anew
MOST_TOKENS = 50_000
# the bytes that UTF-8 is made of
_SPELLED = {*range(0xC0), *range(0xC2, 0xF5)}
Bits = NDArray[np.int32]


def compile(tokenizer: Tokenizer, options: SamplingOptions, vocab_size: int) -> Grammar | None:
    """What the options allow an answer to be, for a model with so many rows; None where they allow everything.

    Where a grammar may end, the stops of the tokenizer and `stop_ids` may follow, and nowhere else. Raises InputError
    where llguidance is missing, where a constraint is malformed, too large or satisfied by nothing, and where nothing
    could end an answer.
    """
    asked = [name for name in CONSTRAINTS if getattr(options, name)]
    if not asked:
        return None
    if len(asked) > 1:
        raise InputError(f"found the constraints {' and '.join(asked)}, wanted at most one; leave the others out")
    _require_library()
    check_fits(tokenizer, vocab_size)
    stops = frozenset({*tokenizer.stops, *options.stop_ids})
    if not stops or max(stops) >= vocab_size:
        raise InputError(
            f"a constraint needs a token that ends the answer, below {vocab_size}; found {sorted(stops) or 'none'}; "
            "name one in stop_ids, or use a tokenizer with an end of text"
        )
    source = grammar_of(asked[0], getattr(options, asked[0]))
    return _compiler(tokenizer, vocab_size).compile(asked[0], source, stops)


class Grammar:
    """A compiled constraint, and the ids that may end an answer to it."""

    def __init__(self, compiled: _Compiled, ordinary: Bits, vocab_size: int, stops: frozenset[int]) -> None:
        self.compiled = compiled
        self.vocab_size = vocab_size
        self.stops = stops
        self.stop_ids = np.array(sorted(stops))
        self.permitted = ordinary & ~_bits(stops, vocab_size)

    def start(self) -> Constraint:
        """A new answer; ten microseconds."""
        return Constraint(self)


class Constraint:
    """How far one answer has come. error: why nothing can follow any more; ended: only a stop can follow.

    A constraint belongs to one request and is not advanced while masks of it are being made.
    """

    def __init__(self, grammar: Grammar) -> None:
        self.grammar = grammar
        self.matcher = grammar.compiled.matcher.deep_copy()
        self.error: str | None = None
        self.ended = False

    def advance(self, id: int) -> None:
        """The answer goes on with this id. Never raises: where the grammar does not allow it, `error` says so."""
        if self.error is not None:
            return
        self.grammar.compiled.tokens += 1
        if id in self.grammar.stops:
            self.ended = True
            if not self.matcher.is_accepting():
                self.fail("the answer was stopped before it satisfied its constraint")
        elif not self.matcher.consume_token(id):
            self.fail(reason(self.matcher))
        else:
            self.ended = self.matcher.is_stopped()

    def fail(self, why: str) -> None:
        """Nothing can follow any more, here; answers yet to come begin with the grammar compiled anew."""
        self.error = f"constraint: {why}"
        self.grammar.compiled.spent = True


class Masks:
    """Which tokens each row of a step may say, filled in a thread while the model computes."""

    def __init__(self, vocab_size: int) -> None:
        self.vocab_size = vocab_size
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="masks")

    def begin(self, constraints: Sequence[Constraint | None]) -> Future[Tensor]:
        """Start the work; the handle's `result()` waits for bool (R, V), True where a token may come.

        All of a row is True where there is no constraint, and where the constraint has failed: its `error` says so. A
        row with nothing but stops sets `ended`.
        """
        return self._thread.submit(self.of, list(constraints))

    def of(self, constraints: Sequence[Constraint | None]) -> Tensor:
        """The same, made here and now."""
        allowed = np.ones((len(constraints), self.vocab_size), dtype=bool)
        live = [(row, it) for row, it in enumerate(constraints) if it is not None and it.error is None]
        if live:
            told = self._told([constraint for _, constraint in live])
            keep = [n for n, (_, constraint) in enumerate(live) if constraint.error is None]
            allowed[[live[n][0] for n in keep]] = told[keep]
        return torch.from_numpy(allowed)

    def _told(self, constraints: list[Constraint]) -> NDArray[np.bool_]:
        """What the grammars allow, bool (C, V); sets `error` and `ended`."""
        bits = np.zeros((len(constraints), _words(self.vocab_size)), dtype=np.int32)
        self._fill(constraints, bits)
        word, bit = divmod(self.vocab_size, 32)
        may_end = (bits[:, word] >> bit & 1).astype(bool)
        bits &= np.stack([constraint.grammar.permitted for constraint in constraints])
        goes_on = np.any(bits, axis=1)
        for row, constraint in enumerate(constraints):
            if constraint.error is not None:  # its row could not be filled
                continue
            if constraint.matcher.is_error():
                constraint.fail(reason(constraint.matcher))
            elif not goes_on[row]:
                constraint.ended = bool(may_end[row])
                if not constraint.ended:
                    constraint.fail("no token of this vocabulary can follow")
        told = np.unpackbits(bits.view(np.uint8), axis=1, count=self.vocab_size, bitorder="little").view(bool)
        stops = [constraint.grammar.stop_ids for constraint in constraints]
        rows = np.repeat(np.arange(len(stops)), [len(ids) for ids in stops])
        told[rows, np.concatenate(stops)] = may_end[rows]
        return told

    def _fill(self, constraints: list[Constraint], bits: Bits) -> None:
        """One row of bits for each; all at once where there are cores for it, each alone where that fails."""
        from llguidance.numpy import fill_next_token_bitmask, fill_next_token_bitmask_par

        if len(constraints) > 1:
            try:
                with library("the parallel fill failed"):
                    pairs = [(constraint.matcher, row) for row, constraint in enumerate(constraints)]
                    return fill_next_token_bitmask_par(self._executor, pairs, bits)
            except InputError:
                bits[:] = 0
        for row, constraint in enumerate(constraints):
            try:
                with library("the library failed"):
                    fill_next_token_bitmask(constraint.matcher, bits, row)
            except InputError as error:
                constraint.fail(str(error))
        return None

    @cached_property
    def _executor(self) -> Any:
        from llguidance import LLExecutor

        return LLExecutor()


@dataclass
class _Compiled:
    """matcher: never advanced, copied for each answer; weight: its bytes, roughly; tokens: those of all answers."""

    matcher: Any
    weight: int
    tokens: int = 0
    spent: bool = False

    @property
    def fresh(self) -> bool:
        return not self.spent and self.tokens < MOST_TOKENS


class _Compiler:
    """All that is made once for a tokenizer, and the grammars compiled last, as many as CACHE bytes hold."""

    def __init__(self, tokenizer: Tokenizer, vocab_size: int) -> None:
        table = list(tokenizer.vocabulary.table)
        controls = tokenizer.vocabulary.controls.values()
        for control in controls:
            # what decoding shows, as the tags round a call, is text to a grammar too
            if control.hidden:
                table[control.id] = b""
        shown = {control.text: control.id for control in controls if not control.hidden}
        encoder = tokenizer.vocabulary.encoder  # nothing here may hold the tokenizer itself, or neither would ever go
        if lacking := _SPELLED - {piece[0] for piece in table if len(piece) == 1}:
            raise InputError(
                f"this vocabulary has no token for {len(lacking)} bytes, such as {min(lacking):02X}; a constraint "
                "needs one that can spell every text: byte-level, or with byte fallback"
            )
        words = Words(
            table + [b""] * (vocab_size - len(table)),
            lambda text: _spelt(text, encoder, shown),
        )
        with library("this vocabulary cannot be constrained"):
            self.words = library_tokenizer(words)
        self.vocab_size = vocab_size
        self.ordinary = _bits((id for id, piece in enumerate(table) if piece), vocab_size)
        self.trial = Trial(words)
        self.cache: OrderedDict[str, _Compiled] = OrderedDict()
        self.lock = threading.Lock()

    def compile(self, name: str, source: str, stops: frozenset[int]) -> Grammar:
        """From the library's own form of a constraint. Raises InputError where it cannot begin."""
        with self.lock:
            compiled = self.cache.get(source)
            if compiled is not None:
                self.cache.move_to_end(source)
        if compiled is None or not compiled.fresh:
            compiled = self._compile(name, source)
            with self.lock:
                self.cache[source] = compiled
                while sum(entry.weight for entry in self.cache.values()) > CACHE:
                    self.cache.popitem(last=False)
        grammar = Grammar(compiled, self.ordinary, self.vocab_size, stops)
        first = grammar.start()
        Masks(self.vocab_size).of([first])
        if first.error is not None:
            raise InputError(f"sampling.{name}: {first.error.removeprefix('constraint: ')}")
        return grammar

    def _compile(self, name: str, source: str) -> _Compiled:
        try:
            fault = self.trial.fault(source)
        except OSError:  # too many processes, or too little memory: no fault of the grammar's, nor is a path its answer
            raise Failed("a grammar could not be tried") from None
        if fault is not None:
            raise InputError(f"sampling.{name}: {fault}")
        with library(f"sampling.{name}"):
            # measured: 145 bytes for each of the source, and what every grammar has
            return _Compiled(begin(self.words, source), 2**16 + 160 * len(source))


def _spelt(text: str, encoder: Any, shown: Mapping[str, int]) -> list[int]:
    """A text as ids, tags as those of their own by which a model knows them."""
    ids: list[int] = []
    tags = "|".join(re.escape(tag) for tag in sorted(shown, key=len, reverse=True))
    for part in re.split(f"({tags})", text) if tags else [text]:
        ids += [shown[part]] if part in shown else encoder.encode(part, add_special_tokens=False).ids
    return ids


_COMPILERS: WeakKeyDictionary[Tokenizer, dict[int, _Compiler]] = WeakKeyDictionary()
_LOCK = threading.Lock()


def _compiler(tokenizer: Tokenizer, vocab_size: int) -> _Compiler:
    with _LOCK:
        made = _COMPILERS.setdefault(tokenizer, {})
        if vocab_size not in made:
            made[vocab_size] = _Compiler(tokenizer, vocab_size)
        return made[vocab_size]


def _require_library() -> None:
    try:
        import llguidance  # noqa: F401
    except ImportError:
        raise InputError('a constraint needs llguidance: pip install "instar[constrain]"') from None


def _words(vocab_size: int) -> int:
    """How many words of 32 bits hold a bit for each token, and one that says that the answer may end."""
    return vocab_size // 32 + 1


def _bits(ids: Iterable[int], vocab_size: int) -> Bits:
    """These ids as the library writes a mask."""
    flags = np.zeros(_words(vocab_size) * 32, dtype=np.uint8)
    flags[list(ids)] = 1
    return np.packbits(flags, bitorder="little").view(np.int32)
