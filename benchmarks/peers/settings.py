"""What is tried of each system, and in which order: one thing after another, each from the best so far."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Setting = Mapping[str, Any]
SYSTEMS = ("instar", "trl")
# what a setting is without changes
STARTS: dict[str, dict[str, dict[str, Any]]] = {
    "instar": {
        "sft": dict(precision="fp32", packing="best-fit", micro=0, compile=False, teach="assistant"),
        "dpo": dict(precision="fp32", share=True, reference="live", micro=0, compile=False),
    },
    "trl": {
        "sft": dict(
            precision="medium", layout="grouped", micro=0, attention="sdpa", pad=0, compile=False, checkpoint=False,
            teach="assistant",
        ),
        "dpo": dict(
            precision="medium", layout="grouped", micro=0, attention="sdpa", pad=0, compile=False, checkpoint=False,
            reference="live",
        ),
    },
}  # fmt: skip
COMPILED = [dict(compile=True), dict(compile=True, pad=64), dict(compile=True, pad=-1)]
LAYOUTS = [dict(layout="padded"), dict(micro=8), dict(micro=4), dict(micro=2)]
PACKED = [dict(layout="packed", micro=1), dict(layout="packed", micro=4), dict(layout="packed"), dict(layout="flat")]
# groups of changes: each is tried on the best setting so far, and on the best one of another kind
GROUPS: dict[str, dict[str, list[list[dict[str, Any]]]]] = {
    "instar": {
        "sft": [
            [{}, dict(precision="bf16")], [dict(micro=4), dict(micro=2), dict(micro=1)], [dict(compile=True)],
            [dict(packing="none")],
            [dict(teach="all")],
        ],
        "dpo": [
            [{}, dict(precision="bf16")], [dict(micro=2), dict(micro=1)], [dict(compile=True)], [dict(share=False)],
            [dict(reference="precomputed")],
        ],
    },
    "trl": {
        "sft": [
            [{}, dict(precision="fp32"), dict(precision="bf16")], [*LAYOUTS, *PACKED], [dict(attention="eager")],
            COMPILED, [dict(teach="all")],
        ],
        "dpo": [
            [{}, dict(precision="fp32"), dict(precision="bf16")], LAYOUTS, [dict(attention="eager")], COMPILED,
            [dict(reference="precomputed")],
        ],
    },
}  # fmt: skip
# what somebody gets who sets nothing
USUAL = {"trl": dict(precision="bf16", layout="padded", checkpoint=True), "instar": {}}
WAYS = ("teach", "reference")  # what systems must share to be compared
KIND = ("layout", "packing", *WAYS)  # settings that differ in these are of another kind
QUIET = {"compile": "compiled", "checkpoint": "recomputing", "share": "one prompt for both"}
WORDS = {
    ("precision", "medium"): "fp32 by oneDNN", ("packing", "best-fit"): "packed", ("packing", "none"): "unpacked",
    ("attention", "eager"): "eager attention", ("attention", "sdpa"): "", ("micro", 0): "", ("pad", 0): "",
    ("pad", -1): "padded to the context", ("reference", "live"): "reference beside", ("layout", "flat"): "padding-free",
    ("reference", "precomputed"): "reference precomputed", ("share", False): "two prompts",
    ("teach", "assistant"): "", ("teach", "all"): "every token taught",
}  # fmt: skip


def name_of(system: str, setting: Setting) -> str:
    """Example: "trl: fp32, grouped, 8 at once, compiled"."""
    parts = []
    for key, value in setting.items():
        if (key, value) in WORDS:
            parts.append(WORDS[key, value])
        elif isinstance(value, bool):
            parts.append(QUIET.get(key, key) if value else "")
        else:
            said = {"micro": f"{value} at once", "pad": f"to multiples of {value}"}
            parts.append(said.get(key, str(value)))
    return f"{system}: " + ", ".join(part for part in parts if part)


@dataclass
class Trial:
    """A setting of a system, and how it fared. rate: samples a second, 0.0 where it failed or took too long; why: then;
    rounds: what the gate told of each round that counts; ready: of what came before them."""

    system: str
    setting: Setting
    rate: float = 0.0
    why: str = ""
    ready: dict[str, Any] = field(default_factory=dict)
    rounds: list[dict[str, Any]] = field(default_factory=list)

    @property
    def name(self) -> str:
        return name_of(self.system, self.setting)

    @property
    def way(self) -> str:
        return next(self.setting[key] for key in WAYS if key in self.setting)

    @property
    def kind(self) -> tuple[Any, ...]:
        return tuple(self.setting.get(key) for key in KIND)


def search(system: str, task: str, attempt: Callable[[Trial], None], start: Sequence[Setting] = ()) -> list[Trial]:
    """Try settings, the best first in what is returned. start: try these alone, and nothing else."""
    tried: dict[str, Trial] = {}

    def add(setting: Setting) -> None:
        trial = Trial(system, setting)
        if trial.name not in tried:
            tried[trial.name] = trial
            attempt(trial)

    for setting in start:
        add(setting)
    if not start:
        for group in GROUPS[system][task]:
            for base in leaders(tried.values(), 2) or [Trial(system, STARTS[system][task])]:
                for change in group:
                    add({**base.setting, **change})
        add({**STARTS[system][task], **USUAL[system]})
    return best_first(tried.values())


def best_first(trials: Iterable[Trial]) -> list[Trial]:
    return sorted(trials, key=lambda trial: -trial.rate)


def leaders(trials: Iterable[Trial], count: int) -> list[Trial]:
    """The best of each of so many kinds, the best first."""
    found: dict[tuple[Any, ...], Trial] = {}
    for trial in best_first(trials):
        if trial.rate:
            found.setdefault(trial.kind, trial)
    return list(found.values())[:count]


def ways(trials: Iterable[Trial]) -> list[str]:
    """What trials are compared within: which tokens teach, or how a reference is got."""
    return list(dict.fromkeys(trial.way for trial in trials))


def around(trials: Sequence[Trial]) -> list[Setting]:
    """What a larger model is tried with: the best of each kind, and the best one compiled or not, with other amounts at
    once, and with the other precisions that were of use."""
    found = [trial.setting for trial in leaders(trials, 4)]
    if not found:
        return []
    useful = dict.fromkeys(trial.setting["precision"] for trial in trials if trial.rate)
    changes = [dict(compile=not found[0]["compile"]), dict(micro=1), dict(micro=0)]
    return [*found, *({**found[0], **change} for change in [*changes, *(dict(precision=name) for name in useful)])]
