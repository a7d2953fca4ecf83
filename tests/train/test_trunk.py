"""PPO on one trunk: policy, reference, critic and reward model are adapters of one base."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from instar.adapt.folders import load, load_adapted
from instar.adapt.lora import using, weights_of
from instar.batch import IGNORE
from instar.config import InputError
from instar.config.options import LoraOptions
from instar.infer.scoring import Scorer
from instar.train import reinforce
from instar.train.logprobs import said_logprobs
from instar.train.trainer import Trainer


@pytest.fixture(scope="module")
def reward_adapter(taught_reward):
    """A reward model that is an adapter on the talker."""
    return taught_reward(steps=6, lr=3e-2, lora=LoraOptions(rank=2))


def small(**more):
    return {"lora": {"rank": 3}, **more}


def test_only_the_policy_and_the_critic_move(reinforced, stage_of):
    """The base stays as it is, bit for bit; the policy's adapter, the critic's and the critic's head move."""
    stage = stage_of(reinforced("ppo", **small()))
    before = {name: weight.detach().clone() for name, weight in stage.model.named_parameters()}
    Trainer(stage.model, stage.objective, stage.loader, stage.train, steps=4).fit()
    moved = {name for name, weight in stage.model.named_parameters() if not torch.equal(weight, before[name])}
    adapters = {name for part in ("default", "value") for name in weights_of(stage.model, part)}
    assert moved == adapters | {"heads.value.weight"}


def test_a_critic_learns_at_its_own_pace(reinforced, stage_of):
    """critic.pace multiplies the learning rate of the critic's adapter and head, of nothing else."""
    stage = stage_of(reinforced("ppo", **small(critic={"pace": 3.0}, train={"lr": 1e-3})))
    trainer = Trainer(stage.model, stage.objective, stage.loader, stage.train, steps=4)
    names = {weight: name for name, weight in stage.model.named_parameters()}
    rates = {
        names[weight]: group["lr"]
        for optimizer, _ in trainer.optimizer.parts
        for group in optimizer.param_groups
        for weight in group["params"]
    }
    fast = {name for name, rate in rates.items() if rate == pytest.approx(3e-3)}
    assert fast == {name for name in rates if ".value." in name}
    assert {rate for name, rate in rates.items() if name not in fast} == {1e-3}


def test_the_reference_is_what_the_stage_began_with(reinforced, tmp_path):
    """Of a fresh adapter the bare base; of a chain the adapter of the stage before, so that the KL begins at 0 though
    the policy is far from the base."""
    first = reinforced("grpo", out="first", **small(train={"steps": 6, "lr": 5e-2}))
    reinforce.grpo(first)
    second = reinforced("ppo", out="second", train={"steps": 4})
    second = replace(second, model=first.out)
    report = reinforce.ppo(second)
    rows = [json.loads(line) for line in (tmp_path / "second" / "metrics.jsonl").read_text().splitlines()]
    assert rows[0]["kl"] == rows[0]["kl_k3"] == 0
    assert set(report["memory"]) == {
        "base", "adapter_default", "adapter_previous", "adapter_value", "all", "saved_by_sharing",
    }  # fmt: skip
    one, _ = load_adapted(first.out)
    other, _ = load_adapted(second.out)
    tokens = torch.arange(9)[None]
    with torch.no_grad(), using(one):
        bare = one(tokens)
    assert not torch.allclose(one(tokens), bare, atol=1e-4)
    assert not torch.allclose(other(tokens), one(tokens), atol=1e-4)


def test_the_reference_is_a_frozen_copy(reinforced, stage_of):
    """With the adapter off, or the one before on, the log-probabilities are those of a model that was never trained."""
    stage = stage_of(reinforced("grpo", **small()))
    Trainer(stage.model, stage.objective, stage.loader, stage.train, steps=5).fit()
    batch = next(stage.loader)
    untouched, _ = load(stage.options.model)
    wanted = said_logprobs(untouched, batch)[0]
    torch.testing.assert_close(stage.loader.cast.reference(batch).detach(), wanted.detach(), atol=2e-6, rtol=0)
    assert stage.model.active == ("default",)
    assert (stage.loader.cast.logprobs(batch) - wanted).abs().max() > 1e-3


@pytest.mark.parametrize("start", ["policy", "reward"])
def test_a_reward_model_on_the_trunk(reinforced, stage_of, reward_adapter, start):
    """An adapter for the same base is put beside the others and says what it says alone, while the policy moves; the
    report tells what four models on one trunk save; a critic may begin as it."""
    options = reinforced("ppo", **small(reward=(reward_adapter,), critic={"start": start}))
    stage = stage_of(options)
    texts = ["Ada eats.", "Brr!", "Ben likes Ada."]
    talks = [[{"role": "user", "content": "Who likes Eve?"}, {"role": "assistant", "content": text}] for text in texts]
    (scorer,) = (judge.scorer for judge in stage.plan.reward.judges)
    assert scorer.model is stage.model
    alone = Scorer.load(reward_adapter).messages(talks)
    assert scorer.messages(talks) == pytest.approx(alone, abs=1e-5)
    assert alone[0] > alone[1]
    if start == "reward":
        batch = next(stage.loader)
        ends = batch.answer.flatten()[batch.targets.flatten() != IGNORE].diff(append=torch.tensor([-1])) != 0
        assert batch.values[ends].std() > 0  # a head that says 0 would not tell answers apart
    Trainer(stage.model, stage.objective, stage.loader, stage.train, steps=4).fit()
    assert scorer.messages(talks) == pytest.approx(alone, abs=1e-5)
    memory = stage._memory(stage.model)
    assert memory["saved_by_sharing"] == 3 * memory["base"]
    assert memory["all"] == memory["base"] + sum(size for name, size in memory.items() if name.startswith("adapter_"))


def test_a_reward_model_on_the_trunk_learns_nothing(reinforced, stage_of, reward_adapter):
    """Without a critic too only the policy's adapter does: so it is counted, optimized and stored."""
    stage = stage_of(reinforced("grpo", **small(reward=(reward_adapter,))))
    learning = {name for name, weight in stage.model.named_parameters() if weight.requires_grad}
    assert learning == set(weights_of(stage.model, "default"))


def test_what_is_saved_is_the_policy_alone(reinforced):
    """The folder is one adapter on the base, without the critic, and says what the policy says."""
    options = reinforced("ppo", **small(train={"steps": 4, "lr": 3e-2}))
    reinforce.ppo(options)
    model, _ = load_adapted(options.out)
    assert list(model.attached) == ["default"]
    assert set(model.heads) == {"lm"}
    assert not list(Path(options.out).glob("model.safetensors"))


def test_refused(reinforced, reward_adapter):
    """Dropout of adapters, and a critic that is to begin as a reward model which is not on the trunk, each named."""
    with pytest.raises(InputError, match=r"lora\.dropout=0\.1"):
        reinforce.plan_ppo(reinforced("ppo", lora={"rank": 2, "dropout": 0.1}))
    with pytest.raises(InputError, match="names 0 reward models"):
        reinforce.plan_ppo(reinforced("ppo", critic={"start": "reward"}))
