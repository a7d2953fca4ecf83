"""The answers to one request as their tokens come: texts, cut at stop texts, and the tokens that they are made of."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, NamedTuple

from starlette.requests import Request

from ..text.stops import Cut
from ..text.tokenizer import Tokenizer
from .failure import Refusal
from .service import Service, client_of
from .ticket import Backlog, Finish, Ticket, Token
from .wire import Ask


class Placed(NamedTuple):
    """A token, and where in the text of its answer it begins, in characters."""

    token: Token
    start: int


@dataclass(frozen=True)
class Piece:
    """What one more token lets us show. tokens: those whose text is shown with it, where they are told; finish: this
    is the last piece."""

    text: str
    tokens: Sequence[Placed] = ()
    finish: Finish | None = None


class Choice:
    """One answer. count: tokens that were said."""

    def __init__(
        self,
        ticket: Ticket,
        tokenizer: Tokenizer,
        stops: Sequence[str],
        *,
        tells: bool = False,
        spelt: Mapping[int, str] | None = None,
    ) -> None:
        """tells: its tokens are told too; spelt: as in Cut."""
        self.ticket, self.tells, self.count = ticket, tells, 0
        self._cut = Cut(tokenizer, stops, spelt)
        self._waiting: deque[tuple[Placed, int]] = deque()  # with where their text ends
        self._complete = False

    def enough(self) -> None:
        """What was shown is the whole answer: nothing more of it is read."""
        self._complete = True
        self.ticket.enough()

    async def pieces(self) -> AsyncGenerator[Piece]:
        """All that is shown, the last piece with its finish. Raises Refusal as a ticket does."""
        try:
            async with aclosing(self._pieces()) as pieces:
                async for piece in pieces:
                    yield piece
                    if self._complete:
                        return
        except Refusal:
            if not self._complete:
                raise

    async def _pieces(self) -> AsyncGenerator[Piece]:
        cut = self._cut
        async for token in self.ticket:
            start = cut.read
            text = cut.push(token.id, last=token.finish is not None)
            if token.id is not None:
                self.count += 1
                if self.tells:
                    self._waiting.append((Placed(token, start), cut.read))
            finish: Finish | None = "stop" if cut.hit else token.finish
            if cut.hit and token.finish is None:
                self.ticket.enough()
            tokens = list(self._released(finish is not None and not cut.hit)) if self._waiting else ()
            if text or tokens or finish is not None:
                yield Piece(text, tokens, finish)
            if finish is not None:
                return

    def _released(self, all: bool) -> Iterable[Placed]:
        """Tokens whose text is shown to its end: one that reaches into a stop text never is. A token that completes no
        character goes with the one that does."""
        shown = self._cut.shown
        while self._waiting:
            placed, end = self._waiting[0]
            if not all and (end > shown or placed.start == shown):
                return
            self._waiting.popleft()
            yield placed


class Answers:
    """All answers to one request. To be closed, whatever happens. begun: the first one has a token."""

    def __init__(
        self,
        service: Service,
        request: Request,
        asks: Sequence[Ask],
        kind: str,
        stops: Sequence[str],
        *,
        tells: bool,
        spelt: Mapping[int, str] | None = None,
    ) -> None:
        """Queue them. kind: as in Desk.ask; stops, tells, spelt: as in Choice. Raises Refusal as Desk.ask does."""
        self._note = request.scope.setdefault("instar.note", {})
        self._asked = asyncio.get_running_loop().time()
        self.begun = False
        self.tickets = service.desk.ask(asks, client_of(request), kind=kind)
        backlog = Backlog()
        for ticket in self.tickets:
            ticket.backlog = backlog
        self.choices = [Choice(ticket, service.tokenizer, stops, tells=tells, spelt=spelt) for ticket in self.tickets]

    async def first(self) -> None:
        """Wait for the first token of the first answer: until then what goes wrong still has a status of its own."""
        await self.tickets[0].first()
        self.begun = True
        self._note["first"] = asyncio.get_running_loop().time() - self._asked

    async def pieces(self) -> AsyncGenerator[tuple[int, Piece]]:
        """The pieces of all answers as they come, each with its answer's number. Raises Refusal as a ticket does."""
        if len(self.choices) == 1:
            async for piece in self.choices[0].pieces():
                yield 0, piece
            return
        # of each answer one piece is read ahead of whoever reads this, so that no text piles up here
        arrived: asyncio.Queue[tuple[int, Piece | Exception | None]] = asyncio.Queue(1)
        readers = [asyncio.create_task(_pass_on(n, choice, arrived)) for n, choice in enumerate(self.choices)]
        try:
            left = len(readers)
            while left:
                number, found = await arrived.get()
                if isinstance(found, Exception):
                    raise found
                if found is None:
                    left -= 1
                else:
                    yield number, found
        finally:
            for reader in readers:
                reader.cancel()
            await asyncio.gather(*readers, return_exceptions=True)

    def close(self) -> None:
        """Nobody waits for them any more, or all have ended; the log is told what there was."""
        for ticket in self.tickets:
            ticket.cancel()
        self._note.update(answer=self.said, cached=self.cached)

    @property
    def said(self) -> int:
        """Tokens of all answers."""
        return sum(choice.count for choice in self.choices)

    @property
    def cached(self) -> int:
        """Tokens of the prompts that were known: each prompt is counted once, whatever the number of its answers."""
        firsts = {id(ticket.ask.prompt): ticket for ticket in reversed(self.tickets)}
        return sum(ticket.cached for ticket in firsts.values())


async def _pass_on(number: int, choice: Choice, arrived: asyncio.Queue[tuple[int, Piece | Exception | None]]) -> None:
    try:
        async for piece in choice.pieces():
            await arrived.put((number, piece))
    except Exception as error:  # whatever it is, it is raised where the pieces are read
        await arrived.put((number, error))
    else:
        await arrived.put((number, None))


def usage(prompt: int, answers: Answers) -> dict[str, Any]:
    """OpenAI's counts. prompt: tokens of all prompts."""
    said = answers.said
    return {
        "prompt_tokens": prompt, "completion_tokens": said, "total_tokens": prompt + said,
        "prompt_tokens_details": {"cached_tokens": min(answers.cached, prompt)},
    }  # fmt: skip


def heading(service: Service, id: str, kind: str, created: int, model: str) -> dict[str, Any]:
    """What every answer begins with, and each of its events. kind: OpenAI's name of what it is."""
    return {
        "id": id, "object": kind, "created": created, "model": model, "system_fingerprint": service.fingerprint,
    }  # fmt: skip
