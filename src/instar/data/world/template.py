"""Sentences with holes: "{a} put {x} {p.in}." asks role `p` for its form `in`. Knows nothing of events or grammar."""

from __future__ import annotations

import re
from collections.abc import Mapping

from .ontology import Entity

Roles = Mapping[str, Entity]
# literal text, then the role and the form that follow it; the last literal is followed by the role ""
Template = tuple[tuple[str, str, str], ...]

HOLE = re.compile(r"\{(\w+)(?:\.(\w+))?\}")


def compiled(text: str) -> Template:
    """Example: "{a} sang." -> (("", "a", ""), (" sang.", "", ""))"""
    pieces = HOLE.split(text)
    parts = [(pieces[at], pieces[at + 1], pieces[at + 2] or "") for at in range(0, len(pieces) - 1, 3)]
    return (*parts, (pieces[-1], "", ""))


def with_pronoun(template: Template) -> Template | None:
    """The same template opening with a pronoun, or None where it does not open with the agent's name."""
    if template[0] != ("", "a", ""):
        return None
    return (("", "a", "he"), *template[1:])


def filled(template: Template, roles: Roles, language: int) -> str:
    """The sentence without its capital. Raises KeyError where a role or form is missing, which only we can cause."""
    out = []
    for literal, role, form in template:
        out.append(literal)
        if role:
            out.append(roles[role].forms[language][form])
    return "".join(out)


def capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]
