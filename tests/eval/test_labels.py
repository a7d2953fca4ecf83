"""A classifier's classes of texts and of words, as by hand, whatever the batch."""

import pytest
import torch

from instar.config import InputError, ModelConfig
from instar.data.corpus import text_key
from instar.data.shards import threshold
from instar.data.sources import Document
from instar.eval.labels import classify, report
from instar.model.transformer import Transformer
from instar.text.tokenizer import Tokenizer

WORDS = ["Anna", "had", "a", "red", "ball", "She", "gave", "the", "to", "Tom"]
TEXTS = [" ".join(WORDS[: n % 9 + 1]) + "." * (n % 3) for n in range(24)]


@pytest.fixture(scope="module")
def tokenizer():
    """With a begin token, whose place stands for a text."""
    return Tokenizer.train(["Anna had a red ball. She gave the ball to Tom.\n" * 4], 320, masks=True)


def make(tokenizer, head, **config):
    """A model whose classes vary."""
    shape = {"d_model": 16, "layers": 2, "heads": 2, "max_positions": 32, "causal": False} | config
    model = Transformer(ModelConfig(vocab_size=tokenizer.vocab_size, heads_of=(head,), **shape), seed=3).double()
    with torch.no_grad():
        model.embed.weight *= 40
        for block in model.blocks:  # so that the first and the last token know of the others
            block.attention.out.weight *= 1000
        model.heads[head].out.weight *= 40
    return model


def documents(records):
    return [Document(record, "x.jsonl", number) for number, record in enumerate(records, 1)]


@pytest.mark.parametrize("batch", [1, 5, 64])
@pytest.mark.parametrize("pooling", ["first", "mean", "last"])
def test_texts(tokenizer, batch, pooling):
    """Each text alone through pool and head; wanted and said in the order of the records."""
    model = make(tokenizer, "classify", pooling=pooling, labels=3, label_names=("no", "so", "yes"))
    records = [{"text": text, "label": ("no", "so", "yes")[n % 3]} for n, text in enumerate(TEXTS)]
    done = []
    said = classify(model, tokenizer, documents(records), batch=batch, each=done.append)
    assert said.gold == [[n % 3] for n in range(24)]
    for text, own in zip(TEXTS, said.said, strict=True):
        with torch.no_grad():
            hidden = model.hidden(torch.tensor([tokenizer.document(text)]))
            assert own == [int(model.heads["classify"](model.pool(hidden))[0].argmax())]
    assert len({own[0] for own in said.said}) > 1
    assert sum(done) == 24
    found = report(said)
    assert found["accuracy"] == sum(a == b for a, b in zip(said.gold, said.said)) / 24
    assert set(found["classes"]) <= {"no", "so", "yes"}


@pytest.mark.parametrize("batch", [1, 5])
def test_words(tokenizer, batch):
    """The class at the first token of each word, each text alone; entities are counted where the classes are tags."""
    names = ("O", "B-PER", "I-PER")
    model = make(tokenizer, "tokens", labels=3, label_names=names)
    records = [{"tokens": text.split(), "tags": ["O"] * len(text.split())} for text in TEXTS]
    records[3]["tags"][0] = "B-PER"
    said = classify(model, tokenizer, documents(records), batch=batch)
    assert said.gold == [[names.index(tag) for tag in record["tags"]] for record in records]
    for text, own in zip(TEXTS, said.said, strict=True):
        pieces = [tokenizer.encode(" " * (n > 0) + word) for n, word in enumerate(text.split())]
        firsts = [1 + sum(map(len, pieces[:n])) for n in range(len(pieces))]
        ids = [tokenizer.bos, *(id for piece in pieces for id in piece), tokenizer.eos]
        with torch.no_grad():
            classes = model.heads["tokens"](model.hidden(torch.tensor([ids])))[0].argmax(-1)
        assert own == [int(classes[first]) for first in firsts]
    found = report(said)
    assert (found["f1_of"], found["entities"]) == ("entities", 1)
    plain = classify(make(tokenizer, "tokens", labels=2), tokenizer, documents([{"tokens": ["a"], "labels": [1]}]))
    assert report(plain)["f1_of"] == "1"


def test_what_training_held_out(tokenizer):
    """The share by the hash of the text, in the order of the records, and of it the first few."""
    model = make(tokenizer, "classify")
    records = [{"text": f"{text} {n}", "label": n % 2} for n, text in enumerate(TEXTS)]
    every = classify(model, tokenizer, documents(records))
    held = classify(model, tokenizer, documents(records), held_out=0.3)
    few = classify(model, tokenizer, documents(records), held_out=0.3, limit=2)
    assert held.gold == [[n % 2] for n, record in enumerate(records) if text_key(record["text"]) < threshold(0.3)]
    assert 2 < len(held.gold) < 24
    assert few.gold == held.gold[:2]
    assert classify(model, tokenizer, documents(records), limit=5).gold == every.gold[:5]


def test_what_is_cut_or_empty_is_told(tokenizer):
    """Counts of the report."""
    model = make(tokenizer, "classify")
    records = [{"text": "Anna " * 60, "label": 1}, {"text": " ", "label": 0}, {"text": "Tom", "label": 0}]
    found = report(classify(model, tokenizer, documents(records)))
    assert (found["records"], found["empty"], found["truncated"], found["lost"]) == (2, 1, 1, 0)


@pytest.mark.parametrize(
    ("head", "record", "message"),
    [
        ("lm", {"text": "a", "label": 1}, "wanted classify or tokens"),
        ("classify", {"text": "a"}, 'x.jsonl, record 1: no "label"'),
        ("classify", {"text": "a", "label": 2}, "unknown label 2"),
        ("classify", {"tokens": ["a"], "tags": ["O"]}, "x.jsonl, record 1: .*wanted .text. and .label."),
        ("tokens", {"tokens": ["a"], "tags": []}, "x.jsonl, record 1: 1 .tokens. and 0"),
    ],
)
def test_what_cannot_be_classified(tokenizer, head, record, message):
    """The model, or the record by its place."""
    model = Transformer(
        ModelConfig(vocab_size=tokenizer.vocab_size, d_model=16, layers=1, heads=2, heads_of=(head,)), seed=0
    )
    with pytest.raises(InputError, match=message):
        classify(model, tokenizer, documents([record]))
    with pytest.raises(InputError, match="context=2000, wanted from 1 to 1024"):
        classify(make(tokenizer, "classify", max_positions=1024), tokenizer, [], context=2000)
