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
