"""The stages of a life that train, each a source of batches and an objective on the one loop: pretrain, sft, classify,
reward, dpo.

A stage reads folders, writes a folder that any tool of the field can load, and returns a report. It prints nothing:
what it has to say goes to `say`, and every number it says stands in the report.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing, suppress
from functools import partial
from typing import Any

import torch

from ..config import InputError, Interrupted, to_dict
from ..config.options import (
    ClassifyOptions,
    DpoOptions,
    PretrainOptions,
    RewardOptions,
    SftOptions,
)
from ..data.loader import Loader
from ..data.pairs import Pairs
from ..data.refine.mixture import in_words as mixture_in_words
from ..hub.families import OWN, layout_of
from ..infer.text import generate
from ..model.transformer import Transformer
from ..text.tokenizer import Tokenizer
from .adapting import in_words, lighten, sizes
from .alignment import plan_dpo, plan_reward
from .budget import MARGIN, fitting, steps_of
from .callbacks import Evaluate, HeldOut, MetricsLog, Progress, Samples, Say, SkippedLog, in_nats
from .checkpoint import Checkpoints
from .dist import Alone, Ranks, join, local_device
from .inside import Inside
from .jsonl import forget_after, last_losses
from .machine import DTYPES, describe, fast_fp32, pick_device, pick_dtype
from .objectives import Objective, cross_entropy
from .page import PAGE, write_page
from .plan import Plan, plan_classify, plan_pretrain, plan_sft
from .run import CHECKPOINTS, INSIDE, METRICS, SAMPLES, SKIPPED, RunFolder, now, stop_on_signal, versions
from .space import told
from .trainer import Trainer

Report = dict[str, Any]
# Options that change nothing about what is learnt: a run may go on with other values.
FREE = {"out", "device", "dtype", "quiet", "json", "resume", "evaluate", "checkpoint", "model", "tokenizer"}
FREE_TRAIN = {"micro_tokens", "workers", "compile", "recompute", "loss_chunk"}
PROMPT, ANSWER = 12, 48  # tokens of a sample
SHOWN = 24  # tokens of a piece that is told
FULL = 4  # bytes of a weight, a gradient or a moment: all are kept in fp32
RECENT = 20  # steps whose mean is the final training loss


def pretrain(options: PretrainOptions, *, say: Say | None = None) -> Report:
    """Train a new model on texts; returns what it achieved. Raises InputError, and Interrupted after a signal."""
    return run(options, plan_pretrain, say)


def sft(options: SftOptions, *, say: Say | None = None) -> Report:
    """Teach a model to answer from dialogues; returns what it achieved. Raises InputError, and Interrupted after a
    signal."""
    return run(options, plan_sft, say)


def classify(options: ClassifyOptions, *, say: Say | None = None) -> Report:
    """Teach a model labels; returns what it achieved. Raises InputError, and Interrupted after a signal."""
    return run(options, plan_classify, say)


def reward(options: RewardOptions, *, say: Say | None = None) -> Report:
    """Teach a model how good an answer is, from pairs; returns what it achieved. Raises InputError, and Interrupted
    after a signal."""
    return run(options, plan_reward, say)


def dpo(options: DpoOptions, *, say: Say | None = None) -> Report:
    """Make preferred answers likelier than others; returns what it achieved. Raises InputError, and Interrupted after a
    signal."""
    return run(options, plan_dpo, say)


def run(
    options: Any, plan_of: Callable[[Any], Plan], say: Say | None = None, kind: type[Stage] | None = None
) -> Report:
    """One stage from its options to its report, under torchrun as one of several. kind: of the stage, where it is not
    `Stage` itself."""
    say = say or _silent
    folder = RunFolder(options.out, resume=options.resume)
    if folder.finished:
        say(f"{folder.path} is finished; nothing is left to do")
        with suppress(InputError), folder.held():  # killed at its very end, it has left its lock and no page
            if not (folder / PAGE).exists():
                write_page(folder.path, say)
        return folder.read_report()
    folder.refuse_held()
    plan = plan_of(options)
    device = local_device(pick_device(plan.options.device))
    ranks = join(device)
    with ExitStack() as stack:
        stack.callback(ranks.close)
        if ranks.rank == 0:
            stack.enter_context(folder.held())
            stack.callback(write_page, folder.path, say)  # of a run that was stopped, or broke, as of one that ended
        return (kind or Stage)(plan, folder, device, ranks, say if ranks.rank == 0 else _silent).run()


def stage_of(options: Any, plan_of: Callable[[Any], Plan], *, say: Say) -> Stage:
    """A stage as this process alone would run it, for a forecast; nothing is written. Raises InputError."""
    folder = RunFolder(options.out, resume=options.resume)
    return Stage(plan_of(options), folder, local_device(pick_device(options.device)), Alone(), say)


class Stage:
    """One run of one plan on this machine."""

    def __init__(self, plan: Plan, folder: RunFolder, device: torch.device, ranks: Ranks, say: Say) -> None:
        self.plan, self.folder, self.device, self.ranks, self.say = plan, folder, device, ranks, say
        self.options, self.train = plan.options, plan.options.train
        self.dtype = self._pick_dtype()
        self.task = plan.task
        self.learnt, self.kept = self.task.store.split(self.options.held_out)
        self.loader = self._loader()
        self.steps = steps_of(self.train, self.loader)
        self.objective = self._objective()

    def run(self) -> Report:
        """Train, measure, save. Raises Interrupted, after saving, where a signal came."""
        self.model = self.born()
        if self.task.begin is not None:
            self.task.begin(self)
        quiet = self.options.quiet or self.ranks.rank > 0
        progress = Progress(self.plan.stage, self.say, live=False if quiet else None)
        recent: deque[float] = deque(maxlen=RECENT)
        evaluate = Evaluate(
            self._held_out(), self.options.evaluate.every, progress.say, tell=self.task.tell or in_nats
        )  # fmt: skip
        with ExitStack() as stack:
            stack.callback(self.loader.close)
            stack.enter_context(fast_fp32(self.device))
            trainer = Trainer(
                self.model, self.objective, self.loader, self.train, steps=self.steps, ranks=self.ranks,
                stop=stack.enter_context(stop_on_signal()), say=progress.say,
            )  # fmt: skip
            self.steps = trainer.steps = self._affordable(trainer)
            start = self._begin(trainer, checkpoints := self._checkpoints(progress.say))
            trainer.on_step = [*self._watchers(), evaluate, lambda _, record: recent.append(record["loss"] or math.nan)]
            if self.ranks.rank == 0:
                forget_after(start, self.folder / SAMPLES)
                forget_after(start, self.folder / SKIPPED)
                forget_after(start, self.folder / INSIDE)
                log = stack.enter_context(closing(MetricsLog(self.folder / METRICS, start, progress.say)))
                recent.extend(last_losses(self.folder / METRICS, RECENT))
                skipped = SkippedLog(self.folder / SKIPPED, self._tell, progress.say)
                trainer.on_step += [samples := self._samples(progress.say), log, skipped]
                if self.task.before and not start:
                    samples.take(trainer)
                if self.options.evaluate.inside:
                    trainer.on_step.append(inside := self._inside(evaluate, samples, progress.say))
                    if not start:
                        inside.take(trainer)
            trainer.on_step += [stack.enter_context(checkpoints), stack.enter_context(progress)]
            trainer.fit()
        if trainer.stopped:
            raise Interrupted(
                f"stopped at step {trainer.step} of {self.steps}, saved in {self.folder.path}; "
                "the same command with --resume goes on"
            )
        report = self._report(trainer, evaluate, recent)
        if self.ranks.rank == 0:
            with told(self.folder.path, FULL * self.model.size()):
                self.plan.save(self._spoken(self.model), self.folder.path)
                self.folder.write_report(report)
        return report

    def born(self) -> Transformer:
        """The model as training takes it up."""
        torch.manual_seed(self.options.seed + self.ranks.rank)  # dropout's draws
        model = self.plan.model().to(self.device)
        model.compute = self.dtype
        lighten(model, self.dtype)
        return model

    def _watchers(self) -> list[Callable[[Trainer, Any], None]]:
        """What looks at a step before everything else does."""
        return []

    def _spoken(self, model: Any) -> Transformer:
        """Of what is trained, what is saved as a model."""
        return model

    def _begin(self, trainer: Trainer, checkpoints: Checkpoints) -> int:
        """Write down what was decided, say it, and go on from a checkpoint where there is one; returns its step."""
        start = checkpoints.restore(trainer) if self.folder.resume else 0
        checkpoints.check_room(trainer)
        if self.ranks.rank == 0 and not start:
            self.folder.write_recipe(self._recipe())
        counts = self.task.counts
        numbers = {name: value for name, value in counts.items() if isinstance(value, (int, float)) and value}
        figures = ", ".join(f"{value:,} {name.replace('_', ' ')}" for name, value in numbers.items())
        for note in self.task.notes:
            self.say(note)
        self.say(f"data: {figures}; {len(self.kept):,} documents with {self.kept.total:,} tokens held out")
        if mixture := counts.get("mixture"):
            self.say(f"one pass: {mixture_in_words(mixture)}")
        self.say(
            f"model: {in_words(self.model)}; {self.steps:,} steps of "
            f"{self._step()} in {_word(self.dtype)} on {self.device}"
            + (f", going on from step {start:,}" if start else "")
        )
        if layout_of(self.model.config) is OWN:
            self.say(
                "no family of transformers has this shape; the folder gets our own layout, which instar alone reads"
            )
        return start

    def _affordable(self, trainer: Trainer) -> int:
        """The steps that fit the minutes. What was decided once holds for all ranks and for a run that goes on."""
        if not self.train.minutes:
            return self.steps
        if self.folder.resume and (before := self.folder.read_recipe().get("steps")):
            return int(before)
        seconds = self._seconds_a_step(trainer)
        first_says = torch.tensor(seconds if self.ranks.rank == 0 else 0.0, device=self.device)
        self.ranks.add([first_says])
        seconds = float(first_says)
        steps = fitting(self.train, self.steps, seconds)
        if steps < self.steps:
            self.say(
                f"{self.steps:,} steps would take {self.steps * seconds * MARGIN / 60:.1f} minutes on this machine; "
                f"{steps:,} are taken, which fit train.minutes={self.train.minutes:g}"
            )
        return steps

    def _seconds_a_step(self, trainer: Trainer) -> float:
        return trainer.seconds_a_step()

    def _step(self) -> str:
        """What one optimizer step reads, in words."""
        return f"{self.loader.batch_rows} x {self.width} tokens"

    def _pick_dtype(self) -> torch.dtype:
        """What was measured once holds for all ranks, and for a run that goes on: a busy machine measures otherwise."""
        before = self.folder.read_recipe().get("compute") if self.folder.resume else None
        name = before if before and self.options.dtype == "auto" else self.options.dtype
        short = pick_dtype(str(name), self.device) == torch.bfloat16
        first_says = torch.tensor(float(short and self.ranks.rank == 0), device=self.device)
        self.ranks.add([first_says])
        return torch.bfloat16 if first_says.item() else torch.float32

    def _objective(self) -> Objective:
        if self.task.objective is not None:
            return self.task.objective(self.train)
        options = self.train
        return partial(cross_entropy, head=self.task.head, chunk=options.loss_chunk, smoothing=options.smoothing)

    def _loader(self) -> Loader:
        options = self.train
        collate = self.task.collate(self.learnt, options.compile)
        rows = self.task.rows(self.learnt)
        self.width = getattr(rows, "width", options.context)  # rows of pairs may be wider than one text
        micro = max(1, options.micro_tokens // self.width) if options.micro_tokens else 0
        return Loader(
            rows, collate, batch_rows=max(1, options.batch_tokens // self.width),
            micro_rows=getattr(collate, "rows_at_once", micro),
            seed=self.options.seed, rank=self.ranks.rank, world=self.ranks.world, workers=options.workers,
        )  # fmt: skip

    def _held_out(self) -> HeldOut | None:
        """The rows that are measured, evenly spread over all that are held out; None where nothing is."""
        rows = self.task.rows(self.kept) if len(self.kept) else []
        count = min(len(rows), self.options.evaluate.rows or len(rows))
        if not count:
            return None
        chosen = [rows[number * len(rows) // count] for number in range(count)]
        return HeldOut(chosen, self.task.collate(self.kept, False), self.loader.micro_rows)

    def _samples(self, say: Say) -> Samples:
        store = self.kept if len(self.kept) else self.learnt
        count = min(self.options.evaluate.samples, len(store)) if self.task.head == "lm" else 0
        prompts = [_prompt(store, number * len(store) // count) for number in range(count)]  # of a pair, the source
        room = self.model.config.max_positions - ANSWER
        shown = [(self.plan.tokenizer.decode(ids), ids) for ids in prompts if len(ids) <= room]
        return Samples(
            shown,
            partial(_speak, tokenizer=self.plan.tokenizer),
            self.folder / SAMPLES,
            self.options.evaluate.every,
            say,
        )

    def _inside(self, evaluate: Evaluate, samples: Samples, say: Say) -> Inside:
        held_out = evaluate.held_out if self.task.head in ("lm", "masked") else None
        options = self.options.evaluate
        return Inside(
            held_out if isinstance(held_out, HeldOut) else None, options.inside_rows, self.plan.tokenizer, samples,
            self.folder / INSIDE, options.inside, say, self._spoken,
        )  # fmt: skip

    def _tell(self, row: int) -> dict[str, Any]:
        """What stands in a row: its pieces (document, start, stop), and how each begins."""
        pieces = self.loader.rows[row]
        texts = [self.learnt.tokens(document, start, min(stop, start + SHOWN)) for document, start, stop in pieces]
        return {"row": row, "pieces": pieces, "texts": [self.plan.tokenizer.decode(ids.tolist()) for ids in texts]}

    def _checkpoints(self, say: Say) -> Checkpoints:
        return Checkpoints(
            self.folder / CHECKPOINTS, every=self.options.checkpoint.every, keep=self.options.checkpoint.keep,
            asynchronous=self.options.checkpoint.asynchronous, identity=self._identity(),
            export=lambda model, folder: self.plan.save(self._spoken(model), folder), say=say,
        )  # fmt: skip

    def _identity(self) -> dict[str, Any]:
        """What a run must share with the one it goes on from."""
        options = to_dict(self.options)
        shape = to_dict(self.model.config)
        lasting = {name: value for name, value in options.items() if name not in FREE}
        lasting["train"] = {name: value for name, value in options["train"].items() if name not in FREE_TRAIN}
        return {
            "stage": self.plan.stage, "options": lasting, "model": shape, "compute": _word(self.dtype),
            "steps": self.steps, **self.inputs(),
        }  # fmt: skip

    def inputs(self) -> dict[str, Any]:
        """What this run is made of, by hash."""
        return {
            "data": self.plan.fingerprint,
            "tokenizer": self.plan.tokenizer.fingerprint,
            "parent": self.plan.parent.get("sha256"),
        }

    def _recipe(self) -> dict[str, Any]:
        """instar.yaml: enough to make this run again and to know where it came from."""
        return {
            "stage": self.plan.stage, "seed": self.options.seed, "compute": _word(self.dtype), "steps": self.steps,
            "started": now(), "parameters": self.model.size(),
            "options": to_dict(self.options), "model": to_dict(self.model.config), "versions": versions(),
            "hardware": describe(self.device) | {"ranks": self.ranks.world}, "parent": dict(self.plan.parent),
            "data": {"fingerprint": self.plan.fingerprint, **self.task.counts},
            "tokenizer": {"fingerprint": self.plan.tokenizer.fingerprint},
        }  # fmt: skip

    def _report(self, trainer: Trainer, evaluate: Evaluate, recent: Sequence[float]) -> Report:
        losses = [loss for loss in recent if math.isfinite(loss)]
        return {
            "stage": self.plan.stage, **sizes(self.model), "steps": trainer.step,
            "skipped_steps": trainer.skipped, "tokens": trainer.tokens, self.task.unit: trainer.targets,
            "training_loss": sum(losses) / len(losses) if losses else None,
            **self._measured(trainer, evaluate),
            "seconds": round(trainer.seconds, 1),
            "tokens_per_second": round(trainer.tokens / max(trainer.seconds, 1e-9), 1),
            "compute": _word(self.dtype), "device": str(self.device), "finished": now(), "data": dict(self.task.counts),
        }  # fmt: skip

    def _measured(self, trainer: Trainer, evaluate: Evaluate) -> Report:
        """Held-out figures of the finished model. Bits per byte charges the first token of a row, which nothing
        predicts, like the others; of a stage where only some tokens teach it would mean nothing."""
        means = evaluate.measure(trainer)
        if means is None:
            self.say("nothing is held out, so there is no held-out loss; raise held_out or give more documents")
            return {"held_out_loss": None}
        if self.task.figures is not None:
            return self.task.figures(means)
        parts = getattr(self.kept, "parts", None) if self.task.head == "lm" and self.model.encoder is None else None
        whole = parts and self.kept.bytes and all(part.teaches is None for part in parts)
        bits = means["loss"] / math.log(2) * self.kept.total / self.kept.bytes if whole else None
        return {
            "held_out_loss": means["loss"], "perplexity": math.exp(means["loss"]), "bits_per_byte": bits,
            "held_out_accuracy": means["accuracy"], "held_out_targets": means["targets"],
        }  # fmt: skip


def _prompt(store: Any, document: int) -> list[int]:
    """What a sample continues: a dialogue up to the first reply, a text up to a few tokens; a source is read whole."""
    if isinstance(store, Pairs):
        return [int(token) for token in store.sources.tokens(document)]
    ids = store.tokens(document)
    teaches = store.teaches(document, 0, len(ids))
    first = min(PROMPT, max(1, len(ids) // 2)) if teaches is None else int(teaches.argmax())
    return [int(token) for token in ids[:first]]


def _speak(model: Transformer, prompts: Sequence[Sequence[int]], *, tokenizer: Tokenizer) -> list[str]:
    return generate(model, tokenizer, prompts, max_new_tokens=ANSWER, strategy="greedy")


def _word(dtype: torch.dtype) -> str:
    return next(word for word, kind in DTYPES.items() if kind == dtype)


def _silent(text: str) -> None:
    pass
