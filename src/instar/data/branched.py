"""Dialogues that begin alike, folded into one stretch: what they share is read once.

[trunk | branch 1 | branch 2 ...]: each branch sees the trunk and itself and goes on in the positions behind the trunk,
so each dialogue is learnt as it would be by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from .shards import Section

WORTH = 8  # shared tokens


def folded(sections: Sequence[Section], context: int) -> Iterator[Section]:
    """The sections, with what all of them share at their beginning once, in stretches of at most `context` tokens.

    Nothing of a trunk teaches, nor does the first token of a branch, which several places would have to say at once.
    Evidence stands in the trunk, or is of one branch alone and nobody's.
    """
    trunk = shared(sections)
    if len(sections) < 2 or trunk < WORTH:
        yield from sections
        return
    begun: list[Section] = []
    for section in sections:
        if begun and trunk + sum(len(each.ids) - trunk for each in [*begun, section]) > context:
            yield joined(begun, trunk)
            begun = []
        begun.append(section)
    yield joined(begun, trunk)


def shared(sections: Sequence[Section]) -> int:
    """How many tokens all begin with, and none is taught among them or right behind."""
    shortest = min(len(section.ids) for section in sections)
    ids = np.stack([np.asarray(section.ids[:shortest]) for section in sections])
    alike = (ids == ids[0]).all(0)
    common = shortest if alike.all() else int(alike.argmin())
    taught = [np.asarray(section.teaches[:shortest]) for section in sections if section.teaches is not None]
    quiet = min((int(each.argmax()) if each.any() else shortest for each in taught), default=0)
    return max(0, min(common, quiet - 1))


def joined(sections: Sequence[Section], trunk: int) -> Section:
    """One stretch of them all."""
    ids = [np.asarray(section.ids) for section in sections]
    teaches = [np.asarray(section.teaches) for section in sections]
    nobody = all(section.evidence is None for section in sections)
    evidence = [np.zeros((len(x.ids), 2), np.int32) if x.evidence is None else x.evidence for x in sections]
    sizes = [trunk, *(len(each) - trunk for each in ids)]
    return Section(
        np.concatenate([ids[0][:trunk], *(each[trunk:] for each in ids)]),
        sections[0].key,
        sum(section.size for section in sections),
        teaches=np.concatenate([teaches[0][:trunk], *(each[trunk:] for each in teaches)]),
        branches=np.repeat(np.arange(len(sizes), dtype=np.uint8), sizes),
        evidence=None if nobody else np.concatenate([evidence[0][:trunk], *(x[trunk:] for x in evidence)]),
    )
