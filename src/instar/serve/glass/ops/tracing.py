"""A pass over a text that is kept for all views: made, told, and changed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import torch

from ....config import InputError
from ....infer.weights import logprob
from ....model.transformer import Transformer
from ....probe.checks import (
    future_is_zero,
    lens_is_output,
    no_hooks,
    norm_is_fresh,
    rows_add_up,
    unwatched,
    values_give_output,
    watched_is_unwatched,
    widest,
)  # fmt: skip
from ....probe.intervene import Which, ablated, without_positions
from ....probe.look import Look
from ....probe.panel import Check, Panel
from ....probe.subject import Subject
from ..box import Box
from ..index import caps_of, kind_of
from ..stock import Held
from ..traces import Kept, estimate
from .question import refusing
from .reading import question_of, read_asked, tokens_of

WHAT = ("text", "ids", "messages", "chat", "target", "target_ids")  # of what is asked, for another model to read
LOGITS = 1 << 24  # that exist at once
TWICE = 2e10  # operations of a pass that is run once more for its proof; larger ones are proven when it is asked for
NUMBERS = 1 << 25  # weights of the layer that is proven at once
FLAT = 0.05  # how far the loss lies from ln V, as a share of it, where a model knows nothing


@refusing
def trace(box: Box, args: Mapping[str, Any]) -> dict[str, Any]:
    """{model, adapter, text | ids | messages, chat, target} -> a pass, kept, and told."""
    held = box.stock.get(args["model"], args.get("adapter", ""))
    return told(box, traced(box, held, args))


@refusing
def traced_again(box: Box, args: Mapping[str, Any]) -> dict[str, Any]:
    """{trace} -> what was told of it."""
    return told(box, box.traces.find(args["trace"]))


def traced(box: Box, held: Held, args: Mapping[str, Any]) -> Kept:
    """Read, run and keep. Raises InputError for what the model cannot read, Trouble (507) for what there is no room
    for, before it is run."""
    asked = {name: args[name] for name in WHAT if args.get(name) not in (None, "", [])}
    return keep(box, held, read_asked(held, asked), asked)


def keep(box: Box, held: Held, subject: Subject, asked: dict[str, Any], changed: dict[str, Any] | None = None) -> Kept:
    """Run a subject and keep it; changed: what is intervened in meanwhile."""
    size = held.model.dtype.itemsize
    box.traces.check_room(estimate(held.config, len(subject.tokens), len(subject.source), size))
    with as_changed(held, changed):
        known: dict[str, Any] = held.more.setdefault("known", {}) if changed is None else {}
        return box.traces.keep(held, Look(subject, question_of(asked), known), asked, changed)


@contextmanager
def as_changed(held: Held, changed: Mapping[str, Any] | None) -> Iterator[None]:
    """While it lasts, the model is as it was when a trace was made. A mean is that of each text: views run several at
    once, and none may change another."""
    with ExitStack() as changes:
        for part in changed["parts"] if changed else ():
            heads, side = [(layer, head) for layer, head in part["heads"]], part["side"]
            which: Which = "cross" if side == "cross" else "self"
            stack = "auto" if side == "cross" else side
            changes.enter_context(ablated(held.model, heads, part["ablation"], side=stack, which=which, apart=True))
        if changed and not changed["positions"]:
            changes.enter_context(without_positions(held.model))
        yield


def told(box: Box, kept: Kept) -> dict[str, Any]:
    """A trace as JSON knows it; computed once."""
    if "told" not in kept.more:
        with as_changed(kept.held, kept.changed):
            kept.more["told"] = _told(box, kept)
    return {"trace": kept.id, "ttl_s": box.traces.seconds, "bytes": kept.bytes, **kept.more["told"]}


def _told(box: Box, kept: Kept) -> dict[str, Any]:
    held, look = kept.held, kept.look
    subject, config = look.subject, held.config
    surprises, entropy = surprises_of(box, look)
    known = [value for value in surprises if value is not None]
    loss = sum(known) / len(known) if known else None
    return {
        "model": held.id, "adapter": held.adapter, "kind": kind_of(config), "n_tokens": len(subject.tokens),
        "chat": look.ask.chat, "text": subject.text, "source_text": subject.source_text,
        "tokens": tokens_of(subject.tokens, surprises), "source": tokens_of(subject.source),
        "shape": {
            "layers": config.layers, "encoder_layers": config.encoder_layers, "heads": config.heads,
            "kv_heads": config.kv_heads, "head_size": config.head_size or config.d_model // config.heads,
            "d_model": config.d_model, "vocab": config.vocab_size, "side": look.trace.own.name,
            "sides": [side.name for side in look.trace.sides], "positions": config.positions, "norm": config.norm,
        },
        "checks": [check.record() for check in quick_checks(box, kept)],
        "caps": caps_of(held.listed.folder, config), "loss": loss,
        "near_uniform": near_uniform(loss, entropy, config.vocab_size), "changed": kept.changed,
    }  # fmt: skip


@torch.no_grad()
def surprises_of(box: Box, look: Look) -> tuple[list[float | None], float | None]:
    """-log p of each token behind those before it, in nats, None of the first and of what an encoder reads; and the
    mean entropy of what is said at all places, None where no head says tokens."""
    trace, ids = look.trace, [token.id for token in look.subject.tokens]
    found: list[float | None] = [None] * len(ids)
    try:
        trace.logits(slice(0, 1))
    except InputError:
        return found, None
    rows, entropies = max(1, LOGITS // trace.model.config.vocab_size), []
    for start in range(0, len(ids), rows):
        box.check()
        logits = trace.logits(slice(start, start + rows))[0]
        entropies.append(torch.special.entr(logits.float().softmax(-1)).sum(-1))
        following = torch.tensor(ids[start + 1 : start + 1 + len(logits)], device=logits.device)
        if trace.own.causal and len(following):
            chances = logprob(logits[: len(following)], following)
            found[start + 1 : start + 1 + len(following)] = (-chances).tolist()
    return found, float(torch.cat(entropies).mean())


def near_uniform(loss: float | None, entropy: float | None, vocab: int) -> bool:
    """Whether a model says nearly the same of every token, as one does that has learnt nothing: loss and entropy are
    about ln V."""
    flat = math.log(vocab)
    if entropy is None or not entropy > (1 - FLAT) * flat:
        return False
    return loss is None or abs(loss - flat) < FLAT * flat


def quick_checks(box: Box, kept: Kept) -> list[Check]:
    """What is proven at once: the last layer of each stack, what the head is given, and where a pass costs little that
    hooks change nothing. `proof` proves the whole. A hook that the box or an intervention has put on does not count."""
    look, model = kept.look, kept.held.model
    trace, found = look.trace, []
    ablates = bool(kept.changed and kept.changed["parts"])
    for side in trace.sides:
        seam = side.attended[-1]
        if seam.q.shape[1] * seam.q.shape[2] * seam.k.shape[2] > NUMBERS:
            continue
        weights = seam.weights()
        found += [rows_add_up(weights), future_is_zero(weights, side, len(side.blocks) - 1)]
        found += [] if ablates else [values_give_output(seam)]
    box.check()
    small = 2.0 * sum(x.numel() for x in model.parameters()) * len(look.subject.tokens) < TWICE
    again = unwatched(trace) if small else None
    if again is not None:
        found.append(watched_is_unwatched(trace, again))
    if {"lm", "masked"} & set(model.heads):
        found.append(lens_is_output(trace, trace.hidden if again is None else again))
    if (
        not isinstance(trace.own.stack.norm, torch.nn.Identity)
        and len(look.subject.tokens) * len(trace.own.stream) < 4096
    ):
        found.append(norm_is_fresh(trace))
    return widest(found)


def hooks_on(model: Transformer) -> int:
    """Those that are on a model while nothing is looked at: of the box, and of what is intervened in."""
    return int(no_hooks(model).gap)


def uncounted(panel: Panel, hooks: int) -> Panel:
    """A panel that counts none of the hooks that were on the model before it."""
    checks = [replace(check, gap=check.gap - hooks) if check.name == "hooks" else check for check in panel.checks]
    return replace(panel, checks=checks)
