"""What a textbook says of language models, held against one: each claim with its rule, its figure and its verdict."""

from __future__ import annotations

from collections.abc import Iterable

from .cache import CACHE
from .decoding import BEAM, GREEDY, TEMPERATURE
from .depth import DEPTH
from .entities import ENTITIES
from .files import looked_over
from .knowledge import KNOWLEDGE
from .layers import LAYERS
from .order import ORDER
from .parallel import PARALLEL
from .relations import RELATIONS
from .verdict import Case, Claim, Finding, Verdict, against, interval
from .vocabulary import VOCABULARY

# In the order of the textbook.
CLAIMS: dict[str, Claim] = {
    claim.name: claim
    for claim in (
        PARALLEL, ORDER, ENTITIES, RELATIONS, LAYERS, DEPTH, KNOWLEDGE, VOCABULARY, CACHE, GREEDY, BEAM, TEMPERATURE,
    )
}  # fmt: skip

__all__ = ["CLAIMS", "Case", "Claim", "Finding", "Verdict", "against", "check", "interval"]


def check(case: Case, claims: Iterable[Claim] = ()) -> list[Verdict]:
    """The verdict of each claim, by default of all, one after the other; each is told when it is reached.

    Raises InputError for a file of people's own that no claim looks at.
    """
    looked_over(case.data)
    found = []
    for claim in claims or CLAIMS.values():
        found.append(claim(case))
        case.watch.say(f"{claim.title.en}: {found[-1].verdict}")
    return found
