"""Panels as JSON: strict, whole, unrounded, and where it is too much, saying so."""

import json

import numpy as np
import pytest

from instar.config import parse_json
from instar.probe.draw.record import MOST_NUMBERS, finite, record, records
from instar.probe.panel import Atlas, Matrix, Panel, Words


def test_json_is_strict_and_whole(panel):
    """What is read back by a reader that knows no NaN: view, data, checks, notes, arrays and every figure."""
    found = parse_json(records([panel, panel]), "the record")
    assert found["green"] is False
    one = found["panels"][0]
    assert (one["view"], one["title"]) == ("attention", {"en": "Attention", "zh": "注意力"})
    assert one["data"]["worst"] is None
    assert one["data"]["count"] == 3
    assert [(check["green"], check["gap"]) for check in one["checks"]] == [(True, 2e-7), (False, None)]
    assert [figure["kind"] for figure in one["figures"]] == [type(figure).__name__.lower() for figure in panel.figures]
    assert one["figures"][4]["series"]["kept"] == [3.0, 2.0, 1.0]
    assert json.loads(json.dumps(record(panel))) == one


def test_numbers_are_not_rounded(panel):
    """Every bit of an array of fp32 comes back; one that is not finite is null."""
    weights = panel.arrays["weights"] / np.float32(3)
    weights[0, 0] = np.nan
    told = record(Panel("v", Words("", ""), arrays={"w": weights}))["arrays"]["w"]
    assert told["shape"] == [6, 6]
    assert told["dtype"] == "float32"
    assert told["values"][0][0] is None
    assert np.array_equal(np.array(told["values"], dtype=np.float32), weights, equal_nan=True)


def test_too_many_numbers_say_where_they_are():
    """Of arrays, or of figures, above 300,000 in all: shape, type and the way to them; at the limit all of them."""
    name = Words("", "")
    many = np.zeros((1, MOST_NUMBERS), dtype=np.float32)
    whole = record(Panel("v", name, arrays={"a": many}, figures=[Matrix(name, many)]))
    assert len(whole["arrays"]["a"]["values"][0]) == len(whole["figures"][0]["values"][0]) == MOST_NUMBERS
    more = record(
        Panel("v", name, arrays={"a": many, "b": many[:, :1]}, figures=[Atlas(name, np.zeros((6, 1, 250, 201)))])
    )
    assert more["arrays"]["a"]["values"] is None
    assert more["arrays"]["b"] == {
        "shape": [1, 1],
        "dtype": "float32",
        "values": None,
        "why": more["arrays"]["b"]["why"],
    }
    assert "safetensors" in more["arrays"]["a"]["why"]
    assert more["figures"][0]["values"]["shape"] == [6, 1, 250, 201]


@pytest.mark.parametrize(
    ("value", "known"),
    [
        (float("inf"), None), (np.float32("nan"), None), (np.int64(3), 3), ((1, 2), [1, 2]), (b"\xe4", "e4"),
        ("\ud800", "\\ud800"), ({1: Words("a", "b")}, {"1": {"en": "a", "zh": "b"}}), (np.array([True]), [True]),
    ],
)  # fmt: skip
def test_what_json_knows(value, known):
    """Infinity, numbers of numpy, tuples, bytes, half a character, texts in two languages."""
    assert finite(value) == known
