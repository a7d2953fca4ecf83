"""The built-in world: a small simulated village or town, told in English and Chinese, whose truth is known.

A simulated state gives events, events give sentences in both languages, questions, answers and annotations.
"""

from .address import Address, parse
from .controls import CONTROLS, score, without_story
from .manners import MANNERS, OTHER, PREFERRED, manner_of
from .questions import KINDS, MAIN
from .tasks import check, records

__all__ = [
    "CONTROLS", "KINDS", "MAIN", "MANNERS", "OTHER", "PREFERRED", "Address", "check", "manner_of", "parse", "records",
    "score", "without_story",
]  # fmt: skip
