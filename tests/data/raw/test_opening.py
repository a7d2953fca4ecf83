"""Files are opened wherever they lie, unpacked whatever their name says, and never without end."""

import bz2
import gzip
import lzma
import zlib

import pytest

from instar.config.data import LimitOptions
from instar.data.raw import opening
from instar.data.raw.opening import Refused, open_rows, read_whole, suffix_of

LIMITS = LimitOptions()
TEXT = "人咬狗, man bites dog.\n".encode() * 4000


def zstd(data):
    return pytest.importorskip("zstandard").ZstdCompressor().compress(data)


PACKERS = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zst": zstd}


@pytest.mark.parametrize("ending", PACKERS)
@pytest.mark.parametrize("named", [True, False], ids=["named", "unnamed"])
def test_packed_files_are_unpacked_by_their_first_bytes(tmp_path, ending, named):
    """Whether or not the name says so; several members one after the other are one file."""
    path = tmp_path / (f"a.txt.{ending}" if named else "a.txt")
    path.write_bytes(PACKERS[ending](TEXT) + PACKERS[ending](b"more"))
    assert read_whole(str(path), LIMITS) == TEXT + b"more"


@pytest.mark.parametrize("ending", PACKERS)
@pytest.mark.parametrize("cut", [0.5, 0.999], ids=["half", "last bytes"])
def test_a_file_that_was_cut_off_is_truncated(tmp_path, ending, cut):
    """What was whole before the cut is still read; zstandard's own reader would say nothing."""
    packed = PACKERS[ending](TEXT)
    first = PACKERS[ending](b"first\n")
    path = tmp_path / f"a.txt.{ending}"
    path.write_bytes(first + packed[: min(int(len(packed) * cut), len(packed) - 1)])
    with open_rows(str(path)) as stream:
        assert stream.readline() == b"first\n"
        with pytest.raises(Refused) as caught:
            stream.read()
    assert caught.value.reason == "truncated"


@pytest.mark.parametrize("ending", PACKERS)
def test_damage_is_told_from_truncation(tmp_path, ending):
    """A byte that flipped, and something else that follows a whole member."""
    packed = bytearray(PACKERS[ending](TEXT))
    packed[len(packed) // 2] ^= 0xFF
    packed[-6] ^= 0xFF
    for content in (bytes(packed), PACKERS[ending](TEXT) + b"and something else"):
        (tmp_path / f"a.{ending}").write_bytes(content)
        with pytest.raises(Refused) as caught:
            read_whole(str(tmp_path / f"a.{ending}"), LIMITS)
        assert caught.value.reason == "compressed"
    assert "after a whole" in caught.value.detail


def test_zeros_that_fill_up_the_end_are_no_damage(tmp_path):
    """Tapes and some uploads pad with zeros."""
    (tmp_path / "a.gz").write_bytes(gzip.compress(TEXT) + bytes(700))
    assert read_whole(str(tmp_path / "a.gz"), LIMITS) == TEXT


def test_a_name_that_lies_about_packing(tmp_path):
    """Text called .gz is refused with the bytes that were found; an empty one is empty."""
    (tmp_path / "a.txt.gz").write_bytes(b"plain text")
    with pytest.raises(Refused, match="its name says gzip, and it begins with the bytes 70 6c"):
        read_whole(str(tmp_path / "a.txt.gz"), LIMITS)
    (tmp_path / "a.txt.gz").write_bytes(b"")
    assert read_whole(str(tmp_path / "a.txt.gz"), LIMITS) == b""


@pytest.mark.parametrize("ending", PACKERS)
def test_a_bomb_is_given_up_when_it_expands(tmp_path, monkeypatch, ending):
    """Past limits.expansion times what was read, and past the floor; rows are not capped as a whole."""
    monkeypatch.setattr(opening, "FLOOR", 100_000)
    path = tmp_path / f"a.txt.{ending}"
    path.write_bytes(PACKERS[ending](bytes(3_000_000)))
    with pytest.raises(Refused) as caught:
        read_whole(str(path), LIMITS)
    assert caught.value.reason == "expands"
    with open_rows(str(path)) as stream:
        assert len(stream.read()) == 3_000_000


def test_the_limit_is_named(tmp_path):
    """The remedy for a long file is the option."""
    (tmp_path / "a").write_bytes(b"x" * 2001)
    with pytest.raises(Refused, match=r"more than 2,000 bytes, wanted at most limits.document_mb=0.002"):
        read_whole(str(tmp_path / "a"), LimitOptions(document_mb=0.002))
    assert len(read_whole(str(tmp_path / "a"), LimitOptions(document_mb=0.002001))) == 2001


def test_fsspec_addresses_are_opened(tmp_path):
    """Memory and file addresses, packed ones too."""
    fsspec = pytest.importorskip("fsspec")
    with fsspec.open("memory://opening/a.gz", "wb") as stream:
        stream.write(gzip.compress(TEXT))
    assert read_whole("memory://opening/a.gz", LIMITS) == TEXT
    (tmp_path / "a.txt").write_bytes(TEXT)
    assert read_whole(f"file://{tmp_path}/a.txt", LIMITS) == TEXT
    with open_rows(f"file://{tmp_path}/a.txt", start=11) as stream:
        assert stream.readline() == TEXT[11 : TEXT.index(b"\n") + 1]


@pytest.mark.parametrize(
    ("address", "suffix"),
    [
        ("a/rows.JSONL.gz", ".jsonl"), ("crawl.warc.gz", ".warc"), ("a.b/c", ""), ("notes.gz", ""),
        ("https://host/rows.parquet?download=true#x.txt", ".parquet"), ("s3://bucket/what?.txt", ".txt"),
    ],
)  # fmt: skip
def test_the_suffix_tells_the_format(address, suffix):
    """Without that of the packing, and without a query."""
    assert suffix_of(address) == suffix


def test_raw_deflate_is_no_gzip():
    """zlib's own header is not taken for gzip's."""
    assert opening.packing_of(zlib.compress(TEXT)[:10]) == ""
