"""Questions about a story, by kind, with their true answers and the story's other candidates for the answer.

A question is asked only if exactly one answer is true and the story holds at least two candidates of the answer's type.
Levels: 1 one sentence tells it; 2 another event of the same frame must be told apart; 3 a state that changed, counting
or order; 4 two sentences must be joined, or nobody knows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .event import Event
from .ontology import Entity, Item
from .simulate import Story

Roles = dict[str, Entity]
# the name of an answer template and who fills it
Answer = tuple[str, Roles]

MAIN = ("who", "whom", "where", "has", "why", "wanted", "colour", "count", "yesno", "order")
KINDS = (*MAIN, "two-hop", "unknown")
YES, NO, UNKNOWN = ("yes", {}), ("no", {}), ("unknown", {})  # type: tuple[Answer, Answer, Answer]


@dataclass(slots=True, eq=False)
class Question:
    """`form` names the question's templates; `support` is the event that answers it, where one does.

    `held_out` says that the fact of that event is in no training text.
    """

    kind: str
    level: int
    form: str
    roles: Roles
    answer: Answer
    candidates: list[Answer]
    held_out: bool
    support: Event | None


def mention(answer: Answer) -> str | None:
    """The role whose name in the story gives a candidate away, for the controls; None for yes, no and unknown."""
    name, roles = answer
    return next((role for role in MENTIONS.get(name, "zxb") if role in roles), None)


MENTIONS = {"people": "n", "food": "n"}


class Scene:
    """What a story names, gathered once for all its questions."""

    def __init__(self, story: Story) -> None:
        self.story = story
        self.pick = story.pick
        self.random = story.random
        self.frames = Counter(event.frame for event in story.events)
        self.named: dict[str, list[Entity]] = {"person": [], "animal": [], "place": []}
        for event in story.events:
            for entity in event.roles.values():
                for each in entity.members or (entity,):
                    if each.type in self.named and each not in self.named[each.type]:
                        self.named[each.type].append(each)
        self.items = list(story.introduced)
        self.moods = list(story.moods.values())
        self.numbers = dict.fromkeys(event.roles["n"] for event in story.events if "n" in event.roles)

    def alike(self, name: str, answer: Entity) -> list[Answer]:
        """Everything of the answer's type that the story names, as answers."""
        return [(name, {"z": each}) for each in self.named[answer.type]]

    def ask(
        self, kind: str, form: str, event: Event, name: str, answer: Entity, roles: Roles, level: int = 0
    ) -> Question | None:
        """A question that names people, animals or places; None where the story has but one of the type."""
        candidates = self.alike(name, answer)
        if len(candidates) < 2:
            return None
        level = level or 1 + (self.frames[event.frame] > 1)
        return Question(kind, level, form, roles, (name, {"z": answer}), candidates, event.held_out, event)


def key(event: Event, *roles: str) -> tuple[object, ...]:
    """What must be unique for a question that names these roles. Items count by identity, not by how they look."""
    item = event.item()
    return (event.frame, *(item if role == "x" else event.roles.get(role) for role in roles))


# kind of question, frame, form, the role that is asked, the roles that the question names
BY_EVENT: tuple[tuple[str, str, str, str, tuple[str, ...]], ...] = (
    ("who", "find", "who-find", "a", ("x",)),
    ("who", "put", "who-put", "a", ("x", "p")),
    ("who", "carry", "who-carry", "a", ("x", "p")),
    ("who", "give", "who-give", "a", ("x", "b")),
    ("who", "take", "who-take", "a", ("x", "b")),
    ("who", "meet", "who-meet", "a", ("v", "b")),
    ("who", "eat", "who-eat", "a", ("g",)),
    ("who", "fix", "who-fix", "a", ("x",)),
    ("who", "want", "who-want", "a", ("v",)),
    ("whom", "give", "whom-give", "b", ("a", "x")),
    ("whom", "take", "whom-take", "b", ("a", "x")),
    ("whom", "meet", "whom-meet", "b", ("a", "v")),
    ("where", "find", "where-find", "p", ("a", "x")),
    ("where", "meet", "where-meet", "p", ("a", "v", "b")),
    ("where", "eat", "where-eat", "p", ("a", "g")),
)
ROWS: dict[str, list[tuple[str, str, str, tuple[str, ...]]]] = {}
for _kind, _frame, _form, _asked, _named in BY_EVENT:
    ROWS.setdefault(_kind, []).append((_frame, _form, _asked, _named))


def by_event(kind: str) -> Callable[[Scene], Iterator[Question | None]]:
    """Questions that ask for one role of one event."""

    def asked(scene: Scene) -> Iterator[Question | None]:
        events = scene.story.events
        for frame, form, role, named in ROWS[kind]:
            if not scene.frames[frame]:
                continue
            same = [event for event in events if event.frame == frame]
            counts = Counter(key(event, *named) for event in same)
            for event in same:
                if counts[key(event, *named)] == 1:
                    answer = event.roles[role]
                    yield scene.ask(kind, form, event, "in" if role == "p" else "name", answer, event.roles)

    return asked


def who(scene: Scene) -> Iterator[Question | None]:
    yield from by_event("who")(scene)
    feelings = Counter(event.roles["f"] for event in scene.moods)
    for event in scene.moods:
        if feelings[event.roles["f"]] == 1:
            level = 1 + (len(feelings) > 1)
            yield scene.ask("who", "who-feel", event, "name", event.roles["a"], event.roles, level)


def where(scene: Scene) -> Iterator[Question | None]:
    yield from by_event("where")(scene)
    for item, place in scene.story.lies.items():
        event = scene.story.last[item]
        level = 3 if scene.story.introduced[item] is not event else 0
        # twice as often as the others: the state that the whole story decides
        for _ in range(2):
            yield scene.ask("where", "where-thing", event, "in", place, {"x": item.short}, level)
    for event in scene.story.events:
        if event.frame == "gather":
            member = scene.pick(event.roles["a"].members)
            roles = {"m": member, "v": event.roles["v"]}
            yield scene.ask("where", "where-gather", event, "in", event.roles["p"], roles)


def has(scene: Scene) -> Iterator[Question | None]:
    story = scene.story
    hands = Counter(story.holder.values())
    for item, holder in story.holder.items():
        event = story.last[item]
        level = 3 if story.introduced[item] is not event else 0
        yield scene.ask("has", "has-who", event, "name", holder, {"x": item.short}, level)
        if hands[holder] == 1 and len(scene.items) > 1:
            things: list[Answer] = [("thing", {"z": each.short}) for each in scene.items]
            answer: Answer = ("thing", {"z": item.short})
            yield Question("has", level or 2, "has-what", {"a": holder}, answer, things, event.held_out, event)


def said_cause(event: Event) -> tuple[object, ...]:
    """What the answer to "why" shows of a cause: people only by their pronoun."""
    return (event.frame, event.roles["a"].gender, event.item(), event.roles.get("b"))


def why(scene: Scene) -> Iterator[Question | None]:
    causes: list[Answer] = [(event.frame, event.roles) for event in scene.moods]
    if len({said_cause(event) for event in scene.moods}) < 2:
        return
    for event in scene.moods:
        yield Question("why", 2, "why", event.roles, (event.frame, event.roles), causes, event.held_out, event)


def wanted(scene: Scene) -> Iterator[Question | None]:
    level = 1 + (len(scene.story.wishes) > 1)
    for event in scene.story.wishes.values():
        yield scene.ask("wanted", "wanted", event, "to", event.roles["p"], event.roles, level)
        yield scene.ask("wanted", "went", event, "to", event.roles["q"], event.roles, level)


def colour(scene: Scene) -> Iterator[Question | None]:
    tints: dict[Entity, Item] = {}
    for item in scene.items:
        tints.setdefault(item.colour, item)
    if len(tints) < 2:
        return
    for item, event in scene.story.introduced.items():
        mine = tints | {item.colour: item}
        candidates: list[Answer] = [("colour", {"z": each.short}) for each in mine.values()]
        answer: Answer = ("colour", {"z": item.short})
        yield Question("colour", 2, "colour", {"x": item.short}, answer, candidates, event.held_out, event)


def count(scene: Scene) -> Iterator[Question | None]:
    if len(scene.numbers) < 2:
        return
    for event in scene.story.events:
        if "n" in event.roles:
            people = event.frame == "gather"
            name, form, level = ("people", "count-people", 3) if people else ("food", "count-food", 1)
            candidates: list[Answer] = [(name, event.roles | {"n": each}) for each in scene.numbers]
            yield Question("count", level, form, event.roles, (name, event.roles), candidates, event.held_out, event)


def yes_or_no(scene: Scene, form: str, event: Event, true: Entity, **roles: Entity) -> Question | None:
    """The true entity or, as often, another that the story names."""
    others = [each for each in scene.named[true.type] if each is not true and each not in roles.values()]
    if not others:
        return None
    right = scene.random() < 0.5
    roles["z"] = true if right else scene.pick(others)
    return Question("yesno", 2, form, roles, YES if right else NO, [YES, NO], event.held_out, event)


def yesno(scene: Scene) -> Iterator[Question | None]:
    story = scene.story
    for item, place in story.lies.items():
        yield yes_or_no(scene, "is-there", story.last[item], place, x=item.short)
    for item, holder in story.holder.items():
        yield yes_or_no(scene, "does-have", story.last[item], holder, x=item.short)
    met = Counter(key(event, "a", "v") for event in story.events if event.frame == "meet")
    for event in story.events:
        if event.frame == "meet" and met[key(event, "a", "v")] == 1:
            yield yes_or_no(scene, "did-meet", event, event.roles["b"], a=event.roles["a"], v=event.roles["v"])


def order(scene: Scene) -> Iterator[Question | None]:
    for event in scene.story.events:
        if event.frame == "order":
            pair: list[Answer] = [("name", {"z": event.roles[role]}) for role in "ab"]
            if scene.random() < 0.5:
                pair.reverse()
            for form, role in (("first", "a"), ("last", "b")):
                answer: Answer = ("name", {"z": event.roles[role]})
                yield Question("order", 3, form, event.roles, answer, pair, event.held_out, event)


def two_hop(scene: Scene) -> Iterator[Question | None]:
    story = scene.story
    finders = Counter(event.roles["a"] for event in story.events if event.frame == "find")
    for item, holder in story.holder.items():
        first, last = story.introduced[item], story.last[item]
        finder = first.roles["a"]
        if first.frame == "find" and holder is not finder and finders[finder] == 1:
            yield scene.ask("two-hop", "hop-find", last, "name", holder, {"a": finder}, 4)
        wish = story.wishes.get(holder)
        if wish is not None:
            yield scene.ask("two-hop", "hop-went", wish, "to", wish.roles["q"], {"x": item.short}, 4)


def unknown(scene: Scene) -> Iterator[Question | None]:
    """Half about things that the story never named, half about what it did not tell of its people."""
    story = scene.story
    absent = story.fresh_item().short
    held_out = any(event.held_out for event in story.events)

    def nobody_knows(form: str, roles: dict[str, Entity], known: list[Answer]) -> Question:
        return Question("unknown", 4, form, roles, UNKNOWN, [*known, UNKNOWN], held_out, None)

    places: list[Answer] = [("in", {"z": each}) for each in scene.named["place"]]
    people: list[Answer] = [("name", {"z": each}) for each in scene.named["person"]]
    tints: list[Answer] = [("colour", {"z": item.short}) for item in scene.items]
    if places:
        yield nobody_knows("where-thing", {"x": absent}, places)
    yield nobody_knows("has-who", {"x": absent}, people)
    if tints:
        yield nobody_knows("colour", {"x": absent}, tints)
    calm = [each for each in scene.named["person"] if each not in story.moods]
    for each in calm[:2]:
        feeling = scene.pick(list(story.world.feelings.values()))
        known: list[Answer] = [(event.frame, event.roles) for event in scene.moods]
        if known:
            yield nobody_knows("why", {"a": each, "f": feeling}, known)
    content = [each for each in scene.named["person"] if each not in story.wishes]
    for each in content[:2]:
        if story.wishes:
            roles = {"a": each, "v": next(iter(story.wishes.values())).roles["v"]}
            yield nobody_knows("wanted", roles, [("to", known[1]) for known in places])


ASKERS: dict[str, Callable[[Scene], Iterator[Question | None]]] = {
    "who": who, "whom": by_event("whom"), "where": where, "has": has, "why": why, "wanted": wanted,
    "colour": colour, "count": count, "yesno": yesno, "order": order, "two-hop": two_hop, "unknown": unknown,
}  # fmt: skip


def questions(scene: Scene, kind: str) -> list[Question]:
    """All questions of a kind that the story answers without doubt, in random order."""
    found = [question for question in ASKERS[kind](scene) if question is not None]
    for at in range(len(found) - 1, 0, -1):
        other = int(scene.random() * (at + 1))
        found[at], found[other] = found[other], found[at]
    return found
