"""What exists in the world: people, animals, things, places and the rest, with their word forms in both languages.

An `Entity` knows nothing of stories; it is a bundle of word forms per language that templates ask for by name.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from types import ModuleType

from . import town, village

LANGUAGES = ("en", "zh")
Forms = dict[str, str]


@dataclass(frozen=True, slots=True, eq=False)
class Entity:
    """Something that can be named. `forms[0]` is English, `forms[1]` Chinese; "" is the plain form, "name" the word
    itself without article, measure word or colour."""

    key: str
    type: str
    forms: tuple[Forms, Forms]
    gender: str = ""
    members: tuple[Entity, ...] = ()

    def __repr__(self) -> str:
        return f"{self.type}:{self.key}"


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    """One thing of one colour, seen three ways: at its first mention, later, and later without its colour.

    The three views share their word forms but for the automatic ones: "" (may be indefinite) and "d" (definite).
    """

    thing: Entity
    colour: Entity
    new: Entity
    old: Entity
    short: Entity

    @property
    def key(self) -> str:
        return self.new.key


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """All entities of one size. `items[i][j]` is thing i in colour j; `parts` maps a thing's key to its part."""

    size: str
    people: tuple[Entity, ...]
    animals: tuple[Entity, ...]
    things: tuple[Entity, ...]
    places: tuple[Entity, ...]
    colours: tuple[Entity, ...]
    numbers: tuple[Entity, ...]
    foods: tuple[Entity, ...]
    activities: tuple[Entity, ...]
    deeds: tuple[Entity, ...]
    feelings: dict[str, Entity]
    items: tuple[tuple[Item, ...], ...]
    parts: dict[str, Entity] = field(default_factory=dict)


def article(word: str) -> str:
    """Example: article("orange hat") -> "an orange hat" """
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"


def person(line: str) -> Entity:
    en, zh, gender = line.split()
    en = en.replace("_", " ")
    subject, obj, possessive = ("he", "him", "his") if gender == "m" else ("she", "her", "her")
    pronoun = "他" if gender == "m" else "她"
    english = {"": en, "name": en, "he": subject, "him": obj, "his": possessive, "s": f"{en}'s"}
    chinese = {"": zh, "name": zh, "he": pronoun, "him": pronoun, "his": f"{pronoun}的", "s": f"{zh}的"}
    return Entity(en.lower(), "person", (english, chinese), gender)


def animal(line: str) -> Entity:
    en, zh = line.split()
    en = en.replace("_", " ")
    english = {"": f"the {en}", "name": en, "he": "it", "him": "it", "his": "its", "s": f"the {en}'s"}
    english["a"] = article(en)
    chinese = {"": zh, "name": zh, "he": "它", "him": "它", "his": "它的", "s": f"{zh}的", "a": f"一只{zh}"}
    return Entity(en, "animal", (english, chinese), "n")


def place(line: str) -> Entity:
    en, zh, preposition, inside = line.split()
    en = en.replace("_", " ")
    inside = "" if inside == "-" else inside
    english = {"": f"the {en}", "name": en, "in": f"{preposition} the {en}", "to": f"to the {en}"}
    return Entity(en, "place", (english, {"": zh, "name": zh, "in": zh + inside, "to": zh}))


def thing(line: str) -> tuple[Entity, Entity | None]:
    en, zh, measure, *part = line.split()
    en = en.replace("_", " ")
    whole = Entity(en, "thing", ({"": f"the {en}", "name": en, "n": en}, {"": zh, "name": zh, "n": zh, "m": measure}))
    if not part:
        return whole, None
    piece = part[0].replace("_", " ")
    return whole, Entity(piece, "part", ({"": f"the {piece}", "name": piece}, {"": part[1], "name": part[1]}))


def item(whole: Entity, colour: Entity) -> Item:
    """Example: the red ball, whose forms are "a red ball", "the red ball", "the ball" and 一个红色的皮球 and so on."""
    en, zh = whole.forms[0]["name"], whole.forms[1]["name"]
    english = {"name": en, "n": en, "colour": colour.forms[0][""], "a": article(f"{colour.key} {en}")}
    english |= {"the": f"the {colour.key} {en}", "bare": f"the {en}", "cn": f"{colour.key} {en}", "one": article(en)}
    tint = f"{colour.forms[1]['']}的{zh}"
    chinese = {"name": zh, "n": zh, "colour": colour.forms[1][""], "a": f"一{whole.forms[1]['m']}{tint}"}
    chinese |= {"the": tint, "bare": zh, "cn": colour.forms[1][""] + zh}

    def view(auto: str, definite: str) -> Entity:
        forms = tuple(all_forms | {"": all_forms[auto], "d": all_forms[definite]} for all_forms in (english, chinese))
        return Entity(f"{colour.key} {en}", "thing", (forms[0], forms[1]))

    return Item(whole, colour, view("a", "the"), view("the", "the"), view("bare", "bare"))


def simple(kind: str, line: str, english: str = "", chinese: str = "") -> Entity:
    """A word whose columns are named: simple("activity", "sing sang 唱歌", ",ed") has forms "" and "ed"."""
    names, words = english.split(","), line.split()
    forms = dict(zip(names, (word.replace("_", " ") for word in words)))
    forms["name"] = forms[""]
    other = dict(zip(chinese.split(","), words[len(names) :]))
    return Entity(words[0].replace("_", " "), kind, (forms, other | {"name": other[""]}))


def number(line: str) -> Entity:
    return simple("number", line)


def food(line: str) -> Entity:
    return simple("food", line, ",s", ",m")


def activity(line: str) -> Entity:
    return simple("activity", line, ",ed")


def deed(line: str) -> Entity:
    *words, who = line.split()
    built = simple("deed", " ".join(words), ",ed,pp")
    return Entity(built.key, "deed", built.forms, who)


def lines(text: str) -> list[str]:
    """Entries stand one a line or between commas."""
    return [line.strip() for line in text.replace(",", "\n").splitlines() if line.strip()]


def build(size: str, words: ModuleType) -> World:
    pairs = [thing(line) for line in lines(words.THINGS)]
    colours = tuple(simple("colour", line) for line in lines(words.COLOURS))
    things = tuple(whole for whole, _ in pairs)
    return World(
        size=size,
        people=tuple(map(person, lines(words.PEOPLE))),
        animals=tuple(map(animal, lines(words.ANIMALS))),
        things=things,
        places=tuple(map(place, lines(words.PLACES))),
        colours=colours,
        numbers=tuple(map(number, lines(words.NUMBERS))),
        foods=tuple(map(food, lines(words.FOODS))),
        activities=tuple(map(activity, lines(words.ACTIVITIES))),
        deeds=tuple(map(deed, lines(words.DEEDS))),
        feelings={feeling.key: feeling for feeling in (simple("feeling", line) for line in lines(words.FEELINGS))},
        items=tuple(tuple(item(whole, colour) for colour in colours) for whole in things),
        parts={whole.key: part for whole, part in pairs if part is not None},
    )


@cache
def world(size: str) -> World:
    """The entities of "village" or "town"; built once."""
    return build(size, {"village": village, "town": town}[size])


def names_of(world: World, language: int) -> list[str]:
    """What the entities of a world are called in a language."""
    kinds = (
        world.people, world.animals, world.things, world.places, world.colours, world.numbers, world.foods,
        world.activities, world.deeds, world.feelings.values(), world.parts.values(),
    )  # fmt: skip
    return [entity.forms[language]["name"] for entities in kinds for entity in entities]


def group(people: tuple[Entity, ...]) -> Entity:
    """Several people as one subject. Example: "Tom, Anna and Leo" """
    *most, last = (entity.forms[0][""] for entity in people)
    *others, final = (entity.forms[1][""] for entity in people)
    english = {"": f"{', '.join(most)} and {last}", "name": f"{', '.join(most)} and {last}"}
    chinese = {"": f"{'、'.join(others)}和{final}", "name": f"{'、'.join(others)}和{final}"}
    return Entity("+".join(sorted(entity.key for entity in people)), "group", (english, chinese), "", people)
