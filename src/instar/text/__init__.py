"""Text and tokens: the tokenizer, the chat template's one renderer, and looking at both. Knows nothing of torch."""

from .chat import Chat
from .tokenizer import Stream, Tokenizer, check_fits

__all__ = ["Chat", "Stream", "Tokenizer", "check_fits"]
