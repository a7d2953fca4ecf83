"""Pages: one file each, offline, without a script and with nothing from elsewhere.

Texts of models and data are strangers' words: every one is escaped, and a page forbids scripts on top.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import jinja2

from .figures import count, figure, percent, seconds, short, size

PAGE = "report.html"


def render(template: str, **values: Any) -> str:
    """A template of this package, filled in; every value is escaped. A character that no file can hold is spelt out."""
    text = _environment().get_template(template).render(**values)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("instar", ""), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    environment.filters |= {
        "count": count, "figure": figure, "seconds": seconds, "moment": moment, "language": language, "plain": plain,
        "size": size, "percent": percent, "short": short,
    }  # fmt: skip
    return environment


def moment(value: Any) -> str:
    """Example: 2026-01-31T09:05:00+00:00 -> 2026-01-31 09:05 UTC"""
    return f"{str(value)[:10]} {str(value)[11:16]} UTC"


def language(text: Any) -> str:
    """zh for a text with Chinese characters and no kana, which take other shapes elsewhere; else nothing."""
    kana = any("\u3040" <= sign <= "\u30ff" for sign in str(text))
    return "zh" if not kana and any("\u3400" <= sign <= "\u9fff" for sign in str(text)) else ""


def plain(text: Any) -> str:
    """Control characters as their pictures; what a browser shows is then what is there."""
    return "".join(chr(0x2400 + ord(sign)) if sign < " " and sign not in "\n\t" else sign for sign in str(text))
