"""An EPUB becomes its text in the order of its spine, without covers, contents and imprints."""

import io
import zipfile

import pytest

from instar.data.raw.epub import paragraphs_of
from instar.data.raw.piece import Refused

pytest.importorskip("lxml")

CONTAINER = (
    '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
    '<rootfile full-path="book/content.opf"/></rootfiles></container>'
)
LOCK = b'<e><CipherReference URI="book/a.xhtml"/></e>'
HTML = '<html xmlns="http://www.w3.org/1999/xhtml" xmlns:epub="http://www.idpf.org/2007/ops"><body>{}</body></html>'


def epub(pages, about="<dc:title>书</dc:title>", more=(), guide="", properties=()):
    """A book of pages {name: body}."""
    items = "".join(
        f'<item id="i{n}" href="{name}" media-type="application/xhtml+xml" '
        f'properties="{dict(properties).get(name, "")}"/>'
        for n, name in enumerate(pages)
    )
    spine = "".join(f'<itemref idref="i{n}"/>' for n in range(len(pages)))
    package = (
        '<package xmlns="http://www.idpf.org/2007/opf" xmlns:dc="http://purl.org/dc/elements/1.1/">'
        f"<metadata>{about}</metadata><manifest>{items}</manifest><spine>{spine}</spine><guide>{guide}</guide></package>"
    )
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mimetype", "application/epub+zip")
        archive.writestr("META-INF/container.xml", CONTAINER)
        archive.writestr("book/content.opf", package)
        for name, body in {**{f"book/{name}": body for name, body in pages.items()}, **dict(more)}.items():
            archive.writestr(name, body if isinstance(body, bytes) else HTML.format(body))
    return held.getvalue()


def test_the_spine_is_read_in_order(read_file):
    """Paragraphs and headings, a blank line between them, and what the package says of the book."""
    about = (
        "<dc:title>西游记</dc:title><dc:creator>吴承恩</dc:creator><dc:creator>B</dc:creator>"
        "<dc:language>zh-CN</dc:language>"
    )
    pages = {"b.xhtml": "<h1>第一回</h1><p>话说\n 东胜神洲</p>", "a b.xhtml": "<p>a<br/>b &nbsp;&mdash; c</p>"}
    (found,) = read_file("a.epub", epub(pages, about), kind="books")
    assert found.text == "第一回\n\n话说 东胜神洲\n\na\nb — c"
    assert found.meta == {"title": "西游记", "author": "吴承恩, B", "language": "zh"}


def test_what_is_no_text_of_the_book_is_left_out(read_file):
    """By epub:type, by the guide, by its properties, by its file's name."""
    pages = {
        "cover.xhtml": "<p>cover</p>", "x1.xhtml": '<section epub:type="titlepage"><p>title</p></section><p>kept</p>',
        "x2.xhtml": "<p>contents</p>", "x3.xhtml": "<p>navigation</p>",
        "x4.xhtml": '<p>text<a epub:type="noteref">1</a>.</p>', "colophon.xhtml": "<p>colophon</p>",
    }  # fmt: skip
    book = epub(pages, guide='<reference type="toc" href="x2.xhtml#top"/>', properties={"x3.xhtml": "nav"})
    assert read_file("a.epub", book, kind="books").texts == ["kept\n\ntext."]


@pytest.mark.parametrize(
    ("body", "paragraphs"),
    [
        ("<div>a<p>b</p>c</div>d", ["a", "b", "c", "d"]),
        ("<p>a <b>b</b><!-- c --> d<script>e</script> f</p>", ["a b d f"]),
        ("<p><ruby>漢<rp>(</rp><rt>kan</rt><rp>)</rp></ruby>字</p>", ["漢字"]),
        ("<table><tr><td>a</td><td>b</td></tr><tr><td>c</td></tr></table>", ["a b", "c"]),
        ('<section id="pg-header"><p>licence</p></section>text', ["text"]),
        ("<p>a<br/><br/>b</p><p> </p>", ["a\nb"]),
        ("<p>a&nbsp;b\u2060—c\u00add</p><hr/><p>e</p>", ["a b—cd", "* * *", "e"]),
    ],
)
def test_paragraphs(body, paragraphs):
    """Blocks divide, inline elements do not, and what is not read aloud goes."""
    assert paragraphs_of(HTML.format(body).encode()) == paragraphs


def test_pages_that_are_no_xml_are_read_as_html():
    """Unclosed tags; an empty title in XML's spelling, which HTML would never close; Chinese without a declaration."""
    page = "<html><head><title/></head><body><p>春天<br>来了<p>两段 &copy;</body>".encode()
    assert paragraphs_of(page) == ["春天\n来了", "两段 ©"]
    assert paragraphs_of('<?xml version="1.0" encoding="gb2312"?><p>春天来了，花都开了</p>'.encode("gb2312")) == [
        "春天来了，花都开了"
    ]


def test_entities_of_its_own_are_not_expanded(tmp_path):
    """Neither a file of this machine nor a billion laughs."""
    (tmp_path / "secret").write_text("secret")
    own = f'<!DOCTYPE html [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;"><!ENTITY f SYSTEM "file://{tmp_path}/secret">]>'
    page = own + HTML.format("<p>x&b;&f;y</p>")
    assert "aaaa" not in "".join(paragraphs_of(page.encode()))
    assert "secret" not in "".join(paragraphs_of(page.encode()))


def test_a_page_that_cannot_be_read_is_given_up_alone(read_file):
    """A missing one and a binary one; the others are the book."""
    pages = {"a.xhtml": "<p>a</p>", "b.xhtml": b"\x89PNG\0\0\0", "c.xhtml": "<p>c</p>"}
    found = read_file("a.epub", epub(pages), kind="books")
    assert found.reasons == ["binary"]
    assert "book/b.xhtml: it is a picture" in found[0].detail
    assert found.texts == ["a\n\nc"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"no zip", "archive"), (b"PK\x03\x04 and no zip", "archive"), (b"", "archive"),
        (epub({"a.xhtml": "<p>a</p>"})[:-40], "archive"), (epub({"a.xhtml": "<p> </p>"}), "empty"),
        (epub({"a.xhtml": "a"}, more=[("META-INF/encryption.xml", LOCK)]), "archive"),
    ],
)  # fmt: skip
def test_what_is_no_book_has_a_reason(read_file, content, reason):
    """No zip, a zip cut off, an empty book, one that is locked."""
    assert read_file("a.epub", content, kind="books").reasons == [reason]


def test_a_zip_bomb_is_not_unpacked(read_file, monkeypatch):
    """A page of zeros beyond the limit of a page, and many pages beyond the limit of the book."""
    bomb = epub({"a.xhtml": b"a" * 3_000_000})
    assert read_file("a.epub", bomb, kind="books", document_mb=1.0).reasons == ["long", "empty"]
    many = epub({f"{n}.xhtml": b"<p>" + b"a" * 900_000 + b"</p>" for n in range(8)})
    assert read_file("a.epub", many, kind="books", document_mb=1.0, text_mb=3.0).reasons == ["expands"]


def test_a_page_nested_without_end(read_file):
    """Ten thousand elements inside each other are read or refused, and break no stack."""
    deep = "<div>" * 10_000 + "text" + "</div>" * 10_000
    found = read_file("a.epub", epub({"a.xhtml": deep, "b.xhtml": "<p>b</p>"}), kind="books")
    assert "b" in found.texts[0]


def test_nothing_of_html_is_markup():
    """Bytes without an element are refused."""
    with pytest.raises(Refused) as caught:
        paragraphs_of(b"   ")
    assert caught.value.reason == "markup"


@pytest.mark.parametrize("name", ["aesop_fables_v-s-vernon-jones", "frances-hodgson-burnett_the-secret-garden"])
def test_real_books_equal_their_reference_texts(shared, read_file, name):
    """Words of the text in order against the reference text: F1 above 0.99."""
    path, reference = shared / f"sources/books/{name}.epub", shared / f"pretrain/en/books/{name}.txt"
    if not path.exists() or not reference.exists():
        pytest.skip("the book is not here")
    (found,) = read_file("a.epub", path.read_bytes(), kind="books")
    f1 = token_f1(found.text.split(), reference.read_text(encoding="utf-8").split())
    print(f"{name}: token F1 {f1:.5f}")
    assert f1 > 0.99


def token_f1(found, wanted):
    """The share of words that both have, as multisets of pairs of neighbours, so that order counts."""
    from collections import Counter

    ours, theirs = (Counter(zip(words, words[1:])) for words in (found, wanted))  # noqa: RUF007
    return 2 * (ours & theirs).total() / (ours.total() + theirs.total())
