"""The tree of a beam search: what went on, what was given up, what ended, and the answer that won."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ...config import InputError
from ...infer.request import Hypothesis
from ..beams import Node, Searched, search, searching, summed
from ..look import Look
from ..panel import About, Bars, Check, Lines, Panel, Strip, Table, Tree, Words
from ..subject import Subject
from ..telling import MOST_STEPS, begins, limit_of, room, tell
from .generation import FINISHES
from .next import tokens_of

TITLE = Words("Beam search", "束搜索")
DRAWN = 120  # nodes beside the answers' own paths
PATHS = 12  # answers whose paths are drawn, and that the chart of scores holds
WIDEST = 64  # beams that can be told apart
PRUNED, PRUNED_STEPS = 3, 6  # of those given up so many are drawn of a step, and of so many steps
TIE = 1e-6  # nats
TREES = Words("The nodes of two searches are of different answers.", "两次搜索的节点属于不同的回答。")
HALF = 1e-3  # limits above it are those of half precision


def beam(look: Look) -> Panel:
    """Raises InputError for a model that cannot continue a text, and for a search that is malformed, or too wide to be
    drawn."""
    subject = look.subject
    prompt, _ = begins(subject)
    options, notes = searching(look.ask.sampling)
    if options.beams > WIDEST:
        raise InputError(f"beams={options.beams}, and a tree is drawn of at most {WIDEST}; ask for fewer")
    left = min(MOST_STEPS, room(subject.model, prompt))
    if options.max_new_tokens > left:
        options = replace(options, max_new_tokens=left, min_new_tokens=min(left, options.min_new_tokens))
        notes.append(Words(f"The answer has room for {left} tokens.", f"回答最多 {left} 个词元。"))
    found = search(subject, options)
    data = {
        "tokens": tokens_of(look),
        "width": options.beams,
        "length_penalty": options.length_penalty,
        "nodes": [_node(subject, node) for node in found.nodes],
        "answers": [
            {
                "text": _text(subject, answer), "ids": answer.ids, "score": answer.score, "finish": answer.finish,
                "node": end,
            }
            for answer, end in zip(found.answers, found.ends)
        ],
    }  # fmt: skip
    arrays: dict[str, np.ndarray] = {
        "parents": np.array([node.parent for node in found.nodes], dtype=np.int64),
        "ids": np.array([node.id for node in found.nodes], dtype=np.int64),
        "logprobs": np.array([node.logprob for node in found.nodes], dtype=np.float32),
        "sums": np.array([node.total for node in found.nodes], dtype=np.float32),
        "scores": np.array([node.score for node in found.nodes], dtype=np.float32),
    }
    tree, dropped = _tree(subject, found)
    if dropped:
        notes.append(
            Words(
                f"The picture leaves out {dropped} of {len(found.nodes)} nodes; all are in the data.",
                f"图中省略了 {len(found.nodes)} 个节点中的 {dropped} 个;数据中是全部。",
            )
        )
    if len(found.ends) > PATHS:
        notes.append(
            Words(
                f"Of {len(found.ends)} answers the paths of the {PATHS} best are drawn.",
                f"共 {len(found.ends)} 个回答，只画出最好的 {PATHS} 个的路径。",
            )
        )
    about = {name: About(None, why=TREES) for name in arrays}
    return Panel("beam", TITLE, data, arrays, _pictures(subject, found, tree), _checks(subject, found), notes, about)


def _node(subject: Subject, node: Node) -> dict[str, Any]:
    return {
        "parent": node.parent, "id": node.id, "piece": subject.piece(node.id), "depth": node.depth,
        "logprob": node.logprob, "sum": node.total, "score": node.score, "state": node.state,
    }  # fmt: skip


def _text(subject: Subject, answer: Hypothesis) -> str:
    if subject.tokenizer is None:
        return " ".join(map(str, answer.ids))
    return subject.tokenizer.decode(answer.ids, continues=True)


def _checks(subject: Subject, found: Searched) -> list[Check]:
    """What the search says, against passes without a cache and against greedy decoding."""
    model, penalty = subject.model, found.options.length_penalty
    nodes = [found.nodes[end] for end in found.ends]
    sums = [summed(model, found, end) for end in found.ends]
    limit = limit_of(model)
    if limit > HALF:  # logits in half precision are rounded by their size
        limit *= max([1.0, *(scale for _, scale in sums)])
    off = max((abs(node.total - own) / node.depth for node, (own, _) in zip(nodes, sums)), default=float("nan"))
    scored = max(
        (abs(answer.score - node.total / node.depth**penalty) for answer, node in zip(found.answers, nodes)),
        default=float("nan"),
    )
    narrow = search(subject, replace(found.options, beams=1, early_stopping="full"))
    shortest, longest = found.options.min_new_tokens, found.options.max_new_tokens
    options = type(found.options)("greedy", min_new_tokens=shortest, max_new_tokens=longest)
    greedy = tell(subject, options, 0)
    alone = [(node.id, node.logprob) for node in _chain(narrow, narrow.ends[0])]
    taken = [(each.choice.id, each.choice.logprob) for each in greedy.passes]
    return [
        Check(
            "sums", off, limit,
            Words("sums are those of a pass without a cache (nat a token)", "累计值与无缓存计算一致(每词元 nat)"),
        ),
        Check(
            "scores", scored, 1e-5,
            Words("scores are Σ log p over length to the penalty", "得分等于 Σ log p 除以长度的惩罚次方"),
        ),
        Check("width_1", _apart(alone, taken), 0.0, Words("one beam is greedy decoding", "宽度为 1 时等于贪心解码")),
    ]  # fmt: skip


def _apart(one: list[tuple[int, float]], other: list[tuple[int, float]]) -> float:
    """How many tokens of two answers differ, up to where two tokens were equally likely: then either may be taken."""
    for place, ((a, p), (b, q)) in enumerate(zip(one, other)):
        if a != b:
            return 0.0 if abs(p - q) < TIE else float(max(len(one), len(other)) - place)
    return float(abs(len(one) - len(other)))


def _tree(subject: Subject, found: Searched) -> tuple[Tree, int]:
    """The paths of the best answers; beside them as many as there is room for of what else went on, and of those that
    were given up in the first steps the likeliest. Tokens between which nothing branches stand in one node. And how
    many tokens are left out."""
    paths: list[int] = []
    for end in found.ends[:PATHS]:
        while end >= 0:
            paths.append(end)
            end = found.nodes[end].parent
    beside = [number for number, node in enumerate(found.nodes) if node.state == "kept"]
    pruned: dict[int, int] = {}
    for number, node in enumerate(found.nodes):
        if node.state == "pruned" and node.depth <= PRUNED_STEPS:
            pruned[node.depth] = pruned.get(node.depth, 0) + 1
            beside += [number] * (pruned[node.depth] <= min(found.options.beams, PRUNED))
    chosen = sorted({*paths, *beside[:DRAWN]})
    children: dict[int, list[int]] = {}
    for number in chosen:  # a parent stands before its children, and is chosen where a child is kept
        children.setdefault(found.nodes[number].parent, []).append(number)
    nodes: list[tuple[int, str, float, str]] = []
    drawn = 0

    def grow(parent: int, number: int) -> None:
        nonlocal drawn
        run = [number]
        while len(children.get(run[-1], ())) == 1:
            run += children[run[-1]]
        drawn += len(run)
        node, place = found.nodes[run[-1]], len(nodes)
        nodes.append((parent, subject.spelt([found.nodes[each].id for each in run]), node.total, node.state))
        for child in children.get(run[-1], ()):
            grow(place, child)

    for first in children.get(-1, ()):
        grow(-1, first)
    return Tree(Words("The tree, with Σ log p", "搜索树(Σ log p)"), nodes), len(found.nodes) - drawn


def _pictures(subject: Subject, found: Searched, tree: Tree) -> list[Any]:
    answers, ends = found.answers, [found.nodes[end] for end in found.ends]
    rows = [
        [
            n + 1,
            _text(subject, answer),
            node.total,
            node.depth,
            answer.score,
            FINISHES.get(answer.finish, answer.finish),
        ]
        for n, (answer, node) in enumerate(zip(answers, ends))
    ]
    columns = [
        Words("rank", "名次"), Words("answer", "回答"), Words("Σ log p", "Σ log p"), Words("length", "长度"),
        Words("score", "得分"), Words("finish", "结束原因"),
    ]  # fmt: skip
    note = Words(
        f"score = Σ log p / length^{found.options.length_penalty:g}, the end token counted",
        f"得分 = Σ log p / 长度^{found.options.length_penalty:g},含结束符",
    )
    figures: list[Any] = [tree, Table(Words("The answers, best first", "回答(按得分)"), columns, rows, note)]
    if answers:
        best = found.path(found.ends[0])
        chain = _chain(found, found.ends[0])
        figures.append(
            Strip(
                Words("The best answer, shaded by p", "最佳回答(按概率着色)"), [subject.piece(id) for id in best],
                [float(np.exp(node.logprob)) for node in chain],
                notes=[f"log p = {node.logprob:.3f}   Σ = {node.total:.3f}" for node in chain],
            )
        )  # fmt: skip
        longest = max(node.depth for node in ends)
        series = {
            f"{n + 1}": [node.total for node in _chain(found, end)]
            + [float("nan")] * (longest - found.nodes[end].depth)
            for n, end in enumerate(found.ends[:6])
        }
        figures.append(
            Lines(
                Words("Σ log p along each answer", "各回答的累计 log p"), list(range(1, longest + 1)), series,
                Words("token", "词元"), Words("Σ log p", "Σ log p"),
            )
        )  # fmt: skip
        figures.append(
            Bars(
                Words("Score of each answer", "各回答的得分"), [f"{n + 1}" for n in range(len(answers[:PATHS]))],
                {Words("score", "得分"): [answer.score for answer in answers[:PATHS]]},
            )
        )  # fmt: skip
    return figures


def _chain(found: Searched, number: int) -> list[Node]:
    """The nodes from the beginning to this one."""
    chain = []
    while number >= 0:
        chain.append(found.nodes[number])
        number = found.nodes[number].parent
    return chain[::-1]
