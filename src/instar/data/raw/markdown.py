"""Markdown as a text to read: words stay with their headings, lists, tables, code and formulas; what only a browser, a
bibliography or one tool for publishing needs goes.

It goes by lines, and within paragraphs by pieces between code and formulas, which nothing touches.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from .frontmatter import front_matter
from .inlines import Inlines

_FENCE = re.compile(r"[ \t]*(?:[-*+>][ \t]+)*(`{3,}|~{3,})[ \t]*([^`\n]*)$")
_LANGUAGE = re.compile(r"\{?\.?([A-Za-z][\w+#-]*)")
# directives of MyST between code fences whose body is text, and those whose body is none
_PROSE = frozenset("note warning tip important admonition caution danger hint seealso epigraph figure abstract".split())
_TOOLS = frozenset("toc toctree tableofcontents contents bibliography eval-rst include".split())
_DIRECTIVE = re.compile(r"[ \t]*:{3,}[ \t]*(?:\{[^{}\n]*\}|[\w-]+)?[ \t]*(.*?)[ \t:]*$")
# ??? note "Title" of MkDocs, !!! warning, === "Tab"; what is indented below belongs to it
_ADMONITION = re.compile(r"([ \t]*)(?:[?!]{3}\+?|===\+?)[ \t]*[\w -]*?[ \t]*(?:\"(.*)\")?[ \t]*$")
_DROPPED = re.compile(
    r"[ \t]*(?:"
    r"\[\[?_?TOC_?\]\]?|\\(?:newpage|pagebreak|tableofcontents)|--8<--.*|\{:.*\}|\{[#.][^{}]*\}|<!-- *|-->"
    r"|import [^()]* from ['\"][^'\"]*['\"];?|import ['\"][^'\"]*['\"];?"
    r"|\{%-?.*-?%\}|\{\{[<%].*[>%]\}\}|:(?:label|width|height|begin_tab|end_tab|toc):.*"
    r")[ \t]*$",
    re.I,
)
_HEADING = re.compile(r"(#{1,6}[ \t]+.*?)(?:[ \t]*\{(?:[#.:][^{}\n]*|/\*.*?\*/)\})?[ \t]*#*[ \t]*$")
_DEFINITION = re.compile(r" {0,3}\[([^\]^\n]{1,200})\]:[ \t]*\S+(?:[ \t]+[\"'(].*)?[ \t]*$")
_COMPONENT = re.compile(r"[ \t]*</?[A-Z][\w.]*(?:\s[^<>\n]*)?/?>[ \t]*$")
_ITEM = re.compile(r"[ \t]*(?:[-*+]|\d{1,9}[.)])[ \t]")
_LAST = re.compile(r"\n#{1,6}[ \t]+(?:references|bibliography|参考文献)[ \t]*\Z", re.I)


def text_of_markdown(text: str) -> tuple[str, dict[str, Any]]:
    """The text, and what the file says of itself: title, author, date, keywords, language, licence; how many works it
    cites (references).

    Citations are numbered in their order, a role such as {ref}`label` is its words. Never raises for the text's sake.
    """
    text, meta = front_matter(text.replace("\r\n", "\n"))
    reader = _Reader(text.replace("\0", ""), cites=bool(meta.pop("bibliography", False)))
    body = _LAST.sub("", "\n" + "".join(reader.blocks()).strip("\n")).lstrip("\n").rstrip()
    title = re.match(r"#[ \t]+(.+)", body)
    if meta.get("title") and not (title and title[1].strip() == meta["title"]):
        body = f"# {meta['title']}\n\n{body}"
    elif title and "title" not in meta:
        meta["title"] = title[1].strip()
    cited = len(reader.inlines.cited)
    return body, meta | ({"references": cited} if cited else {})


class _Reader:
    def __init__(self, text: str, cites: bool) -> None:
        self.lines = text.split("\n")
        definitions = (_DEFINITION.match(line) for line in self.lines if line[:4].lstrip()[:1] == "[")
        self.inlines = Inlines({found[1].lower() for found in definitions if found}, cites)
        self.in_list = False
        self.last: dict[str, int] = {}

    def ends(self, mark: str) -> int:
        """The last line with this in it, in small letters; -1 where none has it."""
        if mark not in self.last:
            self.last[mark] = max((at for at, line in enumerate(self.lines) if mark in line.lower()), default=-1)
        return self.last[mark]

    def blocks(self) -> Iterator[str]:
        """Code as it stands, and paragraphs with an empty line after each."""
        waiting: list[str] = []
        fence = ""
        kind = ""
        lines = iter(self.outside())
        for line in lines:
            if fence:
                if line.strip().startswith(fence) and not line.strip().strip(fence[0]):
                    fence = ""
                    if kind == "code":
                        yield line + "\n\n"
                    continue
                if kind == "code":
                    yield line + "\n"
                elif kind == "prose" and not line.lstrip().startswith(":"):
                    waiting.append(line)
                continue
            if opening := _FENCE.match(line):
                yield self.paragraph(waiting)
                waiting = []
                fence = opening[1]
                kind, line = _fence(line, opening)
                if kind == "code":
                    yield line + "\n"
                elif line:
                    waiting.append(line)
            elif not line.strip():
                yield self.paragraph(waiting)
                waiting = []
            else:
                waiting.append(line)
        yield self.paragraph(waiting)

    def outside(self) -> Iterator[str]:
        """Lines without those that are for tools, and bodies of admonitions without their indentation."""
        fence = ""
        inside: list[int] = []  # columns at which bodies of admonitions begin
        comment = False
        skipped = ""  # the end tag of a script
        for at, line in enumerate(self.lines):
            if inside and line.strip():
                indent = len(line) - len(line.lstrip(" "))
                while inside and indent < inside[-1] and not fence:
                    inside.pop()
            shift = 4 * len(inside)
            line = line[shift:] if not line[:shift].strip() else line.lstrip(" ")
            opening = None if comment or skipped else _FENCE.match(line)
            if fence:
                if opening and opening[1].startswith(fence) and not opening[2].strip():
                    fence = ""
                yield line
                continue
            if opening:
                fence = opening[1]
                yield line
                continue
            if skipped:
                skipped = "" if skipped in line.lower() else skipped
                continue
            kept, comment = self.without_comments(line, at, comment)
            if kept is None:
                continue
            line = kept
            if found := re.match(r"[ \t]*<(script|style)\b", line, re.I):
                ending = f"</{found[1].lower()}>"
                skipped = ending if self.ends(ending) > at else ""  # one that never ends is a line
            elif found := _ADMONITION.match(line):
                if line.lstrip().startswith("===") and found[2] is None:
                    yield line  # a heading underlined
                    continue
                inside.append(shift + len(found[1]) + 4)
                yield ""
                if found[2]:
                    yield found[2]
                    yield ""
            elif line.lstrip().startswith(":::") and (found := _DIRECTIVE.match(line)):
                yield ""
                if found[1]:
                    yield found[1]
                    yield ""
            elif not _DROPPED.match(line) and not _COMPONENT.match(line) and not _DEFINITION.match(line):
                yield line

    def without_comments(self, line: str, at: int, comment: bool) -> tuple[str | None, bool]:
        """The line without <!-- ... -->, None where nothing is left; and whether a comment goes on after it."""
        if not comment and "<!--" not in line:
            return line, False
        kept = ""
        while line:
            if comment:
                _, end, line = line.partition("-->")
                comment = not end
                continue
            before, begin, line = line.partition("<!--")
            kept += before
            comment = bool(begin) and ("-->" in line or at < self.ends("-->"))
            if not comment:
                return kept + begin + line, False  # one that never ends is no comment
        return (kept if kept.strip() else None), comment

    # ---- paragraphs

    def paragraph(self, lines: list[str]) -> str:
        if not lines:
            return ""
        if heading := _HEADING.fullmatch(lines[0]) if lines[0].startswith("#") else None:
            lines = [heading[1], *lines[1:]]
        if all(line.startswith("    ") for line in lines):
            if not self.in_list:
                return "\n".join(lines) + "\n\n"  # code by its indentation
        else:
            self.in_list = any(map(_ITEM.match, lines))
        text = self.inlines.read("\n".join(line if line.endswith("  ") else line.rstrip() for line in lines))
        return text.rstrip("\n") + "\n\n" if text.strip() else ""


def _fence(line: str, opening: re.Match[str]) -> tuple[str, str]:
    """What a fence begins (code, prose or nothing to keep), and the line that begins it, with the bare language."""
    info = opening[2].strip()
    name = info.strip("{}").partition("}")[0].split(",")[0].split()[:1]
    first = name[0].lstrip(".") if name else ""
    if first in _TOOLS:
        return "tool", ""
    if info.startswith("{") and first in _PROSE:
        title = info.partition("}")[2].strip()
        return "prose", title
    if info.startswith("{"):
        after = info.partition("}")[2].strip().split()[:1]
        language = after[0] if after and first in ("code-cell", "code-block", "code") else first
        return "code", line[: opening.start(2)] + ("" if language in ("code-cell", "code") else language)
    return "code", line
