"""A row -> its document: where its text is, what kind of text that is, and what else it tells about itself."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from pathlib import PurePosixPath
from typing import Any

from ...config import InputError
from ...config.data import LimitOptions
from .code import check_code, language_of
from .opening import MEGABYTE, Refused, decode
from .piece import Broken, Piece, Raw

# keys that hold the text of a row, the first that is there; the last holds a page
TEXTS = ("text", "content", "html")
# what a document remembers of its row -> how others call it
KNOWN = {
    "url": ("url", "uri", "source_url", "link"),
    "title": ("title",),
    "language": ("language", "lang"),
    "date": ("date", "timestamp", "created", "published"),
    "author": ("author", "authors"),
    "licence": ("licence", "license"),
    "path": ("path", "file_path", "filename", "max_stars_repo_path", "repo_path"),
}
REMEMBERED = 1000  # characters of each
_PAGE = re.compile(r"\s*(?:<\?xml[^>]*>\s*)?<(?:!doctype html|html|head|body)\b", re.IGNORECASE)
_JATS = re.compile(r"\s*(?:<\?xml[^>]*>\s*)?(?:<!DOCTYPE article[^>]*>\s*)?<article[\s>]")
_LATEX = re.compile(
    r"\\(?:documentclass|begin|section|subsection|chapter|label|ref|eqref|cite[pt]?|footnote|emph|textbf|item)\b"
)


def raw_of(record: Any, number: int, size: int, piece: Piece, limits: LimitOptions) -> Raw | Broken:
    """The document of one row, or why it is none. size: bytes of the row as stored, 0 where unknown."""
    try:
        text, meta = _document(record, piece, limits)
        text = whole(text, meta)
    except Refused as refused:
        return Broken(refused.reason, number, refused.detail, size)
    except InputError as error:  # records of another shape
        return Broken("shape", number, str(error)[:500], size)
    except RecursionError:
        return Broken("deep", number, "nested too deeply", size)
    except ImportError:
        raise
    except Exception as error:  # whatever a stranger's row can break, it breaks for itself and not for the file
        return Broken("crash", number, f"{type(error).__name__}: {str(error)[:300]}", size)
    if not text.strip():
        return Broken("empty", number, "its text is blank", size)
    if len(text) > limits.document_mb * MEGABYTE:
        return Broken("long", number, f"{len(text):,} characters; limits.document_mb={limits.document_mb:g}", size)
    return Raw(text, number, meta)


def whole(text: str, meta: dict[str, Any]) -> str:
    """The text with halves of surrogate pairs, which JSON can smuggle in, as U+FFFD, and a note of them in `meta`."""
    try:
        text.encode()
    except UnicodeEncodeError:
        meta["encoding"] = "utf-8 with errors"
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def wanted_columns(names: Collection[str], piece: Piece) -> list[str] | None:
    """The columns of a table that `raw_of` looks at; None: all of them."""
    texts = piece.fields or (() if piece.kind == "dialogues" else TEXTS)
    if not any(name in names for name in texts):
        return None
    return [name for name in names if name in texts or any(name in others for others in KNOWN.values())]


def _document(record: Any, piece: Piece, limits: LimitOptions) -> tuple[str, dict[str, Any]]:
    if not isinstance(record, Mapping):
        raise Refused("shape", f'found {type(record).__name__}, wanted an object such as {{"text": ...}}')
    meta = known(record)
    if piece.fields:
        return _converted(_named(record, piece), "", meta, piece, limits)
    if piece.kind == "dialogues" and (talk := _talk(record)):
        return talk[0], meta | talk[1]
    for key in TEXTS:
        if isinstance(record.get(key), (str, bytes)):
            return _converted(record[key], key, meta, piece, limits)
    if piece.kind != "dialogues" and (talk := _talk(record)):
        return talk[0], meta | talk[1]
    keys = ", ".join(map(str, record))[:200] or "none"
    raise Refused("shape", f"found the keys {keys}, wanted {', '.join(TEXTS)} or those named by fields")


def _talk(record: Mapping[str, Any]) -> tuple[str, dict[str, Any]] | None:
    from .talks import text_of_talk

    return text_of_talk(dict(record))


def _named(record: Mapping[str, Any], piece: Piece) -> str:
    """What stands under the keys that the user named, a blank line between them; some may be missing, not all."""
    found = [record[key] for key in piece.fields if record.get(key) is not None]
    if not found:
        keys = ", ".join(map(str, record))[:200] or "none"
        raise Refused("shape", f"found the keys {keys}, wanted {', '.join(piece.fields)}")
    if wrong := [value for value in found if not isinstance(value, str)]:
        raise Refused("shape", f"found {type(wrong[0]).__name__} under {', '.join(piece.fields)}, wanted strings")
    return "\n\n".join(found)


def known(record: Mapping[str, Any]) -> dict[str, Any]:
    """What a row tells about itself, as far as documents remember it."""
    meta: dict[str, Any] = {}
    for ours, names in KNOWN.items():
        for name in names:
            value = record.get(name)
            if isinstance(value, list) and value and all(isinstance(part, str) for part in value):
                value = ", ".join(value)
            if isinstance(value, (str, int, float)) and not isinstance(value, bool) and value != "":
                meta[ours] = whole(value[:REMEMBERED], {}) if isinstance(value, str) else value
                break
    return meta


def _converted(
    text: str | bytes, key: str, meta: dict[str, Any], piece: Piece, limits: LimitOptions
) -> tuple[str, dict[str, Any]]:
    if key == "html" or (piece.kind == "web" and _is_page(text)):
        from .pages import text_of_page

        found, more = text_of_page(text, limits, url=str(meta.get("url", "")))
        return found, meta | more
    if isinstance(text, bytes):
        text, meta["encoding"] = decode(text)
    if convert := CONVERT.get(piece.kind):
        found, more = convert(text, meta)
        return found, meta | more
    return text, meta


def _is_page(text: str | bytes) -> bool:
    start = text[:1000]
    return bool(_PAGE.match(start.decode("latin-1") if isinstance(start, bytes) else start))


def _paper(text: str, meta: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """LaTeX, JATS and Markdown by the suffix of the path if there is one, else by what they look like."""
    suffix = PurePosixPath(str(meta.get("path", ""))).suffix.lower()
    if suffix in (".md", ".markdown"):
        from .markdown import text_of_markdown

        return text_of_markdown(text)
    if suffix in (".xml", ".nxml") or _JATS.match(text[:2000]):
        from .jats import text_of_jats

        return text_of_jats(text.encode("utf-8", "replace"))
    if suffix == ".tex" or looks_like_latex(text):
        from .latex import text_of_latex

        return text_of_latex(text)
    return text, {}


def looks_like_latex(text: str) -> bool:
    """Whether it begins a LaTeX document or has a command of one in every 500 characters, and three at least."""
    if "\\documentclass" in text[:5000] or "\\begin{document}" in text:
        return True
    found = len(_LATEX.findall(text))
    return found >= 3 and found * 500 >= len(text)


def _code(text: str, meta: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    check_code(text)
    name = language_of(str(meta.get("path", "")))
    return text, {"programming_language": name} if name else {}


CONVERT: dict[str, Callable[[str, Mapping[str, Any]], tuple[str, dict[str, Any]]]] = {"papers": _paper, "code": _code}
