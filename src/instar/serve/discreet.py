"""What may be said of a constraint that cannot be: why, and nothing of what its author wrote."""

from __future__ import annotations

import re

from ..config.options import CONSTRAINTS, SamplingOptions

WORD = re.compile(r"\w{2,}")
# words of JSON Schema, and of those who refuse it: they may be said though a request has said them too
TERMS = frozenset(
    "json_schema regex choice grammar type object array string number integer boolean null properties items required "
    "enum const pattern format ref defs not oneOf anyOf allOf additionalProperties minimum maximum minLength maxLength "
    "minItems maxItems".split()
)


def discreet(said: str, options: SamplingOptions) -> str:
    """What was said of a constraint, without the words of whoever wrote it. Example: "Invalid type: ..."."""
    own = {word for name in CONSTRAINTS for word in WORD.findall(str(getattr(options, name)))} - TERMS
    return WORD.sub(lambda found: "..." if found[0] in own else found[0], said)
