"""A story: one to four threads, each with its own cast, played out event by event and told interleaved.

The story decides everything that both languages share. It knows no word of either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TypeVar

from .event import DRAWS, Event
from .ontology import Entity, Item, World
from .split import is_held_out

T = TypeVar("T")

# how often each frame is drawn where nothing asks for it
WEIGHTS = {
    "find": 3, "own": 2, "put": 4, "carry": 3, "give": 4, "take": 3, "meet": 4, "feel": 4, "want": 3, "gather": 2,
    "order": 2, "eat": 2, "fix": 1,
}  # fmt: skip
BAG = tuple(frame for frame, weight in WEIGHTS.items() for _ in range(weight))
OPENERS = frozenset({"own", "find"})

# the frames a kind of question needs; one of the tuples is chosen
FOCUS: dict[str, tuple[tuple[str, ...], ...]] = {
    "who": (("find",), ("put",), ("carry",), ("give",), ("take",), ("meet",), ("eat",), ("fix",)),
    "whom": (("give",), ("take",), ("meet",)),
    "where": (("put",), ("carry",), ("put", "carry"), ("find",), ("meet",)),
    "has": (("give",), ("find",), ("own",), ("take",)),
    "why": (("feel",),),
    "wanted": (("want",),),
    "colour": (("find",), ("put",), ("carry",), ("give",), ("take",), ("own",)),
    "count": (("gather",), ("eat",), ("gather", "eat")),
    "yesno": (("put",), ("carry",), ("give",), ("meet",)),
    "order": (("order",),),
    "two-hop": (("find", "give"), ("own", "want")),
    "unknown": ((),),
}
# kinds whose frames are rare by nature; every other story makes room for one of them
SCARCE = ("why", "wanted", "count", "order")
# events a thread has, least and most, by the number of threads
LENGTHS = {1: (5, 7), 2: (3, 5), 3: (3, 3), 4: (2, 3)}
PLACES = {1: 4, 2: 5, 3: 6, 4: 7}
LEADS = ("then", "later", "after", "soon")
STARTS = ("day", "morning", "spring")


@dataclass(slots=True, eq=False)
class Thread:
    """The cast and stage of one thread; `items` are those already introduced and still in play."""

    people: list[Entity]
    animals: list[Entity]
    places: list[Entity]
    items: list[Item] = field(default_factory=list)


class Story:
    """The state of the world while a story is played, and its `events` in the order of telling."""

    def __init__(self, world: World, rng: Random) -> None:
        self.world = world
        self.rng = rng
        self.random = rng.random
        self.holder: dict[Item, Entity] = {}
        self.lies: dict[Item, Entity] = {}
        self.last: dict[Item, Event] = {}
        self.introduced: dict[Item, Event] = {}
        self.moods: dict[Entity, Event] = {}
        self.wishes: dict[Entity, Event] = {}
        self.threads: list[Thread] = []
        self.events: list[Event] = []
        self._things: set[str] = set()
        self._used: set[Entity] = set()

    def pick(self, options: Sequence[T]) -> T:
        return options[int(self.random() * len(options))]

    def fresh(self, options: Sequence[Entity]) -> Entity:
        """Something that the story has not named yet."""
        while True:
            chosen = self.pick(options)
            if chosen not in self._used:
                return chosen

    def fresh_activity(self) -> Entity:
        return self.fresh(self.world.activities)

    def fresh_food(self) -> Entity:
        return self.fresh(self.world.foods)

    def fresh_item(self, besides: Item | None = None) -> Item:
        """A coloured thing whose noun the story has not used, so that "the ball" names one thing."""
        while True:
            row = self.pick(self.world.items)
            if row[0].thing.key not in self._things and (besides is None or row[0].thing is not besides.thing):
                break
        item = self.pick(row)
        while besides is not None and item.colour is besides.colour:
            item = self.pick(row)
        return item

    def strangers(self, count: int) -> list[Entity]:
        found: list[Entity] = []
        while len(found) < count:
            chosen = self.fresh(self.world.people)
            if chosen not in found:
                found.append(chosen)
        return found

    def view(self, item: Item) -> Entity:
        """How a mention of the item looks: new at first, mostly with its colour later."""
        if item not in self.introduced:
            return item.new
        return item.old if self.random() < 0.75 else item.short

    def cast(self, threads: int) -> None:
        """Draw the casts; threads share places but neither people, animals nor things."""
        places = self.rng.sample(self.world.places, PLACES[threads])
        for _ in range(threads):
            people = self.strangers(3 if threads == 1 else 2)
            self._used.update(people)
            animals = [self.fresh(self.world.animals)]
            self._used.update(animals)
            if threads == 1:
                animals.append(self.fresh(self.world.animals))
                self._used.update(animals)
            self.threads.append(Thread(people, animals, self.rng.sample(places, 3)))

    def play(self, number: int, frame: str, train: bool) -> bool:
        """Let one event of a frame happen in a thread; False where the state allows none."""
        thread = self.threads[number]
        for _ in range(12):
            event = DRAWS[frame](self, thread)
            if event is None:
                continue
            event.held_out = is_held_out(event.fact)
            if event.held_out and train:
                continue
            event.thread = number
            self.apply(event, thread)
            return True
        return False

    def apply(self, event: Event, thread: Thread) -> None:
        self.events.append(event)
        for what, item, target in event.effects:
            self.last[item] = event
            self.holder.pop(item, None)
            self.lies.pop(item, None)
            if item not in self.introduced:
                self.introduced[item] = event
                self._things.add(item.thing.key)
                thread.items.append(item)
            if what == "gone":
                thread.items.remove(item)
            elif target is not None:
                (self.holder if what == "hold" else self.lies)[item] = target
        roles = event.roles
        if "f" in roles:
            self.moods[roles["a"]] = event
        if "q" in roles:
            self.wishes[roles["a"]] = event
        if event.frame in ("want", "gather", "order"):
            self._used.add(roles["v"])
        if "g" in roles:
            self._used.add(roles["g"])
        self._used.update(roles["a"].members)

    def interleave(self) -> None:
        """Merge the threads' events at random, each thread keeping its own order."""
        queues = [[event for event in self.events if event.thread == number] for number in range(len(self.threads))]
        total, told = len(self.events), []
        while total:
            at = int(self.random() * total)
            for queue in queues:
                if at < len(queue):
                    told.append(queue.pop(0))
                    break
                at -= len(queue)
            total -= 1
        self.events = told

    def style(self) -> None:
        """Decide what joins the sentences: a pronoun for the one person just spoken of, or a word of time."""
        before: Event | None = None
        for event in self.events:
            agent = event.roles["a"]
            chance = self.random()
            if before is None:
                event.lead = self.pick(STARTS) if chance < 0.4 else ""
            elif before.roles["a"] is agent and agent.type == "person" and "b" not in before.roles and chance < 0.4:
                event.pronoun = True
            elif chance > 0.85:
                event.lead = self.pick(LEADS)
            before = event


def plan(story: Story, threads: int, kind: str, events: int = 0) -> list[list[str]]:
    """The frames of each thread. Threads often share frames, so that a question must tell their events apart.

    events: how many a thread has; 0 leaves it to the number of threads.
    """
    focus = story.pick(FOCUS[kind])
    if story.random() < 0.5:
        focus = (*focus, *story.pick(FOCUS[story.pick(SCARCE)]))
    least, most = (events, events) if events else LENGTHS[threads]
    plans: list[list[str]] = []
    for number in range(threads):
        frames = list(focus) if number < 2 else []
        if threads == 1:
            frames *= 2
        length = least + int(story.random() * (most - least + 1))
        if events:
            frames = frames[:events]
        while len(frames) < length:
            pool = plans[0] if plans and story.random() < 0.5 else BAG
            frame = story.pick(pool)
            if frames.count(frame) < 2:
                frames.append(frame)
        frames.sort(key=lambda frame: (frame not in OPENERS) + story.random() * 1.3)
        plans.append(frames)
    return plans


def tell(world: World, rng: Random, *, threads: int, kind: str, train: bool, events: int = 0) -> Story:
    """Play one story of some threads that suits a kind of question. In training no held-out fact may happen."""
    story = Story(world, rng)
    story.cast(threads)
    for number, frames in enumerate(plan(story, threads, kind, events)):
        for frame in frames:
            story.play(number, frame, train)
    story.interleave()
    story.style()
    return story
