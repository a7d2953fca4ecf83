"""Batches that a model restores: span corruption and denoising, packed or not."""

import numpy as np
import pytest
import torch

from instar.batch import IGNORE
from instar.config import InputError
from instar.data.loader import Loader, Place
from instar.data.memory import store_in_memory
from instar.data.packing import PACKINGS
from instar.data.shards import Section
from instar.data.spans import FRAME, DenoiseCollate, SpanCollate
from instar.text.words import Words

TEXTS = [
    "Anna had a red ball. She gave it to Tom.",
    "王明有一个红色的球。他很高兴。",
    "a",
    "Tom's ball, 12 of them!",
] * 4
CONTEXT = 48


@pytest.fixture(scope="module")
def store(encoder):
    return store_in_memory([Section(ids, 0, 1) for ids in encoder.documents(TEXTS)], encoder.vocab_size)


@pytest.fixture(scope="module")
def spans(store, encoder):
    def make(**options):
        told = {"begin": encoder.bos, "end": encoder.eos, "start": encoder.pad, "pad": encoder.pad}
        return SpanCollate(store=store, sentinels=encoder.sentinels, longest=CONTEXT, **(told | options))

    return make


@pytest.fixture(scope="module")
def denoise(store, encoder):
    def make(**options):
        told = {"begin": encoder.bos, "end": encoder.eos, "start": encoder.pad, "pad": encoder.pad}
        return DenoiseCollate(store=store, words=Words(encoder), **(told | {"mask": encoder.mask} | options))

    return make


def places(rows):
    return [Place(n, n) for n in range(len(rows))]


def parts(tokens, view, number):
    """The segments of one row, as lists."""
    kept = view.keep[number] if view.keep is not None else torch.ones_like(tokens[number], dtype=torch.bool)
    segments = view.segments[number] if view.segments is not None else torch.zeros_like(tokens[number])
    return [tokens[number][(segments == s) & kept].tolist() for s in segments[kept].unique().tolist()]


def restored(source, said, sentinels):
    """The text that a source and what was said of it make together."""
    taken, mark = {}, None
    for id in said:
        mark = id if id in sentinels else mark
        taken.setdefault(mark, []).append(id)
    return [out for id in source for out in (taken[id][1:] if id in sentinels else [id])]


@pytest.mark.parametrize("packing", PACKINGS)
def test_source_and_target_make_the_document(spans, store, encoder, packing):
    """Every piece comes back exactly, with one begin and one end on each side; what is given is the target, shifted."""
    rows = list(PACKINGS[packing](store.lengths, CONTEXT - FRAME))
    batch = spans()(rows, places(rows))
    assert batch.source.shape[1] <= CONTEXT
    for number, row in enumerate(rows):
        sources = parts(batch.source, batch.source_view, number)
        answers = parts(batch.targets, batch.view, number)
        given = parts(batch.tokens, batch.view, number)
        assert len(sources) == len(answers) == len(row)
        for piece, source, said, heard in zip(row, sources, answers, given, strict=True):
            ids = [id for id in store.tokens(*piece).tolist() if id not in (encoder.bos, encoder.eos)]
            assert (source[0], source[-1], said[0], said[-1]) == (encoder.bos, encoder.eos) * 2
            assert restored(source[1:-1], said[1:-1], encoder.sentinels) == ids
            assert heard == [encoder.pad, *said[:-1]]
            assert said[-2] == encoder.sentinels[sum(id in encoder.sentinels for id in said) - 1]


def test_what_starts_an_answer_stands_once(spans, encoder):
    """Where decoding begins with the begin token itself, the target does not repeat it."""
    batch = spans(start=encoder.bos)([[(0, 0, 42)]], places("a"))
    assert batch.tokens[0, :2].tolist() == [encoder.bos, encoder.sentinels[0]]
    assert batch.targets[0, 0] == encoder.sentinels[0]
    bare = spans(begin=None)([[(0, 1, 42)]], places("a"))
    assert bare.source[0, 0] not in (encoder.bos, encoder.sentinels[0])
    assert bare.targets[0, 0] == encoder.sentinels[0]


def test_packed_documents_are_segments_on_both_sides(spans):
    """The source of a document is the only one its target may look at; padding belongs to nobody."""
    batch = spans()([[(0, 0, 20), (1, 0, 20)], [(3, 0, 9)]], places("ab"))
    for view, length in ((batch.source_view, batch.source.shape[1]), (batch.view, batch.tokens.shape[1])):
        assert view.segments.shape == view.positions.shape == view.keep.shape == (2, length)
        assert set(view.segments[0][view.keep[0]].tolist()) == {0, 1}
        assert (view.segments[1][~view.keep[1]] == 1).all()
    assert (batch.targets[~batch.view.keep] == IGNORE).all()
    assert (batch.targets[batch.view.keep] != IGNORE).all()


@pytest.mark.parametrize("packing", PACKINGS)
def test_denoising_says_the_whole_text(denoise, store, encoder, packing):
    """The target is the document; the source has its tokens in other places, a share of them under masks."""
    rows = list(PACKINGS[packing](store.lengths, CONTEXT - FRAME))
    batch = denoise()(rows, places(rows))
    assert max(batch.source.shape[1], batch.tokens.shape[1]) <= CONTEXT
    for number, row in enumerate(rows):
        for piece, source, said in zip(
            row, parts(batch.source, batch.source_view, number), parts(batch.targets, batch.view, number), strict=True
        ):
            ids = [id for id in store.tokens(*piece).tolist() if id not in (encoder.bos, encoder.eos)]
            assert said == [encoder.bos, *ids, encoder.eos]
            left = [id for id in source[1:-1] if id != encoder.mask]
            assert len(left) == len(ids) - round(0.3 * len(ids))
            assert not set(left) - set(ids)


def test_sentences_are_permuted_where_wanted(denoise, store, encoder):
    """Without permutation what stays is in the order of the text; with it the second sentence may come first."""
    row = [[(0, 0, int(store.lengths[0]))]]
    text = encoder.encode(TEXTS[0])

    def firsts(**options):
        sources = [denoise(rate=0.05, **options)(row, [Place(n, 0)]).source[0, 1].item() for n in range(40)]
        return {encoder.piece(id) for id in sources}

    assert "S" in firsts()
    assert "S" not in firsts(permuted=False)
    assert encoder.piece(text[0]) in firsts()


@pytest.mark.parametrize("kind", ["spans", "denoise"])
@pytest.mark.parametrize(("world", "micro_rows", "workers"), [(1, 1, 0), (1, 3, 2), (2, 2, 0), (4, 1, 2)])
def test_noise_is_the_same_however_a_step_is_shared(request, store, kind, world, micro_rows, workers):
    """The source and target of every row of a step are the same for any micro-batches, ranks and workers."""
    collate = request.getfixturevalue(kind)(seed=3)
    rows = PACKINGS["none"](store.lengths, CONTEXT)

    def drawn(**options):
        source, found = Loader(rows, collate, batch_rows=8, seed=1, **options), []
        for _ in range(3):
            lines = []
            for _ in range(source.micro_batches):
                batch = next(source)
                for number in range(len(batch.tokens)):
                    lines += [parts(batch.source, batch.source_view, number), parts(batch.targets, batch.view, number)]
            found.append(lines)
        source.close()
        return found

    wanted = drawn()
    ranks = [drawn(rank=rank, world=world, micro_rows=micro_rows, workers=workers) for rank in range(world)]
    for step, lines in enumerate(wanted):
        assert [rank[step][2 * k : 2 * k + 2] for k in range(8 // world) for rank in ranks] == [
            lines[n : n + 2] for n in range(0, 16, 2)
        ]


def test_what_cannot_be_corrupted(spans, denoise, encoder):
    """Too few sentinels for a row, no mask, or a rate out of bounds fail before the first step, with the remedy."""
    with pytest.raises(InputError, match=r"rows of 48 tokens take 3 sentinels, .* has 2; train one with --sentinels 3"):
        SpanCollate(store=spans().store, start=0, end=1, sentinels=encoder.sentinels[:2], longest=CONTEXT)
    with pytest.raises(InputError, match="no mask token"):
        denoise(mask=None)
    for make in (spans, denoise):
        with pytest.raises(InputError, match="rate=1"):
            make(rate=1.0)


def test_a_piece_that_is_only_an_end(spans, store, encoder):
    """A window may hold nothing of a document but its end: it teaches next to nothing, and breaks nothing."""
    length = int(store.lengths[2])
    batch = spans()([[(2, length - 1, length)]], places("a"))
    assert batch.source[0].tolist() == [encoder.bos, encoder.eos]
    assert batch.targets[0].tolist() == [encoder.bos, encoder.sentinels[0], encoder.eos]
    assert np.isin(batch.tokens[0, 0], encoder.pad)
