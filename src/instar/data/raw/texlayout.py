"""What is open while LaTeX is read: groups, environments, and the pages written on; and what their ends do.

All of it stands in lists, so that a source may nest as deeply as it likes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from .prose import Prose

Closing = Callable[[], None] | None
# pages inside each other (a heading in a footnote in a title); what is deeper is written in place
_PAGES = 6


@dataclass(frozen=True, slots=True)
class Environment:
    """One that has not ended. groups: how many were open before it; closing: what its end does."""

    name: str
    groups: int
    closing: Closing


class Layout:
    """prose: the page that is written on now."""

    def __init__(self) -> None:
        self.pages = [Prose()]
        self.groups: list[Closing] = []
        self.open: list[Environment] = []
        self.tables = 0
        self.lists: list[list[str]] = []  # of each its kind and a mark for every item so far
        self._names: Counter[str] = Counter()

    @property
    def prose(self) -> Prose:
        return self.pages[-1]

    def page(self, done: Callable[[Prose], None]) -> Closing:
        """What is written from now on goes to a page of its own, which `done` gets at the closing that is returned."""
        if len(self.pages) > _PAGES:
            return None
        depth = len(self.pages)
        self.pages.append(Prose())

        def closing() -> None:
            if len(self.pages) > depth:
                page = self.pages[depth]
                del self.pages[depth:]
                done(page)

        return closing

    def close_group(self) -> None:
        """A brace without its partner closes nothing."""
        if self.groups and (closing := self.groups.pop()):
            closing()

    def begin(self, name: str, closing: Closing) -> None:
        self.open.append(Environment(name, len(self.groups), closing))
        self._names[name] += 1

    def begin_table(self) -> Closing:
        self.tables += 1

        def closing() -> None:
            self.tables -= 1

        return closing

    def begin_list(self, kind: str) -> Closing:
        self.lists.append([kind])

        def closing() -> None:
            del self.lists[-1:]

        return closing

    def end(self, name: str) -> None:
        """This environment and all that were opened in it; one that is not open is a mistake of the source."""
        if self._names[name]:
            while self._end_last() != name:
                pass

    def end_all(self) -> None:
        while self.open:
            self._end_last()
        while self.groups:
            self.close_group()

    def _end_last(self) -> str:
        last = self.open.pop()
        self._names[last.name] -= 1
        while len(self.groups) > last.groups:
            self.close_group()
        self.prose.end_paragraph()
        if last.closing:
            last.closing()
        return last.name
