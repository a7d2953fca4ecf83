"""Two models in one view: what stands side by side, and what is called a difference."""

import numpy as np
import pytest

from instar.probe.compare import compare
from instar.probe.panel import (
    About,
    Arcs,
    Atlas,
    Bars,
    Cells,
    Check,
    Flow,
    Lines,
    Matrix,
    Panel,
    Scatter,
    Strip,
    Table,
    Tree,
    Words,
)

T = Words("title", "题")
NAMES = ("sft", "dpo")
TOKENS = [{"id": 5, "piece": "a", "start": 0, "end": 1}, {"id": 7, "piece": "b", "start": 1, "end": 2}]


def panel(*figures, tokens=TOKENS, checks=(), notes=(), **arrays):
    return Panel("lens", T, {"tokens": tokens}, arrays, figures, checks, notes)


def compared(one, other):
    return compare(panel(one), panel(other), NAMES).figures


def test_differences_by_hand():
    """one - other, its largest and mean size, of ids the share that differs; a panel and itself differ by nothing."""
    one = panel(p=np.array([0.5, 0.25], np.float32), ids=np.array([[1, 2], [3, 4]]))
    other = panel(p=np.array([0.25, 0.375], np.float32), ids=np.array([[1, 2], [3, 9]]))
    found = compare(one, other, NAMES)
    assert found.data["differences"] == {"p": {"largest": 0.25, "mean": 0.1875}, "ids": {"differ": 0.25}}
    assert found.arrays["difference/p"].tolist() == [0.25, -0.125]
    assert found.arrays["one/p"].tolist() == [0.5, 0.25]
    assert found.arrays["other/p"].tolist() == [0.25, 0.375]
    assert found.data["names"] == ["sft", "dpo"]
    (told,) = [note for note in found.notes if "Largest" in note.en]
    assert told.en.endswith("of ids the share that differs: probabilities 0.25 (0.188); token ids 25.0%.")
    assert told.zh.endswith("：概率 0.25（0.188）；词元编号 25.0%。")
    alone = compare(one, one, NAMES).data["differences"]
    assert alone == {"p": {"largest": 0.0, "mean": 0.0}, "ids": {"differ": 0.0}}


def test_what_is_forbidden_on_both_sides_is_no_difference():
    """Minus infinity less itself is nothing; on one side alone it is told, and hides no other difference."""
    inf = -np.inf
    one, other = (panel(scores=np.array(values, np.float32)) for values in ([inf, 1.0, inf], [inf, 1.5, 0.0]))
    told = compare(one, other, NAMES).data["differences"]["scores"]
    assert told == {"largest": 0.5, "mean": 0.25, "not_finite": 1}


def test_other_tokens_are_said_and_never_subtracted():
    """Where the two read other tokens, as many or not, both stand side by side, and a note says why."""
    values = np.ones((2, 2), np.float32)
    others = [TOKENS[0], TOKENS[1] | {"id": 8, "piece": "c"}]
    found = compare(panel(Matrix(T, values), a=values), panel(Matrix(T, 2 * values), tokens=others, a=values), NAMES)
    assert [figure.title.en for figure in found.figures] == ["title · sft", "title · dpo"]
    assert found.data["differences"] == {}
    assert found.data["same_tokens"] is False
    assert "difference/a" not in found.arrays
    assert "other tokens" in found.notes[0].en


def test_other_shapes_are_said():
    """A model with more heads: no difference, and its array is named."""
    found = compare(panel(a=np.ones((2, 4))), panel(a=np.ones((3, 4))), NAMES)
    assert found.data["differences"] == {}
    assert "a" in found.notes[0].en
    assert {"one/a", "other/a"} == set(found.arrays)


@pytest.mark.parametrize("kind", [Matrix, Atlas])
def test_matrices(kind):
    """Both, and a signed difference."""
    shape = (2, 3) if kind is Matrix else (1, 2, 3, 3)
    first, second = np.full(shape, 0.25, np.float32), np.full(shape, 0.75, np.float32)
    one, other, gaps = compared(kind(T, first), kind(T, second))
    assert (one.title.en, other.title.en, gaps.title.zh) == ("title · sft", "title · dpo", "题 · sft − dpo")
    assert gaps.scale == "signed"
    assert (gaps.values == -0.5).all()


def test_strips_and_cells():
    """A strip of differences; of two grids of words those that differ."""
    *_, gaps = compared(Strip(T, ["a", "b"], [0.5, 0.5]), Strip(T, ["a", "b"], [0.25, 1.0]))
    assert (gaps.values, gaps.scale) == ([0.25, -0.5], "signed")
    grids = [
        Cells(T, [words], np.array([[p, 0.5]], np.float32)) for words, p in ((["x", "y"], 0.5), (["x", "z"], 0.25))
    ]
    *_, changed = compared(*grids)
    assert changed.texts == [["", "z → y"]]
    assert changed.values.tolist() == [[0.25, 0.0]]


def test_curves_stand_over_all_x_of_either():
    """Of models with other numbers of layers each curve ends where its model does."""
    (lines,) = compared(Lines(T, [0, 1], {"KL": [2.0, 0.0]}), Lines(T, [0, 1, 2], {"KL": [3.0, 1.0, 0.0]}))
    assert lines.x == [0, 1, 2]
    assert list(lines.series) == ["sft", "dpo"]
    assert lines.series["sft"][:2] == [2.0, 0.0]
    assert np.isnan(lines.series["sft"][2])
    (lines,) = compared(*(Lines(T, [0], {"KL": [x], "H": [2.0]}) for x in (1.0, 3.0)))
    assert list(lines.series) == ["KL · sft", "H · sft", "KL · dpo", "H · dpo"]


def test_bars_side_by_side():
    """One series for each model; with intervals, which belong to a bar, the bars in turn; other labels stay apart."""
    (bars,) = compared(Bars(T, ["a", "b"], {"": [1, 2]}), Bars(T, ["a", "b"], {"": [3, 4]}))
    assert bars.series == {"sft": [1, 2], "dpo": [3, 4]}
    (bars,) = compared(*(Bars(T, ["a"], {"gain": [x]}, low=[x - 1], high=[x + 1]) for x in (5, 7)))
    assert (bars.labels, bars.series["gain"], bars.low, bars.high) == (["a · sft", "a · dpo"], [5, 7], [4, 6], [6, 8])
    assert len(compared(Bars(T, ["a"], {"": [1]}), Bars(T, ["b"], {"": [1]}))) == 2


def test_tables_are_joined_by_their_first_column():
    """Rows that are the same stand once; others stand under each other, and none is lost."""
    columns = [Words("head", "头"), Words("score", "分")]
    one, other = (Table(T, columns, rows) for rows in ([["0.0", 1], ["0.1", 2]], [["0.0", 1], ["0.1", 3], ["0.2", 4]]))
    (table,) = compared(one, other)
    assert [column.en for column in table.columns] == ["head", "model", "score"]
    assert table.rows == [["0.0", "=", 1], ["0.1", "sft", 2], ["0.1", "dpo", 3], ["0.2", "dpo", 4]]
    twice = [Table(T, columns, [["a", 1], ["a", x]]) for x in (2, 3)]
    assert [figure.rows for figure in compared(*twice)] == [table.rows for table in twice]


def test_flows_and_what_cannot_be_joined():
    """A step says what goes on in both where that differs; trees, arcs and scatters stand side by side."""
    (flow,) = compared(*(Flow(T, [(T, "same"), (T, what)]) for what in ("3 tokens", "4 tokens")))
    assert [what for _, what in flow.steps] == [
        "same", ("sft: 3 tokens\ndpo: 4 tokens", "sft：3 tokens\ndpo：4 tokens"),
    ]  # fmt: skip
    pairs = [
        [Tree(T, [(-1, "a", x, "kept")]), Arcs(T, ["a"], [(0, 0, x)]), Scatter(T, [("a", 1, x)])] for x in (0.5, 0.25)
    ]
    for one, other in zip(*pairs):
        assert [found.title.en for found in compared(one, other)] == ["title · sft", "title · dpo"]


def test_what_is_the_same_to_the_bit_stands_once():
    """Of two equal figures one is drawn, and says so; a number that is none equals itself."""
    for make in (
        lambda x: Matrix(T, np.array([[x, np.nan]])), lambda x: Lines(T, [0], {"KL": [x]}),
        lambda x: Table(T, [T], [[x]]), lambda x: Tree(T, [(-1, "a", x, "kept")]), lambda x: Strip(T, ["a"], [x]),
    ):  # fmt: skip
        (figure,) = compared(make(0.5), make(0.5))
        assert figure.title == ("title · the same in both", "题 · 两者相同")
        assert "the same" not in compared(make(0.5), make(0.25))[0].title.en


def test_a_figure_that_one_lacks_is_kept():
    """Figures find each other by kind and title, not by place; what has no other stands alone."""
    named = [Matrix(Words(name, name), np.full((1, 1), value, np.float32)) for name, value in (("a", 1), ("b", 2))]
    found = compare(panel(*named), panel(named[1], Strip(T, ["a"], [1.0])), NAMES).figures
    assert [figure.title.en for figure in found] == [
        "a · sft", "b · the same in both", "title · dpo",
    ]  # fmt: skip


def test_titles_are_joined_by_what_they_name():
    """Numbers that were measured may differ, and both are told; another token or layer is another thing."""
    bars = [Bars(Words(f"logit {x} of A", "t"), ["a"], {"": [1, x]}) for x in ("19.70", "3.1")]
    (joined,) = compared(*bars)
    assert joined.title == ("logit 19.70 / 3.1 of A", "t")
    for other in ("logit 19.70 of B", "logit 19.70 of A 1.0"):
        found = compared(bars[0], Bars(Words(other, "t"), ["a"], {"": [2, 2]}))
        assert [figure.title.en for figure in found] == ["logit 19.70 of A · sft", f"{other} · dpo"]
    values = np.ones(2, np.float32)
    one, other = (Panel("lens", Words(f"layer {n}", "层"), {"tokens": TOKENS}, {"a": values}) for n in (1, 3))
    found = compare(one, other, NAMES)
    assert found.data["differences"] == {}
    assert "sft: layer 1; dpo: layer 3" in found.notes[0].en


def test_checks_of_both():
    """What is green in both is told once, with the wider gap; a red one stays red, under its model's name."""

    def checked(gap, limit=1e-5, name="rows"):
        return panel(checks=[Check(name, gap, limit, Words("rows add up", "行和为一"))])

    (check,) = compare(checked(1e-7), checked(3e-7), NAMES).checks
    assert (check.name, check.gap, check.green) == ("rows", 3e-7, True)
    for red in (1.0, float("nan")):
        found = compare(checked(0.0), checked(red), NAMES)
        assert [(check.name, check.green) for check in found.checks] == [("sft: rows", True), ("dpo: rows", False)]
        assert not found.green
        assert found.checks[1].about == ("dpo: rows add up", "dpo：行和为一")
        assert not compare(checked(red), checked(0.0), NAMES).green
    assert len(compare(checked(0.0), checked(0.0, limit=1.0), NAMES).checks) == 2
    assert len(compare(checked(0.0), checked(0.0, name="other"), NAMES).checks) == 2


def test_two_views_are_no_comparison():
    """Only the same view twice."""
    with pytest.raises(ValueError, match="views lens and kv"):
        compare(panel(), Panel("kv", T), NAMES)


def test_other_things_are_not_subtracted():
    """Logits of other tokens, and what has axes of its own, stand without a difference and with the reason; steps of an
    answer are subtracted up to the first token that differs. By hand."""
    why = Words("of other tokens", "属于不同词元")

    def said(target, ids, **arrays):
        about = {"heads": About(target, why=why), "plane": About(None, why=why), "steps": About((), [None, *ids], why)}
        return Panel("lens", T, {"tokens": TOKENS}, arrays, about=about)

    numbers = {name: np.arange(3, dtype=np.float32) for name in ("heads", "plane", "steps")}
    same = compare(said(4, [8, 9], **numbers), said(4, [8, 9], **numbers), NAMES)
    assert set(same.data["differences"]) == {"heads", "steps"}
    assert same.data["apart"] == ["plane"]
    found = compare(said(4, [8, 9], **numbers), said(5, [7, 9], **{k: v + 2 for k, v in numbers.items()}), NAMES)
    assert found.data["apart"] == ["heads", "plane", "steps"]
    assert found.arrays["difference/steps"].tolist() == [-2]
    assert "difference/heads" not in found.arrays
    (kept,) = [note for note in found.notes if "Not subtracted" in note.en]
    assert kept.en == "Not subtracted: heads, plane of the embeddings, steps. of other tokens"
    assert kept.zh == "未求差：各头、嵌入的平面投影、steps。属于不同词元"
    assert compare(said(4, [], **numbers), said(4, [], **numbers), NAMES, same_source=False).data["differences"] == {}


def test_other_columns_are_not_subtracted():
    """A grid whose columns are other tokens stands beside the other."""
    grids = [Matrix(T, np.full((1, 2), x, np.float32), ["r"], ["a", c]) for x, c in ((1, "b"), (2, "c"))]
    assert [figure.title.en for figure in compared(*grids)] == ["title · sft", "title · dpo"]


def test_labels_in_both_languages_bear_the_names():
    """A word of ours keeps its two languages beside the name of the model."""
    word = Words("biases", "偏置")
    (bars,) = compared(*(Bars(T, [word], {word: [x], "y": [x]}) for x in (1.0, 2.0)))
    assert next(iter(bars.series)) == ("biases · sft", "偏置 · sft")
