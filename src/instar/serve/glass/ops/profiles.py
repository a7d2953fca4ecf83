"""What is said of a model as such, whatever it reads: what its heads are for, what its layers hold, what order tells
it, and the pieces of its vocabulary."""

from __future__ import annotations

import base64
import random
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from ....config import InputError
from ....config.options import InspectOptions
from ....probe.annotated import stories
from ....probe.draw.record import finite, record
from ....probe.ground import Told, order_lab
from ....probe.look import Look
from ....probe.subject import Subject, read, read_ids
from ....probe.views import VIEWS
from ..box import Box
from ..stock import Held
from .question import one_of, refusing, word_of
from .reading import read_asked, tokens_of
from .tracing import hooks_on, uncounted

KEPT = 32  # profiles
PIECES = 4096  # of one answer
LENGTH = 48  # ids of a text that nobody wrote
NUMBERS = 8  # tokens that are told behind each order
# profiles of weights, by whose they are and when they were written
_profiles: OrderedDict[tuple[str, str, str, float], dict[str, Any]] = OrderedDict()


@refusing
def heads(box: Box, args: Mapping[str, Any]) -> dict[str, Any]:
    """{model, adapter, set: probe | corpus, text} -> the panel `heads`: on random tokens, and on a story of the world
    (probe), which is computed once, or on a text (corpus)."""
    held = box.stock.get(args["model"], args.get("adapter", ""))
    if word_of("set", args.get("set", "probe"), ("probe", "corpus")) == "probe":
        if args.get("text"):
            raise InputError("found a text, and set=probe; say set=corpus")
        return profile(held, "heads")
    return _panel(held, "heads", _read(held, args.get("text", "")))


@refusing
def probes(box: Box, args: Mapping[str, Any]) -> dict[str, Any]:
    """{model, adapter, text} -> the panel `probes`; without a text of a story of ours, and computed once."""
    held = box.stock.get(args["model"], args.get("adapter", ""))
    if not args.get("text"):
        return profile(held, "probes")
    return _panel(held, "probes", _read(held, args["text"]))


def profile(held: Held, view: str) -> dict[str, Any]:
    """A view of a model over a text of ours, kept as long as the weights are the same."""
    key = (view, held.id, held.adapter, held.changed)
    if key not in _profiles:
        _profiles[key] = _panel(held, view, story(held))
        while len(_profiles) > KEPT:
            _profiles.popitem(last=False)
    _profiles.move_to_end(key)
    return _profiles[key]


def _read(held: Held, text: str) -> Subject:
    return read_asked(held, {"text": text, **({"target": "."} if held.config.encoder_layers else {})})


def story(held: Held) -> Subject:
    """The first story of the world that the model can read; of a model without a tokenizer ids at random."""
    model, config = held.model, held.config
    if held.tokenizer is not None and not config.source_vocab_size:
        found, _ = stories(model, held.tokenizer, 4)
        if found:
            target = "." if config.encoder_layers else ""
            return read(model, held.tokenizer, found[0].record["text"], target=target)
    count = min(LENGTH, config.max_positions)
    drawn = random.Random(0)
    ids = [drawn.randrange(config.vocab_size) for _ in range(count)]
    rows = config.source_vocab_size or config.vocab_size
    source = [drawn.randrange(rows) for _ in range(count)] if config.encoder_layers else []
    return read_ids(model, ids, source)


def _panel(held: Held, view: str, subject: Subject) -> dict[str, Any]:
    hooks = hooks_on(held.model)
    return record(uncounted(VIEWS[view](Look(subject, InspectOptions(), held.more.setdefault("known", {}))), hooks))


@refusing
def order(box: Box, args: Mapping[str, Any]) -> dict[str, Any]:
    """{model, adapter, one, other} -> how far two orders of words are apart, with positions told and untold."""
    held = box.stock.get(args["model"], args.get("adapter", ""))
    if held.tokenizer is None:
        raise InputError(f"{held.id} has no tokenizer, and the order lab reads texts")
    found = order_lab(held.model, held.tokenizer, args["one"], args["other"], k=NUMBERS)

    def said(told: Told) -> dict[str, Any]:
        tops = [[{"id": id, "piece": found.one.piece(id), "p": p} for id, p in top] for top in told.top]
        return finite({
            "apart": told.apart, "by_layer": told.by_layer, "kl": told.kl, "top": tops,
            "same_answer": told.same_answer,
        })  # fmt: skip

    return {
        "reordered": found.reordered, "one": tokens_of(found.one.source or found.one.tokens),
        "other": tokens_of(found.other.source or found.other.tokens), "told": said(found.told),
        "untold": said(found.untold), "layers": len(found.told.by_layer) - 1,
        "positions": held.config.positions,
    }  # fmt: skip


@refusing
def vocabulary(box: Box, args: Mapping[str, Any]) -> dict[str, Any]:
    """{model, adapter, ids | text} -> `pieces` of ids, or of the tokens of a text, each {id, piece, b64, special}."""
    held = box.stock.get(args["model"], args.get("adapter", ""))
    tokenizer = held.tokenizer
    if one_of(args, "ids", "text") == "text":
        if tokenizer is None:
            raise InputError(f"{held.id} has no tokenizer; wanted ids")
        ids = list(tokenizer.encode(args["text"]))
    else:
        ids = list(args["ids"])
    if len(ids) > PIECES:
        raise InputError(f"found {len(ids):,} ids, wanted at most {PIECES:,} at a time")
    if wrong := [id for id in ids if not 0 <= id < held.config.vocab_size]:
        raise InputError(f"ids: found {wrong[0]}, wanted 0 to {held.config.vocab_size - 1}")
    return {"pieces": [_piece(held, id) for id in ids]}


def _piece(held: Held, id: int) -> dict[str, Any]:
    tokenizer = held.tokenizer
    if tokenizer is None:
        return {"id": id, "piece": str(id), "b64": "", "special": False}
    name = next((name for name, number in tokenizer.specials.items() if number == id), None)
    raw = b"" if name else tokenizer.token_bytes(id)
    return {
        "id": id, "piece": name or tokenizer.piece(id), "b64": base64.b64encode(raw).decode(), "special": bool(name),
    }  # fmt: skip
