"""The benchmark of looking inside measures what it says."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "inside.py"


@pytest.mark.slow
def test_it_measures_a_small_shape(tmp_path):
    """Two rounds, each a process of its own: seconds of each part, and at least the bytes of a trace."""
    shape = ["--tokens", "128", "--layers", "2", "--heads", "4", "--d-model", "64", "--rounds", "2"]
    out = tmp_path / "inside.json"
    done = subprocess.run(
        [sys.executable, BENCHMARK, *shape, "--json", out], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "128 tokens, 2 layers of 4 heads, d=64" in done.stdout
    record = json.loads(out.read_text())
    assert len(record["rounds"]) == 2
    for one in record["rounds"]:
        assert min(one["trace"], one["atlas"], one["forward"]) > 0
        assert one["kept"] >= 2 * 4 * 128 * 16 * 4 * 4  # q, k, v and y of two layers
    assert record["seconds"] > 0
