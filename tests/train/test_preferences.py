"""The objectives of pairs are their formulas, whatever shares a row with what."""

import math

import pytest
import torch
import torch.nn.functional as F

from instar.config import InputError
from instar.train.preferences import KINDS, bradley_terry, direct_preference

REWARD = dict(heads_of=("classify",), labels=1, pooling="last", tied=False)


def never(model, batch):
    """A reference that is not to be asked."""
    raise AssertionError


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {name: weight.grad.clone() for name, weight in model.named_parameters()}


def mean_of(loss):
    return sum(total for total, _ in loss.terms.values()) / 4


def test_bradley_terry_is_its_formula(make_model, pairs):
    """-log sigmoid(r_c - r_r - margin) + c (r_c + r_r)^2, summed over pairs, with the gradient of every weight."""
    model = make_model(torch.float64, **REWARD)
    margin = [0.0, 0.5, 1.5, 0.25]
    batch = pairs.plain(margin=margin)
    rewards = []
    for prompt, *answers in pairs.triples:
        rewards.append([model(torch.tensor([[*prompt, *answer]]))[0, 0] for answer in answers])
    wanted = sum(
        -F.logsigmoid(chosen - rejected - edge) + 0.3 * (chosen + rejected) ** 2
        for (chosen, rejected), edge in zip(rewards, margin)
    )
    exact = gradients(model, wanted)
    loss = bradley_terry(centering=0.3)(model, batch)
    assert {name: count for name, (_, count) in loss.terms.items()} == {"preference": 4, "centering": 4}
    found = sum(total for total, _ in loss.terms.values())
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradients(model, found), exact, rtol=1e-10, atol=1e-12)


def test_figures_of_pairs(make_model, pairs):
    """accuracy counts what is ahead, and equal rewards by half; margin and rewards are sums over the pairs."""
    model = make_model(torch.float64, **REWARD)
    with torch.no_grad():
        model.heads["classify"].out.weight.zero_()
    loss = bradley_terry()(model, pairs.plain())
    assert list(loss.terms) == ["loss"]
    assert loss.metrics["accuracy"] == (2.0, 4)
    assert loss.terms["loss"][0].item() == pytest.approx(4 * math.log(2))
    model = make_model(torch.float64, **REWARD)
    rewards = torch.cat([model(torch.tensor([[*p, *a]]))[0] for p, *answers in pairs.triples for a in answers]).detach()
    loss = bradley_terry()(model, pairs.plain())
    chosen, rejected = rewards[0::2], rewards[1::2]
    wanted = {
        "accuracy": (chosen > rejected).double().sum(), "margin": (chosen - rejected).sum(),
        "reward_chosen": chosen.sum(), "reward_rejected": rejected.sum(),
    }  # fmt: skip
    assert {name: total.item() for name, (total, _) in loss.metrics.items()} == pytest.approx(
        {name: total.item() for name, total in wanted.items()}
    )
    assert {count for _, count in loss.metrics.values()} == {4}


BETA, FLIPPED = 0.4, 0.2


def sigmoid_by_hand(chosen, rejected, before, lengths):
    h = (chosen - before[0]) - (rejected - before[1])
    return -math.log(1 / (1 + math.exp(-BETA * h)))


def conservative_by_hand(chosen, rejected, before, lengths):
    h = (chosen - before[0]) - (rejected - before[1])
    return -(1 - FLIPPED) * math.log(1 / (1 + math.exp(-BETA * h))) - FLIPPED * math.log(1 / (1 + math.exp(BETA * h)))


def ipo_by_hand(chosen, rejected, before, lengths):
    h = (chosen - before[0]) - (rejected - before[1])
    return (h - 1 / (2 * BETA)) ** 2


def normalised_by_hand(chosen, rejected, before, lengths):
    h = (chosen - before[0]) / lengths[0] - (rejected - before[1]) / lengths[1]
    return -math.log(1 / (1 + math.exp(-BETA * h)))


BY_HAND = {
    "sigmoid": sigmoid_by_hand, "conservative": conservative_by_hand, "ipo": ipo_by_hand,
    "normalised": normalised_by_hand,
}  # fmt: skip


def dpo(**changes):
    return direct_preference(by_reference, **{"beta": BETA, "smoothing": FLIPPED} | changes)


REFERENCE = [-7.0, -5.5, -8.25, -20.0, -16.0, -12.5, -4.5, -11.0]


def by_reference(model, batch):
    return torch.tensor(REFERENCE, dtype=torch.float64)


@torch.no_grad()
def wanted_of(name, model, pairs):
    logprobs = pairs.by_hand(model).tolist()
    lengths = [len(answer) for _, answer in pairs.answers()]
    return [
        BY_HAND[name](logprobs[n], logprobs[n + 1], REFERENCE[n : n + 2], lengths[n : n + 2])
        for n in range(0, len(logprobs), 2)
    ]


@pytest.mark.parametrize("name", KINDS)
def test_each_loss_is_its_formula(make_model, pairs, name):
    """Of every kind the sum over pairs is what its paper writes, on log-probabilities that were added up by hand."""
    model = make_model(torch.float64)
    loss = dpo(loss=name)(model, pairs.plain())
    assert loss.terms["loss"][0].item() == pytest.approx(sum(wanted_of(name, model, pairs)), rel=1e-10)
    assert loss.terms["loss"][1] == 4


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("name", KINDS)
def test_what_shares_a_row_changes_nothing(make_model, pairs, name, share):
    """Several pairs in a row, answers behind one prompt or each behind its own: the same loss and gradients."""
    model = make_model(torch.float64, tied=False)
    batch, order = pairs.packed(share)
    # rows are packed by length, so pairs come in another order than the references
    reference = torch.tensor(REFERENCE, dtype=torch.float64).view(-1, 2)[order].flatten()
    assert sorted(order) == [0, 1, 2, 3]
    alone = dpo(loss=name, nll=0.3)(model, pairs.plain())
    together = direct_preference(lambda m, b: reference, loss=name, beta=BETA, smoothing=FLIPPED, nll=0.3)(model, batch)
    assert len(batch.tokens) < 4 < batch.answers
    exact = gradients(model, mean_of(alone))
    torch.testing.assert_close(mean_of(together), mean_of(alone), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(gradients(model, mean_of(together)), exact, rtol=1e-8, atol=1e-10)
    for figure in ("accuracy", "margin", "logprob_chosen", "drift"):
        torch.testing.assert_close(together.metrics[figure][0], alone.metrics[figure][0], rtol=1e-9, atol=1e-9)


def test_gradient_is_the_closed_form(make_model, pairs):
    """grad = -beta sigmoid(-beta h) (grad log p_c - grad log p_r) for each pair (Rafailov et al. 2023, section 4)."""
    model = make_model(torch.float64)
    for number, triple in enumerate(pairs.triples):
        before = torch.tensor(REFERENCE[2 * number : 2 * number + 2], dtype=torch.float64)
        chosen, rejected = pairs.by_hand(model, [triple])
        h = ((chosen - before[0]) - (rejected - before[1])).item()
        sides = [gradients(model, pairs.by_hand(model, [triple])[side]) for side in (0, 1)]
        share = -BETA / (1 + math.exp(BETA * h))
        wanted = {name: share * (sides[0][name] - sides[1][name]) for name in sides[0]}
        loss = direct_preference(lambda m, b, before=before: before, beta=BETA)(model, pairs.plain([triple]))
        found = gradients(model, loss.terms["loss"][0])
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)


def test_nll_is_per_token_of_the_chosen_answer(make_model, pairs):
    """The added term is a weight times -log p of each chosen answer over its tokens, and the whole is the loss."""
    model = make_model(torch.float64)
    loss = dpo(nll=0.5)(model, pairs.plain())
    logprobs = pairs.by_hand(model)[0::2]
    wanted = sum(-0.5 * logprob / len(chosen) for logprob, (_, chosen, _) in zip(logprobs, pairs.triples))
    assert list(loss.terms) == ["preference", "nll"]
    torch.testing.assert_close(loss.terms["nll"][0], wanted, rtol=1e-10, atol=1e-12)
    assert loss.terms["preference"][0].item() == pytest.approx(dpo()(model, pairs.plain()).terms["loss"][0].item())


def test_a_batch_that_brings_its_reference_needs_no_other(make_model, pairs):
    """What was computed beforehand is taken, and drift is what log-probabilities lost on average."""
    model = make_model(torch.float64)
    batch = pairs.plain(reference=REFERENCE)
    loss = direct_preference(never, beta=BETA)(model, batch)
    assert loss.terms["loss"][0].item() == pytest.approx(sum(wanted_of("sigmoid", model, pairs)), rel=1e-10)
    lost, count = loss.metrics["drift"]
    assert lost.item() == pytest.approx((torch.tensor(REFERENCE).double() - pairs.by_hand(model)).sum().item())
    assert count == 8


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (dict(beta=0.0), "beta=0.0: without a price on leaving the reference nothing is learnt; wanted above 0"),
        (dict(beta=-0.1), "beta=-0.1"),
        (dict(beta=math.nan), "beta=nan"),
        (dict(loss="conservative", smoothing=0.5), "smoothing=0.5 with loss=conservative"),
        (dict(loss="conservative", smoothing=0.0), "smoothing=0.0 with loss=conservative"),
        (dict(nll=-1.0), "nll=-1.0"),
        (dict(loss="sigmoi"), "did you mean sigmoid"),
    ],
)
def test_figures_that_mean_nothing_are_refused(changes, words):
    """Each is named, with what was wanted."""
    with pytest.raises(InputError, match=words):
        direct_preference(never, **changes)
    with pytest.raises(InputError, match=r"centering=-1\.0"):
        bradley_terry(centering=-1.0)


def test_experts_add_their_balance(make_model, pairs):
    """A model with experts keeps its auxiliary loss, that of the pass which learns."""
    model = make_model(torch.float64, experts=4, d_expert=8, balance=0.1).train()
    loss = dpo()(model, pairs.plain())
    assert loss.terms["balance"][1] == 4
    assert loss.terms["balance"][0].item() == pytest.approx(4 * 0.1 * model.imbalance().item())
