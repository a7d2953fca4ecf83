"""What makes a stage this stage and no other: its model, its data, what ends its texts, where it comes from."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from ..config import InputError, ModelConfig
from ..config.options import ClassifyOptions, PairOptions, PretrainOptions, SftOptions, TrainOptions
from ..data.corpus import fingerprint
from ..hub.families import config_to_hf
from ..hub.files import save_model
from ..hub.folders import folder_digest, load_tokenizer
from ..model.transformer import Transformer, check_look_back
from ..text.tokenizer import Tokenizer, check_fits
from .adapting import Adaptation, begin, with_heads
from .task import OBJECTIVES, Task, check_heeded, check_shape, dialogues, labels

Options = PretrainOptions | SftOptions | ClassifyOptions | PairOptions


@dataclass(frozen=True)
class Plan:
    """What makes a stage this stage; all else is the same for every one."""

    stage: str
    options: Options
    tokenizer: Tokenizer
    config: ModelConfig
    model: Callable[[], Transformer]
    task: Task
    stops: Sequence[int]
    fingerprint: str
    parent: Mapping[str, str] = field(default_factory=dict)
    adaptation: Adaptation | None = None

    def save(self, model: Transformer, folder: Path) -> None:
        """Write what was trained and the tokenizer as one folder: a model that any tool of the field reads, or an
        adapter that peft does."""
        tokenizer, stops = self.tokenizer, list(self.stops)
        ends = stops[0] if len(stops) == 1 else stops or None
        tokens = {"bos_token_id": tokenizer.bos, "eos_token_id": ends, "pad_token_id": tokenizer.pad}
        if self.adaptation is not None:
            self.adaptation.save(model, tokenizer, folder, tokens)
            return
        save_model(model, folder, tokens=tokens)
        tokenizer.save(folder)


def plan_pretrain(options: PretrainOptions) -> Plan:
    """What pretraining is made of; reads the data, builds no model. Raises InputError."""
    tokenizer = load_tokenizer(options.tokenizer)
    config = _shape(options, tokenizer)
    check_saves(config, tokenizer)
    task = OBJECTIVES[options.objective](options, tokenizer, config)
    return Plan(
        "pretrain", options, tokenizer, config, lambda: _born(config, options), task,
        stops=[tokenizer.eos] if tokenizer.eos is not None else [], fingerprint=fingerprint(options.data),
    )  # fmt: skip


def plan_sft(options: SftOptions) -> Plan:
    """What SFT is made of; reads the parent and the data. Raises InputError."""
    begun = begin(options.model, options.lora, seed=options.seed)
    model, tokenizer = begun.model, begun.tokenizer
    check_context(options.train, model.config)
    if model.encoder is not None or not model.config.causal or "lm" not in model.config.heads_of:
        raise InputError(f"{options.model} is no decoder that says the next token; sft teaches decoders to answer")
    for name in ("neftune", "evidence"):
        if not 0 <= (amount := getattr(options, name)) < math.inf:
            raise InputError(f"{name}={amount}; wanted 0, for none, or more")
    model.neftune = options.neftune
    return Plan(
        "sft", options, tokenizer, model.config, lambda: model, dialogues(options, tokenizer), stops=tokenizer.stops,
        fingerprint=fingerprint(options.data), parent=begun.told, adaptation=begun.adaptation,
    )  # fmt: skip


def plan_classify(options: ClassifyOptions) -> Plan:
    """What learning labels is made of; reads the parent and the data. Raises InputError."""
    begun = begin(options.model, options.lora, seed=options.seed)
    model, tokenizer = begun.model, begun.tokenizer
    if options.fresh and begun.adaptation is not None:
        raise InputError("fresh=true with an adapter: what stays as it is would know nothing; leave one of them out")
    check_context(options.train, model.config)
    task = labels(options, tokenizer, model.config)
    config = _with_labels(model.config, task)
    check_saves(config, tokenizer)
    begun = with_heads(begun, config, seed=options.seed)
    return Plan(
        "classify", options, tokenizer, config,
        begun.born or (lambda: headed(model, config, options.seed, fresh=options.fresh, name=options.model)), task,
        stops=[], fingerprint=fingerprint(options.data), parent=begun.told, adaptation=begun.adaptation,
    )  # fmt: skip


def parent_of(name: str, folder: Path) -> dict[str, str]:
    return {"name": name, "folder": str(folder), "sha256": folder_digest(folder)}


def _with_labels(config: ModelConfig, task: Task) -> ModelConfig:
    """The shape with a head for these labels. Raises InputError for an encoder-decoder."""
    if config.encoder_layers:
        raise InputError(
            f"encoder_layers={config.encoder_layers}: labels are learnt by an encoder or a decoder alone; "
            "name another model"
        )
    # what a family does before its last layer: BERT's kind has a square layer and tanh, ModernBERT's one with a norm
    pooled: Literal["none", "tanh", "norm"] = (
        "none" if config.causal else "tanh" if config.residual == "post" else "norm"
    )
    return replace(
        config, heads_of=(task.head,), labels=len(task.names), label_names=tuple(task.names), pooled=pooled,
        pooling="last" if config.causal else config.pooling, tied=config.tied and config.causal,
    )  # fmt: skip


def headed(model: Transformer, config: ModelConfig, seed: int, *, fresh: bool = False, name: str = "") -> Transformer:
    """A model of this shape, its body that of `model`, which goes by a name, unless it is to begin afresh."""
    born = Transformer(config, seed=seed)
    if fresh:
        return born
    own, same = born.state_dict().keys(), _head_of(config) == _head_of(model.config)
    # a head for the same labels goes on, any other gives way
    kept = {
        name: weight
        for name, weight in model.state_dict().items()
        if name in own and (same or not name.startswith("heads."))
    }
    missing = {name for name in born.load_state_dict(kept, strict=False).missing_keys if not name.startswith("heads.")}
    if missing:
        raise InputError(f"{name} lacks {', '.join(sorted(missing)[:8])}; name another model")
    return born


def _head_of(config: ModelConfig) -> tuple[object, ...]:
    return config.heads_of, config.labels, config.label_names, config.pooled, config.pooling


def check_saves(config: ModelConfig, tokenizer: Tokenizer) -> None:
    """Raises InputError, before any work, for a shape that could not be saved beside this tokenizer."""
    config_to_hf(config, pad_token_id=tokenizer.pad)


def _born(config: ModelConfig, options: PretrainOptions) -> Transformer:
    model = Transformer(config, seed=options.seed)
    if options.look_back:
        model.look_back()
    return model


def _shape(options: PretrainOptions, tokenizer: Tokenizer) -> ModelConfig:
    """The model's shape, its vocabulary from the tokenizer unless it was given; checked before any work."""
    config = replace(options.model, vocab_size=options.model.vocab_size or tokenizer.vocab_size)
    check_fits(tokenizer, config.vocab_size)
    if config.encoder_layers and config.start < 0:
        if tokenizer.pad is None:
            raise InputError("decoding has no id to begin with; set model.start, or take a tokenizer with a pad token")
        config = replace(config, start=tokenizer.pad)
    if config.source_vocab_size:
        raise InputError(
            f"model.source_vocab_size={config.source_vocab_size}: sources and targets are trained with one tokenizer; "
            "leave it at 0"
        )
    check_shape(options.objective, config)
    check_heeded(options)
    if options.look_back:
        check_look_back(config)
    check_context(options.train, config)
    return config


def check_context(options: TrainOptions, config: ModelConfig) -> None:
    if options.context > config.max_positions:
        raise InputError(
            f"train.context={options.context} is longer than the model's max_positions={config.max_positions}; "
            "shorten the one or, for a new model, raise the other with --model.max-positions"
        )
    if options.batch_tokens < options.context:
        raise InputError(
            f"train.batch_tokens={options.batch_tokens} is less than one row of train.context={options.context} tokens"
        )
