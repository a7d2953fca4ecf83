"""Trap 6: documents packed into one row saw each other (huggingface/trl#805, #3067, hiyouga/LLaMA-Factory#2289, #4224,
meta-pytorch/torchtune#875, huggingface/transformers#46634: a mask of ones switched the isolation off,
huggingface/nanoVLM#204: resetting positions alone left the leak at 0.462).

Guard, the model's side: a token attends inside its own segment only, whatever stands in the others.
"""

from dataclasses import replace

import pytest
import torch

from instar.batch import IGNORE, Batch, View
from instar.config import ModelConfig, RopeScaling
from instar.config.presets import preset
from instar.model.transformer import Transformer
from instar.train.objectives import cross_entropy

NANO = ModelConfig(
    vocab_size=61, d_model=24, layers=2, heads=4, kv_heads=2, max_positions=32, qk_norm=True, head_size=8
)
SHAPES = {
    "nano": NANO,
    "gpt2": preset("gpt2", vocab_size=61, d_model=24, layers=2, heads=4, max_positions=32),
    "both ways": replace(NANO, causal=False),
    "windows": replace(NANO, windows=(3, 0), score_cap=2.0),
    "t5": replace(NANO, positions="t5", relative_buckets=8, relative_distance=12),
    "t5 both ways": replace(NANO, positions="t5", relative_buckets=8, relative_distance=12, causal=False),
    "alibi": replace(NANO, positions="alibi"),
    "sinusoidal": replace(NANO, positions="sinusoidal", residual="post", norm="layer"),
    "experts": replace(NANO, experts=4, balance=0.0),
    "neox": replace(
        NANO, norm="layer", mlp="plain", residual="parallel", rotary_share=0.5, bias=True, qkv_bias=True, qk_norm=False
    ),
    "yarn": replace(NANO, rope_scaling=RopeScaling("yarn", 4.0, original_positions=8, fast=4.0, slow=0.5)),
}
LENGTHS = [[9, 1, 6], [4, 12]]  # documents of each row
STARTS = [[0, 9, 10], [0, 4]]


@pytest.fixture(params=SHAPES)
def model(request):
    """Attention far from even, so that a leak would show."""
    model = Transformer(SHAPES[request.param]).double()
    with torch.no_grad():
        for weight in model.blocks.parameters():
            weight *= 3 if weight.ndim > 1 else 1
        if model.config.positions == "t5":  # distances begin alike
            model.positions.weight.normal_(generator=torch.Generator().manual_seed(0))
    return model


def view(*, positions=True, segments=True, keep=False):
    """How the rows are packed, as the collator says it."""
    place = torch.stack([torch.cat([torch.arange(n) for n in row]) for row in LENGTHS])
    number = torch.stack([torch.cat([torch.full((n,), i) for i, n in enumerate(row)]) for row in LENGTHS])
    ones = torch.ones_like(place, dtype=torch.bool)
    return View(place if positions else None, number if segments else None, ones if keep else None)


@pytest.fixture
def tokens():
    return torch.randint(0, 61, (2, 16), generator=torch.Generator().manual_seed(1))


def documents(tokens):
    """Each document in a row of its own, with its place in the packed rows."""
    for row, (lengths, starts) in enumerate(zip(LENGTHS, STARTS)):
        for start, length in zip(starts, lengths):
            yield row, slice(start, start + length), tokens[row : row + 1, start : start + length]


@pytest.mark.parametrize("keep", [False, True])
@torch.no_grad()
def test_editing_one_document_leaves_the_others_bit_identical(model, tokens, keep):
    """Every token of A is changed; the logits of B are the same bits, also beside a mask of ones."""
    packed = view(keep=keep)
    # how many tokens an expert is given at once decides how its products are rounded
    apart = 1e-12 if model.config.experts else 0.0
    before = model(tokens, view=packed)
    for row, place, _ in documents(tokens):
        edited = tokens.clone()
        edited[row, place] = (edited[row, place] + 1) % 61
        changed = ((model(edited, view=packed) - before).abs() > apart).any(-1)
        wanted = torch.zeros_like(changed)
        wanted[row, place] = True
        assert torch.equal(changed, wanted)


@torch.no_grad()
def test_packed_equals_alone(model, tokens):
    """Logits of a packed document are those of the document by itself."""
    together = model(tokens, view=view())
    for row, place, alone in documents(tokens):
        torch.testing.assert_close(together[row, place], model(alone)[0], rtol=0, atol=1e-10)


def test_packed_loss_and_gradient_equal_unpacked(model, tokens):
    """Summed loss and every gradient of packed rows are those of the documents one by one; no document's last token
    predicts the first of the next."""
    targets = torch.full_like(tokens, IGNORE)
    for row, place, _ in documents(tokens):
        targets[row, place.start : place.stop - 1] = tokens[row, place.start + 1 : place.stop]
    together, count = cross_entropy(model, Batch(tokens, targets, view())).terms["loss"]
    together.backward()
    wanted = {name: weight.grad.clone() for name, weight in model.named_parameters()}
    model.zero_grad()
    alone = [
        cross_entropy(model, Batch(ids, targets[row : row + 1, place])).terms["loss"]
        for row, place, ids in documents(tokens)
    ]
    total = torch.stack([part for part, _ in alone]).sum()
    total.backward()
    assert count == sum(number for _, number in alone) == 16 * 2 - 5
    torch.testing.assert_close(together, total, rtol=1e-12, atol=1e-10)
    torch.testing.assert_close({n: w.grad for n, w in model.named_parameters()}, wanted, rtol=1e-9, atol=1e-10)


@torch.no_grad()
def test_positions_alone_do_not_isolate(model, tokens):
    """Resetting positions without segments leaks: the check above can fail."""
    together = model(tokens, view=view(segments=False))
    _, place, alone = list(documents(tokens))[2]
    assert (together[0, place] - model(alone)[0]).abs().max() > 1e-3


@torch.no_grad()
def test_interleaved_segments(model, tokens):
    """Segments need not be contiguous: what counts is the number, not the neighbour."""
    number = torch.arange(16).expand(2, -1) % 2
    packed = View(positions=torch.arange(16).expand(2, -1) // 2, segments=number)
    found = model(tokens, view=packed)
    torch.testing.assert_close(found[:, ::2], model(tokens[:, ::2]), rtol=0, atol=1e-10)
    torch.testing.assert_close(found[:, 1::2], model(tokens[:, 1::2]), rtol=0, atol=1e-10)


# --- pairs: a source and what is said of it -------------------------------------------------------------------------

SOURCES, ANSWERS = [[5, 16, 3, 7, 7], [12], [3, 4, 5]], [[1, 8, 9], [1, 30, 31, 32], [1]]


def joined(rows):
    """Documents in one row, and a view of which is which."""
    positions = torch.cat([torch.arange(len(row)) for row in rows])[None]
    segments = torch.cat([torch.full((len(row),), number) for number, row in enumerate(rows)])[None]
    return torch.tensor([[token for row in rows for token in row]]), View(positions, segments)


@pytest.fixture(params=["rotary", "t5", "learned"])
def translator(request):
    """An encoder-decoder in fp64 that attends far from evenly."""
    model = Transformer(replace(NANO, encoder_layers=2, positions=request.param, start=1)).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for block in model.all_blocks():
            for weight in block.parameters():
                weight *= 3 if weight.ndim > 1 else 1
        for stack in (model, model.encoder):
            for weight in stack.positions.parameters():
                weight.normal_(generator=generator)
    return model


@torch.no_grad()
def test_editing_one_pair_leaves_the_others_bit_identical(translator):
    """A source that is changed is heard in its own answer alone."""
    (source, source_view), (tokens, view) = joined(SOURCES), joined(ANSWERS)
    before = translator(tokens, view=view, source=source, source_view=source_view)
    for number in range(len(SOURCES)):
        edited = torch.where(source_view.segments == number, (source + 1) % 61, source)
        after = translator(tokens, view=view, source=edited, source_view=source_view)
        assert torch.equal((after != before).any(-1), view.segments == number)


def test_packed_pairs_teach_what_single_pairs_teach(translator):
    """Summed loss and every gradient."""
    (source, source_view), (tokens, view) = joined(SOURCES), joined(ANSWERS)
    targets = torch.tensor([[token for row in ANSWERS for token in (*row[1:], 2)]])
    together, count = cross_entropy(translator, Batch(tokens, targets, view, source, source_view)).terms["loss"]
    together.backward()
    wanted = {name: weight.grad.clone() for name, weight in translator.named_parameters()}
    translator.zero_grad()
    total = torch.zeros((), dtype=torch.float64)
    for said, about in zip(ANSWERS, SOURCES):
        batch = Batch(torch.tensor([said]), torch.tensor([[*said[1:], 2]]), source=torch.tensor([about]))
        total = total + cross_entropy(translator, batch).terms["loss"][0]
    total.backward()
    assert count == sum(map(len, ANSWERS))
    torch.testing.assert_close(together, total, rtol=1e-12, atol=1e-10)
    torch.testing.assert_close({n: w.grad for n, w in translator.named_parameters()}, wanted, rtol=1e-9, atol=1e-10)
