"""The book-keeping of the cache: where each row stands, what it may forget, and what it is about."""

from dataclasses import replace

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


def test_what_was_written_is_read_where_it_lies(cache):
    """A step copies nothing of what was written before."""
    k, v = write(cache, 2)
    memory = cache[1].store.untyped_storage().data_ptr()
    assert k.untyped_storage().data_ptr() == v.untyped_storage().data_ptr() == memory


def test_a_source_for_each_row():
    """Fewer sources than rows are an error; nothing is changed then."""
    cache = KVCache(replace(CONFIG, encoder_layers=1), 3, 8, source_capacity=4)
    cache.attend_to([4, 1, 2])
    with pytest.raises(InputError, match="2 sources, and the cache has 3 rows; wanted one for each"):
        cache.attend_to([1, 1])
    with pytest.raises(InputError, match="holds sources of 4 tokens; found 5"):
        cache.attend_to([1, 5, 1])
    assert cache.source_lengths == [4, 1, 2]
