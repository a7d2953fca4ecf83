"""One entry reads every kind of file, never raises for what is wrong with one, and always ends."""

import json
import subprocess
import sys
import zipfile

import pytest

from instar.config import InputError
from instar.config.data import Kind, LimitOptions
from instar.data.raw import reading
from instar.data.raw.piece import REASONS, Broken, Piece, Raw
from instar.data.raw.reading import READERS, read


def test_every_kind_has_readers_and_takes_rows():
    """The table knows the kinds of a recipe, and each of them reads .jsonl and .parquet."""
    assert set(READERS) == set(Kind.__args__)
    assert all({".jsonl", ".parquet"} <= set(readers) for readers in READERS.values())


@pytest.mark.parametrize(
    ("kind", "name", "content", "text"),
    [
        ("text", "a.md", "# One\n\ntwo", "# One\n\ntwo"),
        ("papers", "a.tex", "\\documentclass{article}\\begin{document}A \\emph{word}.\\end{document}", "A word."),
        ("papers", "a.jsonl", json.dumps({"text": "\\section{One}\\label{a}\n\nA \\emph{word} \\cite{b}."}), "A word"),
        ("papers", "a.jsonl", json.dumps({"text": "---\ntitle: t\n---\n\nA word.", "path": "a.md"}), "A word."),
        ("dialogues", "a.jsonl", json.dumps({"turns": ["Hello there", "Hi"]}), "Hello there"),
        ("text", "a.jsonl", json.dumps({"turns": ["Hello there", "Hi"]}), "Hello there"),
        ("code", "a.sh", "echo one\n", "echo one"),
    ],
)
def test_each_kind_is_read_by_its_own_reader(read_file, kind, name, content, text):
    """Files and rows of LaTeX, Markdown, dialogues and code."""
    (found,) = read_file(name, content.encode(), kind=kind)
    assert isinstance(found, Raw), found
    assert text in found.text
    assert "\\" not in found.text
    assert "title:" not in found.text


PAGE = (
    "<html><head><title>Spring</title></head><body><nav><a href='/'>Home</a></nav><article><h1>Spring is here</h1>"
    + "<p>The garden behind the old house was full of flowers again, and the children read under the trees.</p>" * 4
    + "</article><footer>Imprint</footer></body></html>"
)


@pytest.mark.parametrize("kind", ["web", "books", "text"])
def test_pages_are_read_by_their_main_text(read_file, kind):
    """As files and under the key html of rows; what is around the text is not in it."""
    pytest.importorskip("trafilatura")
    for name, content in (("a.html", PAGE), ("a.jsonl", json.dumps({"html": PAGE, "url": "https://a.example/b"}))):
        (found,) = read_file(name, content.encode(), kind=kind)
        assert isinstance(found, Raw), found
        assert "The garden behind the old house" in found.text
        assert "Imprint" not in found.text


def test_a_world_is_read():
    """The built-in world's records are documents with their numbers."""
    found = list(read(Piece("s", "text", "world:stories?count=3", 0), LimitOptions()))
    assert [document.number for document in found] == [1, 2, 3]


@pytest.mark.parametrize("name", ["missing.txt", "missing.jsonl", "missing.epub", "missing.parquet", "missing.html"])
def test_a_file_that_is_gone_is_broken(read_file, name):
    """It was there when the plan was made."""
    assert read_file(name, None, kind="books").reasons == ["missing"]


def test_an_unknown_file_is_broken(read_file):
    """With what was found."""
    (found,) = read_file("a.docx", b"x")
    assert (found.reason, found.number, found.size) == ("unknown", 0, 1)
    assert "no reader of text for .docx" in found.detail


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (KeyError("x"), "crash"), (RecursionError(), "deep"), (MemoryError(), "long"), (EOFError(), "truncated"),
        (PermissionError("no"), "missing"), (zipfile.BadZipFile("x"), "crash"), (ValueError("x"), "crash"),
    ],
)  # fmt: skip
def test_nothing_that_a_reader_raises_is_fatal(read_file, monkeypatch, error, reason):
    """What was read before it stays; the reason is one that the report knows."""

    def breaks(piece, limits):
        yield Raw("first", 1)
        raise error

    monkeypatch.setitem(READERS["text"], ".txt", breaks)
    first, broken = read_file("a.txt", b"x")
    assert first.text == "first"
    assert broken.reason == reason in REASONS
    assert broken.detail


def test_a_missing_library_is_said_to_the_user(read_file, monkeypatch):
    """It is no fault of the data, so that nothing is given up for it."""
    monkeypatch.setitem(sys.modules, "orjson", None)
    with pytest.raises(InputError, match=r'needs orjson: pip install "instar\[data\]"'):
        read_file("a.jsonl", b'{"text": "x"}')


def test_one_bad_row_breaks_for_itself(read_file, monkeypatch):
    """Whatever error its shape provokes."""
    from instar.data.raw import texts

    monkeypatch.setitem(texts.CONVERT, "papers", lambda text, meta: (text[0] + {"b": 1}[text], {}))
    found = read_file("a.jsonl", b'{"text": "a"}\n{"text": "b"}\n{"text": "a"}', kind="papers")
    assert found.reasons == ["crash"] * 3
    assert isinstance(found[0], Broken)
    assert "KeyError" in found[0].detail


def test_reading_needs_no_torch():
    """Workers stay small: no torch, and no library of a kind of file that is not read."""
    code = (
        "import sys; from instar.data.raw import places, reading\n"
        "heavy = {'torch', 'trafilatura', 'lxml', 'pyarrow', 'datatrove', 'zstandard', 'fsspec'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_reasons_are_all_known():
    """Every reason that a reader can give has a sentence in the report."""
    import re
    from pathlib import Path

    folder = Path(reading.__file__).parent
    given = set()
    for path in folder.glob("*.py"):
        given |= set(re.findall(r"(?:Refused|Broken)\(\s*\"(\w+)\"", path.read_text(encoding="utf-8")))
    assert len(given) > 10
    assert given <= set(REASONS), given - set(REASONS)
