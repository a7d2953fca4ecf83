"""Trap 12 for stages that sample what they learn from: a run that was stopped in the middle of a phase sampled anew, by
other weights, or learnt from the same answers twice.

Guard: a checkpoint holds the answers of the phase with all that was found out about them, and where it stands in them.
"""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from instar.config import Interrupted
from instar.train import policy, reinforce
from instar.train.commit import verify

pytestmark = pytest.mark.usefixtures("one_thread")

KINDS = {
    "ppo": (
        "ppo",
        {
            "critic": {"warmup": 1},
            "kl": {"coefficient": 0.1, "target": 0.5, "horizon": 20.0, "stop": 8e-3},
            "rollouts": {"prompts": 8},
        },
    ),
    "ppo-lora": ("ppo", {"critic": {"warmup": 1}, "rollouts": {"prompts": 8}, "lora": {"rank": 3}}),
    "grpo": ("grpo", {"kl": {"coefficient": 0.1}}),
    "rloo": ("grpo", {"algorithm": "rloo", "kl": {"coefficient": 0.1, "where": "reward"}}),
}


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_was_stopped_in_a_phase_is_the_same_run(reinforced, monkeypatch, kind, dtype):
    """T10, T17. SIGUSR1 in step 6, the second of the four of a phase, between two of its micro-batches: every tensor of
    the last checkpoint, the model and every line of the log are bit for bit those of the run that was not stopped."""
    command, changes = KINDS[kind]
    named = {"dtype": dtype, "train": {"steps": 11, "micro_tokens": 64}, "checkpoint": {"every": 4}, **changes}
    whole, parts = (reinforced(command, out=out, **named) for out in ("whole", "parts"))
    run = getattr(reinforce, command)
    run(whole)
    usual, calls = policy.ClippedObjective.__call__, []

    def interrupted(self, model, batch):
        calls.append(1)
        if len(calls) == stop_at:
            os.kill(os.getpid(), signal.SIGUSR1)
        return usual(self, model, batch)

    stop_at = 11
    monkeypatch.setattr(policy.ClippedObjective, "__call__", interrupted)
    with pytest.raises(Interrupted, match="stopped at step") as stopped:
        run(parts)
    monkeypatch.undo()
    assert 2 < int(str(stopped.value).split()[3]) < 11
    assert kind != "ppo" or any("ended_early" in line for line in (Path(whole.out) / "metrics.jsonl").open())
    state = newest(Path(parts.out))["trainer"]["source"]
    assert state["minibatches"], "the run was stopped between two phases, which shows nothing"
    assert 0 < state["place"] < 4
    torch.manual_seed(99)
    run(replace(parts, resume=True))
    found, wanted = outcome(Path(parts.out)), outcome(Path(whole.out))
    assert [step for step, *_ in wanted["log"]] == list(range(1, 12))
    for name in wanted:
        assert found[name] == wanted[name], name


def newest(run):
    folder = sorted((run / "checkpoints").glob("step-*"))[-1]
    return json.loads((folder / "trainer.json").read_text())


NAMES = (
    "loss",
    "policy",
    "value",
    "grad_norm",
    "reward",
    "kl",
    "kl_answer",
    "kl_coefficient",
    "ratio",
    "advantage_std",
)


def outcome(run):
    last = run / "checkpoints" / "step-000000011"
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    report = json.loads((run / "report.json").read_text())
    unlike = {"seconds", "tokens_per_second", "finished"}
    return {
        "log": [(row["step"], *(float(row.get(name) or 0).hex() for name in NAMES)) for row in rows],
        "files": {name: entry for name, entry in verify(last)["files"].items() if name.startswith("state/")},
        "random": newest(run)["random"],
        # the two lines of an adapter's metadata come in any order
        "model": {name: weight.tolist() for name, weight in load_file(next(run.glob("*model.safetensors"))).items()},
        "report": {name: value for name, value in report.items() if name not in unlike},
    }
