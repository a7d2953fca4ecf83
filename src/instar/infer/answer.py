"""The text of an answer as its tokens come: cut at stop strings and never inside a character."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..text.tokenizer import Stream, Tokenizer
from .request import Event, Finish, Request


@dataclass(frozen=True)
class Completion:
    """One answer. text: without the stop text; ids: all that was said, to the end of a stop text; logprobs: of each id,
    in nats; finish: stop (a stop token or text), length, or failed, with the error; score: by which beam search ranks
    it; alternatives: the likeliest ids at each place with their log-probabilities, where asked for."""

    text: str
    ids: list[int]
    logprobs: list[float]
    finish: Finish
    score: float | None = None
    alternatives: list[list[tuple[int, float]]] = field(default_factory=list)
    error: str | None = None


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


class Answer:
    """The text of one request, as its tokens come; without a tokenizer there is none."""

    def __init__(self, request: Request, tokenizer: Tokenizer | None) -> None:
        self.request = request
        self.stream = None if tokenizer is None else Stream(tokenizer, continues=True)
        self.stops = Stops(request.options.stop)
        self.text = ""

    def push(self, event: Event) -> str:
        """What this event lets us show; whether a stop text ended the answer is then in `stopped`."""
        if self.stream is None:
            return ""
        shown = "" if event.id is None else self.stops.push(self.stream.push(event.id))
        if event.finish is not None and not self.stopped:
            shown += self.stops.push(self.stream.end()) + self.stops.end()
        self.text += shown
        return shown

    @property
    def stopped(self) -> bool:
        return self.stops.hit

    def completion(self) -> Completion:
        request = self.request
        finish = "stop" if self.stopped else request.finish or "cancelled"
        more = {"alternatives": request.alternatives, "error": request.error}
        return Completion(self.text, request.ids, request.logprobs, finish, **more)  # type: ignore[arg-type]
