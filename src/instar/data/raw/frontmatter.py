"""What a Markdown file says of itself before its text: YAML between ---, or TOML between +++."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from typing import Any

# characters; a longer one is text between rules
_LONGEST = 16_384
_BLOCK = re.compile(r"(---|\+\+\+)[ \t]*\n(.*?\n)(?:\1|\.\.\.)[ \t]*(?:\n|\Z)", re.S)
_KEY = re.compile(r"[ \t#]*[A-Za-z_][\w -]*[ \t]*[:=]")
_TITLE = re.compile(r"""^title[ \t]*[:=][ \t]*["']?(.*?)["']?[ \t]*$""", re.M)
_KEYS = ("title", "author", "date", "keywords", "language", "licence")
_OTHERS = {"authors": "author", "tags": "keywords", "categories": "keywords", "lang": "language", "license": "licence"}
_MOST = 50  # authors, keywords


def front_matter(text: str) -> tuple[str, dict[str, Any]]:
    """The text after it, and title, author, date, keywords, language and licence as far as they are plain values;
    "bibliography" where there is one. What looks like it and cannot be parsed is left out too, but for its title."""
    found = _BLOCK.match(text[:_LONGEST].lstrip("\ufeff\n"))
    if not found or not _KEY.match(found[2].lstrip()):
        return text, {}
    values = _values(found[1], found[2])
    if values is None:
        title = _TITLE.search(found[2])
        values = {"title": title[1]} if title else {}
    rest = text.lstrip("\ufeff\n")[found.end() :]
    meta: dict[str, Any] = {}
    for key, value in values.items():
        name = _OTHERS.get(str(key).lower(), str(key).lower())
        said = _said(value)
        if name in _KEYS and said and name not in meta:
            meta[name] = said if name == "keywords" else ", ".join(said)[:1000]
    return rest, meta | ({"bibliography": True} if values.get("bibliography") or values.get("references") else {})


def _values(fence: str, block: str) -> Mapping[str, Any] | None:
    try:
        if fence == "+++":
            import tomllib

            return tomllib.loads(block)
        import yaml

        # an alias is a reference to the same object, so that what is read is no larger than what is written
        values = yaml.safe_load(block)
    except (ValueError, RecursionError, ImportError):
        return None
    except Exception:  # PyYAML raises errors of its own and, for a date such as 2020-99-99, those of others
        return None
    return values if isinstance(values, Mapping) else None


def _said(value: Any) -> list[str]:
    """A string, number or date, or the names in a list of them, one level deep."""
    if isinstance(value, (list, tuple)):
        return [said for one in value[:_MOST] for said in ([] if isinstance(one, list) else _said(one))]
    if isinstance(value, Mapping):
        parts = [value.get(key) for key in ("given", "given-names", "surname", "family")]
        name = value.get("name") or " ".join(part for part in parts if isinstance(part, str))
        return [name.strip()] if isinstance(name, str) and name.strip() else []
    if isinstance(value, date):
        return [value.isoformat()[:10]]
    if isinstance(value, (str, int, float)) and not isinstance(value, bool):
        return [" ".join(str(value).split())] if str(value).strip() else []
    return []
