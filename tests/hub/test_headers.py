"""A safetensors file is believed where every byte of it adds up, and no other."""

import json

import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from instar.config import InputError
from instar.hub import headers
from instar.hub.headers import SIZES, read_header

A = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}
B = {"dtype": "F16", "shape": [3], "data_offsets": [16, 22]}


def build(header=None, *, data=bytes(22), text=None, length=None):
    """The bytes of a file with this header, which may lie about its length."""
    raw = text if text is not None else json.dumps({"a": A, "b": B} if header is None else header).encode()
    return (len(raw) if length is None else length).to_bytes(8, "little") + raw + data


# Attacks on readers of the format: what is wrong -> a file, and what the error says.
ATTACKS = {
    "empty": (b"", "it has 0 bytes"),
    "shorter than its prefix": (b"\x01\0\0\0", "it has 4 bytes"),
    "huge header": (build(length=10**12), "1,000,000,000,000 bytes, wanted at most 100,000,000"),
    "header past the end": (build(length=10**6), "1,000,000 bytes, and the file has"),
    "no header": (build(text=b""), "not JSON"),
    "header that is no object": (build(text=b"[]"), "is not a JSON object"),
    "header that begins with blanks": (build(text=b"  {}", data=b""), "is not a JSON object"),
    "cut short": (build(data=bytes(21)), "is cut short: there are 21 bytes of tensors, wanted 22"),
    "trailing byte": (build(data=bytes(23)), "goes on after its last tensor: there are 23"),
    "overlap": (build({"a": A, "b": B | {"data_offsets": [14, 20]}}, data=bytes(20)), "'b' overlaps 'a'"),
    "two on one place": (build({"a": A, "b": A}, data=bytes(16)), "'b' overlaps 'a'"),
    "hole": (build({"a": A, "b": B | {"data_offsets": [18, 24]}}, data=bytes(24)), "'b' leaves a hole after 'a'"),
    "hole at the start": (build({"b": B}), "'b' leaves a hole after the header"),
    "backwards": (build({"a": A | {"data_offsets": [16, 0]}}, data=bytes(16)), "has -16 bytes"),
    "negative offset": (build({"a": A | {"data_offsets": [-16, 0]}}, data=b""), "the data_offsets"),
    "three offsets": (build({"a": A | {"data_offsets": [0, 8, 16]}}, data=bytes(16)), "wanted a begin and an end"),
    "huge offset": (build({"a": A | {"data_offsets": [0, 2**64]}}), "the data_offsets"),
    "key twice": (build(text=b'{"a": {}, "a": {}}', data=b""), "'a' stands twice"),
    "key of a tensor twice": (build(text=b'{"a": {"dtype": "F32", "dtype": "F16"}}', data=b""), "'dtype' stands twice"),
    "another size": (build({"a": A | {"shape": [2, 3]}}, data=bytes(16)), "has 16 bytes, wanted 24 for F32"),
    "shape that overflows": (build({"a": A | {"shape": [2**32, 2**32, 4]}}, data=bytes(16)), "has 16 bytes, wanted 29"),
    "nothing times very much": (
        build({"a": A | {"shape": [0, 2**50], "data_offsets": [0, 0]}}, data=b""), "whole numbers up to 4,294,967,296",
    ),
    "too many dimensions": (
        build({"a": A | {"shape": [1] * 9, "data_offsets": [0, 4]}}, data=bytes(4)), "at most 8 whole numbers",
    ),
    "negative shape": (build({"a": A | {"shape": [-2, -2]}}, data=bytes(16)), "has the shape"),
    "true is no size": (build({"a": A | {"shape": [True, 4]}}, data=bytes(16)), "has the shape"),
    "fraction is no size": (build({"a": A | {"shape": [4.0]}}, data=bytes(16)), "has the shape"),
    "unknown dtype": (build({"a": A | {"dtype": "F31"}}, data=bytes(16)), "unknown dtype of 'a': 'F31'"),
    "dtype that is none": (build({"a": A | {"dtype": ["F32"]}}, data=bytes(16)), "unknown dtype of 'a'"),
    "nothing said": (build({"a": {}}, data=b""), "is described by {}"),
    "more said": (build({"a": A | {"path": "/etc/passwd"}}, data=bytes(16)), "is described by"),
    "a number for a tensor": (build({"a": 3}, data=b""), "is described by 3"),
    "not UTF-8": (build(text=b'{"\xff": {}}'), "not UTF-8"),
    "notes that are none": (build({"__metadata__": {"a": 1}}, data=b""), "__metadata__ is not an object of strings"),
    "half a character": (build(text=b'{"\\ud800": {}}', data=b""), "holds U+D800, half of a surrogate pair"),
    "not a number": (build(text=b'{"a": NaN}', data=b""), "wanted a finite"),
    "deep": (build(text=b'{"a":' + b"[" * 50_000), "nested too deeply"),
}  # fmt: skip


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks(path, name):
    """Each is refused with the name of the file, what is wrong and the remedy, before the library sees it."""
    raw, words = ATTACKS[name]
    path.write_bytes(raw)
    with pytest.raises(InputError) as caught:
        read_header(path)
    said = str(caught.value)
    assert said.startswith(f"{path} is no whole safetensors file: ")
    assert words in said
    assert said.endswith("; fetch or save it again")
    assert "\n" not in said


@pytest.mark.parametrize("kind", SIZES)
def test_every_type_is_read(path, kind):
    """The size of each type is the library's: both read a file of it, and a byte more is too much for both."""
    size = SIZES[kind]
    entry = {"t": {"dtype": kind, "shape": [3], "data_offsets": [0, 3 * size]}}
    path.write_bytes(build(entry, data=bytes(3 * size)))
    assert read_header(path)["t"].kind == kind
    with safe_open(path, framework="pt") as file:
        assert file.get_slice("t").get_dtype() == kind
    path.write_bytes(build(entry, data=bytes(3 * size + 1)))
    with pytest.raises(InputError, match="goes on"):
        read_header(path)
    with pytest.raises(SafetensorError):
        safe_open(path, framework="pt").__enter__()


def test_what_the_library_writes_is_read(path):
    """Every tensor with its shape, scalars, empty ones and notes included."""
    tensors = {"x": torch.zeros(2, 3), "s": torch.tensor(1.0), "none": torch.zeros(0, 4), "h": torch.zeros(5).half()}
    save_file(tensors, path, metadata={"format": "pt"})
    found = read_header(path)
    assert {name: header.shape for name, header in found.items()} == {n: list(t.shape) for n, t in tensors.items()}
    assert found["x"].numel == 6
    assert found["h"].kind == "F16"


def test_names_are_never_paths(path, tmp_path):
    """A tensor called like a file elsewhere is a key like any other; nothing is made."""
    before = sorted(tmp_path.parent.iterdir())
    path.write_bytes(build({"../../x": A, "/etc/passwd": B}))
    assert set(read_header(path)) == {"../../x", "/etc/passwd"}
    assert sorted(tmp_path.parent.iterdir()) == before


def test_too_many_tensors(path, monkeypatch):
    """A hundred thousand are read, not one more; nor are lists without number."""
    empty = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    monkeypatch.setattr(headers, "MAX_TENSORS", 100)
    path.write_bytes(build({str(n): empty for n in range(100)}, data=b""))
    assert len(read_header(path)) == 100
    path.write_bytes(build({str(n): empty for n in range(101)}, data=b""))
    with pytest.raises(InputError, match="it holds 101 tensors, wanted at most 100"):
        read_header(path)
    path.write_bytes(build(text=b'{"a":[' + b"[]," * headers.MAX_PIECES + b"0]}"))
    with pytest.raises(InputError, match="parts, wanted at most 2,000,000"):
        read_header(path)
