"""The text of an answer as its tokens come: cut at stop strings and never inside a character."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..text.stops import Cut
from ..text.tokenizer import Tokenizer
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


class Answer:
    """The text of one request, as its tokens come; without a tokenizer there is none."""

    def __init__(self, request: Request, tokenizer: Tokenizer | None) -> None:
        self.request = request
        self.cut = None if tokenizer is None else Cut(tokenizer, request.options.stop)
        self.text = ""

    def push(self, event: Event) -> str:
        """What this event lets us show; whether a stop text ended the answer is then in `stopped`."""
        shown = "" if self.cut is None else self.cut.push(event.id, last=event.finish is not None)
        self.text += shown
        return shown

    @property
    def stopped(self) -> bool:
        return self.cut is not None and self.cut.hit

    def completion(self) -> Completion:
        request = self.request
        finish = "stop" if self.stopped else request.finish or "cancelled"
        more = {"alternatives": request.alternatives, "error": request.error}
        return Completion(self.text, request.ids, request.logprobs, finish, **more)  # type: ignore[arg-type]
