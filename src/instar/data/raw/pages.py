"""A page of the web -> its main text, by trafilatura (https://aclanthology.org/2021.acl-demo.15/).

What stands around the text and readers' comments go; paragraphs, headings, lists, tables and code stay, with a blank
line between them. A page that hangs, blows up or crashes its parser takes a process of its own with it and nothing
else (`sandbox`); how deeply it is nested is counted before any parser sees it (`tags`).
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import asdict
from functools import cache
from importlib.util import find_spec
from typing import Any

from ...config.data import LimitOptions
from .opening import MEGABYTE, Refused, decode
from .sandbox import Sandbox
from .tags import deeper_than

__all__ = ["extract", "text_of_page"]

# what the second process imports; trafilatura imports lxml_html_clean, which lxml no longer brings along
NEEDED = ("cchardet", "lxml", "lxml_html_clean", "trafilatura")
CHARSET = re.compile(rb"""<(?:meta\b[^>]*?charset|\?xml\b[^>]*?encoding)\s*=\s*["']?\s*([\w.:-]+)""", re.IGNORECASE)
CHARSET_WITHIN = 4096  # bytes from the start in which a page says its encoding; browsers look at 1024
LANGUAGE = re.compile(r"\s*([A-Za-z]{2,3})(?![A-Za-z])")
DATE = re.compile(r"\d{4}-\d\d-\d\d")
DATES = frozenset({"article:published_time", "datepublished", "date", "dc.date", "pubdate", "publishdate"})
LONGEST = 1000  # characters of a title or an address
_SANDBOX = Sandbox(f"{__name__}:answer")


def text_of_page(
    html: bytes | str, limits: LimitOptions, url: str = "", encoding: str = ""
) -> tuple[str, dict[str, Any]]:
    """The main text and what the page tells of itself: encoding, title, language, date (of publication), url.

    encoding: what a header of the answer said. Raises Refused: "long", "deep", "slow", "markup", "empty", "crash",
    "expands" (more memory than a page may take), "binary", "encoding"; ImportError for a library that is not installed.
    """
    _check_installed()
    data = html.encode("utf-8", "replace") if isinstance(html, str) else html
    if len(data) > limits.document_mb * MEGABYTE:
        raise Refused("long", f"{len(data):,} bytes; limits.document_mb={limits.document_mb:g}")
    question = {"limits": asdict(limits), "url": url, "encoding": encoding, "text": isinstance(html, str)}
    found = _SANDBOX.ask(question, data, limits.seconds)
    return found["text"], found["meta"]


@cache
def _check_installed() -> None:
    for name in NEEDED:
        if find_spec(name) is None:
            raise ImportError(f"a page needs {name}", name=name)


def answer(question: dict[str, Any], data: bytes) -> dict[str, Any]:
    """`extract` as the second process is asked for it; an empty question imports and compiles what a page needs."""
    if not question:
        extract("<html><body><p>A page.</p></body></html>", LimitOptions())
        return {}
    html = data.decode() if question["text"] else data
    text, meta = extract(html, LimitOptions(**question["limits"]), question["url"], question["encoding"])
    return {"text": text, "meta": meta}


def extract(html: bytes | str, limits: LimitOptions, url: str = "", encoding: str = "") -> tuple[str, dict[str, Any]]:
    """As `text_of_page`, in this process: for pages that one trusts to do no harm."""
    from trafilatura import bare_extraction

    meta: dict[str, Any] = {}
    if isinstance(html, bytes):
        html, meta["encoding"] = decode(html, encoding or charset_of(html))
    if "<" not in html:
        raise Refused("markup", "no tag in it, wanted an HTML page")
    if deeper_than(html, limits.depth):
        raise Refused("deep", f"more than limits.depth={limits.depth} elements inside each other")
    tree = _parsed(html)
    meta.update(_told(tree, url))
    document: Any = bare_extraction(tree, url=url or None, include_comments=False, output_format="txt")
    text = unicodedata.normalize("NFC", layout(document.body)) if document is not None else ""
    if not text:
        raise Refused("empty", "no main text found")
    return text, meta


def charset_of(data: bytes) -> str:
    """The encoding that a page says it has; "" if it says none."""
    found = CHARSET.search(data[:CHARSET_WITHIN])
    return found[1].decode("ascii") if found else ""


def _parsed(html: str) -> Any:
    """The tree of a page. trafilatura's own parser drops, without a word, all that follows the 256th level or 10 MB of
    text in one place; limits say here what is too much."""
    from lxml.etree import ParserError
    from lxml.html import HTMLParser, document_fromstring
    from trafilatura.utils import repair_faulty_html

    parser = HTMLParser(
        collect_ids=False,
        default_doctype=False,
        encoding="utf-8",
        remove_comments=True,
        remove_pis=True,
        huge_tree=True,
    )
    try:
        return document_fromstring(repair_faulty_html(html, html[:50].lower()).encode("utf-8", "replace"), parser)
    except ParserError as error:
        raise Refused("markup", f"{error}; wanted an HTML page") from None


def layout(body: Any) -> str:
    """The blocks of trafilatura's tree, a blank line between them; code keeps its lines."""
    from lxml.etree import Element
    from trafilatura.xml import xmltotxt

    blocks = [body.text or ""]
    for block in list(body):
        tail, block.tail = block.tail, None
        if block.tag == "code":
            for line in block.iter("lb"):
                line.tail = "\n" + (line.tail or "")
            blocks.append("".join(block.itertext()).strip("\n"))
        else:
            alone = Element("body")
            alone.append(block)
            blocks.append(xmltotxt(alone, False))
        blocks.append(tail or "")
    return "\n\n".join(stripped for block in blocks if (stripped := _trimmed(block)))


def _trimmed(block: str) -> str:
    return "\n".join(line.rstrip() for line in block.splitlines()).strip("\n")


def _told(tree: Any, url: str) -> dict[str, Any]:
    """What the head of a page tells, where it does."""
    told: dict[str, str] = {}
    for element in tree.iter("meta"):
        name = element.get("property") or element.get("name") or element.get("itemprop") or element.get("http-equiv")
        if name and (content := (element.get("content") or "").strip()):
            told.setdefault(name.strip().lower(), content)
    title = told.get("og:title") or " ".join((tree.findtext(".//title") or "").split())
    language = LANGUAGE.match(tree.get("lang") or told.get("content-language") or told.get("og:locale") or "")
    date = next((found[0] for name, content in told.items() if name in DATES and (found := DATE.match(content))), "")
    canonical = next((link.get("href") for link in tree.iter("link") if link.get("rel") == "canonical"), "")
    address = url or canonical or told.get("og:url") or ""
    meta = {
        "title": title[:LONGEST], "language": language[1].lower() if language else "", "date": date,
        "url": address[:LONGEST] if address.startswith(("http://", "https://")) else "",
    }  # fmt: skip
    return {name: value for name, value in meta.items() if value}
