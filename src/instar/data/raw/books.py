"""Plain texts and books: what lies in .txt files. Lines that say <|endoftext|> divide a file into documents."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from ...config.data import LimitOptions
from .opening import MEGABYTE, Refused, decode, open_raw
from .piece import Broken, Piece, Raw

SEPARATOR = b"<|endoftext|>"
# how Project Gutenberg marks where a book starts and ends; the last two stand in books before 2000
_START = re.compile(
    r"\*\*\* ?START OF (?:THE|THIS) PROJECT GUTENBERG E(?:BOOK|TEXT)[^*]{0,500}\*\*\*"
    r"|\*END ?\*? ?THE SMALL PRINT![^\n]*\n",
    re.IGNORECASE,
)
_END = re.compile(
    r"^[ \t]*(?:\*\*\* ?END OF (?:THE|THIS) PROJECT GUTENBERG E(?:BOOK|TEXT)"
    r"|End of (?:the )?Project Gutenberg(?:'s|’s)? )",
    re.IGNORECASE | re.MULTILINE,
)
_CREDITS = re.compile(
    r"\s*(?:(?:Produced|(?:E-?text|This e-?(?:text|book) was) (?:prepared|produced)|Transcribed|Scanned) (?:by|from)\b"
    r"|HTML version by\b)[^\n]*(?:\n[^\n]+)*",
    re.IGNORECASE,
)
_HEADER = {"title": "Title", "author": "Author", "date": "Release Date"}
HEADER = 50_000  # characters within which a book has started
TEXT_ENDS = re.compile(r"\r\n?")


def read_text(
    piece: Piece, limits: LimitOptions, clean: Callable[[str], tuple[str, dict[str, Any]]] = lambda text: (text, {})
) -> Iterator[Raw | Broken]:
    """The documents of a text file. clean: text -> text, and what it told about itself."""
    encoding, number = "", 0
    with open_raw(piece.address, limits) as stream:
        for number, found in enumerate(_divided(stream, limits), 1):
            if isinstance(found, Refused):
                yield Broken(found.reason, number, found.detail)
                continue
            try:
                text, name = decode(found, encoding)
            except Refused as refused:
                yield Broken(refused.reason, number, refused.detail, len(found))
                continue
            encoding = encoding or name  # a file is written in one, and a short part of it tells little
            text, meta = clean(TEXT_ENDS.sub("\n", text))
            yield Raw(text.strip("\n"), number, {"encoding": name, **meta})
    if not number:
        yield Broken("empty", 1, f"{piece.size:,} bytes stored and no text in them", piece.size)


def read_book(piece: Piece, limits: LimitOptions) -> Iterator[Raw | Broken]:
    """As `read_text`, without the licence of Project Gutenberg."""
    yield from read_text(piece, limits, without_licence)


def without_licence(text: str) -> tuple[str, dict[str, Any]]:
    """A book of Project Gutenberg between its header and its licence, and title and author from the header; any other
    text as it is."""
    start = _START.search(text, 0, HEADER)
    if not start:
        return text, {}
    header = text[: start.start()]
    meta = {
        name: match[1].strip()
        for name, said in _HEADER.items()
        if (match := re.search(rf"^{said}:[ \t]*([^\n\[]+)", header, re.MULTILINE))
    }
    end = _END.search(text, start.end())
    body = text[start.end() : end.start() if end else len(text)]
    if credits := _CREDITS.match(body):
        body = body[credits.end() :]
    return body.strip(), meta | {"licence": "Project Gutenberg"}


def _divided(stream: BinaryIO, limits: LimitOptions) -> Iterator[bytes | Refused]:
    """What stands between lines that say <|endoftext|> and nothing else, without blank stretches. What passes a limit
    is read past without being kept."""
    kept, refused = bytearray(), None
    longest, most = int(limits.document_mb * MEGABYTE), int(limits.text_mb * MEGABYTE)
    begins = True
    while line := stream.readline(longest + 1):
        if begins and line.strip() == SEPARATOR:
            if refused or kept.strip():
                yield refused or bytes(kept)
            kept, refused = bytearray(), None
            continue
        begins = line.endswith(b"\n")
        if len(line) > longest and not begins:
            refused = refused or Refused(
                "long", f"a line of more than {longest:,} bytes; limits.document_mb={limits.document_mb:g}"
            )
        elif len(kept) + len(line) > most:
            refused = refused or Refused(
                "long", f"a text of more than {most:,} bytes; limits.text_mb={limits.text_mb:g}"
            )
        if refused:
            kept = bytearray()
        else:
            kept += line
    if refused or kept.strip():
        yield refused or bytes(kept)
