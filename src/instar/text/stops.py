"""Texts that end an answer, found as it comes in pieces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .tokenizer import Stream, Tokenizer


class Stops:
    """Cuts a stream where a stop text first begins, however it is split, and holds back what may still become one."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = texts
        self.held = ""
        self.hit = False

    def push(self, text: str) -> str:
        """New text -> what may be shown now. After a hit, nothing any more."""
        if self.hit:
            return ""
        self.held += text
        found, begun = self._found(), self._begun()
        # a longer stop that began earlier, and may yet be whole, would cut earlier
        self.hit = found < len(self.held) and found <= begun
        cut = min(found, begun)
        shown, self.held = self.held[:cut], "" if self.hit else self.held[cut:]
        return shown

    def end(self) -> str:
        """The stream is over: what was held back is text after all, up to a stop that stands in it."""
        found = self._found()
        self.hit = self.hit or found < len(self.held)
        shown, self.held = self.held[:found], ""
        return shown

    def _found(self) -> int:
        """Where the first whole stop begins."""
        places = (self.held.find(stop) for stop in self.texts)
        return min((place for place in places if place >= 0), default=len(self.held))

    def _begun(self) -> int:
        """Where the first stop begins that the text breaks off in."""
        size = len(self.held)
        return min((size - self._overlap(stop) for stop in self.texts), default=size)

    def _overlap(self, stop: str) -> int:
        """How many of the last characters are the beginning of a stop text."""
        longest = min(len(stop) - 1, len(self.held))
        return next((n for n in range(longest, 0, -1) if self.held.endswith(stop[:n])), 0)


class Cut:
    """The text of an answer as its ids come, without half characters, cut where a stop text begins. read: characters
    that its ids have become; shown: those that may be seen."""

    def __init__(self, tokenizer: Tokenizer, stops: Sequence[str], spelt: Mapping[int, str] | None = None) -> None:
        """spelt: control tokens that are a part of the text, against the custom, with what they say."""
        self.stream, self.stops, self.spelt = Stream(tokenizer, continues=True), Stops(stops), spelt or {}
        self.read = self.shown = 0

    @property
    def hit(self) -> bool:
        """Whether a stop text has ended it: nothing that comes behind is shown."""
        return self.stops.hit

    def push(self, id: int | None, last: bool) -> str:
        """What one more id lets us show. last: there are no more."""
        text = ""
        if id is not None:
            said = self.spelt.get(id)
            text = self._show(self.stream.push(id) if said is None else self.stream.end() + said)
        if last and not self.hit:
            text += self._show(self.stream.end())
            rest = self.stops.end()
            self.shown += len(rest)
            text += rest
        return text

    def _show(self, text: str) -> str:
        self.read += len(text)
        shown = self.stops.push(text) if self.stops.texts else text
        self.shown += len(shown)
        return shown
