"""Multiple choice: acc and acc_norm as lm-evaluation-harness defines them, and what stands before a choice."""

from itertools import islice

import pytest
import torch

from instar.config import InputError
from instar.data.corpus import read
from instar.eval.choices import Chosen, Question, choose, join, question_of, report
from instar.eval.likelihood import Likelihood
from instar.hub.folders import load

RECORDS = [
    {"query": "Anna had", "choices": ["a red ball.", "Tom.", "the"], "gold": 0, "subject": "balls"},
    {"query": "球在", "choices": ["花园里。", "球"], "gold": 1},
    {"context_options": ["She gave the ball to Tom", "Anna"], "continuation": "had a ball.", "gold": 0},
]


def chosen(*scores, sizes=(1, 1), gold=0, **groups):
    """A question whose choices have these log-probabilities."""
    pairs = [("", "")] * len(scores)
    return Chosen(Question(pairs, list(sizes), gold, groups), [Likelihood(score, 1, 0) for score in scores])


def test_each_choice_as_by_hand(tokenizer, model):
    """The sum of what the choice adds to the query in the whole softmax, one choice at a time; whatever the batch."""
    questions = [question_of(record) for record in RECORDS]
    done = []
    found, cut = choose(model, tokenizer, questions, batch=3, each=done.append)
    assert (sum(done), cut) == (7, 0)
    texts = [
        ["Anna had", " a red ball."],
        ["Anna had", " Tom."],
        ["Anna had", " the"],
        ["球在", "花园里。"],
        ["球在", "球"],
    ]
    texts += [["She gave the ball to Tom", " had a ball."], ["Anna", " had a ball."]]
    for (context, text), own in zip(texts, [own for one in found for own in one.found], strict=True):
        ids, first = tokenizer.encode(context + text), len(tokenizer.encode(context))
        with torch.no_grad():
            chances = model(torch.tensor([ids[:-1]]))[0].softmax(-1)
        wanted = sum(chances[place - 1, ids[place]].log().item() for place in range(first, len(ids)))
        assert own.logprob == pytest.approx(wanted, rel=1e-10)


def test_acc_and_acc_norm():
    """The likeliest, the first of equals, and the likeliest per character of the choice."""
    long = chosen(-4.0, -3.0, sizes=(8, 2))
    assert (long.plain, long.normed) == (1, 0)
    assert (chosen(-3.0, -3.0).plain, chosen(-3.0, -3.0).normed) == (0, 0)
    found = report([long, chosen(-1.0, -3.0, -2.0, sizes=(1, 9, 9), gold=1, subject="x")])
    assert {name: found[name] for name in ("records", "acc", "acc_norm")} == {"records": 2, "acc": 0.0, "acc_norm": 0.5}
    assert found["guessing"] == pytest.approx((1 / 2 + 1 / 3) / 2)
    assert found["groups"]["subject"]["x"]["acc_norm"] == 0.0


def test_sizes_are_characters_of_the_choice():
    """Without what stands before it, and not bytes."""
    assert question_of(RECORDS[0]).sizes == [11, 4, 3]
    assert question_of(RECORDS[1]).sizes == [4, 1]
    assert question_of(RECORDS[2]).sizes == [11, 11]


@pytest.mark.parametrize(
    ("context", "text", "between", "wanted"),
    [
        ("Anna had", "a", " ", ("Anna had ", "a")),
        ("Anna had\n", "a", " ", ("Anna had\n", "a")),
        ("Anna had", " a", " ", ("Anna had", " a")),
        ("", "a", " ", ("", "a")),
        ("球在", "花园", " ", ("球在", "花园")),
        ("球在：", "A", " ", ("球在：", "A")),
        ("He said", "球", " ", ("He said", "球")),
        ("Why?", "a", "\nAnswer: ", ("Why?\nAnswer: ", "a")),
        ("球在", "花园", "", ("球在", "花园")),
    ],
)
def test_what_stands_between(context, text, between, wanted):
    """A blank where words have blanks, or whatever is asked for, as the context's."""
    assert join(context, text, between) == wanted


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"query": "a", "gold": 0}, 'wanted {"query", "choices", "gold"} or'),
        ({"query": "a", "choices": ["b"], "gold": 0}, '"choices" is list of 1, wanted a list of at least 2'),
        ({"query": "a", "choices": ["b", " "], "gold": 0}, "choice 1 is ' ', wanted a text"),
        ({"query": "a", "choices": ["b", "c"], "gold": 2}, '"gold" is int'),
        ({"query": "a", "choices": ["b", "c"], "gold": "B"}, "wanted a whole number from 0 to 1"),
        ({"context_options": ["a", "b"], "gold": 0}, "the keys context_options, gold"),
    ],
)
def test_no_question(record, message):
    """The field at fault, what it is and what was wanted."""
    with pytest.raises(InputError, match=message):
        question_of(record)


FILES = (
    "hellaswag", "arc_easy", "arc_challenge", "piqa", "copa", "openbook_qa", "commonsense_qa", "boolq", "winogrande",
    "winograd_wsc", "mmlu.val", "cmmlu",
)  # fmt: skip


def test_every_real_file_is_read(shared):
    """The first questions of each run with the real checkpoint."""
    model, tokenizer = load(shared / "weights/TinyStories-656K")
    for name in FILES:
        documents = islice(read([str(shared / f"eval/{name}.jsonl")]), 4)
        found, _ = choose(model, tokenizer, [document.read(question_of) for document in documents])
        assert report(found)["records"] == 4
