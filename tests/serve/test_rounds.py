"""Work before the desk: clients take turns, few wait, and none for ever."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from instar.serve.failure import Refusal
from instar.serve.rounds import Rounds


@pytest.fixture
def pool():
    """Threads, more than there are places."""
    pool = ThreadPoolExecutor(4)
    yield pool
    pool.shutdown(wait=False)


async def status(work):
    with pytest.raises(Refusal) as caught:
        await work
    return caught.value.status


async def until(claim):
    async with asyncio.timeout(5):
        while not claim():
            await asyncio.sleep(0.001)


def test_clients_take_turns(pool):
    """S25: one client that brings much before all others keeps none of them waiting for more than one of its own."""

    async def main():
        rounds, go, done = Rounds(1, 100, 10), threading.Event(), []

        def ask(client, number):
            return asyncio.ensure_future(rounds.run(client, pool, lambda: done.append((client, number))))

        first = asyncio.ensure_future(rounds.run("a", pool, lambda: go.wait(5)))
        asked = [ask("a", n) for n in range(4)]
        await asyncio.sleep(0)
        asked += [ask("b", 0), ask("b", 1), ask("c", 0)]
        await asyncio.sleep(0)
        assert rounds.waiting == 7
        go.set()
        await asyncio.gather(first, *asked)
        assert done == [("a", 0), ("b", 0), ("c", 0), ("a", 1), ("b", 1), ("a", 2), ("a", 3)]

    asyncio.run(main())


def test_few_wait(pool):
    """S2: beyond so many a client is told to come again; who has more in the line gives up its newest for one that has
    less."""

    async def main():
        rounds, go = Rounds(1, 3, 10), threading.Event()
        asked = [asyncio.ensure_future(rounds.run("a", pool, lambda: go.wait(5))) for _ in range(4)]
        await asyncio.sleep(0)
        assert await status(rounds.run("a", pool, int)) == 429
        other = asyncio.ensure_future(rounds.run("b", pool, int))
        assert await status(asked.pop()) == 429
        assert await status(rounds.run("b", pool, int)) == 429  # which would have as many
        assert rounds.waiting == 3
        go.set()
        await asyncio.gather(other, *asked)

    asyncio.run(main())


def test_none_waits_for_ever(pool):
    """S25: who waits too long is told so (504), be it for its turn or for the work, and the place of a piece of work
    that nobody waits for is free only once it has ended."""

    async def main():
        rounds, go = Rounds(1, 3, 0.05), threading.Event()
        slow = asyncio.ensure_future(rounds.run("a", pool, lambda: go.wait(5)))
        await asyncio.sleep(0)
        assert await status(rounds.run("b", pool, int)) == 504
        assert await status(slow) == 504
        assert await status(rounds.run("b", pool, int)) == 504  # the thread still works
        go.set()
        await until(lambda: rounds._free)
        assert await rounds.run("b", pool, int) == 0
        assert rounds.waiting == 0

    asyncio.run(main())


def test_who_leaves_makes_room(pool):
    """S3: a client that has left has no turn, and one that leaves in the moment of its turn hands it on."""

    async def main():
        rounds, go = Rounds(1, 9, 10), threading.Event()
        first = asyncio.ensure_future(rounds.run("a", pool, lambda: go.wait(5)))
        waits, leaves, last = (asyncio.ensure_future(rounds.run(name, pool, list)) for name in "bcd")
        await asyncio.sleep(0)
        waits.cancel()
        await asyncio.sleep(0)
        assert rounds.waiting == 2
        rounds._leave()  # as if the first had ended just now
        leaves.cancel()
        assert await asyncio.wait_for(last, 2) == []
        go.set()
        await first

    asyncio.run(main())


def test_who_has_just_left_takes_no_place_along(pool):
    """S3: where a place becomes free in the moment in which a client leaves, before that client is woken, the next has
    its turn, be it of the same client; and where nobody is left, the place is free."""

    async def main():
        rounds, done = Rounds(1, 9, 2), []

        def ask(client, number):
            return asyncio.ensure_future(rounds.run(client, pool, lambda: done.append((client, number))))

        await rounds._turn("z")  # the place is taken
        leaves, *rest = ask("a", 0), ask("a", 1), ask("b", 0)
        await asyncio.sleep(0)
        leaves.cancel()
        rounds._leave()
        await asyncio.gather(*rest)
        assert done == [("a", 1), ("b", 0)]
        await until(lambda: rounds._free)
        await rounds._turn("z")
        last = ask("a", 2)
        await asyncio.sleep(0)
        last.cancel()
        rounds._leave()
        assert rounds._free == 1
        assert await rounds.run("b", pool, int) == 0

    asyncio.run(main())


def test_who_has_just_left_makes_room(pool):
    """S2: in a full line a client that leaves, but was not woken yet, gives its place to another, and nobody is told to
    come again."""

    async def main():
        rounds = Rounds(1, 3, 2)
        await rounds._turn("z")  # the place is taken
        *asked, leaves = (asyncio.ensure_future(rounds.run("a", pool, int)) for _ in range(3))
        await asyncio.sleep(0)
        leaves.cancel()
        # it is not a task of its own, which would begin after the other was woken
        other = rounds.run("b", pool, int)
        asyncio.get_running_loop().call_soon(rounds._leave)
        assert await other == 0
        assert await asyncio.gather(*asked) == [0, 0]

    asyncio.run(main())
