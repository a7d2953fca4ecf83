"""The exam of a life: questions on facts that training never told, with what guessing alone would reach beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any

from ..config.recipe import ExamOptions, TalkOptions
from ..data.corpus import read
from ..data.world import MAIN
from ..eval.exact import Asked, ask, controls, tally
from ..model.transformer import Transformer
from ..text.tokenizer import Tokenizer

Exam = dict[str, Any]
Record = dict[str, Any]
TAUGHT = 12_000  # training records that the controls may learn from


def examine(
    model: Transformer,
    tokenizer: Tokenizer,
    options: ExamOptions,
    *,
    taught: Sequence[str] = (),
    each: Callable[[int], None] = lambda done: None,
) -> Exam:
    """Scores per language and kind, the harder questions beside them, and, where `taught` names the training data, the
    controls: majority, last-mentioned, random candidate, the story removed (for a memoriser and for this model)."""
    records = [document.record for document in read(options.data)]
    asked = ask(model, tokenizer, records, batch=options.batch, each=each)
    exam: Exam = {"scores": by_language(asked), "ended": sum(one.ended for one in asked) / len(asked)}
    exam["wrong"] = [_wrong(one) for one in asked if not one.right][:20]
    if options.beside:
        harder = [document.record for document in read(options.beside)]
        exam["beside"] = _beside(ask(model, tokenizer, harder, batch=options.batch, each=each))
    if taught:
        guesses = controls(model, tokenizer, records, _lessons(taught), batch=options.batch, each=each)
        exam["controls"] = _shares({name: by_language(guessed) for name, guessed in guesses.items()})
    return exam


def by_language(asked: Sequence[Asked]) -> dict[str, dict[str, dict[str, float]]]:
    """language -> kind of question, and "all" -> questions, exact, ended."""
    languages = sorted({one.groups["lang"] for one in asked})
    return {lang: tally([one for one in asked if one.groups["lang"] == lang], "kind") for lang in languages}


def talk(model: Transformer, tokenizer: Tokenizer, options: TalkOptions) -> list[Record]:
    """Real exchanges for the model's owner to read: questions with known answers, then plain messages."""
    records = [document.record for document in read(options.data)] if options.data else []
    said = [{"prompt": text, "answer": ""} for text in options.say]
    answers = ask(model, tokenizer, [*records, *said])
    return [
        {
            "user": one.prompt[-1]["content"],
            "answer": one.answer,
            "wanted": one.wanted or None,
            "right": one.right if one.wanted else None,
        }
        for one in answers
    ]


def _lessons(sources: Sequence[str]) -> Iterable[Record]:
    """Training records from each of the sources in turn, as far as the world made them."""
    for source in sources:
        if source.startswith("world:"):
            yield from (document.record for document in islice(read([source]), TAUGHT // len(sources)))


def _shares(scores: dict[str, dict[str, Any]]) -> dict[str, dict[str, dict[str, float]]]:
    """control -> language -> kind -> figures, turned into language -> kind -> control -> share right."""
    shares: dict[str, dict[str, dict[str, float]]] = {}
    for name, languages in scores.items():
        for lang, kinds in languages.items():
            for kind, row in kinds.items():
                shares.setdefault(lang, {}).setdefault(kind, {})[name] = row["exact"]
    return shares


def _beside(asked: Sequence[Asked]) -> dict[str, dict[str, dict[str, float]]]:
    """language -> how many threads (of the kinds that count), and each of the other kinds -> its figures."""
    scores = {}
    for lang in sorted({one.groups["lang"] for one in asked}):
        part = [one for one in asked if one.groups["lang"] == lang]
        others = [one for one in part if one.groups["kind"] not in MAIN]
        threads = (
            tally([one for one in part if one.groups["kind"] in MAIN], "threads") if len(others) < len(part) else {}
        )
        scores[lang] = {f"{n} threads": row for n, row in threads.items() if n != "all"}
        scores[lang] |= {kind: row for kind, row in (tally(others, "kind") if others else {}).items() if kind != "all"}
    return scores


def _wrong(one: Asked) -> Record:
    return {**one.groups, "user": one.prompt[-1]["content"], "wanted": one.wanted, "answer": one.answer}
