"""Trap 11: labels of masked and seq2seq training. huggingface/transformers#11155, #5987, #7077, #14282.

Padding was masked and learnt; control tokens were; targets were shifted twice, by the data and again by the model; what
padded a source changed what was said of it. Here padding and control tokens are never chosen, a label stands only where
something was, masked targets are not shifted and seq2seq targets once, by the collator.
"""

import numpy as np
import pytest
import torch

from instar.batch import IGNORE
from instar.config import ModelConfig
from instar.data.loader import Place
from instar.data.masked import MaskedCollate
from instar.data.memory import store_in_memory
from instar.data.packing import PACKINGS
from instar.data.pairs import PairCollate, load_pairs, pair_batch
from instar.data.shards import Section
from instar.data.sources import Document
from instar.data.spans import DenoiseCollate, SpanCollate
from instar.model.transformer import Transformer
from instar.text import Tokenizer
from instar.text.words import Words

TOKENIZER = Tokenizer.train([], 384, masks=True, sentinels=20)
START, PAD, BEGIN, END, MASK = 301, TOKENIZER.pad, TOKENIZER.bos, TOKENIZER.eos, TOKENIZER.mask
X = IGNORE


def masked(documents, packing, context=64, **options):
    """The original tokens of some documents, and the batch that is made of them."""
    store = store_in_memory([Section(ids, 0, 1) for ids in documents], TOKENIZER.vocab_size)
    rows = list(PACKINGS[packing](store.lengths, context))
    collate = MaskedCollate(store, context, Words(TOKENIZER), MASK, PAD, **options)
    batch = collate(rows, [Place(n, n) for n in range(len(rows))])
    original = torch.full_like(batch.tokens, PAD)
    for line, row in zip(original, rows):
        ids = np.concatenate([store.tokens(*piece) for piece in row]).astype(np.int64)
        line[: len(ids)] = torch.from_numpy(ids)
    return original, batch


def random_documents(count, longest=60):
    draws = np.random.default_rng(0)
    return [[BEGIN, *draws.integers(0, 256, int(draws.integers(0, longest))).tolist(), END] for _ in range(count)]


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("static", [False, True])
def test_controls_and_padding_are_never_chosen(packing, static):
    """Not one begin, end or padding place is a target or looks otherwise, among thousands, also in documents of nothing
    else; and the padding is told."""
    original, batch = masked(random_documents(600), packing, rate=0.9, static=static)
    control = torch.isin(original, torch.tensor(list(TOKENIZER.specials.values())))
    assert control.sum() > 1200
    assert (batch.targets[control] == X).all()
    assert torch.equal(batch.tokens[control], original[control])
    padding = original == PAD
    if padding.any():
        assert torch.equal(batch.view.keep, ~padding)


def test_three_in_ten_and_of_these_eighty_ten_ten():
    """The share that is chosen, and what becomes of it, within three standard deviations; labels are the original ids
    at the very places, and nothing else is changed."""
    text = [[BEGIN, *np.random.default_rng(n).integers(0, 256, 510).tolist(), END] for n in range(100)]
    original, batch = masked(text, "none", context=512, whole_words=False)
    live = batch.targets != X
    assert torch.equal(batch.targets[live], original[live])
    assert torch.equal(batch.tokens[~live], original[~live])
    chosen, total = int(live.sum()), 51_000
    assert abs(chosen - 0.3 * total) < 3 * (0.3 * 0.7 * total) ** 0.5
    seen = batch.tokens[live]
    swapped = (seen != MASK) & (seen != original[live])
    # one random token in 256 is the original one
    for found, share in (((seen == MASK).sum(), 0.8), (swapped.sum(), 0.1 * 255 / 256)):
        assert abs(int(found) - share * chosen) < 3 * (share * (1 - share) * chosen) ** 0.5
    assert seen[swapped].max() < 256


def test_the_shift_by_hand():
    """Given: the start, then the target without its end. Said: the target with its end. Once, and never a padding."""
    batch = pair_batch(
        [[np.array([5, 6, END])], [np.array([7, END])]], [[np.array([1, 2, 3, END])], [np.array([4, END])]], START, PAD
    )
    assert batch.tokens.tolist() == [[START, 1, 2, 3], [START, 4, PAD, PAD]]
    assert batch.targets.tolist() == [[1, 2, 3, END], [4, END, X, X]]
    assert batch.source.tolist() == [[5, 6, END], [7, END, PAD]]
    assert batch.source_view.keep.tolist() == [[True, True, True], [True, True, False]]


def test_an_end_that_also_pads_is_learnt():
    """Where the padding is the end token, the end of a target teaches all the same: padding is known by its place."""
    texts = [{"source": "ab", "target": "c"}, {"source": "d", "target": "efgh"}]
    documents = [Document(record, "here", n) for n, record in enumerate(texts, 1)]
    pairs, _ = load_pairs(documents, TOKENIZER, context=16)
    batch = PairCollate(pairs, start=BEGIN, pad=END)([[(0, 0, 0), (1, 0, 0)]])
    assert (batch.targets == END).sum(1).tolist() == [1, 1]
    assert (batch.targets != X).sum(1).tolist() == [2, 5]
    assert batch.source_view.keep.sum(1).tolist() == [4, 3]


@pytest.mark.parametrize("kind", [SpanCollate, DenoiseCollate])
def test_noise_is_in_the_source_alone(kind):
    """The target never holds a mask, and its given side is itself, shifted once, whatever was done to the source."""
    store = store_in_memory([Section(ids, 0, 1) for ids in random_documents(50)], TOKENIZER.vocab_size)
    told = (
        {"sentinels": TOKENIZER.sentinels, "longest": 64}
        if kind is SpanCollate
        else {"words": Words(TOKENIZER), "mask": MASK}
    )
    rows = list(PACKINGS["none"](store.lengths, 62))
    batch = kind(store=store, start=START, begin=BEGIN, end=END, pad=PAD, **told)(
        rows, [Place(n, n) for n in range(50)]
    )
    live = batch.targets != X
    assert not (batch.targets == MASK).any()
    assert torch.equal(batch.tokens[:, 1:][live[:, 1:]], batch.targets[:, :-1][live[:, 1:]])
    assert (batch.tokens[:, 0] == START).all()
    assert torch.equal(live, batch.view.keep if batch.view.keep is not None else torch.ones_like(live))


def make_model(positions, **shape):
    shape = {
        "vocab_size": 384,
        "d_model": 16,
        "layers": 2,
        "heads": 2,
        "max_positions": 32,
        "positions": positions,
    } | shape
    return Transformer(ModelConfig(**shape), seed=1).double().eval()


def logits(model, batch):
    """Of every target."""
    hidden = model.hidden(batch.tokens, view=batch.view, source=batch.source, source_view=batch.source_view)
    return model.heads["lm"](hidden)


SHORT, LONG, SAID = np.array([5, 6, END]), np.array([7, 8, 9, 10, 11, 12, END]), np.array([1, 2, END])


@pytest.mark.parametrize("positions", ["learned", "rotary", "t5"])
def test_what_pads_a_source_changes_nothing(positions):
    """The logits of a target are the same alone and beside a longer source, whatever ids pad it."""
    model = make_model(positions, encoder_layers=2, start=START)
    alone = logits(model, pair_batch([[SHORT]], [[SAID]], START, PAD))[0]
    for pad in (PAD, END, 5):
        beside = logits(model, pair_batch([[SHORT], [LONG]], [[SAID], [SAID]], START, pad))[0]
        assert torch.allclose(beside, alone, atol=1e-12, rtol=0)
    assert not torch.allclose(logits(model, pair_batch([[LONG]], [[SAID]], START, PAD))[0], alone, atol=1e-3)


@pytest.mark.parametrize("positions", ["learned", "rotary", "t5"])
def test_packed_pairs_do_not_see_each_other(positions):
    """Two sources in a row, two targets in a row: each target has the logits that it has alone."""
    model = make_model(positions, encoder_layers=2, start=START)
    together = logits(model, pair_batch([[SHORT, LONG], [SHORT]], [[SAID, SAID[1:]], [SAID]], START, PAD))
    first = logits(model, pair_batch([[SHORT]], [[SAID]], START, PAD))[0]
    second = logits(model, pair_batch([[LONG]], [[SAID[1:]]], START, PAD))[0]
    for found, alone in ((together[0, :3], first), (together[0, 3:], second), (together[1, :3], first)):
        assert torch.allclose(found, alone, atol=1e-12, rtol=0)


@pytest.mark.parametrize("packing", PACKINGS)
def test_what_pads_a_masked_row_changes_nothing(packing):
    """An encoder that looks both ways sees no padding, whatever ids stand there."""
    model = make_model("rotary", causal=False, heads_of=("masked",))
    _, batch = masked(random_documents(9, longest=20), packing, context=32)
    keep = batch.view.keep
    assert keep is not None
    said = model.hidden(batch.tokens, view=batch.view)
    other = model.hidden(torch.where(keep, batch.tokens, 7), view=batch.view)
    assert torch.allclose(said[keep], other[keep], atol=1e-12, rtol=0)
    assert not torch.allclose(said[~keep], other[~keep], atol=1e-3)
