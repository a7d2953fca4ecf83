"""The operations of the glass box, by the names that the front asks for them with. What each is given stands with its
function."""

from __future__ import annotations

from collections.abc import Mapping

from ..box import Operation
from . import changing, panels, pictures, profiles, reading, speaking, tracing

OPS: Mapping[str, Operation] = {
    "tokenize": reading.tokenize,
    "trace": tracing.trace,
    "traced": tracing.traced_again,
    "view": panels.view,
    "export": panels.export,
    "atlas": pictures.atlas,
    "attention": pictures.attention,
    "rollout": pictures.rollout,
    "logits": pictures.logits,
    "intervene": changing.intervene,
    "generate": speaking.generate,
    "beam": speaking.beam,
    "heads": profiles.heads,
    "probes": profiles.probes,
    "order": profiles.order,
    "vocabulary": profiles.vocabulary,
}
