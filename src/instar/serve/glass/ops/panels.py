"""Panels of a kept trace, the same that `instar inspect` gives, and all of them as one file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ....config import InputError, unknown
from ....probe.draw.record import record
from ....probe.inspection import ALL, BASE, PROOF, Inspection, check_numbers, check_shape, check_views, seen
from ....probe.look import Look
from ....probe.panel import Panel, Words
from ....probe.views import VIEWS
from ..box import Binary, Box
from ..stock import Held
from ..traces import Kept, estimate
from ..trouble import Trouble
from .question import ask_of, refusing, word_of
from .reading import question_of, read_asked
from .tracing import as_changed, hooks_on, uncounted

TOP = 100  # likeliest tokens that are listed at most
FILES = {"html": "text/html; charset=utf-8", "json": "application/json", "safetensors": "application/octet-stream"}
PARTS: Mapping[str, Any] = {"data": {}, "arrays": {}, "figures": ()}  # of a panel, and each without anything in it
CHANGED = Words(
    "Heads are taken away here, so that what was drawn is not what the model went on with: that the shares give the "
    "model's output is not proven.",
    "此处去除了部分注意力头，画出的份额不再是模型实际使用的结果，因此不验证“份额乘以值等于输出”。",
)
MEANT = Words(
    "Heads say their mean over all places here, and in a decoder that mean knows in what order they stand: that "
    "without positions two orders give the same state is not proven.",
    "此处部分注意力头输出其在所有位置上的平均值，而解码器中的这一平均值含有语序信息，因此不验证“没有位置时两种语序的状态相同”。",
)


@refusing
def view(box: Box, args: Mapping[str, Any]) -> dict[str, Any]:
    """{trace, view, ask, vs, parts} -> the panel as `instar inspect --view V --format json` has it; ask: fields
    of InspectOptions; vs: another model or adapter, or `base`, the model with its adapter off; parts: those of data,
    arrays and figures that are wanted, the others are empty, for a page that has their numbers from elsewhere. Title,
    checks and notes are always there."""
    kept = box.traces.find(args["trace"])
    name = args["view"]
    if name not in VIEWS and name != PROOF:
        raise unknown("view", str(name), [*VIEWS, PROOF])
    wanted = set(PARTS)
    if "parts" in args:
        wanted = {word_of("parts", part, list(PARTS)) for part in args["parts"].split(",") if part}
    (found,) = seen_of(box, kept, [name], args).panels
    return record(replace(found, **{part: empty for part, empty in PARTS.items() if part not in wanted}))


@refusing
def export(box: Box, args: Mapping[str, Any]) -> Binary:
    """{trace, format, views, ask, vs, language} -> one file of these views, with commas between them, by default all
    that apply, as `instar inspect --view all` writes it."""
    kept = box.traces.find(args["trace"])
    format = word_of("format", args["format"], list(FILES))
    found = seen_of(box, kept, check_views((args.get("views") or ALL).split(",")), args)
    written = found.written(format)
    content = written.encode() if isinstance(written, str) else written
    name = f"{kept.held.id.replace('/', '-')}-{kept.id}.{format}"
    return Binary(content, FILES[format], "".join(one if one.isascii() and one.isprintable() else "_" for one in name))


def seen_of(box: Box, kept: Kept, views: Sequence[str], args: Mapping[str, Any]) -> Inspection:
    """Views of a trace, by its own pass, held against another model where it is asked for."""
    ask = ask_of(args.get("ask", {}), kept.look.ask)
    if args.get("language"):
        ask = ask_of({"language": args["language"]}, ask)
    check_numbers(ask)
    if ask.top > TOP:
        raise InputError(f"top={ask.top}, wanted at most {TOP}")
    check_shape(kept.held.config, ask)
    vs, held = args.get("vs", ""), kept.held
    beside = beside_of(box, kept, vs) if vs else None
    if beside is not None:
        check_shape(beside.subject.model.config, ask)
        beside = beside.asked(_asked_of(ask, beside))
    with as_changed(held, kept.changed):
        own = {id(one.subject.model): hooks_on(one.subject.model) for one in (kept.look, beside or kept.look)}
        left_out = unproven(kept)

        def told(look: Look, panel: Panel) -> Panel:
            changed = left_out if look.subject.model is held.model else {}
            return _told(uncounted(panel, own[id(look.subject.model)]), changed)

        names = (held.adapter or held.id, vs)
        try:
            return seen(kept.look.asked(ask), views, beside, names, lambda more: box.check(), told)
        finally:
            box.traces.counted(kept)


def _asked_of(ask: Any, other: Look) -> Any:
    """The question to another model, about what that one read."""
    was = other.ask
    return replace(ask, text=was.text, ids=was.ids, target=was.target, target_ids=was.target_ids, chat=was.chat)


def beside_of(box: Box, kept: Kept, vs: str) -> Look:
    """What a trace is held against: the same words, read by another model or by the bare one; the pass of the last one
    is kept with the trace. Raises Trouble (404) for one that there is not, InputError where it cannot read them."""
    held = other_of(box, kept.held, vs)
    known = kept.beside
    if known is not None and known.name == vs and known.held is held:
        return known.look
    asked, subject = dict(kept.asked), kept.look.subject
    if subject.source and held.config.encoder_layers:  # both are seen with the same words
        if asked.get("ids"):
            said = [token.id for token in subject.tokens]
            asked["target_ids"] = said[1:] if kept.held.config.start >= 0 else said
        else:
            asked["target"] = subject.text
    try:
        if held is kept.held:
            look = Look(subject, question_of(asked), {} if kept.changed else held.more.setdefault("known/bare", {}))
        else:
            look = Look(read_asked(held, asked), question_of(asked), held.more.setdefault("known", {}))
        own = look.subject
        box.traces.check_room(estimate(held.config, len(own.tokens), len(own.source), held.model.dtype.itemsize))
        if held is kept.held:
            with as_changed(held, kept.changed), held.bare():
                box.traces.hold(kept, vs, held, look)
        else:
            box.traces.hold(kept, vs, held, look)
    except Trouble as trouble:
        raise Trouble(trouble.status, trouble.code, f"{vs}: {trouble.detail}", **trouble.more) from None
    return look


def other_of(box: Box, held: Held, vs: str) -> Held:
    """The model of vs: `base`, an adapter of the same model, or any other by its id."""
    if vs == BASE:
        if not held.adapter:
            raise Trouble(422, "bad_input", "vs=base, and no adapter is on the model; name another model")
        return held
    if vs in held.listed.adapters:
        return box.stock.get(held.id, vs)
    return box.stock.get(vs)


def unproven(kept: Kept) -> dict[str, Words]:
    """What cannot hold of a trace whose heads are taken away: names of checks, and why."""
    parts = kept.changed["parts"] if kept.changed else []
    found = dict.fromkeys(("weights_values", "heads_update") if parts else (), CHANGED)
    if not kept.held.config.encoder_layers and any(
        part["ablation"] == "mean" and part["side"] == "decoder" for part in parts
    ):
        found["set"] = MEANT
    return found


def _told(panel: Panel, left_out: Mapping[str, Words]) -> Panel:
    """A panel without proofs that an intervention rules out."""
    why = dict.fromkeys(left_out[check.name] for check in panel.checks if check.name in left_out)
    checks = [check for check in panel.checks if check.name not in left_out]
    return replace(panel, checks=checks, notes=[*panel.notes, *why])
