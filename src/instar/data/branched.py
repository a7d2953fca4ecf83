"""Dialogues that begin alike, folded into one stretch: what they share is read once.

[trunk | branch 1 | branch 2 ...]: each branch sees the trunk and itself and goes on in the positions behind the trunk,
so each dialogue is learnt as it would be by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from .shards import BRANCH, Section

WORTH = 8  # shared tokens


def folded(sections: Sequence[Section], context: int) -> Iterator[Section]:
    """The sections, with what all of them share at their beginning once, in stretches of at most `context` tokens.

    Nothing of a trunk teaches, nor does the first token of a branch, which several places would have to say at once.
    """
    trunk = shared(sections)
    if len(sections) < 2 or trunk < WORTH:
        yield from sections
        return
    begun: list[Section] = []
    used = trunk
    for section in sections:
        own = len(section.ids) - trunk
        if begun and used + own > context:
            yield joined(begun, trunk)
            begun, used = [], trunk
        begun.append(section)
        used += own
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
    sizes = [trunk, *(len(each) - trunk for each in ids)]
    evidence = [_moved(section, trunk, int(start)) for section, start in zip(sections, np.cumsum(sizes))]
    return Section(
        np.concatenate([ids[0][:trunk], *(each[trunk:] for each in ids)]),
        sections[0].key,
        sum(section.size for section in sections),
        teaches=np.concatenate([teaches[0][:trunk], *(each[trunk:] for each in teaches)]),
        branches=np.repeat(np.arange(len(sizes), dtype=BRANCH), sizes),
        evidence=None if nobody else np.concatenate([np.zeros((trunk, 2), np.int32), *evidence]),
    )


def _moved(section: Section, trunk: int, start: int) -> np.ndarray:
    """Where the evidence stands of what a section says behind the trunk, once that part of it begins at `start`: words
    that begin in the trunk count as far as the trunk goes."""
    if section.evidence is None:
        return np.zeros((len(section.ids) - trunk, 2), np.int32)
    begin, end = np.asarray(section.evidence)[trunk:].T
    own = begin >= trunk
    shift = np.where(own, start - trunk, 0)
    return np.stack([begin + shift, np.where(own, end, np.minimum(end, trunk)) + shift], 1).astype(np.int32)
