"""JATS articles become text, and nothing that XML can do harms."""

import time

import pytest

from instar.data.raw.jats import text_of_jats
from instar.data.raw.piece import Refused

pytest.importorskip("lxml")

FRONT = """<front><journal-meta><journal-title-group><journal-title>J. of Tests</journal-title></journal-title-group>
</journal-meta><article-meta><article-id pub-id-type="pmid">1</article-id>
<article-id pub-id-type="doi">10.1/x</article-id>
<title-group><article-title>On <italic>E. coli</italic></article-title></title-group><contrib-group>
<contrib contrib-type="author"><name><surname>Lee</surname><given-names>Ann B</given-names></name>
<xref>1</xref></contrib>
<contrib contrib-type="author"><collab>The Group</collab></contrib>
<contrib contrib-type="editor"><name><surname>No</surname><given-names>One</given-names></name></contrib>
</contrib-group>
<pub-date pub-type="collection"><year>2011</year></pub-date>
<pub-date pub-type="epub"><day>2</day><month>8</month><year>2011</year></pub-date>
<permissions><license xlink:href="https://creativecommons.org/licenses/by/4.0/" xmlns:xlink="http://www.w3.org/1999/xlink">
<license-p>Free.</license-p></license></permissions>
<abstract><p>We test.</p></abstract><abstract abstract-type="graphical"><p>no</p></abstract>
<kwd-group><kwd>tests</kwd><kwd>worms</kwd></kwd-group></article-meta></front>"""


def article(body, front=FRONT, before="", back=""):
    return f'{before}<article xml:lang="en">{front}<body>{body}</body>{back}</article>'.encode()


def text(body, **parts):
    return text_of_jats(article(body, front="", **parts))[0]


def test_what_is_known_of_an_article():
    """Title, authors, journal, doi, the most exact date, licence, keywords and language are meta data; the text begins
    with title and abstract, and what is cited is counted only."""
    back = "<back><ack><p>Thanks.</p></ack><ref-list><title>References</title><ref/></ref-list></back>"
    read, meta = text_of_jats(article("<sec><label>1.</label><title>Aims</title><p>To\n test.</p></sec>", back=back))
    wanted = "# On E. coli\n\n## Abstract\n\nWe test.\n\n## Aims\n\nTo test.\n\n## Acknowledgements\n\nThanks."
    assert read == wanted
    assert meta == {
        "title": "On E. coli", "author": "Ann B Lee, The Group", "journal": "J. of Tests", "doi": "10.1/x",
        "date": "2011-08-02", "licence": "https://creativecommons.org/licenses/by/4.0/", "keywords": ["tests", "worms"],
        "language": "en", "references": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        ("<sec><title>A</title><sec><title>B</title><p>x</p></sec></sec>", "## A\n\n### B\n\nx"),
        ("<p>CO<sub>2</sub>, 10<sup>−3</sup> m<sup>2 </sup>= n<sup>a</sup></p>", "CO2, 10⁻³ m² = n^a"),
        ('<p>told<sup><xref ref-type="bibr">4</xref>,<xref ref-type="bibr">5</xref></sup></p>', "told[4,5]"),
        ('<p>told [<xref ref-type="bibr">4</xref>].</p>', "told [4]."),
        (
            '<list list-type="order"><list-item><p>a</p></list-item><list-item><p>b</p><list><list-item><p>c</p>'
            "</list-item></list></list-item></list><p>d</p>",
            "1. a\n2. b\n  - c\n\nd",
        ),
        (
            "<table-wrap><label>Table 1</label><caption><title>Two</title><p>By two.</p></caption><table><thead><tr>"
            "<th/><th>n</th></tr></thead><tbody><tr><td>a</td><td>1</td></tr></tbody></table><table-wrap-foot><fn>"
            "<label>*</label><p>Few.</p></fn></table-wrap-foot></table-wrap>",
            "Table 1. Two. By two.\n\n| n\na | 1\n\n* Few.",
        ),
        ("<fig><label>Figure 2</label><caption><p>A cat.</p></caption><graphic/></fig>", "Figure 2. A cat."),
        (
            "<p>so <disp-formula><alternatives><graphic/><tex-math>\\documentclass{a}\\begin{document}$$x^2$$"
            "\\end{document}</tex-math><math><mi>x</mi></math></alternatives></disp-formula> is</p>",
            "so\n\n$$x^2$$\n\nis",
        ),
        ('<p><inline-formula><math alttext="a_1"><mi>a</mi></math></inline-formula></p>', "$a_1$"),
        ("<p><math><mrow><mi>a</mi><mo>=</mo><mn>1</mn></mrow></math></p>", "a = 1"),
        ("<p>a <!-- no --> b<?page 3?> c</p>", "a b c"),
        ("<code language='c'>int  a;\n\n b</code>", "```c\nint  a;\n\n b\n```"),
    ],
)
def test_parts_of_an_article(body, wanted):
    """Sections, lists, tables, captions, formulas and raised signs read as they look."""
    assert text(body) == wanted


def test_entities_are_never_followed():
    """An external entity is not opened and the letters of an unread document type are known."""
    outside = '<!DOCTYPE article [<!ENTITY a SYSTEM "file:///etc/hostname">]>'
    assert text("<p>x &a; y</p>", before=outside) == "x y"
    letters = '<!DOCTYPE article PUBLIC "-//NLM//DTD JATS v1.0//EN" "http://127.0.0.1/JATS.dtd">'
    assert text("<p>&alpha;-helix</p>", before=letters) == "α-helix"


LAUGHS = "".join(f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefghi", "bcdefghij"))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"<html><body><article><p>A page.</p></article></body></html>", "shape"),
        (b"<a><b></a>", "markup"),
        (b"no markup", "truncated"),
        (article("<p>cut off here</p>")[:-20], "truncated"),
        (article("<sec>" * 100_000 + "</sec>" * 100_000), "deep"),
        (article("<sec>" * 1000 + "</sec>" * 1000), "deep"),
        (article("<p>&j;</p>", before=f'<!DOCTYPE article [<!ENTITY a "lol">{LAUGHS}]>'), "expands"),
        (article("", front=""), "empty"),
    ],
)
def test_what_is_no_article_is_refused(data, reason):
    """Pages, broken and cut files, towers of tags and entities that multiply are named, at once."""
    begun = time.process_time()
    with pytest.raises(Refused) as refused:
        text_of_jats(data)
    assert refused.value.reason == reason
    assert time.process_time() - begun < 2


def test_real_articles(shared):
    """Four articles of three publishers have titles, authors and sections, and no markup."""
    files = sorted((shared / "papers" / "jats_xml").glob("*xml"))
    if not files:
        pytest.skip("no articles here")
    for file in files:
        read, meta = text_of_jats(file.read_bytes())
        assert read.startswith(f"# {meta['title']}\n\n## Abstract\n\n")
        assert {"author", "journal", "doi", "date", "licence", "references"} <= set(meta)
        assert read.count("\n## ") >= 4
        assert not any(mark in read for mark in ("</", "&amp;", "\n\n\n", "  - -"))
