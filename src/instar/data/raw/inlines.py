"""Markdown within a paragraph: links, images, citations, roles and tags become words; code and formulas stay."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape

_PIECES = re.compile(r"`+|\$\$|\$")
_ROLE = re.compile(r"(?:\{([\w:+-]{1,30})\}|(?<![\w:]):([\w+-]{1,30}):)$")
_ROLE_TARGET = re.compile(r"^(.*?)[ \t\n]*<[^<>]*>$", re.S)

# all of them bounded, so that a thousand brackets without an end cost a thousand times the same
_TITLE = r"""(?:[ \t\n]+(?:"[^"]{0,500}"|'[^']{0,500}'|\([^()]{0,500}\)|=[\dx%]+))?"""
_PLACE = r"(?:<[^<>\n]{0,2000}>|[^()\s]{0,2000}(?:\([^()\s]{0,500}\)[^()\s]{0,500}){0,3})"
_URL = rf"\([ \t\n]*{_PLACE}{_TITLE}[ \t\n]*\)"
_TEXT = r"\[((?:[^\[\]\\]|\\.|\[[^\[\]]{0,300}\]){0,1000})\]"
_ATTRIBUTES = r"(?:\{[ ]*(?:[#.:]|[\w-]+=)[^{}\n]{0,300}\})?"
_BADGE = re.compile(
    r"shields\.io|badge|travis-ci|codecov|circleci|coveralls|appveyor|zenodo\.org|readthedocs|\bci\b", re.I
)
_LINKED_IMAGE = re.compile(rf"\[[ \n]*!\[([^\[\]]{{0,300}})\]({_URL})[ \n]*\]{_URL}{_ATTRIBUTES}")
_IMAGE = re.compile(rf"!{_TEXT}({_URL}){_ATTRIBUTES}")
_LINK = re.compile(rf"{_TEXT}{_URL}{_ATTRIBUTES}")
_REFERENCE = re.compile(rf"!?{_TEXT}[ ]?\[([^\[\]\n]{{0,200}})\]")
_SPAN = re.compile(rf"{_TEXT}\{{[ ]*[#.:][^{{}}\n]{{0,300}}\}}")
_FOOTNOTE = re.compile(r"\[\^([^\]\s]{1,100})\]")
_AUTOLINK = re.compile(r"<((?:https?|ftp|mailto):[^<>\s]{1,2000})>")
_MDX = re.compile(r"[ ]?\{/\*.{0,300}?\*/\}", re.S)
_LIQUID = re.compile(
    r"\{%-?[^%\n]{0,300}%\}|\{\{[<%][^{}\n]{0,300}[>%]\}\}"
    r"|\{\{-? *(?:site|page|content|include|baseurl)\b[^{}\n]{0,200}\}\}"
)
_CITATION = re.compile(r"[ ]?\[(?:[^\[\]@\n]{0,80}[ ])?-?@[\w{}:.#$%&+?<>~/-]+(?:[^\[\]]{0,400})\]")
_KEY = re.compile(r"@\{?(\w(?:[\w:.#$%&+?<>~/-]*\w)?)\}?")
_TEXTUAL = re.compile(r"(?<![\w@.`/])-?@\{?([A-Za-z](?:[\w:./-]*\w)?)\}?")
_TAGS = (
    "a abbr address article aside audio b big blockquote br button caption center cite code col colgroup dd del "
    "details dfn div dl dt em figcaption figure font footer h1 h2 h3 h4 h5 h6 header hr i iframe img ins kbd label li "
    "main mark nav object ol p picture pre q s samp section small source span strike strong sub summary sup table "
    "tbody td tfoot th thead tr tt u ul var video wbr"
)
_TAG = re.compile(rf"<(/?)({'|'.join(_TAGS.split())})((?:\s[^<>]{{0,2000}})?)/?>", re.I)
_COMPONENTS = re.compile(r"</?([A-Z][\w.]{0,60})(?:\s[^<>]{0,500})?>")
_CLOSED = re.compile(r"</([A-Z][\w.]{0,60})>")
_ALT = re.compile(r"""\balt=["']([^"']*)["']""", re.I)
_LINES = frozenset("br p div li tr hr ul ol table details summary h1 h2 h3 h4 h5 h6".split())


class Inlines:
    """defined: the labels, in small letters, to which references may point. cites: whether @key in the text cites.
    cited: what has been cited so far, and its number."""

    def __init__(self, defined: set[str], cites: bool) -> None:
        self.defined, self.cites = defined, cites
        self.cited: dict[str, int] = {}

    def read(self, text: str) -> str:
        """A paragraph, which has no NUL."""
        hidden: list[str] = []
        parts: list[str] = []
        for piece, kept in _pieces(text):
            if not kept:
                parts.append(piece)
                continue
            if piece[0] == "`" and (role := _ROLE.search(parts[-1])):
                parts[-1] = parts[-1][: role.start()]
                piece = self.role(role[1] or role[2], piece.strip("`"))
            hidden.append(piece)
            parts.append(f"\0{len(hidden) - 1}\0")  # so that a link may have code in its words
        return re.sub("\0(\\d+)\0", lambda found: hidden[int(found[1])], self.replaced("".join(parts)))

    def replaced(self, text: str) -> str:
        if "{" in text:
            text = _LIQUID.sub("", _MDX.sub("", text))
        if "[" in text:
            text = _LINKED_IMAGE.sub(lambda found: "" if _BADGE.search(found[2]) else found[1], text)
            text = _IMAGE.sub(lambda found: "" if _BADGE.search(found[2]) else found[1], text)
            text = _CITATION.sub(self.citation, text)
            text = _LINK.sub(r"\1", text)
            if self.defined:
                text = _REFERENCE.sub(self.reference, text)
            text = _FOOTNOTE.sub(r"[\1]", _SPAN.sub(r"\1", text))
        if self.cites and "@" in text:
            text = _TEXTUAL.sub(lambda found: f"[{self.number(found[1])}]", text)
        if "<" in text:
            text = _TAG.sub(_tag, _AUTOLINK.sub(r"\1", text))
            closed = set(_CLOSED.findall(text))
            text = _COMPONENTS.sub(lambda found: "" if found[1] in closed else found[0], text) if closed else text
        return unescape(text) if "&" in text else text

    def number(self, key: str) -> int:
        return self.cited.setdefault(key, len(self.cited) + 1)

    def citation(self, found: re.Match[str]) -> str:
        """[see @a, p. 3; @b] -> [1, 2]"""
        numbers = ", ".join(str(self.number(key[1])) for key in _KEY.finditer(found[0]))
        return f"{' ' if found[0][0] == ' ' else ''}[{numbers}]"

    def reference(self, found: re.Match[str]) -> str:
        return found[1] if (found[2] or found[1]).lower() in self.defined else found[0]

    def role(self, name: str, said: str) -> str:
        """:cite:`key`, {ref}`words <label>`, :numref:`label`, {math}`x`"""
        name = name.rpartition(":")[2]
        if name in ("label", "eqlabel", "index", "width"):
            return ""
        if name.startswith("cite"):
            return f"[{', '.join(str(self.number(key.strip())) for key in said.split(','))}]"
        if name == "math":
            return f"${said}$"
        if target := _ROLE_TARGET.match(said):
            return target[1]
        if name in ("ref", "numref", "eq"):
            return f"[{said}]"
        return f"({said})" if name == "eqref" else f"`{said}`"


def _pieces(text: str) -> Iterator[tuple[str, bool]]:
    """Parts of a paragraph in turn, and whether each is code or a formula, which ends as it began."""
    marks = list(_PIECES.finditer(text))
    later: dict[str, list[int]] = {}
    for number, mark in enumerate(marks):
        later.setdefault(mark[0], []).append(number)
    for numbers in later.values():
        numbers.reverse()
    at = number = 0
    while number < len(marks):
        mark = marks[number]
        same = later[mark[0]]
        while same and same[-1] <= number:
            same.pop()
        end = marks[same[-1]] if same else None
        escaped = mark.start() > 0 and text[mark.start() - 1] == "\\"
        if end is None or escaped or (mark[0] == "$" and not _formula(text, mark.end(), end.start())):
            number += 1
            continue
        yield text[at : mark.start()], False
        yield text[mark.start() : end.end()], True
        at, number = end.end(), same[-1] + 1
    yield text[at:], False


def _formula(text: str, start: int, end: int) -> bool:
    """Whether dollars stand around a formula and are no money: no blank inside, no digit behind, and short."""
    inside = start < end < start + 2000 and not text[start].isspace() and not text[end - 1].isspace()
    return inside and not text[end + 1 : end + 2].isdigit()


def _tag(found: re.Match[str]) -> str:
    """What stands for a tag of HTML: an image's words, a line end, or nothing."""
    name = found[2].lower()
    if name == "img":
        alt = _ALT.search(found[3])
        return alt[1] if alt and not _BADGE.search(found[3]) else ""
    if name in ("td", "th") and found[1]:
        return " | "
    return "\n" if name in _LINES else ""
