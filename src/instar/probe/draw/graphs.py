"""Trees of a search, steps of a process, and tables, as SVG."""

from __future__ import annotations

from collections.abc import Sequence

from ...text.axes import short
from ..panel import Flow, Table, Tree, Words
from .canvas import NARROW, SIZE, Canvas, fit, wide
from .labels import number, plain, said, shown, worded, wrapped_to

ROW = 24.0
STATES = {
    "best": Words("best", "最优"), "done": Words("done", "完成"), "kept": Words("kept", "保留"),
    "pruned": Words("pruned", "剪去"),
}  # fmt: skip
ORDER = {"best": 0, "done": 1, "kept": 2, "pruned": 3}


def tree(figure: Tree, language: str) -> Canvas:
    """Each step of the search a column; the best way runs along the top, what was pruned is faint."""
    children: dict[int, list[int]] = {}
    for place, (parent, *_) in enumerate(figure.nodes):
        children.setdefault(parent, []).append(place)
    deep = depths(figure.nodes)
    best = _best(figure.nodes)
    columns = [0.0] * (max(deep, default=0) + 1)
    names = [fit(shown(label), 110) for _, label, *_ in figure.nodes]
    for place, depth in enumerate(deep):
        columns[depth] = max(columns[depth], wide(names[place]) + 44)
    starts = [sum(columns[:depth]) for depth in range(len(columns) + 1)]
    rows, used = {}, 0
    stack = _ordered(children.get(-1, []), figure.nodes, best)[::-1]
    while stack:  # a search may be deeper than Python's own stack
        place = stack.pop()
        below = _ordered(children.get(place, []), figure.nodes, best)
        rows[place] = used
        used += not below
        stack += below[::-1]
    canvas = Canvas(max(NARROW, starts[-1]))
    places = {place: (starts[deep[place]] + 4, 36 + ROW * row) for place, row in rows.items()}
    for place in sorted(places, key=lambda place: place in best):  # the best way lies on top
        parent, _, _, state = figure.nodes[place]
        if parent in places:
            (x, y), (a, b) = places[place], places[parent]
            start = a + wide(names[parent]) + 12
            middle = max(start + 4, x - 16)
            look = "branch way" if place in best else "branch lost" if state == "pruned" else "branch"
            canvas.path(f"M{short(start)} {short(b)}H{short(middle - 4)}Q{short(middle)} {short(b)} {short(middle)} "
                        f"{short(b + min(4, y - b))}V{short(y - min(4, y - b))}Q{short(middle)} {short(y)} "
                        f"{short(middle + 4)} {short(y)}H{short(x)}", look)  # fmt: skip
    for place, (x, y) in places.items():
        _, _, value, state = figure.nodes[place]
        title = (
            f"{names[place]}  {number(float(plain(value)))}  {STATES[state].of(language) if state in STATES else state}"
        )
        look = "best" if place in best else state
        canvas.rect(x, y - 9.5, wide(names[place]) + 10, 19, f"node {look}", title, round=4)
        canvas.text(x + 5, y + 4, names[place], f"label {look}", title=title)
    _states(canvas, language)
    canvas.height = 28 + ROW * max(1, used)
    return canvas


def depths(nodes: Sequence[tuple[int, str, float, str]]) -> list[int]:
    """How many steps each node is from its root."""
    found: list[int] = []
    for parent, *_ in nodes:
        found.append(found[parent] + 1 if parent >= 0 else 0)
    return found


def _best(nodes: Sequence[tuple[int, str, float, str]]) -> set[int]:
    """The nodes on the way to the best."""
    found: set[int] = set()
    for place, (*_, state) in enumerate(nodes):
        while state == "best" and place >= 0 and place not in found:
            found.add(place)
            place = nodes[place][0]
    return found


def _ordered(places: list[int], nodes: Sequence[tuple[int, str, float, str]], best: set[int]) -> list[int]:
    return sorted(places, key=lambda p: (p not in best, ORDER.get(nodes[p][3], 4), -float(nodes[p][2])))


def _states(canvas: Canvas, language: str) -> None:
    x = 0.0
    for state, words in STATES.items():
        canvas.rect(x + 0.5, 1, 12, 10, f"node {state}", round=3)
        canvas.text(x + 17, 10, words.of(language), "small")
        x += wide(words.of(language), 10.5) + 32
    canvas.width = max(canvas.width, x)


def wrapped(text: str, room: float) -> list[str]:
    """A text in lines of so many units."""
    return wrapped_to(text, max(1, int(room / (SIZE * 0.6))))


def flow(figure: Flow, language: str) -> Canvas:
    """Boxes below each other, in the order in which things happen."""
    canvas = Canvas()
    y = 2.0
    for place, (name, what) in enumerate(figure.steps):
        lines = [line for part in worded(what).split("\n") for line in wrapped(shown(part), canvas.width - 60)]
        high = 26 + 16 * len(lines)
        if place:
            canvas.path(f"M17 {short(y - 14)}v10m-3.5 -4l3.5 4l3.5 -4", "axis")
        canvas.rect(0.5, y, canvas.width - 1, high, "frame", round=6)
        canvas.circle(17, y + 16, 9, "bead")
        canvas.text(17, y + 20, str(place + 1), "small across strong bead")
        canvas.text(34, y + 20, fit(name.of(language), canvas.width - 40), "strong")
        for number_, line in enumerate(lines):
            canvas.text(34, y + 38 + 16 * number_, line, "label")
        y += high + 16
    canvas.height = max(8.0, y - 14)
    return canvas


def table(figure: Table, language: str) -> Canvas:
    """A table, as wide as it needs to be; numbers stand to the right."""
    heads = [column.of(language) for column in figure.columns]
    rows = [[said(value, language) for value in row] for row in figure.rows]
    numeric = [
        all(isinstance(plain(row[column]), int | float | None) for row in figure.rows) and bool(figure.rows)
        for column in range(len(heads))
    ]
    sizes = [
        min(280.0, max(wide(head, 11), *(wide(row[place]) for row in rows), 8.0)) + 16
        for place, head in enumerate(heads)
    ]
    starts = [sum(sizes[:place]) for place in range(len(sizes) + 1)]
    canvas = Canvas(max(NARROW, starts[-1]))
    for y, row, look in [(14.0, heads, "small"), *((36 + 21.0 * n, row, "label") for n, row in enumerate(rows))]:
        for place, text in enumerate(row):
            edge = starts[place + 1] - 12 if numeric[place] else starts[place]
            shown_ = fit(text, sizes[place] - 12)
            canvas.text(edge, y, shown_, look + (" up" if numeric[place] else ""), title="" if shown_ == text else text)
        canvas.path(f"M0 {short(y + 6.5)}H{short(canvas.width)}", "grid")
    y = 24 + 21.0 * len(rows)
    for line in wrapped(figure.note.of(language), canvas.width) if figure.note.of(language) else ():
        y += 16
        canvas.text(0, y, line, "small")
    canvas.height = y + 8
    return canvas
