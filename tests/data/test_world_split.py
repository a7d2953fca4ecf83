"""Held-out facts occur in nothing that a model is taught."""

import re
from collections import Counter

import pytest

from instar.data.world import parse, records
from instar.data.world.facts import facts
from instar.data.world.realise import language
from instar.data.world.split import HELD_OUT_SHARE, is_held_out
from instar.data.world.tasks import ASKED_EVERY, FACTS_EVERY, dialogues, stories


@pytest.fixture(scope="module", params=[8000, pytest.param(20000, marks=pytest.mark.slow)])
def taught(request):
    """Thousands of training dialogues with their facts."""
    return list(records(f"world:dialogues?annotate=1&count={request.param}"))


def told_facts(made):
    return [sentence["fact"] for record in made for sentence in record.get("sentences", ())]


def full_sentences(record):
    """The sentences of a test record that tell a held-out fact in full: by name, with the colour of each thing."""
    for sentence in record["sentences"]:
        text = record["text"][sentence["start"] : sentence["end"]]
        at = language(record["lang"]).index
        starts = [span["start"] for span in record["spans"] if span.get("pronoun")]
        named = sentence["start"] not in starts
        if (
            is_held_out(sentence["fact"])
            and named
            and all(word in text.lower() for word in COLOURS[at](sentence["fact"]))
        ):
            yield text


CHINESE = {"red": "红", "blue": "蓝", "green": "绿", "yellow": "黄", "white": "白", "black": "黑", "brown": "棕",
           "pink": "粉"}  # fmt: skip
COLOURS = (
    lambda fact: [part.split()[0] for part in fact.split("|") if part.split()[0] in CHINESE],
    lambda fact: [CHINESE[part.split()[0]] for part in fact.split("|") if part.split()[0] in CHINESE],
)


def test_a_tenth_is_held_out():
    """The hash holds out its share of the facts that stories could tell."""
    kinds = (f"find|tom|{colour} ball|{number}" for colour in CHINESE for number in range(500))
    share = sum(map(is_held_out, kinds)) / 4000
    assert abs(share - HELD_OUT_SHARE) < 0.02


def test_the_split_is_frozen():
    """Changing the hash would let old training data hold new test facts."""
    found = [number for number in range(60) if is_held_out(f"put|tom|red ball|{number}")]
    assert found == [9, 14, 19, 25]


def test_no_training_fact_is_held_out(taught):
    """The stream of facts behind thousands of dialogues, and stories, holds none of the held-out tenth."""
    assert sum(map(is_held_out, told_facts(taught))) == 0
    stories = f"world:stories?annotate=1&count={len(taught) // 5}&facts=0&threads=1,2,3,4"
    assert not any(map(is_held_out, told_facts(records(stories))))


def test_no_training_text_tells_a_held_out_fact(taught):
    """Searching the rendered texts, not the facts: no sentence of a held-out fact stands in any of them."""
    said = set()
    for record in taught:
        text = record["story"]
        said.update(text[each["start"] : each["end"]].lower() for each in record.get("sentences", ()))
    tested = list(records("world:stories?split=test&annotate=1&count=4000"))
    held_out = {sentence.lower() for record in tested for sentence in full_sentences(record)}
    assert len(held_out) > 1000
    assert not held_out & said


def test_facts_are_rare(taught):
    """Held-out facts are rare by nature: in training a fact is expected about once, so absence teaches nothing. Of
    twenty thousand dialogues one that is told is told 0.6 times more; of others in proportion."""
    counts = Counter(told_facts(taught))
    assert sum(count * count for count in counts.values()) / counts.total() < 1 + 0.6 * len(taught) / 20000


def test_every_test_question_rests_on_a_held_out_fact():
    """The sentence that tells the answer tells a fact that training never holds."""
    checked = 0
    for record in records("world:dialogues?split=test&annotate=1&count=600"):
        if record["support"] is None:
            assert record["kind"] == "unknown"
            assert any(is_held_out(sentence["fact"]) for sentence in record["sentences"])
        else:
            assert is_held_out(record["sentences"][record["support"]]["fact"])
            checked += 1
    assert checked > 500


def test_other_tasks_keep_the_split():
    """Prompts, preferences and translations hold no held-out sentence; a test of order asks only held-out pairs."""
    pairs = [{(record["sentence"], record["lang"]) for record in records(f"world:order?count=6000&split={split}")}
             for split in ("train", "test")]  # fmt: skip
    assert not pairs[0] & pairs[1]
    held_out = set()
    for record in records("world:stories?split=test&annotate=1&count=2000"):
        held_out.update(full_sentences(record))
    texts = [record["prompt"] for task in ("prompts", "preferences") for record in records(f"world:{task}?count=1500")]
    texts += [record["source"] for record in records("world:translation?count=1500")]
    said = {sentence.strip() for text in texts for sentence in re.findall("[^.。]+[.。]", text)}
    assert len(said) > 10000
    assert not held_out & said


def test_held_out_templates_are_never_taught():
    """The last template of each frame is seen only when a test asks for it."""
    marks = ("came across", "was the owner of", "left a ", "handed", "stole", "It was", "nstead of", "first to")
    taught = "\n".join(record["text"] for record in records("world:stories?lang=en&facts=0&count=3000"))
    tested = "\n".join(
        record["text"] for record in records("world:stories?lang=en&split=test&templates=held-out&count=300")
    )
    assert [mark for mark in marks if mark in taught] == []
    assert [mark for mark in marks if mark not in tested] == []


def test_fixed_facts_are_told_but_a_tenth_is_asked_only_in_tests():
    """Pretraining tells every fixed fact; dialogues ask nine tenths of them, and a test the rest."""
    address = parse("world:stories?annotate=1&lang=en")
    made = [stories(address, number) for number in range(FACTS_EVERY - 1, 16000, FACTS_EVERY)]
    assert {record["kind"] for record in made} == {"facts"}
    told = {each["fact"] for record in made for each in record["sentences"]}
    assert len(facts()) >= 290
    assert len(told) >= 0.98 * len(facts())
    address = parse("world:dialogues?lang=en")
    made = [dialogues(address, number) for number in range(ASKED_EVERY // 2 - 1, 8000, ASKED_EVERY)]
    assert {record["kind"] for record in made} == {"fact"}
    asked = {turn["question"] for record in made for turn in record["questions"]}
    tested = {record["question"] for record in records("world:dialogues?split=test&kinds=fact&lang=en&count=200")}
    assert len(tested) > 20
    assert not asked & tested


def test_facts_and_talk_can_be_left_out():
    """facts=0 and talk=0 leave only stories."""
    made = records("world:dialogues?facts=0&talk=0&count=400")
    assert {record["kind"] for record in made} & {"fact", "talk"} == set()
    assert {record["kind"] for record in records("world:stories?facts=0&count=100")} == {"story"}
