"""JATS, the XML in which journals archive their articles (https://jats.nlm.nih.gov): title, abstract, sections, tables.

What an article cites is left out of the text, the numbers by which it cites stay. The tree is walked without
recursion; entities, document types and networks are never followed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from html import unescape
from typing import Any

from ...config import InputError
from .piece import Refused
from .prose import Prose

# left out: what is no text, or stands in the meta data
SKIPPED = frozenset(
    "journal-meta article-meta front-stub ref-list object-id graphic inline-graphic media processing-meta "
    "related-article related-object alt-text long-desc journal-id author-notes xml contrib-group permissions "
    "floats-index index tfoot-rule custom-meta-group annotation".split()
)
BLOCKS = frozenset(
    "p list list-item table fig fig-group table-wrap table-wrap-foot sec disp-quote boxed-text verse-line fn def-item "
    "statement ack app app-group glossary notes bio supplementary-material sub-article response attrib speech "
    "verse-group fn-group abstract trans-abstract array".split()
)
# sections that may come without a title of their own
UNTITLED = {"abstract": "Abstract", "ack": "Acknowledgements"}
SECTIONS = frozenset({"sec", "ack", "app", "glossary", "notes", "abstract", "trans-abstract", "boxed-text"})
NOT_ABSTRACTS = frozenset({"graphical", "toc", "teaser", "web-summary", "key-points-graphic"})
_RAISED = str.maketrans("0123456789+-−–=()ni", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁻⁼⁽⁾ⁿⁱ")
_RAISABLE = re.compile(r"[0-9+\-−–=()ni]+")
_TEX = re.compile(r"\\begin\{document\}(.*?)\\end\{document\}", re.S)
_DATES = ("epub", "electronic", "ppub", "print", "pub", "collection")
# what libxml2 says -> why it is given up
_FAULTS = {"depth": "deep", "amplification": "expands", "Premature end": "truncated"}
_LEVELS = 6  # of headings


def text_of_jats(data: bytes) -> tuple[str, dict[str, Any]]:
    """The text of an article and what is known of it: title, author, journal, doi, date (ISO 8601, as exact as is
    given), licence, keywords, language, and how many works it cites (references).

    Raises Refused: "markup" for what is no XML, "truncated", "deep", "expands", "shape" for XML that holds no article,
    "empty".
    """
    root = _tree(data)
    articles = [root] if _name(root) == "article" else list(root.iterfind(".//{*}article"))
    # pages have articles too
    articles = [one for one in articles if _first(one, "front", "front-stub", "body") is not None]
    if not articles:
        raise Refused("shape", f"XML whose root is <{_name(root)[:60]}>, wanted a JATS <article> with front or body")
    read = [_article(article) for article in articles]
    text = "\n\n".join(text for text, _ in read if text)
    if not text:
        raise Refused("empty", "an article with neither title, abstract nor body")
    return text, read[0][1] | ({"articles": len(read)} if len(read) > 1 else {})


def _tree(data: bytes) -> Any:
    try:
        from lxml import etree
    except ImportError:
        raise InputError('papers in XML need lxml: pip install "instar[data]"') from None
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, remove_comments=True, remove_pis=True
    )
    try:
        return etree.fromstring(data, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        said = str(error)
        reason = next((reason for sign, reason in _FAULTS.items() if sign in said), "markup")
        if not data.rstrip(b"\0 \r\n\t").endswith(b">"):
            reason = "truncated"
        raise Refused(reason, said.partition("\n")[0][:200]) from None


def _name(element: Any) -> str:
    """The tag without its namespace."""
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def _article(article: Any) -> tuple[str, dict[str, Any]]:
    meta = _meta(article)
    page = _Page()
    if title := meta.get("title"):
        page.prose.paragraph(f"# {title}")
    front = _first(article, "front", "front-stub")
    for abstract in [] if front is None else front.iter("{*}abstract", "{*}trans-abstract"):
        if abstract.get("abstract-type") not in NOT_ABSTRACTS:
            page.walk(abstract)
    for part in article:
        if _name(part) not in ("front", "front-stub", ""):
            page.walk(part)
    return page.prose.text, meta


def _meta(article: Any) -> dict[str, Any]:
    front = _first(article, "front", "front-stub")
    if front is None:
        return {}
    journal = front.find(".//{*}journal-title")
    title = front.find(".//{*}title-group/{*}article-title")
    licence = front.find(".//{*}license")
    links = [] if licence is None else [value for key, value in licence.attrib.items() if key.endswith("href")]
    references = [] if licence is None else licence.iterfind(".//{*}license_ref")
    spelt = [*links, *map(_line, references), "" if licence is None else _line(licence)]
    meta = {
        "title": "" if title is None else _line(title),
        "author": ", ".join(filter(None, map(_author, front.iterfind(".//{*}contrib")))),
        "journal": "" if journal is None else _line(journal),
        "doi": next((_line(i) for i in front.iterfind(".//{*}article-id") if i.get("pub-id-type") == "doi"), ""),
        "date": _date(front),
        "licence": next(filter(None, (text[:300] for text in spelt)), ""),
        "keywords": [_line(word) for word in front.iterfind(".//{*}kwd")],
        "language": (article.get("{http://www.w3.org/XML/1998/namespace}lang") or "")[:2].lower(),
        "references": sum(1 for _ in article.iterfind(".//{*}ref-list/{*}ref")),
    }
    return {key: value for key, value in meta.items() if value}


def _author(contributor: Any) -> str:
    """Given names and surname of somebody who wrote; the name of a group."""
    if contributor.get("contrib-type", "author") != "author":
        return ""
    name = contributor.find(".//{*}name")
    if name is None:
        group = _first(contributor, "collab", "string-name")
        return "" if group is None else _line(group)
    parts = [name.find(f"{{*}}{part}") for part in ("given-names", "surname", "suffix")]
    return " ".join(_line(part) for part in parts if part is not None)


def _date(front: Any) -> str:
    """The first publication that is dated best, as 2011-08-02, 2011-08 or 2011."""
    found = []
    for date in front.iterfind(".//{*}pub-date"):
        kind = date.get("pub-type") or date.get("publication-format") or date.get("date-type") or ""
        parts = [date.find(f"{{*}}{part}") for part in ("year", "month", "day")]
        numbers = [_line(part) for part in parts if part is not None]
        count = next((at for at, number in enumerate(numbers) if not number.isdecimal()), len(numbers))
        if count:
            order = _DATES.index(kind) if kind in _DATES else len(_DATES)
            found.append((-count, order, "-".join(f"{int(n):02d}" for n in numbers[:count])))
    return min(found)[2] if found else ""


def _first(element: Any, *names: str) -> Any:
    return next((child for child in element if _name(child) in names), None)


def _line(element: Any) -> str:
    """What an element says, on one line."""
    page = _Page()
    page.walk(element)
    return page.prose.line


class _Page:
    """An article under way: elements are begun and ended in their order, text falls between."""

    def __init__(self) -> None:
        self.pages = [Prose()]
        self.level = 1
        self.lists: list[int] = []  # of each the number of its last item, -1 without numbers
        self.begins: dict[str, Callable[[Any], bool | None]] = {
            "list": self.begin_list, "list-item": self.begin_item, "title": self.begin_apart, "label": self.label,
            "sup": self.begin_apart, "tex-math": self.tex, "math": self.mathml, "alternatives": self.alternatives,
            "preformat": self.code, "code": self.code, "break": self.blank, "term": self.begin_term, "td": self.cell,
            "th": self.cell, "disp-formula": self.displayed,
        }  # fmt: skip

    @property
    def prose(self) -> Prose:
        return self.pages[-1]

    def walk(self, root: Any) -> None:
        open_now: list[tuple[Any, Iterator[Any]]] = []
        if self.begin(root):
            open_now.append((root, iter(root)))
        while open_now:
            element, children = open_now[-1]
            child = next(children, None)
            if child is None:
                open_now.pop()
                self.end(element)
                if open_now:
                    self.prose.add(element.tail or "")
            elif isinstance(child.tag, str) and self.begin(child):
                open_now.append((child, iter(child)))
            else:
                if not isinstance(child.tag, str):
                    self.prose.add(_entity(child))
                self.prose.add(child.tail or "")

    def begin(self, element: Any) -> bool:
        """False where it is done with, and its children are not for us."""
        name = _name(element)
        if name in SKIPPED:
            return False
        if name == "tr":
            self.prose.end_line()
        elif name in BLOCKS and not _goes_on(element):
            self.end_paragraph()
        if name in SECTIONS:
            self.level += 1
            titled = _first(element, "title")
            if titled is None and name in UNTITLED:
                self.prose.paragraph(f"{'#' * min(self.level, _LEVELS)} {UNTITLED[name]}")
        handler = self.begins.get(name)
        if handler is not None and handler(element) is False:
            return False
        self.prose.add(element.text or "")
        return True

    def end(self, element: Any) -> None:
        name = _name(element)
        if name == "title":
            self.end_title(element)
        elif name == "sup":
            self.end_raised(element)
        elif name == "list":
            self.lists.pop()
        elif name == "term":
            self.prose.add(": ")
        if name in SECTIONS:
            self.level -= 1
        if name in BLOCKS:
            self.end_paragraph()
        elif name == "tr":
            self.prose.end_line()

    def end_paragraph(self) -> None:
        # items of a list stand close together
        self.prose.end_line() if self.lists else self.prose.end_paragraph()

    # ---- elements: a handler that gives back False has read the element whole

    def begin_apart(self, element: Any) -> None:
        self.pages.append(Prose())

    def end_title(self, element: Any) -> None:
        line = self.pages.pop().line
        around = element.getparent()
        if around is not None and _name(around) in SECTIONS and line:
            self.prose.paragraph(f"{'#' * min(self.level, _LEVELS)} {line}")
        elif line:
            self.prose.add(line if line[-1] in ".?!:。" else f"{line}. ")
            self.prose.add(" ")

    def end_raised(self, element: Any) -> None:
        """10<sup>-3</sup> is 10⁻³; a raised citation stands in brackets."""
        said = self.pages.pop().text_so_far
        line = said.strip()
        cites = any(_name(child) == "xref" and child.get("ref-type") == "bibr" for child in element)
        if cites and line:
            self.prose.add(f"[{line}]")
        elif _RAISABLE.fullmatch(line):
            self.prose.add(line.translate(_RAISED))
        elif line:
            self.prose.add(f"^{line}")
        if line != said:  # <sup>-1 </sup>
            self.prose.add(" ")

    def label(self, element: Any) -> bool | None:
        """Of figures, tables and notes; sections are known by their titles."""
        around = element.getparent()
        kind = "" if around is None else _name(around)
        if kind in SECTIONS or kind == "list-item":
            return False
        page = "".join(element.itertext()).strip()
        self.prose.add(f"{page}{'' if page[-1:] in '.:' else '.' if kind in ('fig', 'table-wrap') else ''} ")
        return False

    def begin_list(self, element: Any) -> None:
        numbered = element.get("list-type") in ("order", "ordered", "alpha-lower", "alpha-upper", "roman-lower")
        self.prose.end_line() if self.lists else self.prose.end_paragraph()
        self.lists.append(0 if numbered else -1)

    def begin_item(self, element: Any) -> None:
        number = self.lists[-1] if self.lists else -1
        if number >= 0:
            self.lists[-1] = number + 1
        self.prose.end_line()
        self.prose.keep("  " * min(max(len(self.lists), 1) - 1, 8) + (f"{number + 1}. " if number >= 0 else "- "))

    def begin_term(self, element: Any) -> None:
        self.end_paragraph()

    def cell(self, element: Any) -> None:
        if element.getprevious() is not None:
            self.prose.add(" | ")

    def blank(self, element: Any) -> None:
        self.prose.add(" ")

    def code(self, element: Any) -> bool:
        self.prose.code("".join(element.itertext()), element.get("language") or "")
        return False

    def displayed(self, element: Any) -> None:
        self.end_paragraph()

    def alternatives(self, element: Any) -> bool | None:
        """Of several forms of the same the one that reads best; a table as text has no other."""
        for wanted in ("tex-math", "math", "table", "textual-form"):
            if (chosen := _first(element, wanted)) is not None:
                for other in list(element):
                    if other is not chosen:
                        element.remove(other)
                return None
        return None

    def tex(self, element: Any) -> bool:
        source = "".join(element.itertext())
        found = _TEX.search(source)
        body = " ".join((found[1] if found else source).split()).strip("$ ")
        body = re.sub(r"^\\[(\[]|\\[)\]]$", "", body).strip()
        self.set_formula(element, body)
        return False

    def mathml(self, element: Any) -> bool:
        """MathML: the TeX that it carries along, or its letters and signs in their order."""
        notes = element.iterfind(".//{*}annotation")
        tex = [note.text or "" for note in notes if "tex" in (note.get("encoding") or "").lower()]
        if source := element.get("alttext") or "".join(tex[:1]):
            self.set_formula(element, " ".join(source.split()).strip("$ "))
        else:
            leaves = (
                " ".join((leaf.text or "").split()) for leaf in element.iter("{*}mi", "{*}mn", "{*}mo", "{*}mtext")
            )
            self.prose.add(" ".join(filter(None, leaves)))
        return False

    def set_formula(self, element: Any, body: str) -> None:
        shown = any(_name(around) == "disp-formula" for around in element.iterancestors())
        if body and shown:
            self.prose.paragraph(f"$${body}$$")
        elif body:
            self.prose.add(f"${body}$")


def _goes_on(paragraph: Any) -> bool:
    """Whether it follows the mark of a list, the sign of a note or the title of a caption on the same line."""
    around, before = paragraph.getparent(), paragraph.getprevious()
    if around is None or _name(paragraph) != "p" or _name(around) not in ("caption", "fn", "list-item", "def"):
        return False
    return before is None or _name(before) in ("label", "title")


def _entity(node: Any) -> str:
    """&alpha; of a document type that we never load is the letter; one that the file defines itself is left out."""
    name = getattr(node, "text", "") or ""
    meant = unescape(name)
    return "" if meant == name else meant
