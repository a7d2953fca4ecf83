"""What strangers' files do to their reader: each is counted with its reason, none is fatal or eats the memory."""

import gzip
import io
import json
import random
import tracemalloc
import zipfile

import pytest

from instar.config.data import LimitOptions
from instar.data.raw.piece import REASONS, Broken, Piece, Raw
from instar.data.raw.reading import READERS, read

pytest.importorskip("orjson")
zstandard = pytest.importorskip("zstandard")
NOISE = random.Random(9).randbytes(20_000)
ROWS = b'{"text": "first"}\n{"text": "second"}\n' * 500
CHINESE = "春天来了，花园里的花都开了。孩子们在树下读书，老人们在河边散步。\n" * 20
TRADITIONAL = "春天來了，花園裡的花都開了。孩子們在樹下讀書，老人們在河邊散步。\n" * 20


def zipped(members):
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return held.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.jsonl.gz", b"\x1f\x8b\x08\0" + NOISE, "compressed"),
        ("a.jsonl.gz", b"no gzip at all", "compressed"),
        ("a.txt.gz", gzip.compress(ROWS)[:-30], "truncated"),
        ("a.txt.zst", zstandard.compress(ROWS + NOISE.hex().encode())[:-30], "truncated"),
        ("a.txt.zst", b"\x28\xb5\x2f\xfd" + NOISE, "compressed"),
        ("a.txt", NOISE, "binary"),
        ("a.md", b"\x89PNG\r\n" + NOISE, "binary"),
        ("a.html", b"\xff\xd8\xff\xe0" + NOISE, "binary"),
        ("a.jsonl", NOISE.replace(b"\n", b""), "binary"),
        ("a.json", NOISE, "binary"),
        ("a.csv", NOISE, "binary"),
        ("a.yaml", NOISE, "binary"),
        ("a.parquet", NOISE, "archive"),
        ("a.epub", NOISE, "archive"),
        ("a.epub", zipped({"readme.txt": "no book"}), "archive"),
        ("a.epub", zipped({"META-INF/container.xml": "<broken"}), "markup"),
        ("a.jsonl", b"[" * 100_000, "deep"),
        ("a.json", b'{"text":' * 100_000, "deep"),
        ("a.yaml", b"- " * 100_000, "deep"),
        ("a.txt", b"", "empty"),
        ("a.jsonl", b"\n\n", "empty"),
        ("a.epub", b"", "archive"),
    ],
    # archives hold the time at which they were made: named by it, tests would differ between two workers
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_has_its_reason(read_file, name, content, reason):
    """Broken and truncated compression, binary files under the names of texts, archives that are none, nesting."""
    found = read_file(name, content)
    assert reason in found.reasons
    assert set(found.reasons) <= set(REASONS)
    assert not found.texts
    assert all(len(broken.detail) < 600 and "\n" not in broken.detail for broken in found)


@pytest.mark.parametrize("packer", [gzip.compress, zstandard.compress], ids=["gz", "zst"])
def test_rows_before_the_break_are_kept(read_file, packer):
    """A download that was cut off gives what had arrived."""
    lines = b"".join(b'{"text": "%s"}\n' % NOISE[at : at + 50].hex().encode() for at in range(0, 20_000, 50))
    packed = packer(lines) + packer(lines)
    found = read_file("a.jsonl.gz" if packer is gzip.compress else "a.jsonl.zst", packed[: len(packed) - 400])
    assert 400 <= len(found.texts) < 800
    assert found.reasons == ["truncated"]


@pytest.mark.parametrize(
    ("text", "encoding"),
    [(CHINESE, "gb18030"), (TRADITIONAL, "big5"), ("Der Frühling ist da, die Blumen blühen.\n" * 9, "latin-1")],
)
@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.jsonl", "a.json", "a.csv", "a.yaml"])
def test_other_encodings_are_read_and_not_spoilt(read_file, text, encoding, name):
    """In every format that is text."""
    said = text.strip()
    content = {
        ".jsonl": json.dumps({"text": said}, ensure_ascii=False), ".csv": f'text,n\n"{said}",1\n',
        ".json": json.dumps([{"text": said}], ensure_ascii=False),
        ".yaml": json.dumps([{"text": said}], ensure_ascii=False),
    }.get(name[1:], said)  # fmt: skip
    found = read_file(name, content.encode(encoding))
    assert [text.strip() for text in found.texts] == [said]


@pytest.mark.parametrize(
    ("name", "size", "reasons"),
    [
        ("a.jsonl", 200, ["long"]), ("a.jsonl.zst", 200, ["long", "expands"]), ("a.txt", 50, ["long"]),
        ("a.txt.zst", 200, ["expands"]), ("a.json", 50, ["long"]), ("a.csv", 20, ["long"]), ("a.tsv.zst", 20, ["long"]),
        ("a.md", 50, ["long"]), ("a.yaml", 50, ["long"]),
    ],
)  # fmt: skip
def test_a_line_of_200_megabytes_is_never_held(tmp_path, name, size, reasons):
    """It is named with its reason and its size, the row after it is read, and the peak is far below the line's size;
    what unpacks to hundreds of times its size is a bomb, after which nothing is read."""
    path = tmp_path / name
    head, tail = b'[{"text": "' if name == "a.json" else b'{"text": "', b'"}\n{"text": "after"}\n'
    if "csv" in name or "tsv" in name:
        head = b'text,n\n"'
    with path.open("wb") as file:
        stream = zstandard.ZstdCompressor(1).stream_writer(file) if name.endswith(".zst") else file
        stream.write(head)
        for _ in range(size):
            stream.write(b"a" * 1_000_000)
        stream.write(tail)
        stream.close()
    tracemalloc.start()
    found = list(read(Piece("s", "text", str(path), path.stat().st_size), LimitOptions(document_mb=4, text_mb=8)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    print(f"{name}, a line of {size} MB: peak {peak / 1e6:.0f} MB, {[getattr(row, 'reason', '') for row in found]}")
    assert [row.reason for row in found if isinstance(row, Broken)][: len(reasons)] == reasons
    assert peak < 50e6
    if name == "a.jsonl":
        assert found[0].size == 200_000_013
        assert found[1].text == "after"


@pytest.mark.parametrize("kind", READERS)
def test_no_reader_raises_for_noise(tmp_path, kind):
    """Every reader of every kind, given noise, text with flipped bits, and the file of another format."""
    generator = random.Random(11)
    page = b"<html><body><p>text</p></body></html>" * 9
    samples = [NOISE[:500], ROWS[:400], page, gzip.compress(ROWS)[:50], b"{" * 300, b"\\begin{" * 50, b"", b"\xff" * 50]
    for suffix in READERS[kind]:
        if kind == "code" and suffix not in (".py", ".jsonl", ".parquet"):
            continue
        for number, sample in enumerate(samples):
            damaged = bytearray(sample)
            for _ in range(len(damaged) // 60):
                damaged[generator.randrange(len(damaged))] = generator.randrange(256)
            path = tmp_path / f"{number}{suffix}"
            path.write_bytes(damaged)
            for found in read(Piece("s", kind, str(path), len(damaged)), LimitOptions()):
                assert isinstance(found, Raw) or found.reason in REASONS
