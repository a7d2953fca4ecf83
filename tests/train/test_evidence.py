"""A head is told where to look: what it is told is what the data names, and nothing else changes."""

from functools import partial

import pytest
import torch

from instar.batch import IGNORE, Batch, View
from instar.train.evidence import LEAST, evident, middle
from instar.train.objectives import cross_entropy, mean


@pytest.fixture
def batch():
    """Two rows of nine tokens; three targets teach, and two of them have evidence."""
    tokens, targets = torch.randint(0, 61, (2, 2, 9), generator=torch.Generator().manual_seed(3))
    targets[0, :7], targets[1, :8] = IGNORE, IGNORE
    evidence = torch.zeros(2, 9, 2, dtype=torch.int64)
    evidence[0, 7], evidence[1, 8] = torch.tensor([1, 4]), torch.tensor([0, 2])
    evidence[0, 2] = torch.tensor([0, 1])  # of a place that says nothing
    return Batch(tokens, targets, evidence=evidence)


def looked(model, batch):
    """What the last head of the middle block takes of each token, as the block itself computes it."""
    attention = model.blocks[(len(model.blocks) - 1) // 2].attention
    found = []
    hook = attention.attend.register_forward_pre_hook(lambda module, given: found.extend(given))
    model.hidden(batch.tokens, view=batch.view)
    hook.remove()
    q, k, _, mask, causal = found
    scores = q @ k.repeat_interleave(q.shape[1] // k.shape[1], 1).mT / q.shape[-1] ** 0.5
    if causal:
        scores = scores.masked_fill(torch.ones(9, 9).triu(1).bool(), -torch.inf)
    return (scores if mask is None else scores + mask).softmax(-1)[:, -1]


@pytest.mark.parametrize(
    "shape", [{}, {"layers": 1}, {"layers": 5}, {"positions": "alibi"}, {"residual": "post"}], ids=str
)
def test_what_is_missed_is_the_logarithm_of_the_share_on_the_evidence(make_model, batch, shape):
    """By the block's own queries and keys, summed by hand; the loss of what is said stays as it was."""
    model = make_model(torch.float64, **shape)
    weights = looked(model, batch)
    shares = torch.stack([weights[0, 7, 1:4].sum(), weights[1, 8, 0:2].sum()])
    found = evident(model, batch, weight=0.5)
    torch.testing.assert_close(found.terms["loss"][0], cross_entropy(model, batch).terms["loss"][0])
    torch.testing.assert_close(found.terms["evidence"][0], -0.5 * (shares + LEAST).log().sum())
    torch.testing.assert_close(found.metrics["on_evidence"][0], shares.sum().detach())
    assert (found.terms["evidence"][1], found.metrics["on_evidence"][1]) == (3, 2)


def test_only_where_to_look_is_taught_by_it(make_model, batch):
    """The term moves queries and keys of that one head and what stands below them, no values and nothing above."""
    model = make_model(torch.float64, layers=3, tied=False)
    evident(model, batch, weight=1.0).terms["evidence"][0].backward()
    attention, size = model.blocks[1].attention, model.config.head_size
    assert attention.q.weight.grad[-size:].abs().sum() > 0
    assert not attention.q.weight.grad[:-size].any()
    assert attention.v.weight.grad is None or not attention.v.weight.grad.any()
    assert model.blocks[0].attention.v.weight.grad.any()
    assert all(weight.grad is None or not weight.grad.any() for weight in model.blocks[2].parameters())


def test_parts_of_a_step_add_up_to_the_whole(make_model, batch):
    """Two micro-batches, one of which has no evidence at all, give the gradient of one batch."""
    model = make_model(torch.float64)
    none = Batch(batch.tokens.flip(1), batch.targets)
    both = Batch(
        torch.cat([batch.tokens, none.tokens]), torch.cat([batch.targets, none.targets]), View(),
        evidence=torch.cat([batch.evidence, torch.zeros_like(batch.evidence)]),
    )  # fmt: skip
    learnt = []
    for parts in ([both], [batch, none]):
        model.zero_grad()
        for part in parts:
            mean(partial(evident, weight=0.5)(model, part), both.count()).backward()
        learnt.append([weight.grad.clone() for weight in model.parameters()])
    for whole, summed in zip(*learnt):
        torch.testing.assert_close(summed, whole)


def test_a_head_learns_to_look_where_it_is_told(make_model):
    """In rows of random tokens the evidence is the one that is repeated at the end; without being told the head stays
    near chance for as long."""
    generator = torch.Generator().manual_seed(0)

    def rows():
        tokens = torch.stack([torch.randperm(60, generator=generator)[:12] for _ in range(64)])
        place = torch.randint(0, 10, (64,), generator=generator)
        tokens[:, -1] = tokens[torch.arange(64), place]
        targets, evidence = torch.full_like(tokens, IGNORE), torch.zeros(64, 12, 2, dtype=torch.int64)
        targets[:, -1] = tokens[torch.arange(64), place + 1]
        evidence[:, -1] = torch.stack([place, place + 1], -1)
        return Batch(tokens, targets, evidence=evidence)

    shares = {}
    for weight in (0.0, 1.0):
        model = make_model()
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        for _ in range(120):
            batch = rows()
            loss = evident(model, batch, weight=weight)
            optimizer.zero_grad()
            mean(loss, batch.count()).backward()
            optimizer.step()
        share, count = loss.metrics["on_evidence"]
        shares[weight] = float(share) / count
    assert shares[1.0] > 0.5 > 0.2 > shares[0.0]


def test_a_head_that_sees_the_whole_text_is_told(make_model):
    """Where the middle block looks through a window, the nearest that does not; where all do, the middle one."""
    found = [middle(make_model(layers=5, windows=windows).config) for windows in ((), (0, 0, 4, 4, 0), (4, 4, 4, 4, 4))]
    assert found == [2, 1, 2]
