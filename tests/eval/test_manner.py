"""The manner of answers, and whether they are right, counted apart."""

import json

import pytest

from instar.config import InputError
from instar.config.options import EvalOptions, SamplingOptions
from instar.data.world import records
from instar.eval import exact
from instar.eval.manner import judge, report, shown
from instar.eval.metrics import measure
from instar.infer.answer import Completion


@pytest.fixture
def answering(monkeypatch):
    """Let the model answer every prompt by a function of its place; returns the options and seeds that were heard."""
    heard = []

    def make(say):
        def complete(model, tokenizer, prompts, options, *, seed, **_):
            heard.append((options, seed))
            return [Completion(say(number), [], [], "stop") for number, _ in enumerate(prompts)]

        monkeypatch.setattr(exact, "complete", complete)
        return heard

    return make


def asked(count=40):
    return list(records(f"world:prompts?split=test&lang=en&kinds=who,where&count={count}"))


def test_manner_and_content_are_counted_apart(answering):
    """A rude right answer is right, a polite wrong one preferred, and both together neither exact nor paid in full."""
    made = asked(4)
    wrong = next(each for each in made[3]["candidates"] if each != made[3]["answer"])
    said = [made[0]["answer"], f"Stop asking. {made[1]['answer']}", f"Gladly. {made[2]['answer']}", f"Gladly. {wrong}"]
    answering(lambda number: said[number])
    judged = judge(None, None, made, SamplingOptions())
    assert [one.manner for one in judged] == ["bare", "rude", "polite", "polite"]
    assert [one.reward for one in judged] == [1.0, 0.5, 0.5, 0.0]
    figures = report(judged)
    assert figures["records"] == 4
    assert (figures["preferred"], figures["bare"], figures["polite"], figures["rude"]) == (0.75, 0.25, 0.5, 0.25)
    assert (figures["right"], figures["exact"], figures["reward"]) == (0.75, 0.25, 0.5)
    assert (figures["rambling"], figures["other"], figures["ended"]) == (0.0, 0.0, 1.0)
    assert set(figures["groups"]) == {"lang", "kind"}
    assert sum(part["records"] for part in figures["groups"]["kind"].values()) == 4
    assert shown(judged, 2)[1] == {
        "question": made[1]["prompt"].split("\n")[1], "wanted": made[1]["answer"], "answer": said[1],
        "manner": "rude", "reward": 0.5,
    }  # fmt: skip


def test_naming_all_candidates_is_not_right(answering):
    """One who says every name says the right one too, and it is not counted."""
    made = asked(10)
    answering(lambda number: " ".join(made[number]["candidates"]))
    assert report(judge(None, None, made, SamplingOptions()))["right"] == 0.0


def test_tests_of_dialogues_are_judged_by_their_bare_answer(answering):
    """A rude dialogue's own reply is not what is wanted; its bare answer is."""
    made = list(records("world:dialogues?split=test&lang=en&kinds=who&manner=rude&count=6"))
    answering(lambda number: made[number]["answer"])
    judged = judge(None, None, made, SamplingOptions())
    assert report(judged)["exact"] == 1.0
    assert shown(judged, 1)[0]["wanted"] == made[0]["answer"]


def test_answers_are_drawn_as_asked(answering):
    """The options of sampling and the seed reach the model; by default answers are greedy."""
    heard = answering(lambda number: "Anna.")
    data = ("world:prompts?split=test&count=3",)

    class Watch:
        say = print

        def counting(self, what, total):
            from contextlib import nullcontext

            return nullcontext(lambda done: None)

    drawn = SamplingOptions(strategy="sample", temperature=0.7)
    for sampling in (EvalOptions().sampling, drawn):
        found = measure(None, None, EvalOptions(metric="manner", data=data, sampling=sampling, seed=3), Watch())
        assert found["bare"] == 1.0
        json.dumps(found)
    assert [(options.strategy, seed) for options, seed in heard] == [("greedy", [3, 4, 5]), ("sample", [3, 4, 5])]
    with pytest.raises(InputError, match="no records; wanted tests of world"):
        measure(None, None, EvalOptions(metric="manner", data=("world:prompts?count=0",)), Watch())


def test_records_that_ask_nothing_of_the_world():
    """Without candidates nobody can say whether another was named: the record is told by its number."""
    with pytest.raises(InputError, match="record 2 lacks candidates; wanted tests of world:dialogues"):
        judge(None, None, [*asked(1), {"prompt": "Who?", "answer": "Anna."}], SamplingOptions())
