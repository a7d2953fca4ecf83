"""Texts and words with labels: which number is which, what is cut, and where the targets stand."""

import pytest
import torch

from instar.batch import IGNORE
from instar.config import InputError
from instar.data.corpus import read
from instar.data.labels import LabelCollate, TagCollate, load_labels, load_tags
from instar.data.packing import PACKINGS, one_each
from instar.data.sources import Document
from instar.text import Tokenizer

X = IGNORE


def documents(*records):
    return [Document(record, "here", number) for number, record in enumerate(records, 1)]


def texts(*pairs):
    return documents(*({"text": text, "label": label} for text, label in pairs))


@pytest.mark.parametrize(
    ("labels", "names", "numbers"),
    [
        ([1, 0, 1], ("0", "1"), [1, 0, 1]), ([10, 2, 1], ("1", "2", "10"), [2, 1, 0]),
        (["pos", "neg", "pos"], ("neg", "pos"), [1, 0, 1]), ([True, False, True], ("0", "1"), [1, 0, 1]),
    ],
)  # fmt: skip
def test_labels_have_an_order(encoder, labels, names, numbers):
    """Numbers by size, names by the alphabet, whatever the order of the data."""
    labelled, _ = load_labels(texts(*zip("abc", labels)), encoder, context=16)
    assert labelled.names == names
    batch = LabelCollate(labelled, 16)(list(one_each(labelled.lengths, 16)))
    assert batch.targets.tolist() == [[number] for number in numbers]
    assert batch.targets.dtype == torch.int64


def test_labels_that_a_model_has_learnt(encoder):
    """Given names keep their numbers, also those that this data lacks; one that is not among them is an error."""
    labelled, _ = load_labels(texts(("a", "neg")), encoder, context=16, names=("pos", "so-so", "neg"))
    assert (labelled.names, labelled.targets.tokens(0)[0]) == (("pos", "so-so", "neg"), 2)
    with pytest.raises(InputError, match="unknown label negg; did you mean neg"):
        load_labels(texts(("a", "negg")), encoder, context=16, names=("pos", "neg"))


@pytest.mark.parametrize("label", [-1, None, "", 0.5, [1]])
def test_labels_that_are_none(encoder, label):
    """An unlabelled record, as test sets have them with -1, names its place."""
    with pytest.raises(InputError, match=r"here, record 2: the label is .*, wanted a name or a whole number"):
        load_labels(texts(("a", 1), ("b", label)), encoder, context=16)


def test_shapes_that_are_none(encoder):
    """No text, no label, two kinds of labels: each says what was found."""
    with pytest.raises(InputError, match='the keys are label; wanted "text"'):
        load_labels(documents({"label": 1}), encoder, context=16)
    with pytest.raises(InputError, match='no "label": the keys are text'):
        load_labels(documents({"text": "a"}), encoder, context=16)
    with pytest.raises(InputError, match="some labels are numbers and some are names"):
        load_labels(texts(("a", 1), ("b", "one")), encoder, context=16)


def test_a_batch_by_hand(encoder):
    """Begin, text, end; padding is told, since an encoder looks both ways."""
    labelled, _ = load_labels(texts(("ab", 1), ("c", 0)), encoder, context=16)
    batch = LabelCollate(labelled, 16, encoder.pad)(list(one_each(labelled.lengths, 16)))
    assert batch.tokens[:, :4].tolist() == [encoder.document("ab"), [*encoder.document("c"), encoder.pad]]
    assert batch.view.keep[:, :4].tolist() == [[True] * 4, [True] * 3 + [False]]
    assert batch.view.types is None
    assert batch.count() == 2


@pytest.mark.parametrize(
    ("first", "second"), [("text", "text2"), ("sentence1", "sentence2"), ("premise", "hypothesis")]
)
def test_two_texts(encoder, first, second):
    """The first with begin and end, then the second with its end, of type 1, whatever the two are called."""
    labelled, _ = load_labels(documents({first: "ab", second: "c", "label": 1}), encoder, context=16)
    batch = LabelCollate(labelled, 16, encoder.pad, types=True)([[(0, 0, 6)]])
    ids = [*encoder.document("ab"), *encoder.encode("c"), encoder.eos]
    assert batch.tokens[0, :6].tolist() == ids
    assert batch.view.types[0].tolist() == [0, 0, 0, 0, 1, 1, *[0] * 10]


def test_what_is_too_long_is_cut_and_counted(encoder):
    """Begin and end stay; of two texts the longer gives way until it is as long as the other."""
    labelled, counts = load_labels(texts(("abcdefgh", 1), ("  ", 0)), encoder, context=6)
    assert labelled.sources.tokens(0).tolist() == [encoder.bos, *encoder.encode("abcd"), encoder.eos]
    assert counts == {"records": 2, "kept": 1, "empty": 1, "truncated": 1, "lost": 0, "tokens": 6, "bytes": 8}

    def cut(a, b, context):
        found, _ = load_labels(documents({"text": a, "text2": b, "label": 0}), encoder, context=context)
        return encoder.decode(found.sources.tokens(0).tolist(), skip_special=False)

    assert cut("aaaaaaaa", "bb", 9) == "<|begin|>aaaa<|end_of_text|>bb<|end_of_text|>"
    assert cut("aa", "bbbbbbbb", 9) == "<|begin|>aa<|end_of_text|>bbbb<|end_of_text|>"
    assert cut("aaaaaaaa", "bbbbbbb", 8) == "<|begin|>aa<|end_of_text|>bbb<|end_of_text|>"
    with pytest.raises(InputError, match="a context with room for 1 tokens of text takes no 2 texts"):
        cut("a", "b", 4)
    with pytest.raises(InputError, match="all of 1 records are empty"):
        load_labels(texts((" ", 0)), encoder, context=6)


def test_held_out_texts_keep_their_labels(encoder):
    """Divided by the hash of the text, with its label; both sides know all names."""
    labelled, _ = load_labels(texts(*((f"text {n}", n % 7) for n in range(200))), encoder, context=32)
    seen = []
    for side in labelled.split(0.25):
        assert side.names == labelled.names
        for number in range(len(side)):
            seen.append(int(encoder.decode(side.tokens(number).tolist()).split()[1]))
            assert side.targets.tokens(number)[0] == seen[-1] % 7
    assert sorted(seen) == list(range(200))
    assert 20 < len(labelled.split(0.25)[1]) < 80


def tagged(*records, key="labels"):
    return documents(*({"tokens": words, key: labels} for words, labels in records))


@pytest.mark.parametrize("key", ["labels", "tags", "ner_tags"])
def test_words_by_hand(encoder, key):
    """The label stands on the first token of each word; begin, a word's later tokens, end and padding teach nothing."""
    labelled, counts = load_tags(
        tagged((["Anna", "is", "in", "上", "海"], ["P", "O", "O", "L", "L"]), key=key), encoder, context=64
    )
    batch = TagCollate(labelled, 64, encoder.pad)([[(0, 0, int(labelled.lengths[0]))]])
    assert labelled.names == ("L", "O", "P")
    assert batch.tokens[0, :19].tolist() == encoder.document("Anna is in 上海")
    live = (batch.targets[0] != X).nonzero().squeeze(1).tolist()
    assert live == [1, 5, 8, 11, 15]
    assert batch.targets[0][live].tolist() == [2, 1, 1, 0, 0]
    assert batch.count() == 5
    assert (counts["kept"], counts["tokens"]) == (1, 19)


def test_words_that_are_cut_away(encoder):
    """Labels beyond the context are counted as lost; a cut word keeps its label."""
    labelled, counts = load_tags(tagged((["ab", "cd", "ef"], [1, 0, 1]), ([], [])), encoder, context=7)
    batch = TagCollate(labelled, 16)([[(0, 0, 7)]])
    assert batch.tokens[0, :7].tolist() == [encoder.bos, *encoder.encode("ab cd"), encoder.eos]
    assert batch.targets[0, :7].tolist() == [X, 1, X, 0, X, X, X]
    assert {k: counts[k] for k in ("records", "kept", "empty", "truncated", "lost")} == {
        "records": 2, "kept": 1, "empty": 1, "truncated": 1, "lost": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"tokens": ["a", "b"], "labels": [1]}, '2 "tokens" and 1 "labels"; wanted a label for each word'),
        ({"tokens": ["a", " "], "tags": [1, 0]}, "an empty word"),
        ({"text": "a", "label": 1}, 'wanted lists "tokens" and "labels"'),
    ],
)
def test_words_that_are_none(encoder, record, message):
    """Labels that belong to no word, and words that are none, name the record."""
    with pytest.raises(InputError, match=f"here, record 1: .*{message}"):
        load_tags(documents(record), encoder, context=16)


@pytest.mark.parametrize("packing", PACKINGS)
def test_packed_words_teach_the_same(encoder, packing):
    """However rows are packed, each word's label is taught once."""
    records = [([f"w{n}", "x"] * (n % 4 + 1), [n % 3, 2] * (n % 4 + 1)) for n in range(12)]
    labelled, _ = load_tags(tagged(*records), encoder, context=40)
    rows = list(PACKINGS[packing](labelled.lengths, 40))
    taught = TagCollate(labelled, 40)(rows).targets
    assert sorted(taught[taught != X].tolist()) == sorted(label for _, labels in records for label in labels)


@pytest.mark.parametrize(
    ("name", "load", "records", "names"),
    [
        ("classify/cola.train.jsonl", load_labels, 8551, ("0", "1")),
        pytest.param("classify/reviews_zh.jsonl", load_labels, 9401, ("0", "1"), marks=pytest.mark.slow),
        ("entities/weibo_zh.jsonl", load_tags, 1620, 17),
        ("entities/wikigold.jsonl", load_tags, 1272, 5),
        pytest.param("entities/wnut17.train.jsonl", load_tags, 3394, 13, marks=pytest.mark.slow),
    ],
)
def test_real_sets(shared, name, load, records, names):
    """Real files are read whole: every record, every label that fits."""
    tokenizer = Tokenizer.load(shared / "tokenizers/minimind")
    labelled, counts = load(read([str(shared / name)]), tokenizer, context=128)
    assert (counts["records"], counts["empty"]) == (records, 0)
    assert names in (labelled.names, len(labelled.names))
    rows = list(one_each(labelled.lengths, 128)[:64])
    batch = (LabelCollate if load is load_labels else TagCollate)(labelled, 128, tokenizer.pad)(rows)
    live = batch.targets != X
    assert live.any(1).all()
    assert batch.targets.max() < len(labelled.names)
