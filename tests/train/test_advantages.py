"""Advantages, by hand and by brute force."""

import math

import pytest
import torch

from instar.config import InputError
from instar.train.advantages import AdaptiveKl, FixedKl, gae, k1, k3, kl_coefficient, leave_one_out, relative, whiten


def random_phase(answers=7, longest=9, seed=3):
    """Rewards, values and which are real, of answers of different lengths."""
    generator = torch.Generator().manual_seed(seed)
    rewards, values = torch.randn(2, answers, longest, dtype=torch.float64, generator=generator)
    lengths = torch.randint(1, longest + 1, (answers,), generator=generator)
    return rewards, values, torch.arange(longest) < lengths[:, None]


def test_gae_by_hand():
    """Three tokens, gamma 0.5, lambda 0.5, worked out on paper."""
    rewards = torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.float64)
    values = torch.tensor([[0.5, 1.0, 2.0]], dtype=torch.float64)
    # d = (1 + .5*1 - .5, 2 + .5*2 - 1, 3 - 2) = (1, 2, 1); A = (1 + .25 * 2.25, 2 + .25 * 1, 1)
    advantages, returns = gae(rewards, values, torch.ones(1, 3, dtype=torch.bool), gamma=0.5, lam=0.5)
    assert advantages.tolist() == [[1.5625, 2.25, 1.0]]
    assert returns.tolist() == [[2.0625, 3.25, 3.0]]


@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 0.95), (0.9, 0.5), (1.0, 1.0), (0.7, 0.0)])
def test_gae_by_brute_force(gamma, lam):
    """Equation 16 as it is written: the sum of all later differences, each weighed by (gamma lam)^l."""
    rewards, values, mask = random_phase()
    advantages, returns = gae(rewards, values, mask, gamma=gamma, lam=lam)
    for row in range(len(rewards)):
        count = int(mask[row].sum())
        ahead = [*values[row, 1:count].tolist(), 0.0]
        deltas = [float(rewards[row, t]) + gamma * ahead[t] - float(values[row, t]) for t in range(count)]
        for t in range(count):
            wanted = sum((gamma * lam) ** step * delta for step, delta in enumerate(deltas[t:]))
            assert float(advantages[row, t]) == pytest.approx(wanted, abs=1e-12)
            assert float(returns[row, t]) == pytest.approx(wanted + float(values[row, t]), abs=1e-12)
        assert not advantages[row, count:].any()
        assert not returns[row, count:].any()


def test_lambda_one_is_what_comes_less_what_was_foreseen():
    """With lambda 1 and gamma 1 an advantage is the sum of the rewards to come less the value."""
    rewards, values, mask = random_phase()
    advantages, _ = gae(rewards, values, mask, lam=1.0)
    to_come = (rewards * mask).flip(1).cumsum(1).flip(1)
    torch.testing.assert_close(advantages, (to_come - values) * mask, rtol=1e-12, atol=1e-12)


def test_whitening():
    """Real ones have mean 0 and variance 1, whatever stands at padding; one alone is left as it is."""
    values, padding, mask = random_phase()
    white = whiten(values, mask)
    assert float(white[mask].mean()) == pytest.approx(0, abs=1e-12)
    assert float(white[mask].var(correction=0)) == pytest.approx(1, abs=1e-6)
    assert torch.equal(white, whiten(torch.where(mask, values, padding * 1e9), mask))
    one = torch.zeros_like(mask)
    one[0, 0] = True
    assert whiten(values, one)[0, 0] == values[0, 0]


def test_groups_by_hand():
    """GRPO, Dr. GRPO and RLOO of rewards 0, 1, 2, 5: mean 2, std sqrt(14/3); the others' means 8/3, 7/3, 2, 1."""
    rewards = torch.tensor([[0.0, 1.0, 2.0, 5.0]], dtype=torch.float64)
    valid = torch.ones(1, 4, dtype=torch.bool)
    off = torch.tensor([[-2.0, -1.0, 0.0, 3.0]], dtype=torch.float64)
    torch.testing.assert_close(relative(rewards, valid), off / (math.sqrt(14 / 3) + 1e-4), rtol=0, atol=1e-12)
    torch.testing.assert_close(relative(rewards, valid, scaled=False), off, rtol=0, atol=1e-12)
    wanted = torch.tensor([[-8 / 3, -4 / 3, 0.0, 4.0]], dtype=torch.float64)
    torch.testing.assert_close(leave_one_out(rewards, valid), wanted, rtol=0, atol=1e-12)


def test_rounding_among_equal_rewards_teaches_nothing():
    """One answer said four times, which a reward model scored in other batches: the last digits are no advantage."""
    rewards = torch.tensor([[1.0, 1.0 + 1e-7, 1.0, 1.0 - 1e-7]], dtype=torch.float64)
    assert relative(rewards, torch.ones(1, 4, dtype=torch.bool)).abs().max() < 0.01


@pytest.mark.parametrize("compare", [relative, leave_one_out])
def test_answers_without_a_reward_count_nowhere(compare):
    """Whatever an invalid one holds, it gets 0 and the others what they would have without it; one that is left alone,
    and a group without any spread, get 0."""
    rewards = torch.tensor([[0.0, 1.0, math.nan, 5.0], [0.3, 0.3, 0.3, 0.3], [math.nan, 7.0, 1.0, 1.0]])
    valid = torch.tensor([[True, True, False, True], [True] * 4, [False, True, False, False]])
    found = compare(rewards, valid)
    alone = compare(torch.tensor([[0.0, 1.0, 5.0]]), torch.ones(1, 3, dtype=torch.bool))
    torch.testing.assert_close(found[0, valid[0]], alone[0])
    assert found[0, 2] == 0
    assert found[1].abs().max() < 1e-3
    assert not found[2].any()


def test_kl_estimators():
    """Over all outcomes of p both are KL(p, q); k3 is never below 0, and 0 where p and q agree, in fp32 too."""
    p, q = torch.randn(2, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).log_softmax(-1)
    wanted = float((p.exp() * (p - q)).sum())
    for estimator in (k1, k3):
        assert float((p.exp() * estimator(p - q)).sum()) == pytest.approx(wanted, abs=1e-12)
    assert (k1(p - q) < 0).any()
    assert (k3(p - q) >= 0).all()
    small = torch.linspace(-1e-3, 1e-3, 10001)
    assert (k3(small) >= 0).all()
    assert k3(torch.zeros(3)).tolist() == [0, 0, 0]


def test_the_coefficient_follows_its_target():
    """Ziegler et al.: 20 % at most over one horizon, up above the target and down below; a fixed one stays."""
    adaptive = AdaptiveKl(0.1, target=6.0, horizon=1000)
    adaptive.update(6.6, 100)  # 10 % above, a tenth of the horizon
    assert adaptive.value == pytest.approx(0.1 * 1.01)
    adaptive.update(600.0, 1000)
    assert adaptive.value == pytest.approx(0.1 * 1.01 * 1.2)
    adaptive.update(0.0, 1000)
    assert adaptive.value == pytest.approx(0.1 * 1.01 * 1.2 * 0.8)
    fixed = kl_coefficient(0.1, 0.0, 1000)
    fixed.update(600.0, 1000)
    assert fixed == FixedKl(0.1)


@pytest.mark.parametrize("figures", [(-0.1, 0.0, 1.0), (0.0, 6.0, 1000.0), (0.1, -6.0, 1000.0), (0.1, 6.0, 0.0)])
def test_a_coefficient_that_means_nothing(figures):
    """Negative ones, and an adaptive one that could never move, are errors."""
    with pytest.raises(InputError, match=r"kl\."):
        kl_coefficient(*figures)
