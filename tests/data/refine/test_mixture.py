"""Weights and epochs, and the folder of shards that is read by them."""

import json
from pathlib import Path

import numpy as np
import pytest

from instar.config import InputError
from instar.config.data import SourceOptions
from instar.data.corpus import fingerprint, load_tokens
from instar.data.refine.mixture import MIXTURE, Mixture, Part, balance, in_words, make_mixture, read_mixture, repeats
from instar.data.shards import KEY_BITS, SUFFIX, Section, Shards, ShardWriter, shard_facts

KEYS = np.random.default_rng(0).integers(0, 1 << KEY_BITS, 4000)
COUNT = 1000


def source(name, **options):
    return SourceOptions(name=name, **options)


def test_weights_divide_what_there_is():
    """Two sources with weights take their shares of all tokens that they have together; epochs stand beside them."""
    sources = [source("a", weight=3), source("b", weight=1), source("c", epochs=2)]
    amounts = {"a": 100, "b": 300, "c": 50}
    epochs = balance(sources, amounts)
    assert epochs == {"a": 3.0, "b": pytest.approx(1 / 3), "c": 2.0}
    assert epochs["a"] * 100 / (epochs["b"] * 300) == pytest.approx(3)


def test_tokens_of_a_pass_are_what_epochs_leave():
    """Of a pass of 1,000 tokens a source with two epochs takes 100, and weights divide 900."""
    sources = [source("a", weight=2), source("b", weight=1), source("c", epochs=2)]
    epochs = balance(sources, {"a": 100, "b": 300, "c": 50}, 1000)
    assert epochs == {"a": pytest.approx(6), "b": pytest.approx(1), "c": 2}
    with pytest.raises(InputError, match="tokens=100, of which the sources with epochs take 100: nothing is left"):
        balance(sources, {"a": 100, "b": 300, "c": 50}, 100)
    with pytest.raises(InputError, match="tokens=100 and no source has a weight"):
        balance(sources[2:], {"c": 50}, 100)


def test_a_source_of_which_nothing_is_left_leaves_its_share_to_the_others():
    """Its rules dropped everything: no division by zero, and the pass is as long as before."""
    epochs = balance([source("a", weight=1), source("b", weight=1)], {"a": 0, "b": 10}, 40)
    assert epochs == {"a": 0.0, "b": 4.0}


def test_a_source_that_is_seen_too_often_is_worth_a_word():
    """More than four passes are named, with the paper; four are not."""
    parts = {"few": Part(5.5, 0.5, 10, ()), "many": Part(4.0, None, 10, ())}
    (said,) = repeats(Mixture(parts))
    assert said.startswith("few is seen 5.5 times in one pass")
    assert "2305.16264" in said
    rows = Mixture(parts).rows()
    assert in_words(rows) == "few 57.9% (5.50 epochs), many 42.1% (4 epochs)"


def shard(folder, number, name, keys, long=False):
    """A shard of documents of four sections each, or of one; a token of a section is its number."""
    writer = ShardWriter(folder / f"{number:05d}{SUFFIX}", 70_000, "f" * 64, source=name)
    for place, key in enumerate(keys.tolist()):
        writer.add(Section([place], key, 3, continues=long and place % 4 < 3))
    writer.close()
    return shard_facts(writer.path)


@pytest.fixture
def mixed(tmp_path):
    """A folder of three sources: one and a bit over two passes, a quarter, and once."""
    facts = [
        shard(tmp_path, 0, "a", KEYS, long=True),
        shard(tmp_path, 1, "b", KEYS[::-1]),
        shard(tmp_path, 2, "c", KEYS),
    ]
    make_mixture([source("a", epochs=2.5), source("b", epochs=0.25), source("c")], facts).save(tmp_path)
    return tmp_path


def documents(store, part=None):
    """Documents as tuples of their tokens; of a single shard by the part that they lie in."""
    return [tuple(store.tokens(n).tolist()) for n in range(len(store)) if part is None or lies_in(store, n) == part]


def lies_in(store, document):
    """The name of the shard that a document lies in."""
    return Path(store.parts[store.part_of[document]].tokens.filename).name


def sections(store):
    """All sections of a store, each as its shard and its number there."""
    return [(lies_in(store, n), token) for n in range(len(store)) for token in store.tokens(n).tolist()]


def test_what_a_shard_says_of_itself(mixed):
    """Facts from the header alone, as the report lists them."""
    assert shard_facts(mixed / f"00000{SUFFIX}") == {
        "file": f"00000{SUFFIX}", "source": "a", "documents": COUNT, "tokens": 4000, "bytes": 12000,
    }  # fmt: skip


def test_documents_stand_as_often_as_the_mixture_says(mixed):
    """2.5 epochs: each document twice, half of them whole a third time; 0.25: a quarter; always the same ones."""
    store = Shards(mixed)
    found = {name: documents(store, f"0000{n}{SUFFIX}") for n, name in enumerate("abc")}
    times = [found["a"].count(document) for document in set(found["a"])]
    assert set(times) == {2, 3}
    assert times.count(3) == pytest.approx(COUNT / 2, abs=60)
    assert all(len(document) == 4 for document in found["a"])
    assert len(found["b"]) == len(set(found["b"])) == pytest.approx(COUNT, abs=120)
    assert found["c"] == [(n,) for n in range(4000)]
    assert documents(Shards(mixed)) == documents(store)
    assert [row["source"] for row in store.mixture] == ["a", "b", "c"]
    assert sum(row["share"] for row in store.mixture) == pytest.approx(1)
    assert store.total == pytest.approx(2.5 * 4000 + 1000 + 4000, rel=0.02)


def test_held_out_documents_stand_once_whatever_the_mixture(mixed):
    """What is held out is the same as without a mixture, each section once, and nothing of it is trained on."""
    train, held = Shards(mixed).split(0.1)
    plain = Shards(sorted(mixed.glob(f"*{SUFFIX}"))).split(0.1)[1]
    assert documents(held) == documents(plain)
    assert held.total == plain.total
    assert not {*sections(train)} & {*sections(held)}
    assert len({*sections(held)}) == held.total
    assert train.split(0.1)[1].total == 0


def test_what_is_drawn_does_not_depend_on_what_is_held_out(mixed):
    """Among documents below and above the bound of a held-out share, the same part is drawn."""
    below = KEYS[::-1] < (1 << KEY_BITS) // 2
    drawn = np.zeros(4000, bool)
    drawn[[token for (token,) in documents(Shards(mixed), f"00001{SUFFIX}")]] = True
    assert drawn[below].mean() == pytest.approx(0.25, abs=0.03)
    assert drawn[~below].mean() == pytest.approx(0.25, abs=0.03)


def test_files_named_by_themselves_stand_once(mixed):
    """A mixture belongs to its folder."""
    store = Shards([mixed / f"00000{SUFFIX}"])
    assert (len(store), store.mixture) == (COUNT, [])
    both = Shards([mixed, mixed / f"00000{SUFFIX}"])
    assert len(both) == len(Shards(mixed)) + COUNT


def test_a_mixture_is_part_of_the_data(mixed, tokenizer):
    """Other epochs are other data: the fingerprint says so, and what is loaded tells its mixture."""
    before = fingerprint([str(mixed)])
    counts = load_tokens([str(mixed)], type("Same", (), {"fingerprint": "f" * 64})())[1]
    assert [row["epochs"] for row in counts["mixture"]] == [2.5, 0.25, 1.0]
    mixture = read_mixture(mixed)
    Mixture({**mixture.sources, "c": Part(2.0, None, 4000, mixture.sources["c"].shards)}).save(mixed)
    assert fingerprint([str(mixed)]) != before
    assert len(documents(Shards(mixed), f"00002{SUFFIX}")) == 8000


def test_a_mixture_of_other_shards_is_refused(mixed):
    """A shard too few or too many is named: the folder is not what was prepared."""
    (mixed / f"00002{SUFFIX}").rename(mixed / f"00003{SUFFIX}")
    with pytest.raises(InputError, match=rf"00002{SUFFIX} is missing \(2 such\)"):
        Shards(mixed)
    (mixed / f"00003{SUFFIX}").rename(mixed / f"00002{SUFFIX}")
    shard(mixed, 7, "d", KEYS[:4])
    with pytest.raises(InputError, match=rf"00007{SUFFIX} is not in its mixture.json"):
        Shards(mixed)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "damaged .JSONDecodeError"),
        ('{"sources": {"a": {"epochs": 1}}}', "damaged .KeyError: 'weight'"),
        ('{"sources": {"a": {"epochs": 1e9, "weight": null, "tokens": 1, "shards": []}}}', "1000000000.0 epochs of a"),
        ('{"sources": {"a": {"epochs": NaN, "weight": null, "tokens": 1, "shards": []}}}', "nan epochs of a"),
    ],
)
def test_a_damaged_mixture_is_named(tmp_path, text, message):
    """It is never read as far as it goes."""
    (tmp_path / MIXTURE).write_text(text)
    with pytest.raises(InputError, match=message):
        read_mixture(tmp_path)


def test_what_is_written_is_read(mixed):
    """mixture.json as people and other programs see it."""
    data = json.loads((mixed / MIXTURE).read_text())
    assert data["sources"]["b"] == {"epochs": 0.25, "weight": None, "tokens": 4000, "shards": [f"00001{SUFFIX}"]}
    assert data["tokens"] == read_mixture(mixed).tokens == 15000
