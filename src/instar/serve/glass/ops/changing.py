"""A pass once more, with something in it changed, and what that does to the next token."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ....config import InputError
from ....probe.intervene import effect
from ....probe.look import Look
from ....probe.subject import Subject, read_ids, read_said
from ..box import Box
from ..stock import Held
from ..traces import Kept
from .question import place_of, refusing
from .tracing import keep, told

BEST = 10  # of the likeliest tokens before and after


@refusing
def intervene(box: Box, args: Mapping[str, Any]) -> dict[str, Any]:
    """{trace, heads: [[layer, head]], ablation: zero | mean, positions, swap: [i, j], side, at} -> a new trace, as
    `trace` tells it, and its `diff`: KL(before || after) in nats of what is said at `at`, by default at the end, the
    likeliest tokens of both, and what became of the logit of the likeliest before.

    heads say nothing, or their mean; positions=False: order is not told; swap: two tokens change places, of an
    encoder-decoder in its source. What a trace was changed by already stays. Raises InputError where nothing is
    changed, and for a head or a place that does not exist."""
    kept = box.traces.find(args["trace"])
    heads, swap = [list(one) for one in args.get("heads", [])], args.get("swap")
    positions = args.get("positions", True)
    if not heads and positions and not swap:
        raise InputError("nothing is changed; wanted heads, positions=false or swap")
    held, subject = kept.held, kept.look.subject
    at = args.get("at", -1)
    _place(kept.look, at)
    asked = dict(kept.asked)
    changed = _changed(kept, args)
    if swap:
        subject, asked = _swapped(held, subject, swap, asked)
    with torch.no_grad():
        after = keep(box, held, subject, asked, changed)
    said = told(box, after)
    try:
        return said | {"diff": diff(kept, after, at)}
    except InputError:  # no head says tokens
        return said | {"diff": None}


def _changed(kept: Kept, args: Mapping[str, Any]) -> dict[str, Any]:
    """What the new trace is changed by: `parts`, each heads of one side that say nothing or their mean, positions, and
    all `swaps`, with what the trace before it was changed by; a head that is named again is taken away as it is asked
    now."""
    before = kept.changed or {"parts": [], "positions": True, "swaps": []}
    side, own = args.get("side", "auto"), "decoder" if kept.held.config.causal else "encoder"
    part = {
        "heads": [list(one) for one in args.get("heads", [])], "ablation": args.get("ablation", "zero"),
        "side": own if side == "auto" else side,
    }  # fmt: skip
    parts = [
        old | {"heads": [one for one in old["heads"] if old["side"] != part["side"] or one not in part["heads"]]}
        for old in before["parts"]
    ]
    swap = args.get("swap")
    return {
        "parts": [one for one in [*parts, part] if one["heads"]],
        "positions": before["positions"] and args.get("positions", True),
        "swaps": [*before["swaps"], list(swap)] if swap else before["swaps"], "of": kept.id,
    }  # fmt: skip


def _swapped(held: Held, subject: Subject, swap: Any, asked: dict[str, Any]) -> tuple[Subject, dict[str, Any]]:
    """Two tokens in each other's place: a text of its own, which is kept as ids."""
    source = bool(subject.source)
    ids = [token.id for token in subject.source or subject.tokens]
    said = [token.id for token in subject.tokens]
    one, other = (place_of("swap", place, len(ids)) for place in swap)
    ids[one], ids[other] = ids[other], ids[one]
    own, about = (said, ids) if source else (ids, [])
    if held.tokenizer is None or held.config.source_vocab_size:
        found = read_ids(held.model, own, about)
    else:
        found = read_said(held.model, held.tokenizer, own, about)
    kept: dict[str, Any] = {"ids": ids}
    if source:
        kept["target_ids"] = said[1:] if held.config.start >= 0 else said
    if asked.get("chat") or asked.get("messages"):
        kept["chat"] = True
    return found, kept


def diff(before: Kept, after: Kept, at: int) -> dict[str, Any]:
    """What is said at one place before and after. Raises InputError where no head says tokens."""
    one, other = before.look, after.look
    place = _place(one, at)
    # the head is as it was, whatever happened before it
    early, late = (look.trace.logits(slice(place, place + 1))[0, 0].double() for look in (one, other))
    found = effect(one.trace, other.trace, place, k=min(BEST, len(early)))
    chances = [x.softmax(-1) for x in (early, late)]
    ids = dict.fromkeys(id for top in reversed(found.top) for id, _ in top)
    top = [
        {
            "id": id, "text": one.subject.piece(id), "p": float(chances[1][id]), "p0": float(chances[0][id]),
            "dlogit": float(late[id] - early[id]),
        }
        for id in ids
    ]  # fmt: skip
    return {
        "at": place, "kl": max(0.0, found.kl), "top": top, "best": found.target, "dlogit_of_best": found.change,
    }  # fmt: skip


def _place(look: Look, at: int) -> int:
    """The last place; of an encoder the first hole, where there is one."""
    tokens, tokenizer = look.subject.tokens, look.subject.tokenizer
    if at == -1 and not look.trace.own.causal and tokenizer is not None:
        return next((place for place, token in enumerate(tokens) if token.id == tokenizer.mask), len(tokens) - 1)
    return place_of("at", at, len(tokens))
