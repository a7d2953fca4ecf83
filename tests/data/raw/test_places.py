"""What a source names becomes pieces, sorted, cut, and known before anything is read."""

import gzip
import json

import pytest

from instar.config import InputError
from instar.config.data import SourceOptions
from instar.data.raw.places import find


def source(*data, kind="text", fields=()):
    return SourceOptions(name="s", kind=kind, data=data, fields=fields)


def addresses(found):
    return [piece.address for piece in found.pieces]


@pytest.fixture
def folder(tmp_path):
    """Files of several kinds in two depths, hidden ones among them."""
    for name in (
        "b.txt",
        "a/z.txt",
        "a/rows.jsonl.gz",
        ".git/c.txt",
        "a/.hidden.txt",
        "picture.png",
        "page.html",
        "m.py",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x" * 10)
    return tmp_path


def test_a_folder_is_sorted_and_the_rest_is_named(folder):
    """Recursive, hidden ones left out; what this kind does not read is skipped and named."""
    found = find(source(str(folder)), 1000)
    assert addresses(found) == [f"{folder}/{name}" for name in ("a/rows.jsonl.gz", "a/z.txt", "b.txt", "page.html")]
    assert found.skipped == (f"{folder}/m.py", f"{folder}/picture.png")
    assert {(piece.source, piece.kind, piece.size, piece.start, piece.stop) for piece in found.pieces} == {
        ("s", "text", 10, 0, 0)
    }


def test_the_kind_decides_what_is_read(folder):
    """Code reads .py and rows; texts are none of its business."""
    found = find(source(str(folder), kind="code"), 1000)
    assert addresses(found) == [f"{folder}/a/rows.jsonl.gz", f"{folder}/m.py"]
    assert f"{folder}/b.txt" in found.skipped


def test_globs_and_files_and_twice_the_same(folder):
    """In the order of the source; a file that is named twice is read once."""
    found = find(source(f"{folder}/**/z.txt", f"{folder}/b.txt", f"{folder}/*.txt", fields=("t",)), 1000)
    assert addresses(found) == [f"{folder}/a/z.txt", f"{folder}/b.txt"]
    assert found.pieces[0].fields == ("t",)


def test_fsspec_addresses():
    """A file, a glob and a folder in memory, hidden ones left out."""
    fsspec = pytest.importorskip("fsspec")
    system = fsspec.filesystem("memory")
    for name in ("a.txt", "b/c.txt.gz", "b/.d.txt", "b/e.png"):
        system.pipe(f"/places/{name}", b"12345")
    whole = find(source("memory://places"), 1000)
    assert addresses(whole) == ["memory:///places/a.txt", "memory:///places/b/c.txt.gz"]
    assert whole.skipped == ("memory:///places/b/e.png",)
    assert whole.pieces[0].size == 5
    assert addresses(find(source("memory://places/*/*.gz"), 1000)) == ["memory:///places/b/c.txt.gz"]
    assert addresses(find(source("memory://places/a.txt"), 1000)) == ["memory:///places/a.txt"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("nowhere.txt", "no such file or folder: nowhere.txt; give"),
        ("nowhere/*.txt", "found no files, wanted for text"),
        ("memory://nowhere", "nothing lies at memory://nowhere"), ("world:storys", "stor"),
        ("zip://*.txt::a.zip", "chained addresses"), ("nosuch://a/b.txt", "cannot be looked up.*nosuch"),
    ],
)  # fmt: skip
def test_what_does_not_exist_is_said_at_once(data, message):
    """With what was found, what is wanted, and the remedy."""
    with pytest.raises(InputError, match=message):
        find(source(data), 1000)


def test_a_file_that_no_reader_takes(folder):
    """Named by the user, it is an error and not skipped."""
    with pytest.raises(InputError, match=r"picture.png: found .png, wanted for text one of .jsonl"):
        find(source(f"{folder}/picture.png"), 1000)
    with pytest.raises(InputError, match="no data"):
        find(source(), 1000)


def test_a_world_is_one_piece():
    """The built-in world is a source like any other."""
    (piece,) = find(source("world:stories?count=3"), 1000).pieces
    assert (piece.address, piece.size) == ("world:stories?count=3", 0)


def test_large_lines_are_cut_in_ranges(tmp_path):
    """Of nearly equal size, without a gap; not if they are packed, whatever their name says."""
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "x"}\n' * 100)
    pieces = find(source(str(tmp_path)), 300).pieces
    assert [(piece.start, piece.stop) for piece in pieces] == [
        (0, 280),
        (280, 560),
        (560, 840),
        (840, 1120),
        (1120, 1400),
    ]
    assert sum(piece.size for piece in pieces) == 1400
    (tmp_path / "a.jsonl").write_bytes(gzip.compress(b'{"text": "x"}\n' * 100))
    assert [(piece.start, piece.stop) for piece in find(source(str(tmp_path)), 10).pieces] == [(0, 0)]


def test_large_tables_are_cut_between_row_groups(tmp_path):
    """By their stored size; a damaged table is one piece, whose reader says so."""
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")

    rows = pyarrow.Table.from_pylist([{"text": json.dumps(number) * 50} for number in range(400)])
    path = tmp_path / "a.parquet"
    parquet.write_table(rows, path, row_group_size=50)
    pieces = find(source(str(path)), path.stat().st_size // 3).pieces
    assert len(pieces) > 2
    assert [piece.start for piece in pieces] == [0, *(piece.stop for piece in pieces[:-1])]
    assert pieces[-1].stop == 8
    path.write_bytes(path.read_bytes()[:-8])
    assert [(piece.start, piece.stop) for piece in find(source(str(path)), 100).pieces] == [(0, 0)]
