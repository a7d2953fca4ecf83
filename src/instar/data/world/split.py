"""Which facts are held out: a tenth, by hash, the same in every run, machine and language.

A fact is the whole content of one event (who, what colour of which thing, where), so that each is rare: in forty
thousand dialogues a given fact is expected about once. Holding out common facts, such as "balls in gardens", would
teach that they are impossible.
"""

from __future__ import annotations

from hashlib import blake2b

HELD_OUT_SHARE = 0.1
_BOUND = int(HELD_OUT_SHARE * 2**32)


def is_held_out(fact: str) -> bool:
    """Example: is_held_out("put|tom|red ball|garden")"""
    return int.from_bytes(blake2b(fact.encode(), digest_size=4).digest(), "big") < _BOUND


def seed_of(*parts: object) -> int:
    """A seed from printable parts, independent of the process's own hashing."""
    return int.from_bytes(blake2b("|".join(map(str, parts)).encode(), digest_size=8).digest(), "big")
