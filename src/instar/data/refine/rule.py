"""What a rule is: it looks at one document and lets it go on, changes it or drops it, and says why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Verdict:
    """text: what goes on, None where the document is dropped. reason: one word for why it was dropped or changed, ""
    where it was not. detail: what was found and wanted, with both values, for a person. count: places changed."""

    text: str | None
    reason: str = ""
    detail: str = ""
    count: int = 0


class Rule(Protocol):
    """name: as recipes and the report call it. A rule holds no state that depends on the documents before, so that what
    it does is the same however documents are divided among tasks."""

    @property
    def name(self) -> str: ...

    def __call__(self, text: str, meta: dict[str, Any]) -> Verdict:
        """meta: source, kind and, once it is known, language; a rule may add to it."""
