"""Writing: every format from one door, to a file whole or not at all."""

import json

import pytest

from instar.config import InputError
from instar.probe import draw
from instar.probe.draw import FORMATS, pictures, undrawn, write
from instar.probe.panel import Panel, Words


@pytest.mark.parametrize("format", FORMATS)
def test_what_is_given_is_what_is_written(panel, tmp_path, format, monkeypatch):
    """Text or bytes, and the same in the file; nothing else lies in the folder."""
    monkeypatch.setattr(draw.charted, "plotting", lambda: False)
    path = tmp_path / f"seen.{format}"
    drawn = write([panel], format, "zh", path)
    assert isinstance(drawn, bytes) is (format in ("png", "safetensors"))
    assert path.read_bytes() == (drawn if isinstance(drawn, bytes) else drawn.encode())
    assert list(tmp_path.iterdir()) == [path]


def test_wrong_wishes_are_refused(panel, tmp_path):
    """An unknown format or language with the near one, a folder that is not there, before a byte is written."""
    with pytest.raises(InputError, match="unknown format htm; did you mean html"):
        write([panel], "htm")
    with pytest.raises(InputError, match="unknown language fr"):
        write([panel], "text", "fr")
    with pytest.raises(InputError, match="is not a folder; make it, or write elsewhere"):
        write([panel], "text", output=tmp_path / "none" / "x.txt")
    with pytest.raises(InputError, match="unknown format of pictures"):
        pictures([panel], "html")


def test_pictures_one_by_one(panel, monkeypatch):
    """A picture for each figure; a format that leaves some out tells which."""
    assert len(pictures([panel], "svg")) == len(panel.figures)
    assert undrawn([panel], "png") == undrawn([panel], "svg") == []
    monkeypatch.setattr(draw.charted, "plotting", lambda: False)
    assert len(pictures([panel], "png")) == 2
    assert {type(figure).__name__ for figure in undrawn([panel], "png")} == {
        "Cells", "Bars", "Lines", "Arcs", "Strip", "Table", "Tree", "Flow", "Scatter",
    }  # fmt: skip


def test_several_views_in_one_file(panel):
    """All of them, in order."""
    other = Panel("kv", Words("Cache", "缓存"))
    assert [one["view"] for one in json.loads(write([panel, other], "json"))["panels"]] == ["attention", "kv"]
    assert write([panel, other], "text").index("Attention") < write([panel, other], "text").index("Cache")
    assert all(f'id="{view}"' in write([panel, other], "html") for view in ("attention", "kv"))
