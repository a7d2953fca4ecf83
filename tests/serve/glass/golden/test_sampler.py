"""The golden vectors of the sampler, which the page's own sampler must repeat."""

import json
import math
import runpy
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent
GOLDEN = json.loads((HERE / "sampler.json").read_text(encoding="utf-8"))
EDGE = 1e-5  # nothing that is decided may hang on less


def test_the_golden_file_is_what_the_engine_does_now():
    """Known answer "Sampler": each case, computed again, keeps, draws and tells what the file says."""
    now = runpy.run_path(str(HERE / "write_sampler.py"))["cases"]()
    assert [one["name"] for one in now] == [one["name"] for one in GOLDEN]
    for told, found in zip(GOLDEN, now):
        name = told["name"]
        for key in ("logits", "options", "prompt", "said", "u", "id", "rank"):
            assert found[key] == told[key], (name, key)
        for key in ("low", "high", "logprob"):
            assert found[key] == (told[key] and pytest.approx(told[key], rel=1e-5, abs=1e-7)), (name, key)
        assert [stage["name"] for stage in found["stages"]] == [stage["name"] for stage in told["stages"]], name
        for one, other in zip(found["stages"], told["stages"]):
            assert one["kept"] == other["kept"], (name, one["name"])
            np.testing.assert_allclose(one["p"], other["p"], rtol=1e-5, atol=1e-9, err_msg=name)
            assert one["entropy"] == pytest.approx(other["entropy"], abs=1e-5), name


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case["name"])
def test_no_case_hangs_on_rounding(case):
    """A sampler in fp64 decides every case as one in fp32 does, and probabilities add up to 1."""
    for stage in case["stages"]:
        assert math.fsum(stage["p"]) == pytest.approx(1, abs=1e-6)
    if case["low"] is not None:
        assert case["u"] == case["low"] == 0 or case["low"] + EDGE < case["u"]
        assert case["high"] == 1 or case["u"] < case["high"] - EDGE
    p = case["options"].get("top_p")
    if p:
        names = [stage["name"] for stage in case["stages"]]
        place = names.index("top_p")
        before = np.array(case["stages"][place - 1]["p"])
        reached = np.sort(before)[::-1].cumsum()
        ties = np.unique(before).size < before.size
        assert ties or np.abs(reached - p).min() > EDGE
    share = case["options"].get("min_p")
    if share and share < 1:
        p = np.array(case["stages"][0]["p"] if len(case["stages"]) == 2 else case["stages"][-2]["p"])
        assert np.abs(p / p.max() - share).min() > EDGE
