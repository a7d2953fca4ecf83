"""What the arrays of panels are called where a sentence speaks of them; in files they stand under names of one word."""

from __future__ import annotations

from .choice import DRAWING, GREEDY, OWN, SHAPING
from .panel import Words

SCORES = {
    "previous": Words("previous token", "前一词元"),
    "next": Words("next token", "后一词元"),
    "offset": Words("fixed offset", "固定偏移"),
    "positional": Words("positional", "按位置"),
    "duplicate": Words("duplicate token", "重复词元"),
    "induction": Words("induction", "归纳"),
    "copying": Words("copying", "复制"),
    "rare": Words("rare token", "罕见词元"),
    "entropy": Words("entropy", "熵"),
    "sink": Words("sink", "汇聚点"),
    "distance": Words("distance", "距离"),
    "confidence": Words("confidence", "置信度"),
}
READ = {"random": Words("random tokens", "随机词元"), "text": Words("this text", "此文本")}  # what scores are taken on
RULES = {"model": OWN, "greedy": GREEDY} | {name: title for name, title, _ in (*SHAPING, *DRAWING)}
CALLED = {
    "ids": Words("token ids", "词元编号"),
    "plane": Words("plane of the embeddings", "嵌入的平面投影"),
    "map": Words("map of positions", "位置图"),
    "curve": Words("mean by distance", "按距离的平均"),
    "vectors": Words("position vectors", "位置向量"),
    "weights": Words("attention weights", "注意力权重"),
    "shown": Words("the weights that are shown", "图中的权重"),
    "atlas": Words("pictures of all heads", "各头缩略图"),
    "p": Words("probabilities", "概率"),
    "entropy": Words("entropy", "熵"),
    "kl": Words("KL divergence from the answer", "与最终答案的 KL 散度"),
    "rank": Words("rank of the answer", "最终答案的名次"),
    "final": Words("probability of the answer", "最终答案的概率"),
    "settled": Words("layer from which the answer stands", "答案确定的层"),
    "heads": Words("heads", "各头"),
    "attention": Words("attention", "注意力"),
    "feed_forward": Words("feed-forward", "前馈层"),
    "cross": Words("cross-attention", "交叉注意力"),
    "cross_heads": Words("heads of cross-attention", "交叉注意力各头"),
    "cross_skipped": Words("cross-attention skipped", "跳过交叉注意力"),
    "restored": Words("restored by states", "换入状态后的恢复"),
    "restored_heads": Words("restored by heads", "换入各头后的恢复"),
    "shares": Words("shares", "份额"),
    "occlusion": Words("occlusion", "遮挡"),
    "lift": Words("entity lift", "实体提升"),
    "accuracy": Words("accuracy", "准确率"),
    "control": Words("control", "对照"),
    "low": Words("lower end of accuracy", "准确率下限"),
    "high": Words("upper end of accuracy", "准确率上限"),
    "said": Words("classes that are said", "判断的类别"),
    "logits": Words("logits", "logits"),
    "chances": Words("probabilities", "概率"),
    "kept": Words("tokens that are kept", "保留的词元数"),
    "cache_tokens": Words("tokens in the cache", "缓存的词元数"),
    "cache_bytes": Words("bytes of the cache", "缓存字节数"),
    "block_bytes": Words("bytes of its blocks", "缓存块字节数"),
    "key_norms": Words("norms of keys", "键的范数"),
    "value_norms": Words("norms of values", "值的范数"),
    "parents": Words("parents of nodes", "父节点"),
    "logprobs": Words("log probabilities", "对数概率"),
    "sums": Words("sums of log probabilities", "累计对数概率"),
    "scores": Words("scores", "得分"),
}


def called(name: str) -> Words:
    """An array's name, for people; an unknown one as it is.

    Example: called("chance/random/previous") -> "chance of previous token (random tokens)" in English
    """
    if name in CALLED:
        return CALLED[name]
    before, _, rest = name.partition("/")
    if before == "chance" and rest:
        of = called(rest)
        return Words(f"chance of {of.en}", f"{of.zh}的随机水平")
    if before == "chances" and rest in RULES:
        rule = RULES[rest]
        return Words(f"probabilities ({rule.en})", f"概率（{rule.zh}）")
    if before in READ and rest in SCORES:
        score, read = SCORES[rest], READ[before]
        return Words(f"{score.en} ({read.en})", f"{score.zh}（{read.zh}）")
    if (one := CALLED.get(name.removesuffix("_kl"))) is not None:
        return Words(f"{one.en} (KL)", f"{one.zh}（KL）")
    if (one := CALLED.get(name.removeprefix("source_"))) is not None:
        return Words(f"{one.en} (source)", f"{one.zh}（源文）")
    return Words(name, name)
