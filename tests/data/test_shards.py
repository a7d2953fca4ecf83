"""Token shards: a stock safetensors file that says what it holds, and is not believed when that is wrong."""

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from instar.config import InputError
from instar.data.memory import store_in_memory
from instar.data.shards import KEY_BITS, SUFFIX, Part, Section, Shards, ShardWriter, TokenStore

SECTIONS = [
    Section([1, 2, 3], 0, 7),
    Section([4, 5], 1 << (KEY_BITS - 1), 5, continues=True),
    Section([6], 1 << (KEY_BITS - 1), 1, continues=True),
    Section([7, 8, 9], 0, 3, continues=True),
    Section([10], 1 << (KEY_BITS - 1), 2),
]


@pytest.fixture
def shard(tmp_path):
    """One shard of two documents: three ids, and four sections that continue each other."""
    path = tmp_path / f"00000{SUFFIX}"
    writer = ShardWriter(path, 300, "f" * 64)
    for section in SECTIONS:
        writer.add(section)
    writer.close()
    return path


def documents(store):
    return [store.tokens(n).tolist() for n in range(len(store))]


def test_what_was_written_is_read(shard):
    """Documents, lengths, totals; ranges of a document; nothing left of the temporary file."""
    store = Shards(shard.parent, "f" * 64)
    assert documents(store) == [[1, 2, 3], [4, 5, 6, 7, 8, 9, 10]]
    assert (store.lengths.tolist(), store.total, store.bytes) == ([3, 7], 10, 18)
    assert store.tokens(1, 2, 4).tolist() == [6, 7]
    assert store.tokens(0, 2, 9).tolist() == [3]
    assert [path.name for path in shard.parent.iterdir()] == [shard.name]


def test_a_shard_is_a_stock_safetensors_file(shard):
    """Any tool that reads safetensors reads our tokens, with the header's facts beside them."""
    with safe_open(shard, "numpy") as file:
        assert file.get_tensor("tokens").tolist() == list(range(1, 11))
        assert file.get_tensor("offsets").tolist() == [0, 3, 5, 6, 9, 10]
        facts = file.metadata()
    assert (facts["dtype"], facts["tokenizer"], facts["sections"]) == ("uint16", "f" * 64, "5")


def test_tokens_stay_on_disk_and_cannot_be_written(shard):
    """A store maps its tokens; nobody can change them by accident."""
    store = Shards(shard.parent)
    assert isinstance(store.parts[0].tokens, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        store.tokens(0)[0] = 1


def test_split_joins_neighbours_on_one_side():
    """Held-out sections leave, and what stays together is one document."""
    train, held = store_in_memory(SECTIONS, 300).split(0.5)
    assert documents(held) == [[1, 2, 3], [7, 8, 9]]
    assert documents(train) == [[4, 5, 6], [10]]
    assert (train.bytes, held.bytes) == (8, 10)


def test_several_parts_are_one_store():
    """Documents are numbered through, and do not reach from one part into the next."""
    parts = store_in_memory(SECTIONS, 300).parts + store_in_memory([Section([11], 0, 1, continues=True)], 300).parts
    store = TokenStore([*parts, *parts])
    assert documents(store) == [[1, 2, 3], [4, 5, 6, 7, 8, 9, 10], [11]] * 2
    assert [documents(side) for side in store.split(0.0)] == [documents(store), []]


def test_an_empty_store_is_a_store():
    """No sections: no documents, no tokens, and it can be split."""
    store = store_in_memory([], 300)
    assert (len(store), store.total, store.bytes) == (0, 0, 0)
    assert len(store.split(0.5)[0]) == 0


def test_an_abandoned_shard_leaves_nothing(tmp_path):
    """A writer that gives up removes its temporary file."""
    writer = ShardWriter(tmp_path / f"00000{SUFFIX}", 300, "f")
    writer.add(SECTIONS[0])
    writer.abandon()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("cut", [1, 40, 5000])
def test_a_truncated_file_is_refused(shard, cut):
    """A file that lost its end is named, not read as far as it goes."""
    shard.write_bytes(shard.read_bytes()[:-cut])
    with pytest.raises(InputError, match=f"{shard.name}: damaged, .* bytes"):
        Shards(shard.parent)


def test_shards_of_another_tokenizer_are_refused(shard):
    """Story: axolotl#1265, tokens of the wrong tokenizer trained silently. Both fingerprints are named."""
    with pytest.raises(InputError, match="made by tokenizer ffffffffffff, and this run uses 0000"):
        Shards(shard.parent, "0" * 64)


def test_a_foreign_safetensors_file_is_refused(tmp_path):
    """Weights are not tokens."""
    save_file({"tokens": np.arange(3, dtype=np.uint16)}, tmp_path / f"a{SUFFIX}")
    with pytest.raises(InputError, match="found None None, wanted instar-tokens 1"):
        Shards(tmp_path)


def test_a_folder_without_shards_says_how_to_make_them(tmp_path):
    """The remedy is a command."""
    with pytest.raises(InputError, match="make them with instar data prepare"):
        Shards(tmp_path)


def test_teaching_travels_with_the_tokens():
    """A store of dialogues says for each token whether it is learnt."""
    store = store_in_memory([Section([1, 2], 0, 1, teaches=[False, True]), Section([3], 0, 1, teaches=[True])], 300)
    assert store.teaches(0, 0, 5).tolist() == [False, True]
    assert store.teaches(1, 0, 1).tolist() == [True]
    assert isinstance(store.parts[0], Part)
