"""Exact match: the greedy answer to a question, word for word the known one, and what guessing reaches beside it.

Answers are compared as they are; only blanks round them are forgiven.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ..config import InputError
from ..config.options import SamplingOptions
from ..data.world import CONTROLS, without_story
from ..infer.text import complete
from ..model.transformer import Transformer
from ..text.tokenizer import Tokenizer

Message = dict[str, Any]
GROUPS = ("lang", "kind", "difficulty", "threads")  # what a record may say it should be counted under


@dataclass(frozen=True)
class Asked:
    """One question put to a model. prompt: all messages before the answer; groups: what it is counted under."""

    prompt: list[Message]
    wanted: str
    answer: str
    ended: bool
    groups: dict[str, str]

    @property
    def right(self) -> bool:
        return self.answer.strip() == self.wanted.strip()


def ask(
    model: Transformer,
    tokenizer: Tokenizer,
    records: Iterable[dict[str, Any]],
    *,
    batch: int = 64,
    max_new_tokens: int = 32,
    sampling: SamplingOptions | None = None,
    seed: int = 0,
    each: Callable[[int], None] = lambda done: None,
) -> list[Asked]:
    """Answers to the last question of each record, `batch` at a time: greedy ones, or as `sampling` says.

    A record is a dialogue whose last message is the known answer ({"messages"}), or {"prompt", "answer"}. Raises
    InputError for one that is neither. each: called with how many more were answered.
    """
    questions = [_question(record, number) for number, record in enumerate(records)]
    options = sampling or SamplingOptions(strategy="greedy", max_new_tokens=max_new_tokens)
    asked: list[Asked] = []
    for start in range(0, len(questions), batch * 8):
        part = questions[start : start + batch * 8]
        seeds = [seed + start + place for place in range(len(part))]  # independent draws, not the same one everywhere
        answers = complete(model, tokenizer, [prompt for prompt, _, _ in part], options, seed=seeds, slots=batch)
        for (prompt, wanted, groups), answer in zip(part, answers):
            asked.append(Asked(prompt, wanted, answer.text, answer.finish == "stop", groups))
        each(len(part))
    return asked


def tally(asked: Sequence[Asked], group: str) -> dict[str, dict[str, float]]:
    """Per value of a group and for "all": questions, share exactly right, share that ended by itself."""
    parts: dict[str, list[Asked]] = {"all": list(asked)}
    for one in asked:
        parts.setdefault(one.groups.get(group, ""), []).append(one)
    return {
        name: {
            "questions": len(part),
            "exact": sum(one.right for one in part) / len(part),
            "ended": sum(one.ended for one in part) / len(part),
        }
        for name, part in parts.items()
        if name and part
    }


def controls(
    model: Transformer,
    tokenizer: Tokenizer,
    records: Sequence[dict[str, Any]],
    taught: Iterable[dict[str, Any]] = (),
    *,
    batch: int = 64,
    max_new_tokens: int = 32,
    each: Callable[[int], None] = lambda done: None,
) -> dict[str, list[Asked]]:
    """The same questions answered without understanding the story: by each of the world's guesses, and as "model
    without story" by this model when it is asked without one. To be put beside its score, by the same `tally`.

    records: tests of world:dialogues; taught: training records that the guesses may learn from. Raises InputError for
    records that no guess can be made for.
    """
    for number, record in enumerate(records):
        if missing := {"question", "story", "candidates", "mentions"} - set(record):
            raise InputError(f"record {number + 1} lacks {', '.join(sorted(missing))}; wanted tests of world:dialogues")
    lessons = list(taught)
    questions = [_question(record, number) for number, record in enumerate(records)]
    guessed = {
        name: [
            Asked(prompt, wanted, guess, True, groups) for (prompt, wanted, groups), guess in zip(questions, guesses)
        ]
        for name, guesses in ((name, guess(lessons, records)) for name, guess in CONTROLS.items())
    }
    blind = [without_story(record) for record in records]
    asked = ask(model, tokenizer, blind, batch=batch, max_new_tokens=max_new_tokens, each=each)
    return guessed | {"model without story": asked}


def _question(record: dict[str, Any], number: int) -> tuple[list[Message], str, dict[str, str]]:
    groups: dict[str, str] = {name: str(record[name]) for name in GROUPS if name in record}
    messages = record.get("messages")
    if messages and messages[-1].get("role") == "assistant":
        return messages[:-1], messages[-1]["content"], groups
    if "prompt" in record and "answer" in record:
        prompt = record["prompt"]
        return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt, record["answer"], groups
    raise InputError(
        f"record {number + 1} has {', '.join(record)}; wanted messages that end with the answer, or prompt and answer"
    )
