"""Our own stages, for benchmarks/alignment.py: runs in our own venv.

It is `instar sft` and `instar dpo` themselves; only the loop's step is wrapped, to count what it read and to wait at
the gate. A setting has

    precision: fp32 or bf16
    packing (sft): best-fit, or none, each sample in a row of its own
    teach (sft): assistant or all
    share, reference (dpo): as the options; live is their `copy`
    micro: rows of one pass; 0 takes the whole step at once
    compile: blocks are compiled
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from gate import Gate, run

from instar.batch import Batch
from instar.config.options import EvaluateOptions, SftOptions, TrainOptions
from instar.config.options.alignment import DpoOptions
from instar.data.loader import Loader
from instar.data.preferences import Preferences
from instar.train import reference, stages
from instar.train.trainer import Record, Trainer

FOR_EVER = 1_000_000
TOLD = 16  # steps whose samples are told beforehand


def samples_of(source: Loader, step: int) -> list[int]:
    """The samples of a step, each by its number in the store."""
    return [piece[0] for row in source.row_ids(step) for piece in source.rows[row]]


def sizes(store: Any) -> Any:
    """The tokens of each sample; of a pair those of both answers, each with its prompt."""
    if isinstance(store, Preferences):
        return store.lengths + store.bounds[:, 1] - store.bounds[:, 0]
    return store.lengths


def facts(source: Loader) -> dict[str, Any]:
    """What is trained on, so that both sides can be seen to learn the same, and in which order."""
    store: Any = source.collate.store  # type: ignore[attr-defined]
    taught = sum(int(store.teaches(number, 0, int(length)).sum()) for number, length in enumerate(store.lengths))
    order = [samples_of(source, step) for step in range(TOLD)]
    return {"held": int(sizes(store).sum()), "taught": taught, "order": order}


@contextmanager
def gated(gate: Gate) -> Iterator[None]:
    """Inside, every training step waits at the gate and tells what it read."""
    step, draw, refer = Trainer.advance, Loader.__next__, reference.precompute
    computed = 0
    referring = 0.0

    def counted(source: Loader) -> Batch:
        nonlocal computed
        batch = draw(source)
        computed += batch.tokens.numel()
        return batch

    def advance(trainer: Trainer) -> Record:
        nonlocal computed
        source: Any = trainer.source
        if not trainer.step:
            gate.ready(**facts(source), referring=referring)
        computed = 0
        record = step(trainer)
        read = samples_of(source, trainer.step - 1)
        tokens = int(sizes(source.collate.store)[read].sum())
        gate.passed(record["loss"], len(read), tokens, computed)
        return record

    def timed(*inputs: Any, **named: Any) -> Any:
        nonlocal referring
        started = time.perf_counter()
        found = refer(*inputs, **named)
        referring += time.perf_counter() - started
        return found

    Trainer.advance, Loader.__next__, reference.precompute = advance, counted, timed  # type: ignore[method-assign]
    try:
        yield
    finally:
        Trainer.advance, Loader.__next__, reference.precompute = step, draw, refer  # type: ignore[method-assign]


def loop(request: dict[str, Any], rows: int, width: int) -> TrainOptions:
    """What SFT and DPO have in common. rows: of one step; width: the tokens of each."""
    setting = request["setting"]
    return TrainOptions(
        steps=FOR_EVER, context=request["context"], batch_tokens=rows * width, micro_tokens=setting["micro"] * width,
        lr=request["lr"], weight_decay=0.0, schedule="constant", warmup=0.0, compile=setting["compile"],
    )  # fmt: skip


def common(request: dict[str, Any]) -> dict[str, Any]:
    return dict(
        model=request["path"], data=(request["data"],), out=request["out"], held_out=0.0, quiet=True, device="cpu",
        dtype=request["setting"]["precision"], evaluate=EvaluateOptions(samples=0),
    )  # fmt: skip


def sft(request: dict[str, Any]) -> None:
    packing, teach = (request["setting"][name] for name in ("packing", "teach"))
    rows = request["rows"] if packing == "best-fit" else request["samples"]
    options = SftOptions(
        **common(request),
        packing=packing,
        teach=teach,
        train=loop(request, rows, request["context"]),
    )
    stages.sft(options, say=told)


def dpo(request: dict[str, Any]) -> None:
    setting = request["setting"]
    options = DpoOptions(
        **common(request), beta=request["beta"], share=setting["share"],
        reference="copy" if setting["reference"] == "live" else setting["reference"],
        train=loop(request, request["rows"], request["width"]),
    )  # fmt: skip
    stages.dpo(options, say=told)


def told(text: str) -> None:
    print(text, flush=True)


STAGES: dict[str, Callable[[dict[str, Any]], None]] = {"sft": sft, "dpo": dpo}


def train(request: dict[str, Any], gate: Gate) -> None:
    """Train until nobody wants more steps."""
    with gated(gate):
        STAGES[request["task"]](request)


if __name__ == "__main__":
    run(train)
