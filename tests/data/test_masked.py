"""Batches for a masked model: what is chosen, what is seen of it, and on what the draws depend."""

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, DataCollatorForLanguageModeling

from instar.batch import IGNORE
from instar.config import InputError
from instar.data.loader import Loader, Place, once
from instar.data.masked import MaskedCollate
from instar.data.memory import store_in_memory
from instar.data.packing import PACKINGS
from instar.data.shards import Section
from instar.text.words import Words

TEXTS = ["Anna had a red ball.", "王明有一个红色的球。", "Tom's ball was in the garden, 12 of them!", "a"] * 6
CONTEXT = 64


@pytest.fixture(scope="module")
def store(encoder):
    return store_in_memory([Section(ids, 0, 1) for ids in encoder.documents(TEXTS)], encoder.vocab_size)


@pytest.fixture(scope="module")
def collate(store, encoder):
    def make(**options):
        return MaskedCollate(store, CONTEXT, Words(encoder), encoder.mask, encoder.pad, **options)

    return make


def places(rows, first=0):
    return [Place(first + n, n) for n in range(len(rows))]


@pytest.mark.parametrize("packing", PACKINGS)
def test_labels_live_only_where_something_was_chosen(collate, store, encoder, packing):
    """The target is the original id, unshifted; elsewhere nothing is taught and nothing is changed."""
    rows = list(PACKINGS[packing](store.lengths, CONTEXT))
    batch = collate()(rows, places(rows))
    for row, seen, wanted in zip(rows, batch.tokens, batch.targets):
        ids = np.concatenate([store.tokens(*piece) for piece in row])
        live = (wanted != IGNORE).numpy()
        assert (wanted.numpy()[: len(ids)][live[: len(ids)]] == ids[live[: len(ids)]]).all()
        assert (seen.numpy()[: len(ids)][~live[: len(ids)]] == ids[~live[: len(ids)]]).all()
        assert not live[len(ids) :].any()
        assert not live[: len(ids)][Words(encoder).control[ids]].any()


def test_padding_and_packing_are_told(collate, store):
    """An encoder looks both ways, so padding is told even where a row holds one document; packed ones are segments."""
    alone = collate()([[(0, 0, 5)], [(1, 0, 22)]], places("ab")).view
    assert (alone.positions, alone.segments) == (None, None)
    assert alone.keep.sum(1).tolist() == [5, 22]
    packed = collate()([[(0, 0, 5), (1, 0, 27)]], places("a")).view
    assert packed.segments[0].tolist() == [0] * 5 + [1] * 27
    assert packed.keep is None
    assert packed.positions[0].tolist() == [*range(5), *range(27)]
    assert collate(whole=True)([[(0, 0, 5)]], places("a")).tokens.shape == (1, CONTEXT)


def test_words_are_masked_whole(collate, store, encoder):
    """A Chinese character of three byte tokens, or a word of letters, is a target with all of its tokens or none."""
    rows = list(PACKINGS["none"](store.lengths, CONTEXT))
    batch = collate()(rows, places(rows))
    for row, wanted in zip(rows, batch.targets):
        ids = np.concatenate([store.tokens(*piece) for piece in row])
        numbers, live = Words(encoder).numbers(ids), (wanted[: len(ids)] != IGNORE).numpy()
        assert all(len(set(live[numbers == word])) == 1 for word in range(numbers[-1] + 1))
    single = collate(whole_words=False)(rows, places(rows)).targets
    assert not torch.equal(single, batch.targets)


def test_no_word_reaches_into_the_next_document(encoder):
    """Two documents of letters, cut without begin or end between them, are two words."""
    store = store_in_memory([Section(encoder.encode(text), 0, 1) for text in ("ab", "cd")], 384)
    collate = MaskedCollate(store, 16, Words(encoder), encoder.mask, rate=0.5)
    seen = set()
    for number in range(60):
        targets = collate([[(0, 0, 2), (1, 0, 2)]], [Place(number, 0)]).targets[0, :4] != IGNORE
        seen.add(tuple(targets.tolist()))
    assert seen == {(True, True, False, False), (False, False, True, True), (True, True, True, True)}


@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize(("world", "micro_rows", "workers"), [(1, 1, 0), (1, 3, 2), (2, 0, 0), (2, 2, 2), (4, 1, 0)])
def test_noise_is_the_same_however_a_step_is_shared(collate, store, static, world, micro_rows, workers):
    """The tokens of every row of a step are the same for any micro-batches, ranks and workers."""
    rows = PACKINGS["none"](store.lengths, CONTEXT)

    def drawn(steps, **options):
        source = Loader(rows, collate(static=static, seed=4, whole=True), batch_rows=8, seed=1, **options)
        batches = [[next(source) for _ in range(source.micro_batches)] for _ in range(steps)]
        source.close()
        return [torch.cat([torch.stack([b.tokens, b.targets], 1) for b in step]) for step in batches]

    wanted = drawn(5)
    ranks = [drawn(5, rank=rank, world=world, micro_rows=micro_rows, workers=workers) for rank in range(world)]
    for step in range(5):
        shared = torch.stack([rank[step] for rank in ranks], 1).flatten(0, 1)
        assert torch.equal(shared, wanted[step])


def test_dynamic_holes_move_and_static_ones_stay(collate, store):
    """Seen again in the next epoch a row has other holes; static ones are those of the row, of a seed."""
    row = [[(2, 0, int(store.lengths[2]))]]
    first, later = Place(3, 2), Place(3 + 24, 2)
    assert not torch.equal(collate()(row, [first]).targets, collate()(row, [later]).targets)
    fixed = collate(static=True)
    assert torch.equal(fixed(row, [first]).tokens, fixed(row, [later]).tokens)
    assert not torch.equal(fixed(row, [first]).tokens, collate(static=True, seed=1)(row, [first]).tokens)
    assert torch.equal(collate()(row, [first]).tokens, collate()(row, [first]).tokens)


def test_evaluation_asks_the_same_each_time(collate, store):
    """Held-out rows have the same holes at every evaluation and for any number of rows at a time."""
    rows = list(PACKINGS["none"](store.lengths, CONTEXT))
    one = [b.tokens[0] for b in once(rows, collate(whole=True), micro_rows=1)]
    many = [line for b in once(rows, collate(whole=True), micro_rows=7) for line in b.tokens]
    assert torch.equal(torch.stack(one), torch.stack(many))


def test_as_often_as_transformers(encoder, tmp_path):
    """On the same texts their collator and ours choose, mask, swap and keep alike, token by token at the same rate."""
    encoder.save(tmp_path)
    stock = AutoTokenizer.from_pretrained(tmp_path)
    torch.manual_seed(0)
    draws = np.random.default_rng(0)
    documents = [[encoder.bos, *draws.integers(0, 256, 126).tolist(), encoder.eos] for _ in range(300)]
    theirs = DataCollatorForLanguageModeling(stock, mlm_probability=0.3)([{"input_ids": ids} for ids in documents])
    store = store_in_memory([Section(ids, 0, 1) for ids in documents], encoder.vocab_size)
    collate = MaskedCollate(store, 128, Words(encoder), encoder.mask, whole_words=False)
    rows = list(PACKINGS["none"](store.lengths, 128))
    ours = collate(rows, places(rows))
    original = torch.tensor(documents)

    def shares(tokens, targets):
        live = targets != IGNORE
        masked = (tokens == encoder.mask)[live].float().mean()
        kept = (tokens == original)[live].float().mean()
        return live[:, 1:-1].float().mean(), masked, kept, live[:, [0, -1]].float().sum()

    ours = shares(ours.tokens, ours.targets)
    theirs = shares(theirs["input_ids"], theirs["labels"])
    for mine, other, spread in zip(ours, theirs, (0.46 / 37800**0.5, 0.4 / 11340**0.5, 0.3 / 11340**0.5, 0)):
        assert abs(float(mine) - float(other)) <= 3 * 2**0.5 * spread


def test_what_cannot_be_masked(store, encoder):
    """A tokenizer without a mask, and a rate that leaves nothing to say or to see, fail before the first step."""
    with pytest.raises(InputError, match="no mask token; train one with --masks"):
        MaskedCollate(store, CONTEXT, Words(encoder), None)
    with pytest.raises(InputError, match="rate=0"):
        MaskedCollate(store, CONTEXT, Words(encoder), encoder.mask, rate=0)
