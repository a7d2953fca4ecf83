"""A row's text is found under the usual keys or those that are named, and read as what it is."""

import pytest

from instar.config.data import LimitOptions
from instar.data.raw.piece import Piece
from instar.data.raw.texts import looks_like_latex, raw_of


def outcome(record, kind="text", fields=(), **limits):
    found = raw_of(record, 1, 0, Piece("s", kind, "a.jsonl", 1, fields=fields), LimitOptions(**limits))
    return getattr(found, "text", None) or (found.reason, found.detail)


@pytest.mark.parametrize(
    ("record", "fields", "text"),
    [
        ({"text": "a", "content": "b"}, (), "a"), ({"content": "b", "title": "t"}, (), "b"),
        ({"text": None, "content": "b"}, (), "b"), ({"content": "字".encode("gb18030") * 20}, (), "字" * 20),
        ({"title": "t", "abstract": "a"}, ("title", "abstract"), "t\n\na"),
        ({"title": None, "body": "b"}, ("title", "body"), "b"),
    ],
)  # fmt: skip
def test_where_the_text_is(record, fields, text):
    """The usual keys in order; named ones together."""
    assert outcome(record, fields=fields) == text


@pytest.mark.parametrize(
    ("record", "fields", "detail"),
    [
        ({"x": 1}, (), "found the keys x, wanted text, content, html"), (["a"], (), "found list, wanted an object"),
        ({"x": 1}, ("y",), "found the keys x, wanted y"), ({"y": 1}, ("y",), "found int under y, wanted strings"),
    ],
)  # fmt: skip
def test_a_row_of_another_shape(record, fields, detail):
    """What was found and what was wanted."""
    reason, said = outcome(record, fields=fields)
    assert reason == "shape"
    assert detail in said


def test_a_text_of_a_table_is_capped_too():
    """Where rows have no bytes of their own, their characters count."""
    assert outcome({"text": "x" * 101}, document_mb=0.0001)[0] == "long"
    assert outcome({"text": "x" * 100}, document_mb=0.0001) == "x" * 100


def test_latex_is_known_by_its_commands():
    """A paper of commands is LaTeX; a page about LaTeX and C code are not."""
    paper = "\\section{Methods}\\label{sec:m}\nWe follow \\cite{a} and show in \\ref{b} that it holds.\n"
    assert looks_like_latex(paper)
    assert looks_like_latex("% a comment\n\\documentclass{article}\n")
    assert not looks_like_latex("Use \\section{x} in LaTeX. " + "The rest of this page is about other things. " * 60)
    assert not looks_like_latex('printf("a\\n"); /* C:\\begin */')


def test_code_in_rows_is_checked_as_files_are():
    """Path and language are remembered, and minified code is given up."""
    found = raw_of({"path": "a/b.rs", "text": "fn main() {}"}, 1, 0, Piece("s", "code", "a", 1), LimitOptions())
    assert found.meta == {"path": "a/b.rs", "programming_language": "Rust"}
    assert outcome({"content": "var a=1;" * 200}, kind="code")[0] == "generated"
