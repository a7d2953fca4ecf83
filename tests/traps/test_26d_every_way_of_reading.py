"""Trap 26, over shared memory: keys kept in blocks, found again, lost and computed once more.
jingyaogong/minimind#550 and the threads of test_26.

However the tokens of a text come into the blocks, the logits behind each are those of one pass without any cache: at
once, one by one, in chunks beside others, behind a beginning that another text computed, after the memory was lost,
and where every token attends by itself so that its bits are always the same.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch

from instar.config import ModelConfig, RopeScaling
from instar.config.presets import preset
from instar.model.pages import Pages
from instar.model.ragged import Ragged, keep_sources
from instar.model.transformer import Transformer

VOCAB, CAPACITY = 61, 96
LLAMA = ModelConfig(vocab_size=VOCAB, d_model=24, layers=3, heads=4, kv_heads=2, d_ff=20, max_positions=CAPACITY)
GEMMA = dict(norm="rms_one", residual="both", act="gelu_tanh", scaled_embed=True, score_size=20.0)
NEOX = dict(norm="layer", mlp="plain", act="gelu", bias=True, qkv_bias=True, tied=False, head_size=8)
PAIR = dict(encoder_layers=2, start=1, kv_heads=4)
PAPER = PAIR | dict(
    norm="layer", residual="post", mlp="plain", act="relu", bias=True, qkv_bias=True, scaled_embed=True
)  # fmt: skip


def stretched(kind, *more, **named):
    return dict(head_size=8, rope_scaling=RopeScaling(kind, *more, original_positions=16, **named))


SHAPES = {
    "llama": replace(LLAMA),
    "llama with biases, untied": replace(LLAMA, bias=True, qkv_bias=True, tied=False, kv_heads=4),
    "llama, one wide key-value head": replace(LLAMA, kv_heads=1, head_size=12),
    "llama3": replace(LLAMA, **stretched("llama3", 4.0, 1.0, 4.0)),
    "llama linear": replace(LLAMA, rope_scaling=RopeScaling("linear", 2.5)),
    "yarn": replace(LLAMA, **stretched("yarn", 4.0, fast=8.0, slow=0.5)),
    "dynamic": replace(LLAMA, **stretched("dynamic", 3.0)),
    "mistral": replace(LLAMA, windows=(5, 5, 5)),
    "qwen2 with windows": replace(LLAMA, qkv_bias=True, windows=(0, 19, 19)),
    "qwen3": replace(LLAMA, qk_norm=True, head_size=12),
    "olmo2": replace(LLAMA, residual="inside", qk_norm_whole=True, tied=False),
    "gemma2": replace(LLAMA, windows=(5, 0, 21), score_cap=2.0, logit_cap=3.0, **GEMMA),
    "gemma3": replace(LLAMA, windows=(17, 0, 5), qk_norm=True, window_theta=50.0, **GEMMA),
    "mixtral": replace(LLAMA, experts=4, windows=(5, 5, 5)),
    "qwen3 moe": replace(LLAMA, experts=5, experts_used=3, expert_norm=False, dense_layers=(0,), qk_norm=True),
    "ernie": replace(LLAMA, experts=5, balance_by="bias", dense_layers=(0, 2)),
    "phi3": replace(LLAMA, rotary_share=0.75, head_size=8, windows=(7, 7, 7)),
    "neox": replace(LLAMA, residual="parallel", rotary_share=0.5, **NEOX),
    "neox one after the other": replace(LLAMA, rotary_share=0.25, **NEOX),
    "gpt2": preset("gpt2", vocab_size=VOCAB, d_model=24, layers=2, heads=4, d_ff=20, max_positions=CAPACITY),
    "nano": preset("nano", vocab_size=VOCAB, d_model=24, layers=2, heads=4, max_positions=CAPACITY),
    "sinusoidal": replace(LLAMA, positions="sinusoidal", residual="post"),
    "none": replace(LLAMA, positions="none"),
    "t5 alone": replace(LLAMA, positions="t5", relative_buckets=8, relative_distance=30, windows=(0, 9, 0)),
    "alibi": replace(LLAMA, positions="alibi"),
    "alibi with windows": replace(LLAMA, positions="alibi", windows=(6, 0, 20)),
    "marian": replace(LLAMA, positions="sinusoidal_halves", head_bias=True, **PAPER | dict(act="silu")),
    "bart": replace(LLAMA, positions="learned", position_start=2, embed_norm=True, **PAPER | dict(act="gelu")),
    "t5": replace(LLAMA, positions="t5", relative_buckets=8, relative_distance=30, head_size=10, **PAIR),
    "rotary with a source": replace(LLAMA, **PAIR | dict(kv_heads=2, source_vocab_size=17)),
    "alibi with a source": replace(LLAMA, positions="alibi", residual="inside", **PAIR),
}
# made of parts that another shape has too: with the slow tests
RARE = {
    "llama with biases, untied", "llama, one wide key-value head", "llama linear", "mistral", "qwen2 with windows",
    "qwen3", "ernie", "phi3", "neox one after the other", "nano", "sinusoidal", "alibi", "bart",
    "mixtral", "alibi with a source",
}  # fmt: skip
# two texts that begin alike for two blocks and a bit, a short one, and one that is nothing but a block and a token
SIZES = (70, 50, 3, 17)


class Case:
    """A model, texts about sources, and the logits of each in one pass, as long as the memory."""

    def __init__(self, name, dtype):
        torch.manual_seed(0)
        generator = torch.Generator().manual_seed(3)
        self.config, self.dtype = SHAPES[name], dtype
        self.model = model = Transformer(self.config).double().eval()
        self.tokens = tokens = torch.randint(0, VOCAB, (4, CAPACITY), generator=generator)
        tokens[1, :40] = tokens[0, :40]
        rows = self.config.source_vocab_size or VOCAB
        sizes = [9, 9, 33, 16]
        self.sources = [torch.randint(3, min(rows, 17), (n,), generator=generator).tolist() for n in sizes]
        self.sources[1] = self.sources[0]
        if not self.config.encoder_layers:
            self.sources = [[]] * 4
        with torch.no_grad():
            for weight in model.parameters():
                weight *= 1.5 if weight.ndim > 1 and weight is not model.embed.weight else 1
            for weight in [*model.parameters(), *model.buffers()]:
                if not weight.any():  # biases and distances
                    weight.copy_(torch.randn(weight.shape, generator=generator))
            last = model.norm if self.config.residual != "post" else model.blocks[-1].feed_forward_norm
            one = 1.0 if self.config.norm == "rms_one" else 0.0
            for _ in range(5):  # a cap makes it a matter of several rounds
                std = self.uncached().std()
                for weight in last.parameters():
                    weight.copy_((weight + one) / std - one)
            model.to(dtype)
            self.wanted = [logits[:size] for logits, size in zip(self.uncached(), SIZES)]
        self.texts = [row[:size].tolist() for row, size in zip(tokens, SIZES)]

    def uncached(self):
        if not self.config.encoder_layers:
            return self.model(self.tokens)
        return torch.cat(
            [self.model(row[None], source=torch.tensor([about])) for row, about in zip(self.tokens, self.sources)]
        )

    def pages(self, rows=5, **changes):
        room = 40 if self.config.encoder_layers else 0
        return Pages(self.config, rows, CAPACITY, source_capacity=room, dtype=self.dtype, chunk=64, **changes)

    def open(self, pages, number):
        """-> the row, and how much of the text is known."""
        source = self.sources[number]
        row, known = pages.open(self.texts[number], pages.root_of(source) if source else b"")
        if source and not pages.attend_to(row, source):
            memory = self.model.encode(torch.tensor([source]))
            keep_sources(pages, [row], memory, torch.ones(1, len(source), dtype=torch.bool), self.model.crossings())
        return row, known

    def read(self, pages, rows, counts, steady=False):
        """A pass: rows is {text: row}, counts {text: tokens} -> {text: logits}."""
        which = [n for n in rows if counts.get(n)]
        starts = {n: int(pages.lengths[rows[n]]) for n in which}
        assert all(pages.grow(rows[n], starts[n] + counts[n]) for n in which)
        ragged = Ragged(pages, [rows[n] for n in which], [counts[n] for n in which], steady=steady)
        flat = [id for n in which for id in self.texts[n][starts[n] : starts[n] + counts[n]]]
        logits = self.model(torch.tensor([flat]), cache=ragged)[0].split([counts[n] for n in which])
        for n in which:
            if len(pages.advance(np.array([rows[n]]), np.array([counts[n]]))):
                pages.fill(rows[n], self.texts[n])
        pages.check()
        return dict(zip(which, logits))


def all_at_once(case, steady):
    """Each text in one pass, by itself."""
    pages = case.pages()
    for n in range(4):
        row, known = case.open(pages, n)
        whole = len(case.texts[n])
        yield n, known, case.read(pages, {n: row}, {n: min(64, whole - known)}, steady)[n]
        pages.close(row)


def one_by_one(case, steady):
    """Four texts side by side, a token each, the short ones leaving early."""
    pages = case.pages()
    rows = {n: case.open(pages, n)[0] for n in range(4)}
    for place in range(max(SIZES)):
        for n, logits in case.read(pages, rows, {n: int(SIZES[n] > place) for n in rows}, steady).items():
            yield n, place, logits


def in_chunks(case, steady):
    """Four texts side by side, of each some tokens at a time, one or many."""
    random = np.random.default_rng(7)
    pages = case.pages()
    rows = {n: case.open(pages, n)[0] for n in range(4)}
    while any((starts := {n: int(pages.lengths[row]) for n, row in rows.items()})[n] < SIZES[n] for n in rows):
        counts = {n: min(SIZES[n] - start, int(random.choice([0, 1, 1, 2, 16, 23]))) for n, start in starts.items()}
        if any(counts.values()):
            order = {n: rows[n] for n in sorted(rows, key=lambda n: (counts[n] != 1, n))}
            for n, logits in case.read(pages, order, counts, steady).items():
                yield n, starts[n], logits


def behind_a_shared_beginning(case, steady):
    """The second text begins as the first, which is still being written: it finds two blocks of it, and goes on in
    its own; then the first, lost, is found whole."""
    pages = case.pages()
    rows = {0: case.open(pages, 0)[0]}
    case.read(pages, rows, {0: 41}, steady)
    rows[1], known = case.open(pages, 1)
    assert known == 32
    counts = {0: 9, 1: 18}
    found = case.read(pages, rows, counts, steady)
    yield 0, 41, found[0]
    yield 1, 32, found[1]
    case.read(pages, rows, {0: 20}, steady)
    pages.close(rows.pop(0))
    row, known = case.open(pages, 0)
    assert known == 64
    yield 0, 64, case.read(pages, {0: row}, {0: 6}, steady)[0]


def after_it_was_lost(case, steady):
    """There is memory for hardly more than one text: each takes the blocks of those before, and reads in two parts."""
    least = case.pages(rows=1).budget
    pages = case.pages(budget=least)
    for n in (0, 3, 1, 0, 2, 0):
        row, known = case.open(pages, n)
        first = min(30, SIZES[n] - known)
        yield n, known, case.read(pages, {n: row}, {n: first}, steady)[n]
        if first < SIZES[n] - known:
            yield n, known + first, case.read(pages, {n: row}, {n: SIZES[n] - known - first}, steady)[n]
        pages.close(row)


def forked(case, steady):
    """A row goes on as two, in the middle of a block, and each writes its own; then one as the other stood."""
    pages = case.pages()
    row, _ = case.open(pages, 0)
    case.read(pages, {0: row}, {0: 37}, steady)
    new = pages.fork(row)
    case.texts[4:] = [case.texts[0][:37] + case.texts[1][:13]]  # something else, in what was shared
    case.read(pages, {4: new}, {4: 5}, steady)
    yield 0, 37, case.read(pages, {0: row}, {0: 8}, steady)[0]
    pages.reorder([new], [row])
    yield 0, 45, case.read(pages, {0: new}, {0: 20}, steady)[0]
    yield 0, 45, case.read(pages, {0: row}, {0: 25}, steady)[0]


WAYS = (all_at_once, one_by_one, in_chunks, behind_a_shared_beginning, after_it_was_lost, forked)


def look(name, dtype, near, steady):
    """Every way of reading, and every logit of each."""
    case = Case(name, dtype)
    assert case.wanted[0].std() > 0.5
    for way in WAYS:
        seen = 0
        for n, start, logits in way(case, steady):
            gap = (logits - case.wanted[n][start : start + len(logits)]).abs().max().item()
            assert gap <= near, (way.__name__, n, start, gap)
            seen += len(logits)
        assert seen > 30


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in RARE else ()) for name in SHAPES]
)
@torch.inference_mode()
def test_logits_of_every_way_of_reading(name):
    """At every position those of one pass without a cache, to 1e-5 in fp32; and to 1e-10 in fp64, where every token
    attends by itself."""
    look(name, torch.float32, 1e-5, steady=False)
    look(name, torch.float64, 1e-10, steady=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES)
@torch.inference_mode()
def test_logits_the_other_way_round(name):
    """The same in the other precision."""
    look(name, torch.float32, 1e-5, steady=True)
    look(name, torch.float64, 1e-10, steady=False)
