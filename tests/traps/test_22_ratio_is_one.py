"""Trap 22: the ratio of PPO was not 1 before any update: log-probabilities of the sampler were compared with those of
the trainer, of warped logits with those of plain ones, of one draw of dropout with another. huggingface/trl#454, #1540,
#2358; CarperAI/trlx#107, #508.

Guard: the trainer itself notes down the old log-probabilities, at the temperature of the draw, without dropout, on the
very batches that are learnt from.
"""

from itertools import islice

import pytest
import torch

from instar.batch import IGNORE
from instar.infer.engine import Engine
from instar.train.critic import policy_in
from instar.train.logprobs import said_logprobs

pytestmark = pytest.mark.usefixtures("one_thread")


def ratios(stage, batches=16):
    """ratio of every token of so many batches, with the policy as it was born."""
    how, train = stage.options.rollouts, stage.train
    found = []
    for batch in islice(stage.loader, batches):
        said, _, _ = said_logprobs(policy_in(stage.model), batch, temperature=how.temperature, chunk=train.loss_chunk)
        found.append((said - batch.logprobs).exp())
    return torch.cat(found).detach()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7])
@pytest.mark.parametrize("shape", [(0, 64, 0), (1, 48, 48), (7, 96, 96)], ids=["whole", "one-by-one", "rows"])
@pytest.mark.parametrize("kind", ["ppo", "grpo"])
def test_every_ratio_is_one(reinforced, stage_of, kind, temperature, shape):
    """Any temperature, chunk, width of rows and size of micro-batches, in both epochs, of a model with dropout in its
    config: every ratio is 1 to 1e-6."""
    chunk, context, micro = shape
    stage = stage_of(
        reinforced(
            kind, rollouts={"temperature": temperature},
            train={"loss_chunk": chunk, "context": context, "micro_tokens": micro},
        )
    )  # fmt: skip
    found = ratios(stage)
    assert len(found) > 50
    assert float((found - 1).abs().max()) <= 1e-6


def test_bf16_too(reinforced, stage_of):
    """In bf16, where another order of the same sums moves a log-probability by a hundredth, it is 1 as well."""
    stage = stage_of(reinforced("ppo", dtype="bf16"))
    assert float((ratios(stage) - 1).abs().max()) <= 1e-6


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("rank", [0, 2])
@pytest.mark.parametrize("kind", ["ppo", "grpo"])
def test_a_step_that_moves_nothing_finds_nothing(reinforced, stage_of, kind, rank, dtype):
    """With a learning rate of 0 the loop itself tells a ratio of 1, nothing clipped and no drift from the reference, a
    frozen copy or the base, step after step."""
    from instar.train.trainer import Trainer

    stage = stage_of(
        reinforced(kind, train={"lr": 0.0}, kl={"coefficient": 0.1}, lora={"rank": rank}, dtype=dtype)
    )  # fmt: skip
    trainer = Trainer(stage.model, stage.objective, stage.loader, stage.train, steps=6, on_step=[stage.loader.watch])
    records = []
    trainer.on_step.append(lambda _, record: records.append(record))
    trainer.fit()
    assert stage.loader.phase == 2
    for record in records:
        assert record["ratio"] == pytest.approx(1, abs=1e-6)
        assert record["clip_fraction"] == record["old_kl"] == 0
        assert record["kl"] == record["kl_k3"] == record["kl_answer"] == 0


@pytest.mark.parametrize("temperature", [0.5, 1.7])
def test_they_are_the_policys(reinforced, stage_of, temperature):
    """Shared prompts and packed rows change nothing: each is log softmax(logits / T) of prompt and answer alone."""
    stage = stage_of(reinforced("grpo", rollouts={"temperature": temperature}, train={"context": 96}))
    batch = next(stage.loader)
    assert batch.view.branches is not None
    model, prompts = policy_in(stage.model), [prompt.ids for prompt in stage.learnt]
    seen = 0
    for row in range(len(batch.tokens)):
        for number in set(batch.answer[row].tolist()) - {-1}:
            own = batch.answer[row] == number
            answer = batch.targets[row][own]
            segment = batch.view.segments[row] == batch.view.segments[row][own][0]
            trunk = batch.tokens[row][segment & (batch.view.branches[row] == 0) & batch.view.keep[row]]
            prompt = torch.cat([trunk, batch.tokens[row][own][:1]])
            assert prompt.tolist() in prompts
            logits = model(torch.cat([prompt, answer])[None])[0, len(prompt) - 1 : -1] / temperature
            wanted = logits.log_softmax(-1).gather(1, answer[:, None]).squeeze(1)
            found = batch.logprobs[(batch.answer.flatten()[batch.targets.flatten() != IGNORE]) == number]
            torch.testing.assert_close(found, wanted, rtol=0, atol=2e-5)
            seen += 1
    assert seen == 6


def test_the_sampler_agrees(reinforced, stage_of, monkeypatch):
    """At temperature 1 the engine's own log-probabilities of what it said are those the trainer notes down."""
    requests = []
    usual = Engine.submit
    monkeypatch.setattr(
        Engine, "submit", lambda *given, **named: requests.append(usual(*given, **named)) or requests[-1]
    )
    stage = stage_of(reinforced("ppo", rollouts={"minibatches": 1}))
    batch = next(stage.loader)
    told = sorted(value for request in requests for value in request.logprobs)
    torch.testing.assert_close(torch.tensor(told), batch.logprobs.sort().values, rtol=0, atol=2e-5)
