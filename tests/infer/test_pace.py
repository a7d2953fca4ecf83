"""How many tokens are guessed: as many as pay, and none for long where none do."""

import itertools
import random

import pytest

from instar.infer.pace import Pace, Paces


def test_the_length_of_a_guess_is_the_best_one():
    """No other length has a higher expected gain: the tokens that come true, less what reading the guess costs."""
    for right, wrong in ((1, 1), (1, 3), (2, 1), (9, 1), (40, 1), (1, 9)):
        for price, trial in ((0.06, 0.2), (0.25, 0.1), (0.8, 0.0)):
            pace = Pace()
            pace._right, pace._wrong, pace._untried = right, wrong, False
            chance = pace.chance
            gains = [sum(chance**n for n in range(1, size + 1)) - price * size - trial for size in range(200)]
            best = max(gains[1:])
            length = pace.next(price, trial)
            assert (length > 0) is (best > 0)
            assert not length or gains[length] == pytest.approx(best)


def test_good_guesses_grow(asked):
    """What comes true makes the next guess longer, up to the most; what does not makes it shorter."""
    paces, request = Paces(16, 16, 0.2), asked([1])
    for drafted, accepted in ((4, 4), (16, 16), (16, 3), (16, 1), (14, 0)):
        assert paces.next([request], 99) == [drafted]
        paces.told(request, drafted, accepted)
    assert paces.next([request], 99) == [6]
    assert paces.next([request], 5) == [5]
    assert (paces.drafted, paces.accepted) == (66, 24)


def test_bad_guesses_rest():
    """After failures come rests of 1, 2, 4, .. 64 steps, each ended by one try; each success makes the next shorter."""
    pace, steps = Pace(), []
    for step in range(320):
        if guess := pace.next(0.06, 0.2):
            assert guess == 4
            steps.append(step)
            pace.told(guess, 0, 0.44)
    assert [after - before - 1 for before, after in itertools.pairwise(steps)] == [1, 2, 4, 8, 16, 32, 64, 64, 64]
    while not pace.next(0.06, 0.2):
        pass
    for _ in range(4):
        pace.told(4, 4, 0.44)
    assert pace.next(0.06, 0.2) > 4
    assert pace.doubtful
    while pace.next(0.06, 0.2):
        pace.told(4, 0, 0.44)
    rest = 1
    while not pace.next(0.06, 0.2):
        rest += 1
    assert rest == 8


def test_guesses_cost_more_where_many_requests_run(asked):
    """Tokens that come true two times in three are worth guessing for one request, and not where a step is full."""
    draw, tries = random.Random(5), {}
    for running in (1, 64):
        paces, requests = Paces(4, 16, 0.2), [asked([1]) for _ in range(running)]
        tries[running] = 0
        for _ in range(200):
            for request, length in zip(requests, paces.next(requests, 4)):
                tries[running] += request is requests[0] and length > 0
                paces.told(request, length, next((n for n in range(length) if draw.random() > 2 / 3), length))
    assert tries[1] > 150
    assert 0 < tries[64] < 40
