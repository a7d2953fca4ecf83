"""A `tokenizer.json` that nobody vouches for -> a checked vocabulary: bytes of every id, and an encoder that cannot
reach a control token.

The encoder holds the vocabulary without its control tokens and without whatever would merge into one, so that no text
can give their ids: the library's own switch against this skips only the tokens that are flagged special.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tokenizers import Tokenizer as Library

from ..config import InputError, unknown
from ..config.shape import MOST_POSITIONS
from .patterns import vet

MAX_ID = 4_000_000
Spec = dict[str, Any]

# characters that one component may insert, what one character may become in all of them, and how deep and how many
_MAX_INSERTED, _MAX_GROWTH, _MAX_PARTS, _MAX_DEPTH = 256, 1024, 64, 8
# characters of the longest word that WordPiece divides
_MAX_WORD = 200
# A pattern that is slow on one of these is slow on many texts; what else is slow is stopped by the library's own limit.
_RUN, _RUNS = 48, " aA1_!\n走"
_COMPONENTS = {
    "model": {"BPE", "WordPiece"},
    "normalizer": {
        "Sequence", "NFC", "NFD", "NFKC", "NFKD", "Prepend", "Replace", "Lowercase", "Strip", "StripAccents", "Nmt",
        "ByteLevel", "BertNormalizer",
    },
    "pre_tokenizer": {
        "Sequence", "ByteLevel", "Split", "Metaspace", "Digits", "Punctuation", "Whitespace", "WhitespaceSplit",
        "BertPreTokenizer",
    },
    "post_processor": {"Sequence", "ByteLevel", "TemplateProcessing", "RobertaProcessing", "BertProcessing"},
    "decoder": {"Sequence", "ByteLevel", "Replace", "ByteFallback", "Fuse", "Strip", "Metaspace", "WordPiece"},
}  # fmt: skip


def _printable_bytes() -> dict[str, int]:
    """The alphabet of byte-level BPE: a visible character for each of the 256 bytes (Radford et al. 2019, section 2.2).

    A byte that prints as Latin-1 stands for itself, the others take the characters from U+0100 on, in order.
    """
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in visible]
    return {chr(byte): byte for byte in visible} | {chr(0x100 + n): byte for n, byte in enumerate(hidden)}


BYTE_OF = _printable_bytes()


@contextmanager
def library(what: str) -> Iterator[None]:
    """The one boundary to the tokenizers library: its errors and panics become InputError.

    A panic of its Rust code is a BaseException; what stops the whole program passes through.
    """
    try:
        yield
    except (KeyboardInterrupt, SystemExit, GeneratorExit, InputError):
        raise
    except BaseException as error:
        raise InputError(f"{what}: {error}") from None


def require_text(text: object, what: str = "text") -> None:
    """Raise InputError unless `text` is valid Unicode; a lone surrogate is half a character and has no bytes."""
    if not isinstance(text, str):
        raise InputError(f"{what}: found {type(text).__name__}, wanted a string")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        found = f"U+{ord(text[error.start]):04X} at character {error.start}"
        raise InputError(f"{what} holds {found}, half of a surrogate pair; wanted valid Unicode") from None


def display(raw: bytes) -> str:
    """Bytes for the eye: their text, or where they are no whole text the bytes themselves. Example: "<E4 B8>"."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return f"<{raw.hex(' ').upper()}>"


@dataclass(frozen=True)
class Control:
    """A token that structures a text and is never made of text. `hidden` ones are left out of decoded text."""

    text: str
    id: int
    hidden: bool
    swallows_left: bool = False
    swallows_right: bool = False


class Vocabulary:
    """What a checked `tokenizer.json` says: ids, bytes, control tokens, merges, encoder.

    Raises InputError where the file is malformed, has a component outside the closed list, an id that is negative,
    used twice or above four million, or a pattern that could search for ever. Padding and truncation settings are
    dropped, and refused where no model reads so many ids: one such setting can answer a word with fifty million ids.
    """

    def __init__(self, spec: Mapping[str, Any]) -> None:
        _check_padding(spec.get("padding"))
        self.spec: Spec = {**spec, "padding": None, "truncation": None}
        _check_components(self.spec)
        self._added = _added_tokens(self.spec)
        self.ids: dict[str, int] = _checked_ids(self.spec["model"], self._added)
        self.controls: dict[str, Control] = {
            token["content"]: Control(
                token["content"], token["id"], bool(token.get("special")), bool(token.get("lstrip")),
                bool(token.get("rstrip")),
            )
            for token in self._added
            # runs of blanks are added by some vocabularies as ordinary text
            if token["content"].strip()
        }  # fmt: skip
        self.size = max(self.ids.values()) + 1
        kinds = {part["type"] for part in parts(self.spec.get("decoder"))}
        self.inside = _word_piece(self.spec["model"])
        if not kinds & ({"ByteLevel", "ByteFallback", "Metaspace"} if self.inside is None else {"WordPiece"}):
            raise InputError(
                f"tokenizer.json: the decoder is {sorted(kinds) or 'missing'}; wanted a byte-level one, or one with "
                "byte fallback; for a WordPiece model wanted WordPiece"
            )
        self.byte_level = "ByteLevel" in kinds
        plain = _without_controls(self.spec, self.controls)
        # in the order in which they are tried
        self.merges = [_pair(merge) for merge in _list(plain["model"].get("merges"), "merges")]
        with library("tokenizer.json"):
            self.encoder = Library.from_str(json.dumps(plain))
            self.encoder.encode("A walk 走 \N{FAMILY} 12\r\n", add_special_tokens=False)
        with library("tokenizer.json has a pattern that fails on a run of one character; simplify it"):
            for run in _runs(_patterns(self.spec)):
                self.encoder.encode(run, add_special_tokens=False)

    @cached_property
    def table(self) -> list[bytes]:
        """The bytes of every id; an id that stands for nothing has none."""
        table = [b""] * self.size
        added = {token["content"] for token in self._added}
        for piece, number in self.ids.items():
            table[number] = piece.encode() if piece in added else self.bytes_of(piece)
        return table

    def bytes_of(self, piece: str) -> bytes:
        """The bytes that an ordinary piece of this vocabulary stands for."""
        if self.inside is not None:
            return piece[len(self.inside) :].encode() if piece.startswith(self.inside) else f" {piece}".encode()
        if self.byte_level:
            known = all(character in BYTE_OF for character in piece)
            return bytes(BYTE_OF[character] for character in piece) if known else piece.encode()
        if re.fullmatch(r"<0x[0-9A-F]{2}>", piece):
            return bytes([int(piece[3:5], 16)])
        return piece.replace("▁", " ").encode()

    @cached_property
    def drops_first_space(self) -> bool:
        """Whether the decoder takes away the blank that stands before every text."""
        if self.inside is not None:
            return True
        for part in parts(self.spec.get("decoder")):
            if part["type"] == "Strip" and part.get("content") == " " and part.get("start") == 1:
                return True
            if part["type"] == "Metaspace":
                return part.get("prepend_scheme", "always") != "never"
        return False

    def template_adds(self) -> tuple[set[str], set[str]]:
        """Control tokens that the file's post-processor puts before and after one text."""
        before: set[str] = set()
        after: set[str] = set()
        for part in parts(self.spec.get("post_processor")):
            if part["type"] in ("BertProcessing", "RobertaProcessing"):
                before.add(_named(part, "cls"))
                after.add(_named(part, "sep"))
            place = before
            for item in _list(part.get("single"), "single"):
                token = item.get("SpecialToken") if isinstance(item, Mapping) else None
                if isinstance(item, Mapping) and "Sequence" in item:
                    place = after
                elif isinstance(token, Mapping) and isinstance(token.get("id"), str):
                    place.add(token["id"])
                else:
                    raise InputError(f"tokenizer.json: post_processor has {str(item)[:60]}, wanted a token or sequence")
        return before, after


def _list(value: Any, what: str) -> list[Any]:
    """A list that a file may leave out."""
    if value is not None and not isinstance(value, list):
        raise InputError(f"tokenizer.json: {what} is {type(value).__name__}, wanted a list")
    return value or []


def parts(component: Any, depth: int = 0) -> Iterator[Spec]:
    """A component and everything nested inside its sequences."""
    if component is None:
        return
    if depth > _MAX_DEPTH:
        raise InputError(f"tokenizer.json: components are nested more than {_MAX_DEPTH} deep; write them flatter")
    if not isinstance(component, Mapping) or not isinstance(component.get("type"), str):
        raise InputError(f"tokenizer.json: found a component {str(component)[:60]!r}, wanted an object with a type")
    yield dict(component)
    for key in ("normalizers", "pretokenizers", "processors", "decoders"):
        for inner in _list(component.get(key), key):
            yield from parts(inner, depth + 1)


def _check_components(spec: Spec) -> None:
    for place, known in _COMPONENTS.items():
        growth = 1
        for number, part in enumerate(parts(spec.get(place))):
            if number >= _MAX_PARTS:
                raise InputError(f"tokenizer.json: {place} has more than {_MAX_PARTS} parts; use fewer")
            if part["type"] not in known:
                raise unknown(f"{place} in tokenizer.json:", part["type"], known)
            inserted = f"{part.get('content') or ''}{part.get('prepend') or ''}"
            if len(inserted) > _MAX_INSERTED:
                raise InputError(f"tokenizer.json: {place} inserts {len(inserted)} characters, at most {_MAX_INSERTED}")
            growth *= _growth(part)
        if growth > _MAX_GROWTH:
            raise InputError(f"tokenizer.json: {place} may make one character {growth}, at most {_MAX_GROWTH}")
    for pattern in _patterns(spec):
        try:
            vet(pattern)
        except InputError as error:
            raise InputError(f"tokenizer.json: {error}") from None
    if not isinstance(spec.get("model"), Mapping):
        raise InputError("tokenizer.json has no model; wanted a BPE model")


def _growth(part: Spec) -> int:
    """How many characters a replacement makes of one."""
    if part["type"] != "Replace":
        return 1
    pattern = part.get("pattern")
    text = pattern.get("String") if isinstance(pattern, Mapping) else pattern
    replaced = len(text) if isinstance(text, str) else 1
    # an empty pattern, or one that matches nothing, inserts between characters
    return max(1, -(-len(str(part.get("content") or "")) // max(1, replaced)))


def _patterns(spec: Spec) -> list[str]:
    """The regular expressions of all components."""
    found = (part.get("pattern") for place in _COMPONENTS for part in parts(spec.get(place)))
    patterns = [pattern["Regex"] for pattern in found if isinstance(pattern, Mapping) and "Regex" in pattern]
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise InputError(f"tokenizer.json: found the pattern {str(pattern)[:60]}, wanted a string")
    return patterns


def _runs(patterns: list[str]) -> Iterator[str]:
    """One character again and again and then another, for the characters that patterns name, and for some of each
    kind; nothing where there is no pattern."""
    named = {character for pattern in patterns for character in pattern if character.isalnum()}
    for character in [*_RUNS, *sorted(named)[:64]] if patterns else ():
        yield character * _RUN + ("b" if character in "!\n " else "!")


def _check_padding(padding: Any) -> None:
    """Raise InputError for a length that no model reads."""
    strategy = padding.get("strategy") if isinstance(padding, Mapping) else None
    length = strategy.get("Fixed") if isinstance(strategy, Mapping) else None
    if length is not None and not (type(length) is int and 0 <= length <= MOST_POSITIONS):
        raise InputError(
            f"tokenizer.json pads every text to {str(length)[:30]} ids, wanted at most {MOST_POSITIONS:,}; set its "
            "padding to null"
        )


def _added_tokens(spec: Spec) -> list[Spec]:
    added = _list(spec.get("added_tokens"), "added_tokens")
    for token in added:
        if not isinstance(token, Mapping) or not isinstance(token.get("content"), str) or not token["content"]:
            raise InputError(f"tokenizer.json: added token {str(token)[:80]} has no content")
    return list(added)


def _checked_ids(model: Mapping[str, Any], added: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """All pieces with their ids: each a whole number from 0 to the limit, none used twice."""
    vocabulary = model.get("vocab")
    if not isinstance(vocabulary, Mapping):
        raise InputError("tokenizer.json has no vocabulary; wanted an object of pieces and ids")
    ids = dict(vocabulary)
    for token in added:
        if ids.setdefault(token["content"], token.get("id")) != token.get("id"):
            raise InputError(
                f"tokenizer.json gives {token['content']!r} two ids: {ids[token['content']]} and {token.get('id')}"
            )
    pieces: dict[int, str] = {}
    for piece, number in ids.items():
        if type(number) is not int or not 0 <= number < MAX_ID:
            raise InputError(f"tokenizer.json: {piece!r} has the id {number!r}; wanted a whole number below {MAX_ID:,}")
        if number in pieces:
            raise InputError(f"tokenizer.json gives the id {number} to both {pieces[number]!r} and {piece!r}")
        pieces[number] = piece
    if not pieces:
        raise InputError("the vocabulary of tokenizer.json is empty")
    return ids


def _word_piece(model: Mapping[str, Any]) -> str | None:
    """What stands before a piece inside a word (Wu et al. 2016), or None where the model is no WordPiece.

    Words longer than the model's limit are unknown as a whole; finding the pieces of one takes time that grows with the
    cube of its length.
    """
    if model.get("type") != "WordPiece":
        return None
    inside, longest = model.get("continuing_subword_prefix", "##"), model.get("max_input_chars_per_word", 100)
    if not isinstance(inside, str) or not inside:
        raise InputError(f"tokenizer.json: continuing_subword_prefix is {str(inside)[:40]!r}, wanted a string like ##")
    if type(longest) is not int or not 0 < longest <= _MAX_WORD:
        raise InputError(
            f"tokenizer.json: max_input_chars_per_word is {str(longest)[:40]}, wanted a number from 1 to {_MAX_WORD}"
        )
    return inside


def _named(part: Spec, role: str) -> str:
    """The token of a role in the processors of BERT and RoBERTa, which are pairs of text and id."""
    pair = part.get(role)
    if not isinstance(pair, list) or len(pair) != 2 or not isinstance(pair[0], str):
        raise InputError(f"tokenizer.json: post_processor has {role}={str(pair)[:60]}, wanted a token and its id")
    return pair[0]


def _pair(merge: str | Sequence[str]) -> tuple[str, str]:
    """A merge, written as two strings or as one with a blank between."""
    parts = merge.split(" ") if isinstance(merge, str) else list(merge) if isinstance(merge, (list, tuple)) else []
    if len(parts) != 2 or not all(isinstance(part, str) for part in parts):
        raise InputError(f"tokenizer.json: merge {str(merge)[:60]!r} is not a pair of pieces")
    return parts[0], parts[1]


def _without_controls(spec: Spec, controls: Iterable[str]) -> Spec:
    """The spec of an encoder for plain text. Dropout goes too: one text has one encoding."""
    model = dict(spec["model"])
    banned = {text for text in controls if text in model["vocab"] and text != model.get("unk_token")}
    model["vocab"] = {piece: number for piece, number in model["vocab"].items() if piece not in banned}
    model["dropout"] = None
    if banned:
        merges = [(_pair(merge), merge) for merge in _list(model.get("merges"), "merges")]
        model["merges"] = [m for (a, b), m in merges if not banned & {a, b, a + b}]
    textual = [token for token in spec.get("added_tokens") or [] if not token["content"].strip()]
    # the library numbers an added token anew unless the model has it
    model["vocab"] |= {token["content"]: token["id"] for token in textual}
    return {**spec, "model": model, "added_tokens": textual, "post_processor": None}
