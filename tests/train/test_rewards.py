"""Rewards: what a function or a model says, and what happens when it says nothing that counts."""

import math

import numpy as np
import pytest
import torch

from instar.config import InputError
from instar.config.rewards import RewardTerm, refuse_python, reward_terms
from instar.data.prompts import Prompt
from instar.data.world import tasks
from instar.train import rewards
from instar.train.rewards import Failures, Reward


def asked(count=3):
    """Prompts with a record each."""
    records = [{"prompt": f"What is {n}?", "answer": str(n), "number": n} for n in range(count)]
    return [
        Prompt(record, f"prompts.jsonl, record {n + 1}", [{"role": "user", "content": record["prompt"]}], None, [1], n)
        for n, record in enumerate(records)
    ]


@pytest.fixture
def by(monkeypatch):
    """by(f, ...): the reward of these functions, each with its weight or alone."""

    def make(*functions):
        terms = []
        for number, given in enumerate(functions):
            weight, function = given if isinstance(given, tuple) else (1, given)
            monkeypatch.setattr(rewards, f"toy_{number}", function, raising=False)
            terms.append(f"{weight}*instar.train.rewards:toy_{number}")
        return Reward.load(terms)

    return make


def test_a_function_gets_the_whole_record(by):
    """Whatever stands in the record can decide."""
    reward = by(lambda record, answer: record["number"] + len(answer))
    assert reward(asked(), ["", "a", "ab"]).scores == [0, 2, 4]


def test_a_function_may_take_lists(by):
    """Where its first parameter is called records it is called once."""
    calls = []

    def many(records, answers):
        calls.append(len(records))
        return np.array([record["number"] * 2.0 for record in records])

    assert by(many)(asked(), ["", "", ""]).scores == [0, 2, 4]
    assert calls == [3]


def test_a_list_that_fails_is_asked_one_by_one(by):
    """One record at fault costs its own answer alone."""

    def many(records, answers):
        return [1 / record["number"] for record in records]

    judged = by(many)(asked(), ["", "", ""])
    assert math.isnan(judged.scores[0])
    assert judged.scores[1:] == [1, 0.5]
    assert "raised ZeroDivisionError" in judged.failures[0]


@pytest.mark.parametrize("found", [np.array(1.0), torch.tensor(1.0), {1.0}], ids=["numpy", "torch", "set"])
def test_what_only_looks_like_a_list_is_named(by, found):
    """A tensor without axes has no length, and a set no order: neither says which answer a number is of."""

    def lists(records, answers):
        return found

    judged = by(lists)(asked(1), ["x"])
    assert "for a list of 1, wanted 1 number" in judged.failures[0]


def test_one_answer_without_a_reward_ends_no_run(by):
    """However few answers a phase has, unless none may fail."""
    judged = by(lambda record, answer: None if record["number"] == 0 else 1)(asked(4), ["x"] * 4)
    Failures(0.05).add(judged, asked(4), ["x"] * 4, lambda text: None)
    with pytest.raises(InputError, match="1 of 4 answers have no reward"):
        Failures(0.0).add(judged, asked(4), ["x"] * 4, lambda text: None)


def test_a_weighted_sum(by):
    """Parts are weighed and added, the mean of each is told, and an answer that one part fails on has no reward."""
    reward = by((0.5, lambda record, answer: 4.0), (-2, lambda record, answer: record["number"] or None))
    judged = reward(asked(), ["", "", ""])
    assert math.isnan(judged.scores[0])
    assert judged.scores[1:] == [0, -2]
    assert judged.parts == {"instar.train.rewards:toy_0": 4.0, "instar.train.rewards:toy_1": 1.5}


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (None, "gave None, wanted a number"), ("1", "gave str '1'"), (math.nan, "gave nan, wanted a finite number"),
        (-math.inf, "gave -inf"), ([1.0], "gave list"), (torch.tensor(math.nan), "gave nan"),
        (10**400, "gave a number of int too large for a float"),
    ],
)  # fmt: skip
def test_what_is_no_number_is_named(by, value, why):
    """Nothing that is not a finite number passes for a reward."""
    judged = by(lambda record, answer: value)(asked(1), ["x"])
    assert why in judged.failures[0]
    assert math.isnan(judged.scores[0])


@pytest.mark.parametrize("value", [1, True, 1.0, np.float32(1), np.int64(1), torch.tensor(1.0), torch.tensor(True)])
def test_numbers_of_every_kind(by, value):
    """Of Python, numpy and torch."""
    assert by(lambda record, answer: value)(asked(1), ["x"]).scores == [1.0]


def test_a_few_failures_are_told_and_many_end_the_run(by):
    """Each is told with the function, the error, the record and the answer; above the share the run ends with the
    same."""

    def fails(record, answer):
        if record["number"] % 10 == 0:
            raise KeyError("gold")
        return 1

    judged, prompts, told = by(fails)(asked(20), ["answer"] * 20), asked(20), []
    failures = Failures(0.1)
    failures.add(judged, prompts, ["answer"] * 20, told.append)
    assert len(told) == 2
    for part in ("toy_0 raised KeyError: 'gold'", "prompts.jsonl, record 1 ", "'answer'", "left out"):
        assert part in told[0]
    with pytest.raises(InputError, match=r"2 of 20 answers have no reward, and rollouts.bad_rewards=0.05 .*KeyError"):
        Failures(0.05).add(judged, prompts, ["answer"] * 20, told.append)
    with pytest.raises(InputError, match="share from 0"):
        Failures(1.5)


def test_the_check_of_the_world_is_a_reward():
    """By its name, with nothing around it."""
    reward = Reward.load(["instar.data.world.tasks:check"])
    record = {"prompt": "Where?", "answer": "In the box.", "candidates": ["In the box.", "In the hall."]}
    prompt = Prompt(record, "here", [], None, [1], 0)
    answers = ["In the box.", "It is in the box, I think.", "In the hall."]
    assert reward([prompt] * 3, answers).scores == [tasks.check(record, answer) for answer in answers] == [1, 0.5, 0]


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ((), "no reward"), (("nowhere",), "neither a folder nor module:function"),
        (("no_such_module:f",), "cannot be imported"),
        (("math:nothing",), "has no function"), (("math:pi",), "has no function"), (("math:sqrt",), "two arguments"),
        (("0*math:gcd",), "a weight of 0"), (("1.2.3*math:gcd",), "is no number"),
    ],
)  # fmt: skip
def test_what_cannot_be_a_reward(said, why):
    """Each mistake is named before any work."""
    with pytest.raises(InputError, match=why):
        Reward.load(said)


def test_how_a_reward_is_spelt(tmp_path):
    """Folders and functions, weighed or not, in several words or one; a folder may have blanks and stars."""
    odd = tmp_path / "2*my reward"
    odd.mkdir()
    model = str(tmp_path)
    assert reward_terms([f"0.5*{model} 1e-1*a.b:c.d"]) == [
        RewardTerm(0.5, "model", model), RewardTerm(0.1, "function", "a.b:c.d"),
    ]  # fmt: skip
    assert reward_terms([str(odd), "-1*f:g"]) == [RewardTerm(1, "model", str(odd)), RewardTerm(-1, "function", "f:g")]
    assert reward_terms(["hf:org/name@main"]) == [RewardTerm(1, "model", "hf:org/name@main")]


def test_python_of_a_file_is_not_run():
    """A file may name what the package holds, and no other Python."""
    refuse_python(["instar.data.world.tasks:check"], "recipe.yaml")
    with pytest.raises(InputError, match=r"recipe.yaml names the function os:system; .* --reward os:system"):
        refuse_python(["0.5*os:system"], "recipe.yaml")
