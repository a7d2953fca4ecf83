"""The stages of a life that train, and the life itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tyro.conf import Positional

from ..presets import preset
from ..shape import ModelConfig
from .screen import REQUIRED, Machine, Screen
from .training import CheckpointOptions, EvaluateOptions, LoraOptions, TrainOptions


@dataclass(frozen=True)
class NoiseOptions:
    """What is taken from a text for a model to restore: holes (masked), spans (span, denoise)."""

    # share of the tokens; 0 takes what is usual: 0.3 of masked and denoise, 0.15 of span
    rate: float = 0.0
    # masked: the same holes in every pass over the data
    static: bool = False
    # masked: all tokens of a word or none
    whole_words: bool = True
    # span, denoise: tokens of a span, on average
    span_length: float = 3.0
    # denoise: sentences in another order
    permuted: bool = True


@dataclass(frozen=True)
class PretrainOptions(Machine):
    """Train a new model on texts, or on pairs of them."""

    # files, folders, globs, world:NAME or hf:org/name
    data: tuple[str, ...] = field(default=(), metadata=REQUIRED)
    # folder of the tokenizer
    tokenizer: str = field(default="", metadata=REQUIRED)
    # folder of the run
    out: str = field(default="", metadata=REQUIRED)
    # named shape that --model.* starts from
    preset: str = "nano"
    # what the model learns to say: causal, the next token; masked, the hidden ones; span, spans that were cut out;
    # denoise, the text behind a damaged one; seq2seq, the target of a source
    objective: Literal["causal", "masked", "span", "denoise", "seq2seq"] = "causal"

    noise: NoiseOptions = field(default_factory=NoiseOptions)
    # seq2seq: the key of a record's source
    source: str = "source"
    # seq2seq: the key of its target
    target: str = "target"
    # heads of the first blocks begin by looking at the tokens just before theirs, in an encoder also just behind, so
    # that copying forms sooner
    look_back: bool = False
    # held-out share of the documents, chosen by hash
    held_out: float = 0.02
    # windows cuts the stream of documents every `context` tokens; best-fit keeps short documents whole
    packing: Literal["windows", "best-fit"] = "windows"
    # go on from the newest checkpoint of --out
    resume: bool = False

    model: ModelConfig = field(default_factory=lambda: preset("nano"))
    train: TrainOptions = field(default_factory=TrainOptions)
    evaluate: EvaluateOptions = field(default_factory=EvaluateOptions)
    checkpoint: CheckpointOptions = field(default_factory=CheckpointOptions)


@dataclass(frozen=True)
class SftOptions(Machine):
    """Teach a pretrained model to answer, from dialogues."""

    # run folder, Hugging Face folder or hf:org/name
    model: str = field(default="", metadata=REQUIRED)
    # files, folders, globs, world:NAME or hf:org/name
    data: tuple[str, ...] = field(default=(), metadata=REQUIRED)
    # folder that is written
    out: str = field(default="", metadata=REQUIRED)
    # assistant teaches only the replies with their ends, of a prompt and its completion only the completion; all
    # teaches every token. In neither do replies that are marked with "train": false or "weight": 0
    teach: Literal["assistant", "all"] = "assistant"
    # how much a head in the middle is taught to look at the words that a record names as the evidence of a reply,
    # beside what the reply teaches: 0.5 is half as much; 0 leaves it to learn by itself where to look
    evidence: float = 0.0
    # noise on the embeddings in training, uniform in +-this / sqrt(tokens x width) (NEFTune); 5 is usual, 0 is off
    neftune: float = 0.0
    # share of the records that may be at fault: they are left out, counted and told; more of them end the run
    bad_records: float = 0.01
    # share of the documents that is kept for evaluation, chosen by hash
    held_out: float = 0.02
    # best-fit packs several dialogues into a row, isolated; none gives each a row
    packing: Literal["best-fit", "none"] = "best-fit"
    # go on from the newest checkpoint of --out
    resume: bool = False

    train: TrainOptions = field(
        default_factory=lambda: TrainOptions(lr=2e-5, weight_decay=0.0, warmup=0.03, decay=0.97)
    )
    lora: LoraOptions = field(default_factory=LoraOptions)
    evaluate: EvaluateOptions = field(default_factory=EvaluateOptions)
    checkpoint: CheckpointOptions = field(default_factory=CheckpointOptions)


@dataclass(frozen=True)
class ClassifyOptions(Machine):
    """Teach a model to tell labels apart, of whole texts or of words."""

    # run folder, Hugging Face folder or hf:org/name; its head gives way to a new one
    model: str = field(default="", metadata=REQUIRED)
    # files, folders, globs, world:NAME or hf:org/name
    data: tuple[str, ...] = field(default=(), metadata=REQUIRED)
    # folder that is written
    out: str = field(default="", metadata=REQUIRED)
    # texts: {"text", "label"}; words: {"tokens", "labels"}
    kind: Literal["texts", "words"] = "texts"
    # begin with other weights in the same shape, to see what pretraining was worth
    fresh: bool = False
    # share of the texts that is kept for evaluation, chosen by hash
    held_out: float = 0.1
    # go on from the newest checkpoint of --out
    resume: bool = False

    train: TrainOptions = field(
        default_factory=lambda: TrainOptions(lr=1e-4, weight_decay=0.01, warmup=0.06, decay=0.94, epochs=3.0)
    )
    lora: LoraOptions = field(default_factory=LoraOptions)
    evaluate: EvaluateOptions = field(default_factory=EvaluateOptions)
    checkpoint: CheckpointOptions = field(default_factory=CheckpointOptions)


@dataclass(frozen=True)
class GrowOptions(Screen):
    """Raise a model through its whole life from one recipe."""

    # the recipe; each stage is skipped when its folder is finished and its inputs are unchanged
    recipe: Positional[str] = field(default="", metadata={"positional": True, "required": True})
    # folder that holds one folder a stage
    out: str = field(default="", metadata=REQUIRED)
    # auto, cpu, cuda or mps
    device: str = "auto"
