"""PNG by ourselves: what a reader of its own reads back."""

import struct
import zlib

import numpy as np
import pytest

from instar.probe.draw.colour import GROUND, rgb, sequential
from instar.probe.draw.png import GAP, encode, heat


def decode(raw):
    """The points of a PNG with a palette, as (R, C, 3), with every checksum seen."""
    assert raw[:8] == b"\x89PNG\r\n\x1a\n"
    at, parts = 8, {}
    while at < len(raw):
        (length,) = struct.unpack(">I", raw[at : at + 4])
        kind, data = raw[at + 4 : at + 8], raw[at + 8 : at + 8 + length]
        assert struct.unpack(">I", raw[at + 8 + length : at + 12 + length])[0] == zlib.crc32(kind + data)
        parts[kind] = data
        at += 12 + length
    columns, rows, depth, colour = struct.unpack(">IIBB", parts[b"IHDR"][:10])
    assert (depth, colour) == (8, 3)
    lines = np.frombuffer(zlib.decompress(parts[b"IDAT"]), dtype=np.uint8).reshape(rows, columns + 1)
    assert not lines[:, 0].any()
    return np.frombuffer(parts[b"PLTE"], dtype=np.uint8).reshape(-1, 3)[lines[:, 1:]]


def test_every_point_comes_back():
    """Three colours in a picture of 2 x 3."""
    points = decode(encode(np.array([[0, 1, 2], [2, 1, 0]]), ["#000000", "#ff0000", "#00ff7f"]))
    assert points.shape == (2, 3, 3)
    assert points[1].tolist() == [[0, 255, 127], [255, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_heat_map_has_the_colours_of_its_ground(theme):
    """0 is the ground, 1 the strongest colour, no number neither; each value as many points wide as asked."""
    points = decode(heat(np.array([[0.0, 1.0, np.nan]]), "share", theme, size=2))
    assert points.shape == (2, 6, 3)
    assert [tuple(points[1, column]) for column in (1, 2, 5)] == [
        rgb(GROUND[theme]), rgb(sequential(theme)[-1]), rgb(GAP[theme]),
    ]  # fmt: skip


def test_other_readers_can_open_it():
    """matplotlib's reader sees the same points."""
    image = pytest.importorskip("matplotlib.image")
    import io

    raw = heat(np.eye(5), "share")
    assert np.array_equal(np.rint(image.imread(io.BytesIO(raw), format="png")[..., :3] * 255), decode(raw))
