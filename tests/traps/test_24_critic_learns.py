"""Trap 24: the critic was never trained, or the value loss was cut off from it; nobody could tell. A loss without a
gradient. hiyouga/LLaMA-Factory#124, #1464; jingyaogong/minimind#564, #750.

Guard: in the warm-up every weight of the critic moves and none of the policy's; afterwards both do. A toy reward rises.
"""

import json
from pathlib import Path

import pytest
import torch

from instar.train import reinforce
from instar.train.trainer import Trainer

pytestmark = pytest.mark.usefixtures("one_thread")


def moved(stage, steps):
    """The names of the weights that so many more steps moved, by network."""
    before = {name: weight.detach().clone() for name, weight in stage.model.named_parameters()}
    Trainer(stage.model, stage.objective, stage.loader, stage.train, steps=steps).fit()
    changed = {name for name, weight in stage.model.named_parameters() if not torch.equal(weight, before[name])}
    return {part: {n for n in changed if n.startswith(f"{part}.")} for part in ("policy", "critic")}, before


def test_a_warm_up_moves_the_critic_alone(reinforced, stage_of):
    """Four steps of the first phase move every weight of the critic and, even with decay, none of the policy; the next
    phase moves both."""
    stage = stage_of(reinforced("ppo", critic={"warmup": 1}, train={"weight_decay": 0.1}))
    first, before = moved(stage, 4)
    assert (stage.loader.phase, stage.loader.place) == (1, 4)
    names = [name for name in before if name.startswith("critic.")]
    used = {name for name in names if name not in unused(stage)}
    assert first == {"policy": set(), "critic": used}
    second, before = moved(stage, 4)
    assert second["critic"] == used
    assert len(second["policy"]) > len(before) / 3


def unused(stage):
    """Weights without a gradient: none."""
    return {
        name for name, weight in stage.model.named_parameters() if name.startswith("critic.") and weight.grad is None
    }


def test_the_critic_foresees_what_there_is_to_foresee(reinforced, stage_of):
    """Where every answer has the reward 1, the critic says 1 after a while, and the figures tell that it does."""
    stage = stage_of(reinforced(
        "ppo", lam=1.0, critic={"warmup": 99, "pace": 3.0}, kl={"coefficient": 0.0},
        reward=("instar.train.rewards:toy_one",),
        rollouts={"epochs": 8},
    ))  # fmt: skip
    errors = []
    trainer = Trainer(stage.model, stage.objective, stage.loader, stage.train, steps=24)
    trainer.on_step = [lambda _, record: errors.append(record["value_error"])]
    trainer.fit()
    assert errors[0] == pytest.approx(1, abs=0.1)
    assert errors[-1] < 0.05


@pytest.fixture(autouse=True)
def one(monkeypatch):
    """A reward of 1 for everything."""
    from instar.train import rewards

    monkeypatch.setattr(rewards, "toy_one", lambda record, answer: 1.0, raising=False)


@pytest.mark.parametrize("kind", ["ppo", "grpo"])
def test_a_toy_reward_rises(reinforced, kind):
    """From a model that says anything to one that mostly says vowels, in seconds, by the command's own road; the KL by
    k3 is never below 0."""
    train = {"steps": 32, "lr": 3e-2}
    options = {
        "ppo": lambda: reinforced(
            "ppo", rollouts={"prompts": 16, "answers": 2}, train=train, critic={"pace": 1.0}, kl={"coefficient": 0.0}
        ),
        "grpo": lambda: reinforced("grpo", rollouts={"prompts": 8, "answers": 4}, train=train),
    }[kind]()
    report = getattr(reinforce, kind)(options)
    rows = [json.loads(line) for line in (Path(options.out) / "metrics.jsonl").read_text().splitlines()]
    assert rows[0]["reward"] < 0.2
    assert rows[-1]["reward"] > 2 * rows[0]["reward"]
    assert report["held_out_reward_after"] > report["held_out_reward_before"] + 0.3
    assert all(row["kl_k3"] >= 0 for row in rows)
    assert rows[-1]["kl_answer"] > 0
