"""Events, the facts of a story, and how each kind of event is drawn from the state of the world.

A draw returns an Event or None where the state allows none; it changes nothing. `Event.effects` says what it changes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from .ontology import Entity, Item, group

if TYPE_CHECKING:
    from .simulate import Story, Thread

Draw = Callable[["Story", "Thread"], "Event | None"]


@dataclass(slots=True, eq=False)
class Event:
    """One thing that happened: the frame, who fills its roles, and the fact by which it is split.

    Roles: a agent, b patient or receiver, x and y things, p and q places, v deed or activity, f feeling, n number,
    g food, w part. `effects` are (what, item, who or where) with what in hold, lie, gone.
    """

    frame: str
    roles: dict[str, Entity]
    fact: str
    effects: tuple[tuple[str, Item, Entity | None], ...] = ()
    held_out: bool = False
    thread: int = 0
    pronoun: bool = False
    lead: str = ""

    def item(self, role: str = "x") -> Item | None:
        """The item behind a role, where the event touches one."""
        at = 1 if role == "y" else 0
        return self.effects[at][1] if len(self.effects) > at else None

    def retold(self) -> Event:
        """The same once more, as what is known: by name, each thing with its colour."""
        known = {role: item.old for role in ("x", "y") if role in self.roles and (item := self.item(role))}
        return replace(self, roles=self.roles | known, pronoun=False, lead="")


def event(frame: str, roles: dict[str, Entity], *effects: tuple[str, Item, Entity | None]) -> Event:
    return Event(frame, roles, "|".join([frame, *[entity.key for entity in roles.values()]]), effects)


def find(story: Story, thread: Thread) -> Event | None:
    item, who = story.fresh_item(), story.pick(thread.people)
    roles = {"a": who, "x": story.view(item), "p": story.pick(thread.places)}
    return event("find", roles, ("hold", item, who))


def own(story: Story, thread: Thread) -> Event | None:
    first, who = story.fresh_item(), story.pick(thread.people)
    second = story.fresh_item(first)
    roles = {"a": who, "x": story.view(first), "y": story.view(second)}
    built = event("own", roles, ("hold", first, who), ("hold", second, who))
    built.fact = "|".join(["own", who.key, *sorted((first.key, second.key))])
    return built


def movable(story: Story, thread: Thread) -> tuple[Item, Entity]:
    """Something that a person of the thread can lay hands on, and that person."""
    items = [item for item in thread.items if story.holder.get(item) not in thread.animals]
    if items and story.random() < 0.6:
        item = story.pick(items)
        return item, story.holder.get(item) or story.pick(thread.people)
    return story.fresh_item(), story.pick(thread.people)


def moved(frame: str, story: Story, thread: Thread) -> Event | None:
    item, who = movable(story, thread)
    where = story.pick(thread.places)
    if story.lies.get(item) is where:
        return None
    return event(frame, {"a": who, "x": story.view(item), "p": where}, ("lie", item, where))


def put(story: Story, thread: Thread) -> Event | None:
    return moved("put", story, thread)


def carry(story: Story, thread: Thread) -> Event | None:
    return moved("carry", story, thread)


def held_or_fresh(story: Story, thread: Thread) -> tuple[Item, Entity]:
    """An item with a person of the thread who holds it, or a new one."""
    items = [item for item in thread.items if story.holder.get(item) in thread.people]
    if items and story.random() < 0.6:
        item = story.pick(items)
        return item, story.holder[item]
    return story.fresh_item(), story.pick(thread.people)


def give(story: Story, thread: Thread) -> Event | None:
    item, giver = held_or_fresh(story, thread)
    receiver = story.pick(thread.people)
    if receiver is giver:
        return None
    return event("give", {"a": giver, "b": receiver, "x": story.view(item)}, ("hold", item, receiver))


def take(story: Story, thread: Thread) -> Event | None:
    item, loser = held_or_fresh(story, thread)
    thief = story.pick(thread.animals)
    return event("take", {"a": thief, "b": loser, "x": story.view(item)}, ("hold", item, thief))


def meet(story: Story, thread: Thread) -> Event | None:
    deed = story.pick(story.world.deeds)
    everyone = thread.people + thread.animals
    doer = story.pick(everyone if deed.gender == "any" else getattr(thread, DOERS[deed.gender]))
    other = story.pick(everyone)
    if doer is other:
        return None
    return event("meet", {"a": doer, "b": other, "v": deed, "p": story.pick(thread.places)})


DOERS = {"animal": "animals", "person": "people"}


def feel(story: Story, thread: Thread) -> Event | None:
    who = story.pick(thread.people)
    if who in story.moods:
        return None
    frame, moods = story.pick(CAUSES)
    feeling = story.world.feelings[story.pick(moods)]
    if frame == "see":
        return event("see", {"a": who, "f": feeling, "b": story.pick(thread.animals), "p": story.pick(thread.places)})
    mine = [item for item in thread.items if story.holder.get(item) is who]
    keep = frame in ("make", "buy")
    item = story.pick(mine) if mine and not keep and story.random() < 0.6 else story.fresh_item()
    roles = {"a": who, "f": feeling, "x": story.view(item)}
    if frame == "spoil":
        roles["b"] = story.pick(thread.animals)
    return event(frame, roles, ("hold", item, who) if keep else ("gone", item, None))


CAUSES = (
    ("lose", ("sad", "upset")),
    ("break", ("sad", "angry")),
    ("spoil", ("angry", "upset")),
    ("make", ("proud", "happy")),
    ("buy", ("happy", "proud")),
    ("see", ("afraid",)),
)


def want(story: Story, thread: Thread) -> Event | None:
    who, wish, goal = story.pick(thread.people), story.pick(thread.places), story.pick(thread.places)
    if who in story.wishes or wish is goal:
        return None
    return event("want", {"a": who, "v": story.fresh_activity(), "p": wish, "q": goal})


def gather(story: Story, thread: Thread) -> Event | None:
    people = thread.people[: 2 + int(story.random() * (len(thread.people) - 1))]
    guests = story.strangers(min(int(story.random() * 3), 4 - len(people)))
    company = group(tuple(sorted((*people, *guests), key=lambda _: story.random())))
    number = story.world.numbers[len(company.members) - 2]
    built = event("gather", {"a": company, "v": story.fresh_activity(), "p": story.pick(thread.places)})
    built.roles["n"] = number
    return built


def order(story: Story, thread: Thread) -> Event | None:
    first, second = story.pick(thread.people), story.pick(thread.people)
    if first is second:
        return None
    return event("order", {"a": first, "b": second, "v": story.fresh_activity(), "p": story.pick(thread.places)})


def eat(story: Story, thread: Thread) -> Event | None:
    who, food = story.pick(thread.people), story.fresh_food()
    return event("eat", {"a": who, "n": story.pick(story.world.numbers), "g": food, "p": story.pick(thread.places)})


def fix(story: Story, thread: Thread) -> Event | None:
    item, who = held_or_fresh(story, thread)
    part = story.world.parts.get(item.thing.key)
    if part is None:
        return None
    where = story.pick(thread.places)
    return event("fix", {"a": who, "w": part, "x": story.view(item), "p": where}, ("lie", item, where))


DRAWS: dict[str, Draw] = {
    "find": find, "own": own, "put": put, "carry": carry, "give": give, "take": take, "meet": meet, "feel": feel,
    "want": want, "gather": gather, "order": order, "eat": eat, "fix": fix,
}  # fmt: skip
