"""Trap 23: the reward of PPO stood on padding, or behind the end; advantages depended on how far a batch was padded.
huggingface/trl#1893, #2778, #3750, #7024; natolambert/rlhf-book#216.

Guard: an answer is its tokens with its end, the score stands on the last of them, and padding has no part in anything.
"""

import pytest
import torch
import torch.nn.functional as F

from instar.batch import IGNORE
from instar.train.advantages import gae, whiten
from instar.train.estimates import Phase, by_critic, by_groups

pytestmark = pytest.mark.usefixtures("one_thread")


def make_phase(extra=0, junk=0.0):
    """Four answers of 1 to 5 tokens, two to each prompt, in a table `extra` columns wider than it must be, with junk
    outside."""
    generator = torch.Generator().manual_seed(8)
    values, charge = torch.randn(2, 4, 5, dtype=torch.float64, generator=generator)
    mask = torch.arange(5) < torch.tensor([3, 5, 1, 4])[:, None]
    values, charge = (F.pad(torch.where(mask, x, junk), (0, extra), value=junk) for x in (values, charge.abs()))
    scores = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64)
    return Phase(
        scores=scores, valid=torch.ones(4, dtype=torch.bool), mask=F.pad(mask, (0, extra)), charge=charge, size=2,
        values=values,
    )  # fmt: skip


def test_the_hand_worked_example():
    """Two tokens and their end, score 1 at the end, a nat of drift on the second one at 0.1: by hand, gamma 1, lambda
    0.5."""
    phase = Phase(
        scores=torch.tensor([1.0], dtype=torch.float64), valid=torch.tensor([True]), size=1,
        mask=torch.tensor([[True, True, True, False]]),
        charge=torch.tensor([[0.0, 0.1, 0.0, 9.0]], dtype=torch.float64),
        values=torch.tensor([[0.2, 0.4, 0.6, 9.0]], dtype=torch.float64),
    )  # fmt: skip
    assert phase.token_rewards().tolist() == [[0.0, -0.1, 1.0, 0.0]]
    advantages, returns = by_critic(1.0, 0.5, whitened=False)(phase)
    # d = (0 + .4 - .2, -.1 + .6 - .4, 1 - .6) = (.2, .1, .4); A3 = .4, A2 = .1 + .2 = .3, A1 = .2 + .15 = .35
    torch.testing.assert_close(advantages, torch.tensor([[0.35, 0.3, 0.4, 0.0]], dtype=torch.float64))
    torch.testing.assert_close(returns, torch.tensor([[0.55, 0.7, 1.0, 0.0]], dtype=torch.float64))


@pytest.mark.parametrize("estimate", [by_critic(0.9, 0.8, True), by_critic(1.0, 0.95, False), by_groups("rloo")])
def test_columns_of_padding_change_nothing(estimate):
    """More padding, with anything in it, leaves every advantage and return as it was, and is 0 itself."""
    narrow, wide = make_phase(), make_phase(extra=6, junk=1e6)
    for found, wanted in zip(estimate(wide), estimate(narrow)):
        if wanted is not None:
            torch.testing.assert_close(found[:, :5], wanted, rtol=1e-12, atol=1e-12)
            assert not found[~wide.mask].any()


@pytest.mark.parametrize("function", [lambda x, mask: gae(x, x, mask)[0], whiten])
def test_padding_may_stand_anywhere(function):
    """Between real tokens and before them it changes nothing either."""
    values = torch.tensor([[1.0, 2.0, 4.0]], dtype=torch.float64)
    spread = torch.tensor([[7.0, 1.0, 7.0, 2.0, 4.0, 7.0]], dtype=torch.float64)
    mask = torch.tensor([[False, True, False, True, True, False]])
    wanted = function(values, torch.ones(1, 3, dtype=torch.bool))
    torch.testing.assert_close(function(spread, mask)[mask], wanted[0])


@pytest.mark.parametrize("context", [80, 96])
def test_what_is_learnt_from_adds_up(reinforced, stage_of, context):
    """With lambda and gamma 1 and no charge, what every token should foresee is the score of its answer, the end
    counted and nothing behind it; so it is for all answers of a phase, packed or not."""
    stage = stage_of(reinforced(
        "ppo", lam=1.0, whiten=False, kl={"coefficient": 0.0}, train={"context": context},
        rollouts={"missing_end": 0.25, "minibatches": 1, "max_new_tokens": 48, "prompts": 16},
    ))  # fmt: skip
    batch = next(stage.loader)
    targets = batch.targets.flatten()
    said, answer = targets[targets != IGNORE], batch.answer.flatten()[targets != IGNORE]
    tokenizer, stops = stage.plan.tokenizer, set(stage.plan.tokenizer.stops)
    ended = 0
    for number in range(batch.answers):
        ids = said[answer == number].tolist()
        end = ids[-1] in stops
        ended += end
        assert not stops & set(ids[:-1])
        text = tokenizer.decode(ids[:-1] if end else ids, continues=True)
        score = sum(letter in "aeiou" for letter in text) / max(1, len(text)) - (not end) * 0.25
        torch.testing.assert_close(batch.returns[answer == number], torch.full((len(ids),), score), atol=1e-6, rtol=0)
        assert int(batch.last[number]) == int((batch.answer.flatten() == number).nonzero().max())
    assert 0 < ended < batch.answers
