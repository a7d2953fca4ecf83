"""Archives of the web are read record by record; what is damaged is counted, and what follows it is read."""

import gzip
import io
import tracemalloc
import zlib

import pytest

from instar.config.data import LimitOptions
from instar.data.raw import warc
from instar.data.raw.piece import Broken, Piece, Raw
from instar.data.raw.reading import read
from instar.data.raw.warc import read_warc

pytest.importorskip("trafilatura")
writer = pytest.importorskip("warcio.warcwriter")
http = pytest.importorskip("warcio.statusandheaders")

LIMITS = LimitOptions()
SENTENCE = "Number {} of the pages says something of its own, in a sentence that is long enough to be kept. "


def page(number, extra=""):
    text = SENTENCE.format(number) * 4
    return f"<html><head><title>Page {number}</title></head><body><article><p>{text}{extra}</p></article></body></html>"


def archive(*records, packed=True):
    """Records as (kind, url, body, HTTP headers or None) -> the bytes of each record as warcio writes them."""
    made = []
    for kind, url, body, *more in records:
        stream = io.BytesIO()
        out = writer.WARCWriter(stream, gzip=packed)
        headers = http.StatusAndHeaders(more[1] if more[1:] else "200 OK", more[0], "HTTP/1.1") if more else None
        body = body.encode() if isinstance(body, str) else body
        extra = {} if more else {"warc_content_type": "text/plain"}
        out.write_record(out.create_warc_record(url, kind, payload=io.BytesIO(body), http_headers=headers, **extra))
        made.append(stream.getvalue())
    return made


def html(number, **extra):
    headers = [("Content-Type", "text/html; charset=utf-8"), *extra.get("headers", ())]
    return "response", f"https://a.example/{number}", extra.get("body", page(number)), headers


def found(data):
    return list(read_warc(io.BytesIO(data), LIMITS))


def brief(results):
    return [(one.number, one.reason if isinstance(one, Broken) else one.text[:8]) for one in results]


@pytest.mark.parametrize("packed", [True, False], ids=["gzip", "plain"])
def test_pages_are_read_with_their_address_and_date(packed):
    """A request and the record about the archive itself are no documents; a picture and a missing page are counted."""
    records = archive(
        ("warcinfo", "a.warc", "software: by hand"), html(2),
        ("request", "https://a.example/3", "", [], "GET / HTTP/1.1"),
        ("response", "https://a.example/4", b"\x89PNG", [("Content-Type", "image/png")]),
        ("response", "https://a.example/5", page(5), [("Content-Type", "text/html")], "404 Not Found"), html(6),
        packed=packed,
    )  # fmt: skip
    results = found(b"".join(records))
    assert brief(results) == [(2, "Number 2"), (4, "unknown"), (5, "status"), (6, "Number 6")]
    assert results[0].meta["url"] == "https://a.example/2"
    assert results[0].meta["title"] == "Page 2"
    assert results[0].meta["crawled"][:2] == "20"
    assert "image/png" in results[1].detail
    assert "404" in results[2].detail
    assert results[1].size > 0


def test_content_is_unpacked_as_its_headers_say():
    """Chunks, gzip, both kinds of deflate, an encoding declared in the answer alone, and a type left to be seen."""
    raw = zlib.compressobj(wbits=-15)
    body = page(1, " Ünïcode 人咬狗.").encode()
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:50], body[50:])) + b"0\r\n\r\n"
    chinese = f"<html><body><p>{'这一页的编码只在服务器的回答里说明，页面自己没有说。' * 6}</p></body></html>"
    records = archive(
        html(1, body=chunks, headers=[("Transfer-Encoding", "chunked")]),
        html(2, body=gzip.compress(body), headers=[("Content-Encoding", "gzip")]),
        html(3, body=zlib.compress(body), headers=[("Content-Encoding", "deflate")]),
        html(4, body=raw.compress(body) + raw.flush(), headers=[("Content-Encoding", "deflate")]),
        html(5, body=body, headers=[("Content-Encoding", "gzip"), ("Transfer-Encoding", "chunked")]),
        ("response", "https://a.example/6", chinese.encode("gb18030"), [("Content-Type", "text/html; charset=GBK")]),
        ("response", "https://a.example/7", body, []),
        html(8, body=body, headers=[("Content-Encoding", "br")]),
        html(9, body=b"\x1b\x00", headers=[("Content-Encoding", "br")]),
        html(10, body=gzip.compress(body)[:-30], headers=[("Content-Encoding", "gzip")]),
    )
    results = found(b"".join(records))
    assert [one.reason for one in results if isinstance(one, Broken)] == ["compressed", "truncated"]
    texts = [one.text for one in results if isinstance(one, Raw)]
    assert len(texts) == 8
    assert all(text.endswith("人咬狗.") for number, text in enumerate(texts) if number != 5)
    assert texts[5].startswith("这一页的编码")


def test_texts_of_a_wet_file_are_documents():
    """Common Crawl's extracted texts: records of kind conversion."""
    records = archive(
        ("conversion", "https://a.example/1", "line one\n人咬狗"), ("metadata", "https://a.example/1", "x: y")
    )
    (result,) = found(b"".join(records))
    assert (result.text, result.number, result.meta["url"]) == ("line one\n人咬狗", 1, "https://a.example/1")


def test_damage_costs_the_records_it_lies_in():
    """Bytes that flipped in one member, a member that is cut, rubbish between members: the others are read."""
    records = [bytearray(record) for record in archive(*map(html, range(1, 6)))]
    records[1][len(records[1]) // 2] ^= 0xFF
    records[3] = records[3][: len(records[3]) // 2]
    results = found(b"".join(map(bytes, records)))
    assert results[3].reason in {"compressed", "truncated"}  # what it reads on in, which is not its own, is chance
    results[3] = Broken("damaged", 4, "")
    assert brief(results) == [(1, "Number 1"), (2, "compressed"), (3, "Number 3"), (4, "damaged"), (5, "Number 5")]
    records = archive(html(1), html(2))
    assert brief(found(records[0] + b"rubbish" + records[1])) == [(1, "Number 1"), (2, "compressed"), (3, "Number 2")]


def test_a_checksum_that_does_not_fit_is_damage():
    """The text of such a record looks whole, and may be any other text."""
    first, second = (bytearray(record) for record in archive(html(1), html(2)))
    first[-6] ^= 0xFF
    assert brief(found(bytes(first + second))) == [(1, "compressed"), (2, "Number 2")]


@pytest.mark.parametrize("packed", [True, False], ids=["gzip", "plain"])
def test_an_archive_that_was_cut_off_is_truncated(packed):
    """As a download that broke leaves it."""
    records = archive(html(1), html(2), packed=packed)
    for kept in (len(records[1]) // 2, 40):
        assert brief(found(records[0] + records[1][:kept])) == [(1, "Number 1"), (2, "truncated")]


def test_records_of_a_wrong_length_cost_themselves():
    """Too long a length reaches no farther than the member; too short a one leaves bytes that belong to nobody."""
    plain = archive(html(1), html(2), html(3), packed=False)
    length = next(line for line in plain[1].split(b"\r\n") if line.startswith(b"Content-Length"))
    longer, shorter, none = (
        plain[1].replace(length, b"Content-Length: " + said, 1) for said in (b"999999", b"300", b"-1")
    )
    packed = b"".join(map(gzip.compress, (plain[0], longer, plain[2])))
    assert brief(found(packed)) == [(1, "Number 1"), (2, "truncated"), (3, "Number 3")]
    results = found(plain[0] + shorter + plain[2])
    assert brief(results) == [(1, "Number 1"), (2, "archive"), (3, "archive"), (3, "Number 3")]
    assert brief(found(plain[0] + none + plain[2]))[1:] == [(2, "archive"), (3, "archive"), (3, "Number 3")]


def test_bombs_end_without_filling_memory(monkeypatch):
    """Zeros that pack a thousandfold, an answer unpacking to more than a page may have, and endless headers."""
    monkeypatch.setattr(warc, "text_of_page", lambda data, *_: (f"{len(data)} bytes", {}))
    zeros = gzip.compress(bytes(70_000_000), 1)
    assert "expands" in [reason for _, reason in brief(found(zeros + zeros))]
    limits = LimitOptions(document_mb=1)
    packed = gzip.compress(bytes(40_000_000), 1)
    bomb, long, last = archive(
        html(1, body=packed, headers=[("Content-Encoding", "gzip")]), html(2, body=bytes(5_000_000)), html(3)
    )
    tracemalloc.start()
    results = brief(read_warc(io.BytesIO(bomb + long + last), limits))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert results == [(1, "long"), (2, "long"), (3, f"{len(page(3))} bytes"[:8])]
    assert peak < 12_000_000
    endless = b"WARC/1.0\r\n" + b"a: b\r\n" * 300_000
    assert brief(found(endless))[0] == (1, "archive")


def test_what_is_no_archive_is_counted():
    """An empty file, and another file with such a name."""
    assert brief(found(b"")) == [(1, "empty")]
    assert brief(found(b"<html>no archive</html>\n" * 10_000)) == [(1, "archive")]


@pytest.mark.parametrize("name", ["a.warc", "a.warc.gz", "a.warc.wet.gz", "a.warc.zst"])
def test_files_are_read_through_the_table_of_readers(tmp_path, name):
    """gzip is left to this reader, any other packing is taken off before it."""
    data = b"".join(archive(html(1), html(2), packed=name.endswith(".gz")))
    if name.endswith(".zst"):
        data = pytest.importorskip("zstandard").ZstdCompressor().compress(data)
    (tmp_path / name).write_bytes(data)
    assert brief(read(Piece("web", "web", str(tmp_path / name), len(data)), LIMITS)) == [
        (1, "Number 1"),
        (2, "Number 2"),
    ]
