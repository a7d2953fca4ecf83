"""A vocabulary trades its size against the length of texts."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from ...config import InputError, ModelConfig
from ...probe.panel import Lines, Table, Words
from ...text.compare import is_held_out, train_all
from .verdict import Case, Claim, Finding, against, interval, mean, span, together

SIZES = (320, 448, 640, 896, 1280, 1792, 2560)  # each 1.4 times the one before
HELD_OUT = 0.2
FILLED = 0.9  # of its entries a vocabulary has to have learnt to be of its size


def share(config: ModelConfig, rows: int) -> float:
    """Weights of embeddings and head, of a vocabulary of so many rows, among all weights of a model of this shape that
    look at words: what the blocks have is counted as if they were dense."""
    width, queries, keys = config.d_model, config.heads * config.head_size, config.kv_heads * config.head_size
    matrices = 3 if config.mlp == "gated" else 2
    block = 2 * width * (queries + keys) + matrices * width * config.d_ff
    blocks = block * config.layers + (block + 2 * width * (queries + keys)) * config.encoder_layers
    tables = rows * width * (1 if config.tied else 2)
    return tables / (tables + blocks)


def measure(case: Case) -> Finding:
    """Tokenizers of several sizes are trained on stories of the world and read others; this model's own beside them."""
    texts = case.stories(case.scaled(1500, 60))
    taught = [text for text in texts if not is_held_out(text, HELD_OUT)]
    kept = [text for text in texts if is_held_out(text, HELD_OUT)] or taught[:1]
    with case.watch.counting("tokenizers trained", len(SIZES)) as each:
        trained = train_all(taught, SIZES)
        each(len(SIZES))
    # where texts are few, nothing is left to merge long before the last size
    trained = {name: one for name, one in trained.items() if one.vocabulary.size >= FILLED * int(name)}
    if len(trained) < 2:
        raise InputError(f"{len(taught)} texts fill fewer than two sizes of vocabulary; raise --limit")
    bytes_of = np.array([len(text.encode()) for text in kept], np.float64)
    lengths = {int(name): _lengths(tokenizer, kept) for name, tokenizer in trained.items()}
    own = bytes_of / _lengths(case.tokenizer, kept)
    ratios = {size: bytes_of / found for size, found in lengths.items()}
    sizes = sorted(ratios)
    gains = [interval(ratios[large] / ratios[small], case.seed) for small, large in pairwise(sizes)]
    shares = [share(case.model.config, size) for size in sizes]
    least = min(range(len(gains)), key=lambda n: mean(ratios[sizes[n + 1]] / ratios[sizes[n]]))
    figure = mean(ratios[sizes[least + 1]] / ratios[sizes[least]])
    steps = [against(gain, 1.0) for gain in gains] + ["holds" if a < b else "fails" for a, b in pairwise(shares)]
    rows = [[size, mean(ratios[size]), found] for size, found in zip(sizes, shares)]
    rows.append([case.model.config.vocab_size, mean(own), share(case.model.config, case.model.config.vocab_size)])
    first, last = rows[0], rows[len(sizes) - 1]
    return Finding(
        together(steps), figure, interval=gains[least], chance=1.0, count=len(kept),
        found=Words(
            f"From {first[0]:,} to {last[0]:,} entries a token grows from {first[1]:.2f} to {last[1]:.2f} bytes, and "
            "the "
            f"embeddings from {first[2]:.0%} to {last[2]:.0%} of a model of this shape. The least gain of a step "
            "is "
            f"{figure:.3f} times as many bytes a token {span(gains[least], '.3f')}. This model's own vocabulary of "
            f"{rows[-1][0]:,} has {rows[-1][1]:.2f} bytes a token and {rows[-1][2]:.0%} of the weights.",
            f"词表从 {first[0]:,} 增至 {last[0]:,} 时，每个词元从 {first[1]:.2f} 字节增至 {last[1]:.2f} 字节，"
            f"而嵌入在这种形状的模型中的参数占比从 {first[2]:.0%} 升至 {last[2]:.0%}。词表每级增大的最小收益是每词元字"
            "节数"
            "变为 "
            f"{figure:.3f} 倍 {span(gains[least], '.3f')}。本模型自己的词表有 {rows[-1][0]:,} 项，每词元 "
            f"{rows[-1][1]:.2f} 字节，占参数的 {rows[-1][2]:.0%}。",
        ),
        how=Words(
            "Byte-level BPE of each size is trained on four fifths of the texts and reads the others. The share is "
            "that "
            "of the embeddings and the head in a model of this shape.",
            "在五分之四的文本上训练各种大小的字节级 BPE 词表，用其余文本测量。占比指嵌入与输出头在同形状模型中的参数占"
            "比。",
        ),
        figures=[
            Lines(
                Words("Bytes a token", "每词元字节数"), sizes, {BYTES: [row[1] for row in rows[: len(sizes)]]},
                Words("entries of the vocabulary", "词表大小"), BYTES,
            ),
            Lines(
                Words("Share of the weights in embeddings", "嵌入的参数占比"), sizes, {SHARE: shares},
                Words("entries of the vocabulary", "词表大小"), SHARE,
            ),
            Table(
                Words("Each size, and this model's own last", "各种大小，最后一行为本模型"),
                [Words("entries", "词表大小"), Words("bytes a token", "每词元字节数"), SHARE], rows,
            ),
        ],
        data={"sizes": sizes, "rows": rows, "gains": gains},
    )  # fmt: skip


def _lengths(tokenizer: object, texts: list[str]) -> np.ndarray:
    return np.array([max(1, len(ids)) for ids in tokenizer.encode_batch(texts)], np.float64)  # type: ignore[attr-defined]


BYTES, SHARE = Words("bytes", "字节"), Words("share", "占比")
VOCABULARY = Claim(
    "vocabulary",
    title=Words("A vocabulary trades size for length", "词表大小与文本长度的权衡"),
    unit=Words("times the bytes a token, at the least step", "倍的每词元字节数（收益最小的一级）"),
    said=Words(
        "Tokenization cuts text into units of subwords (such as GPT's byte-pair encoding), and balances the size of "
        "the "
        "vocabulary against how whole meanings stay.",
        "分词把文本切成子词（如 GPT 用的字节对编码），要在词表大小与词义是否完整之间权衡。",
    ),
    rule=Words(
        "Holds where each step to a larger vocabulary puts more bytes into a token of texts that it has not seen, "
        "every "
        "95 % interval above 1, while the share of the weights in embeddings grows; fails where one lies at or below "
        "1.",
        "若词表每增大一级都使未见过的文本中每个词元包含更多字节（每个 95% 区间都高于 1），同时嵌入的参数占比上升，则成"
        "立"
        "；"
        "若其中一个不高于 1，则不成立。",
    ),
    measure=measure,
)
