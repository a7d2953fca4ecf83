"""The built-in world: a small simulated village or town, told in English and Chinese, whose truth is known.

A simulated state gives events, events give sentences in both languages, questions, answers and annotations.
"""

from .address import Address, parse
from .controls import CONTROLS, score, without_story
from .questions import KINDS, MAIN
from .tasks import check, records

__all__ = ["CONTROLS", "KINDS", "MAIN", "Address", "check", "parse", "records", "score", "without_story"]
