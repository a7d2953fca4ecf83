"""How threads wait: chosen before torch is there, never against the user."""

import os

import pytest

from instar.cli import waiting


@pytest.mark.parametrize(
    ("load", "still", "serves", "given", "policy"),
    [
        (0.0, 0, False, {}, None),  # alone: ready to go on at once
        (3.0, 30, False, {}, "PASSIVE"),
        (3.0, 5, False, {}, None),  # of late, and no more
        (0.0, 0, True, {}, "PASSIVE"),  # a server is not alone for long
        (3.0, 30, False, {"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE"),
        (3.0, 30, True, {"GOMP_SPINCOUNT": "5"}, None),
    ],
)
def test_threads_sleep_where_others_work(monkeypatch, load, still, serves, given, policy):
    """Spinning threads take cores from everyone; what the user has set stays."""
    ticks = iter([(1000, 9000), (1000 + still, 9040)])
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0))
    monkeypatch.setattr(waiting, "_spent", lambda stat: next(ticks))
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


def test_a_system_that_does_not_tell_what_goes_on_now(monkeypatch, tmp_path):
    """What it says of the last minute counts; one that tells is read in ticks: those at work, and all."""
    monkeypatch.setattr(os, "getloadavg", lambda: (64.0 * waiting.cores(), 0.0, 0.0))
    assert waiting.busy(tmp_path / "stat")
    mine = min(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    lines = ["cpu  99 9 9 9 9 9 9 9 0 0", f"cpu{mine} 10 1 5 100 4 0 2 3 0 0", "cpu4095 7 7 7 7 7 7 7 7 0 0", "intr 5"]
    (tmp_path / "stat").write_text("\n".join(lines))
    assert waiting._spent(tmp_path / "stat") == (21, 125)
    assert not waiting.busy(tmp_path / "stat")
