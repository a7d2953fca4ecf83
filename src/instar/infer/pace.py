"""How many tokens to guess for a request: as many as pay, by how its last guesses went."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..config import InputError
from .request import Request

RESTS = 7  # kinds of rests between two tries: 1, 2, 4, .. 64 steps
SURE = 0.98  # no token is surer than that
KEEP = 0.5  # weight of each guess before the last, in what a request remembers of them


class Pace:
    """How much one request guesses, by how its last guesses went.

    Each token of a guess comes true with a chance that is estimated from the last few, and costs a share of a step; so
    the longest guess is made whose last token is still worth its price. Where none pays, the request rests for 1, 2, 4,
    .. 64 steps before it tries again, and the longer, the more often that happened.
    """

    def __init__(self) -> None:
        self.misses = 0  # rests, less one for each guess that paid since
        self._rest = 0
        self._reset()

    def _reset(self) -> None:
        self._right = self._wrong = 1.0
        self._untried = True

    @property
    def doubtful(self) -> bool:
        """Whether guessing has not paid lately."""
        return self.misses > 0

    @property
    def chance(self) -> float:
        """Of a token of the next guess to come true, if those before it did."""
        return min(SURE, self._right / (self._right + self._wrong))

    def next(self, price: float, trial: float) -> int:
        """How many tokens to guess in this step, 0 while it rests. price: of each token, in steps; trial: of any."""
        if self._rest:
            self._rest -= 1
            return 0
        chance = self.chance
        length = int(math.log(price) / math.log(chance)) if chance > price else 0
        if self._untried:
            return max(1, length)
        if chance * (1 - chance**length) / (1 - chance) > price * length + trial:
            return length
        self.misses = min(self.misses + 1, RESTS)
        self._rest = 2 ** (self.misses - 1) - 1  # this step is one
        self._reset()
        return 0

    def told(self, drafted: int, accepted: int, cost: float) -> None:
        """A guess was read, which cost so many steps."""
        self._untried = False
        self._right = KEEP * self._right + accepted
        self._wrong = KEEP * self._wrong + (accepted < drafted)
        if self.misses and accepted > cost:
            self.misses -= 1


class Paces:
    """A pace for each request, and what came of all guesses. Part of every proposer.

    rows: by so many tokens a step of this device takes twice as long as with none, for then arithmetic takes as long
    as reading the weights. With B requests in a step, a token more costs B / (rows + B) of what one request's share of
    the step does: little where few run, and nearly all where many do. trial: what a guess costs before its first
    token, in steps, for one request alone: products of one row are quicker than others.
    """

    def __init__(self, most: int, rows: int, trial: float, share: float = 0.0) -> None:
        """share: of a step, that it takes to guess a token."""
        if most < 1 or rows < 1 or trial < 0:
            raise InputError(f"most={most}, rows={rows} and trial={trial}, wanted at least 1, 1 and 0")
        self.most, self.rows, self.trial, self.share = most, rows, trial, share
        self.drafted = self.accepted = 0
        self._of: dict[Request, Pace] = {}
        self._price, self._trial = 1.0, trial

    def next(self, requests: Sequence[Request], most: int) -> list[int]:
        """How many tokens to guess for each request in this step; never more than it still has to say, since the step
        says one by itself."""
        self._price = len(requests) / (self.rows + len(requests)) + self.share
        self._trial = self.trial / max(1, len(requests))
        most = min(most, self.most)
        return [
            min(
                most,
                self[request].next(self._price, self._trial),
                request.options.max_new_tokens - len(request.ids) - 1,
            )
            for request in requests
        ]

    def __getitem__(self, request: Request) -> Pace:
        pace = self._of.get(request)
        if pace is None:
            pace = self._of[request] = Pace()
        return pace

    def told(self, request: Request, drafted: int, accepted: int) -> None:
        """What came of a guess; none was made where drafted is 0."""
        if not 0 <= accepted <= drafted:
            raise InputError(f"found accepted={accepted} of drafted={drafted}, wanted 0 <= accepted <= drafted")
        if drafted:
            self.drafted += drafted
            self.accepted += accepted
            if (pace := self._of.get(request)) is not None:  # a request's last guess may be told when it has ended
                pace.told(drafted, accepted, self._price * drafted + self._trial)

    def forget(self, request: Request) -> None:
        self._of.pop(request, None)

    def __len__(self) -> int:
        return len(self._of)
