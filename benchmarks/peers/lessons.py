"""What benchmarks/alignment.py teaches, and the model that learns: one folder for all systems.

hf/                    random weights in Hugging Face's layout, with a tokenizer trained on the records
sft.jsonl, dpo.jsonl   dialogues; pairs of answers: only such as fit the context, so that nobody cuts any
check-*.jsonl          few of them, of which no two fit one row, for steps whose samples are the same for everybody
dpo.jinja              the chat template without what it writes after an answer's end, which we do not teach
facts.json             how many tokens a sample has
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from instar.config import InputError, ModelConfig
from instar.data.branches import pair_sizes
from instar.data.comparisons import comparison_of
from instar.data.corpus import read
from instar.data.preferences import load_preferences
from instar.data.records import as_messages
from instar.data.sources import Document
from instar.hub.folders import save
from instar.model.transformer import Transformer
from instar.text.tokenizer import Tokenizer

SOURCES = {
    "sft": ("instruct/dolly_hhrlhf_small.jsonl", "instruct/oasst_threads.jsonl", "instruct/gsm8k.train.jsonl"),
    "dpo": ("preference/hh_rlhf.jsonl", "preference/dpo_en.jsonl", "preference/oasst_ranked.jsonl"),
}
AFTER, TRIMMED = "{{- '\\n' }}\n    {%- endif %}\n{%- endfor %}", " if not (loop.last and message.role == 'assistant') "
CAP = 1500  # records of one file
CHECKED = 64  # samples of a check, at most


@dataclass(frozen=True)
class Lessons:
    """mean: tokens of a sample, of a pair those of both answers with their prompt; rows_each: samples that a row holds
    when it is packed; width: tokens of such a row; source: where the records are from."""

    count: int
    mean: float
    longest: int
    rows_each: float
    width: int
    source: str


def dialogue(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record as every system reads it: only what was said by whom."""
    return {"messages": [_plain(message) for message in as_messages(record)]}


def pair(record: Mapping[str, Any]) -> dict[str, Any]:
    found = comparison_of(record)
    return {
        "prompt": [_plain(message) for message in found.prompt],
        "chosen": [_plain(found.chosen)], "rejected": [_plain(found.rejected)],
    }  # fmt: skip


def _plain(message: Mapping[str, Any]) -> dict[str, str]:
    content = str(message["content"]).strip()
    if message.get("tool_calls") or not content:
        raise InputError("not a plain message")
    return {"role": message["role"], "content": content}


def stand_in(task: str, count: int) -> Iterator[dict[str, Any]]:
    """Records of made-up words, where there is no data: lengths are spread as wide as those of real ones."""
    luck = random.Random(0)
    lexicon = ["".join(luck.choices("etaoinshrdlu", k=luck.randint(2, 9))) for _ in range(3000)]

    def text(middle: float) -> str:
        return " ".join(luck.choices(lexicon, k=max(2, round(luck.lognormvariate(0, 0.8) * middle))))

    for _ in range(count):
        asked = [{"role": "user", "content": text(15)}]
        if task == "sft":
            yield {"messages": [*asked, {"role": "assistant", "content": text(30)}]}
        else:
            answers = [[{"role": "assistant", "content": text(25)}] for _ in range(2)]
            yield {"prompt": asked, "chosen": answers[0], "rejected": answers[1]}


SHAPED: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {"sft": dialogue, "dpo": pair}


def records(task: str, data: Path, count: int) -> tuple[list[dict[str, Any]], str]:
    """Real records where they lie, in an order drawn once, else made-up ones; and what they are."""
    paths = [data / name for name in SOURCES[task] if (data / name).is_file()]
    if not paths:
        return list(stand_in(task, 8 * count)), "made-up records"
    found = []
    for document in (one for path in paths for one in islice(read([str(path)]), CAP)):
        try:
            found.append(SHAPED[task](document.record))
        except InputError:
            continue  # tool calls and empty messages: nothing that all systems spell alike
    random.Random(0).shuffle(found)
    return found, ", ".join(path.name for path in paths)


def make(
    folder: Path, shape: Mapping[str, Any], context: int, counts: Mapping[str, int], data: Path
) -> dict[str, Lessons]:
    """Write what is missing; returns by task what there is to learn. counts: samples of each task."""
    facts = folder / "facts.json"
    if not facts.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        found = {task: records(task, data, count) for task, count in counts.items()}
        texts = [text for some, _ in found.values() for record in some for text in _texts(record)]
        tokenizer = Tokenizer.train(texts, shape["vocab_size"])
        save(Transformer(ModelConfig(norm_eps=1e-5, max_positions=2048, **shape)), tokenizer, folder / "hf")
        (folder / "dpo.jinja").write_text(_trimmed(tokenizer.template or ""), encoding="utf-8")
        told = {
            task: _write(folder, task, some, source, tokenizer, context, counts[task])
            for task, (some, source) in found.items()
        }
        facts.write_text(json.dumps({task: vars(lessons) for task, lessons in told.items()}), encoding="utf-8")
    return {task: Lessons(**told) for task, told in json.loads(facts.read_text(encoding="utf-8")).items()}


def _texts(record: Mapping[str, Any]) -> Iterator[str]:
    for said in record.values():
        yield from (message["content"] for message in said)


def _trimmed(template: str) -> str:
    """The template, whose last piece follows every message but a last one that is an answer."""
    begin, found, rest = template.rpartition(AFTER)
    assert found, "the chat template has changed"
    return begin + found.replace("'\\n' ", f"'\\n'{TRIMMED}", 1) + rest


def _write(
    folder: Path, task: str, some: Sequence[Mapping[str, Any]], source: str, tokenizer: Tokenizer, context: int,
    count: int,
) -> Lessons:  # fmt: skip
    """The first records that fit, and the few that are checked."""
    sizes, packed = zip(*(MEASURES[task](record, tokenizer, context) for record in some))
    kept = [number for number, size in enumerate(sizes) if size][:count]
    if len(kept) < count:
        raise SystemExit(f"{source}: {len(kept)} records fit {context} tokens, wanted {count}")
    width = max(context, *(packed[number] for number in kept))
    apart = sorted((number for number in kept if 2 * packed[number] > width), key=lambda number: -packed[number])
    for name, chosen in ((task, kept), (f"check-{task}", apart[:CHECKED])):
        lines = [json.dumps(some[number], ensure_ascii=False) + "\n" for number in chosen]
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    taken = [sizes[number] for number in kept]
    rows = sum(packed[number] for number in kept) / width
    return Lessons(count, sum(taken) / count, max(taken), count / rows, width, source)


def _dialogue_size(record: Mapping[str, Any], tokenizer: Tokenizer, context: int) -> tuple[int, int]:
    """Tokens of a sample, 0 where it does not fit, and what it takes of a row."""
    ids = len(tokenizer.chat(record["messages"]).ids) if record["messages"][-1]["role"] == "assistant" else 0
    return (ids, ids) if 0 < ids <= context else (0, 0)


def _pair_size(record: Mapping[str, Any], tokenizer: Tokenizer, context: int) -> tuple[int, int]:
    try:
        store, counts = load_preferences([Document(dict(record), "records", 1)], tokenizer, context=context)
    except InputError:
        return 0, 0
    if counts["shortened"]:
        return 0, 0
    return int(pair_sizes(store, share=False)[0]), int(pair_sizes(store)[0])


MEASURES: dict[str, Callable[[Mapping[str, Any], Tokenizer, int], tuple[int, int]]] = {
    "sft": _dialogue_size, "dpo": _pair_size,
}  # fmt: skip
