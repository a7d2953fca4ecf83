"""The cache of keys and values: what is kept of each token in each layer, how many bytes that is, and what it saves."""

from __future__ import annotations

from typing import Any

from ...text.figures import size as bytes_for_the_eye
from ..checks import cached_limit
from ..held import Held, Paged, hold, page
from ..look import Look
from ..panel import Bars, Check, Lines, Matrix, Panel, Table, Words
from ..telling import limit_of
from .next import tokens_of

TITLE = Words("KV cache", "KV 缓存")


def kv(look: Look) -> Panel:
    """Raises InputError for an encoder, which keeps nothing."""
    trace, subject = look.trace, look.subject
    found = hold(trace)
    paged = page(subject, trace)
    config, limit = trace.model.config, limit_of(trace.model)
    shape = {
        "layers": config.layers, "kv_heads": config.kv_heads, "head_size": config.head_size,
        "tokens": len(subject.tokens), "source_tokens": len(subject.source), "bytes_per_number": found.size,
    }  # fmt: skip
    checks = [
        Check(
            "bytes", float(abs(found.nbytes - found.formula)), 0.0,
            Words("bytes of the tensors are 2·L·K·E·(T + S)·b", "张量字节数等于 2·L·K·E·(T + S)·b"),
        ),
        Check(
            "cached", found.gap, cached_limit(trace.hidden.dtype),
            Words("states with the cache are those without it", "有缓存与无缓存的状态相同"),
        ),
    ]  # fmt: skip
    if paged is not None:
        checks += [
            Check(
                "blocks", float(abs(paged.used - paged.meant)), 0.0,
                Words("the engine's blocks hold these tokens and no more", "引擎的缓存块恰好容纳这些词元"),
            ),
            Check(
                "engine", paged.gap, limit,
                Words("the engine's logits are those without a cache", "引擎的 logits 与无缓存时相同"),
            ),
        ]  # fmt: skip
    data = {
        "tokens": tokens_of(look), "shape": shape, "bytes": found.nbytes, "formula": found.formula,
        "block_bytes": None if paged is None else paged.used, "prefilled": found.prefilled,
        "seconds": {"prefill": found.prefill, "decode": found.seconds, "whole": found.whole},
    }  # fmt: skip
    arrays = {"key_norms": found.keys, "value_norms": found.values}
    if found.source_keys.shape[1]:
        arrays |= {"source_key_norms": found.source_keys, "source_value_norms": found.source_values}
    return Panel("kv", TITLE, data, arrays, _pictures(look, found, paged), checks, _notes(look, found))


def _pictures(look: Look, found: Held, paged: Paged | None) -> list[Any]:
    pieces, layers = look.subject.pieces, [str(n) for n in range(len(found.keys))]

    def grid(title: Words, values: Any, columns: list[str]) -> Matrix:
        return Matrix(title, values, layers, columns, "plain", Words("layer", "层"), Words("token", "词元"))

    figures: list[Any] = [
        grid(Words("Keys: how large, by layer and token", "键的范数(层 × 词元)"), found.keys, pieces),
        grid(Words("Values: how large, by layer and token", "值的范数(层 × 词元)"), found.values, pieces),
    ]
    if found.source_keys.shape[1]:
        source = [token.piece for token in look.subject.source]
        figures.append(grid(Words("Keys of the source", "源文本的键的范数"), found.source_keys, source))
    figures.append(_size(look, found, paged))
    figures += _times(found)
    return figures


def _size(look: Look, found: Held, paged: Paged | None) -> Table:
    """The product that the bytes are."""
    config = look.trace.model.config
    length, width = found.keys.shape[1], found.source_keys.shape[1]
    rows: list[list[Any]] = [
        ["2", Words("keys and values", "键和值"), 2],
        ["L", Words("layers", "层数"), config.layers],
        ["K", Words("key-value heads", "键值头数"), config.kv_heads],
        ["E", Words("head size", "头维度"), config.head_size],
        ["T", Words("tokens", "词元数"), length],
        *([["S", Words("source tokens", "源文本词元数"), width]] if width else []),
        ["b", Words("bytes a number", "每个数的字节"), found.size],
        ["=", f"2·L·K·E·{'(T + S)' if width else 'T'}·b", found.formula],
        [
            "≡",
            Words(f"the tensors: {bytes_for_the_eye(found.nbytes)}", f"张量:{bytes_for_the_eye(found.nbytes)}"),
            found.nbytes,
        ],
    ]
    if paged is not None:
        used = bytes_for_the_eye(paged.used)
        rows.append(["⌈T/16⌉", Words(f"the engine's blocks: {used}", f"引擎的缓存块:{used}"), paged.used])
    return Table(
        Words("What it takes", "占用"), [Words("symbol", "符号"), Words("what", "含义"), Words("number", "数值")], rows,
        Words("The engine keeps blocks of 16 tokens.", "引擎以每块 16 个词元存放。"),
    )  # fmt: skip


def _times(found: Held) -> list[Any]:
    """How long each token took, with the cache and without."""
    if not found.seconds:
        return []
    each = 1000 * found.prefill / found.prefilled
    step = 1000 * sum(found.seconds) / len(found.seconds)
    figures: list[Any] = [
        Bars(
            Words("Milliseconds a token", "每词元毫秒数"),
            [
                Words(f"prefill ×{found.prefilled}", f"预填充 ×{found.prefilled}"),
                Words(f"decode ×{len(found.seconds)}", f"解码 ×{len(found.seconds)}"),
            ],
            {"ms": [each, step]},
            Words("ms", "毫秒"),
        )
    ]  # fmt: skip
    lengths = [n for n, _ in found.whole if n > found.prefilled]
    if len(lengths) > 1:
        whole = dict(found.whole)
        figures.append(
            Lines(
                Words("The next token, with the cache and without", "有无缓存时生成下一个词元的时间"), lengths,
                {
                    Words("with the cache", "使用缓存"): [
                        1000 * found.seconds[n - found.prefilled - 1] for n in lengths
                    ],
                    Words("without", "不用缓存"): [1000 * whole[n] for n in lengths],
                },
                Words("tokens", "词元数"), Words("ms", "毫秒"),
            )
        )  # fmt: skip
    return figures


def _notes(look: Look, found: Held) -> list[Words]:
    notes = [
        Words(
            "Times are of this machine at this moment; the first pass may pay for warming up.",
            "时间只代表本机当前情况;首次计算可能包含预热。",
        )
    ]
    if look.trace.model.config.windows:
        notes.append(
            Words(
                "Some layers look back only through a window: the engine gives back the blocks behind it.",
                "部分层只看一个窗口:引擎会释放窗口之前的缓存块。",
            )
        )
    return notes
