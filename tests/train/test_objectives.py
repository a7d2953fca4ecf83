"""Cross-entropy in chunks is cross-entropy."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from instar.batch import IGNORE, Batch, View
from instar.train.objectives import Sums, cross_entropy, cross_entropy_sum, teaching_places


@pytest.fixture
def batch():
    """Two rows of nine positions; half of them teach."""
    generator = torch.Generator().manual_seed(3)
    tokens, targets = torch.randint(0, 61, (2, 2, 9), generator=generator)
    targets[0, :5] = IGNORE
    targets[1, ::2] = IGNORE
    return Batch(tokens, targets)


def gradients(model):
    return {name: weight.grad.clone() for name, weight in model.named_parameters()}


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("chunk", [0, 1, 3, 8, 100])
def test_equals_plain_cross_entropy(make_model, batch, chunk, tied):
    """Loss and every gradient equal F.cross_entropy over all logits, whatever the chunk."""
    model = make_model(torch.float64, tied=tied)
    plain = F.cross_entropy(model(batch.tokens).flatten(0, 1), batch.targets.flatten(), reduction="sum")
    (plain / 7).backward()
    wanted = gradients(model)
    model.zero_grad()
    total, count = cross_entropy(model, batch, chunk=chunk).terms["loss"]
    (total / 7).backward()
    torch.testing.assert_close(total, plain, rtol=1e-12, atol=1e-10)
    torch.testing.assert_close(gradients(model), wanted, rtol=1e-10, atol=1e-10)
    assert count == batch.count() == 8


def test_logits_exist_only_for_a_chunk_of_teaching_positions(make_model, batch):
    """The head never sees more rows than a chunk, and in all exactly those that teach."""
    model = make_model()
    seen = []
    model.heads["lm"].register_forward_hook(lambda module, inputs, logits: seen.append(len(logits)))
    cross_entropy(model, batch, chunk=3)
    assert seen == [3, 3, 2]


def test_frozen_head_lets_the_gradient_through(make_model, batch):
    """With a frozen head the blocks still learn and the head gets no gradient."""
    model = make_model(tied=False)
    model.heads.requires_grad_(False)
    cross_entropy(model, batch, chunk=3).terms["loss"][0].backward()
    assert model.heads["lm"].weight.grad is None
    assert model.blocks[0].attention.q.weight.grad.abs().sum() > 0


def test_frozen_trunk_still_trains_the_head(make_model, batch):
    """With all but the head frozen the head gets the gradient that it gets in a whole model."""
    model = make_model(torch.float64, tied=False)
    cross_entropy(model, batch).terms["loss"][0].backward()
    wanted = model.heads["lm"].weight.grad.clone()
    model.zero_grad()
    model.requires_grad_(False)
    model.heads.requires_grad_(True)
    cross_entropy(model, batch).terms["loss"][0].backward()
    torch.testing.assert_close(model.heads["lm"].weight.grad, wanted)


def test_without_gradient_nothing_is_kept(make_model, batch):
    """Under no_grad the loss is the same and asks for no gradient."""
    model = make_model()
    with torch.no_grad():
        loss = cross_entropy(model, batch, chunk=2).terms["loss"][0]
    assert not loss.requires_grad
    torch.testing.assert_close(loss, cross_entropy(model, batch).terms["loss"][0].detach())


def test_accuracy_counts_the_likeliest_token(make_model, batch):
    """The metric is how many arg-maxes are right."""
    model = make_model()
    teaching = batch.targets != IGNORE
    wanted = (model(batch.tokens).argmax(-1) == batch.targets)[teaching].sum()
    correct, count = cross_entropy(model, batch, chunk=3).metrics["accuracy"]
    assert (int(correct), count) == (int(wanted), 8)


def test_huge_logits_stay_finite():
    """Logits of 1e4 neither overflow nor lose the gradient of the right token."""
    head = nn.Linear(4, 9, bias=False)
    nn.init.constant_(head.weight, 1e4)
    hidden = torch.ones(2, 4, requires_grad=True)
    loss, _, _ = cross_entropy_sum(hidden, torch.tensor([1, 2]), head, 1)
    loss.backward()
    torch.testing.assert_close(loss.detach(), torch.tensor(2 * 9.0).log() + torch.tensor(4.5).log(), rtol=1e-3, atol=1)
    assert hidden.grad.isfinite().all()
    assert head.weight.grad.isfinite().all()


def test_sums_of_parts_are_the_whole(make_model, batch):
    """Means over several batches are weighted by targets, not by batches."""
    model = make_model(torch.float64)
    whole, parts = Sums(), Sums()
    whole.add(cross_entropy(model, batch))
    for row in range(2):
        parts.add(cross_entropy(model, Batch(batch.tokens[row : row + 1], batch.targets[row : row + 1])))
    total, count = cross_entropy(model, batch).terms["loss"]
    wanted, found = (sums.means(sums.vector().tolist()) for sums in (whole, parts))
    assert found == pytest.approx(wanted, rel=1e-12)
    assert found["loss"] == pytest.approx(total.item() / count, rel=1e-12)


@pytest.mark.parametrize("chunk", [0, 3])
def test_smoothing_equals_the_library(make_model, batch, chunk):
    """In training the loss and every gradient are those of F.cross_entropy with label smoothing; nll is without; at
    rest nothing is smoothed, so held-out figures mean the same for every run."""
    model = make_model(torch.float64).train()
    logits = model(batch.tokens).flatten(0, 1)
    plain = F.cross_entropy(logits, batch.targets.flatten(), reduction="sum", label_smoothing=0.2)
    plain.backward()
    wanted = gradients(model)
    model.zero_grad()
    loss = cross_entropy(model, batch, chunk=chunk, smoothing=0.2)
    loss.terms["loss"][0].backward()
    torch.testing.assert_close(loss.terms["loss"][0], plain, rtol=1e-12, atol=1e-10)
    torch.testing.assert_close(gradients(model), wanted, rtol=1e-10, atol=1e-10)
    bare = F.cross_entropy(logits, batch.targets.flatten(), reduction="sum")
    torch.testing.assert_close(loss.metrics["nll"][0], bare.detach(), rtol=1e-12, atol=1e-10)
    rested = cross_entropy(model.eval(), batch, chunk=chunk, smoothing=0.2)
    torch.testing.assert_close(rested.terms["loss"][0], bare, rtol=1e-12, atol=1e-10)
    assert "nll" not in rested.metrics


def test_one_answer_for_a_whole_text(make_model):
    """A classifier answers once a text, from the vector that the config pools; padding has no part in it."""
    model = make_model(torch.float64, causal=False, heads_of=("classify",), labels=3, pooling="mean", tied=False)
    generator = torch.Generator().manual_seed(4)
    tokens = torch.randint(0, 61, (2, 6), generator=generator)
    keep = torch.arange(6)[None] < torch.tensor([[6], [4]])
    labels = torch.tensor([[2], [0]])
    total, count = cross_entropy(model, Batch(tokens, labels, View(keep=keep)), head="classify").terms["loss"]
    single = [model(tokens[:1]), model(tokens[1:, :4])]
    torch.testing.assert_close(total, F.cross_entropy(torch.cat(single), labels.flatten(), reduction="sum"))
    assert count == 2


def test_experts_add_what_balances_them(make_model, batch):
    """In training the loss has a second term, the auxiliary loss by its weight for each target; at rest none."""
    model = make_model(torch.float64, experts=4, d_expert=8, balance=0.5).train()
    loss = cross_entropy(model, batch)
    total, count = loss.terms["balance"]
    assert count == 8
    torch.testing.assert_close(total, 0.5 * model.imbalance() * 8)
    assert set(cross_entropy(model.eval(), batch).terms) == {"loss"}


SHAPES = [
    {"positions": "rotary"}, {"positions": "alibi"}, {"positions": "t5"}, {"positions": "learned"},
    {"residual": "post"}, {"residual": "inside"}, {"residual": "both"}, {"residual": "parallel"},
    {"causal": False}, {"windows": (0, 3)}, {"experts": 4, "experts_used": 2},
]  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("packed", [False, True])
def test_the_last_block_goes_on_with_places_that_teach_alone(make_model, batch, packed, shape):
    """What is learnt of the few places that teach is what is learnt where all go through the last block: loss and every
    gradient."""
    model = make_model(torch.float64, **shape)
    few = batch.targets.clone()
    few[0, 6:] = few[1, 3:] = IGNORE
    segments = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0, 0, 1, 1]])
    positions = torch.tensor([[0, 1, 2, 0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5, 6, 0, 1]])
    view = View(positions, segments) if packed else View()
    hidden = model.hidden(batch.tokens, view=view)
    logits = model.heads["lm"](hidden).flatten(0, 1)
    plain = F.cross_entropy(logits, few.flatten(), ignore_index=IGNORE, reduction="sum")
    plain.backward()
    wanted = gradients(model)
    model.zero_grad()
    assert teaching_places(few).shape == (2, 1)
    total, count = cross_entropy(model, Batch(batch.tokens, few, view)).terms["loss"]
    total.backward()
    assert count == 2
    torch.testing.assert_close(total, plain, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(gradients(model), wanted, rtol=1e-8, atol=1e-9)


def test_the_last_block_is_spared_the_places_that_say_nothing(make_model, batch):
    """Its feed-forward layer is given as many rows as teach, and not all."""
    model = make_model()
    rows = []
    model.blocks[-1].feed_forward.register_forward_hook(lambda module, inputs, out: rows.append(inputs[0].shape[:2]))
    cross_entropy(model, Batch(batch.tokens, batch.targets))
    assert rows == [(2, 4)]


@pytest.mark.parametrize("packed", [False, True])
def test_few_places_of_a_target_still_see_their_source(make_model, batch, packed):
    """An encoder-decoder's last block crosses to the source for places that teach alone, with the same gradients."""
    model = make_model(torch.float64, encoder_layers=2)
    few = batch.targets.clone()
    few[0, 6:] = few[1, 3:] = IGNORE
    source = torch.randint(0, 61, (2, 6), generator=torch.Generator().manual_seed(5))
    halves = torch.tensor([[0, 0, 0, 0, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0, 0, 1, 1]])
    parts = torch.tensor([[0, 0, 1, 1, 1, 1], [0, 0, 0, 0, 1, 1]])
    view = View(segments=halves) if packed else View()
    behind = View(segments=parts) if packed else View(keep=torch.arange(6) < torch.tensor([[6], [4]]))
    hidden = model.hidden(batch.tokens, view=view, source=source, source_view=behind)
    logits = model.heads["lm"](hidden).flatten(0, 1)
    plain = F.cross_entropy(logits, few.flatten(), ignore_index=IGNORE, reduction="sum")
    plain.backward()
    wanted = gradients(model)
    model.zero_grad()
    found = cross_entropy(model, Batch(batch.tokens, few, view, source, behind)).terms["loss"][0]
    found.backward()
    torch.testing.assert_close(found, plain, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(gradients(model), wanted, rtol=1e-8, atol=1e-9)


def test_few_places_are_recomputed_too(make_model, batch):
    """With blocks computed anew in the backward pass the gradients are the same."""
    learnt = []
    for recompute in (False, True):
        model = make_model(torch.float64)
        model.recompute = recompute
        cross_entropy(model, batch).terms["loss"][0].backward()
        learnt.append(gradients(model))
    torch.testing.assert_close(learnt[1], learnt[0])
