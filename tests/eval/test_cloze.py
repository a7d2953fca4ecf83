"""What comes next, or stands at a hole, to the letter."""

import math

import pytest
import torch

from instar.config import InputError, ModelConfig
from instar.data.corpus import read
from instar.eval.cloze import Gap, fill, hole_of, next_of, report
from instar.eval.likelihood import Likelihood
from instar.text.tokenizer import Tokenizer

TEXTS = ["Anna had a red ball. She gave the ball to Tom.\n" * 4, "王明有一个红色的球。球在花园里。\n" * 2]


@pytest.fixture(scope="module")
def masks():
    """A tokenizer with a mask."""
    return Tokenizer.train(TEXTS, 320, masks=True)


@pytest.fixture
def both_ways(masks, make_masked):
    """A masked model whose probabilities vary."""
    return make_masked(masks)


class Parrot(torch.nn.Module):
    """Knows one text by heart: after a token of it, the next is certain."""

    device = torch.device("cpu")

    def __init__(self, tokenizer, text):
        super().__init__()
        ids = tokenizer.encode(text)
        assert len(set(ids)) == len(ids)
        self.config = ModelConfig(vocab_size=tokenizer.vocab_size, d_model=16, heads=2, max_positions=64)
        self.table = torch.eye(tokenizer.vocab_size)
        self.table[ids[:-1]] = 9 * torch.eye(tokenizer.vocab_size)[ids[1:]]
        self.heads = {"lm": torch.nn.Identity()}

    def hidden(self, tokens, **_):
        return self.table[tokens]


def test_greedy_is_every_token(tokenizer):
    """A continuation counts where each of its tokens is the likeliest, and not where one is not."""
    parrot = Parrot(tokenizer, "Anna had a red ball.")
    gaps = [Gap("Anna had", " a red ball."), Gap("Anna had", " a ball."), Gap("Anna had a", " ball."), Gap("a", " red")]
    found, cut = fill(parrot, tokenizer, gaps)
    assert [one.greedy for one in found] == [True, False, False, False]
    assert report(gaps, found)["acc"] == 0.25
    assert cut == 0


def test_figures():
    """perplexity is of a continuation as a whole, token_perplexity of a token."""
    found = report([Gap("", "", groups={"lang": "en"}), Gap("", "")], [Likelihood(-2.0, 1, 1), Likelihood(-4.0, 3, 2)])
    assert (found["records"], found["acc"], found["tokens"]) == (2, 0.5, 4)
    assert found["perplexity"] == pytest.approx(math.exp(3.0))
    assert found["token_perplexity"] == pytest.approx(math.exp(1.5))
    assert found["groups"]["lang"]["en"]["perplexity"] == pytest.approx(math.exp(2.0))
    assert math.isfinite(report([Gap("", "")], [Likelihood(-1e9, 1, 0)])["perplexity"])


def test_a_masked_model_sees_both_sides(masks, both_ways):
    """Every token of the answer is a mask at once; each is foreseen from the whole text, as by hand."""
    record = {"text": "Anna had a [MASK] ball. She", "answer": "red", "lang": "en"}
    gap = hole_of(record)
    assert gap == Gap("Anna had a ", "red", " ball. She", {"lang": "en"})
    (found,), _ = fill(both_ways, masks, [gap])
    ids = masks.document("Anna had a red ball. She")
    places = [n for n, id in enumerate(ids) if id in masks.encode(" red")]
    seen = [masks.mask if n in places else id for n, id in enumerate(ids)]
    with torch.no_grad():
        chances = both_ways(torch.tensor([seen]))[0].softmax(-1)
    assert found.logprob == pytest.approx(sum(chances[n, ids[n]].log().item() for n in places), rel=1e-10)
    assert found.tokens == len(places)
    other, _ = fill(both_ways, masks, [Gap("Anna had a ", "red", " ball. Tom")])
    assert other[0].logprob != found.logprob


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_ragged_is_single(masks, both_ways, batch):
    """Padding is seen by nobody, and the order is that of the records."""
    gaps = [Gap("Anna had a " * n, "red", " ball." * (n % 3)) for n in (1, 5, 2, 4)]
    together, _ = fill(both_ways, masks, gaps, batch=batch)
    alone = [fill(both_ways, masks, [gap])[0][0] for gap in gaps]
    assert [one.logprob for one in together] == pytest.approx([one.logprob for one in alone], rel=1e-10)


def test_every_record_of_the_world(masks, both_ways):
    """world:cloze is read as it is, by kind and language."""
    gaps = [document.read(hole_of) for document in read(["world:cloze?split=test&count=8"])]
    found, _ = fill(both_ways, masks, [Gap(gap.before[-30:], gap.missing, gap.after[:20], gap.groups) for gap in gaps])
    assert set(report(gaps, found)["groups"]) == {"lang", "kind"}


@pytest.mark.parametrize(
    ("read_record", "record", "message"),
    [
        (next_of, {"context": "a"}, 'wanted {"context", "continuation"}'),
        (next_of, {"context": "a", "continuation": " "}, "\"continuation\" is ' ', wanted a text"),
        (hole_of, {"text": "a"}, 'wanted {"text", "answer"}'),
        (hole_of, {"text": "a", "answer": "b"}, r'"text" holds \[MASK\] 0 times, wanted once'),
        (hole_of, {"text": "[MASK] [MASK]", "answer": "b"}, "2 times"),
        (hole_of, {"text": "a [MASK]", "answer": ""}, "\"answer\" is ''"),
    ],
)
def test_no_gap(read_record, record, message):
    """The field at fault."""
    with pytest.raises(InputError, match=message):
        read_record(record)
