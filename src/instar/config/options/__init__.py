"""The options of every command, documented beside their defaults, once."""

from .adapting import MergeOptions, QuantizeOptions
from .alignment import DpoOptions, PairOptions, RewardOptions
from .asking import (
    BEAMING,
    CONSTRAINTS,
    DRAWING,
    PENALTIES,
    ChatOptions,
    EngineOptions,
    EvalOptions,
    GenerateOptions,
    SamplingOptions,
    VerifyOptions,
)
from .export import ExportOptions
from .inspecting import InspectOptions
from .screen import Machine, Screen
from .serving import BenchServeOptions, GlassOptions, ServeOptions
from .speed import BenchDecodeOptions
from .stages import ClassifyOptions, GrowOptions, NoiseOptions, PretrainOptions, SftOptions
from .texts import (
    PrepareOptions,
    PreviewOptions,
    TokenizerCompareOptions,
    TokenizerShowOptions,
    TokenizerTrainOptions,
)
from .training import CheckpointOptions, EvaluateOptions, LoraOptions, TrainOptions

__all__ = [
    "BEAMING",
    "CONSTRAINTS",
    "DRAWING",
    "PENALTIES",
    "BenchDecodeOptions",
    "BenchServeOptions",
    "ChatOptions",
    "CheckpointOptions",
    "ClassifyOptions",
    "DpoOptions",
    "EngineOptions",
    "EvalOptions",
    "EvaluateOptions",
    "ExportOptions",
    "GenerateOptions",
    "GlassOptions",
    "GrowOptions",
    "InspectOptions",
    "LoraOptions",
    "Machine",
    "MergeOptions",
    "NoiseOptions",
    "PairOptions",
    "PrepareOptions",
    "PretrainOptions",
    "PreviewOptions",
    "QuantizeOptions",
    "RewardOptions",
    "SamplingOptions",
    "Screen",
    "ServeOptions",
    "SftOptions",
    "TokenizerCompareOptions",
    "TokenizerShowOptions",
    "TokenizerTrainOptions",
    "TrainOptions",
    "VerifyOptions",
]  # fmt: skip
