"""The numbers of panels as safetensors, with what they are of as metadata."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
from safetensors.numpy import save

from ..panel import NOWHERE, Array, Heading, Panel
from .record import finite


def tensors(panels: Sequence[Panel], heading: Heading = NOWHERE) -> bytes:
    """Every array as `view/name`, as it was computed; a second panel of a view is `view.2/name`. The metadata `instar`
    is a JSON object: in `panels` of each its title, data, checks and notes, in `of` the model, text, ids and options.
    It is one entry, since the library writes several in any order."""
    arrays: dict[str, Array] = {}
    about = {}
    for name, panel in named(panels):
        arrays |= {f"{name}/{part}": np.ascontiguousarray(array) for part, array in panel.arrays.items()}
        about[name] = {
            "title": panel.title._asdict(), "data": finite(panel.data),
            "checks": [check.record() for check in panel.checks], "notes": [note._asdict() for note in panel.notes],
        }  # fmt: skip
    said = {"panels": about, "of": finite(heading.record())}
    return bytes(save(arrays, metadata={"instar": json.dumps(said, ensure_ascii=False, allow_nan=False)}))


def named(panels: Sequence[Panel]) -> list[tuple[str, Panel]]:
    """Panels with names that none shares."""
    found: dict[str, Panel] = {}
    for panel in panels:
        number = sum(other.view == panel.view for other in found.values()) + 1
        found[panel.view if number == 1 else f"{panel.view}.{number}"] = panel
    return list(found.items())
