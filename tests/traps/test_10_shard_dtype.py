"""Trap 10, huggingface/transformers#2825, allenai/dolma#142, huggingface/nanotron#182: ids above 65,535 were stored in
16 bits (45 % of a corpus corrupted), files were read with a type they were not written with, and offsets overflowed.
Here the type follows from the vocabulary, stands in the header, is checked, and all arithmetic has 64 bits."""

import json
import subprocess
import sys

import numpy as np
import pytest

from instar.config import InputError
from instar.data.collate import Collate
from instar.data.loader import Loader, shuffled
from instar.data.memory import store_in_memory
from instar.data.packing import best_fit, windows
from instar.data.shards import SUFFIX, Part, Section, Shards, ShardWriter, TokenStore, token_dtype

BIG = 1 << 32


def write(folder, vocab_size, ids):
    writer = ShardWriter(folder / f"00000{SUFFIX}", vocab_size, "f" * 64)
    writer.add(Section(ids, 0, 1))
    writer.close()
    return writer.path


@pytest.mark.parametrize("vocab_size", [65_536, 65_537, 70_000, 1 << 20])
def test_every_id_of_a_vocabulary_survives(tmp_path, vocab_size):
    """The first and last ids, around 65,535 too, come back from disk and from memory."""
    ids = sorted({0, 1, 65_534, 65_535, min(65_536, vocab_size - 1), vocab_size - 1})
    write(tmp_path, vocab_size, ids)
    assert Shards(tmp_path).tokens(0).tolist() == ids
    assert store_in_memory([Section(ids, 0, 1)], vocab_size).tokens(0).tolist() == ids


def test_the_type_is_the_smallest_that_holds_the_vocabulary():
    """65,536 ids fit 16 bits; one more does not."""
    assert [token_dtype(size).name for size in (65_536, 65_537)] == ["uint16", "uint32"]


def test_an_id_outside_its_type_is_never_wrapped(tmp_path):
    """An id that the declared vocabulary cannot hold stops the writer."""
    with pytest.raises(OverflowError):
        write(tmp_path, 300, [65_536])


@pytest.mark.parametrize(
    ("found", "claimed", "message"),
    [
        (b'"dtype": "U16"', b'"dtype": "I16"', "tokens are I16, its header says uint16, .* needs uint16"),
        (
            b'"vocab_size": "300"',
            b'"vocab_size": "70000"',
            "header says uint16, and a vocabulary of 70000 needs uint32",
        ),
        (b'"dtype": "uint16"', b'"dtype": "uint32"', "tokens are U16, its header says uint32"),
        (b'"tokens": "4"', b'"tokens": "5"', "offsets end at 4, the header says 5 tokens"),
    ],
)
def test_a_header_that_contradicts_the_file_is_refused(tmp_path, found, claimed, message):
    """Read with another type, tokens would be other tokens: the shard is refused, both values named."""
    path = write(tmp_path, 300, [1, 2, 3, 4])
    raw = path.read_bytes()
    header = raw[:4096]
    assert header.count(found) == 1
    path.write_bytes(header.replace(found, claimed).rstrip(b" ").ljust(4096) + raw[4096:])
    with pytest.raises(InputError, match=message):
        Shards(tmp_path)


def test_rows_beyond_four_billion_tokens_are_where_they_belong():
    """Windows over three documents of 2^32 tokens and a bit, without any of the tokens existing."""
    lengths = np.array([BIG + 1, BIG + 1, BIG + 1])
    rows = windows(lengths, 1024)
    assert len(rows) == -(-3 * (BIG + 1) // 1024)
    assert rows[BIG // 1024] == [(0, BIG, BIG + 1), (1, 0, 1023)]
    assert rows[len(rows) - 1] == [(2, BIG - 2, BIG + 1)]
    assert best_fit(np.array([5]), 8)[0] == [(0, 0, 5)]


def test_a_document_beyond_four_billion_tokens_is_read_at_its_place(tmp_path):
    """A sparse file of 2^32 + 4 tokens: the document behind the boundary is the one that was put there."""
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        try:
            file.seek(2 * BIG)
            file.write(np.array([7, 8, 9, 10], np.uint16).tobytes())
        except OSError:
            pytest.skip("the file system holds no sparse file of this size")
    tokens = np.memmap(path, np.uint16, "r")
    offsets = np.array([0, 3, BIG + 1, BIG + 4])
    nothing = np.zeros(3, np.int64)
    store = TokenStore([Part(tokens, offsets, nothing.astype(np.uint64), nothing, nothing.astype(bool))])
    assert store.lengths.tolist() == [3, BIG - 2, 3]
    assert store.total == BIG + 4
    assert store.tokens(2).tolist() == [8, 9, 10]
    assert store.tokens(1, BIG - 3).tolist() == [7]


LAST = [7, 8, 9, 10]


def sparse(folder, tokens):
    """A shard of five documents and so many tokens, all of them holes but for the last four."""
    path = folder / f"00000{SUFFIX}"
    writer = ShardWriter(path, 300, "f" * 64)
    ends = [0, 3, tokens // 2, tokens - 5, tokens - 4, tokens]
    writer.ends = ends
    writer.index = [(number, 1, False) for number in range(5)]
    try:
        writer._file.seek(4096 + 2 * (tokens - 4))
        writer._file.write(np.array(LAST, np.uint16).tobytes())
    except OSError:
        writer.abandon()
        pytest.skip("the file system holds no sparse file of this size")
    writer.close()
    return path


def test_a_shard_beyond_four_billion_tokens_reads_right(tmp_path):
    """2^32 + 2,000 tokens in one file, through packing and the loader: what lies at the end comes from there."""
    total, context = BIG + 2000, 65_536
    assert sparse(tmp_path, total).stat().st_size > 2 * BIG
    store = Shards(tmp_path, "f" * 64)
    rows = windows(store.lengths, context)
    last = BIG // context
    assert (store.total, store.lengths.sum(), len(store), len(rows)) == (total, total, 5, last + 1)
    assert store.tokens(4).tolist() == LAST
    assert store.tokens(2, store.lengths[2] - 1).tolist() == [0]
    assert rows[last] == [(2, BIG // 2 - 1000, BIG // 2 + 995), (3, 0, 1), (4, 0, 4)]
    loader = Loader(rows, Collate(store, context, 299), batch_rows=1)
    loader.step = int(np.flatnonzero(shuffled(np.arange(last + 1), last + 1, 0, 0) == last)[0])
    tokens = next(loader).tokens[0]
    assert tokens.tolist() == [0] * 1996 + LAST


def test_start_up_is_flat_in_the_number_of_tokens(tmp_path):
    """Opening, identifying and packing a shard of 8.6 GB takes the time and memory of one of 8 KB."""
    code = """
import json, resource, sys, time
from instar.data.corpus import fingerprint
from instar.data.packing import windows
from instar.data.shards import Shards
started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
fingerprint([sys.argv[1]])
store = Shards(sys.argv[1])
rows = windows(store.lengths, 1024)
kept, held = store.split(0.5)
last = store.tokens(len(store) - 1).tolist()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"seconds": time.perf_counter() - started, "kb": peak - before, "rows": len(rows), "last": last}))
"""
    found = []
    for name, tokens in (("small", 4000), ("large", BIG + 2000)):
        folder = tmp_path / name
        folder.mkdir()
        sparse(folder, tokens)
        done = subprocess.run([sys.executable, "-c", code, folder], check=True, capture_output=True, text=True)
        found.append(json.loads(done.stdout))
    small, large = found
    assert (small["last"], large["last"], large["rows"]) == (LAST, LAST, -(-(BIG + 2000) // 1024))
    assert large["kb"] - small["kb"] < 8000
    assert large["seconds"] < small["seconds"] + 2
