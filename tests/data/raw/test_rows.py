"""Rows of every format become documents; a row that cannot be read is given up alone, and none is held too long."""

import gzip
import io
import json
import random
from itertools import pairwise

import pytest

from instar.config.data import LimitOptions
from instar.data.raw import opening
from instar.data.raw.piece import Broken, Piece, Raw, Refused
from instar.data.raw.reading import read
from instar.data.raw.rows import elements, lines

pytest.importorskip("orjson")
ROWS = [{"text": "one"}, {"text": "二\n2"}, {"text": "three, “3”"}]


def jsonl(rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def table(tmp_path, rows, **options):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")

    path = tmp_path / "t.parquet"
    parquet.write_table(pyarrow.Table.from_pylist(rows), path, **options)
    return path.read_bytes()


@pytest.mark.parametrize(
    "name", ["a.jsonl", "a.ndjson", "a.jsonl.gz", "a.json", "a.yaml", "a.csv", "a.tsv", "a.parquet"]
)
def test_every_format_gives_the_same_texts(tmp_path, read_file, name):
    """Plain or packed, with Chinese and line ends inside."""
    content = {
        ".gz": lambda: gzip.compress(jsonl(ROWS)),
        ".json": lambda: json.dumps(ROWS, indent=1).encode(),
        ".yaml": lambda: json.dumps(ROWS, ensure_ascii=False).encode(),
        ".csv": lambda: 'text,n\none,1\n"二\n2",2\n"three, “3”",3\n'.encode(),
        ".tsv": lambda: 'n\ttext\n1\tone\n2\t"二\n2"\n3\tthree, “3”\n'.encode(),
        ".parquet": lambda: table(tmp_path, ROWS),
    }.get(name[name.rindex(".") :], lambda: jsonl(ROWS))()
    found = read_file(name, content)
    assert found.texts == [row["text"] for row in ROWS]
    assert not found.reasons


def test_numbers_of_lines_are_their_bytes(read_file):
    """tail -c +NUMBER FILE | head -1 shows the row."""
    content = b"\n" + jsonl(ROWS)
    for found in read_file("a.jsonl", content):
        assert json.loads(content[found.number - 1 :].splitlines()[0])["text"] == found.text


@pytest.mark.parametrize("ending", ["\n", "\r\n"], ids=["lf", "crlf"])
def test_ranges_read_every_line_once(tmp_path, ending):
    """However a file is cut, within lines or between them, the documents and their numbers are the same."""
    generator = random.Random(7)
    rows = [{"text": "字" * generator.choice([1, 3, 40])} for _ in range(60)]
    content = "".join(json.dumps(row, ensure_ascii=False) + ending for row in rows).encode() + b'{"text": "last"}'
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)

    def found(start, stop):
        return list(read(Piece("s", "text", str(path), stop - start, start, stop), LimitOptions()))

    whole = found(0, 0)
    assert [document.text for document in whole] == [row["text"] for row in rows] + ["last"]
    line_ends = [place + 1 for place, byte in enumerate(content) if byte == 10]
    for _ in range(40):
        cuts = sorted(generator.sample([*range(1, len(content)), *line_ends], generator.choice([1, 2, 7])))
        ends = [0, *dict.fromkeys(cuts), len(content)]
        assert [row for start, stop in pairwise(ends) for row in found(start, stop)] == whole


def test_a_bad_line_is_given_up_alone(read_file):
    """The reason, the place and the size of each; those around it are read."""
    deep = b'{"text": ' + b"[" * 5000 + b"]" * 5000 + b"}"
    bad = [b"nonsense", b'["a list"]', b'{"body": "x"}', b'{"text": 3}', b'{"text": " "}', deep, b"\0\1\2\3" * 9]
    content = b'{"text": "first"}\n' + b"\n".join(bad) + b'\n{"text": "after"}\n{"text": "cut o'
    found = read_file("a.jsonl", content)
    assert found.texts == ["first", "after"]
    assert found.reasons == ["json", "shape", "shape", "shape", "empty", "deep", "binary", "truncated"]
    broken = [row for row in found if isinstance(row, Broken)]
    assert [content[row.number - 1 :].startswith(line) for row, line in zip(broken, bad)] == [True] * 7
    assert [row.size for row in broken[:7]] == [len(line) + 1 for line in bad]
    assert "found the keys body, wanted text, content, html" in broken[2].detail


def test_what_people_write_for_json_is_read(read_file):
    """NaN, a tab in a string, a number of many digits, and a byte order mark."""
    content = b'\xef\xbb\xbf{"text": "a\tb", "n": NaN, "m": ' + b"9" * 400 + b"}\n"
    assert read_file("a.jsonl", content).texts == ["a\tb"]


def test_a_line_in_another_encoding_is_read(read_file):
    """GB18030, which JSON forbids and which Chinese dumps are in."""
    text = "春天来了，花园里的花都开了，孩子们在树下读书。"
    found = read_file("a.jsonl", json.dumps({"text": text}, ensure_ascii=False).encode("gb18030"))
    assert found.texts == [text]


def test_halves_of_surrogate_pairs_become_replacement_characters(read_file):
    """Half of one is no text; two in a row are the character they mean."""
    found = read_file("a.jsonl", rb'{"text": "a\ud83db \ud83d\ude00", "title": "\udc00"}')
    assert found.texts == ["a\ufffdb 😀"]
    assert found[0].meta == {"encoding": "utf-8 with errors", "title": "\ufffd"}


def test_a_long_line_is_passed_without_being_held(read_file):
    """It is counted with its size; the next is read. A line of just the limit is no long one."""
    long = b'{"text": "' + b"x" * 300_000 + b'"}'
    just = b'{"text": "' + b"y" * (200_000 - 12) + b'"}'
    found = read_file("a.jsonl", b"\n".join([long, just, b'{"text": "after"}']), document_mb=0.2)
    assert found.reasons == ["long"]
    assert found[0].size == len(long) + 1
    assert [len(text) for text in found.texts] == [200_000 - 12, 5]


def test_endless_blanks_in_a_packed_file_are_a_bomb(read_file, monkeypatch):
    """Rows may pack as well as they like; what gives no rows may not."""
    monkeypatch.setattr(opening, "FLOOR", 20_000)
    rows = b'{"text": "the same again"}\n' * 8_000
    assert len(read_file("a.jsonl.gz", gzip.compress(rows)).texts) == 8_000
    for bomb in (b"\n" * 300_000, b"x" * 300_000 + b"\n"):
        found = read_file("a.jsonl.gz", gzip.compress(b'{"text": "first"}\n' + bomb + rows), document_mb=0.01)
        assert found.texts == ["first"]
        assert found.reasons[-1] == "expands"


def test_lines_stop_at_the_line_that_crosses():
    """The line that begins before `stop` is read to its end."""
    assert [line for _, line, _ in lines(io.BytesIO(b"aa\nbb\ncc\n"), 0, 4, 10)] == [b"aa\n", b"bb\n"]
    assert [line for _, line, _ in lines(io.BytesIO(b"aa\nbb\ncc\n"), 3, 4, 10)] == [b"bb\n"]
    assert [line for _, line, _ in lines(io.BytesIO(b"aa\nbb\ncc\n"), 4, 9, 10)] == [b"cc\n"]


@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000])
def test_a_json_list_is_read_value_by_value(step):
    """However its text is divided, numbers at a division included."""
    values = [{"a": "x]" * 9, "b": [1, {"c": None}]}, 12345, "q", [], -1.5, True]
    text = json.dumps(values, indent=2)
    parts = [text[place : place + step] for place in range(0, len(text), step)]
    assert list(elements(iter(parts), 1000)) == values


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[1, 2", "truncated"),
        ("[1, }" + " " * 99, "json"),
        ('[1, "' + "x" * 200_000 + '"]', "long"),
        ("[" * 9999, "deep"),
    ],
)
def test_a_broken_json_list_gives_what_stands_before(text, reason):
    """And then says what is wrong with the rest."""
    found = []
    parts = [text[place : place + 1000] for place in range(0, len(text), 1000)]
    with pytest.raises(Refused) as caught:  # noqa: PT012
        for value in elements(iter(parts), 1000 if reason == "long" else 10**6):
            found.append(value)
    assert caught.value.reason == reason
    assert found == ([] if reason == "deep" else [1])


def test_one_json_object_is_one_record(read_file):
    """Unless it is ChatterBot's list of conversations."""
    assert read_file("a.json", b'{"text": "x"}').texts == ["x"]
    assert read_file("a.json", b"{").reasons == ["json"]
    assert read_file("a.json", b" ").reasons == ["empty"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"a: &a [x]\nb: [*a, *a]", "expands"), (b"[" * 600, "deep"), (b"[\n" * 400_000, "deep"), (b"a: [", "markup"),
        (b"", "empty"),
    ],
)  # fmt: skip
def test_yaml_bombs_are_given_up(read_file, content, reason):
    """Aliases stand for endless text, and nesting eats the stack of the machine."""
    assert read_file("a.yaml", content).reasons == [reason]


def test_csv_rows_of_another_length(read_file):
    """Counted with what was found and wanted; semicolons divide where the first line has them."""
    found = read_file("a.csv", b"text;n\none;1\ntwo\n\nthree;3\n")
    assert found.texts == ["one", "three"]
    assert found.reasons == ["shape"]
    assert found[1].number == 2
    assert "found 1 fields, wanted 2: text, n" in found[1].detail


def test_a_field_without_an_end_is_long(read_file):
    """An open quotation mark swallows no more than the limit."""
    content = b'text,n\n"' + b"x, y\n" * 25_000 + b"z"
    found = read_file("a.csv", content, document_mb=0.1)
    assert "long" in found.reasons


def test_row_groups_divide_a_table(tmp_path):
    """Pieces of row groups cover the rows once, with the numbers that they have in the file."""
    rows = [{"text": f"row {number}", "junk": "x" * 50} for number in range(1, 101)]
    path = tmp_path / "t.parquet"
    table(tmp_path, rows, row_group_size=30)
    pieces = [Piece("s", "text", str(path), 1, start, stop) for start, stop in ((0, 1), (1, 3), (3, 4))]
    found = [document for piece in pieces for document in read(piece, LimitOptions())]
    assert [(document.text, document.number) for document in found] == [(f"row {n}", n) for n in range(1, 101)]


def test_a_damaged_row_group_does_not_take_the_others(tmp_path, read_file):
    """The bytes of the first are overwritten; the second is read."""
    pyarrow = pytest.importorskip("pyarrow.parquet")
    noise = random.Random(5)
    rows = [{"text": noise.randbytes(300).hex()} for _ in range(40)]
    content = bytearray(table(tmp_path, rows, row_group_size=20, use_dictionary=False, compression="snappy"))
    column = pyarrow.ParquetFile(io.BytesIO(content)).metadata.row_group(0).column(0)
    start = column.data_page_offset
    content[start + 4000 : start + 4400] = b"\xff" * 400
    found = read_file("a.parquet", bytes(content))
    assert found.texts[-20:] == [row["text"] for row in rows[20:]]
    assert len(found.reasons) == 1


def test_a_table_that_is_none(read_file):
    """Named .parquet, and something else."""
    assert read_file("a.parquet", b"nothing of the kind").reasons == ["archive"]
    assert read_file("a.parquet", b"").reasons == ["archive"]


def test_a_table_that_expands(tmp_path, read_file, monkeypatch):
    """Its own directory says to how much it unpacks."""
    content = table(tmp_path, [{"text": "a" * 3_000_000}], compression="zstd")
    assert len(read_file("a.parquet", content).texts) == 1
    monkeypatch.setattr(opening, "FLOOR", 100_000)
    assert read_file("a.parquet", content).reasons == ["expands"]


def test_a_range_of_a_table_keeps_only_wanted_columns(tmp_path):
    """What a document does not remember is not read from the disk."""
    from instar.data.raw.texts import wanted_columns

    names = ["text", "url", "embedding", "id"]
    assert wanted_columns(names, Piece("s", "text", "a", 1)) == ["text", "url"]
    assert wanted_columns(names, Piece("s", "text", "a", 1, fields=("id",))) == ["url", "id"]
    assert wanted_columns(names, Piece("s", "dialogues", "a", 1)) is None
    assert wanted_columns(["messages"], Piece("s", "text", "a", 1)) is None


def test_raw_documents_are_what_the_engine_expects(read_file):
    """A number from 1, and what the row tells about itself."""
    row = {"text": "x", "url": "http://a", "authors": ["A", "B"], "license": "MIT", "timestamp": 2020, "score": 3}
    (found,) = read_file("a.jsonl", jsonl([row]))
    assert found == Raw("x", 1, {"url": "http://a", "author": "A, B", "licence": "MIT", "date": 2020})
