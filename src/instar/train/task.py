"""What a stage learns: a store of documents, how they become rows, how rows become batches, and which head answers.

Objectives differ here, in their collators, and nowhere else: one loop and one loss serve them all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce
from typing import Any

from ..batch import Batch
from ..config import InputError, ModelConfig
from ..config.options import ClassifyOptions, PretrainOptions, SftOptions, TrainOptions
from ..data.collate import Collate
from ..data.corpus import frame, load_tokens, read
from ..data.dialogues import load_dialogues
from ..data.labels import LabelCollate, TagCollate, load_labels, load_tags
from ..data.masked import MaskedCollate
from ..data.noise import RATE, SPAN_RATE, check_rate, span_counts
from ..data.packing import PACKINGS, Row
from ..data.pairs import Buckets, PairCollate, Pairs, load_pairs
from ..data.shards import TokenStore
from ..data.spans import FRAME, DenoiseCollate, SpanCollate
from ..text.tokenizer import Tokenizer
from ..text.words import Words
from .evidence import evident
from .objectives import Objective

Store = Any  # TokenStore, Pairs or Labelled: what documents are, is known to the collator alone
Collator = Callable[..., Batch]


@dataclass(frozen=True)
class Task:
    """store: all documents; counts: what became of them; rows: of a part of the store; collate: a part of the store,
    and whether every batch must have one width -> the collator; head: which head of the model answers; objective: what
    is learnt, by default cross-entropy; figures: held-out means -> what the report says of them; notes: what is told of
    the data at the start; tell: held-out means in words; unit: what the report calls the number of targets; before:
    whether samples are taken before the first step too; begin: called once with the stage when its model is born;
    copies: models in memory besides the one that learns."""

    store: Store
    counts: Mapping[str, Any]
    rows: Callable[[Store], Sequence[Row]]
    collate: Callable[[Store, bool], Collator]
    head: str = "lm"
    names: Sequence[str] = ()  # of labels
    objective: Callable[[TrainOptions], Objective] | None = None
    figures: Callable[[Mapping[str, float]], dict[str, Any]] | None = None
    notes: Sequence[str] = ()
    tell: Callable[[Mapping[str, float]], str] | None = None
    unit: str = "teaching_tokens"
    before: bool = False
    begin: Callable[..., None] | None = None
    copies: int = 0


def causal(options: PretrainOptions, tokenizer: Tokenizer, config: ModelConfig) -> Task:
    """Predict the next token of any text (Radford et al. 2018)."""
    store, counts = load_tokens(options.data, tokenizer)
    return _next(store, counts, options, tokenizer)


def dialogues(options: SftOptions, tokenizer: Tokenizer) -> Task:
    """Predict the replies of dialogues."""
    context = options.train.context
    notes: list[str] = []
    store, counts = load_dialogues(
        read(options.data), tokenizer, context=context, teach=options.teach, bad_records=options.bad_records,
        say=notes.append, fold=options.packing != "none", evidence=options.evidence > 0,
    )  # fmt: skip
    task = replace(_next(store, counts, options, tokenizer), notes=notes)
    if not options.evidence:
        return task
    if all(part.evidence is None for part in store.parts):
        raise InputError(
            f"evidence={options.evidence:g}, and no record names the evidence of a reply; leave it out, or give "
            'replies the key "evidence", the words of the text that they rest on'
        )
    return replace(
        task,
        objective=lambda train: partial(
            evident, weight=options.evidence, chunk=train.loss_chunk, smoothing=train.smoothing
        ),
    )


def _next(
    store: TokenStore, counts: Mapping[str, Any], options: PretrainOptions | SftOptions, tokenizer: Tokenizer
) -> Task:
    context = options.train.context
    return Task(
        store, counts, lambda part: PACKINGS[options.packing](part.lengths, context),
        lambda part, whole: Collate(part, context, tokenizer.pad, whole),
    )  # fmt: skip


def masked(options: PretrainOptions, tokenizer: Tokenizer, config: ModelConfig) -> Task:
    """Say what stood where the text has holes (BERT, Devlin et al. 2019)."""
    store, counts = load_tokens(options.data, tokenizer)
    context, words, rate = options.train.context, Words(tokenizer), options.noise.rate or RATE

    def collate(part: TokenStore, whole: bool) -> Collator:
        return MaskedCollate(
            part, context, words, tokenizer.mask, tokenizer.pad, options.seed, rate, options.noise.static,
            options.noise.whole_words, whole,
        )  # fmt: skip

    return Task(store, counts, lambda part: PACKINGS[options.packing](part.lengths, context), collate, head="masked")


def span(options: PretrainOptions, tokenizer: Tokenizer, config: ModelConfig) -> Task:
    """Say the spans that were cut out of a text (T5, Raffel et al. 2020)."""
    longest, noise = options.train.context - FRAME, options.noise
    rate = noise.rate or SPAN_RATE
    check_rate(rate, noise.span_length)
    said = sum(span_counts(longest, rate, noise.span_length)) + 1 + FRAME
    if said > options.train.context:
        raise InputError(
            f"noise.rate={rate} and noise.span_length={noise.span_length} make targets of {said} tokens, longer than "
            f"train.context={options.train.context}; lower the rate or make the spans longer"
        )

    def collate(part: TokenStore, whole: bool) -> Collator:
        return SpanCollate(
            sentinels=tokenizer.sentinels, longest=longest, rate=rate, mean=noise.span_length,
            **_restored(part, options, tokenizer, config, whole),
        )  # fmt: skip

    return _restoring(options, tokenizer, longest, collate)


def denoise(options: PretrainOptions, tokenizer: Tokenizer, config: ModelConfig) -> Task:
    """Say the whole text, of which spans were hidden and sentences exchanged (BART, Lewis et al. 2020)."""
    longest, noise, words = options.train.context - FRAME, options.noise, Words(tokenizer)

    def collate(part: TokenStore, whole: bool) -> Collator:
        return DenoiseCollate(
            words=words, mask=tokenizer.mask, rate=noise.rate or RATE, mean=noise.span_length,
            permuted=noise.permuted, **_restored(part, options, tokenizer, config, whole),
        )  # fmt: skip

    return _restoring(options, tokenizer, longest, collate)


def _restoring(
    options: PretrainOptions, tokenizer: Tokenizer, longest: int, collate: Callable[[TokenStore, bool], Collator]
) -> Task:
    store, counts = load_tokens(options.data, tokenizer)
    task = Task(store, counts, lambda part: PACKINGS[options.packing](part.lengths, longest), collate)
    task.collate(store, False)  # what the tokenizer lacks is told before any work
    return task


def _restored(
    part: TokenStore, options: PretrainOptions, tokenizer: Tokenizer, config: ModelConfig, whole: bool
) -> dict[str, Any]:
    return {
        "store": part,
        "start": config.start,
        "end": ending(tokenizer),
        "begin": next(iter(frame(tokenizer)[0]), None),
        "pad": tokenizer.pad,
        "seed": options.seed,
        "multiple": _multiple(options, whole),
    }


def seq2seq(options: PretrainOptions, tokenizer: Tokenizer, config: ModelConfig) -> Task:
    """Say the target of a source, a translation for one (Sutskever et al. 2014; Vaswani et al. 2017)."""
    context = options.train.context
    if options.train.compile:
        raise InputError("train.compile with objective=seq2seq: pairs make batches of many shapes; leave it out")
    store, counts = load_pairs(
        read(options.data), tokenizer, context=context, source=options.source, target=options.target
    )

    def collate(part: Pairs, whole: bool) -> Collator:
        return PairCollate(part, config.start, tokenizer.pad)

    return Task(store, counts, lambda part: Buckets(part, context, options.seed), collate)


def _multiple(options: PretrainOptions, whole: bool) -> int:
    """Widths of batches are multiples of this: few shapes where blocks are compiled for each."""
    return options.train.context if whole else 1


def labels(options: ClassifyOptions, tokenizer: Tokenizer, config: ModelConfig) -> Task:
    """Say the label of a text, or of each word."""
    context = options.train.context
    head = "tokens" if options.kind == "words" else "classify"
    load = partial(load_tags if head == "tokens" else load_labels, tokenizer=tokenizer, context=context)
    known = config.label_names if head in config.heads_of else ()
    try:
        store, counts = load(read(options.data), names=known)
    except InputError:
        if not known:
            raise
        store, counts = load(read(options.data))  # other labels than the model knows: its head will give way

    def collate(part: Any, whole: bool) -> Collator:
        if options.kind == "words":
            return TagCollate(part, context, tokenizer.pad, whole)
        return LabelCollate(part, context, tokenizer.pad, config.token_types > 1, whole)

    rows = PACKINGS["none"]
    return Task(store, counts, lambda part: rows(part.lengths, context), collate, head=head, names=store.names)


OBJECTIVES: dict[str, Callable[[PretrainOptions, Tokenizer, ModelConfig], Task]] = {
    "causal": causal, "masked": masked, "span": span, "denoise": denoise, "seq2seq": seq2seq,
}  # fmt: skip
# What a model must be for an objective: (has an encoder, sees the past alone, the head that answers).
SHAPES = {
    "causal": (False, True, "lm"),
    "masked": (False, False, "masked"),
    "span": (True, True, "lm"),
    "denoise": (True, True, "lm"),
    "seq2seq": (True, True, "lm"),
}


def check_shape(objective: str, config: ModelConfig) -> None:
    """Raises InputError where a model of this shape cannot learn this."""
    encodes, one_way, head = SHAPES[objective]
    found = (config.encoder_layers > 0, config.causal, head in config.heads_of)
    if found != (encodes, one_way, True):
        layers = "at least 1" if encodes else "0"
        raise InputError(
            f"objective={objective} with model.encoder_layers={config.encoder_layers}, model.causal={config.causal}, "
            f"model.heads_of={', '.join(config.heads_of) or 'none'}; wanted {layers}, {one_way} and {head}; "
            "choose another preset or objective"
        )


# Options that only some objectives look at.
HEEDED = {
    "noise.rate": {"masked", "span", "denoise"},
    "noise.static": {"masked"},
    "noise.whole_words": {"masked"},
    "noise.span_length": {"span", "denoise"},
    "noise.permuted": {"denoise"},
    "source": {"seq2seq"},
    "target": {"seq2seq"},
    "packing": OBJECTIVES.keys() - {"seq2seq"},
    "train.micro_tokens": OBJECTIVES.keys() - {"seq2seq"},
    "look_back": {"causal", "masked"},
}


def check_heeded(options: PretrainOptions) -> None:
    """Raises InputError for an option that was set and that this objective does not look at."""
    for name, objectives in HEEDED.items():
        found, usual = (reduce(getattr, name.split("."), one) for one in (options, PretrainOptions()))
        if options.objective not in objectives and found != usual:
            raise InputError(
                f"{name}={found} with objective={options.objective}, which does not look at it; it is for "
                f"{', '.join(sorted(objectives))}; leave it out"
            )


def ending(tokenizer: Tokenizer) -> int:
    """The id that ends a text. Raises InputError where the tokenizer has none."""
    if tokenizer.eos is None:
        raise InputError("this tokenizer puts no end token after a text; use one with an eos_token")
    return tokenizer.eos
