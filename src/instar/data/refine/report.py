"""report.json: what went in and out of every step, by source and by rule, from the ledgers of all tasks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ... import __version__
from ...config import to_dict
from ...config.data import DataRecipe
from ..disk import write_whole
from ..sources import REPORT
from .ledger import READ, TOKENS, Account, Faults, Flow, Ledger, Reason, Sample, from_json, key_of
from .plan import Plan


def steps_of(recipe: DataRecipe, removes: Sequence[str]) -> list[str]:
    """The steps in order: reading, all rules as they are first used, what removes copies, tokens."""
    from .rules import names

    found = [READ]
    for source in recipe.sources:
        found += [name for name in names(recipe, source) if name not in found]
    return [*found, *removes, TOKENS]


def make(
    recipe: DataRecipe, plan: Plan, ledger: Ledger, steps: Sequence[str], *, tokenizer: str = "",
    seconds: Mapping[str, float] | None = None, sampled: int | None = None,
    shards: Sequence[Mapping[str, Any]] = (), mixture: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:  # fmt: skip
    """The whole report. tokenizer: its fingerprint; mixture: rows of `Mixture.rows`."""
    whole = Account()
    for name in ledger.sources:
        for step, flow in ledger.sources[name].flow.items():
            whole.step(step).add(flow)
    parts = {row["source"]: row for row in mixture}
    sources = {}
    for source in recipe.sources:
        part = parts.get(source.name, {"epochs": source.epochs if not source.weight else None, "share": None})
        sources[source.name] = {
            "kind": source.kind, "files": plan.files(source.name), "skipped": dict(plan.skipped[source.name]),
            "bytes": plan.bytes(source.name), "epochs": part["epochs"], "share": part["share"],
            **_account(ledger.account(source.name), steps),
        }  # fmt: skip
    return {
        "name": recipe.name, "key": plan.key, "version": __version__, "tokenizer": tokenizer or None,
        "sampled": sampled, "seconds": dict(seconds or {}), "recipe": to_dict(recipe), "steps": list(steps),
        "sources": sources,
        "total": {"bytes": sum(plan.sizes), "flow": _flows(whole, steps)},
        "samples": [_shown(sample) for sample in ledger.samples],
        "shards": [dict(shard) for shard in shards],
    }  # fmt: skip


def _account(account: Account, steps: Sequence[str]) -> dict[str, Any]:
    broken = [
        {
            "reason": reason, "count": faults.count, "bytes": faults.bytes,
            "first": [{"where": f"{at}#{line}" if line else at, "detail": said} for at, line, said in faults.first],
        }
        for reason, faults in sorted(account.broken.items(), key=lambda item: (-item[1].count, item[0]))
    ]  # fmt: skip
    languages = dict(sorted(account.languages.items(), key=lambda item: (-item[1], item[0])))
    return {"languages": languages, "broken": broken, "flow": _flows(account, steps)}


def _flows(account: Account, steps: Sequence[str]) -> dict[str, Any]:
    return {step: _flow(account.flow[step]) for step in steps if step in account.flow}


def _flow(flow: Flow) -> dict[str, Any]:
    reasons = sorted(flow.reasons.items(), key=lambda item: (-item[1].documents, item[0]))
    return {
        "documents": flow.documents, "bytes": flow.bytes, "tokens": flow.tokens(), "tokens_estimated": flow.estimated,
        "probed": [flow.probed_bytes, flow.probed_tokens], "changed": flow.changed, "places": flow.places,
        "reasons": {name: asdict(reason) for name, reason in reasons},
    }  # fmt: skip


def _shown(sample: Sample) -> dict[str, Any]:
    return {name: value for name, value in asdict(sample).items() if name != "key"}


def ledger_of(report: Mapping[str, Any], steps: Iterable[str]) -> Ledger:
    """The ledger that a report was made of, as far as it is about these steps: for a run that goes on from there."""
    sources = {}
    for name, source in report["sources"].items():
        sources[name] = asdict(
            Account(
                {step: _flow_of(data) for step, data in source["flow"].items() if step in steps},
                {data["reason"]: _faults_of(data) for data in source["broken"]},
                source["languages"],
            )
        )
    samples = [sample | {"key": key_of(sample["where"])} for sample in report["samples"]]
    return from_json({"sources": sources, "samples": samples})


def _flow_of(data: Mapping[str, Any]) -> Flow:
    reasons = {name: Reason(**reason) for name, reason in data["reasons"].items()}
    probed_bytes, probed_tokens = data["probed"]
    return Flow(
        data["documents"], data["bytes"], probed_bytes, probed_tokens, data["changed"], data["places"], reasons
    )  # fmt: skip


def _faults_of(data: Mapping[str, Any]) -> Faults:
    first = []
    for each in data["first"]:
        at, mark, number = each["where"].rpartition("#")
        whole = not (mark and number.isdigit())
        first.append((each["where"] if whole else at, 0 if whole else int(number), each["detail"]))
    return Faults(data["count"], data["bytes"], first)


def save(out: Path, report: Mapping[str, Any], say: Callable[[str], None]) -> None:
    """report.html, then report.json, with which a run is finished."""
    from .page import write_report

    write_report(out, dict(report), say)
    write_whole(out / REPORT, json.dumps(report, ensure_ascii=False, indent=1) + "\n")


def left(report: Mapping[str, Any]) -> int:
    """Documents that came out of the last step of their source."""
    flows = [list(source["flow"].values()) for source in report["sources"].values()]
    return sum(flow[-1]["documents"][1] for flow in flows if flow)


def totals(report: Mapping[str, Any]) -> dict[str, int]:
    """What there is in the end: documents, bytes of their texts, and tokens in the shards."""
    last = [list(source["flow"].values())[-1] for source in report["sources"].values() if source["flow"]]
    sums = {name: sum(flow[name][1] for flow in last) for name in ("documents", "bytes")}
    return sums | {"tokens": sum(shard["tokens"] for shard in report["shards"])}


def reasons(report: Mapping[str, Any], most: int = 3) -> str:
    """Why documents went, the commonest reasons first. Example: "gopher: short 8, read: binary 2"."""
    return ", ".join(f"{step}: {reason} {count:,}" for step, reason, count in _gone(report["total"]["flow"])[:most])


def first_fault(report: Mapping[str, Any]) -> str:
    """Of what could not be read, one place with what was found there, as words before others; "" where all was read."""
    faults = [each for source in report["sources"].values() for each in source["broken"]]
    if not faults:
        return ""
    first = max(faults, key=lambda each: each["count"])["first"][0]
    return f"{first['where']}: {first['detail']}; "


def _gone(flow: Mapping[str, Any]) -> list[tuple[str, str, int]]:
    found = [
        (step, reason, each["documents"])
        for step, data in flow.items()
        for reason, each in data["reasons"].items()
        if not each["changed"]
    ]
    return sorted(found, key=lambda item: (-item[2], item[0], item[1]))


def rows(report: Mapping[str, Any]) -> Iterable[list[Any]]:
    """For each source, and for all where there are several: documents, megabytes and tokens in and out, top reasons."""
    sources = dict(report["sources"])
    for name, source in sources.items():
        yield [name, *_ends(source["flow"]), _why(source["flow"])]
    if len(sources) > 1:
        each = [list(_ends(source["flow"])) for source in sources.values()]
        sums = [sum(values) if None not in values else None for values in zip(*each)]
        yield ["all", *sums, _why(report["total"]["flow"])]


def _ends(flow: Mapping[str, Any]) -> tuple[Any, ...]:
    steps = list(flow.values())
    if not steps:
        return (0, 0, 0.0, 0.0, None)
    first, last = steps[0], steps[-1]
    return (
        first["documents"][0], last["documents"][1], first["bytes"][0] / 1e6, last["bytes"][1] / 1e6,
        last["tokens"][1] if last["tokens"] else None,
    )  # fmt: skip


def _why(flow: Mapping[str, Any]) -> str:
    return ", ".join(f"{step}: {reason} {count:,}" for step, reason, count in _gone(flow)[:2])
