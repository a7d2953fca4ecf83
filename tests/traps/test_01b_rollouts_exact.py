"""Trap 1 for PPO, GRPO and RLOO: a step in several uneven parts is the step in one, however tokens are weighed, and is
what the formulas say in plain torch.
"""

from dataclasses import replace

import pytest
import torch

from instar.batch import IGNORE
from instar.train.critic import policy_in
from instar.train.objectives import mean
from instar.train.trainer import Trainer

pytestmark = pytest.mark.usefixtures("one_thread")

KINDS = {
    "ppo": ("ppo", {"entropy": 0.02}),
    "token": ("grpo", {"loss": "token", "kl": {"coefficient": 0.3}}),
    "sequence": ("grpo", {"loss": "sequence", "kl": {"coefficient": 0.3}}),
    "constant": ("grpo", {"algorithm": "dr-grpo", "loss": "constant", "entropy": 0.05}),
    "truncated": ("grpo", {"loss": "sequence", "rollouts": {"mask_truncated": True, "max_new_tokens": 40}}),
}


def doubled(batch):
    """In fp64, with old log-probabilities a little off, as they are after some steps, so that some ratios are
    clipped."""
    columns = {
        name: value.double()
        for name in ("logprobs", "advantages", "weights", "reference", "values", "returns")
        if (value := getattr(batch, name)) is not None
    }
    columns["logprobs"] = columns["logprobs"] + 0.4 * torch.sin(batch.targets[batch.targets != IGNORE] + 1.0)
    return replace(batch, **columns)


class Given:
    """Batches that were made before."""

    epoch = 0

    def __init__(self, batches):
        self.batches, self.micro_batches = iter(batches), len(batches)

    def __next__(self):
        return next(self.batches)


def stepped(stage_of, options):
    """Loss, metrics and gradients of a first step, in fp64, and its batches."""
    stage = stage_of(options)
    batches = [doubled(next(stage.loader)) for _ in range(stage.loader.micro_batches)]
    model = stage.model.double()
    model.compute = torch.float64
    record = Trainer(model, stage.objective, Given(batches), replace(stage.train, clip=0.0, lr=0.0), steps=1).advance()
    grads = {name: torch.zeros_like(w) if w.grad is None else w.grad.clone() for name, w in model.named_parameters()}
    return record, grads, batches, stage


@pytest.mark.parametrize("micro", [48, 96])
@pytest.mark.parametrize("kind", KINDS)
def test_a_step_in_parts_is_the_step_in_one(reinforced, stage_of, kind, micro):
    """Loss, metrics and every gradient."""
    command, changes = KINDS[kind]
    changes = {"rollouts": {}, **changes}
    changes["rollouts"] = {"prompts": 10, "minibatches": 1, **changes["rollouts"]}
    context = {"train": {"context": 80}}
    wanted, grads, whole, _ = stepped(stage_of, reinforced(command, **changes, **context))
    context["train"]["micro_tokens"] = micro
    found, parted, parts, _ = stepped(stage_of, reinforced(command, **changes, **context))
    assert (len(whole), len(parts) > 2) == (1, True)
    assert whole[0].divisor == sum(part.divisor for part in parts)
    names = ("loss", "policy", "value", "kl_loss", "entropy_bonus", "entropy", "ratio", "clip_fraction", "value_error")
    for name in names:
        assert found.get(name) == pytest.approx(wanted.get(name), abs=1e-10), name
    assert 0 < wanted["clip_fraction"] < 1
    torch.testing.assert_close(parted, grads, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_what_the_formulas_say(reinforced, stage_of, kind):
    """Answer by answer and token by token, as the papers write it."""
    command, changes = KINDS[kind]
    changes = {"rollouts": {}, **changes}
    changes["rollouts"] = {"prompts": 10, "minibatches": 1, **changes["rollouts"]}
    record, grads, (batch,), stage = stepped(stage_of, reinforced(command, **changes, train={"context": 80}))
    options, model = stage.options, stage.model
    model.zero_grad()
    policy = policy_in(model)
    places = batch.targets.flatten() != IGNORE
    logs = policy(batch.tokens, view=batch.view).flatten(0, 1)[places].log_softmax(-1)
    said = logs.gather(1, batch.targets.flatten()[places][:, None]).squeeze(1)
    answer = batch.answer.flatten()[places]
    entropy = -(logs.exp() * logs).sum(-1)
    if command == "ppo":
        values = model.critic.heads["value"](model.critic.hidden(batch.tokens, view=batch.view)).flatten()[places]
    stops, parts, tokens = set(stage.plan.tokenizer.stops), [], 0
    for number in range(batch.answers):
        own = answer == number
        if kind == "truncated" and int(batch.targets.flatten()[places][own][-1]) not in stops:
            continue
        ratio = (said[own] - batch.logprobs[own]).exp()
        low, high = 1 - options.clip_low, 1 + options.clip_high
        each = -torch.minimum(ratio * batch.advantages[own], ratio.clamp(low, high) * batch.advantages[own])
        each = each - options.entropy * entropy[own]
        if options.kl.where == "loss":
            off = batch.reference[own] - said[own]
            each = each + options.kl.coefficient * (off.exp() - off - 1)
        if command == "ppo":
            near = batch.values[own] + (values[own] - batch.values[own]).clamp(-0.2, 0.2)
            error = torch.maximum((values[own] - batch.returns[own]) ** 2, (near - batch.returns[own]) ** 2)
            each = each + options.critic.weight * 0.5 * error
        parts.append(each)
        tokens += len(each)
    weighing = {"ppo": "token", "truncated": "sequence"}.get(kind, kind)
    loss = {
        "token": lambda: sum(each.sum() for each in parts) / tokens,
        "sequence": lambda: sum(each.mean() for each in parts) / len(parts),
        "constant": lambda: sum(each.sum() for each in parts) / len(parts) / options.rollouts.max_new_tokens,
    }[weighing]()
    assert 0 < len(parts) <= batch.answers
    assert (len(parts) < batch.answers) == (kind == "truncated")
    assert record["loss"] == pytest.approx(loss.item(), abs=1e-7)  # weights of tokens are kept in fp32
    loss.backward()
    wanted = {name: torch.zeros_like(w) if w.grad is None else w.grad for name, w in model.named_parameters()}
    torch.testing.assert_close(grads, wanted, rtol=1e-6, atol=1e-8)
    assert float(mean(stage.objective(model, batch), batch.count())) == pytest.approx(loss.item(), abs=1e-7)
