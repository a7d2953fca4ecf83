"""Files of every kind give their records; a mistake names the file, the line and the remedy."""

import gzip
import json
import sys

import pytest

from instar.config import InputError
from instar.data import readers
from instar.data.readers import read_records

ROWS = [{"text": "one"}, {"text": "二"}]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)


def test_a_text_file_is_one_document(tmp_path):
    """Line ends are normalised and a byte order mark is no part of the text."""
    path = tmp_path / "book.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\n\r\n<|endoftext|> inside a line\n")
    assert list(read_records(path)) == [{"text": "one\n\n<|endoftext|> inside a line\n"}]


def test_lines_that_say_endoftext_divide_a_text_file(tmp_path):
    """TinyStories keeps many stories in one file."""
    path = tmp_path / "stories.txt"
    path.write_text("one\n<|endoftext|>\n\ntwo\ntwo\n<|endoftext|>\n")
    assert list(read_records(path)) == [{"text": "one"}, {"text": "two\ntwo"}]


def test_markdown_is_one_document_whatever_it_says(tmp_path):
    """A .md file is never divided."""
    path = tmp_path / "page.md"
    path.write_text("# a\n<|endoftext|>\nb\n")
    assert list(read_records(path)) == [{"text": "# a\n<|endoftext|>\nb\n"}]


@pytest.mark.parametrize(
    "name", ["rows.jsonl", "rows.jsonl.gz", "rows.jsonl.zst", "rows.json", "rows.parquet", "rows.yaml"]
)
def test_records_come_out_of_every_format(tmp_path, name):
    """The same rows, plain, compressed, as one JSON list, as a table and as YAML."""
    path = tmp_path / name
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(LINES.encode(), mtime=0))
    elif name.endswith(".zst"):
        pyarrow = pytest.importorskip("pyarrow")
        with pyarrow.output_stream(str(path), compression="zstd") as stream:
            stream.write(LINES.encode())
    elif name.endswith(".parquet"):
        pyarrow = pytest.importorskip("pyarrow")
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)
    elif name.endswith(".jsonl"):
        path.write_text(LINES + "\n", encoding="utf-8")
    else:
        path.write_text(json.dumps(ROWS, ensure_ascii=False), encoding="utf-8")
    assert list(read_records(path)) == ROWS


def test_yaml_conversations_are_turns_and_every_scalar_a_string(tmp_path):
    """ChatterBot's files; `No` is an answer, not false; a line nobody answered is a conversation of one turn."""
    path = tmp_path / "talk.yml"
    path.write_text("categories: [x]\nconversations:\n- - Is it?\n  - No\n- Alone\n")
    assert list(read_records(path)) == [{"turns": ["Is it?", "No"]}, {"turns": ["Alone"]}]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"text": "x"}\n\n{"text": \n', r"a.jsonl, line 3: not JSON"),
        ("a.jsonl", b'"x"\n', r"line 1: found str, wanted an object"),
        ("a.json", b'[{"text": "x"}, 3]', r"a.json, record 2: found int"),
        ("a.txt", "ok\n你好\n".encode("gb18030"), r"line 2: byte 0xc4 is not UTF-8; .*iconv"),
        ("a.txt", b"PK\0\1", r"line 1: holds a NUL byte"),
        ("a.yaml", b"a: [", r"a.yaml: "),
        ("a.pdf", b"", r"a.pdf: no reader for this kind of file; known: .txt, .md"),
        ("a.jsonl.gz", gzip.compress(b'{"text": ""}\n' * 99, mtime=0)[:-12], r"a.jsonl.gz: cannot be read to its end"),
        ("a.jsonl.gz", b'{"text": "x"}\n', r"a.jsonl.gz: cannot be read to its end .*is the file whole"),
        ("a.jsonl.gz", gzip.compress(b"{}\n", mtime=0)[:14] + b"\xff" * 40, r"a.jsonl.gz: cannot be read to its end"),
        ("a.jsonl", b'{"text": "x"}\n' + b"9" * 5000, r"a.jsonl, line 2: not JSON"),
        ("a.json", b"[" * 100_000, r"a.json: not JSON"),
        ("a.yaml", b"[" * 5_000, r"a.yaml: "),
        ("a.parquet", b"no table", r"a.parquet: not a readable Parquet file"),
        ("a.jsonl.zst", b'{"text": "x"}\n', r"a.jsonl.zst: cannot be read"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_in_one_sentence(tmp_path, name, content, message):
    """No traceback and no silent skip for a broken line, another encoding, a binary or a truncated file."""
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        list(read_records(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl.zst"])
def test_a_missing_library_names_the_extra(tmp_path, monkeypatch, name):
    """Without pyarrow the message is the command that installs it."""
    (tmp_path / name).write_bytes(b"")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"pip install instar\[data\]"):
        list(read_records(tmp_path / name))


def test_a_line_that_does_not_end_is_refused(tmp_path, monkeypatch):
    """A small compressed file may unpack to one line of any length; it is not read to its end."""
    monkeypatch.setattr(readers, "MAX_LINE", 1000)
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"a" * 1000, mtime=0))
    assert len(next(read_records(tmp_path / "a.txt.gz"))["text"]) == 1000
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"b\n" + b"a" * 1001, mtime=0))
    with pytest.raises(InputError, match=r"line 2: longer than 1,000 bytes; break it"):
        list(read_records(tmp_path / "a.txt.gz"))
