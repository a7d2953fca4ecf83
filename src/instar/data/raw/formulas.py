"""The formulas of LaTeX: they stay TeX, without labels and comments, and with the paper's own macros written out."""

from __future__ import annotations

from . import texnames as names
from .tex import PARAGRAPH, Tokens, spelt

# environments that no formula holds: it has not been closed
_OUTSIDE = ("document", "proof", "figure", "table", "itemize", "enumerate", "abstract")


def formula(tokens: Tokens, closing: str, display: bool) -> tuple[list[str], bool]:
    """The tokens up to its end, and whether that was found: $, $$, \\), \\], } or the name of its environment.

    The end of the paragraph (of the section for display), or of what is around it, ends it too and is still to come.
    """
    taken: list[str] = []
    depth = inner = 0
    text = 0  # depth of the braces in which a dollar began a formula inside this one
    while token := tokens.next():
        first = token[0]
        if first == "\\":
            if token == closing and not depth:
                return taken, True
            if token in ("\\begin", "\\end"):
                name = tokens.word()
                if token == "\\end" and name == closing and inner <= 0:
                    return taken, True
                if (token == "\\end" and inner <= 0) or name in _OUTSIDE:
                    tokens.put([token, "{", name, "}"])
                    return taken, False
                inner += 1 if token == "\\begin" else -1
                taken.append(f"{token}{{{name}}}")
            elif token in names.HEADINGS:
                tokens.back(token)
                return taken, False
            elif token in names.NOT_IN_FORMULAS:
                tokens.leave_out(names.COMMANDS[token])
            elif token != "\\ensuremath" and not tokens.define(token) and not tokens.expand(token):
                taken.append(token)
        elif first == "$" and depth:
            # \mbox{if $x$}: dollars inside dollars would be ambiguous
            taken.append("\\)" if text else "\\(")
            text = 0 if text else depth
        elif first == "$":
            if closing == "$" and token == "$$":
                tokens.back("$")  # $a$$b$
            if closing[0] == "$":
                return taken, True
        elif token == PARAGRAPH:
            if not display:
                tokens.back(token)
                return taken, False
            taken.append("\n")
        else:
            depth += (token == "{") - (token == "}")
            if depth < 0:
                if closing != "}":
                    tokens.back(token)
                return taken, closing == "}"
            taken.append(token)
    return taken, False


def inline(taken: list[str]) -> str:
    """$x$, or nothing where it is empty."""
    body = " ".join(spelt(taken).split())
    return f"${body}$" if body else ""


def displayed(taken: list[str], around: tuple[str, str] = ("", "")) -> str:
    """$$x$$ with the lines that it has in the source, or nothing where it is empty."""
    lines = [line for line in map(str.strip, spelt(taken).splitlines()) if line]
    return f"$${chr(10).join(filter(None, [around[0], *lines, around[1]]))}$$" if lines else ""
