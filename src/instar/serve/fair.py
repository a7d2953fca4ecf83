"""Who is next: turns are shared between clients by the tokens each has had, not by how often it asks.

The Virtual Token Counter of Sheng et al. 2024, "Fairness in Serving Large Language Models"
(https://arxiv.org/abs/2401.00588), algorithm 2.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator

from .ticket import Errand

READ = 1  # what a token of a prompt counts
SAID = 2  # what a token of an answer counts: it takes a step of its own
MOST_CLIENTS = 4096  # counters kept of clients that ask for nothing now


class FairQueue:
    """Errands of each client in the order in which they came; of the clients, the one that has had least is next."""

    def __init__(self) -> None:
        self._lines: dict[str, deque[Errand]] = {}
        self._counted: dict[str, int] = {}
        self._turns: dict[str, int] = {}  # number of each client's latest turn
        self._last = ""
        self._length = self._turn = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Errand]:
        for line in self._lines.values():
            yield from line

    def add(self, errand: Errand) -> None:
        """Queue an errand. Who had nothing in the queue is lifted to whoever had least of those who have: time in which
        one asks for nothing cannot be saved up."""
        client = errand.client
        if client not in self._lines:
            had = [self._counted[other] for other in self._lines]
            floor = min(had) if had else self._counted.get(self._last, 0)
            self._counted[client] = max(self._counted.get(client, 0), floor)
            self._lines[client] = deque()
        self._lines[client].append(errand)
        self._length += 1

    def next(self, kinds: Collection[bool] = (False, True)) -> Errand | None:
        """Take out the errand whose turn it is, and count what is read for it; None where there is none of these kinds.
        kinds: what `reads` of an errand may be. Of clients that have had as much as each other, the one whose latest
        turn is longer ago is next: who has just come was lifted to who had least."""
        firsts = {
            client: errand
            for client, line in self._lines.items()
            if (errand := next((errand for errand in line if errand.reads in kinds), None)) is not None
        }
        if not firsts:
            return None
        client = min(firsts, key=lambda client: (self._counted[client], self._turns.get(client, 0)))
        errand = firsts[client]
        self._turn += 1
        self._turns[client] = self._turn
        self.remove(errand)
        self.charge(client, READ * errand.tokens)
        return errand

    def remove(self, errand: Errand) -> None:
        """Take an errand out of turn."""
        line = self._lines[errand.client]
        line.remove(errand)
        self._length -= 1
        if not line:
            del self._lines[errand.client]
            self._last = errand.client
            self._prune()

    def crowding(self, client: str, more: int, wanted: int) -> list[Errand]:
        """As many errands as are wanted, or a few more, that give up their places in a full queue to a client with some
        more: the newest requests of whoever has most in it, as long as it has no less than this client then; none where
        that is not enough. A request gives up all of its errands or none, and none where one of them has begun:
        the rest of an answer is worth nothing. Else one client that fills the queue would keep all others out of it
        (longest queue drop, Suter et al. 1998, "Design Considerations for Supporting TCP with Per-flow Queueing")."""
        counts = {other: len(line) for other, line in self._lines.items()}
        own = counts.pop(client, 0) + more
        requests: dict[str, list[list[Errand]]] = {}
        found: list[Errand] = []
        while len(found) < wanted:
            longest = max(counts, key=counts.__getitem__, default=client)
            spare = counts.get(longest, 0) - own
            if spare < 1:
                return []
            whole = requests.setdefault(longest, self._whole(longest))
            newest = next((n for n in reversed(range(len(whole))) if len(whole[n]) <= spare), None)
            if newest is None:
                del counts[longest]
                continue
            counts[longest] -= len(whole[newest])
            found += whole.pop(newest)
        return found

    def _whole(self, client: str) -> list[list[Errand]]:
        """A client's requests of which all errands wait, oldest first."""
        found: dict[int, list[Errand]] = {}
        for errand in self._lines[client]:
            found.setdefault(errand.request, []).append(errand)
        return [errands for errands in found.values() if len(errands) == errands[0].parts]

    def charge(self, client: str, count: int) -> None:
        """A client has had so much."""
        self._counted[client] = self._counted.get(client, 0) + count

    def had(self, client: str) -> int:
        """What a client is counted to have had."""
        return self._counted.get(client, 0)

    def _prune(self) -> None:
        """Counters of the clients that came first and ask for nothing now are given up: on return they begin where
        everyone stands who is new."""
        for client in list(self._counted)[: max(0, len(self._counted) - MOST_CLIENTS)]:
            if client not in self._lines and client != self._last:
                del self._counted[client]
                self._turns.pop(client, None)
