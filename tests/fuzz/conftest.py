"""How long a fuzz test runs: some hundred examples every day, or the seconds of INSTAR_FUZZ_SECONDS."""

import os
import time

import pytest
from hypothesis import HealthCheck, seed, settings

# As many as there are slow tests; the seconds are divided among them.
TARGETS = 4
EVERYDAY = settings(
    max_examples=150, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
LONG = settings(EVERYDAY, max_examples=1000, derandomize=False)


@pytest.fixture
def briefly():
    """briefly(property) runs it on the same examples every time."""
    return lambda check: EVERYDAY(check)()


@pytest.fixture
def for_long():
    """for_long(property) runs it on new examples until its share of the seconds is over."""

    def run(check):
        end = time.monotonic() + float(os.environ.get("INSTAR_FUZZ_SECONDS", "3600")) / TARGETS
        number = time.time_ns()
        check = LONG(check)
        while time.monotonic() < end:
            number += 1
            print(f"seed {number}")  # shown where a run fails
            seed(number)(check)()

    return run
