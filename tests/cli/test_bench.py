"""`instar bench decode`."""

import pytest

from instar.eval.limits import Limits

SHORT = ("--streams", "1", "2", "--prompt", "8", "--new", "12", "--repeats", "1")


@pytest.fixture(autouse=True)
def known_limits(monkeypatch):
    """A machine whose limits need no measuring."""
    limits = Limits(1e10, dict.fromkeys(("fp32", "bf16", "fp16"), 1e11))
    monkeypatch.setattr("instar.eval.limits.measure_limits", lambda device: limits)


def test_folder(grown, cli):
    """A row for each number of streams, for machines and for people."""
    report = cli("bench", "decode", "--model", grown.base, *SHORT, "--json").json
    assert [speed["streams"] for speed in report["speeds"]] == [1, 2]
    assert all(speed["rate"] > 0 and 0 < speed["rate_share"] < 1 for speed in report["speeds"])
    assert report["dtype"] == "fp32"
    assert report["weight_bytes"] == 4 * report["weights"]
    assert report["peak_bytes"] > report["weight_bytes"]
    shown = cli("bench", "decode", "--model", grown.base, *SHORT)
    assert shown.status == 0
    rows = [line.split() for line in shown.out.splitlines()]
    assert [row[0] for row in rows if row and row[0] in ("1", "2")] == ["1", "2"]
    assert "10.0 GB/s" in shown.out


def test_preset(cli):
    """A named shape needs no folder and no tokenizer, and takes the precision that is asked for."""
    report = cli("bench", "decode", "--preset", "t5-nano", *SHORT, "--dtype", "bf16", "--json").json
    assert report["dtype"] == "bf16"
    assert report["weight_bytes"] == 2 * report["weights"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "neither --model nor --preset"),
        (("--preset", "nano", "--model", "x"), "both --model and --preset"),
        (("--preset", "nanoo"), "nano"),
        (("--model", "nowhere"), "nowhere"),
        (("--preset", "bert-nano"), "decoder"),
        (("--preset", "nano", "--streams", "0"), "streams=(0,)"),
        (("--preset", "nano", "--streams"), "streams=()"),
        (("--preset", "nano", "--new", "1"), "new=1, wanted at least 2"),
        (("--preset", "nano", "--prompt", "0"), "prompt=0"),
        (("--preset", "nano", "--repeats", "0"), "repeats=0"),
        (("--preset", "nano", "--prompt", "2000"), "1024"),
    ],
)
def test_wrong(cli, words, said):
    """What cannot be measured is said in one line."""
    result = cli("bench", "decode", *words)
    assert (result.status, result.out) == (2, "")
    assert said in result.err
    assert result.err.count("\n") == 1


def test_too_large(cli, monkeypatch):
    """A shape that memory cannot hold is refused before its weights are drawn."""
    monkeypatch.setattr("instar.hub.memory.free_bytes", lambda device: 1 << 20)
    result = cli("bench", "decode", "--preset", "nano", *SHORT)
    assert result.status == 2
    assert "GB" in result.err
