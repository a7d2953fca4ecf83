"""Several answers to one prompt in one row: each sees the prompt and itself, as in a sequence of its own."""

from dataclasses import replace

import pytest
import torch

from instar.batch import View
from instar.config import ModelConfig, RopeScaling
from instar.model.transformer import Transformer

NANO = ModelConfig(vocab_size=61, d_model=24, layers=3, heads=4, max_positions=32, head_size=8)
SHAPES = {
    "rotary": NANO,
    "grouped": replace(NANO, kv_heads=2, qk_norm=True),
    "windows": replace(NANO, kv_heads=1, windows=(3, 0, 5), score_cap=2.0),
    "learned": replace(NANO, positions="learned", norm="layer", bias=True, qkv_bias=True),
    "alibi": replace(NANO, positions="alibi"),
    "t5": replace(NANO, positions="t5", relative_buckets=8, relative_distance=12),
    "sinusoidal": replace(NANO, positions="sinusoidal", residual="post", norm="layer"),
    "yarn": replace(NANO, rope_scaling=RopeScaling("yarn", 4.0, original_positions=8, fast=4.0, slow=0.5)),
}
# prompts with their answers: branches of different lengths, more than two, and a prompt of a single token
ROWS = [
    [([5, 6, 7, 8, 9, 10], [[11, 12, 13], [14], [15, 16, 17, 18]]), ([20], [[21, 22], [23]])],
    [([30, 31, 32], [[33, 34], [35, 36, 37, 38, 39]]), ([40, 41], [[42]])],
]


@pytest.fixture(params=SHAPES)
def model(request):
    """Attention far from even, so that a leak would show."""
    model = Transformer(SHAPES[request.param], seed=3).double().eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.2 * torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
            weight *= 2 if weight.ndim > 1 else 1
    return model


def laid(rows, padding=0):
    """[trunk | branch | branch ...] one after the other -> tokens, their view, and (row, answer with prompt, places of
    it)."""
    lines, wanted = [], []
    for number, row in enumerate(rows):
        line = []
        for segment, (prompt, answers) in enumerate(row):
            trunk = [(id, place, segment, 0) for place, id in enumerate(prompt[:-1])]
            first = len(line)
            line += trunk
            for branch, answer in enumerate(answers, 1):
                start = len(line)
                line += [(id, len(trunk) + place, segment, branch) for place, id in enumerate([prompt[-1], *answer])]
                places = [*range(first, first + len(trunk)), *range(start, len(line))]
                wanted.append((number, [*prompt, *answer], places))
        lines.append(line)
    width = max(map(len, lines)) + padding
    table = torch.tensor([[*line, *[(0, 0, 99, 0)] * (width - len(line))] for line in lines])
    tokens, positions, segments, branches = table.unbind(-1)
    keep = torch.tensor([[place < len(line) for place in range(width)] for line in lines])
    return tokens, View(positions, segments, keep if padding else None, branches=branches), wanted


def states(model, rows, padding=0):
    """Hidden states of each answer with its prompt."""
    tokens, view, wanted = laid(rows, padding)
    hidden = model.hidden(tokens, view=view)
    return [hidden[row, places] for row, _, places in wanted], [ids for _, ids, _ in wanted]


@pytest.mark.parametrize("padding", [0, 5])
def test_each_branch_is_the_plain_sequence(model, padding):
    """Float64: states and gradients of a shared row are those of every answer alone behind its own prompt."""
    found, texts = states(model, ROWS, padding)
    alone = [model.hidden(torch.tensor([ids]))[0] for ids in texts]
    for one, other in zip(found, alone):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    slopes = [
        # of the answers alone, since a trunk stands in the row once
        torch.autograd.grad(sum((x[-1] ** 2).sum() for x in each), weights, allow_unused=True)
        for each in (found, alone)
    ]  # fmt: skip
    for one, other in zip(*slopes):
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-9)


@torch.no_grad()
def test_a_branch_sees_no_other(model):
    """Every token of one answer is changed; prompts and the other answers stay the same, to the last bit."""
    before, _ = states(model, ROWS)
    changed = [[(list(prompt), [list(answer) for answer in answers]) for prompt, answers in row] for row in ROWS]
    changed[0][0][1][1] = [59]
    after, texts = states(model, changed)
    for number, (one, other) in enumerate(zip(before, after)):
        same = torch.equal(one, other)
        assert same == (number != 1), texts[number]
