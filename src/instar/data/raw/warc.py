"""Archives of the web (ISO 28500): .warc and .wet as Common Crawl, Heritrix, wget and browsers write them, by warcio.

`read_warc(stream, limits)` takes the file as it is stored, packed by gzip or not, so that it can go on behind a damaged
member. Documents are the pages of its answers, its resources and its conversions; every other answer is counted as
`Broken`. Requests, metadata and revisits, which hold no page of their own, are passed over. Numbers count records of
all kinds from 1.
"""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

from ...config.data import LimitOptions
from .members import HEADERS, MAGIC, Records, members
from .opening import MEGABYTE, Refused, decode
from .pages import text_of_page
from .piece import Broken, Raw

__all__ = ["read_warc"]

BLOCK = 1 << 16
PAGES = frozenset({"text/html", "application/xhtml+xml"})
VAGUE = frozenset({"", "application/octet-stream", "unknown/unknown"})
PAGE_START = re.compile(
    rb"\s*(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)?<(?:!doctype html|html)\b", re.I | re.S
)
CHARSET = re.compile(r"""charset\s*=\s*["']?\s*([\w.:-]+)""", re.IGNORECASE)


class Content(NamedTuple):
    """What a record holds: its bytes, the type and encoding that are said of them, and the HTTP status, 0 for none."""

    data: bytes
    mime: str
    charset: str
    status: int


def read_warc(stream: BinaryIO, limits: LimitOptions) -> Iterator[Raw | Broken]:
    """Every page and every text of an archive, and what could not be read. Raises ImportError without warcio."""
    from warcio.statusandheaders import StatusAndHeadersParser

    parser = StatusAndHeadersParser(["WARC/"], verify=False)
    source, number, lost = Records(members(stream, limits)), 0, 0
    while True:
        number += 1
        size = 0
        try:
            block = source.headers()
            if source.passed:
                lost, source.passed = source.passed, 0
                yield Broken("archive", number, f"{lost:,} bytes before it belong to no record", lost)
            if not block:
                break
            headers = parser.parse(io.BytesIO(block))
            size = _length(headers)
            if _wanted(headers):
                yield _document(_content(source, size, headers, limits), headers, number, limits)
            else:
                _skip(source, size, size)
        except Refused as refused:
            yield Broken(refused.reason, number, refused.detail, size)
    if number == 1 and not lost:
        yield Broken("empty", number, "no record in it")


def _skip(source: Records, rest: int, size: int) -> None:
    if source.skip(rest) < rest:
        raise Refused("truncated", f"a record of {size:,} bytes ends early")


def _length(headers: Any) -> int:
    said = (headers.get_header("Content-Length") or "").strip()
    if not said.isascii() or not said.isdigit():
        raise Refused("archive", f"a record without a length: Content-Length is {said[:50]!r}")
    return int(said[:18])


def _wanted(headers: Any) -> bool:
    """Whether a record can hold a document: an answer, or a file or a text as such."""
    kind = (headers.get_header("WARC-Type") or "").strip().lower()
    mime = _mime(headers.get_header("Content-Type"))
    if kind == "response":
        return mime in {"application/http", "text/html", "application/xhtml+xml", ""}  # else DNS and the like
    return kind in {"resource", "conversion"} and (mime in PAGES or mime == "text/plain")


def _content(source: Records, size: int, headers: Any, limits: LimitOptions) -> Content:
    """Raises Refused; what the record holds has been read past in any case."""
    from warcio.statusandheaders import StatusAndHeadersParser

    most = int(limits.document_mb * MEGABYTE)
    block = source.read(min(size, most + HEADERS))
    rest = size - len(block)
    _skip(source, rest, size)
    source.end()  # in its member still: damage that its checksum tells shows before the page is taken
    if rest:
        raise Refused("long", f"{size:,} bytes; limits.document_mb={limits.document_mb:g}")
    said = headers.get_header("Content-Type") or ""
    if _mime(said) not in {"application/http", ""} or not block.startswith(b"HTTP/"):
        return Content(block, _mime(said), _charset(said), 0)
    body = io.BytesIO(block)
    try:
        answer = StatusAndHeadersParser(["HTTP/"], verify=False).parse(body)
    except EOFError:
        raise Refused("empty", "an answer without a header") from None
    status = int(code) if (code := answer.get_statuscode()).isascii() and code.isdigit() else 0
    said = answer.get_header("Content-Type") or headers.get_header("WARC-Identified-Payload-Type") or ""
    if _mime(said) not in PAGES | VAGUE:
        return Content(b"", _mime(said), "", status)  # not unpacked: nobody reads it
    data = _unpacked(_joined(body, answer, most), (answer.get_header("Content-Encoding") or "").strip().lower(), most)
    if _mime(said) in VAGUE and PAGE_START.match(data[:BLOCK]):
        return Content(data, "text/html", _charset(said), status)
    return Content(data, _mime(said), _charset(said), status)


def _document(content: Content, headers: Any, number: int, limits: LimitOptions) -> Raw:
    """Raises Refused."""
    if content.status and not 200 <= content.status < 300:
        raise Refused("status", f"HTTP status {content.status}, wanted 200")
    url = (headers.get_header("WARC-Target-URI") or "").strip().removeprefix("<").removesuffix(">")
    date, cut = headers.get_header("WARC-Date"), headers.get_header("WARC-Truncated")
    known = {"url": url, "crawled": date, "truncated": cut}
    if content.mime in PAGES:
        text, meta = text_of_page(content.data, limits, url, content.charset)
    elif content.mime == "text/plain" and not content.status:
        text, encoding = decode(content.data, content.charset)
        meta = {"encoding": encoding}
    else:
        raise Refused("unknown", f"{content.mime or 'content of no known type'}, wanted an HTML page")
    if not text.strip():
        raise Refused("empty", "no text in it")
    return Raw(text, number, meta | {name: value for name, value in known.items() if value})


def _mime(said: str | None) -> str:
    return (said or "").partition(";")[0].strip().lower()


def _charset(said: str) -> str:
    found = CHARSET.search(said)
    return found[1] if found else ""


def _joined(body: io.BytesIO, answer: Any, most: int) -> bytes:
    """The rest of an answer, its chunks joined; some archives keep the header and have them joined already."""
    from warcio.bufferedreaders import ChunkedDataReader

    if (answer.get_header("Transfer-Encoding") or "").strip().lower() == "chunked":
        return bytes(ChunkedDataReader(body).read(most + 1))
    return body.read()


def _unpacked(data: bytes, encoding: str, most: int) -> bytes:
    """What a Content-Encoding packed; some archives keep the header and have it unpacked already."""
    if encoding in {"gzip", "x-gzip"} and data.startswith(MAGIC):
        data = _inflated(data, most, 31)
    elif encoding == "deflate" and not data.lstrip().startswith(b"<"):
        zlib_header = data[:1] == b"\x78" and len(data) > 1 and int.from_bytes(data[:2], "big") % 31 == 0
        data = _inflated(data, most, 15 if zlib_header else -15)
    elif encoding not in {"", "identity", "gzip", "x-gzip", "deflate"} and not data.lstrip().startswith(b"<"):
        raise Refused("compressed", f"Content-Encoding {encoding[:30]}, wanted gzip, deflate or none")
    if len(data) > most:
        raise Refused("long", f"more than {most:,} bytes unpacked, the most of limits.document_mb")
    return data


def _inflated(data: bytes, most: int, window: int) -> bytes:
    unpacker = zlib.decompressobj(window)
    try:
        made = unpacker.decompress(data, most + 1)
    except zlib.error as error:
        raise Refused("compressed", f"its Content-Encoding is damaged: {error}") from None
    if not unpacker.eof and len(made) <= most:
        raise Refused("truncated", f"its Content-Encoding ends in the middle, after {len(made):,} bytes")
    return made
