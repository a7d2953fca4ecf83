"""Strangers' files as streams of bytes, wherever they lie and however they are packed. Knows nothing of documents.

What unpacks to far more than it takes is a bomb: `open_raw` gives it up past `limits.expansion` times the bytes read so
far, or 64 MB if that is more. Rows are read one by one and capped one by one instead (`open_rows`), so that a table
which packs well is no bomb however long it is.
"""

from __future__ import annotations

import bz2
import io
import lzma
import math
import re
import zlib
from pathlib import PurePosixPath
from typing import Any, BinaryIO, Literal, Protocol, cast

from ...config.data import LimitOptions
from .decoding import decode
from .piece import Refused

__all__ = [
    "ENDINGS", "MEGABYTE", "Refused", "decode", "open_file", "open_raw", "open_rows", "packing_of", "read_whole",
    "room_of", "suffix_of",
]  # fmt: skip

MEGABYTE = 1_000_000
FLOOR = 64 * MEGABYTE  # anything may unpack to this much
BUFFER = 1 << 20
MEMORY = 256 << 20  # bytes that xz may take for its dictionary
# endings of names -> how they are packed
ENDINGS = {".gz": "gzip", ".zst": "zstd", ".zstd": "zstd", ".bz2": "bzip2", ".xz": "xz"}
HEAD = 10
MAGIC = {
    "gzip": re.compile(rb"\x1f\x8b\x08"),
    "zstd": re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18"),  # a frame, or one to be skipped
    "bzip2": re.compile(rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)"),  # of some blocks, or of none
    "xz": re.compile(rb"\xfd7zXZ\0"),
}


def suffix_of(address: str) -> str:
    """The suffix that tells the format: .jsonl for rows.jsonl.gz and for https://host/rows.jsonl?download=true."""
    if address.startswith(("http://", "https://")):
        address = re.split(r"[?#]", address, maxsplit=1)[0]
    name = PurePosixPath(address.replace("\\", "/")).name.lower()
    ending = PurePosixPath(name).suffix
    return PurePosixPath(name.removesuffix(ending)).suffix if ending in ENDINGS else ending


def packing_of(head: bytes) -> str:
    """How a file is packed by its first 10 bytes: gzip, zstd, bzip2, xz, or "" for not at all."""
    return next((name for name, magic in MAGIC.items() if magic.match(head)), "")


def room_of(limits: LimitOptions, packed: int) -> float:
    """Bytes that so many packed ones may unpack to."""
    return max(FLOOR, limits.expansion * packed)


def open_file(address: str) -> io.BufferedReader:
    """The bytes as they are stored, seekable where the place is. Raises OSError."""
    if "://" not in address:
        return cast(io.BufferedReader, open(address, "rb", buffering=BUFFER))
    import fsspec

    return io.BufferedReader(cast(io.RawIOBase, fsspec.open(address, "rb").open()), BUFFER)


def open_raw(address: str, limits: LimitOptions) -> BinaryIO:
    """The unpacked bytes, of which there are no more than an honest file has.

    Raises OSError; Refused ("compressed") where the name says packed and the bytes do not. Reading it raises Refused:
    "truncated", "compressed" or "expands".
    """
    return _unpacked(open_file(address), address, limits.expansion)


def open_rows(address: str, start: int = 0) -> BinaryIO:
    """The unpacked bytes, however many; from byte `start`, which only what is not packed can have."""
    stream = open_file(address)
    if start:
        stream.seek(start)
        return cast(BinaryIO, stream)
    return _unpacked(stream, address, math.inf)


def read_whole(address: str, limits: LimitOptions, option: Literal["document_mb", "text_mb"] = "document_mb") -> bytes:
    """Every byte of a file, unpacked. Raises as `open_raw` does, and Refused ("long") beyond the limit so called."""
    megabytes = getattr(limits, option)
    most = int(megabytes * MEGABYTE)
    with open_raw(address, limits) as stream:
        data = stream.read(most + 1)
    if len(data) > most:
        raise Refused("long", f"more than {most:,} bytes, wanted at most limits.{option}={megabytes:g} megabytes")
    return data


def _unpacked(stream: io.BufferedReader, address: str, expansion: float) -> BinaryIO:
    head = stream.peek(HEAD)[:HEAD]
    packing = packing_of(head)
    said = next((name for ending, name in ENDINGS.items() if address.lower().endswith(ending)), "")
    if said and not packing and head:
        stream.close()
        raise Refused("compressed", f"its name says {said}, and it begins with the bytes {head[:6].hex(' ')}")
    if not packing:
        return cast(BinaryIO, stream)
    return cast(BinaryIO, io.BufferedReader(Unpacked(stream, packing, expansion), BUFFER))


class Unpacker(Protocol):
    """What the decompressors of bz2 and lzma are: one member, fed by and by."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Gzip:
    def __init__(self) -> None:
        self._object = zlib.decompressobj(31)  # gzip's header and checksum

    @property
    def eof(self) -> bool:
        return self._object.eof

    @property
    def needs_input(self) -> bool:
        return not self._object.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._object.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._object.decompress(self._object.unconsumed_tail + data, max_length)


class _Zstd:
    """zstandard's reader of streams does not tell a frame that was cut off from one that ended; its object does."""

    needs_input = True

    def __init__(self) -> None:
        import zstandard

        self._object: Any = zstandard.ZstdDecompressor().decompressobj()

    @property
    def eof(self) -> bool:
        return bool(self._object.eof)

    @property
    def unused_data(self) -> bytes:
        return bytes(self._object.unused_data)

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return cast(bytes, self._object.decompress(data))


UNPACKERS = {
    "gzip": _Gzip,
    "zstd": _Zstd,
    "bzip2": bz2.BZ2Decompressor,
    "xz": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MEMORY),
}
# bytes handed over at a time; zstd heeds no limit on what it gives back, and 4 bytes may stand for 128 KB
STEPS = {"gzip": 1 << 16, "zstd": 1 << 9, "bzip2": 1 << 16, "xz": 1 << 16}


class Unpacked(io.RawIOBase):
    """The members of a packed stream one after the other, as pigz, pbzip2 and WARC write them."""

    def __init__(self, packed: io.BufferedReader, packing: str, expansion: float) -> None:
        super().__init__()
        self._packed, self._packing, self._expansion = packed, packing, expansion
        self._new, self._step = UNPACKERS[packing], STEPS[packing]
        self._unpacker = cast(Unpacker, self._new())
        self._rest = memoryview(b"")
        self._taken = self._given = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._rest:
            self._rest = memoryview(self._more(len(buffer)))
        count = min(len(buffer), len(self._rest))
        memoryview(buffer).cast("B")[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def close(self) -> None:
        self._packed.close()
        super().close()

    def _more(self, size: int) -> bytes:
        """Some unpacked bytes; none at the end."""
        while True:
            data = b""
            if self._unpacker.eof:
                data = self._next_member()
                if not data:
                    return b""
                self._unpacker = cast(Unpacker, self._new())
            elif self._unpacker.needs_input:
                data = self._take()
                if not data:
                    raise Refused("truncated", f"the {self._packing} data ends after {self._taken:,} bytes in a member")
            made = self._decompress(data, size)
            if made:
                return made

    def _decompress(self, data: bytes, size: int) -> bytes:
        try:
            made = self._unpacker.decompress(data, size)
        except MemoryError:
            raise
        except Exception as error:  # each library has an error of its own, and two of them share no base
            raise Refused("compressed", f"damaged {self._packing} within {self._taken:,} bytes: {error}") from None
        self._given += len(made)
        if self._given > max(FLOOR, self._expansion * self._taken):
            raise Refused(
                "expands",
                f"{self._taken:,} bytes unpack to more than {self._given:,}; limits.expansion={self._expansion:g}",
            )
        return made

    def _take(self) -> bytes:
        data = self._packed.read(self._step)
        self._taken += len(data)
        return data

    def _next_member(self) -> bytes:
        """The first bytes of the next member, past the zeros that tapes and xz fill up with; none at the end."""
        data = self._unpacker.unused_data
        while len(data := data.lstrip(b"\0")) < HEAD:
            if not (more := self._take()):
                break
            data += more
        if data and packing_of(data[:HEAD]) != self._packing:
            raise Refused("compressed", f"after a whole {self._packing} member follow the bytes {data[:6].hex(' ')}")
        return data
