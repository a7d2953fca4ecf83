"""Files -> records, one at a time. A table names the reader of each suffix; mistakes name the file and the line."""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from ..config import InputError

SEPARATOR = "<|endoftext|>"
COMPRESSED = (".gz", ".zst")
# bytes of one line: a small compressed file can unpack to one of any length
MAX_LINE = 1 << 28


def read_records(path: Path) -> Iterator[dict[str, Any]]:
    """Every record of one file. Raises InputError: missing, of another kind, undecodable, or with a broken line."""
    if not path.is_file():
        raise InputError(f"no such file: {path}; give a file, a folder, a glob, world:NAME or hf:org/name")
    reader = READERS.get(suffix_of(path))
    if reader is None:
        raise InputError(f"{path}: no reader for this kind of file; known: {', '.join(READERS)} (and .gz, .zst)")
    try:
        yield from reader(path)
    except (EOFError, zlib.error, OSError) as error:
        raise InputError(f"{path}: cannot be read to its end ({error}); is the file whole?") from None


def suffix_of(path: Path) -> str:
    """The suffix that tells the format: .jsonl for rows.jsonl.gz."""
    name = path.name.lower()
    for ending in COMPRESSED:
        name = name.removesuffix(ending)
    return Path(name).suffix


def lines_of(path: Path) -> Iterator[tuple[int, str]]:
    """Lines with their numbers from 1, newlines as \\n, decompressed. Raises InputError where they are no text."""
    with _open(path) as stream:
        for number, line in enumerate(iter(lambda: stream.readline(MAX_LINE + 1), b""), 1):
            if len(line) > MAX_LINE:
                raise InputError(f"{path}, line {number}: longer than {MAX_LINE:,} bytes; break it into several")
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                byte = line[error.start]
                raise InputError(
                    f"{path}, line {number}: byte 0x{byte:02x} is not UTF-8; convert the file, "
                    "for example with iconv -f GB18030 -t UTF-8"
                ) from None
            if "\0" in text:
                raise InputError(f"{path}, line {number}: holds a NUL byte, so it is not text; remove it from the data")
            yield number, text.replace("\r\n", "\n")


def _open(path: Path) -> BinaryIO:
    if path.suffix.lower() == ".gz":
        return cast(BinaryIO, gzip.open(path, "rb"))
    if path.suffix.lower() == ".zst":
        return cast(BinaryIO, io.BufferedReader(pyarrow().input_stream(str(path), compression="zstd"), 1 << 20))
    return path.open("rb")


def pyarrow() -> Any:
    """The optional library behind .parquet and .zst."""
    try:
        import pyarrow
    except ImportError:
        raise InputError(".parquet and .zst need pyarrow: pip install instar[data]") from None
    return pyarrow


def _read_document(path: Path) -> Iterator[dict[str, Any]]:
    yield {"text": "".join(line for _, line in lines_of(path))}


def _read_text(path: Path) -> Iterator[dict[str, Any]]:
    """A file is a document; lines that say <|endoftext|> and nothing else divide it into several."""
    lines: list[str] = []
    divided = False
    for _, line in lines_of(path):
        if line.strip() != SEPARATOR:
            lines.append(line)
            continue
        divided = True
        yield {"text": "".join(lines).strip("\n")}
        lines = []
    rest = "".join(lines)
    if not divided:
        yield {"text": rest}
    elif rest.strip():
        yield {"text": rest.strip("\n")}


def _read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    for number, line in lines_of(path):
        if line.strip():
            yield _record(_json(line, f"{path}, line {number}"), f"{path}, line {number}")


def _read_json(path: Path) -> Iterator[dict[str, Any]]:
    """A list of records, or one record."""
    data = _json("".join(line for _, line in lines_of(path)), str(path))
    for number, record in enumerate(data if isinstance(data, list) else [data], 1):
        yield _record(record, f"{path}, record {number}")


def _read_yaml(path: Path) -> Iterator[dict[str, Any]]:
    """A list of records, or ChatterBot's `conversations:`, each a list of turns. Every scalar is a string."""
    import yaml

    loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)  # builds strings, lists and mappings, nothing else
    try:
        data = yaml.load("".join(line for _, line in lines_of(path)), Loader=loader)
    except RecursionError:
        raise InputError(f"{path}: nested too deeply; write it flatter") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path}: {' '.join(str(error).split())}") from None
    if isinstance(data, dict) and isinstance(data.get("conversations"), list):
        # a lone line is a conversation nobody answered
        data = [{"turns": turns if isinstance(turns, list) else [turns]} for turns in data["conversations"]]
    for number, record in enumerate(data if isinstance(data, list) else [data], 1):
        yield _record(record, f"{path}, record {number}")


def _read_parquet(path: Path) -> Iterator[dict[str, Any]]:
    pyarrow()
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1024):
                yield from batch.to_pylist()
    except ArrowException as error:
        raise InputError(f"{path}: not a readable Parquet file ({error})") from None


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # a number of thousands of digits is no JSONDecodeError
        raise InputError(f"{where}: not JSON ({error}); every line of .jsonl is one object") from None


def _record(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f'{where}: found {type(value).__name__}, wanted an object such as {{"text": ...}}')
    return value


READERS: dict[str, Callable[[Path], Iterator[dict[str, Any]]]] = {
    ".txt": _read_text, ".md": _read_document, ".jsonl": _read_jsonl, ".json": _read_json, ".parquet": _read_parquet,
    ".yaml": _read_yaml, ".yml": _read_yaml,
}  # fmt: skip
