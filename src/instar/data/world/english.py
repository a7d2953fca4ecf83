"""English: the sentences of each frame, the questions and the answers, as templates.

The last template of a frame is held out: it occurs in no training text and is asked for by templates=held-out.
"""

from __future__ import annotations

LEADS = {
    "day": "one day, ", "morning": "one morning, ", "spring": "one spring day, ",
    "then": "then ", "later": "later, ", "after": "after that, ", "soon": "soon ",
}  # fmt: skip

# English words stand apart by themselves, and are learnt as they stand
WORDS: tuple[str, ...] = ()

SENTENCES: dict[str, tuple[str, ...]] = {
    "find": (
        "{a} found {x} {p.in}.",
        "{p.in}, {a} found {x}.",
        "{x} was found by {a} {p.in}.",
        "{a} looked around and found {x} {p.in}.",
        "{a} came across {x} {p.in}.",
    ),
    "own": (
        "{a} had {x} and {y}.",
        "{a} owned {x} and {y}.",
        "{x} and {y} belonged to {a}.",
        "{a} liked to carry {x} and {y}.",
        "{a} was the owner of {x} and {y}.",
    ),
    "put": (
        "{a} put {x} {p.in}.",
        "{a} picked up {x} and put it {p.in}.",
        "{x} was put {p.in} by {a}.",
        "{p.in}, {a} put down {x}.",
        "{a} left {x} {p.in}.",
    ),
    "carry": (
        "{a} carried {x} {p.to}.",
        "{a} brought {x} {p.to}.",
        "{x} was carried {p.to} by {a}.",
        "{a} lifted {x} and carried it {p.to}.",
        "{a} moved {x} {p.to}.",
    ),
    "give": (
        "{a} gave {b} {x}.",
        "{a} gave {x} to {b}.",
        "{x} was given to {b} by {a}.",
        "{b} got {x} from {a}.",
        "{a} handed {x} to {b}.",
    ),
    "take": (
        "{a} took {x} from {b}.",
        "{x} was taken from {b} by {a}.",
        "{b} had {x}, but {a} took it.",
        "{a} took {x} from {b} and ran away.",
        "{a} stole {x} from {b}.",
    ),
    "meet": (
        "{a} {v.ed} {b} {p.in}.",
        "{b} was {v.pp} by {a} {p.in}.",
        "{p.in}, {a} {v.ed} {b}.",
        "{a} saw {b} {p.in} and {v.ed} {b.him}.",
        "it was {a} who {v.ed} {b} {p.in}.",
    ),
    "want": (
        "{a} wanted to {v} {p.in}, but {a.he} went {q.to}.",
        "{a} went {q.to}, but {a.he} wanted to {v} {p.in}.",
        "{a} hoped to {v} {p.in}, but {a.he} had to go {q.to}.",
        "{a} went {q.to}, although {a.he} wanted to {v} {p.in}.",
        "instead of going {p.to} to {v}, {a} went {q.to}.",
    ),
    "gather": (
        "{a} {v.ed} {p.in}.",
        "{p.in}, {a} {v.ed}.",
        "{a} met {p.in} to {v}.",
        "{a} {v.ed} together {p.in}.",
        "{a} went {p.to} and {v.ed}.",
    ),
    "order": (
        "{a} {v.ed} {p.in} before {b}.",
        "{b} {v.ed} {p.in} after {a}.",
        "{a} {v.ed} {p.in} first, and then {b}.",
        "{b} {v.ed} {p.in} later than {a}.",
        "{a} was the first to {v} {p.in}, and {b} came next.",
    ),
    "eat": (
        "{a} ate {n} {g.s} {p.in}.",
        "{p.in}, {a} ate {n} {g.s}.",
        "{n} {g.s} were eaten by {a} {p.in}.",
        "{a} sat {p.in} and ate {n} {g.s}.",
        "{a} was hungry and ate {n} {g.s} {p.in}.",
    ),
    "fix": (
        "{a} fixed {w} of {x.the} {p.in}.",
        "{p.in}, {a} fixed {w} of {x.the}.",
        "{w} of {x.the} was fixed by {a} {p.in}.",
        "{w} of {x.the} was broken, so {a} fixed it {p.in}.",
        "{a} mended {w} of {x.the} {p.in}.",
    ),
}

# what moved somebody, told with a pronoun and with the name
CAUSES: dict[str, tuple[str, str]] = {
    "lose": ("{a.he} lost {a.his} {x.cn}", "{a} lost {a.his} {x.cn}"),
    "break": ("{a.he} broke {a.his} {x.cn}", "{a} broke {a.his} {x.cn}"),
    "spoil": ("{b} broke {a.his} {x.cn}", "{b} broke {a.s} {x.cn}"),
    "make": ("{a.he} made {x.a}", "{a} made {x.a}"),
    "buy": ("{a.he} bought {x.a}", "{a} bought {x.a}"),
    "see": ("{a.he} saw {b} {p.in}", "{a} saw {b} {p.in}"),
}
# {0} stands for the cause with a pronoun, {1} for the cause with the name
FEELINGS = (
    "{a} was {f} because {0}.",
    "{1}, so {a.he} was {f}.",
    "{a} felt {f} because {0}.",
    "{1}, and so {a.he} felt {f}.",
    "because {1}, {a.he} was {f}.",
)

QUESTIONS: dict[str, tuple[str, ...]] = {
    "who-find": ("who found {x.bare}?", "by whom was {x.bare} found?"),
    "who-put": ("who put {x.bare} {p.in}?", "who was it that put {x.bare} {p.in}?"),
    "who-carry": ("who carried {x.bare} {p.to}?", "by whom was {x.bare} carried {p.to}?"),
    "who-give": ("who gave {x.bare} to {b}?", "from whom did {b} get {x.bare}?"),
    "who-take": ("who took {x.bare}?", "who took {x.bare} from {b}?"),
    "who-meet": ("who {v.ed} {b}?", "by whom was {b} {v.pp}?"),
    "who-eat": ("who ate the {g.s}?", "by whom were the {g.s} eaten?"),
    "who-fix": ("who fixed {x.bare}?", "by whom was {x.bare} fixed?"),
    "who-want": ("who wanted to {v}?", "who hoped to {v}?"),
    "who-feel": ("who was {f}?", "who felt {f}?"),
    "whom-give": ("to whom did {a} give {x.bare}?", "who got {x.bare} from {a}?"),
    "whom-take": ("from whom did {a} take {x.bare}?", "from whom was {x.bare} taken?"),
    "whom-meet": ("whom did {a} {v}?", "who was {v.pp} by {a}?"),
    "where-thing": ("where is {x.bare}?", "where is {x.bare} now?", "in which place is {x.bare} now?"),
    "where-find": ("where did {a} find {x.bare}?", "where was {x.bare} found?"),
    "where-meet": ("where did {a} {v} {b}?", "where was {b} {v.pp} by {a}?"),
    "where-eat": ("where did {a} eat the {g.s}?", "where were the {g.s} eaten?"),
    "where-gather": ("where did {m} {v}?", "in which place did {m} {v}?"),
    "has-who": ("who has {x.bare}?", "who has {x.bare} now?", "who is holding {x.bare} now?"),
    "has-what": ("what does {a} have?", "what is {a} holding now?"),
    "why": ("why was {a} {f}?", "why did {a} feel {f}?"),
    "wanted": ("where did {a} want to go?", "where did {a} want to {v}?"),
    "went": ("where did {a} go?", "where did {a} really go?"),
    "colour": ("what colour is {x.bare}?", "which colour does {x.bare} have?", "what is the colour of {x.bare}?"),
    "count-people": ("how many people {v.ed}?", "how many people {v.ed} {p.in}?"),
    "count-food": ("how many {g.s} did {a} eat?", "how many {g.s} were eaten?"),
    "is-there": ("is {x.bare} {z.in}?", "is {x.bare} {z.in} now?"),
    "does-have": ("does {z} have {x.bare}?", "does {z} have {x.bare} now?"),
    "did-meet": ("did {a} {v} {z}?", "was it {z} that {a} {v.ed}?"),
    "first": ("who {v.ed} first?", "who {v.ed} earlier?", "who was the first to {v}?"),
    "last": ("who {v.ed} last?", "who {v.ed} later?", "who was the last to {v}?"),
    "hop-find": ("who has the thing that {a} found?", "who has what {a} found?"),
    "hop-went": ("where did the owner of {x.bare} go?", "where did the one who has {x.bare} go?"),
}

ANSWERS: dict[str, str] = {
    "name": "{z}.",
    "in": "{z.in}.",
    "to": "{z.to}.",
    "thing": "{z.bare}.",
    "colour": "{z.colour}.",
    "people": "{n}.",
    "food": "{n}.",
    "lose": "because {a.he} lost {a.his} {x.n}.",
    "break": "because {a.he} broke {a.his} {x.n}.",
    "spoil": "because {b} broke {a.his} {x.n}.",
    "make": "because {a.he} made {x.one}.",
    "buy": "because {a.he} bought {x.one}.",
    "see": "because {a.he} saw {b}.",
    "yes": "yes.",
    "no": "no.",
    "unknown": "I do not know.",
}
