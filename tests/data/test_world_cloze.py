"""The cloze leaves out one word, which the rest of the story determines."""

import re
from collections import Counter

import pytest

from instar.config import InputError
from instar.data.world import parse, records
from instar.data.world.address import BLANKS
from instar.data.world.cloze import HOLDERS
from instar.data.world.ontology import world
from instar.data.world.split import is_held_out
from instar.data.world.writer import Writer


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("size", ["village", "town"])
def test_the_answer_fills_the_blank(lang, size):
    """The text with its answer is the story; the kinds take turns."""
    made = list(records(f"world:cloze?size={size}&lang={lang}&count=200"))
    for record in made:
        assert record["text"].replace("[MASK]", record["answer"]) == record["story"]
        assert record["story"][record["start"] : record["end"]] == record["answer"]
    assert Counter(record["kind"] for record in made) == dict.fromkeys(BLANKS, 50)


def colours_of(story, at):
    """thing -> the colours that a story names it with, read from the text alone."""
    place = world("village")
    tints = "|".join(entity.forms[at][""] for entity in place.colours)
    found = {}
    for thing in place.things:
        noun = thing.forms[at]["name"]
        pattern = rf"({tints}) {noun}\b" if at == 0 else rf"({tints})的?{noun}"
        found[noun] = re.findall(pattern, story)
    return {noun: tints for noun, tints in found.items() if tints}


@pytest.mark.parametrize(("at", "lang"), [(0, "en"), (1, "zh")])
def test_colours_and_things_are_told_by_the_text(at, lang):
    """A reader who knows only the words finds the answer in what is left of the story."""
    for record in records(f"world:cloze?lang={lang}&blanks=colour,thing&split=test&count=200"):
        left = colours_of(record["text"], at)
        if record["kind"] == "colour":
            behind = record["text"].partition("[MASK]")[2].lstrip(" 的")
            noun = next(thing for thing in left if behind.startswith(thing))
            assert set(left[noun]) == {record["answer"]}
        else:
            before = record["text"].partition("[MASK]")[0].rstrip(" 的")
            assert [noun for noun in left if any(before.endswith(tint) for tint in left[noun])] == [record["answer"]]


def test_who_acts_on_a_thing_had_it():
    """Stories keep to the rule that answers "person": who gives, moves or loses a thing that somebody has, has it."""
    address, checked = parse("world:stories?facts=0&threads=1,2,3"), 0
    for number in range(600):
        has = {}
        for event in Writer(address, number).tell().events:
            items = [item for _, item, _ in event.effects]
            if event.frame in HOLDERS and items[0] in has:
                assert event.roles[HOLDERS[event.frame]] is has[items[0]]
                checked += 1
            for what, item, who in event.effects:
                has.pop(item, None)
                if what == "hold":
                    has[item] = who
    assert checked > 200


def test_pronouns_are_told_by_a_name():
    """He or she is right where the story names a man or a woman before: no answer is against the names of its
    sentence."""
    men, women = ({p.forms[0][""] for p in world("village").people if p.gender == gender} for gender in "mf")
    for record in records("world:cloze?lang=en&blanks=pronoun&count=300"):
        if record["answer"] in ("it", "its"):
            continue
        sentence = re.search(r"[^.]*\[MASK\][^.]*\.", record["text"])[0]
        names = set(re.findall("[A-Z][a-z]+", sentence))
        wanted, other = (men, women) if record["answer"] in ("he", "him", "his") else (women, men)
        assert names & wanted or re.search(r"\b(He|She)\b", sentence) or not names & other


def test_the_blank_of_a_test_is_in_a_new_sentence():
    """In a test the sentence with the blank tells a held-out fact, in training none does."""
    for split in ("train", "test"):
        made = list(records(f"world:cloze?lang=en&split={split}&count=400"))
        assert {is_held_out(record["fact"]) for record in made} == {split == "test"}


def test_a_story_too_short_is_an_error():
    """Where no story of the address can hold the blank, the error names what to change instead of trying for ever."""
    with pytest.raises(InputError, match="more events"):
        list(records("world:cloze?blanks=thing&kinds=order&threads=1&events=2&count=1"))


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_a_recap_tells_the_same_again(lang):
    """With recap=1 a story begins as without, and every fact stands in it twice, the second time by name."""
    plain, told = (
        list(records(f"world:stories?lang={lang}&facts=0&annotate=1&count=60{extra}")) for extra in ("", "&recap=1")
    )
    for one, other in zip(plain, told, strict=True):
        assert other["text"].startswith(one["text"])
        facts = [sentence["fact"] for sentence in other["sentences"]]
        assert facts == 2 * [sentence["fact"] for sentence in one["sentences"]]
        starts = {sentence["start"] for sentence in other["sentences"][len(one["sentences"]) :]}
        assert not starts & {span["start"] for span in other["spans"] if span.get("pronoun")}


def test_a_cloze_with_a_recap_is_determined():
    """The same kinds, in a story told twice; a colour or thing of either telling may be the one left out."""
    for record in records("world:cloze?lang=en&blanks=colour,thing&recap=1&threads=1&events=2,3&split=test&count=100"):
        left = colours_of(record["text"], 0)
        assert any(record["answer"] == word for noun, tints in left.items() for word in (noun, *tints))
        assert is_held_out(record["fact"])
