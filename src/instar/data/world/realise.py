"""From events, questions and answers to sentences of one language: which template, which pronoun, which capital."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from types import ModuleType

from . import chinese, english, sayings
from .annotate import Notes
from .event import Event
from .facts import Fact
from .ontology import LANGUAGES
from .questions import Answer, Question
from .template import Template, capital, compiled, filled, with_pronoun

# the forms of a thing that depend on how often it was named
AUTOMATIC = frozenset({"", "d"})
Uniform = Callable[[], float]
MODULES: tuple[ModuleType, ModuleType] = (english, chinese)
JOINTS = (" ", "")


def frames(module: ModuleType) -> dict[str, tuple[str, ...]]:
    """All sentence templates by frame; the feelings are every cause in every pattern."""
    expanded = dict(module.SENTENCES)
    for cause, (pronoun, name) in module.CAUSES.items():
        expanded[cause] = tuple(text.replace("{0}", pronoun).replace("{1}", name) for text in module.FEELINGS)
    return expanded


class Language:
    """The compiled templates of one language and the choice among them."""

    def __init__(self, code: str) -> None:
        self.index = LANGUAGES.index(code)
        self.joint = JOINTS[self.index]
        module = MODULES[self.index]
        self.leads: dict[str, str] = module.LEADS
        self.words: tuple[str, ...] = module.WORDS
        self.sentences = {frame: tuple(map(compiled, texts)) for frame, texts in frames(module).items()}
        self.questions = {form: tuple(map(compiled, texts)) for form, texts in module.QUESTIONS.items()}
        self.answers = {name: compiled(text) for name, text in module.ANSWERS.items()}
        self.told = {name: tuple(map(compiled, texts)) for name, texts in sayings.TOLD[self.index].items()}
        self.asked = {name: tuple(map(compiled, texts)) for name, texts in sayings.ASKED[self.index].items()}
        self.reply = compiled(sayings.REPLIES[self.index])
        self.pronouns: dict[Template, Template | None] = {
            template: with_pronoun(template) for row in self.sentences.values() for template in row
        }

    def plain(self, event: Event, choice: float, held_out: bool = False) -> Template:
        """One of the frame's templates but the last, or the last."""
        row = self.sentences[event.frame]
        return row[-1] if held_out else row[int(choice * (len(row) - 1))]

    def template(self, event: Event, choice: float, held_out: bool = False) -> Template:
        """The same, opening with a pronoun where the story says so."""
        template = self.plain(event, choice, held_out)
        return (event.pronoun and self.pronouns[template]) or template

    def sentence(self, event: Event, template: Template) -> str:
        text = filled(template, event.roles, self.index)
        return capital(self.leads[event.lead] + text if event.lead else text)

    def story(self, events: list[Event], random: Uniform, held_out: bool = False, notes: Notes | None = None) -> str:
        """All events in order; `notes`, where given, learns where everything stands."""
        sentences, at = [], 0
        for event in events:
            template = self.template(event, random(), held_out)
            text = self.sentence(event, template)
            sentences.append(text)
            if notes is not None:
                notes.event(event, template, text, at)
                at += len(text) + len(self.joint)
        return self.joint.join(sentences)

    def facts(self, facts: list[Fact], random: Uniform, notes: Notes | None = None) -> str:
        """Fixed facts told one after the other."""
        sentences, at = [], 0
        for fact in facts:
            row = self.told[fact.relation]
            template = row[int(random() * len(row))]
            text = capital(filled(template, fact.roles, self.index))
            sentences.append(text)
            if notes is not None:
                notes.fact(fact, template, text, at)
                at += len(text) + len(self.joint)
        return self.joint.join(sentences)

    def question(self, question: Question, choice: float) -> str:
        row = self.questions[question.form]
        return capital(filled(row[int(choice * len(row))], question.roles, self.index))

    def answer(self, answer: Answer) -> str:
        return capital(filled(self.answers[answer[0]], answer[1], self.index))

    def fact_question(self, fact: Fact, choice: float, held_out: bool) -> str:
        """One of the relation's questions but the last, or the last, which no training dialogue asks."""
        row = self.asked[fact.relation]
        template = row[-1] if held_out else row[int(choice * (len(row) - 1))]
        return capital(filled(template, fact.roles, self.index))

    def fact_answer(self, fact: Fact) -> str:
        return capital(filled(self.reply, fact.roles, self.index))


@cache
def language(code: str) -> Language:
    """The one instance for "en" or "zh"."""
    return Language(code)


def level(event: Event, choice: float, held_out: bool = False) -> None:
    """Make an event say the same in all languages, so that each sentence determines its translation.

    A pronoun opens it where the templates of all can open so, or nowhere. Where one says that a thing is new (a red
    ball) and another leaves it open (红色的皮球), all tell it as known; and all name a colour that one of them names.
    """
    spoken = [language(code) for code in LANGUAGES]
    templates = [each.plain(event, choice, held_out) for each in spoken]
    event.pronoun = event.pronoun and all(each.pronouns[template] for each, template in zip(spoken, templates))
    for role in ("x", "y"):
        item = event.item(role) if role in event.roles else None
        forms = {form for template in templates for _, name, form in template if name == role}
        if item is not None and len(forms) > 1:
            vague = (item.new,) if forms <= AUTOMATIC else (item.new, item.short)
            event.roles[role] = item.old if event.roles[role] in vague else event.roles[role]
