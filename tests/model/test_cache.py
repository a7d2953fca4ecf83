"""The book-keeping of the cache: where each row stands, what it may forget, who shares its memory."""

import pytest
import torch

from instar.config import InputError, ModelConfig
from instar.model.cache import KVCache

CONFIG = ModelConfig(vocab_size=61, d_model=16, layers=2, heads=4, kv_heads=2, head_size=4)


@pytest.fixture
def cache():
    return KVCache(CONFIG, 3, 8)


def write(cache, count, value=None):
    """Give every layer `count` tokens, whose keys hold `value`, or row and position, and values twice that."""
    lengths = cache.lengths
    for layer in range(CONFIG.layers):
        k = torch.zeros(len(cache), 2, count, 4)
        for row in range(len(cache)):
            at = torch.arange(lengths[row], lengths[row] + count) + 100.0 * row if value is None else value
            k[row] += at.reshape(-1, 1) if value is None else value
        seen = cache[layer].update(k, 2 * k)
    cache.extend(count)
    return seen


def test_bytes_are_the_formula():
    """2 layers of keys and values, 3 rows, 2 heads, 8 places, size 4, two bytes each."""
    assert KVCache(CONFIG, 3, 8, dtype=torch.bfloat16).bytes == 2 * 2 * 3 * 2 * 8 * 4 * 2


def test_update_gives_all_that_was_written(cache):
    """Keys come back in order from position 0 on, values beside them."""
    write(cache, 2)
    k, v = write(cache, 3)
    assert k[:, 0, :, 0].tolist() == [[100.0 * row + at for at in range(5)] for row in range(3)]
    assert torch.equal(v, 2 * k)
    assert cache.lengths == [5, 5, 5]


def test_trim_forgets_and_overwrites(cache):
    """After trimming, each row goes on at its own place."""
    write(cache, 4)
    cache.trim([1, 4, 2])
    assert cache.positions(2).tolist() == [[1, 2], [4, 5], [2, 3]]
    k, _ = write(cache, 1, value=-1.0)
    assert k[:, 0, :, 0].tolist()[0][:2] == [0.0, -1.0]
    assert k[:, 0, :, 0].tolist()[1] == [100.0, 101.0, 102.0, 103.0, -1.0]
    assert cache.lengths == [2, 5, 3]


def test_trim_cannot_remember_more(cache):
    """A row cannot be trimmed to more than it holds."""
    write(cache, 2)
    with pytest.raises(InputError, match="row 1 holds 2 tokens, it cannot be trimmed to 3"):
        cache.trim([2, 3, 2])
    with pytest.raises(ValueError, match="zip"):
        cache.trim([2, 2])


def test_full_cache_names_both_numbers(cache):
    """More than the capacity is told before anything is written."""
    write(cache, 6)
    with pytest.raises(InputError, match="holds 8 tokens a row; found 6, wanted 3 more"):
        cache.positions(3)


def test_rows_share_memory_and_lengths(cache):
    """Some rows are a cache of their own that writes into the same memory; the others stay as they are."""
    write(cache, 2)
    part = cache.rows([2, 0])
    k, _ = write(part, 1, value=7.0)
    assert k[:, 0, :, 0].tolist() == [[200.0, 201.0, 7.0], [0.0, 1.0, 7.0]]
    assert cache.lengths == [3, 2, 3]
    assert part.lengths == [3, 3]
    assert part.bytes == cache.bytes
    assert cache[0].store[0, 1, 0, :3, 0].tolist() == [100.0, 101.0, 0.0]


def test_rows_of_rows(cache):
    """A part of a part names rows of the part."""
    write(cache, 2)
    part = cache.rows([2, 0]).rows([1])
    part.trim([1])
    assert cache.lengths == [1, 2, 2]
    assert len(cache.rows([2, 0]).rows([])) == 0
    with pytest.raises(IndexError):
        cache.rows([]).rows([0])


def test_release_empties_only_its_rows(cache):
    """A finished request leaves its slot to the next."""
    write(cache, 3)
    cache.rows([1]).release()
    assert cache.lengths == [3, 0, 3]
    k, _ = write(cache.rows([1]), 2, value=5.0)
    assert k[0, 0, :, 0].tolist() == [5.0, 5.0]


@pytest.mark.parametrize("since", [0, 2])
def test_reorder_follows_the_chosen_rows(cache, since):
    """Row b goes on as rows[b] did; what stands before `since` is common and is not copied."""
    write(cache, 4)
    cache.trim([4, 3, 4])
    cache.reorder([1, 1, 0], since=since)
    assert cache.lengths == [3, 3, 4]
    kept = [[100.0, 101.0], [100.0, 101.0], [0.0, 1.0]] if not since else [[0.0, 1.0], [100.0, 101.0], [200.0, 201.0]]
    found = cache[1].store[0, :, 0, :4, 0].tolist()
    assert [row[:2] for row in found] == kept
    assert [row[2] for row in found] == [102.0, 102.0, 2.0]
    assert found[2][3] == 3.0


def test_reorder_inside_a_part(cache):
    """Beams of one request are reordered without touching the rows of another."""
    write(cache, 2)
    cache.rows([0, 2]).reorder([1, 1])
    assert cache[0].store[0, :, 0, 0, 0].tolist() == [200.0, 100.0, 200.0]


@pytest.mark.parametrize("rows", [[0, 1, 2], [1, 2], [2]], ids=str)
def test_neighbouring_rows_are_read_where_they_lie(cache, rows):
    """Rows that stand side by side are a view of the memory: a step copies nothing of what was written before."""
    k, v = write(cache.rows(rows), 2)
    memory = cache[1].store.untyped_storage().data_ptr()
    assert k.untyped_storage().data_ptr() == v.untyped_storage().data_ptr() == memory
