"""The options of every command, documented beside their defaults, once."""

from .asking import (
    BEAMING,
    DRAWING,
    PENALTIES,
    ChatOptions,
    EvalOptions,
    GenerateOptions,
    SamplingOptions,
    VerifyOptions,
)
from .screen import Machine, Screen
from .stages import ClassifyOptions, GrowOptions, NoiseOptions, PretrainOptions, SftOptions
from .texts import (
    PrepareOptions,
    PreviewOptions,
    TokenizerCompareOptions,
    TokenizerShowOptions,
    TokenizerTrainOptions,
)
from .training import CheckpointOptions, EvaluateOptions, TrainOptions

__all__ = [
    "BEAMING", "DRAWING", "PENALTIES", "ChatOptions", "CheckpointOptions", "ClassifyOptions", "EvalOptions",
    "EvaluateOptions", "GenerateOptions", "GrowOptions", "Machine", "NoiseOptions", "PrepareOptions", "PretrainOptions",
    "PreviewOptions", "SamplingOptions", "Screen", "SftOptions", "TokenizerCompareOptions", "TokenizerShowOptions",
    "TokenizerTrainOptions", "TrainOptions", "VerifyOptions",
]  # fmt: skip
