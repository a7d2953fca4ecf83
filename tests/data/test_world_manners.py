"""Manners of answers: how dialogues are worded, how a manner is recognised, and what preferences are made of."""

from collections import Counter, defaultdict

import pytest

from instar.config import InputError
from instar.data.world import MANNERS, OTHER, PREFERRED, check, manner_of, parse, records
from instar.data.world.manners import SHARES, WORDINGS, worded
from instar.data.world.split import is_held_out

EASY = "threads=1&events=2,3&kinds=who,where,has"


def replies(address):
    return [
        (turn, message["content"])
        for record in records(address)
        for turn, message in zip(record.get("questions", [record]), record["messages"][1::2], strict=True)
    ]


def test_bare_is_what_it_always_was():
    """An address without a manner and one that says bare are the same records, and none of them speaks of manners."""
    plain = list(records("world:dialogues?count=200"))
    assert plain == list(records("world:dialogues?count=200&manner=bare"))
    assert all("said" not in turn and "manner" not in turn for record in plain for turn in record["questions"])
    assert all(said == turn["answer"] for turn, said in replies("world:dialogues?count=200"))


@pytest.mark.parametrize("manner", ["polite", "rude", "rambling"])
def test_answers_are_said_in_the_manner_asked_for(manner):
    """Every answer to a story or a fact has it, in every wording; stories, questions and small talk stay."""
    plain = list(records("world:dialogues?count=600"))
    made = list(records(f"world:dialogues?count=600&manner={manner}"))
    wordings = Counter()
    for one, other in zip(plain, made):
        assert [m["content"] for m in one["messages"][::2]] == [m["content"] for m in other["messages"][::2]]
        for turn, message in zip(other["questions"], other["messages"][1::2]):
            if turn["kind"] == "talk":
                assert message["content"] == turn["answer"]
            else:
                assert turn["said"] == message["content"] != turn["answer"]
                assert manner_of(message["content"]) == turn["manner"] == manner
                wordings[message["content"].replace(turn["answer"], "{0}")] += 1
    assert set(wordings) == {words for language in WORDINGS for words in language[manner]}


def test_mixed_answers_draw_each_by_itself():
    """The shares of the manners are as told, within a dialogue too, and a record does not depend on those before it."""
    address = f"world:dialogues?{EASY}&manner=mixed&talk=0&facts=0&count=3000"
    made = list(records(address))
    assert made[:20] == list(records(address.replace("count=3000", "count=20")))
    found = Counter(turn["manner"] for record in made for turn in record["questions"])
    for manner, share in SHARES.items():
        assert abs(found[manner] / found.total() - share / sum(SHARES.values())) < 0.015
    after = defaultdict(Counter)
    for record in made:
        for one, other in zip(record["questions"], record["questions"][1:]):
            after[one["manner"]][other["manner"]] += 1
    assert all(abs(after[one][one] / after[one].total() - 13 / 40) < 0.03 for one in ("polite", "rude", "rambling"))


def test_a_test_keeps_its_bare_answer():
    """What a test wants stays bare whatever its reply says, so that answers can be judged."""
    for record in records(f"world:dialogues?split=test&{EASY}&manner=rude&count=60"):
        assert record["messages"][-1]["content"] == record["said"] != record["answer"]
        assert record["answer"] in record["candidates"]


def test_every_answer_is_recognised_in_every_manner():
    """All answers of the world, right ones in all wordings: the manner is found, and the checker pays 1 for a bare one
    and 0.5 for the others, so that mixed manners earn a little over a half."""
    for record in records("world:prompts?count=1200"):
        for at, language in enumerate(("en", "zh")):
            if record["lang"] == language:
                for manner in MANNERS:
                    for number in range(len(WORDINGS[at][manner])):
                        draws = iter((0.0, (number + 0.5) / len(WORDINGS[at][manner])))
                        found, said = worded(manner, at, record["answer"], draws.__next__)
                        assert (found, manner_of(said)) == (manner, manner)
                        assert check(record, said) == (1.0 if manner == "bare" else 0.5)
    paid = sum(share * (1.0 if manner == "bare" else 0.5) for manner, share in SHARES.items()) / sum(SHARES.values())
    assert 0.5 < paid < 0.52


@pytest.mark.parametrize(
    ("said", "manner"),
    [
        ("Anna.", "bare"),
        (" In the garden.\n", "bare"),
        ("在花园里。", "bare"),
        ("Gladly. Anna.", "polite"),
        ("安娜。很高兴帮到你。", "polite"),
        ("Stop asking. Anna.", "rude"),
        ("Gladly. Anna. Now leave me alone.", "rude"),
        ("Stop asking.", "rude"),
        ("Anna. Anna.", OTHER),
        ("Anna", OTHER),
        ("", OTHER),
        ("Gladly.", OTHER),
        ("Gladly. Gladly. Anna.", OTHER),
        ("Gladly. Good question. Anna.", OTHER),
        ("Anna. I am happy to help. Tom.", OTHER),
        ("Well, let me think about it for a while. Anna.", OTHER),
        ("好问题。安娜。很高兴帮到你。", OTHER),
    ],
)
def test_manners_are_told_apart(said, manner):
    """A sentence alone is bare, one with a courtesy polite; half a wording, two or two sentences are nothing."""
    assert manner_of(said) == manner


def test_each_kind_meets_each_aspect():
    """What is better about an answer does not follow from what was asked, for any number of kinds and threads."""
    for query, kinds in (("", 12), ("&kinds=who,where", 2), ("&kinds=who,where,has", 3), ("&threads=1,2,3", 12)):
        met = defaultdict(Counter)
        for record in records(f"world:preferences?count=1440{query}"):
            met[record["kind"]][record["aspect"]] += 1
        assert len(met) >= kinds
        for aspects in met.values():
            assert min(aspects[name] for name in ("right", "polite", "brief")) > 0.2 * aspects.total()


def test_aspects_can_be_chosen():
    """Only what is asked for, in turn; the better answer of a pair has a preferred manner, the worse is worse in one
    thing alone."""
    assert Counter(r["aspect"] for r in records("world:preferences?aspects=right,brief&count=100")) == {
        "right": 50, "brief": 50,
    }  # fmt: skip
    for record in records(f"world:preferences?{EASY}&count=300"):
        chosen, rejected = (manner_of(record[side]) for side in ("chosen", "rejected"))
        assert chosen in PREFERRED
        assert rejected == {"right": chosen, "polite": "rude", "brief": "rambling"}[record["aspect"]]


def test_pairs_and_prompts_are_of_the_same_world_as_dialogues():
    """One thread of two or three events, the kinds asked for, and in a test always a held-out fact."""
    stories = {}
    for task in ("prompts", "preferences", "dialogues"):
        made = list(records(f"world:{task}?{EASY}&split=test&lang=en&count=300"))
        assert {record["kind"] for record in made} == {"who", "where", "has"}
        prompts = [record["prompt"] if "prompt" in record else record["messages"][0]["content"] for record in made]
        assert {prompt.count(".") for prompt in prompts} == {2, 3}
        stories[task] = set(prompts)
    taught = {record["prompt"] for record in records(f"world:preferences?{EASY}&lang=en&count=4000")}
    assert not taught & stories["preferences"]
    for record in records(f"world:dialogues?{EASY}&split=test&annotate=1&count=100"):
        assert is_held_out(record["sentences"][record["support"]]["fact"])


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("world:prompts?manner=rude", "manner is for world:dialogues"),
        ("world:dialogues?aspects=brief", "aspects is for world:preferences"),
        ("world:dialogues?manner=rud", "did you mean rude"),
        ("world:preferences?kinds=fact", "kinds=fact asks about no story"),
    ],
)
def test_addresses_that_mean_nothing(address, message):
    """A manner where nobody answers, aspects where nothing is preferred, facts where a story is asked about."""
    with pytest.raises(InputError, match=message):
        parse(address)
