"""What makes a stage this stage and no other: its model, its data, what ends its texts, where it comes from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..config import InputError, ModelConfig
from ..config.options import PretrainOptions, SftOptions, TrainOptions
from ..data.corpus import fingerprint, load_tokens, read
from ..data.dialogues import load_dialogues
from ..data.shards import TokenStore
from ..hub.families import family_of
from ..hub.files import resolve
from ..hub.folders import load, load_tokenizer
from ..model.transformer import Transformer
from ..text.tokenizer import Tokenizer, check_fits
from .run import folder_digest

Options = PretrainOptions | SftOptions


@dataclass(frozen=True)
class Plan:
    """What makes a stage this stage; all else is the same for every one."""

    stage: str
    options: Options
    tokenizer: Tokenizer
    config: ModelConfig
    model: Callable[[], Transformer]
    store: TokenStore
    counts: Mapping[str, Any]
    stops: Sequence[int]
    fingerprint: str
    parent: Mapping[str, str] = field(default_factory=dict)


def plan_pretrain(options: PretrainOptions) -> Plan:
    """What pretraining is made of; reads the data, builds no model. Raises InputError."""
    tokenizer = load_tokenizer(options.tokenizer)
    config = _shape(options, tokenizer)
    store, counts = load_tokens(options.data, tokenizer)
    return Plan(
        "pretrain", options, tokenizer, config, lambda: _born(config, options), store, counts,
        stops=[tokenizer.eos] if tokenizer.eos is not None else [], fingerprint=fingerprint(options.data),
    )  # fmt: skip


def plan_sft(options: SftOptions) -> Plan:
    """What SFT is made of; reads the parent and the data. Raises InputError."""
    parent = resolve(options.model)
    model, tokenizer = load(parent)
    family_of(model.config)
    _check_context(options.train, model.config)
    store, counts = load_dialogues(read(options.data), tokenizer, context=options.train.context, teach=options.teach)
    return Plan(
        "sft", options, tokenizer, model.config, lambda: model, store, counts, stops=tokenizer.stops,
        fingerprint=fingerprint(options.data),
        parent={"name": options.model, "folder": str(parent), "sha256": folder_digest(parent)},
    )  # fmt: skip


def _born(config: ModelConfig, options: PretrainOptions) -> Transformer:
    model = Transformer(config, seed=options.seed)
    if options.look_back:
        model.look_back()
    return model


def _shape(options: PretrainOptions, tokenizer: Tokenizer) -> ModelConfig:
    """The model's shape, its vocabulary from the tokenizer unless it was given; checked before any work."""
    config = replace(options.model, vocab_size=options.model.vocab_size or tokenizer.vocab_size)
    check_fits(tokenizer, config.vocab_size)
    family_of(config)
    if options.look_back and config.positions != "rotary":
        raise InputError(f"look_back=true needs model.positions=rotary, found {config.positions}; set one of them")
    _check_context(options.train, config)
    return config


def _check_context(options: TrainOptions, config: ModelConfig) -> None:
    if options.context > config.max_positions:
        raise InputError(
            f"train.context={options.context} is longer than the model's max_positions={config.max_positions}; "
            "shorten the one or, for a new model, raise the other with --model.max-positions"
        )
    if options.batch_tokens < options.context:
        raise InputError(
            f"train.batch_tokens={options.batch_tokens} is less than one row of train.context={options.context} tokens"
        )
