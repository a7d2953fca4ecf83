"""The tasks of the world: an address -> its records, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from math import gcd
from typing import Any

from . import sayings
from .address import WORDS, Address, parse
from .annotate import Sentences
from .cloze import cloze
from .ontology import LANGUAGES, Entity, names_of, world
from .realise import language, level
from .split import is_held_out
from .template import capital, compiled, filled
from .writer import Record, Writer

# every so many training stories one tells fixed facts, and every so many dialogues one asks them or is small talk
FACTS_EVERY, ASKED_EVERY, TALK_EVERY = 8, 16, 16


def stories(address: Address, number: int) -> Record:
    """{"text"}: a story; in training now and then four fixed facts. With annotate=1 also spans, arcs and links."""
    writer = Writer(address, number)
    notes = writer.notes()
    turn = number // len(address.lang)
    if address.facts and writer.train and turn % FACTS_EVERY == FACTS_EVERY - 1:
        text = writer.language.facts(writer.some_facts(4, None), writer.words, notes)
        record = {"text": text, "lang": writer.code, "kind": "facts", "threads": 0}
    else:
        text = writer.told(writer.tell(), notes)
        record = {"text": text, "lang": writer.code, "kind": "story", "threads": writer.threads}
    return record | (notes.record() if notes else {})


def messages(turns: list[Record], story: str = "") -> list[dict[str, str]]:
    """The turns as a conversation whose first message opens with the story."""
    said = []
    for at, turn in enumerate(turns):
        content = turn["question"] if at or not story else f"{story}\n{turn['question']}"
        reply: str = turn["said"] if "said" in turn else turn["answer"]
        said += [{"role": "user", "content": content}, {"role": "assistant", "content": reply} | evidence_of(turn)]
    return said


def evidence_of(turn: Record) -> dict[str, str]:
    """What a turn says of the sentence that its answer rests on."""
    return {"evidence": turn["evidence"]} if "evidence" in turn else {}


def dialogues(address: Address, number: int) -> Record:
    """{"messages"}: a story and questions about it with their short answers. A test asks one, and its fact is new.

    "answer" is bare whatever `manner` makes of it; "said" is what then stands in the messages, and "manner" how.
    "support" is the number of the sentence that tells the answer, None where none does.
    """
    writer = Writer(address, number)
    turn = number // len(address.lang)
    if not writer.train and writer.kind == "fact":
        return conversation(writer, [writer.fact_turn(writer.one_fact(turn // len(address.kinds)))])
    if writer.train and address.facts and turn % ASKED_EVERY == ASKED_EVERY // 2 - 1:
        return conversation(
            writer, [writer.fact_turn(fact) for fact in writer.some_facts(min(address.turns, 3), False)]
        )
    if writer.train and address.talk and turn % TALK_EVERY == TALK_EVERY - 1:
        return conversation(writer, small_talk(writer))
    story, chosen = writer.asked(address.turns if writer.train else 1)
    notes = writer.notes()
    places = notes or Sentences()
    text = writer.told(story, places)
    turns = [writer.turn(question) for question in chosen]
    for asked, question in zip(turns, chosen) if address.evidence and writer.train else ():
        if question.support is not None:
            sentence = places.sentences[story.events.index(question.support)]
            asked["evidence"] = text[sentence["start"] : sentence["end"]]
    record = conversation(writer, turns, text)
    if not writer.train:
        support = chosen[0].support
        record["mentions"] = writer.mentions(chosen[0])
        record["support"] = None if support is None else story.events.index(support)
    return record | (notes.record() if notes else {})


def conversation(writer: Writer, turns: list[Record], story: str = "") -> Record:
    """The record of some turns: its own fields are those of the first, "questions" holds all in training."""
    turns = [writer.mannered(turn) for turn in turns]
    if writer.address.apart and story and writer.train:
        asked = [
            {"question": turn["question"], "answer": turn.get("said", turn["answer"])} | evidence_of(turn)
            for turn in turns
        ]
        record: Record = {"context": story, "qas": asked}
    else:
        record = {"messages": messages(turns, story)}
    record |= {"lang": writer.code, "threads": writer.threads if story else 0, "story": story, **turns[0]}
    return record | ({"questions": turns} if writer.train else {"mentions": [""] * len(turns[0]["candidates"])})


def small_talk(writer: Writer) -> list[Record]:
    """Two friendly exchanges."""
    exchanges = sayings.TALK[writer.language.index]
    chosen = writer.chance.sample(range(len(exchanges)), 2)
    talk = []
    for at in chosen:
        openings, reply = exchanges[at]
        said = openings[int(writer.words() * len(openings))]
        talk.append({"kind": "talk", "difficulty": 1, "question": said, "answer": reply, "candidates": []})
    return talk


def question_of(address: Address, number: int) -> tuple[Writer, Record]:
    """One question on one story, for the tasks with a prompt."""
    writer = Writer(address, number)
    story, (question, *_) = writer.asked(1)
    text = writer.told(story)
    turn = writer.turn(question)
    turn["prompt"] = f"{text}\n{turn['question']}"
    return writer, turn | {"lang": writer.code, "threads": writer.threads, "story": text}


def preferences(address: Address, number: int) -> Record:
    """{"prompt", "chosen", "rejected"}: right over wrong, polite over rude, brief over rambling, in turn ("aspect").

    Threads, events, kinds and split are those of dialogues: a test asks about held-out facts alone.
    """
    writer, asked = question_of(address, number)
    right, at = asked["answer"], writer.language.index
    wrong = [answer for answer in asked["candidates"] if answer != right]
    turn, cycle = number // len(address.lang), len(address.threads) * len(address.kinds)
    # one more each time all kinds were asked, or a kind might meet one aspect alone
    shift = turn // cycle if gcd(cycle, len(address.aspects)) > 1 else 0
    aspect = address.aspects[(turn + shift) % len(address.aspects)]

    def phrased(ways: tuple[str, ...], answer: str = right) -> str:
        return ways[int(writer.words() * len(ways))].replace("{0}", answer)

    if aspect == "right":
        manner = sayings.POLITE[at][int(writer.words() * len(sayings.POLITE[at]))]
        chosen, rejected = manner.replace("{0}", right), manner.replace("{0}", writer.pick(wrong))
    elif aspect == "polite":
        chosen, rejected = phrased(sayings.POLITE[at]), phrased(sayings.RUDE[at])
    else:
        chosen, rejected = right, phrased(sayings.RAMBLING[at])
    fields = {key: asked[key] for key in ("prompt", "lang", "kind", "answer")}
    return fields | {"chosen": chosen, "rejected": rejected, "aspect": aspect}


def prompts(address: Address, number: int) -> Record:
    """{"prompt", "answer"} for reinforcement learning; `check` scores any answer. Threads, events, kinds and split are
    those of dialogues."""
    _, asked = question_of(address, number)
    return {key: asked[key] for key in ("prompt", "answer", "lang", "kind", "difficulty", "candidates")}


def check(record: Mapping[str, Any], answer: str) -> float:
    """How good an answer to a record of world:prompts is, from 0 to 1.

    1 for the right answer alone; 0.5 for an answer that holds it among other words but no other candidate, however
    long; else 0, so that naming all candidates earns nothing.
    """
    said, right = answer.strip(), record["answer"]
    if said == right:
        return 1.0
    core = bare(right)
    others = [bare(each) for each in record["candidates"] if each != right and bare(each) not in core]
    words = bare(said)
    return 0.5 * (holds(words, core) and not any(holds(words, other) for other in others))


def bare(text: str) -> str:
    return text.strip().rstrip(".。!！").lower()


def holds(text: str, words: str) -> bool:
    """Whether the words stand in the text: whole words where there are spaces to tell."""
    if not words.isascii():
        return words in text
    spaced = "".join(letter if letter.isalnum() else " " for letter in text)
    return f" {' '.join(words.split())} " in f" {' '.join(spaced.split())} "


def translation(address: Address, number: int) -> Record:
    """{"source", "target"}: one story in both languages, told with matching templates. "lang" is the source's.

    A sentence has one right translation, whatever stands before it: where two would do, the story has been levelled.
    """
    writer = Writer(address, number)
    story, held_out = writer.tell(), address.templates == "held-out"
    choices = [writer.words() for _ in story.events]
    for event, choice in zip(story.events, choices):
        level(event, choice, held_out)
    source, target = (
        language(code).story(story.events, iter(choices).__next__, held_out)
        for code in (writer.code, *(code for code in LANGUAGES if code != writer.code))
    )
    return {"source": source, "target": target, "lang": writer.code, "threads": writer.threads}


# the sentence, active and passive, the question and the answer: same words, other order, other answer
ORDERED = (
    (("{a} {v.ed} {b}.", "{a} was {v.pp} by {b}."), "Who did it?", "{a}."),
    (("{a}{v}了{b}。", "{a}被{b}{v}了。"), "是谁做的？", "{a}。"),
)

# the same as three words; in English each after a space, so that a word is the same token wherever it stands
MIRRORED = (" {a.name} {v.ed} {b.name}", "{a.name}{v}{b.name}")


def order(address: Address, number: int) -> Record:
    """{"prompt", "answer"} and {"text", "label"} in pairs of the same words in another order: 狗咬人 and 人咬狗.

    Numbers 2k and 2k+1 of a language are a pair. "label" is 1 where of the two the one acts who comes first in the list
    of people and then animals: the two of a pair differ in it, though they are the same bag of words, in "text" even to
    the letter. With mixed=1 one is a person and one an animal, so that the label says whether the person acts. With
    mirror=1 "text" is three words, and its pair the same three from right to left.
    """
    languages = len(address.lang)
    pair, swapped = divmod(number // languages, 2)
    writer = Writer(address, pair * languages + number % languages)
    everyone = writer.world.people + writer.world.animals
    while True:
        deed, first, second = writer.pick(writer.world.deeds), writer.pick(everyone), writer.pick(everyone)
        fact = "|".join(["order", deed.key, *sorted((first.key, second.key))])
        wanted = first.type != second.type if address.mixed else first is not second
        if wanted and is_held_out(fact) is not writer.train:
            break
    passive = writer.chance.random() < 0.5 and not address.mirror
    if swapped:
        first, second = second, first
    sentences, question, answer = ORDERED[writer.language.index]
    roles: dict[str, Entity] = {"a": first, "b": second, "v": deed}
    doer, done_to = (second, first) if passive else (first, second)

    def said(text: str, **others: Entity) -> str:
        return filled(compiled(text), {**roles, **others}, writer.language.index)

    told = said(sentences[passive])
    text = said(MIRRORED[writer.language.index]) if address.mirror else capital(writer.language.leads["then"] + told)
    answers = [capital(said(answer, a=each)) for each in (doer, done_to)]
    label = int(everyone.index(doer) < everyone.index(done_to))
    return {
        "prompt": f"{capital(told)}{writer.language.joint}{question}", "answer": answers[0],
        "sentence": capital(told), "candidates": sorted(answers), "text": text, "label": label,
        "passive": passive, "pair": pair, "lang": writer.code, "kind": "order",
    }  # fmt: skip


MAKERS: dict[str, Callable[[Address, int], Record]] = {
    "stories": stories, "dialogues": dialogues, "preferences": preferences, "prompts": prompts,
    "translation": translation, "order": order, "cloze": cloze,
}  # fmt: skip


def vocabulary(address: Address) -> Iterator[Record]:
    """{"text"}: the words of each language, one a line, for a tokenizer to keep whole."""
    for code in address.lang:
        names = names_of(world(address.size), LANGUAGES.index(code))
        yield {"text": "\n".join(dict.fromkeys([*names, *language(code).words])), "lang": code}


def records(address: str) -> Iterator[Record]:
    """The records of an address, in order, made as they are asked for. Raises InputError for a wrong address."""
    found = parse(address)
    if found.task == WORDS:
        return vocabulary(found)
    make = MAKERS[found.task]
    return (make(found, number) for number in range(found.count))
