"""Stories: one list of events in two languages, annotated; and the tasks made of them."""

import re
from collections import Counter, defaultdict
from itertools import product

import pytest

from instar.data.world import check, chinese, english, ontology, records
from instar.data.world.annotate import ARCS, TYPES
from instar.data.world.event import Event
from instar.data.world.ontology import world
from instar.data.world.realise import frames, language, level
from instar.text import Tokenizer


@pytest.mark.parametrize("task", ["stories", "dialogues"])
def test_both_languages_tell_the_same(task):
    """The same number in the other language is the same story: same events, same questions."""
    pair = [list(records(f"world:{task}?lang={code}&annotate=1&count=300")) for code in ("en", "zh")]
    for one, other in zip(*pair):
        for key in ("kind", "threads", "difficulty"):
            assert one.get(key) == other.get(key)
        facts = [[each["fact"] for each in record.get("sentences", ())] for record in (one, other)]
        assert facts[0] == facts[1]


def test_both_languages_ask_the_same():
    """A test question has the same place among its candidates in both languages."""
    pair = [list(records(f"world:dialogues?split=test&lang={code}&count=300")) for code in ("en", "zh")]
    for one, other in zip(*pair):
        assert one["candidates"].index(one["answer"]) == other["candidates"].index(other["answer"])
        assert (one["support"], len(one["candidates"])) == (other["support"], len(other["candidates"]))


def test_languages_have_the_same_frames():
    """Each frame, question and answer exists in both languages, with as many templates."""
    assert {name: len(row) for name, row in frames(english).items()} == {
        name: len(row) for name, row in frames(chinese).items()
    }
    assert english.QUESTIONS.keys() == chinese.QUESTIONS.keys()
    assert english.ANSWERS.keys() == chinese.ANSWERS.keys()
    assert all(4 <= len(set(row)) <= 6 for row in frames(english).values())
    assert set(ARCS) == set(frames(english))


@pytest.mark.parametrize("size", ["village", "town"])
def test_names_are_unique_and_hold_no_other(size):
    """No name of a type is part of another of the type, so that text tells entities apart."""
    place = world(size)
    for group in ("people", "animals", "things", "places", "colours", "foods", "activities", "deeds"):
        for at in (0, 1):
            names = [entity.forms[at]["name"] for entity in getattr(place, group)]
            assert len(set(names)) == len(names)
            if at:
                assert [(a, b) for a in names for b in names if a != b and a in b] == []


def test_sizes():
    """The village is small enough for the demo; the town has about a thousand words a language."""
    village = world("village")
    assert (len(village.people), len(village.animals), len(village.things), len(village.places)) == (24, 16, 20, 16)
    text = " ".join(record["text"] for record in records("world:stories?size=town&lang=en&count=5000"))
    assert 900 < len(set(re.findall("[a-z]+", text.lower()))) < 1200


def test_stories_have_short_sentences_and_both_cases():
    """Stories are 4 to 14 sentences of about ten words; each begins with a capital and nothing is left unfilled."""
    lengths = Counter()
    for record in records("world:stories?lang=en&facts=0&count=1000"):
        sentences = re.findall(r"[^.]+\.", record["text"])
        assert 4 <= len(sentences) <= 14
        assert all(sentence.strip()[0].isupper() for sentence in sentences)
        assert not set("{}|_") & set(record["text"])
        lengths.update(len(sentence.split()) for sentence in sentences)
    assert 8 < sum(length * count for length, count in lengths.items()) / lengths.total() < 11


def test_active_and_passive_both_occur():
    """被, 把 and the passive are common; so are pronouns and connectives."""
    english_text = " ".join(record["text"] for record in records("world:stories?lang=en&count=500"))
    chinese_text = "".join(record["text"] for record in records("world:stories?lang=zh&count=500"))
    for word in (" was carried ", " by ", " because ", " but ", " so ", " He ", " She ", " her "):
        assert english_text.count(word) > 10, word
    for word in ("被", "把", "因为", "但是", "所以", "他", "她", "它"):
        assert chinese_text.count(word) > 10, word


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("size", ["village", "town"])
def test_spans_point_at_the_words_they_name(lang, size):
    """Each span covers exactly a name of its entity, a plural of it, or a pronoun; arcs join spans of one sentence."""
    place, at = world(size), language(lang).index
    groups = (place.people, place.animals, place.things, place.places, place.foods)
    names = {entity.key: entity for group in groups for entity in group}
    seen = Counter()
    for record in records(f"world:stories?size={size}&lang={lang}&annotate=1&count=400"):
        for span in record["spans"]:
            word = record["text"][span["start"] : span["end"]]
            seen[span["type"]] += 1
            if span.get("pronoun"):
                assert word.lower() in ("he", "she", "him", "his", "her", "it", "its", "他", "她", "它")
            elif span["type"] in ("person", "animal", "thing", "place", "food") and record["kind"] == "story":
                entity = names[span["entity"] if span["type"] != "thing" else span["entity"].split(" ", 1)[1]]
                assert (
                    word in (entity.forms[at]["name"], entity.forms[at].get("s"))
                    or word.lower() == entity.forms[at]["s"]
                )
        for arc in record["arcs"]:
            ends = [record["spans"][arc[end]]["start"] for end in ("from", "to")]
            inside = [each for each in record["sentences"] if all(each["start"] <= end < each["end"] for end in ends)]
            assert len(inside) == 1
            assert inside[0]["frame"] == arc["frame"]
    assert set(seen) == TYPES


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_links_mark_cause_contrast_and_intent(lang):
    """The words that tell cause, contrast and intent are marked where they stand."""
    words = {
        "cause": {"because", "so", "因为", "所以"},
        "contrast": {"but", "although", "但是", "可是", "虽然"},
        "intent": {"wanted to", "hoped to", "想去", "希望去"},
    }
    seen = Counter()
    for record in records(f"world:stories?lang={lang}&annotate=1&count=300"):
        for link in record["links"]:
            assert record["text"][link["start"] : link["end"]].lower() in words[link["type"]]
            seen[link["type"]] += 1
    assert min(seen[kind] for kind in words) > 50


def test_annotations_do_not_change_the_text():
    """annotate=1 adds fields and changes nothing."""
    plain, noted = (list(records(f"world:stories?count=200{extra}")) for extra in ("", "&annotate=1"))
    assert [record["text"] for record in plain] == [record["text"] for record in noted]
    assert "spans" not in plain[0]


def test_preferences_differ_in_their_aspect():
    """Right over wrong, polite over rude, brief over rambling; chosen always holds the right answer."""
    aspects = Counter()
    for record in records("world:preferences?count=600"):
        aspects[record["aspect"]] += 1
        assert record["chosen"] != record["rejected"]
        assert record["answer"] in record["chosen"]
        assert (record["answer"] in record["rejected"]) == (record["aspect"] != "right")
        if record["aspect"] == "brief":
            assert len(record["chosen"]) < len(record["rejected"])
    assert set(aspects.values()) == {200}


def test_check_scores_answers():
    """The right answer scores 1, the right answer among words 0.5, a wrong one or all of them 0."""
    for record in records("world:prompts?kinds=who,where,colour,has&count=200"):
        wrong = next(each for each in record["candidates"] if each != record["answer"])
        assert check(record, f" {record['answer']}\n") == 1.0
        assert check(record, f"{record['answer']} {record['answer']}") == 0.5
        assert check(record, wrong) == 0.0
        assert check(record, " ".join(record["candidates"])) == 0.0
        assert check(record, "") == 0.0


def test_translation_tells_one_story_twice():
    """Both directions occur, and names correspond one to one."""
    people = world("village").people
    for record in records("world:translation?count=200"):
        english_text, chinese_text = (record["source"], record["target"])[:: 1 if record["lang"] == "en" else -1]
        named = {person.key for person in people if re.search(rf"\b{person.forms[0]['']}\b", english_text)}
        assert named == {person.key for person in people if person.forms[1][""] in chinese_text}
        assert english_text.count(".") == chinese_text.count("。")


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_order_pairs_hold_the_same_words(lang):
    """狗咬人 and 人咬狗: a pair has the same words in another order and another answer, so a bag of words gets half."""
    made = list(records(f"world:order?lang={lang}&count=400"))
    for one, other in zip(made[::2], made[1::2]):
        assert one["pair"] == other["pair"]
        assert sorted(re.findall(r"\w", one["sentence"].lower())) == sorted(
            re.findall(r"\w", other["sentence"].lower())
        )
        assert one["sentence"] != other["sentence"]
        assert one["answer"] != other["answer"]
        assert one["candidates"] == other["candidates"]
    assert 0.4 < sum(record["label"] for record in made) / len(made) < 0.6


@pytest.mark.parametrize("size", ["village", "town"])
def test_words_cover_what_is_told(size):
    """The list holds every name and the words of the templates: little of a Chinese text is left beside them."""
    (listed,) = records(f"world:words?size={size}&lang=zh&count=0")
    words = listed["text"].split("\n")
    assert len(set(words)) == len(words)
    assert all(re.fullmatch(r"[\u4e00-\u9fff]+", word) for word in words)
    longest = re.compile("|".join(sorted(words, key=len, reverse=True)))
    text = "".join(r["text"] for r in records(f"world:stories?size={size}&lang=zh&facts=0&count=200"))
    han = re.findall(r"[\u4e00-\u9fff]", text)
    assert len(re.findall(r"[\u4e00-\u9fff]", longest.sub("", text))) < 0.35 * len(han)
    for entity in world(size).people:
        assert entity.forms[1]["name"] in words


def told_in_both(frame, choice, held_out, views, pronoun):
    """One event told in English and Chinese, with fixed names, after it was levelled."""
    place = world("village")
    (tom, jack, *_), (dog, *_), (x, y) = place.people, place.animals, (place.items[0][0], place.items[1][1])
    roles = {
        "a": ontology.group(place.people[:3]) if frame == "gather" else dog if frame == "take" else tom,
        "b": dog if frame in ("spoil", "see") else jack, "x": getattr(x, views[0]), "y": getattr(y, views[1]),
        "p": place.places[0], "q": place.places[1], "v": place.deeds[1] if frame == "meet" else place.activities[0],
        "f": place.feelings["sad"], "n": place.numbers[0], "g": place.foods[0], "w": place.parts["kite"],
    }  # fmt: skip
    event = Event(frame, roles, "", (("hold", x, None), ("hold", y, None)), pronoun=pronoun)
    level(event, choice, held_out)
    return [each.sentence(event, each.template(event, choice, held_out)) for each in map(language, ("en", "zh"))]


def test_a_sentence_has_one_translation():
    """Every frame, template, pronoun and view of a thing: the same sentence never becomes two, either way."""
    made = {0: defaultdict(set), 1: defaultdict(set)}
    for frame, row in language("en").sentences.items():
        choices = [(n / (len(row) - 1), False) for n in range(len(row) - 1)] + [(0.0, True)]
        for (choice, held_out), pronoun in product(choices, (False, frame not in ("take", "gather"))):
            for views in product(("new", "old", "short"), repeat=2):
                pair = told_in_both(frame, choice, held_out, views, pronoun)
                for at in (0, 1):
                    made[at][pair[at]].add(pair[1 - at])
    assert {at: [source for source, found in made[at].items() if len(found) > 1] for at in (0, 1)} == {0: [], 1: []}
    assert len(made[0]) > 200


@pytest.mark.parametrize(("lang", "size"), [("en", "village"), ("zh", "village"), ("en", "town"), ("zh", "town")])
def test_a_source_has_one_target(lang, size):
    """Of all the sentences that three thousand stories tell none has two translations; nor has a whole story."""
    made = defaultdict(set)
    ends = {"en": r"[^.]+\.", "zh": "[^。]+。"}
    other = "zh" if lang == "en" else "en"
    for record in records(f"world:translation?size={size}&lang={lang}&threads=1,2&events=2,3&count=3000"):
        made[record["source"]].add(record["target"])
        sentences = (re.findall(ends[code], record[side]) for code, side in ((lang, "source"), (other, "target")))
        for source, target in zip(*sentences, strict=True):
            made[source.strip()].add(target.strip())
    assert [source for source, targets in made.items() if len(targets) > 1] == []


def test_translations_of_a_test_are_new():
    """No story of a test is told in training, and each tells a fact that training never holds."""
    taught = {record["source"] for record in records("world:translation?threads=1&events=2&count=12000")}
    tested = [record["source"] for record in records("world:translation?threads=1&events=2&split=test&count=1000")]
    assert not taught & set(tested)


@pytest.mark.parametrize("address", ["lang=en", "lang=zh", "lang=en&size=town", "lang=en&mirror=1", "lang=zh&mirror=1"])
def test_only_the_order_tells_the_label(address):
    """The two texts of a pair are the same tokens, and their labels differ: a bag of words gets exactly half, whatever
    it knows. In mirrored English, where a name is a token, one text is the other read backwards."""
    made = list(records(f"world:order?{address}&count=1000"))
    tokenizer = Tokenizer.train([record["text"] for record in made], 2048, single_han=True)
    ids = tokenizer.encode_batch([record["text"] for record in made])
    for one, other, row, swapped in zip(made[::2], made[1::2], ids[::2], ids[1::2], strict=True):
        assert sorted(row) == sorted(swapped)
        assert row != swapped
        assert (one["pair"], one["label"] + other["label"]) == (other["pair"], 1)
        if address == "lang=en&mirror=1":
            assert len(row) == 3
            assert row == swapped[::-1]
    assert {record["passive"] for record in made} == ({False} if "mirror" in address else {False, True})
