"""The samples of a report, in groups of one source, step and reason, with what is to be seen of each text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .changes import ODD, Part, changes, seen, shortened
from .drawings import Key
from .phrases import Phrases

MOST = 400  # samples of a page; of more, each group loses its last ones
EACH = 4  # samples of a group
HEAD, LINES, REST = 420, 9, 160  # characters and lines shown at once, and characters that are worth a click
CUT = 2000  # characters of a text that report.json holds
LONG = 600  # characters of a detail or an address


@dataclass(frozen=True)
class Specimen:
    """One document: parts of its text are (mark, text), or (None, how many characters of it are left out)."""

    where: str
    detail: str
    parts: Sequence[tuple[Any, Any]]
    rest: Sequence[Part]
    more: int  # characters in rest


@dataclass(frozen=True)
class Group:
    """Documents that one step of one source dropped, changed or let go for one reason; count: how many there were."""

    key: Key
    anchor: str
    step_label: str
    label: str
    count: int | None
    specimens: Sequence[Specimen]

    @property
    def source(self) -> str:
        return self.key[0]

    @property
    def step(self) -> str:
        return self.key[1]

    @property
    def verdict(self) -> str:
        return self.key[2]

    @property
    def reason(self) -> str:
        return self.key[3]


def groups_of(report: Mapping[str, Any], t: Phrases) -> tuple[list[Group], int]:
    """All groups, by source, step and frequency, those kept last; and how many samples were left out."""
    drawers: dict[Key, list[Mapping[str, Any]]] = {}
    for sample in report["samples"]:
        key = (sample["source"], sample["step"], sample["verdict"], sample["reason"])
        drawers.setdefault(key, []).append(sample)
    counts = {key: _count(report, key) for key in drawers}
    names, steps = list(report["sources"]), list(report["steps"])

    def place(key: Key) -> tuple[Any, ...]:
        source, step, verdict, reason = key
        return (
            names.index(source) if source in names else len(names), source,
            verdict == "kept", steps.index(step) if step in steps else len(steps), step,
            verdict == "changed", -(counts[key] or 0), reason,
        )  # fmt: skip

    each = next((size for size in range(EACH, 1, -1) if sum(min(size, len(d)) for d in drawers.values()) <= MOST), 1)
    ordered = sorted(drawers, key=place)[:MOST]
    groups = [
        Group(
            key, f"samples-{number}", t.step(key[1]) if key[1] else t("kept_samples"),
            t("as_it_is") if key[2] == "kept" else t.reason(key[1], key[3]),
            counts[key], [specimen(sample) for sample in drawers[key][:each]],
        )
        for number, key in enumerate(ordered, 1)
    ]  # fmt: skip
    return groups, len(report["samples"]) - sum(len(group.specimens) for group in groups)


def _count(report: Mapping[str, Any], key: Key) -> int | None:
    source, step, _, reason = key
    flow = report["sources"].get(source, {}).get("flow", {})
    found = flow.get(step, {}).get("reasons", {}).get(reason)
    return found["documents"] if found else None


def specimen(sample: Mapping[str, Any]) -> Specimen:
    """What is shown of one document: the changes where it was changed, else its beginning and, behind a click, the
    rest."""
    where, detail = (_line(sample[name]) for name in ("where", "detail"))
    before, after = str(sample["before"])[:CUT], sample["after"]
    if after is not None:
        after = str(after)[:CUT]
        cut = CUT in (len(before), len(after))
        shown = shortened(changes(before, after, cut=cut))
        return Specimen(where, detail, [part for each in shown for part in _marked(each)], [], 0)
    head = _head(before)
    return Specimen(where, detail, seen(head), seen(before[len(head) :]), len(before) - len(head))


def _head(text: str) -> str:
    """What is seen of a text without a click: not so little less than all of it."""
    head = "".join(text[:HEAD].splitlines(keepends=True)[:LINES])
    return text if len(text) <= len(head) + REST and text.count("\n") < 2 * LINES else head


def _marked(part: tuple[Any, Any]) -> Sequence[tuple[Any, Any]]:
    """What is not seen keeps the mark of what was changed around it."""
    if part[0] is None:
        return [part]
    return [(f"{ODD} {part[0]}".strip() if mark == ODD else mark, text) for mark, text in seen(part[1], part[0])]


def _line(text: Any) -> str:
    """An address or a detail on one line, with what is not seen spelt out."""
    words = " ".join(str(text)[:LONG].split())
    return "".join(shown for _, shown in seen(words)) + ("…" if len(str(text)) > LONG else "")
