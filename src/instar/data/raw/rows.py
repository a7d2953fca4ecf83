"""Files of rows: .jsonl, .json, .yaml, .csv, .tsv and .parquet, of which no more is held than a row, or a few.

The number of a row of .jsonl is the byte at which its line begins in the unpacked file, from 1, so that it is the same
however the file is cut among tasks: `tail -c +NUMBER FILE | head -1` shows it. Elsewhere rows are counted from 1.
A row that cannot be read is given up by itself where the format allows it; else with all that follow.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, NamedTuple, cast

from ...config.data import LimitOptions
from .opening import MEGABYTE, Refused, decode, open_file, open_rows, packing_of, read_whole, room_of, suffix_of
from .piece import Broken, Piece, Raw
from .texts import raw_of, wanted_columns

BLOCK = 1 << 16
BATCH = 4 * MEGABYTE  # bytes of a table's rows that are held at a time
MOST_ROWS = 1024


class Row(NamedTuple):
    """number: in the file, or the byte of its line; size: bytes as stored, 0 where rows have none of their own."""

    number: int
    value: Any
    size: int = 0


def read_rows(piece: Piece, limits: LimitOptions) -> Iterator[Raw | Broken]:
    """The document of each row of a piece, or why there is none."""
    empty = True
    for row in FORMATS[suffix_of(piece.address)](piece, limits):
        empty = False
        yield row if isinstance(row, Broken) else raw_of(row.value, row.number, row.size, piece, limits)
    if empty and not piece.stop:  # a range of one endless line, or of none, has no rows of its own
        yield Broken("empty", 1, "no rows in it", piece.size)


# .jsonl


def lines(
    stream: BinaryIO, start: int, stop: int, most: int, room: float = float("inf")
) -> Iterator[tuple[int, bytes | None, int]]:
    """(byte where it begins, line or None, its bytes) of every line that begins in [start, stop); stop 0: to the end.
    A line of more than `most` bytes is None, and is read past without being held. Blank lines are left out.

    Raises Refused ("expands") once more than `room` bytes were long or blank: the work of a bomb.
    """
    place, idle = start, 0
    if start:  # the line at `start` is this piece's only if the byte before ends a line
        stream.seek(start - 1)
        place += _skip(stream) - 1
    while not stop or place < stop:
        line = stream.readline(most + 1)
        if not line:
            return
        size, kept = len(line), line.strip()
        if size > most and not line.endswith(b"\n"):
            size, kept = size + _skip(stream, room - idle), b""
            yield place, None, size
        elif kept:
            yield place, line, size
        place += size
        if not kept:
            idle += size
            if idle > room:
                raise Refused("expands", f"more than {room:,.0f} bytes of blank or endless lines; limits.expansion")


def _skip(stream: BinaryIO, room: float = float("inf")) -> int:
    """Read past the end of a line, but not much farther than `room`. -> how many bytes that took."""
    passed = 0
    while passed <= room and (part := stream.readline(BLOCK)):
        passed += len(part)
        if part.endswith(b"\n"):
            break
    return passed


def _jsonl(piece: Piece, limits: LimitOptions) -> Iterator[Row | Broken]:
    most = int(limits.document_mb * MEGABYTE)
    with open_rows(piece.address, piece.start) as stream:
        for place, line, size in lines(stream, piece.start, piece.stop, most, room_of(limits, piece.size)):
            number = place + 1
            if line is None:
                yield Broken(
                    "long", number, f"a line of {size:,} bytes; limits.document_mb={limits.document_mb:g}", size
                )
                continue
            try:
                yield Row(number, parsed(line.removeprefix(b"\xef\xbb\xbf") if not place else line), size)
            except Refused as refused:
                cut = refused.reason == "json" and not line.endswith(b"\n")
                yield Broken("truncated" if cut else refused.reason, number, refused.detail, size)


def parsed(line: bytes) -> Any:
    """The value of a line of JSON, and of what people write for JSON: NaN, tabs in strings, other encodings.

    Raises Refused: "json", "deep", "binary", "encoding".
    """
    import orjson

    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:  # also half a surrogate pair, a long number, and more than 1024 levels
        text, _ = decode(line)
    try:
        return json.loads(text, strict=False)
    except RecursionError:
        raise Refused("deep", "lists or objects nested too deeply") from None
    except ValueError as error:
        raise Refused("json", f"{error}; every line is one object") from None


# .json


def _json(piece: Piece, limits: LimitOptions) -> Iterator[Row | Broken]:
    """The records of a list one by one; anything else is one record."""
    stream = _text_stream(piece.address)
    with stream:
        most = int(limits.document_mb * MEGABYTE)
        head = stream.read(BLOCK)
        if head.lstrip().startswith("["):
            found = elements(itertools.chain([head], iter(lambda: stream.read(BLOCK), "")), most)
            if piece.kind == "dialogues":  # messengers dump a talk as a list of its messages
                from .talks import gathered

                found = gathered(found)
            yield from (Row(*row) for row in enumerate(found, 1))
            return
        text = head + stream.read(most)
    if len(text) > most:
        raise Refused("long", f"one object of more than {most:,} bytes; limits.document_mb={limits.document_mb:g}")
    if text.strip():
        yield from (Row(number, value) for number, value in enumerate(_listed(parsed(text.encode())), 1))


def elements(parts: Iterator[str], most: int) -> Iterator[Any]:
    """The values of a JSON list whose text comes in parts; no more than one is held.

    Raises Refused: "json", "truncated", "deep", or "long" for a value of more than `most` characters.
    """
    decoder = json.JSONDecoder(strict=False)
    text, place = next(parts, "").lstrip()[1:], 0
    while True:
        place = cast(re.Match[str], BETWEEN.match(text, place)).end()
        value, end = None, 0
        if place < len(text):
            if text[place] == "]":
                return
            try:
                value, end = decoder.raw_decode(text, place)
            except RecursionError:
                raise Refused("deep", "lists or objects nested too deeply") from None
            except json.JSONDecodeError as error:
                # an error far before the end of what was read is none of reading too little
                if error.pos < len(text) - 16 and not error.msg.startswith("Unterminated"):
                    raise Refused("json", f"{error.msg}; the rest of the list is given up") from None
        if end and end < len(text):  # a number at the end may go on
            yield value
            place = end
            continue
        if len(text) - place > most:
            raise Refused("long", f"one value of more than {most:,} characters; the rest of the list is given up")
        # twice as much each time, so that a long value is parsed a few times and not once for each part
        wanted, more = max(BLOCK, len(text) - place), []
        while wanted > 0 and (part := next(parts, "")):
            more.append(part)
            wanted -= len(part)
        if not more:
            raise Refused("truncated", "the list has no end")
        text, place = text[place:] + "".join(more), 0


BETWEEN = re.compile(r"[\s,]*")


def _listed(value: Any) -> list[Any]:
    """A list of records, ChatterBot's `conversations:`, each a list of turns, or one record."""
    if isinstance(value, dict) and isinstance(value.get("conversations"), list):
        talks = value["conversations"]
        if all(isinstance(turns, (list, str)) for turns in talks):
            return [{"turns": turns if isinstance(turns, list) else [turns]} for turns in talks]
    return value if isinstance(value, list) else [value]


def _text_stream(address: str) -> io.TextIOWrapper:
    """The text of a file of rows, whose encoding its beginning tells."""
    stream = cast(io.BufferedReader, open_rows(address))
    try:
        _, name = decode(stream.peek(BLOCK)[:BLOCK]) if stream.peek(1) else ("", "utf-8")
    except Refused:
        stream.close()
        raise
    codec = {"utf-8": "utf-8-sig", "utf-16-le": "utf-16", "utf-16-be": "utf-16"}.get(name := name.split(" ")[0], name)
    return io.TextIOWrapper(stream, encoding=codec, errors="replace", newline="")


# .yaml


def _yaml(piece: Piece, limits: LimitOptions) -> Iterator[Row | Broken]:
    """A list of records; every scalar is a string, so that `No` is an answer and not false."""
    import yaml

    text, _ = decode(read_whole(piece.address, limits))
    loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)  # builds strings, lists and mappings, nothing else
    try:
        _check_yaml(yaml.parse(text, Loader=loader), limits.depth)
        value = yaml.load(text, Loader=loader)
    except RecursionError:
        raise Refused("deep", "lists or mappings nested too deeply") from None
    except yaml.YAMLError as error:
        raise Refused("markup", " ".join(str(error).split())) from None
    if value is not None:
        yield from (Row(number, row) for number, row in enumerate(_listed(value), 1))


def _check_yaml(events: Iterator[Any], deepest: int) -> None:
    """Raises Refused: an alias makes a few lines stand for endless text, and its loader's stack is the machine's."""
    import yaml

    depth = 0
    for event in events:
        if isinstance(event, yaml.AliasEvent):
            raise Refused("expands", f"the alias *{event.anchor} stands for other text; write that out")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > deepest:
            raise Refused("deep", f"nested more than limits.depth={deepest} levels deep")


# .csv and .tsv


def _csv(piece: Piece, limits: LimitOptions) -> Iterator[Row | Broken]:
    """Rows under the names of the first line, between commas, semicolons or tabs, whichever the first line has."""
    most = int(limits.document_mb * MEGABYTE)
    csv.field_size_limit(most)
    with _text_stream(piece.address) as stream:
        long: list[int] = []
        kept = _short_lines(stream, most, long)
        head = next(kept, "")
        reader = csv.reader(itertools.chain([head], kept), delimiter=max(",;\t", key=head.count))
        names: list[str] = []
        number, ended = 0, False
        while not ended:
            fields: list[str] = []
            wrong = None
            try:
                fields = next(reader)
            except StopIteration:
                ended = True
            except csv.Error as error:
                wrong = Broken("long" if "limit" in str(error) else "shape", number, f"{error}; wanted a row of fields")
            for size in long:
                yield Broken(
                    "long", number, f"a line of {size:,} characters; limits.document_mb={limits.document_mb:g}"
                )
                number += 1
            long.clear()
            if wrong:
                yield wrong
            elif not names:
                names = fields
            elif fields and len(fields) != len(names):
                yield Broken(
                    "shape", number, f"found {len(fields)} fields, wanted {len(names)}: {', '.join(names)[:200]}"
                )
            elif fields:
                yield Row(number, dict(zip(names, fields)))
            number += bool(fields or wrong)


def _short_lines(stream: io.TextIOWrapper, most: int, long: list[int]) -> Iterator[str]:
    """Lines of up to `most` characters; the lengths of the others go to `long`."""
    while line := stream.readline(most + 1):
        if len(line) <= most or line.endswith(("\n", "\r")):
            yield line
            continue
        size = len(line)
        while (part := stream.readline(BLOCK)) and not part.endswith(("\n", "\r")):
            size += len(part)
        long.append(size + len(part))


# .parquet


def _parquet(piece: Piece, limits: LimitOptions) -> Iterator[Row | Broken]:
    """Row group after row group, of each the columns that are wanted, a few megabytes at a time."""
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    with open_file(piece.address) as stream:
        packed = packing_of(stream.peek(10)[:10])
        source: Any = io.BytesIO(read_whole(piece.address, limits, "text_mb")) if packed else stream
        try:
            table = ParquetFile(source, buffer_size=BLOCK, pre_buffer=False)  # never a whole row group
        except ArrowException as error:
            raise Refused("archive", f"not a readable Parquet file: {_first_line(error)}") from None
        columns = wanted_columns(table.schema_arrow.names, piece)
        groups = [table.metadata.row_group(group) for group in range(table.num_row_groups)]
        for group in range(piece.start, piece.stop or len(groups)):
            number = 1 + sum(before.num_rows for before in groups[:group])
            try:
                for row in _group(table, group, columns, limits):
                    yield Row(number, row)
                    number += 1
            except Refused as refused:
                yield Broken(refused.reason, number, f"row group {group}: {refused.detail}")
            except (ArrowException, OSError, ValueError) as error:
                yield Broken("compressed", number, f"row group {group} cannot be read on: {_first_line(error)}")


def _group(table: Any, group: int, columns: list[str] | None, limits: LimitOptions) -> Iterator[Any]:
    about = table.metadata.row_group(group)
    chunks = [about.column(number) for number in range(about.num_columns)]
    if columns is not None:
        chunks = [chunk for chunk in chunks if chunk.path_in_schema.split(".")[0] in columns]
    packed = sum(chunk.total_compressed_size for chunk in chunks)
    size = sum(chunk.total_uncompressed_size for chunk in chunks)
    if size > room_of(limits, packed):
        raise Refused("expands", f"{packed:,} bytes unpack to {size:,}; limits.expansion={limits.expansion:g}")
    rows = max(1, min(MOST_ROWS, BATCH * about.num_rows // max(1, size)))
    for batch in table.iter_batches(rows, row_groups=[group], columns=columns):
        yield from batch.to_pylist()


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]


FORMATS: dict[str, Callable[[Piece, LimitOptions], Iterator[Row | Broken]]] = {
    ".jsonl": _jsonl, ".ndjson": _jsonl, ".json": _json, ".yaml": _yaml, ".yml": _yaml, ".csv": _csv, ".tsv": _csv,
    ".parquet": _parquet,
}  # fmt: skip
