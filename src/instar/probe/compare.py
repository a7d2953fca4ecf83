"""Two models, or two stages of a life, in one view: both, side by side, and their difference.

A difference is taken only where both saw the same tokens and computed arrays of the same shape and of the same thing
(`About`); where they did not, that is said, and both stand side by side without one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np

from .arrays import called
from .panel import (
    About,
    Array,
    Atlas,
    Bars,
    Cells,
    Check,
    Figure,
    Flow,
    Label,
    Lines,
    Matrix,
    Panel,
    Strip,
    Table,
    Words,
)

Names = tuple[str, str]
TOLD = 6  # arrays whose differences are told in words; data has all
MEASURED = re.compile(r"[-−]?\d[\d,]*\.\d+(?:e[-+]?\d+)?")
SAME = Words("the same in both", "两者相同")
MODEL = Words("model", "模型")
BOTH = "="  # a row that both have


def compare(one: Panel, other: Panel, names: Names, *, same_source: bool = True) -> Panel:
    """The same view of two models as one panel, the first called names[0].

    same_source: what both read beside the panel's own tokens, as the source of an encoder-decoder, is the same. data:
    of both, and `differences`: the largest and the mean size of each array's difference, of ids the share that differs;
    `apart`: arrays of something else in the two. arrays: one/NAME, other/NAME and difference/NAME, which is one - other
    in the rows that are of the same: what the first has that the other, it is held against, has not.
    """
    if one.view != other.view:
        raise ValueError(f"found the views {one.view} and {other.view}, wanted the same twice")
    title = joined_title(one.title, other.title)
    same = title is not None and same_source and pieces(one) == pieces(other)
    arrays: dict[str, Array] = {f"one/{name}": array for name, array in one.arrays.items()}
    arrays |= {f"other/{name}": array for name, array in other.arrays.items()}
    differences: dict[str, dict[str, float]] = {}
    apart: dict[str, Words] = {}  # of other things in the two, and why
    for name, array in one.arrays.items():
        second = other.arrays.get(name)
        if not same or second is None:
            continue
        count, why = _common(one.about.get(name, About()), other.about.get(name, About()))
        if why is not None:
            apart[name] = why
        if count is not None:
            array, second = array[:count], second[:count]
        if second.shape == array.shape and array.size:
            gaps, told = _gaps(array, second)
            arrays[f"difference/{name}"] = gaps
            differences[name] = told
    figures = [figure for pair in _pairs(one.figures, other.figures) for figure in together(*pair, names, same)]
    data = {
        "tokens": one.data.get("tokens", []), "names": list(names), "same_tokens": same, "differences": differences,
        "apart": sorted(apart), "one": dict(one.data), "other": dict(other.data),
    }  # fmt: skip
    notes = [*_notes(one, other, names, differences, apart, same_source), *dict.fromkeys([*one.notes, *other.notes])]
    whole = _title(
        one.title if title is None else title, Words(f"{names[0]} vs {names[1]}", f"{names[0]} 对比 {names[1]}")
    )
    return Panel(one.view, whole, data, arrays, figures, _checks(one, other, names), notes)


def pieces(panel: Panel) -> list[Any]:
    """What a panel is about: the ids and texts of its tokens."""
    return [(token.get("id"), token.get("piece")) for token in panel.data.get("tokens", [])]


def _common(one: About, other: About) -> tuple[int | None, Words | None]:
    """How many rows of two arrays are of the same, None for all, and why not all are."""
    why = one.why or other.why
    if one.what is None or one.what != other.what:
        return 0, why
    if one.rows is None or other.rows is None:
        return None, None
    count = 0
    while count < min(len(one.rows), len(other.rows)) and one.rows[count] == other.rows[count]:
        count += 1
    whole = count == len(one.rows) == len(other.rows)
    return count, None if whole else why


def _gaps(one: Array, other: Array) -> tuple[Array, dict[str, float]]:
    """one - other, and what is told of it. Of whole numbers, which are ids, only whether they differ."""
    if not np.issubdtype(one.dtype, np.floating) or not np.issubdtype(other.dtype, np.floating):
        differ = (one != other).astype(np.float32)
        return differ, {"differ": float(differ.mean())}
    with np.errstate(invalid="ignore"):  # infinity less infinity: NaN, which is told apart below
        gaps = (one.astype(np.float64) - other.astype(np.float64)).astype(np.float32)
    both = (one == other) | (np.isnan(one) & np.isnan(other))  # forbidden on both sides, and so no difference
    gaps = np.where(both, np.float32(0), gaps)
    sizes = np.abs(gaps[np.isfinite(gaps)])
    told = {"largest": float(sizes.max(initial=0)), "mean": float(sizes.mean()) if sizes.size else 0.0}
    if left := int((~np.isfinite(gaps)).sum()):
        told["not_finite"] = left
    return gaps, told


def _pairs(one: Sequence[Figure], other: Sequence[Figure]) -> list[tuple[Figure | None, Figure | None]]:
    """Figures that show the same: of one kind and title, then of what is left those of one kind in their order."""
    waiting = list(range(len(other)))
    found: dict[int, int] = {}
    for by_title in (True, False):
        for number, figure in enumerate(one):
            fitting = [n for n in waiting if type(other[n]) is type(figure)
                       and (not by_title or other[n].title == figure.title)]  # fmt: skip
            if number not in found and fitting:
                found[number] = fitting[0]
                waiting.remove(fitting[0])
    pairs = [(figure, other[found[number]] if number in found else None) for number, figure in enumerate(one)]
    return [*pairs, *((None, other[n]) for n in waiting)]


def together(one: Figure | None, other: Figure | None, names: Names, same: bool) -> list[Figure]:
    """Two figures of one kind, and where they can be compared, how they differ."""
    if one is None or other is None:
        return [titled(figure, name) for figure, name in zip((one, other), names) if figure is not None]
    if alike(one, other):
        return [titled(one, SAME)]
    join, title = JOINED.get(type(one)), joined_title(one.title, other.title)
    if join is not None and title is not None and (same or type(one) in FREE):
        joined = join(replace(one, title=title), replace(other, title=title), names)
        if joined is not None:
            return joined
    return [titled(one, names[0]), titled(other, names[1])]


def joined_title(one: Words, other: Words) -> Words | None:
    """One title for two that differ in nothing but measured numbers, which have a decimal point; else None: two that
    name another token or layer say something of another quantity.

    Example: ("logit 19.70 of A", "logit 3.1 of A") -> "logit 19.70 / 3.1 of A"
    """
    if [MEASURED.split(text) for text in one] != [MEASURED.split(text) for text in other]:
        return None
    return Words(*(_arrows(text, second) for text, second in zip(one, other)))


def _arrows(one: str, other: str) -> str:
    """A text with its measured numbers, and with those of the other where they differ."""
    numbers = [a if a == b else f"{a} / {b}" for a, b in zip(MEASURED.findall(one), MEASURED.findall(other))]
    return "".join(part + number for part, number in zip(MEASURED.split(one), [*numbers, ""]))


def alike(one: Any, other: Any) -> bool:
    """Whether two figures, or parts of them, are the same to the bit."""
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return np.array_equal(one, other, equal_nan=np.issubdtype(one.dtype, np.floating))
    if is_dataclass(one) and type(one) is type(other):
        return all(alike(getattr(one, each.name), getattr(other, each.name)) for each in fields(one))
    return bool(one == other)


def less(names: Names) -> str:
    """What a difference is called."""
    return f"{names[0]} − {names[1]}"


def titled(figure: Any, name: str | Words) -> Any:
    """The figure of one of the two."""
    return replace(figure, title=_title(figure.title, name))


def _title(title: Words, name: str | Words) -> Words:
    en, zh = (name.en, name.zh) if isinstance(name, Words) else (name, name)
    return Words(f"{title.en} · {en}", f"{title.zh} · {zh}")


# --- kinds: each gives what both are together, or None where they cannot be ------------------------------------------


def _matrices(one: Any, other: Any, names: Names) -> list[Figure] | None:
    """Both, and a signed difference."""
    if one.values.shape != other.values.shape or not _same_labels(one, other):
        return None
    gaps = replace(one, values=_gaps(one.values, other.values)[0], scale="signed")
    return [titled(one, names[0]), titled(other, names[1]), titled(gaps, less(names))]


def _same_labels(one: Any, other: Any) -> bool:
    """Whether rows and columns are of the same."""
    return all(list(getattr(one, side, ())) == list(getattr(other, side, ())) for side in ("rows", "columns"))


def _strips(one: Strip, other: Strip, names: Names) -> list[Figure] | None:
    if list(one.tokens) != list(other.tokens):
        return None
    gaps = [a - b for a, b in zip(one.values, other.values)]
    notes = [f"{gap:+.4g}" for gap in gaps]
    third = replace(one, values=gaps, scale="signed", notes=notes)
    return [titled(one, names[0]), titled(other, names[1]), titled(third, less(names))]


def _cells(one: Cells, other: Cells, names: Names) -> list[Figure] | None:
    """Both, and where their words differ: what the other says → what the first says."""
    if one.values.shape != other.values.shape or not _same_labels(one, other):
        return None
    texts = [["" if a == b else f"{b} → {a}" for a, b in zip(*rows)] for rows in zip(one.texts, other.texts)]
    third = replace(one, texts=texts, values=_gaps(one.values, other.values)[0], scale="signed")
    return [titled(one, names[0]), titled(other, names[1]), titled(third, less(names))]


def _bars(one: Bars, other: Bars, names: Names) -> list[Figure] | None:
    """The series of both in one; with intervals, which belong to one series, the bars of both in turn."""
    if list(one.labels) != list(other.labels) or list(one.series) != list(other.series):
        return None
    if not (one.low or other.low):
        return [replace(one, series=_series(one, other, names))]
    if len(one.series) != 1 or not (one.low and other.low):
        return None
    ((series, first),), second = one.series.items(), next(iter(other.series.values()))
    labels = [_beside(label, name) for label in one.labels for name in names]
    low, high, values = (
        [value for both in zip(a, b) for value in both]
        for a, b in ((one.low, other.low), (one.high, other.high), (first, second))
    )
    return [replace(one, labels=labels, series={series: values}, low=low, high=high)]


def _lines(one: Lines, other: Lines, names: Names) -> list[Figure] | None:
    """The curves of both over all x of either; where one has no point, it has a gap."""
    x = sorted({*one.x, *other.x})
    wide = [
        replace(lines, x=x, series={
            name: [dict(zip(lines.x, values)).get(place, float("nan")) for place in x]
            for name, values in lines.series.items()
        })
        for lines in (one, other)
    ]  # fmt: skip
    return [replace(one, x=x, series=_series(wide[0], wide[1], names))]


def _beside(label: Label, name: str) -> Label:
    """A label with the name of a model behind it."""
    return _title(label, name) if isinstance(label, Words) else f"{label} · {name}"


def _series(one: Any, other: Any, names: Names) -> dict[Label, Sequence[float]]:
    """Series of both under the names of the models; where there is one of each, under these alone."""
    alone = len(one.series) == len(other.series) == 1
    found = [(name, label, values) for figure, name in zip((one, other), names) for label, values in
             figure.series.items()]  # fmt: skip
    return {name if alone else _beside(label, name): values for name, label, values in found}


def _tables(one: Table, other: Table, names: Names) -> list[Figure] | None:
    """The rows of both under each other, joined by their first column; rows that are the same stand once."""
    if list(one.columns) != list(other.columns):
        return None
    tables: list[dict[Any, list[Any]]] = [{row[0]: list(row) for row in table.rows} for table in (one, other)]
    if len(tables[0]) < len(one.rows) or len(tables[1]) < len(other.rows):
        return None  # no row is known by its first column
    rows: list[list[Any]] = []
    for key in dict.fromkeys([*tables[0], *tables[1]]):
        found = [(name, table[key]) for name, table in zip(names, tables) if key in table]
        if len(found) == 2 and found[0][1] == found[1][1]:
            found = [(BOTH, found[0][1])]
        rows += [[row[0], name, *row[1:]] for name, row in found]
    return [replace(one, columns=[one.columns[0], MODEL, *one.columns[1:]], rows=rows)]


def _flows(one: Flow, other: Flow, names: Names) -> list[Figure] | None:
    """Each step once, with what goes on in both where that differs."""
    if [name for name, _ in one.steps] != [name for name, _ in other.steps]:
        return None
    steps = [(name, a if a == b else _both(a, b, names)) for (name, a), (_, b) in zip(one.steps, other.steps)]
    return [replace(one, steps=steps)]


def _both(one: Label, other: Label, names: Names) -> Words:
    a, b = (what if isinstance(what, Words) else Words(what, what) for what in (one, other))
    return Words(f"{names[0]}: {a.en}\n{names[1]}: {b.en}", f"{names[0]}：{a.zh}\n{names[1]}：{b.zh}")


JOINED: dict[type, Callable[[Any, Any, Names], list[Figure] | None]] = {
    Matrix: _matrices, Atlas: _matrices, Strip: _strips, Cells: _cells, Bars: _bars, Lines: _lines, Table: _tables,
    Flow: _flows,
}  # fmt: skip
# what does not hang on the tokens of the text, as curves over layers
FREE = (Bars, Lines, Table, Flow)


def _checks(one: Panel, other: Panel, names: Names) -> list[Check]:
    """A proof of both is told once, with the wider gap, while both are green; else each under the model's name."""
    others = {check.name: check for check in other.checks}
    checks: list[Check] = []
    told: set[str] = set()
    for check in one.checks:
        second = others.get(check.name)
        if second is not None and check.green and second.green and check.limit == second.limit:
            checks.append(replace(check, gap=max(check.gap, second.gap)))
            told.add(check.name)
        else:
            checks.append(_named(check, names[0]))
    return [*checks, *(_named(check, names[1]) for check in other.checks if check.name not in told)]


def _named(check: Check, name: str) -> Check:
    about = Words(f"{name}: {check.about.en}", f"{name}：{check.about.zh}")
    return replace(check, name=f"{name}: {check.name}", about=about)


def _notes(
    one: Panel,
    other: Panel,
    names: Names,
    differences: dict[str, dict[str, float]],
    apart: dict[str, Words],
    same_source: bool,
) -> list[Words]:
    """What is to be known of the comparison."""
    notes: list[Words] = []
    if joined_title(one.title, other.title) is None:
        notes.append(Words(
            f"The two show something else ({names[0]}: {one.title.en}; {names[1]}: {other.title.en}), so that they "
            "stand side by side without a difference.",
            f"两者所示并非同一事物（{names[0]}：{one.title.zh}；{names[1]}：{other.title.zh}），因此只并列，不求差。",
        ))  # fmt: skip
    if pieces(one) != pieces(other):
        counts = [len(pieces(panel)) for panel in (one, other)]
        notes.append(Words(
            f"The two read other tokens ({names[0]}: {counts[0]}, {names[1]}: {counts[1]}), so that they stand side by "
            "side without a difference.",
            f"两者读到的词元不同（{names[0]}：{counts[0]} 个，{names[1]}：{counts[1]} 个），因此只并列，不求差。",
        ))  # fmt: skip
    elif not same_source:
        notes.append(Words(
            "The two read other tokens of the source, so that they stand side by side without a difference.",
            "两者读到的源文本词元不同，因此只并列，不求差。",
        ))  # fmt: skip
    for why in dict.fromkeys(apart.values()):
        en, zh = _listed([name for name, said in apart.items() if said == why])
        notes.append(Words(f"Not subtracted: {en}. {why.en}", f"未求差：{zh}。{why.zh}"))
    shapes = [
        name for name in one.arrays if name in other.arrays and one.arrays[name].shape != other.arrays[name].shape
        and name not in apart
    ]  # fmt: skip
    if shapes and not notes:
        en, zh = _listed(shapes)
        notes.append(Words(
            f"Of other shapes in the two, and therefore without a difference: {en}.",
            f"两者形状不同、因此不求差的有：{zh}。",
        ))  # fmt: skip
    if differences:
        told = [_differing(name, one) for name, one in differences.items()]
        more = "; …" if len(told) > TOLD else ""
        en, zh = ("; ".join(one.en for one in told[:TOLD]), "；".join(one.zh for one in told[:TOLD]))
        notes.append(Words(
            f"Largest (and mean) |difference|, of ids the share that differs: {en}{more}.",
            f"差的绝对值：最大值（均值）；若是词元编号，则为不同者所占的比例：{zh}{more.replace('; ', '；')}。",
        ))  # fmt: skip
    return notes


def _listed(names: Sequence[str]) -> Words:
    """Arrays, as a sentence calls them."""
    words = [called(name) for name in names]
    return Words(", ".join(one.en for one in words), "、".join(one.zh for one in words))


def _differing(name: str, one: dict[str, float]) -> Words:
    """Example: attention weights 0.882 (0.0582)"""
    words = called(name)
    zh = words.zh if words.zh.endswith("）") else f"{words.zh} "
    if "differ" in one:
        return Words(f"{words.en} {one['differ']:.1%}", f"{zh}{one['differ']:.1%}")
    largest, mean = f"{one['largest']:.3g}", f"{one['mean']:.3g}"
    return Words(f"{words.en} {largest} ({mean})", f"{zh}{largest}（{mean}）")
