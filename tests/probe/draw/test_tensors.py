"""Safetensors: arrays bit by bit, with what they are of."""

import json

import numpy as np
from safetensors import safe_open
from safetensors.numpy import load

from instar.probe.draw.tensors import tensors
from instar.probe.panel import Panel, Words


def test_arrays_come_back_bit_by_bit(panel, tmp_path):
    """View and name, type and shape, also of one that is not contiguous and of whole numbers; the data as metadata."""
    other = Panel("kv", Words("KV", "缓存"), {"bytes": 3, "gap": float("nan")}, {"ids": np.arange(6).reshape(2, 3).T})
    raw = tensors([panel, other])
    found = load(raw)
    assert set(found) == {"attention/weights", "kv/ids"}
    assert np.array_equal(found["attention/weights"], panel.arrays["weights"])
    assert found["attention/weights"].dtype == np.float32
    assert found["kv/ids"].tolist() == [[0, 3], [1, 4], [2, 5]]
    (tmp_path / "x.safetensors").write_bytes(raw)
    with safe_open(tmp_path / "x.safetensors", "np") as file:
        about = json.loads(file.metadata()["instar"])["panels"]
    assert about["kv"]["data"] == {"bytes": 3, "gap": None}
    assert about["attention"]["checks"][1]["green"] is False
    assert all(tensors([panel, other]) == raw for _ in range(9))


def test_two_panels_of_one_view_keep_apart(panel):
    """The second is numbered; nothing is written over."""
    assert set(load(tensors([panel, panel]))) == {"attention/weights", "attention.2/weights"}


def test_no_array_is_no_fault():
    """A view that is texts alone still tells what it is."""
    assert load(tensors([Panel("tokens", Words("a", "b"))])) == {}
