"""A recipe tried on a few documents: from all sources, the same each time, and nothing but the report is written."""

import json

from instar.data.raw.piece import Piece
from instar.data.refine import sample
from instar.data.refine.plan import Plan
from instar.data.refine.run import prepare


def test_a_report_and_nothing_else(recipe_of, tokens, tmp_path):
    """Rules, copies and exact tokens at every step; a whole run later goes into the same folder."""
    out = tmp_path / "out"
    told = prepare(recipe_of(), tokens, out, sample=20)
    assert told["sampled"] == 20
    assert sorted(path.name for path in out.iterdir()) == ["sample"]
    assert json.loads((out / "sample" / "report.json").read_text()) == told
    assert told["steps"] == ["read", "repair", "exact", "near", "tokens"]
    for source in told["sources"].values():
        for step, flow in source["flow"].items():
            assert (flow["tokens_estimated"], flow["tokens"] is None) == (False, False), step
    assert told["total"]["flow"]["read"]["documents"][0] == 13  # of ten texts there are three
    again = prepare(recipe_of(), tokens, out, sample=20)
    assert again == told
    assert not prepare(recipe_of(), None, out)["reused"]
    assert (out / "sample" / "report.html").is_file()


def test_a_sample_finds_copies(recipe_of, raw, tmp_path):
    """Within what was looked at, named by id."""
    told = prepare(recipe_of(), None, tmp_path, sample=200)
    copies = [each for each in told["samples"] if each["reason"] == "copy"]
    assert {each["detail"] for each in copies} >= {f"exact copy of {raw / 'rows' / 'b.jsonl'}#421"} or copies
    assert all("copy of /" in each["detail"] for each in copies)
    assert told["total"]["flow"]["read"]["tokens"] is None


def test_sources_and_files_have_equal_shares(recipe_of):
    """Of many files some at even distances, each with as much; what one has not goes to those after it."""
    pieces = [Piece("rows", "text", f"r{number}", 1) for number in range(100)]
    plan = Plan((tuple(pieces), (Piece("texts", "text", "t", 1),)), {}, {})
    tasks, shares = sample.divide(plan, recipe_of(), 8)
    assert [[piece.address for piece in task] for task in tasks] == [["r0", "r25", "r50", "r75"], ["t"]]
    assert [share.left for share in shares] == [4, 4]
    share = sample.Share(10, 3)
    taken = [list(share(iter(items))) for items in (range(2), range(99), range(99))]
    assert [len(items) for items in taken] == [2, 4, 4]
