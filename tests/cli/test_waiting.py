"""How threads wait: chosen before torch is there, never against the user."""

import os

import pytest

from instar.cli import waiting


@pytest.mark.parametrize(
    ("load", "serves", "given", "policy"),
    [
        (0.0, False, {}, None),  # alone: ready to go on at once
        (3.0, False, {}, "PASSIVE"),
        (0.0, True, {}, "PASSIVE"),  # a server is not alone for long
        (3.0, False, {"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE"),
        (3.0, True, {"GOMP_SPINCOUNT": "5"}, None),
    ],
)
def test_threads_sleep_where_others_work(monkeypatch, load, serves, given, policy):
    """Spinning threads take cores from everyone; what the user has set stays."""
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0))
    monkeypatch.setattr(waiting, "cores", lambda: 4)
    environment = dict(given)
    waiting.prepare(environment, serves=serves)
    assert environment.get("OMP_WAIT_POLICY") == policy
    assert environment["THP_MEM_ALLOC_ENABLE"] == "1"


def test_a_system_that_does_not_tell(monkeypatch):
    """It counts as idle."""

    def none():
        raise OSError

    monkeypatch.setattr(os, "getloadavg", none)
    assert not waiting.busy()
    assert waiting.cores() >= 1
