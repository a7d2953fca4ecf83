"""TeX as tokens: a scanner that holds one token at a time, arguments, and macros expanded within a budget.

Nothing calls itself and every character is looked at a bounded number of times, so that no source is slow or deep.
Only what papers write is known: names of letters, the usual category codes, \\newcommand, \\def without delimiters.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from unicodedata import normalize

from .texnames import SYMBOLS

PARAGRAPH = "\n\n"
END = ""
_TOKEN = re.compile(
    r"\\[A-Za-z][A-Za-z@]*|\\[^A-Za-z]|\\|%[^\n]*\n?[ \t]*|\$\$?|\n\s*|#[1-9]?|[{}\[\]&~*]|[^\\%$\n#{}\[\]&~*]+"
)
_SLOTS = re.compile(r"(?:#[1-9])*")
_DELIMITED = re.compile(
    r"\*?(?:\[[^\]\n]{0,300}\])?(?:\{([^{}\n]{0,2000})\}|(?P<mark>[^\w\s*\[{])((?:(?!(?P=mark)).){0,1000})(?P=mark))"
)
# An optional argument of more tokens is a bracket of the text.
_OPTIONAL = 400
# Expanding may add so many characters and tokens to those of the source, times its size and at least.
_GROWTH, _GROWTH_FLOOR = 4, 300_000


@dataclass(frozen=True)
class Macro:
    """body with its #1, #2; default: what the first of the arguments is where it is left out; None: never left out."""

    arguments: int
    body: tuple[str, ...]
    default: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class _Bound:
    """Among waiting tokens: from here on the macro of this name is under way once more (+1) or less (-1)."""

    name: str
    step: int


class Tokens:
    """The tokens of source[start:stop], then END for ever. macros: those defined so far, by name with backslash. known:
    names that keep their meaning whatever the source defines."""

    def __init__(self, source: str, start: int, stop: int, macros: dict[str, Macro], known: frozenset[str]) -> None:
        self.source, self.position, self.stop = source, start, stop
        self.macros, self.known = macros, known
        self.budget = _GROWTH * len(source) + _GROWTH_FLOOR
        self._waiting: list[str | _Bound] = []
        self._under_way: Counter[str] = Counter()
        self._absent: set[str] = set()

    @property
    def plain(self) -> bool:
        """Whether the next token is the source's own, so that it may be read as characters."""
        return not self._waiting

    def next(self) -> str:
        """The next token, comments gone; blank lines are one PARAGRAPH, a line end one blank."""
        while self._waiting:
            token = self._waiting.pop()
            if isinstance(token, str):
                return token
            self._under_way[token.name] += token.step
        return self._scan()

    def _scan(self) -> str:
        began_line = False
        while self.position < self.stop:
            found = _TOKEN.match(self.source, self.position, self.stop)
            assert found is not None  # the alternatives cover every character
            self.position = found.end()
            token = found.group()
            if token[0] == "%":
                began_line = True
                continue
            if token[0] == "\n":
                # a comment has eaten the end of its own line, so that another one is an empty line
                if began_line or "\n" in token[1:]:
                    return PARAGRAPH
                return " "
            return token
        return END

    def back(self, token: str) -> None:
        """The token will be the next again."""
        if token:
            self._waiting.append(token)

    def put(self, tokens: list[str]) -> None:
        """These will be the next."""
        self._waiting.extend(reversed(tokens))

    def skip_blanks(self) -> str:
        """The next token that is no blank, still to come; without the blanks before it."""
        token = self.next()
        while token and token.isspace() and token != PARAGRAPH:
            token = self.next()
        if token != PARAGRAPH:
            token = token.lstrip()
        self.back(token)
        return token

    def star(self) -> bool:
        """Whether a star follows, which is taken."""
        if self.skip_blanks() != "*":
            return False
        self.next()
        return True

    def optional(self) -> list[str] | None:
        """The [argument] that follows, or None; one that does not end soon is no argument."""
        if self.skip_blanks() != "[" or self.budget <= 0:
            return None
        taken = [self.next()]
        depth = 0
        while len(taken) < _OPTIONAL:
            token = self.next()
            if token in (END, PARAGRAPH) or (token == "}" and not depth):
                self.back(token)
                break
            taken.append(token)
            if token == "]" and not depth:
                return taken[1:-1]
            depth += (token == "{") - (token == "}")
        self.put(taken)
        self.budget -= len(taken)
        return None

    def argument(self, long: bool = False) -> list[str]:
        """The {argument} that follows without its braces, or one token or character. long: may hold empty lines;
        without, the first of them ends it, as it would stop TeX."""
        token = self.skip_blanks()
        if token in (END, PARAGRAPH, "}"):
            return []
        token = self.next()
        if token != "{":
            if token[0] != "\\" and len(token) > 1:
                self.back(token[1:])
                token = token[0]
            return [token]
        taken: list[str] = []
        depth = 1
        while True:
            token = self.next()
            if token == END or (token == PARAGRAPH and not long):
                self.back(token)
                return taken
            depth += (token == "{") - (token == "}")
            if not depth:
                return taken
            taken.append(token)

    def leave_out(self, form: str) -> None:
        """Take a star and arguments of this form, o: an optional one, m: one in braces."""
        self.star()
        for kind in form:
            if kind == "o":
                self.optional()
            else:
                self.argument()

    def word(self) -> str:
        """The argument that follows as a name: of an environment, a macro, a label."""
        return spelt(self.argument()).strip()

    def until(self, mark: str) -> str | None:
        """The characters up to this mark, which is taken too; None where there is none, or not of the source's own."""
        if not self.plain or mark in self._absent:
            return None
        end = self.source.find(mark, self.position, self.stop)
        if end < 0:
            self._absent.add(mark)  # looked for once: a thousand openings without an end stay linear
            return None
        text = self.source[self.position : end]
        self.position = end + len(mark)
        return text

    def delimited(self) -> str | None:
        """The characters between two of the same or braces, as \\verb|x|, \\lstinline[..]{x} and \\url{x} have them, on
        one line; None where there are none, or not of the source's own."""
        found = _DELIMITED.match(self.source, self.position, self.stop) if self.plain else None
        if found is None:
            return None
        self.position = found.end()
        return found[3] if found[1] is None else found[1]

    # ---- macros

    def expand(self, token: str, text: bool = False) -> bool:
        """Put what this macro stands for before what follows. text: blanks after its name are none. False where it is
        none, or is under way already, or where the budget is spent; a macro that calls itself is thus expanded once."""
        macro = self.macros.get(token)
        if macro is None or self._under_way[token] > 0 or self.budget <= 0:
            return False
        # not past the end of another macro, which would be under way no longer
        if text and not macro.arguments and (not self._waiting or isinstance(self._waiting[-1], str)):
            self.skip_blanks()
        arguments: list[list[str]] = []
        if macro.default is not None:
            first = self.optional()
            arguments.append(list(macro.default) if first is None else first)
        while len(arguments) < macro.arguments:
            arguments.append(self.argument(long=True))
        put: list[str | _Bound] = [_Bound(token, 1)]
        for part in macro.body:
            number = ord(part[1]) - ord("1") if len(part) == 2 and part[0] == "#" else -1
            if 0 <= number < len(arguments):
                # what was given is not the macro's own text: \norm{\norm{x}} expands twice
                put += [_Bound(token, -1), *arguments[number], _Bound(token, 1)]
            else:
                put.append(part)
            self.budget -= 1
        put.append(_Bound(token, -1))
        self.budget -= sum(len(part) + 1 for part in put if isinstance(part, str))
        # what it was given stays even where it is too much to expand
        given = [part for argument in arguments for part in argument]
        self._waiting.extend(reversed(put if self.budget > 0 else given))
        return True

    def define(self, command: str) -> bool:
        """Read the definition that `command` begins; False where it begins none."""
        if command in ("\\newcommand", "\\renewcommand", "\\providecommand", "\\DeclareRobustCommand"):
            self.star()
            name = self.word()
            count = spelt(self.optional() or []).strip()
            default = self.optional() if count else None
            first = None if default is None else tuple(default)
            self._remember(name, Macro(int(count) if count in set("123456789") else 0, self._body(), first))
        elif command in ("\\def", "\\gdef", "\\edef", "\\xdef"):
            name = self.skip_blanks()
            self.next()
            slots = []
            while (token := self.next()) not in ("{", END, PARAGRAPH):
                slots.append(token)
            self.back(token)
            body = self._body()
            if _SLOTS.fullmatch("".join(slots).strip()):
                self._remember(name, Macro(len("".join(slots)) // 2, body))
        elif command == "\\let":
            name = self.skip_blanks()
            self.next()
            if self.skip_blanks() == "=":
                self.next()
            target = self.argument()
            meaning = self.macros.get(target[0]) if len(target) == 1 else None
            self._remember(name, meaning or Macro(0, tuple(target)))
        elif command in ("\\DeclareMathOperator", "\\DeclarePairedDelimiter"):
            form = "\\operatorname*" if self.star() else "\\operatorname"
            name, first = self.word(), self._body()
            if command == "\\DeclareMathOperator":
                self._remember(name, Macro(0, (form, "{", *first, "}")))
            else:
                self._remember(name, Macro(1, ("\\left", *first, "#1", "\\right", *self._body())))
        elif command in ("\\newenvironment", "\\renewenvironment"):
            self.word()
            while self.optional() is not None:
                pass
            self.argument(long=True)
            self.argument(long=True)
        elif command in ("\\NewDocumentCommand", "\\RenewDocumentCommand", "\\DeclareDocumentCommand"):
            name, form, body = self.word(), self.word().replace(" ", ""), self._body()
            if form.strip("m") == "" and len(form) < 10:
                self._remember(name, Macro(len(form), body))
        else:
            return False
        return True

    def _body(self) -> tuple[str, ...]:
        return tuple(self.argument(long=True))

    def _remember(self, name: str, macro: Macro) -> None:
        if name[:1] == "\\" and len(name) > 1 and name not in self.known:
            self.macros[name] = macro


def spelt(tokens: list[str]) -> str:
    """Tokens as TeX again; a name keeps apart from a letter after it.

    Example: ["\\\\alpha", "b"] -> "\\\\alpha b".
    """
    parts: list[str] = []
    before = ""
    for token in tokens:
        if before[:1] == "\\" and before[-1].isalpha() and token[:1].isalpha():
            parts.append(" ")
        parts.append(token)
        before = token
    return "".join(parts)


def accented(tokens: Tokens, mark: str) -> str:
    """The letter that follows, in braces or not, with this combining character; nothing where something else follows,
    which is still to come."""
    braced = tokens.skip_blanks() == "{"
    letters = tokens.next()
    if braced:
        letters, end = tokens.next(), tokens.next()
        if end != "}":  # more than a letter: the accent is lost, the words are not
            tokens.put(["{", letters, end])
            return ""
    word = SYMBOLS.get(letters, letters)
    if not word or word[0] in "\\{}$" or word.isspace():
        tokens.put([letters])
        return ""
    tokens.back(word[1:])
    return normalize("NFC", word[0] + mark)
