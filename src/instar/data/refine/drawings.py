"""The flows of a report as bars: what goes on of the text after each step, what the step took, and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .ledger import READ, TOKENS
from .phrases import Phrases

Flow = Mapping[str, Mapping[str, Any]]  # step -> what went in and out, as report.json has it
Key = tuple[str, str, str, str]  # of samples: source, step, verdict, reason


@dataclass(frozen=True)
class Drawer:
    """What all drawings share: words, the order of the steps, and where the samples of each key stand."""

    t: Phrases
    steps: Sequence[str]
    anchors: Mapping[Key, str]

    def anchor(self, source: str, step: str, reason: str, *, changed: bool) -> str:
        return self.anchors.get((source, step, "changed" if changed else "dropped", reason), "")

    def order(self, flow: Flow) -> list[str]:
        """Steps of a flow in their order; those that the report does not list stand last."""
        return [*(step for step in self.steps if step in flow), *(step for step in flow if step not in self.steps)]


@dataclass(frozen=True)
class Why:
    """One reason in one step; anchor: of its samples, "" where there are none."""

    reason: str
    label: str
    documents: int
    bytes: int
    changed: bool
    anchor: str = ""
    # shares of what went into the step, and (source, anchor, documents) of each source that has it
    of_documents: float | None = None
    of_bytes: float | None = None
    sources: Sequence[tuple[str, str, int]] = ()


@dataclass(frozen=True)
class Bar:
    """One step: shares of the text at the start that go on and that it took, and its own numbers as [in, out]."""

    step: str
    label: str
    about: str
    kept: float
    taken: float
    change: float | None  # of all text that was left before it: negative where text went
    left: int
    documents: Sequence[int]
    bytes: Sequence[int]
    tokens: Sequence[int | None] | None
    guessed: bool
    changed: int
    places: int
    whys: Sequence[Why] = field(default_factory=tuple)

    @property
    def idle(self) -> bool:
        return not self.whys and self.documents[0] == self.documents[1] and self.bytes[0] == self.bytes[1]


def ratio(part: float, whole: float) -> float | None:
    """None of nothing."""
    return part / whole if whole else None


class Ends(NamedTuple):
    """What went into the first step and came out of the last one, and which of the two is estimated."""

    start: int
    stop: int
    guessed: tuple[bool, bool]


def ends(flow: Flow, name: str) -> Ends | None:
    """Both ends of a flow in documents, bytes or tokens; None where one of them is not known."""
    known = [each for each in flow.values() if each.get(name)]
    if not known or not flow or list(flow.values())[-1] is not known[-1]:
        return None
    first, last = known[0], known[-1]
    guessed = [name == "tokens" and bool(each.get("tokens_estimated")) for each in (first, last)]
    return Ends(first[name][0], last[name][1], (guessed[0], guessed[1]))


def flow_of(flow: Flow, drawer: Drawer, source: str) -> list[Bar]:
    """The bars of a source, or of all of them where source is "": what a step takes is taken from what was left before
    it, so that sources with other rules can be drawn as one."""
    order = drawer.order(flow)
    start = left = flow[order[0]]["bytes"][0] if order else 0
    bars = []
    for step in order:
        each = flow[step]
        if step == TOKENS and not each.get("tokens"):
            continue  # no tokenizer was named, so nothing was done
        before, after = each["bytes"]
        left -= before - after
        bars.append(
            Bar(
                step, drawer.t.step(step), drawer.t.about(step),
                kept=min(1.0, max(0.0, ratio(left, start) or 0.0)),
                taken=min(1.0, max(0.0, ratio(before - after, start) or 0.0)),
                change=ratio(after - before, left + before - after),
                left=left, documents=each["documents"], bytes=each["bytes"], tokens=each.get("tokens"),
                guessed=bool(each.get("tokens_estimated")),
                changed=each.get("changed", 0), places=each.get("places", 0),
                whys=_whys(step, each, drawer, source),
            )
        )  # fmt: skip
    return bars


def _whys(step: str, each: Mapping[str, Any], drawer: Drawer, source: str) -> list[Why]:
    """Reasons of one step, the most frequent first. Those of all sources lead to the table of reasons."""
    whys = []
    for reason, found in _ordered(each):
        anchor = drawer.anchor(source, step, reason, changed=found["changed"])
        if step == READ and not found["changed"]:
            anchor = "unread"
        elif not source:
            anchor = anchor_of(step)
        whys.append(
            Why(reason, drawer.t.reason(step, reason), found["documents"], found["bytes"], found["changed"], anchor)
        )
    return whys


def anchor_of(step: str) -> str:
    """Of a step in the table of reasons."""
    return f"step-{''.join(sign if sign.isascii() and sign.isalnum() else '-' for sign in step)}"


def reasons_of(whole: Flow, flows: Mapping[str, Flow], drawer: Drawer) -> list[tuple[Bar, str, list[Why]]]:
    """(step, its anchor, its reasons over all sources) of each step that has one."""
    table = []
    for bar in flow_of(whole, drawer, ""):
        each = whole[bar.step]
        rows = [_row(bar.step, reason, found, each, flows, drawer) for reason, found in _ordered(each)]
        if rows:
            table.append((bar, anchor_of(bar.step), rows))
    return table


def _row(
    step: str, reason: str, found: Mapping[str, Any], each: Mapping[str, Any], flows: Mapping[str, Flow], drawer: Drawer
) -> Why:
    unread = step == READ and not found["changed"]
    sources = [
        (name, "unread" if unread else drawer.anchor(name, step, reason, changed=found["changed"]), own["documents"])
        for name, flow in flows.items()
        if (own := flow.get(step, {}).get("reasons", {}).get(reason))
    ]
    return Why(
        reason, drawer.t.reason(step, reason), found["documents"], found["bytes"], found["changed"],
        of_documents=ratio(found["documents"], each["documents"][0]),
        # what could not be read is no text, so it is no share of it
        of_bytes=None if unread else ratio(found["bytes"], each["bytes"][0]),
        sources=sources,
    )  # fmt: skip


def _ordered(each: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Those that dropped documents first, then those that changed some, each the most frequent first."""
    found = each.get("reasons", {}).items()
    return sorted(found, key=lambda pair: (pair[1]["changed"], -pair[1]["documents"], pair[0]))


def lost(step: str, each: Mapping[str, Any]) -> list[tuple[str, int, int]]:
    """(reason, documents, bytes) of the text that a step took: of documents dropped, and what it cut out of others."""
    reasons = _ordered(each)
    unread = step == READ
    found = [] if unread else [(name, why["documents"], why["bytes"]) for name, why in reasons if not why["changed"]]
    cut = each["bytes"][0] - each["bytes"][1] - sum(size for *_, size in found)
    changed = [(name, why["documents"]) for name, why in reasons if why["changed"]]
    return [*found, *([(*changed[0], cut)] if changed and cut > 0 else [])]


def gathered(flows: Iterable[Flow], steps: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The flows of several sources as one, for a report that has no sums."""
    whole: dict[str, dict[str, Any]] = {}
    for flow in flows:
        for step, each in flow.items():
            sums = whole.setdefault(
                step, {"documents": [0, 0], "bytes": [0, 0], "tokens": None, "changed": 0, "places": 0, "reasons": {}}
            )
            for name in ("documents", "bytes"):
                sums[name] = [one + other for one, other in zip(sums[name], each[name])]
            for name in ("changed", "places"):
                sums[name] += each.get(name, 0)
            for reason, found in each.get("reasons", {}).items():
                own = sums["reasons"].setdefault(reason, {"documents": 0, "bytes": 0, "changed": found["changed"]})
                own["documents"] += found["documents"]
                own["bytes"] += found["bytes"]
    return {
        step: whole[step] for step in sorted(whole, key=lambda step: steps.index(step) if step in steps else len(steps))
    }
