"""GGUF, the file of llama.cpp: a model and its tokenizer in one, written for the families that llama.cpp knows."""

from .arch import Unwritable
from .families import ARCHS
from .file import export

__all__ = ["ARCHS", "Unwritable", "export"]
