"""LaTeX as a person would read it: headings, paragraphs, lists, tables, and mathematics as TeX between dollars.

A single pass over `tex.Tokens`. What the names mean stands in `texnames`, what is open in `texlayout`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Any

from . import texnames as names
from .formulas import displayed, formula, inline
from .prose import Prose
from .tex import PARAGRAPH, Macro, Tokens, accented, spelt
from .texlayout import Closing, Layout

_BEGIN = re.compile(r"^[^%\n]*?\\begin[ \t]*\{document\}", re.M)
_CITES = re.compile(r"\\[A-Za-z]*cite[a-z]*")
_REFERENCES = re.compile(r"\\(?:[A-Za-z]*ref|crefrange)")
_UNIT = "pt|cm|mm|in|ex|em|bp|sp|pc|mu|fil+"
_LENGTH = re.compile(rf"\s*=?(?:\s*(?:to|spread|by|plus|minus)?\s*-?[\d.]+\s*(?:{_UNIT})?)*")
_OPTIONS = re.compile(r"\s*(?:\[[^\]\n]*\])?(?:\{(\w+)\})?[ \t]*")
_TYPED = re.compile(r"---?|``|''|[?!]`|`")
_MEANT = {"---": "—", "--": "–", "``": "“", "''": "”", "?`": "¿", "!`": "¡", "`": "‘"}
_AND = re.compile(r"\s*,\s*and\s+|\s*,\s*|\s+and\s+")
_NEAR = 8  # environments around a caption that may name it; steps of indentation


def text_of_latex(source: str) -> tuple[str, dict[str, Any]]:
    """The text of a paper, and what is known of it: title, author, date; how many works it cites (references) and files
    it would read (inputs), commands without a known meaning (unknown), macros too long to write out (unexpanded),
    formulas without an end (unclosed).

    Mathematics stays TeX with the paper's own macros written out; citations are numbered in their order, references are
    their labels in brackets. Never raises for the source's sake; linear in its size.

    Example: "\\\\section{Na\\\\\\"ive sets} See~\\\\cite{halmos} on $x\\\\in X$." ->
    "## Naïve sets\\n\\nSee [1] on $x\\\\in X$."
    """
    reader = _Reader()
    body = _BEGIN.search(source)
    if body:
        # what the preamble would print is no text: only title, authors and macros stay
        reader.body = False
        reader.read(source, 0, body.end() - len("\\begin{document}"))
        reader.layout, reader.body = Layout(), True
    reader.read(source, body.end() if body else 0, len(source))
    return reader.result()


class _Reader:
    tokens: Tokens
    body = True  # whether what is read is text, and not the preamble

    def __init__(self) -> None:
        self.macros: dict[str, Macro] = {}
        self.fields: dict[str, str] = {}
        self.authors: list[str] = []
        self.theorems = dict(names.THEOREMS)
        self.counts: Counter[str] = Counter()
        self.cited: dict[str, int] = {}
        self.layout = Layout()

    @property
    def prose(self) -> Prose:
        return self.layout.prose

    def result(self) -> tuple[str, dict[str, Any]]:
        title, abstract = self.fields.get("title", ""), self.fields.get("abstract", "")
        text = self.layout.pages[0].text
        parts = [f"# {title}" if title else "", f"## Abstract\n\n{abstract}" if abstract else "", text]
        known = {"title": title or self.fields.get("chapter", ""), "author": ", ".join(self.authors)}
        meta = known | {"date": self.fields.get("date", "")} | {"references": len(self.cited)} | dict(self.counts)
        return "\n\n".join(filter(None, parts)), {key: value for key, value in meta.items() if value}

    def read(self, source: str, start: int, stop: int) -> None:
        """source[start:stop], or up to the end of its document."""
        self.tokens = Tokens(source, start, stop, self.macros, KNOWN)
        while token := self.tokens.next():
            first = token[0]
            if first == "\\":
                if self.command(token):
                    break
            elif first == "{":
                self.layout.groups.append(None)
            elif first == "}":
                self.layout.close_group()
            elif token == PARAGRAPH:
                self.prose.end_paragraph()
            elif first == "$" and (self.body or self.layout.groups):
                self.mathematics(token, display=token == "$$")
            elif first == "&":
                self.prose.add(" | " if self.layout.tables else "&")
            elif first == "~":
                self.prose.add(" ")
            elif first != "#" or len(token) == 1:
                self.prose.add(_TYPED.sub(lambda found: _MEANT[found[0]], token))
        self.layout.end_all()

    def group(self, closing: Closing) -> None:
        """The argument that follows is read in place, and then this is done."""
        if self.tokens.skip_blanks() == "{":
            self.tokens.next()
        else:
            self.tokens.put([*self.tokens.argument(), "}"])
        self.layout.groups.append(closing)

    def command(self, token: str) -> bool:
        """Do what it says. True where the document ends."""
        tokens = self.tokens
        if token == "\\begin":
            self.begin(tokens.word())
        elif token == "\\end":
            name = tokens.word()
            self.layout.end(name)
            return name == "document"
        elif len(token) == 2 and token[1] in "%&$#_{}":
            self.prose.add(token[1])
        elif token in ("\\(", "\\["):
            self.mathematics({"\\(": "\\)", "\\[": "\\]"}[token], display=token == "\\[")
        elif token in ("\\\\", "\\tabularnewline", "\\newline", "\\cr"):
            tokens.leave_out("o")
            self.prose.end_line()
        elif handler := HANDLERS.get(token):
            handler(self)
        elif token in names.HEADINGS:
            tokens.leave_out("o")
            self.group(self.heading(names.HEADINGS[token]))
        elif token in names.COMMANDS:
            tokens.leave_out(names.COMMANDS[token])
        elif token in names.LENGTHS:
            follows = tokens.next()
            length = _LENGTH.match(follows)
            tokens.back(follows[length.end() :] if length and follows != PARAGRAPH else follows)
        elif token not in self.macros and self.character(token):
            pass
        elif not tokens.define(token):
            self.other(token)
        return False

    def character(self, token: str) -> bool:
        """A name that is a character, an accent or a word. False where it is none of them."""
        if token in names.ACCENTS:
            self.prose.add(accented(self.tokens, names.ACCENTS[token]))
        elif token in names.SYMBOLS:
            if token[-1].isalpha():
                self.tokens.skip_blanks()
            self.prose.add(names.SYMBOLS[token])
        elif token in names.STEPS:
            self.prose.end_line()
            self.prose.keep(names.STEPS[token])
        else:
            return False
        return True

    def other(self, token: str) -> None:
        """A macro of the paper, a citation, a reference, or a name that says nothing to us."""
        tokens = self.tokens
        if token in self.macros:
            if not tokens.expand(token, text=True):
                self.counts["unexpanded"] += 1
            return
        if _CITES.fullmatch(token):
            self.cite()
        elif _REFERENCES.fullmatch(token):
            tokens.star()
            label = tokens.word()
            label += f"–{tokens.word()}" if token == "\\crefrange" else ""
            self.prose.add(f"({label})" if token == "\\eqref" else f"[{label}]")
        elif token[-1].isalpha():
            self.counts["unknown"] += 1
            self.unknown(token)

    def unknown(self, token: str) -> None:
        """Its arguments are read in place; one without any is a name, unless it has a line to itself."""
        tokens = self.tokens
        follows = tokens.next()
        if follows == "[":
            tokens.back(follows)
            tokens.optional()
            follows = tokens.next()
        if follows == "{":
            follows = tokens.next()
            if follows == "}":
                self.prose.add(token[1:])
                return
            self.layout.groups.append(self.apart)
        elif not (self.prose.fresh and (follows.isspace() or not follows)):
            self.prose.add(token[1:])
        tokens.back(follows)

    def apart(self) -> None:
        """Words of one argument do not run into those of the next."""
        follows = self.tokens.next()
        self.tokens.back(follows)
        if follows == "{":
            self.prose.add(" ")

    # ---- parts of a text

    def field(self, name: str) -> Closing:
        def done(page: Prose) -> None:
            text = page.text if name == "abstract" else page.line
            if name in self.fields and name != "date":  # a second paper in the same file
                self.prose.paragraph(f"# {text}" if name == "title" and text else text)
            self.fields.setdefault(name, text)

        return self.layout.page(done)

    def fill(self, name: str) -> None:
        self.tokens.optional()
        self.group(self.field(name))

    def heading(self, level: int) -> Closing:
        def done(page: Prose) -> None:
            if line := page.line:
                if level == 1:
                    self.fields.setdefault("chapter", line)
                self.prose.paragraph(f"{'#' * level} {line}")

        return self.layout.page(done)

    def run_in(self) -> None:
        def done(page: Prose) -> None:
            if line := page.line:
                self.prose.end_paragraph()
                self.prose.keep(f"**{line}** ")

        self.tokens.leave_out("o")
        self.group(self.layout.page(done))

    def author(self) -> None:
        def done(page: Prose) -> None:
            # the first line of each has the names, those after it say where they work
            lines = [re.sub(r"\$[^$]*\$", "", part.partition("\n")[0]) for part in page.text.split("\n\n")]
            found = [name.strip(" *,;") for line in lines for name in _AND.split(line)]
            self.authors.extend(name for name in found if 2 < len(name) < 80)

        self.tokens.optional()
        self.group(self.layout.page(done))

    def footnote(self) -> None:
        self.tokens.optional()
        self.prose.add(" [")
        self.group(lambda: self.prose.add("]"))

    def caption(self, kind: str = "") -> None:
        self.tokens.leave_out("o")
        for around in self.layout.open[: -_NEAR - 1 : -1]:
            kind = kind or names.FLOATS.get(around.name.rstrip("*"), "")
        self.prose.end_paragraph()
        self.prose.keep(f"{kind.capitalize()}: " if kind else "")
        self.group(lambda: self.prose.end_paragraph())

    def item(self) -> None:
        label = self.tokens.optional()
        lists = self.layout.lists
        if not lists:
            lists.append(["-"])
        kind = lists[-1][0]
        lists[-1].append("")
        mark = f"{len(lists[-1]) - 1}. " if kind == "1" else "- "
        self.prose.end_line()
        self.prose.keep("  " * min(len(lists) - 1, _NEAR) + ("" if label and kind == "1" else mark))
        if label:
            self.tokens.put([*label, ": " if kind == ":" else " "])

    def cite(self) -> None:
        tokens = self.tokens
        tokens.star()
        while tokens.optional() is not None:
            pass
        keys = [key.strip() for key in tokens.word().split(",") if key.strip()]
        numbers = [str(self.cited.setdefault(key, len(self.cited) + 1)) for key in keys]
        if numbers:
            self.prose.add(f"[{', '.join(numbers)}]")

    def link(self) -> None:
        """\\href{address}{words}: the words."""
        if self.tokens.delimited() is None:
            self.tokens.argument()

    def address(self) -> None:
        self.prose.add(self.tokens.delimited() or self.tokens.word())

    def code(self) -> None:
        code = self.tokens.delimited()
        self.prose.add(f"`{self.tokens.word() if code is None else code}`")

    def minted(self) -> None:
        self.tokens.delimited()
        self.code()

    def skip_false(self) -> None:
        """\\iffalse ... \\fi"""
        depth = 1
        while depth and (token := self.tokens.next()):
            depth += token.startswith("\\if") - (token == "\\fi")

    def input(self) -> None:
        self.counts["inputs"] += 1
        self.tokens.argument()

    def new_theorem(self) -> None:
        self.tokens.star()
        name = self.tokens.word()
        self.tokens.optional()
        self.theorems[name] = spelt(self.tokens.argument()).strip()
        self.tokens.optional()

    def first_of_two(self) -> None:
        """\\texorpdfstring{TeX}{plain}: the first."""
        self.group(lambda: self.tokens.leave_out("m"))

    # ---- environments and mathematics

    def begin(self, name: str) -> None:
        tokens, plain = self.tokens, name.rstrip("*")
        if plain in names.MATHEMATICS:
            before, after = names.MATHEMATICS[plain]
            if plain == "alignat":
                before += "{" + tokens.word() + "}"
            self.mathematics(name, plain != "math", (before, after))
            return
        if plain in names.CODE and (code := tokens.until("\\end{" + name + "}")) is not None:
            options = _OPTIONS.match(code)
            assert options is not None  # all of it may be empty
            self.prose.code(code[options.end() :], options[1] or "")
            return
        if plain in names.SKIPPED and tokens.until("\\end{" + name + "}") is not None:
            return
        self.prose.end_paragraph()
        closing: Closing = None
        if plain == "restatable":
            title, name_of_it = tokens.optional(), tokens.word()
            tokens.argument()
            self.theorem(name_of_it, title)
        elif plain in self.theorems:
            self.theorem(plain, tokens.optional())
        else:
            tokens.leave_out(names.ENVIRONMENTS.get(name, names.ENVIRONMENTS.get(plain, "o")))
        if plain in names.TABLES:
            closing = self.layout.begin_table()
        elif plain in names.LISTS:
            closing = self.layout.begin_list(names.LISTS[plain])
        elif plain == "abstract":
            closing = self.field("abstract")
        self.layout.begin(name, closing)

    def theorem(self, name: str, title: list[str] | None) -> None:
        said = self.theorems.get(name, name.capitalize())
        titled = [said, " (", *(title or []), ")"] if name != "proof" else [*(title or [])]
        self.tokens.put([*(titled if title else [said]), ". "])

    def mathematics(self, closing: str, display: bool, around: tuple[str, str] = ("", "")) -> None:
        taken, closed = formula(self.tokens, closing, display)
        self.counts["unclosed"] += not closed
        if display:
            self.prose.paragraph(displayed(taken, around))
        else:
            self.prose.apart("$")
            self.prose.add(inline(taken))

    def ensure_mathematics(self) -> None:
        if self.tokens.skip_blanks() == "{":
            self.tokens.next()
            self.mathematics("}", display=False)


def _end_paragraph(reader: _Reader) -> None:
    reader.prose.end_paragraph()


HANDLERS: dict[str, Callable[[_Reader], Any]] = {
    "\\title": lambda reader: reader.fill("title"),
    "\\date": lambda reader: reader.fill("date"),
    "\\abstract": lambda reader: reader.fill("abstract"),
    "\\author": _Reader.author,
    **dict.fromkeys(("\\and", "\\And", "\\AND", "\\par"), _end_paragraph),
    **dict.fromkeys(("\\footnote", "\\footnotetext"), _Reader.footnote),
    **dict.fromkeys(("\\caption", "\\subcaption"), _Reader.caption),
    "\\captionof": lambda reader: reader.caption(reader.tokens.word()),
    "\\item": _Reader.item,
    "\\href": _Reader.link,
    "\\hyperref": lambda reader: reader.tokens.optional(),
    **dict.fromkeys(("\\url", "\\path", "\\nolinkurl"), _Reader.address),
    **dict.fromkeys(("\\verb", "\\lstinline"), _Reader.code),
    "\\mintinline": _Reader.minted,
    "\\iffalse": _Reader.skip_false,
    **dict.fromkeys(("\\input", "\\include", "\\subfile"), _Reader.input),
    "\\newtheorem": _Reader.new_theorem,
    "\\texorpdfstring": _Reader.first_of_two,
    "\\ensuremath": _Reader.ensure_mathematics,
    "\\Comment": lambda reader: reader.prose.add(" // "),
    **dict.fromkeys(names.RUN_IN, _Reader.run_in),
}
KNOWN = frozenset({*HANDLERS, *names.COMMANDS, *names.HEADINGS, "\\begin", "\\end", "\\\\"})
