"""Networks of their own for those who take part in PPO."""

import pytest
import torch

from instar.batch import IGNORE, Answers
from instar.train.critic import critic_of, own_values
from instar.train.policy import values_at
from instar.train.trainer import Trainer


@pytest.fixture(scope="module")
def reward_model(taught_reward):
    """A reward model that was trained whole."""
    return taught_reward(steps=4, lr=1e-2)


def test_a_critic_begins_by_saying_nothing(make_model):
    """Its body is the policy's in memory of its own, and its head says 0 of every state."""
    policy = make_model()
    critic = critic_of(policy)
    tokens = torch.arange(7)[None]
    hidden = critic.hidden(tokens)
    assert torch.equal(hidden, policy.hidden(tokens))
    assert not critic.heads["value"](hidden).any()
    assert not {w.data_ptr() for w in critic.parameters()} & {w.data_ptr() for w in policy.parameters()}


def test_values_are_finer_than_the_products(make_model):
    """A critic that computes in bf16 says its values in fp32, as a reward model its rewards: from the same states,
    numbers that no bf16 can be."""
    critic = critic_of(make_model())
    critic.compute = torch.bfloat16
    torch.nn.init.normal_(critic.heads["value"].weight, generator=torch.Generator().manual_seed(3))
    tokens = torch.arange(7)[None]
    batch = Answers(tokens, tokens + 1, answer=torch.zeros_like(tokens), last=torch.tensor([6]))
    found = values_at(critic, batch, critic.heads["value"])
    wanted = (critic.hidden(tokens).float() @ critic.heads["value"].weight.float().T).flatten()
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-6)
    assert not torch.equal(found, found.bfloat16().float())


def test_a_critic_may_begin_as_the_reward_model(reinforced, stage_of, reward_model):
    """Then its word on the last token before the end is the reward model's of the text so far."""
    stage = stage_of(reinforced("ppo", reward=(reward_model,), critic={"start": "reward"}))
    (reward,) = stage.plan.reward.models
    batch = next(stage.loader)
    tokens, view = batch.tokens, batch.view
    wanted = reward.heads["classify"](reward.hidden(tokens, view=view)).squeeze(-1)[batch.targets != IGNORE]
    torch.testing.assert_close(own_values(stage.model, batch), wanted, atol=1e-5, rtol=0)
    torch.testing.assert_close(batch.values, wanted.detach(), atol=1e-5, rtol=0)
    assert set(stage._memory(stage.model)) == {"policy", "critic", "reference", "reward", "all"}


def test_the_critic_has_a_pace_of_its_own(reinforced, stage_of):
    """critic.pace multiplies the learning rate of the critic's weights and of no others, after a step too."""
    stage = stage_of(reinforced("ppo", critic={"pace": 7.0}, train={"lr": 1e-4}))
    trainer = Trainer(stage.model, stage.objective, stage.loader, stage.train, steps=2)
    trainer.advance()
    names = {weight: name for name, weight in stage.model.named_parameters()}
    for optimizer, _ in trainer.optimizer.parts:
        for group in optimizer.param_groups:
            for weight in group["params"]:
                wanted = 7e-4 if names[weight].startswith("critic.") else 1e-4
                assert group["lr"] == pytest.approx(wanted), names[weight]
