"""One answer, as whoever asked reads it."""

import asyncio

import pytest

from instar.config.options import SamplingOptions
from instar.serve.failure import broken
from instar.serve.ticket import BACKLOG, Backlog, Ticket, Token, size_of
from instar.serve.wire import Ask


def ticket(leave=None):
    return Ticket(Ask(1, [1, 2], SamplingOptions(), 0, source=[3]), "a", leave=leave)


def test_first_waits_for_a_token_and_leaves_it_there():
    """A route knows whether there will be an answer before it sends a status, and reads it whole afterwards."""

    async def reading():
        one = ticket()
        assert one.tokens == 3  # prompt and source
        first = asyncio.ensure_future(one.first())
        await asyncio.sleep(0)
        assert not first.done()
        one.say(Token(4, -0.5, None))
        await first
        one.over = True
        one.say(Token(None, 0.0, "stop"))
        await one.first()
        return [token.id async for token in one]

    assert asyncio.run(reading()) == [4, None]


def test_a_failure_comes_after_what_was_said():
    """Tokens that came before a failure are read first; then every further look at the answer raises it."""

    async def reading():
        one = ticket()
        one.say(Token(4, -0.5, None))
        one.fail(broken())
        await one.first()
        assert (await anext(aiter(one))).id == 4
        for look in (one.first, lambda: anext(aiter(one))):
            with pytest.raises(type(broken()), match="failed at this request"):
                await look()

    asyncio.run(reading())


def test_to_leave_is_told_once():
    """To cancel, or to have had enough, is told as long as the answer goes on, with how it is to be counted."""

    async def leaving():
        told = []

        def leave(one, how):
            told.append(how)
            one.over = True

        for act in ("cancel", "enough"):
            one = ticket(leave)
            getattr(one, act)()
            one.cancel()
            one.enough()
        ticket().cancel()  # of a ticket without a desk nobody is told
        return told

    assert asyncio.run(leaving()) == ["aborted", "finished"]


def test_what_waits_is_counted_from_the_first_reading_on():
    """S4: what comes while an answer is read counts until it is read; what came before does not."""

    async def reading():
        one = ticket()
        token = Token(1, -0.5, None, [(1, -0.5)] * 20)
        many = BACKLOG // size_of(token)
        assert all(one.say(token) for _ in range(2 * many))
        reader = aiter(one)
        for _ in range(2 * many):
            await anext(reader)
        assert all(one.say(token) for _ in range(many))
        assert not one.say(token)
        await anext(reader)
        await anext(reader)
        assert one.say(token)
        assert size_of(token) > 20 * size_of(Token(1, -0.5, None)) / 10
        one.forget()
        assert one.say(Token(9, -0.5, None))
        assert (await anext(reader)).id == 9  # what waited is gone
        assert all(one.say(token) for _ in range(many))

    asyncio.run(reading())


def test_answers_to_one_request_share_what_may_wait():
    """S4: n answers to one reader hold no more of its memory than one does."""

    async def reading():
        many, token = [ticket() for _ in range(4)], Token(1, -0.5, None)
        shared = Backlog()
        for one in many:
            one.backlog = shared
            aiter(one)
        each = BACKLOG // size_of(token) // 4
        assert all(one.say(token) for one in many for _ in range(each))
        assert not many[0].say(token)
        many[1].forget()
        assert many[0].say(token)
        assert shared.bytes == size_of(token) * (3 * each + 2)

    asyncio.run(reading())
