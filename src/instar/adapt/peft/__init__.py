"""An adapter as peft has it: adapter_config.json and adapter_model.safetensors, both ways.

A family may keep several of our layers in one of its own. An adapter of those is one adapter of that: their A one below
the other, their B along the diagonal of one, in the rows where the layers lie, with a rank and an alpha of its own, so
that it computes the same. What is ours in it, and what base it was made for, stands in the metadata of the file.
"""

from .names import CONFIG, WEIGHTS, Base, Stored
from .reader import fit, read
from .writer import write

__all__ = ["CONFIG", "WEIGHTS", "Base", "Stored", "fit", "read", "write"]
