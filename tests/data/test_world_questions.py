"""Questions have one true answer, found by reading: not by habit, and not from the question."""

import re
from collections import Counter
from itertools import pairwise

import pytest

from instar.data.world import CONTROLS, KINDS, MAIN, records, score, without_story
from instar.data.world.controls import turns

RETRIEVAL = ("who", "whom", "where", "has", "why", "wanted", "colour")


@pytest.fixture(scope="module")
def taught():
    return list(records("world:dialogues?count=6000"))


@pytest.fixture(scope="module")
def tested():
    """500 records a language over the main kinds."""
    return list(records("world:dialogues?split=test&kinds=main&count=1000"))


@pytest.fixture(scope="module")
def scores(taught, tested):
    return {name: score(tested, control(taught, tested)) for name, control in CONTROLS.items()}


@pytest.mark.parametrize("threads", [1, 2, 3, 4])
@pytest.mark.parametrize("size", ["village", "town"])
def test_every_kind_is_asked_with_two_candidates(size, threads):
    """For any number of threads each kind can be asked, and the story offers at least two answers of the type."""
    made = list(records(f"world:dialogues?size={size}&threads={threads}&split=test&count=96"))
    assert Counter(record["kind"] for record in made) == dict.fromkeys(KINDS, 8)
    for record in made:
        assert len(set(record["candidates"])) == len(record["candidates"]) >= 2
        assert record["answer"] in record["candidates"]
        assert len(record["mentions"]) == len(record["candidates"])


def test_training_turns_have_candidates(taught):
    """Every question about a story in training has two candidates, its answer among them, and is asked once."""
    for record in taught:
        asked = [turn["question"] for turn in record["questions"]]
        assert len(asked) <= 6
        for turn in record["questions"]:
            if turn["kind"] != "talk":
                assert len(turn["candidates"]) >= 2
                assert turn["answer"] in turn["candidates"]


def test_kinds_and_answers_are_balanced(taught):
    """No main kind starves, and yes stands against no as often as not."""
    kinds = Counter(turn["kind"] for record in taught for turn in turns(record))
    main = [kinds[kind] for kind in MAIN]
    assert max(main) < 3 * min(main)
    assert kinds["unknown"] < 0.1 * kinds.total()
    for yes, no in (("Yes.", "No."), ("是的。", "不是。")):
        said = Counter(turn["answer"] for record in taught for turn in turns(record))
        assert 0.45 < said[yes] / (said[yes] + said[no]) < 0.55


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_controls_stay_low(scores, lang):
    """What needs no reading earns little; each bound leaves room for the chance of 50 records a kind."""
    for name in ("majority", "story removed"):
        for kind in RETRIEVAL:
            hits, asked = scores[name][lang][kind]
            assert hits / asked < 0.25, (name, kind)
    for name in ("last mentioned", "first mentioned", "random candidate"):
        hits = sum(scores[name][lang][kind][0] for kind in RETRIEVAL)
        asked = sum(scores[name][lang][kind][1] for kind in RETRIEVAL)
        assert hits / asked < 0.42, name
        for kind in RETRIEVAL:
            hits, asked = scores[name][lang][kind]
            assert hits / asked < 0.6, (name, kind)
    for name in CONTROLS:
        hits, asked = scores[name][lang]["all"]
        assert hits / asked < 0.42, name
        for kind in ("yesno", "order", "count"):
            hits, asked = scores[name][lang][kind]
            assert hits / asked < 0.72, (name, kind)


def test_the_telling_sentence_stands_anywhere(tested):
    """The answer is as often in the first half of a story as in the second, and seldom in its last sentence."""
    places = []
    for record in tested:
        sentences = len(re.findall("[.。]", record["story"]))
        if record["lang"] == "zh" or record["story"].count(".") == sentences:
            places.append((record["support"] + 0.5) / sentences)
    assert 0.35 < sum(place < 0.5 for place in places) / len(places) < 0.65
    last = sum(record["support"] == len(re.findall("[.。]", record["story"])) - 1 for record in tested)
    assert last / len(tested) < 0.25


def test_the_question_does_not_tell_the_answer(tested):
    """But for yes and no, and the two people of an order, a question holds no name of its answer."""
    for record in tested:
        if record["kind"] != "yesno":
            word = record["mentions"][record["candidates"].index(record["answer"])]
            assert not word or word.lower() not in re.findall(r"\w+", record["question"].lower())


def by_arcs(record, relations, noun):
    """The last arc of some relations about the thing of that noun: (relation, who, thing or place), or None."""
    spans, found = record["spans"], None
    for arc in record["arcs"]:
        if arc["relation"] in relations:
            ends = spans[arc["from"]], spans[arc["to"]]
            if any(end["entity"].split()[-1] == noun and end["type"] == "thing" for end in ends):
                found = (arc["relation"], *ends)
    return found


def test_where_and_has_follow_the_last_state():
    """Where a thing is, and who has it, is what the last sentence about it says, reread from the annotations."""
    checked = 0
    for record in records("world:dialogues?split=test&lang=en&kinds=where,has&annotate=1&count=500"):
        match = re.search(r"(?:here is|place is|has|holding) the (\w+)", record["question"])
        if match:
            relation, source, target = by_arcs(record, ("thing-place", "owner-thing"), match[1])
            if "where" in record["question"].lower() or "which place" in record["question"]:
                assert (relation, target["type"]) == ("thing-place", "place")
                assert record["answer"].rstrip(".").endswith(target["entity"])
            else:
                assert record["answer"].lower().rstrip(".").endswith(source["entity"])
            checked += 1
    assert checked > 200


def test_colour_stands_before_the_thing():
    """Each thing has one colour through a story, and it is the answer."""
    for record in records("world:dialogues?split=test&lang=en&kinds=colour&count=300"):
        noun = re.search(r"the (\w+)(?: have)?\?$|is the (\w+)\?", record["question"])
        noun = noun[1] or noun[2]
        said = {match.lower() for match in re.findall(rf"(\w+) {noun}\b", record["story"])} - {"the"}
        assert said == {record["answer"].lower().rstrip(".")}


def test_people_are_counted():
    """How many people did something is the number of names in the sentence that tells it."""
    for record in records("world:dialogues?split=test&lang=en&kinds=count&annotate=1&count=200"):
        if record["difficulty"] == 3:
            sentence = record["sentences"][record["support"]]
            people = [span for span in record["spans"] if sentence["start"] <= span["start"] < sentence["end"]
                      and span["type"] == "person"]  # fmt: skip
            assert record["answer"] == {2: "Two.", 3: "Three.", 4: "Four."}[len(people)]


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_order_is_told_both_ways(lang):
    """Who came first is named first in about half of the sentences, so that words of order must be read."""
    named_first = []
    for record in records(f"world:stories?lang={lang}&annotate=1&facts=0&count=1500"):
        for arc in record["arcs"]:
            if arc["relation"] == "before":
                named_first.append(record["spans"][arc["from"]]["start"] < record["spans"][arc["to"]]["start"])
    assert len(named_first) > 400
    assert 0.4 < sum(named_first) / len(named_first) < 0.6


def test_difficulties_are_four():
    """The levels run from one sentence to two that must be joined."""
    made = records("world:dialogues?split=test&count=1200")
    assert {record["difficulty"] for record in made} == {1, 2, 3, 4}


def test_without_story_keeps_only_the_question(tested):
    """The control for a model asks the question alone."""
    bare = without_story(tested[0])
    assert bare["messages"][0]["content"] == tested[0]["question"]
    assert bare["messages"][1:] == tested[0]["messages"][1:]


def test_scores_count_hits(tested):
    """The right answers score all, wrong ones nothing."""
    right = score(tested, [record["answer"] for record in tested])
    assert all(hits == asked for row in right.values() for hits, asked in row.values())
    wrong = score(tested, [""] * len(tested))
    assert all(hits == 0 for row in wrong.values() for hits, asked in row.values())


def test_dialogue_messages_alternate(taught):
    """User and assistant take turns, and the story stands once, before the first question."""
    for record in taught[:200]:
        roles = [message["role"] for message in record["messages"]]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        assert all(one != other for one, other in pairwise(roles))
        assert record["messages"][0]["content"].startswith(record["story"])


@pytest.mark.parametrize("manner", ["bare", "mixed"])
def test_questions_that_stand_apart_are_those_of_the_dialogue(manner):
    """The same stories, questions and answers, each question by itself; what asks about no story stays a dialogue."""
    together, apart = (
        list(records(f"world:dialogues?count=40&seed=3&turns=5&manner={manner}&apart={each}")) for each in (0, 1)
    )
    for one, other in zip(together, apart):
        if not one["story"]:
            assert one == other
            continue
        said = [message["content"] for message in one["messages"]]
        assert said[0] == f"{other['context']}\n{other['qas'][0]['question']}"
        assert said[1:] == [text for turn in other["qas"] for text in (turn["question"], turn["answer"])][1:]
    assert sum("qas" in record for record in apart) > 30
    assert all("messages" in record for record in records("world:dialogues?split=test&apart=1&count=5"))


@pytest.mark.parametrize("apart", [0, 1])
def test_evidence_is_the_sentence_that_tells_the_answer(apart):
    """Of questions whose answer stands in one sentence the sentence has it, and it is one of the story's own; a
    question that nobody can answer has none."""
    found = Counter()
    for record in records(f"world:dialogues?count=200&seed=5&turns=6&apart={apart}&evidence=1"):
        if not record["story"]:
            continue
        turns = record["qas"] if apart else [one for one in record["messages"] if one["role"] == "assistant"]
        for turn, asked in zip(turns, record["questions"]):
            words = turn.get("evidence")
            assert (words is None) == (asked["kind"] == "unknown")
            assert words is None or words in record["story"]
            if asked["kind"] in ("who", "colour", "wanted", "order"):
                answer = asked["answer"].rstrip(".。").split(" the ")[-1].removeprefix("The ").lower()
                found[answer in words.lower()] += 1
    assert found[True] > 200
    assert found[False] < 0.05 * found[True]  # a pronoun, or another measure word
    assert "evidence" not in str(next(iter(records("world:dialogues?count=1&apart=1"))))
