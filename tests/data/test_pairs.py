"""Pairs stay together, rows hold a number of tokens, and a batch tells an encoder-decoder what it reads and says."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from instar.batch import IGNORE
from instar.config import InputError
from instar.data.corpus import read
from instar.data.loader import Loader
from instar.data.pairs import Buckets, PairCollate, load_pairs, pair_of
from instar.data.sources import Document
from instar.text import Tokenizer

X = IGNORE


def documents(*records):
    return [Document(record, "here", number) for number, record in enumerate(records, 1)]


def pairs_of(*texts):
    return documents(*({"source": source, "target": target} for source, target in texts))


@pytest.fixture
def many(tokenizer):
    """300 pairs of many lengths."""
    draws = np.random.default_rng(0)
    texts = [("x" * int(draws.integers(1, 40)), f"{n:03d}" + "y" * int(draws.integers(0, 40))) for n in range(300)]
    return load_pairs(pairs_of(*texts), tokenizer, context=64)[0]


@pytest.mark.parametrize(
    ("record", "keys"),
    [
        ({"source": "a", "target": "b"}, {}),
        ({"translation": {"en": "a", "de": "b"}}, {"source": "en", "target": "de"}),
        ({"de": "b", "en": "a"}, {"source": "en", "target": "de"}),
    ],
)
def test_shapes_of_a_pair(record, keys):
    """Our own, that of translation sets, and two keys that somebody names; no direction is ever guessed."""
    assert pair_of(record, **keys) == ("a", "b")
    if keys:
        assert pair_of(record, keys["target"], keys["source"]) == ("b", "a")
        with pytest.raises(InputError, match=r'no "source": the keys are (en, de|de, en); name the two'):
            pair_of(record)


def test_a_pair_that_is_none(tokenizer):
    """The error names the record, the key, and what was found there."""
    with pytest.raises(InputError, match='here, record 2: "target" is NoneType, wanted a string'):
        load_pairs(documents({"source": "a", "target": "b"}, {"source": "a", "target": None}), tokenizer, context=9)


def test_what_does_not_fit_is_counted(tokenizer):
    """Empty on a side, too long on a side: left out and counted; nothing left is an error with both counts."""
    texts = [("ab", "cd"), ("", "x"), ("x", " \n"), ("x" * 8, "y"), ("x", "y" * 8), ("1234567", "z")]
    pairs, counts = load_pairs(pairs_of(*texts), tokenizer, context=8)
    assert counts == {
        "pairs": 6, "kept": 2, "empty": 2, "too_long": 2, "source_tokens": 11, "tokens": 5, "bytes": 3,
    }  # fmt: skip
    assert bytes(pairs.sources.tokens(1)[:-1].tolist()) == b"1234567"
    with pytest.raises(InputError, match="of 5 pairs 3 are longer than context=3 and 2 are empty"):
        load_pairs(pairs_of(*texts[1:]), tokenizer, context=3)


def test_a_batch_by_hand(tokenizer):
    """Source and target end with the end; what is given begins with the start; keep only where something is padded."""
    pairs, _ = load_pairs(pairs_of(("ab", "c"), ("d", "efg")), tokenizer, context=16)
    eos, a = tokenizer.eos, ord("a")
    batch = PairCollate(pairs, start=300, pad=257)([[(0, 0, 2), (1, 0, 4)]])
    assert batch.source.tolist() == [[a, a + 1, eos], [a + 3, eos, 257]]
    assert batch.tokens.tolist() == [[300, a + 2, 257, 257], [300, a + 4, a + 5, a + 6]]
    assert batch.targets.tolist() == [[a + 2, eos, X, X], [a + 4, a + 5, a + 6, eos]]
    assert batch.source_view.keep.tolist() == [[True] * 3, [True, True, False]]
    assert batch.view.keep.tolist() == [[True, True, False, False], [True] * 4]
    assert batch.count() == 6
    alike = PairCollate(pairs, start=300, pad=257)([[(0, 0, 2)]])
    assert (alike.view.keep, alike.source_view.keep, alike.view.segments, alike.view.positions) == (None,) * 4
    wide = PairCollate(pairs, start=300, pad=257, source_pad=9, multiple=8)([[(0, 0, 2)]])
    assert (wide.source.tolist()[0][3:], wide.tokens.shape) == ([9] * 5, (1, 8))


def test_begin_tokens(encoder):
    """A begin token stands before the source; before the target only where decoding begins with another one."""
    pairs, _ = load_pairs(pairs_of(("a", "b")), encoder, context=16)
    (b,) = encoder.encode("b")
    first = PairCollate(pairs, start=encoder.bos)([[(0, 0, 3)]])
    assert first.source[0, 0] == encoder.bos
    assert (first.tokens.tolist(), first.targets.tolist()) == ([[encoder.bos, b]], [[b, encoder.eos]])
    other = PairCollate(pairs, start=encoder.eos)([[(0, 0, 3)]])
    assert other.tokens.tolist() == [[encoder.eos, encoder.bos, b]]
    assert other.targets.tolist() == [[encoder.bos, b, encoder.eos]]


def test_a_target_without_an_end_is_refused(tokenizer):
    """A model that is never taught an end never stops."""
    tokenizer.document = lambda text: list(text.encode())
    with pytest.raises(InputError, match="no end token"):
        load_pairs(pairs_of(("a", "b")), tokenizer, context=9)


def test_held_out_sides_belong_together(tokenizer):
    """Divided by the hash of the source: pairs stay pairs, and no source is on both sides, whatever its target."""
    texts = [(f"source {n // 2}", f"target {n // 2}.{n % 2}") for n in range(400)]
    pairs, _ = load_pairs(pairs_of(*texts), tokenizer, context=64)
    seen = []
    for side in pairs.split(0.3):
        both = [
            tuple(bytes(store.tokens(n)[:-1].tolist()).decode() for store in (side.sources, side.targets))
            for n in range(len(side))
        ]
        assert all(y.removeprefix("target ").split(".")[0] == x.removeprefix("source ") for x, y in both)
        seen.append(both)
    assert sorted(seen[0] + seen[1]) == sorted(texts)
    assert not {x for x, _ in seen[0]} & {x for x, _ in seen[1]}
    assert 60 < len(seen[1]) < 180
    assert pairs.split(0.3)[1].total == sum(len(y) + 1 for _, y in seen[1])


@pytest.mark.parametrize("context", [64, 100, 1000])
def test_rows_hold_so_many_tokens(many, context):
    """Every pair in one row; no side of a row passes the context, padding counted; and no row could take the next."""
    rows = Buckets(many, context)
    assert sorted(pair for row in rows for pair, _, _ in row) == list(range(300))

    def size(pairs):
        return len(pairs) * max(max(many.sources.lengths[p], many.targets.lengths[p]) for p in pairs)

    buckets = [[pair for pair, _, _ in row] for row in rows]
    assert max(map(size, buckets)) <= context
    assert all(size([*bucket, following[0]]) > context for bucket, following in pairwise(buckets))
    with pytest.raises(IndexError):
        rows[len(rows)]


def test_pairs_of_a_row_are_about_as_long(many):
    """Little padding, even of pairs whose sides are unlike each other: in the order of the file 57 tokens in a hundred
    are real, in rows of like lengths 75."""
    collate = PairCollate(many, start=0)

    def real(rows):
        sides = [side for row in rows for batch in [collate([row])] for side in (batch.source, batch.tokens)]
        return (many.sources.total + many.targets.total) / sum(side.numel() for side in sides)

    rows = Buckets(many, 512)
    in_order = [[(pair, 0, 1) for pair in range(start, min(start + 16, 300))] for start in range(0, 300, 16)]
    assert real(rows) > 0.74 > 0.6 > real(in_order)


def test_rows_go_through_the_loader(many):
    """One row at a time a batch is a number of tokens, and an epoch is every pair once."""
    rows = Buckets(many, 512, seed=5)
    loader = Loader(rows, PairCollate(many, start=0), batch_rows=2, micro_rows=PairCollate.rows_at_once)
    batches = [next(loader) for _ in range(len(rows))]
    assert sum(batch.count() for batch in batches) == many.total
    assert all(batch.tokens.shape[0] * batch.tokens.shape[1] <= 512 for batch in batches)


def test_a_pair_longer_than_a_row(many):
    """Rows shorter than a pair are refused by both numbers; no pairs are no rows."""
    longest = int(max(many.sources.lengths.max(), many.targets.lengths.max()))
    with pytest.raises(InputError, match=f"a pair of {longest} tokens does not fit a row of 20"):
        Buckets(many, 20)
    assert len(Buckets(many.split(0.0)[1], 64)) == 0


@pytest.mark.parametrize(
    ("name", "keys", "kept"),
    [
        ("translation/multi30k_en_de.val.jsonl", ("en", "de"), 1014),
        pytest.param("seq2seq/wiki_split.tune.jsonl", ("source", "target"), 5000, marks=pytest.mark.slow),
    ],
)
def test_real_pairs(shared, name, keys, kept):
    """Real files are read whole in the direction that is asked for."""
    tokenizer = Tokenizer.load(shared / "tokenizers/minimind")
    pairs, counts = load_pairs(read([str(shared / name)]), tokenizer, context=512, source=keys[0], target=keys[1])
    assert (counts["kept"], counts["too_long"], counts["empty"]) == (kept, 0, 0)
    rows = Buckets(pairs, 4096)
    batch = PairCollate(pairs, start=tokenizer.bos)([rows[0]])
    source = batch.source[0][: int(pairs.sources.lengths[rows[0][0][0]])].tolist()
    assert source[-1] == tokenizer.eos
    assert torch.equal(batch.tokens[:, 1:][batch.targets[:, 1:] != X], batch.targets[:, :-1][batch.targets[:, 1:] != X])
