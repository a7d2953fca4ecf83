"""EPUB -> text: container.xml names the package, the package its spine, the spine the pages in order of reading.

Left out: covers, title pages, tables of contents, imprints and colophons, by what the book says of its parts
(epub:type, the guide) or else by the names of its files. Notes stay, their numbers in the text do not; of ruby the
readings go. https://www.w3.org/TR/epub-33/
"""

from __future__ import annotations

import html.entities
import lzma
import posixpath
import re
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from ...config.data import LimitOptions
from .decoding import decode
from .opening import MEGABYTE, open_file, packing_of, room_of
from .piece import Broken, Piece, Raw, Refused

CONTAINER, ENCRYPTION = "META-INF/container.xml", "META-INF/encryption.xml"
PAGES = ("application/xhtml+xml", "text/html", "application/x-dtbook+xml")
# parts of a book that are not its text: values of epub:type and of the guide, and names of files
PARTS = frozenset(
    "cover titlepage title-page halftitlepage imprint colophon copyright-page copyright toc landmarks page-list loi "
    "lot index nav uncopyright halftitle contents".split()
)
IDS = frozenset({"pg-header", "pg-footer", "pg-machine-header"})  # Project Gutenberg's own pages
SKIPPED = frozenset("head script style nav svg img object iframe template rt rp noscript".split())
BLOCKS = frozenset(
    "p div h1 h2 h3 h4 h5 h6 li dt dd ol ul dl section article aside header footer blockquote pre table caption tr hr "
    "figure figcaption hgroup main body address details summary center title".split()
)
CELLS = frozenset({"td", "th"})
EPUB_TYPE = "{http://www.idpf.org/2007/ops}type"
# blanks but for the break, which stands as \v; the typesetter's narrow and unbreakable ones are blanks in plain text
BLANK = re.compile(r"[ \t\r\n\f\u00a0\u2009\u200a\u202f]+")
UNSEEN = dict.fromkeys(map(ord, "\u00ad\u200b\u2060\ufeff"))  # hints where a line may break
MARKS = {"br": "\v", "hr": "* * *"}  # a line between scenes is part of the story
ENTITY = re.compile(r"&(?!(?:amp|lt|gt|quot|apos);)([A-Za-z][A-Za-z0-9]{1,31};)")


def read_epub(piece: Piece, limits: LimitOptions) -> Iterator[Raw | Broken]:
    """The one document of a book, a paragraph after the other; and a Broken for each page that cannot be read."""
    with open_file(piece.address) as stream:
        head = stream.peek(10)[:10]
        if packing_of(head) or not head.startswith(b"PK"):
            raise Refused("archive", f"begins with the bytes {head[:6].hex(' ')}, wanted a zip archive")
        try:
            with zipfile.ZipFile(stream) as archive:
                yield from _Book(archive, limits, piece.size).read()
        except (zipfile.BadZipFile, ValueError, EOFError) as error:
            raise Refused("archive", f"not a readable zip archive: {error}") from None


class _Book:
    """An open archive, and how much of it may still be unpacked."""

    def __init__(self, archive: zipfile.ZipFile, limits: LimitOptions, size: int) -> None:
        self.archive, self.limits = archive, limits
        self.room = int(min(room_of(limits, size), limits.text_mb * MEGABYTE))
        self.taken = 0

    def read(self) -> Iterator[Raw | Broken]:
        folder, package = self._package()
        paragraphs: list[str] = []
        pages = self._spine(folder, package)
        for number, name in enumerate(pages, 1):
            try:
                paragraphs += paragraphs_of(self._bytes(name))
            except Refused as refused:
                if refused.reason == "expands":  # the rest would be as little worth
                    raise
                yield Broken(refused.reason, number, f"{name}: {refused.detail}")
        text = "\n\n".join(paragraphs)
        if not text:
            raise Refused("empty", f"no text on {len(pages)} pages")
        yield Raw(text, 1, _about(package))

    def _package(self) -> tuple[str, Any]:
        """The folder of the package, and its root element."""
        container = _xml(self._bytes(CONTAINER), CONTAINER)
        paths = [root.get("full-path") for root in container.iter("{*}rootfile") if root.get("full-path")]
        if not paths:
            raise Refused("archive", f"{CONTAINER} names no package, so that it is no EPUB")
        return posixpath.dirname(paths[0]), _xml(self._bytes(paths[0]), paths[0])

    def _spine(self, folder: str, package: Any) -> list[str]:
        """The names of the pages to be read, in order, each once."""
        items = {item.get("id"): item for item in package.iter("{*}item")}
        guide = {
            posixpath.normpath(posixpath.join(folder, unquote(entry.get("href", "").partition("#")[0])))
            for entry in package.iter("{*}reference")
            if entry.get("type", "").lower() in PARTS
        }
        names = []
        for entry in package.iter("{*}itemref"):
            item = items.get(entry.get("idref"))
            if item is None or item.get("media-type", PAGES[0]) not in PAGES or not item.get("href"):
                continue
            name = posixpath.normpath(posixpath.join(folder, unquote(item.get("href"))))
            stem = posixpath.splitext(posixpath.basename(name))[0].lower()
            if "nav" not in item.get("properties", "").split() and name not in guide and stem not in PARTS:
                names.append(name)
        sealed = self._sealed()
        if locked := [name for name in names if name in sealed]:
            raise Refused("archive", f"{len(locked)} of its {len(names)} pages are encrypted")
        return list(dict.fromkeys(names))

    def _sealed(self) -> set[str]:
        """What is encrypted: pages by who sells the book, or merely its fonts."""
        if ENCRYPTION not in self.archive.namelist():
            return set()
        root = _xml(self._bytes(ENCRYPTION), ENCRYPTION)
        return {unquote(entry.get("URI", "")) for entry in root.iter("{*}CipherReference")}

    def _bytes(self, name: str) -> bytes:
        """A member, whatever size it claims to have."""
        most = int(self.limits.document_mb * MEGABYTE)
        try:
            with self.archive.open(name) as stream:
                data = stream.read(min(most, self.room - self.taken) + 1)
        except KeyError:
            raise Refused("archive", f"there is no {name} in it") from None
        except (zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError) as error:  # RuntimeError: a password
            raise Refused("compressed", f"{name} cannot be unpacked: {error}") from None
        self.taken += len(data)
        if self.taken > self.room:
            raise Refused("expands", f"unpacks to more than {self.room:,} bytes; limits.expansion, limits.text_mb")
        if len(data) > most:
            raise Refused("long", f"more than {most:,} bytes; limits.document_mb={self.limits.document_mb:g}")
        return data


def paragraphs_of(page: bytes) -> list[str]:
    """The paragraphs of an XHTML page, headings among them. Raises Refused ("markup", "binary", "encoding")."""
    root = _page(page)
    body = next((element for element in root.iter("{*}body")), root)
    return [] if _left_out(body) else _blocks(body)


def _blocks(body: Any) -> list[str]:
    from lxml import etree

    blocks: list[str] = []
    line: list[str] = []

    def close() -> None:
        text = "\n".join(part.strip(" ") for part in BLANK.sub(" ", "".join(line).translate(UNSEEN)).split("\v"))
        if text := re.sub(r"\n{2,}", "\n", text).strip():
            blocks.append(text)
        line.clear()

    walker = etree.iterwalk(body, events=("start", "end", "comment", "pi"))
    for event, element in walker:
        # comments, instructions and entities that were not expanded have functions for tags
        name = element.tag.rpartition("}")[2].lower() if isinstance(element.tag, str) else ""
        if event == "start" and name:
            if name in BLOCKS:
                close()
            if name in SKIPPED or (element is not body and _left_out(element)):
                walker.skip_subtree()
                continue
            if name in MARKS:
                line.append(MARKS[name])
            line.append(element.text or "")
        elif event != "start":
            if name in BLOCKS:
                close()
            elif name in CELLS:
                line.append(" ")
            if element is not body:
                line.append(element.tail or "")
    close()
    return blocks


def _left_out(element: Any) -> bool:
    """Whether the book says that this is no text of it: a cover, a title page, the number of a note."""
    kinds = set((element.get("epub:type") or element.get(EPUB_TYPE) or "").lower().split())
    return bool(
        kinds & PARTS
        or kinds & {"noteref", "pagebreak", "backlink"}
        or element.get("role") in ("doc-noteref", "doc-pagebreak", "doc-backlink", "doc-toc", "doc-cover")
        or element.get("id") in IDS
        or "pg-boilerplate" in element.get("class", "")
    )


def _page(data: bytes) -> Any:
    """A page as XML, which XHTML is, or else as HTML, which it often is instead; no entity of its own is expanded."""
    from lxml import etree

    said = re.search(rb"encoding=[\"']([\w.:-]+)|charset=[\"']?([\w.:-]+)", data[:1000])
    text, _ = decode(data, (said[1] or said[2]).decode() if said else "")
    text = ENTITY.sub(lambda match: html.entities.html5.get(match[1], match[0]), text)
    encoded = re.sub(r"^\s*<\?xml[^>]*\?>", "", text).encode()
    try:
        return etree.fromstring(encoded, _strict())
    except etree.XMLSyntaxError:
        pass
    parser = etree.HTMLParser(encoding="utf-8", no_network=True)
    try:
        root = etree.fromstring(encoded, parser)
    except etree.XMLSyntaxError as error:
        raise Refused("markup", " ".join(str(error).split())) from None
    if root is None:
        raise Refused("markup", "nothing in it is HTML")
    return root


def _xml(data: bytes, name: str) -> Any:
    from lxml import etree

    try:
        return etree.fromstring(data, _strict())
    except etree.XMLSyntaxError as error:
        raise Refused("markup", f"{name}: {' '.join(str(error).split())}") from None


def _strict() -> Any:
    from lxml import etree

    return etree.XMLParser(encoding="utf-8", resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)


def _about(package: Any) -> dict[str, Any]:
    """What the package says of the book. https://www.w3.org/TR/epub-33/#sec-opf-dcmes"""
    found: dict[str, Any] = {}
    for ours, name in (("title", "title"), ("author", "creator"), ("language", "language"), ("date", "date")):
        values = [" ".join((entry.text or "").split()) for entry in package.iter(f"{{*}}{name}")]
        if values := list(filter(None, values)):
            found[ours] = (", ".join(values) if ours == "author" else values[0])[:500]
    if "language" in found:
        found["language"] = found["language"].partition("-")[0].lower()
    return found
