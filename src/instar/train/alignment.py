"""What makes a stage that learns from preferences this stage: a reward model, or DPO."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ..adapt import peft
from ..adapt.folders import load, load_tokenizer
from ..adapt.lora import activate
from ..config import InputError
from ..config.options import DpoOptions, PairOptions, RewardOptions, TrainOptions
from ..data.branches import PreferenceCollate, PreferenceRows
from ..data.corpus import fingerprint, read
from ..data.preferences import Preferences, load_preferences
from ..hub.places import holds_adapter, resolve
from ..text.tokenizer import Tokenizer
from .adapting import Begun, begin, still, with_heads
from .objectives import Objective
from .plan import Plan, check_context, check_saves, headed
from .preferences import bradley_terry, check_dpo, direct_preference
from .reference import COPY, PRECOMPUTED, Reference, pick, unfilled
from .task import Task

BESIDE = "reference"  # what an adapter is called that a model is held against


def plan_reward(options: RewardOptions) -> Plan:
    """What a reward model is made of; reads the parent and the data. Raises InputError."""
    objective = bradley_terry(centering=options.centering)
    begun = _begun(options)
    model, tokenizer = begun.model, begun.tokenizer
    config = replace(
        model.config, heads_of=("classify",), labels=1, label_names=(), pooled="none", pooling="last"
    )  # fmt: skip
    check_saves(config, tokenizer)
    task = _task(options, tokenizer, lambda train: objective, head="classify")
    if tokenizer.pad in tokenizer.stops:
        note = (
            "this tokenizer pads with a token that ends answers, and transformers would read rewards one token too "
            "early; the folder names no padding, so that it scores one text at a time there"
        )
        task = replace(task, notes=[*task.notes, note])
    begun = with_heads(begun, config, seed=options.seed)
    born = begun.born or (lambda: headed(model, config, options.seed, name=options.model))
    return Plan(
        "reward", options, tokenizer, config, lambda: born() if options.dropout else still(born(), adapters=False),
        task, stops=tokenizer.stops,
        fingerprint=fingerprint(options.data), parent=begun.told, adaptation=begun.adaptation,
    )  # fmt: skip


def plan_dpo(options: DpoOptions) -> Plan:
    """What DPO is made of; reads the parent and the data. Raises InputError."""
    check_dpo(options.loss, options.beta, options.smoothing, options.nll, DpoOptions().smoothing)
    begun = _begun(options)
    model, tokenizer = begun.model, begun.tokenizer
    if "lm" not in model.config.heads_of:
        heads = ", ".join(model.config.heads_of) or "none"
        raise InputError(
            f"{options.model} says no tokens (heads_of={heads}); dpo makes answers likelier, wanted the head lm"
        )
    reference = _reference(options.reference, begun, options.train.context)
    task = _task(options, tokenizer, partial(_dpo, options, reference))
    store = unfilled(task.store) if reference.how == PRECOMPUTED else task.store
    return Plan(
        "dpo", options, tokenizer, model.config, lambda: model if options.dropout else still(model, adapters=False),
        replace(task, store=store, begin=reference.begin, copies=reference.copies), stops=tokenizer.stops,
        fingerprint=fingerprint(options.data), parent=begun.told, adaptation=begun.adaptation,
    )  # fmt: skip


def _reference(name: str, begun: Begun, context: int) -> Reference:
    """What --reference names. Raises InputError for a folder whose tokens are others, and for a model in it that says
    none, or reads fewer than a row has."""
    own = begun.adaptation
    if not (name.startswith("hf:") or Path(name).is_dir()):
        return Reference(pick(name, adapted=own is not None, previous=own is not None and own.chained))
    folder = resolve(name)
    if load_tokenizer(folder).fingerprint != begun.tokenizer.fingerprint:
        raise InputError(f"reference={name} has another tokenizer than the model, so their tokens are not the same")
    if own is not None and holds_adapter(folder):
        stored = peft.read(folder)
        if stored.base.sha256 is not None and stored.base.sha256 == own.base.sha256:
            peft.fit(begun.model, BESIDE, stored)  # beside the one that learns, on the same base
            activate(begun.model, own.name)
            own.freeze(begun.model)
            return Reference(BESIDE)
    other = load(folder)[0]
    if "lm" not in other.config.heads_of or other.config.max_positions < context:
        config = other.config
        raise InputError(
            f"reference={name} has heads_of={', '.join(config.heads_of) or 'none'} and max_positions="
            f"{config.max_positions}; wanted a model that says tokens (lm) and reads train.context={context} of them"
        )
    return Reference(COPY, other)


def _dpo(options: DpoOptions, reference: Reference, train: TrainOptions) -> Objective:
    reference.chunk = train.loss_chunk
    return direct_preference(
        reference, loss=options.loss, beta=options.beta, smoothing=options.smoothing, nll=options.nll,
        chunk=train.loss_chunk,
    )  # fmt: skip


def _begun(options: PairOptions) -> Begun:
    """The model that learns. Raises InputError for one that does not read in the order of writing."""
    if options.train.smoothing:
        raise InputError(
            f"train.smoothing={options.train.smoothing}: no token is a target where answers are compared; leave it out"
        )
    begun = begin(options.model, options.lora, seed=options.seed)
    config = begun.model.config
    if config.encoder_layers or not config.causal:
        raise InputError(
            f"{options.model} has encoder_layers={config.encoder_layers} and causal={str(config.causal).lower()}; "
            "answers are compared by a decoder, wanted 0 and true"
        )
    check_context(options.train, config)
    return begun


def _task(options: PairOptions, tokenizer: Tokenizer, objective: Any, *, head: str = "lm") -> Task:
    """Pairs of answers, in rows of as many as fit."""
    context, share, notes = options.train.context, options.share, list[str]()
    store, counts = load_preferences(
        read(options.data), tokenizer, context=context, bad_records=options.bad_records, say=notes.append
    )

    def rows(part: Preferences) -> PreferenceRows:
        return PreferenceRows(part, context, share)

    def collate(part: Preferences, whole: bool) -> PreferenceCollate:
        return PreferenceCollate(part, rows(part).width, tokenizer.pad, share, whole)

    return Task(
        store, counts, rows, collate, head=head, objective=objective, figures=figures, notes=notes, tell=tell,
        unit="pairs", before=head == "lm",
    )  # fmt: skip


def figures(means: Mapping[str, float]) -> dict[str, Any]:
    """What a report says of held-out pairs."""
    named = {f"held_out_{name}": value for name, value in means.items() if name != "targets"}
    return named | {"held_out_pairs": means["targets"]}


def tell(means: Mapping[str, float]) -> str:
    """Held-out means in words."""
    return (
        f"held-out loss {means['loss']:.4f}, pairs in the right order {means['accuracy']:.3f}, "
        f"margin {means['margin']:.4f}, rewards {means['reward_chosen']:.4f} and {means['reward_rejected']:.4f}"
    )
