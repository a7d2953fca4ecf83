"""From what was measured to the tables: medians, shares of the machine's limits, and what was asked for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from instar.config import ModelConfig
from instar.eval.limits import Limits, key_bytes, multiplied, prompt_operations, step_operations

from .worker import Contender

# bytes that a weight takes, and one of the head: blocks of 32 with a scale of two bytes in llama.cpp, whose head stays
# finer in Q4_0 (Q6_K, 210 bytes for 256)
BYTES = {"fp32": (4.0, 4.0), "bf16": (2.0, 2.0), "int8": (1.0, 1.0), "int4": (0.5, 0.5)}
LLAMA_BYTES = BYTES | {"int8": (34 / 32, 34 / 32), "int4": (18 / 32, 210 / 256)}
KEY_BYTES = {("transformers", "bf16"): 2, ("llama.cpp", "fp32"): 2, ("llama.cpp", "bf16"): 2, ("llama.cpp", "int8"): 2}
KEY_BYTES |= {("llama.cpp", "int4"): 2}  # fp16 by default, whatever the weights are
# what was asked for: task, ours, theirs, at least
GOALS = (
    ("one", "instar bf16", "transformers", 1.7),
    ("one", "instar bf16", "transformers bf16", 1.7),
    ("many", "instar bf16", "transformers", 2.0),
    ("many", "instar bf16", "transformers bf16", 2.0),
    ("one", "instar int8", "instar bf16", 1.5),
    ("prompt", "instar", "transformers", 1.0),
    ("beam", "instar", "transformers", 2.0),
)


@dataclass
class Results:
    """What one contender did with one model. samples: by task, what each round told; whole: the same of a batch whose
    prompts count too; notes: by task, or "" for all, why there is no figure."""

    contender: Contender
    loaded: dict[str, Any] = field(default_factory=dict)
    samples: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    def middle(self, task: str, what: str) -> float | None:
        """The median over rounds."""
        known = [sample[what] for sample in self.samples.get(task, []) if sample.get(what)]
        return median(known) if known else None


@dataclass(frozen=True)
class Setting:
    """What was asked of everybody."""

    config: ModelConfig
    limits: Limits
    prompt: int
    new: int
    streams: int
    beams: int

    def figures(self, results: Results) -> dict[str, Any]:
        """Tokens a second and shares of the limit by task, and memory."""
        first, total = results.middle("prompt", "total"), results.middle("beam", "total")
        many = results.middle("many", "total")
        rates = {
            "prompt": first and self.prompt / first,
            "one": results.middle("one", "rate"),
            "many": results.middle("many", "rate"),
            "whole": many and self.streams * self.new / many,
            "beam": total and self.new / total,
        }
        shares = {
            "prompt": first and self._floor(results, 1, self.prompt) / first,
            "one": self._step_share(results, 1, rates["one"]),
            "many": self._step_share(results, self.streams, rates["many"]),
            "beam": total and rates["beam"] and self._step(results, self.beams) * rates["beam"],
        }
        return {
            "system": results.contender.system, "precision": results.contender.precision, "rates": rates,
            "shares": shares, "memory": self._memory(results), "notes": results.notes,
            "ways": {task: samples[-1]["way"] for task, samples in results.samples.items() if samples[-1].get("way")},
        }  # fmt: skip

    def _weights(self, contender: Contender, loaded: dict[str, Any]) -> tuple[float, float]:
        """Bytes of all weights, and of those that a step reads: all but the embedding's."""
        blocks, head = multiplied(self.config)
        table = LLAMA_BYTES if contender.system == "llama.cpp" else BYTES
        block_bytes, head_bytes = table[contender.precision]
        read = loaded.get("read") or blocks * block_bytes + head * head_bytes
        return loaded.get("weights") or read + head * block_bytes, read

    def _keys(self, contender: Contender, loaded: dict[str, Any], context: float) -> float:
        itemsize = loaded.get("key") or KEY_BYTES.get((contender.system, contender.precision), 4)
        return key_bytes(self.config, context, itemsize)

    def _step(self, results: Results, streams: int) -> float:
        """The least seconds of a step."""
        contender, context = results.contender, self.prompt + self.new / 2
        read = self._weights(contender, results.loaded)[1] + streams * self._keys(contender, results.loaded, context)
        return self.limits.floor(read, step_operations(self.config, streams, context), contender.precision)

    def _step_share(self, results: Results, streams: int, rate: float | None) -> float | None:
        return rate and self._step(results, streams) * rate / streams

    def _floor(self, results: Results, streams: int, length: int) -> float:
        """The least seconds of reading prompts."""
        read = self._weights(results.contender, results.loaded)[1]
        operations = streams * prompt_operations(self.config, length)
        return self.limits.floor(read, operations, results.contender.precision)

    def _memory(self, results: Results) -> dict[str, float | None]:
        """load: what loading took at most over the weights; load_own: the same without files mapped into memory; rest:
        bytes of the process while many streams are answered, less weights and keys."""
        loaded = results.loaded.get("memory")
        weights, _ = self._weights(results.contender, results.loaded)
        peak = max((sample["memory"]["peak"] for sample in results.samples.get("many", [])), default=None)
        keys = self.streams * self._keys(results.contender, results.loaded, self.prompt + self.new)
        return {
            "weights": weights,
            "load": loaded and loaded["peak"] and (loaded["peak"] - loaded["before"]) / weights,
            "load_own": loaded and loaded["peak_own"] and (loaded["peak_own"] - loaded["before_own"]) / weights,
            "rest": peak and peak - weights - keys,
        }


def agreement(results: Sequence[Results]) -> dict[str, str]:
    """How many of the first tokens of one stream are those of the first contender that computes in fp32."""
    said = {r.contender: r.samples["one"][0]["ids"] for r in results if r.samples.get("one")}
    right = next((ids for contender, ids in said.items() if contender.precision == "fp32"), [])
    alike = {contender: _shared(ids, right) for contender, ids in said.items()}
    return {str(contender): f"{count} of {len(right)}" for contender, count in alike.items()}


def _shared(one: Sequence[int], other: Sequence[int]) -> int:
    """How long two texts are the same."""
    pairs = zip(one, other)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def goals(figures: Sequence[dict[str, Any]]) -> list[list[str]]:
    """What was asked for and what was found, a row each: at one precision or at the best of all, as is named."""
    rows = []
    for task, ours, theirs, least in GOALS:
        mine, other = _best(figures, task, ours), _best(figures, task, theirs)
        pairs = zip((ours, theirs), (mine, other))
        found = [f"{name}: {rate:,.1f}" if rate else f"{who}: no figure" for who, (name, rate) in pairs]
        ratio = f"{mine[1] / other[1]:.2f}" if mine[1] and other[1] else ""
        rows.append([TASKS[task], *found, ratio, f"{least:.1f}"])
    return rows


TASKS = {
    "prompt": "prompt",
    "one": "one stream",
    "many": "many streams",
    "whole": "the same, prompts too",
    "beam": "beam",
}


def _best(figures: Iterable[dict[str, Any]], task: str, who: str) -> tuple[str, float]:
    """The fastest of those that are meant by a system, or a system and a precision."""
    names = {f"{f['system']} {f['precision']}": f["rates"][task] or 0.0 for f in figures}
    meant = {name: rate for name, rate in names.items() if name == who or name.split()[0] == who}
    return max(meant.items(), key=lambda pair: pair[1], default=("", 0.0))
