"""Text files: divided where they say so, whole otherwise, and books without the licence around them."""

import pytest

from instar.data.raw.books import without_licence
from instar.data.raw.piece import Broken

HEADER = (
    "The Project Gutenberg eBook of A Book\n\nTitle: A Book\n\nAuthor: Some One\n\n"
    "Release Date: June, 1998 [EBook #1]\n\n"
)
LICENCE = "\n\nUpdated editions will replace the previous one.\n\nSection 1. General Terms of Use\n"
BODY = "CHAPTER I\n\nIt began. *** A line of stars *** did not end it.\n\nThe end of the matter."


def test_a_text_file_is_one_document(read_file):
    """Its line ends are made one kind, and the mark at its start is no part of it."""
    found = read_file("a.txt", b"\xef\xbb\xbfone\r\n\r\ntwo\rthree <|endoftext|> in a line\n")
    assert found.texts == ["one\n\ntwo\nthree <|endoftext|> in a line"]


def test_lines_that_say_endoftext_divide_a_file(read_file):
    """Blank stretches between them are no documents."""
    found = read_file("a.txt", b"one\n<|endoftext|>\n\n<|endoftext|>\ntwo\ntwo\n<|endoftext|>\n")
    assert found.texts == ["one", "two\ntwo"]
    assert [document.number for document in found] == [1, 2]


def test_the_encoding_of_a_file_is_found_once(read_file):
    """A short part is read as the long one before it."""
    long, short = "春天来了，花园里的花都开了，孩子们在树下读书。" * 9, "河边"
    found = read_file("a.txt", f"{long}\n<|endoftext|>\n{short}\n".encode("gb18030"))
    assert found.texts == [long, short]
    assert found[1].meta["encoding"] == "gb18030"


def test_a_text_beyond_a_limit_does_not_take_the_next(read_file):
    """A long line and a long document are given up up to the next division."""
    lines = b"x" * 90 + b"\n"
    content = b"<|endoftext|>\n".join([b"first\n", b"y" * 300 + b"\n", b"second\n", lines * 20, b"third\n"])
    found = read_file("a.txt", content, document_mb=0.0002, text_mb=0.001)
    assert found.texts == ["first", "second", "third"]
    assert [(row.reason, row.number) for row in found if isinstance(row, Broken)] == [("long", 2), ("long", 4)]
    assert "limits.document_mb" in found[1].detail
    assert "limits.text_mb" in found[3].detail


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("*** START OF THIS PROJECT GUTENBERG EBOOK A BOOK ***", "*** END OF THIS PROJECT GUTENBERG EBOOK A BOOK ***"),
        ("*** START OF THE PROJECT GUTENBERG EBOOK A LONG\nTITLE ***", "End of the Project Gutenberg EBook of A Book"),
        ("***START OF THE PROJECT GUTENBERG EBOOK A BOOK***", "***END OF THE PROJECT GUTENBERG EBOOK A BOOK***"),
        ("*END THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.04.29.93*END*", "End of Project Gutenberg's A Book"),
    ],
)
def test_the_licence_around_a_book_goes(start, end):
    """Of all the forms it has had; who made the file goes too, the book stays to the letter."""
    credits = "\n\nProduced by Some Volunteers\nand others\n\n\n"
    text, meta = without_licence(HEADER + start + credits + BODY + "\n\n" + end + LICENCE)
    assert text == BODY
    assert meta == {"title": "A Book", "author": "Some One", "date": "June, 1998", "licence": "Project Gutenberg"}


def test_a_book_that_is_not_of_gutenberg_stays():
    """Even if it speaks of it, and even if it ends so."""
    text = "On Project Gutenberg.\n\nEnd of Project Gutenberg's first year.\n"
    assert without_licence(text) == (text, {})


def test_only_books_lose_the_licence(read_file):
    """A source of kind text is read as it is."""
    content = (HEADER + "*** START OF THIS PROJECT GUTENBERG EBOOK A BOOK ***\n" + BODY).encode()
    assert read_file("a.txt", content, kind="books").texts == [BODY]
    assert read_file("a.txt", content).texts == [content.decode()]


def test_the_published_file(shared, read_file):
    """Pride and Prejudice as Project Gutenberg publishes it: its first and last words, and no word of the licence."""
    path = shared / "sources/books/gutenberg-1342-pride-and-prejudice.txt"
    if not path.exists():
        pytest.skip("the book is not here")
    (found,) = read_file("pride.txt", path.read_bytes(), kind="books")
    assert found.text.startswith("PRIDE AND PREJUDICE\n\nBy Jane Austen")
    assert found.text.endswith("had been the means of uniting them.")
    assert "Gutenberg" not in found.text
    assert found.meta["title"] == "Pride and Prejudice"
