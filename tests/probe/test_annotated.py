"""What is true in the world's own stories, as examples for probes."""

import pytest

from instar.config import InputError, ModelConfig
from instar.model.transformer import Transformer
from instar.probe.annotated import TASKS, examples, spoken, stories
from instar.probe.linear import by_layer
from instar.text.tokenizer import Tokenizer

TINY = dict(d_model=16, layers=2, heads=2, max_positions=512)


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(["Leo found the red ball in the cave, but he lost it.", "里奥在山洞里找到了红色的球。"], 300)


@pytest.fixture(scope="module")
def told(tokenizer):
    return stories(Transformer(ModelConfig(vocab_size=tokenizer.vocab_size, **TINY)), tokenizer, 24)[0]


def test_labels_by_hand(told):
    """Each label of the first story stands at the last token of its words, as its record says."""
    record, tokens = told[0]
    assert record["text"].startswith("A red vase was found by Leo in the cave.")
    found = {
        name: [(record["text"][found.start : found.end], found.label) for found in task.find(record, "0")]
        for name, task in TASKS.items()
    }
    assert found["entity"][:3] == [("vase", "thing"), ("Leo", "person"), ("cave", "place")]
    assert not {"he", "him", "his"} & {word.lower() for word, _ in found["entity"]}
    assert found["role"] == [
        ("Leo", "acts"), ("Paul", "acts"), ("Henry", "acts"), ("Paul", "acted on"), ("Hugo", "acted on"),
        ("rabbit", "acts"),
    ]  # fmt: skip
    assert [label for _, label in found["relation"]] == ["none", "none", "cause", "none", "none", "contrast"]
    assert {label for _, label in found["intent"]} == {"none"}
    assert any(found.label == "intent" for record, _ in told for found in TASKS["intent"].find(record, ""))
    first = examples(TASKS["entity"], told, 4)[0]
    assert (first.label, first.group) == ("thing", "vase")
    assert tokens[first.place].end == record["text"].index("vase") + 4


def test_of_each_class_as_many(told):
    """Classes are taken in the order of the stories up to a number, and rare ones are left out."""
    found = examples(TASKS["entity"], told, 20)
    counts = {label: sum(example.label == label for example in found) for label in ("person", "thing", "place")}
    assert counts == {"person": 20, "thing": 20, "place": 20}
    with pytest.raises(InputError, match="found 1 classes with 100 examples"):
        examples(TASKS["intent"], told, 1000)


@pytest.mark.parametrize("shape", [{}, {"causal": False, "heads_of": ("masked",)}, {"encoder_layers": 2, "start": 0}])
def test_every_shape_is_probed(tokenizer, shape):
    """A decoder, an encoder and the encoder of an encoder-decoder."""
    model = Transformer(ModelConfig(vocab_size=tokenizer.vocab_size, **TINY | shape)).eval()
    told, long = stories(model, tokenizer, 3)
    assert (len(told), long) == (3, 0)
    found = by_layer(model, examples(TASKS["entity"], told, 4))
    assert found.accuracy.shape == (3,)


def test_stories_that_are_too_long_are_counted(tokenizer):
    """What a model cannot hold is left out, and said."""
    model = Transformer(ModelConfig(vocab_size=tokenizer.vocab_size, **TINY | {"max_positions": 300}))
    told, long = stories(model, tokenizer, 20)
    assert len(told) + long == 20
    assert 0 < long < 20
    assert all(len(tokens) <= 300 for _, tokens in told)


def test_languages_that_are_spelt(tokenizer):
    """Of a tokenizer without Chinese only English stories are read; of one that can spell nothing, all."""

    class English:
        def encode(self, text):
            return list(text.encode("ascii", "replace"))

        def decode(self, ids):
            return bytes(ids).decode()

    class Mute(English):
        def decode(self, ids):
            return ""

    assert spoken(tokenizer) == ("en", "zh")
    assert spoken(English()) == ("en",)
    assert spoken(Mute()) == ("en", "zh")
