"""The records of an archive of the web as bytes, packed by gzip one by one, all together, or not at all.

Behind a damaged member the next one follows, so that damage costs the records it lies in and no others. Knows nothing
of what records hold.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from ...config.data import LimitOptions
from .opening import room_of
from .piece import Refused

__all__ = ["HEADERS", "MAGIC", "Records", "members"]

BLOCK = 1 << 16
HEADERS = 1 << 20  # bytes of the headers of a record at most
MAGIC = b"\x1f\x8b\x08"
MEMBER_ENDS = b""
KEPT = 4 << 20  # bytes of a member that are looked through once more if it is damaged
START = re.compile(rb"WARC/\d")


def members(stream: BinaryIO, limits: LimitOptions) -> Iterator[bytes | Refused]:
    """The unpacked blocks of a stream of gzip members, or the blocks of a stream that is none, one after the other.
    Damage is told where it is found, and the next member follows."""
    data, taken, given = stream.read(BLOCK), 0, 0
    if not data.startswith(MAGIC):
        while data:
            yield data
            data = stream.read(BLOCK)
        return
    unpacker, begun = zlib.decompressobj(31), b""  # begun: the bytes of this member, from which to look for the next
    while True:
        ended = not data and not (data := stream.read(BLOCK))
        if not begun and not (data := data.lstrip(b"\0")):  # zeros that tapes fill up with
            if ended:
                return
            continue
        begun = begun + data if len(begun) < KEPT else data
        try:
            if ended:
                raise Refused("truncated", f"the gzip data ends after {taken:,} bytes in a member")
            made = unpacker.decompress(data, 16 * BLOCK)
        except (zlib.error, Refused) as error:
            damaged = Refused("compressed", f"damaged gzip near byte {taken:,}: {error}")
            yield error if isinstance(error, Refused) else damaged
            data, unpacker, begun = _next_member(begun[1:], stream), zlib.decompressobj(31), b""
            continue
        rest = unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail
        taken, given = taken + len(data) - len(rest), given + len(made)
        if made:
            yield made
        if given > room_of(limits, taken):
            said = f"{taken:,} bytes unpack to more than {given:,}; limits.expansion={limits.expansion:g}"
            yield Refused("expands", said)
            return
        if unpacker.eof:
            yield MEMBER_ENDS
            unpacker, begun = zlib.decompressobj(31), b""
        elif rest:
            begun = begun[: -len(rest)]
        data = rest


def _next_member(data: bytes, stream: BinaryIO) -> bytes:
    """What follows from the next bytes on that begin a member, or nothing at the end."""
    while (place := data.find(MAGIC)) < 0:
        more = stream.read(BLOCK)
        if not more:
            return b""
        data = data[-len(MAGIC) + 1 :] + more
    return data[place:]


class Records:
    """Lines and bytes out of blocks. Raises the Refused among them where it stands; then the next block follows."""

    def __init__(self, blocks: Iterator[bytes | Refused]) -> None:
        self._blocks, self._rest = blocks, b""
        self.passed = 0  # bytes that belong to no record, since they were last reported

    def headers(self) -> bytes:
        """The lines of the next record's headers, the blank one included; nothing at the end."""
        while (line := self._line()) and not START.match(line):
            if line.strip():
                self.passed += len(line)
        lines, size = [line], len(line)
        while line.strip():
            line = self._line(inside=True)
            lines.append(line)
            size += len(line)
            if not line:
                raise Refused("truncated", "the headers of a record end early")
            if size > HEADERS:
                raise Refused("archive", f"a record with more than {HEADERS:,} bytes of headers")
        return b"".join(lines)

    def read(self, size: int) -> bytes:
        """So many bytes of a record, or fewer at the end."""
        parts = []
        while size and (self._rest or self._more(inside=True)):
            part, self._rest = self._rest[:size], self._rest[size:]
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def skip(self, size: int) -> int:
        """Read past so many bytes of a record. -> how many there were."""
        left = size
        while left and (self._rest or self._more(inside=True)):
            count = min(left, len(self._rest))
            self._rest = self._rest[count:]
            left -= count
        return size - left

    def end(self) -> None:
        """Read past the blank lines that end a record, and no farther than the end of its member.

        Raises Refused: "archive" where something else follows, so that its length or its content is wrong."""
        while not (rest := self._rest.lstrip(b"\r\n")):
            block = next(self._blocks, MEMBER_ENDS)
            self._rest = b""
            if isinstance(block, Refused):
                raise block
            if block == MEMBER_ENDS:
                return
            self._rest = block
        self._rest = rest
        if rest[:5] != b"WARC/"[: len(rest)]:
            raise Refused("archive", "a record goes on behind the length that it says it has")

    def _line(self, inside: bool = False) -> bytes:
        parts, size = [], 0
        while size < BLOCK and (self._rest or self._more(inside)):
            place = self._rest.find(b"\n") + 1 or len(self._rest)
            part, self._rest = self._rest[:place], self._rest[place:]
            parts.append(part)
            size += len(part)
            if part.endswith(b"\n"):
                break
        return b"".join(parts)

    def _more(self, inside: bool) -> bool:
        """Take the next block. inside: a record goes on, unless a member begins with another one."""
        block = next(self._blocks, None)
        while block == MEMBER_ENDS:
            block = next(self._blocks, None)
            if inside and isinstance(block, bytes) and START.match(block):
                self._rest = block
                raise Refused("truncated", "a record ends before the length that it says it has")
        if isinstance(block, Refused):
            raise block
        self._rest = block or b""
        return block is not None
