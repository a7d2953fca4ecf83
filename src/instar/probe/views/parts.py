"""What the parts of a model are called on drawings."""

from __future__ import annotations

from collections.abc import Sequence

from ..panel import Label, Words

PARTS = {
    "attention": Words("attention", "注意力"),
    "cross": Words("cross-attention", "交叉注意力"),
    "feed_forward": Words("feed-forward", "前馈层"),
    "embedding": Words("embedding", "嵌入"),
    "tokens": Words("token embedding", "词元嵌入"),
    "positions": Words("position embedding", "位置嵌入"),
    "types": Words("type embedding", "类型嵌入"),
    "biases": Words("biases", "偏置"),
    "norms": Words("norms", "归一化"),
    "head": Words("head", "输出头"),
}


def part(name: str, layer: int | None = None) -> Label:
    """Example: part("feed_forward", 2) -> "2 feed-forward" in English"""
    words = PARTS.get(name, Words(name, name))
    return words if layer is None else Words(f"{layer} {words.en}", f"{layer} {words.zh}")


def bias_of(name: str) -> Label:
    words = PARTS.get(name, Words(name, name))
    return Words(f"bias of {words.en}", f"{words.zh}的偏置")


def named_rows(rows: Sequence[str]) -> list[Label]:
    """Rows of the stream as they are drawn: what goes into the first block, then what comes out of each."""
    return [Words("in", "输入") if row == "in" else row for row in rows]
