"""Pages give their main text with its structure; hostile ones end in time, and no real one fails."""

import json
import time
from pathlib import Path

import pytest

from instar.config.data import LimitOptions
from instar.data.raw import pages
from instar.data.raw.pages import charset_of, extract, text_of_page
from instar.data.raw.piece import Refused

pytest.importorskip("trafilatura")
LIMITS = LimitOptions()
WEB = Path("data/web")
SENTENCE = "This sentence of the article says what it is about, and it is long enough to be kept by extraction. "
ENGLISH = f"""<!DOCTYPE html>
<html lang="en-GB"><head><title>Foxes - The Paper</title><meta property="og:title" content="Foxes">
<meta property="article:published_time" content="2024-03-01T10:00:00Z"><link rel="canonical" href="https://a.example/foxes">
</head><body><nav><ul><li><a href="/">Home</a><li><a href="/sport">Sport</a></ul></nav>
<div class="cookie-banner">We use cookies. <a href="/privacy">Privacy</a></div>
<article><h1>Foxes in the city</h1><p>{SENTENCE}</p><p>Here is <b>bold</b> and <a href="/l">a link</a>. {SENTENCE}</p>
<ul><li>the first thing</li><li>the second thing</li></ul>
<pre><code>def f(x):
    if x:

        return 1
</code></pre><pre>first<br>second</pre>
<table><tr><th>Name</th><th>Age</th></tr><tr><td>Ann</td><td>31</td></tr></table><p>{SENTENCE}</p></article>
<div id="comments"><h3>Comments</h3>
<div class="comment"><p>First! {SENTENCE.replace("article", "reader")}</p></div></div>
<footer>Copyright 2024 The Paper. All rights reserved.</footer></body></html>"""
CHINESE = """<html><head><meta http-equiv="Content-Type" content="text/html; charset=gb2312">
<title>城里的狐狸</title></head>
<body><div class="nav"><a href="/">首页</a> | <a href="/news">新闻</a> | <a href="/login">登录</a></div>
<div class="article"><h1>城里的狐狸</h1>
<p>昨天晚上，有人在公园里看见了一只狐狸，它并不怕人，在草地上坐了很久才离开。</p>
<p>附近的居民拍下了照片。他们说，这只狐狸每天傍晚都会来，有时候还带着两只小狐狸，在树下一起玩耍，看见人也不跑。</p>
<p>记者了解到，公园的东边有一片很大的树林，那里很少有人去，狐狸的窝可能就在树林里，离最近的马路有两公里远。</p>
<p>动物园的工作人员说，最近几年城市里的狐狸越来越多，镕基、喆这样的字也写在牌子上，请大家不要喂它们。</p></div>
<div class="footer">版权所有 <a href="/about">关于我们</a> <a href="/ad">广告服务</a></div></body></html>"""


def refusal(html, limits=LIMITS):
    with pytest.raises(Refused) as caught:
        text_of_page(html, limits)
    return caught.value.reason


def test_the_text_keeps_its_structure_and_nothing_around_it():
    """Blocks stand apart, lists and tables are lines, code keeps its own; menus, notices and comments go."""
    text, meta = text_of_page(ENGLISH.encode(), LIMITS)
    blocks = text.split("\n\n")
    assert blocks[:2] == ["Foxes in the city", SENTENCE.strip()]
    assert blocks[2].startswith("Here is bold and a link. This")
    assert "- the first thing\n- the second thing" in blocks
    assert "def f(x):\n    if x:\n\n        return 1\n\nfirst\nsecond\n\n" in text
    assert "| Name | Age |\n|---|---|\n| Ann | 31 |" in blocks
    assert blocks[-1] == SENTENCE.strip()
    assert not [word for word in ("Home", "cookies", "reader", "Copyright", "\n\n\n", " \n") if word in text]
    assert meta == {
        "encoding": "utf-8", "title": "Foxes", "language": "en", "date": "2024-03-01", "url": "https://a.example/foxes",
    }  # fmt: skip


def test_chinese_in_the_encoding_that_a_page_calls_gb2312():
    """Which is GB18030: characters that GB2312 lacks are right too."""
    text, meta = text_of_page(CHINESE.encode("gb18030"), LIMITS)
    assert "昨天晚上，有人在公园里看见了一只狐狸" in text
    assert text.endswith("镕基、喆这样的字也写在牌子上，请大家不要喂它们。")
    assert "首页" not in text
    assert "版权" not in text
    assert (meta["encoding"], meta["title"]) == ("gb18030", "城里的狐狸")


@pytest.mark.parametrize(
    ("head", "name"),
    [
        ('<meta charset="Big5">', "Big5"), ("<META content='text/html; charset=GB2312' http-equiv=x>", "GB2312"),
        ('<?xml version="1.0" encoding="euc-kr"?>', "euc-kr"), ("<meta name=description content=charset>", ""),
    ],
)  # fmt: skip
def test_the_encoding_that_a_page_declares(head, name):
    """In either way of HTML, or as XML; what a header of the answer says goes before it."""
    assert charset_of(b"<html>" + head.encode()) == name


def test_the_encoding_of_a_header_goes_before_that_of_the_page():
    """As in browsers: whoever serves a page may have changed its encoding."""
    sentence = "Dün akşam şehirde bir tilki görüldü, çimlerin üstünde oturdu ve hiç kimseden korkmadı. "
    html = f'<html><head><meta charset="windows-1252"></head><body><p>{sentence * 3}</p>'.encode("windows-1254")
    assert text_of_page(html, LIMITS, encoding="windows-1254")[0].startswith("Dün akşam şehirde")
    assert text_of_page(html, LIMITS)[0].startswith("Dün akþam")


def test_text_that_is_given_as_text_is_not_decoded_again():
    """As rows hold it; half a surrogate pair is no reason to fail, and the address given goes before the page's."""
    text, meta = text_of_page(ENGLISH.replace("Foxes in", "狐狸\ud800 in"), LIMITS, url="https://b.example")
    assert text.startswith("狐狸")
    assert "encoding" not in meta
    assert meta["url"] == "https://b.example"


def test_nothing_is_cut_off_without_a_word():
    """A parser left to itself drops what follows the 256th level of a page."""
    deep = "<html><body>" + "<div>" * 400 + f"<p>{SENTENCE * 3}</p>" + "</div>" * 400 + f"<p>The end. {SENTENCE}</p>"
    assert "The end." in text_of_page(deep, LIMITS)[0]
    assert refusal("<html><body>" + "<div>" * 600 + f"<p>{SENTENCE * 3}") == "deep"


@pytest.mark.slow
def test_a_long_text_in_one_place_is_kept():
    """A parser left to itself drops a text of more than 10 MB."""
    long = f"<html><body><p>{'word ' * 2_200_000}</p></body></html>"
    assert len(extract(long, LIMITS)[0]) > 10_900_000


@pytest.mark.parametrize(
    ("html", "reason"),
    [
        ("", "markup"), ("no tags", "markup"), ("<html><body></body></html>", "empty"),
        (b"\x89PNG\r\n\x1a\n" * 99, "binary"),
        (b"%PDF-1.7 <html>", "binary"), ("<!-- " * 100, "markup"), ("x" * 16_000_001, "long"),
    ],
)  # fmt: skip
def test_what_is_no_page_is_refused(html, reason):
    """Each with the reason that the report names."""
    assert refusal(html) == reason


HOSTILE = {
    "deep": "<div>" * 100_000 + "x", "signs": "<" * 1_000_000, "ampersands": "<p>" + "&" * 500_000,
    "attributes": "<html><body><div " + "a " * 1_000_000 + f"><p>{SENTENCE * 3}",
    "different attributes": "<p " + " ".join(f"a{number}=1" for number in range(400_000)) + ">x",
    "entities": '<!DOCTYPE html [<!ENTITY a "aaaaaaaaaa">' + "".join(
        f'<!ENTITY {name} "{f"&{before};" * 10}">' for before, name in zip("abcdefghi", "bcdefghij", strict=True)
    ) + f"]><html><body><p>&j; {SENTENCE * 3}",
    "zeros": "\0" * 1_000_000, "zeros between": f"<html><body><p>\0{SENTENCE}\0{SENTENCE}",
    "comments": "<!--" * 250_000,
    "attribute without an end": "<a href='" * 110_000, "scripts": "<script>" * 120_000,
    "items": "<html><body><ul>" + "<li>a few words" * 60_000,
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pages_end_in_time(name):
    """In a third of a second of computing, refused or read, and the next page is read as if nothing had been."""
    started = time.monotonic()
    reason, text = "", ""
    try:
        text, _ = text_of_page(HOSTILE[name], LimitOptions(seconds=0.3))
    except Refused as refused:
        reason = refused.reason
    assert reason in {"", "deep", "slow", "markup", "empty"}
    assert len(text) < 2 * len(HOSTILE[name])
    assert time.monotonic() - started < 20  # by the clock, of a machine with other work
    assert refusal(HOSTILE["deep"]) == "deep"


def test_a_missing_library_is_told_before_a_page_is_read(monkeypatch):
    """trafilatura's own message would name neither the package nor the remedy."""
    pages._check_installed.cache_clear()
    monkeypatch.setattr(pages, "find_spec", lambda name: None if name == "lxml_html_clean" else name)
    with pytest.raises(ImportError) as caught:
        text_of_page(ENGLISH, LIMITS)
    assert caught.value.name == "lxml_html_clean"


def real_pages(every):
    """(path, phrases that must be in it, phrases that must not) of every so many."""
    for name in ("trafilatura", "zh", "aeb"):
        rows = [json.loads(line) for line in (WEB / name / "ground_truth.jsonl").read_text("utf-8").splitlines()]
        for row in rows[::every]:
            yield WEB / name / row["file"], row.get("with", []), row.get("without", [])
    for path in sorted(WEB.glob("readability/*/source.html"))[::every]:
        yield path, [], []


@pytest.mark.skipif(not WEB.exists(), reason="no folder data/web")
@pytest.mark.parametrize("every", [18, pytest.param(1, marks=pytest.mark.slow)], ids=["some", "all"])
def test_real_pages_give_what_people_marked_in_them(every):
    """None fails; at least nine in ten of the wanted phrases are there, and at most one in ten of the others."""
    found = wanted = bad = unwanted = 0
    for path, with_, without in real_pages(every):
        text = "".join(text_of_page(path.read_bytes(), LIMITS)[0].split())
        assert text, path
        found += sum("".join(phrase.split()) in text for phrase in with_)
        bad += sum("".join(phrase.split()) in text for phrase in without)
        wanted, unwanted = wanted + len(with_), unwanted + len(without)
    assert found >= 0.9 * wanted
    assert bad <= 0.1 * unwanted
