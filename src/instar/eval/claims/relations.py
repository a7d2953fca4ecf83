"""Heads differ in the relations between words that they follow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...config import InputError
from ...data.treebank import read_treebank
from ...probe.panel import UNSAID, Bars, Figure, Lines, Matrix, Table, Words
from ...probe.relations import (
    FEWEST,
    GAIN,
    Arc,
    Example,
    RelationScore,
    RelationScores,
    arc_scores,
    of_record,
    of_treebank,
)
from .files import drawn, fitness, is_treebank, spelt_out
from .verdict import Array, Case, Claim, Finding, Outcome, mean, span, worded

ANY = "any of these"
WANTED, HEADS = 3, 2  # relations that are followed, and heads that follow them
ENOUGH = 80  # arcs of a relation, at the usual size
POOL = 960  # texts of which some are taken, so that rare relations are met
NAMED = ("does", "owner-thing", "part-whole", "thing-place")  # whatever is said of others, these are told


@dataclass(frozen=True)
class Followed:
    """What the heads of a model make of the relations of one language. best: of each relation the better direction."""

    scores: RelationScores

    @property
    def best(self) -> dict[str, RelationScore]:
        found: dict[str, RelationScore] = {}
        for score in self.scores.scores:  # the best first
            if score.relation not in found or (score.hit and not found[score.relation].hit):
                found[score.relation] = score
        return found

    @property
    def hits(self) -> list[RelationScore]:
        """Relations that a head follows, each once; all of them together are none."""
        return [score for name, score in self.best.items() if name != ANY and score.hit]

    @property
    def own(self) -> float:
        """By how much the heads of the relations that are followed are better at their own than at each other's: NaN of
        fewer than two."""
        return own(self.hits)

    @property
    def outcome(self) -> Outcome:
        """As the rule says."""
        hits = self.hits
        if not hits:
            return "fails" if self.best else "unclear"
        several = len(hits) >= WANTED and len({score.head for score in hits}) >= HEADS
        return "holds" if several and self.own > 0 else "unclear"


def own(hits: Sequence[RelationScore]) -> float:
    """The gain of each relation's head at its own relation, as it was found on other texts, less its gain at the
    others: the mean. 0 where one head does all."""
    if len(hits) < 2:
        return float("nan")
    rest = [[float(other.gain[one.head]) for other in hits if other is not one] for one in hits]
    return mean([one.best - mean(gains) for one, gains in zip(hits, rest)])


def examples(case: Case, code: str) -> list[Example]:
    """Annotated texts in one language, as few as tell every relation often enough, the rarest first; with every arc
    once more as one of any relation."""
    pool = []
    for record in case.records("stories", case.scaled(POOL, 240), annotate=1, lang=code):
        example = of_record(record)
        pairs = sorted({(arc.from_word, arc.to_word) for arc in example.arcs})
        pool.append(replace(example, arcs=(*example.arcs, *(Arc(one, other, ANY) for one, other in pairs))))
    counted = [Counter(arc.relation for arc in example.arcs) for example in pool]
    often = Counter(name for counts in counted for name in counts.elements())
    enough, have, taken = case.scaled(ENOUGH, FEWEST), Counter[str](), set[int]()
    for name in sorted(often, key=lambda name: (often[name], name)):
        for number, counts in enumerate(counted):
            if have[name] >= enough:
                break
            if counts[name] and number not in taken:
                taken.add(number)
                have.update(counts)
    return [pool[number] for number in sorted(taken)]


def measure(case: Case) -> Finding:
    """How many relations are followed, in the language in which there are fewest of them."""
    found: dict[str, Followed] = {}
    for code in case.languages:
        case.watch.say(f"relations in {code}")
        found[code] = Followed(arc_scores(case.model, case.tokenizer, examples(case, code), seed=case.seed))
    outcomes = [one.outcome for one in found.values()]
    outcome: Outcome = "unclear"
    if set(outcomes) in ({"holds"}, {"fails"}):
        outcome = outcomes[0]
    real = [_syntax(case, source) for source in case.data if is_treebank(source)]
    said = [*(_said(code, one, len(found) > 1) for code, one in found.items()), *(row["said"] for row in real)]
    figures: list[Figure] = [figure for code, one in found.items() for figure in _figures(code, one.best)]
    figures += [figure for row in real if "best" in row for figure in _treebank_figures(row)]
    return Finding(
        outcome, float(min(len(one.hits) for one in found.values())), chance=0.0,
        count=sum(one.scores.texts for one in found.values()),
        found=Words("".join(words.en for words in said).strip(), "".join(words.zh for words in said)),
        how=HOW, figures=figures,
        data={
            "languages": {code: _record(one.scores) | {"own": one.own} for code, one in found.items()},
            "files": [row["data"] for row in real],
        },
    )  # fmt: skip


def _said(code: str, one: Followed, several: bool) -> Words:
    best, hits = one.best, one.hits
    rest = [score for name, score in best.items() if name != ANY]

    def told(score: RelationScore, by: str) -> str:
        return f"{score.best:+.2f} {span(score.interval)} {by} {score.head[0]}.{score.head[1]}"

    prefix = Words(f" {NAMES[code].en}: ", f"{NAMES[code].zh}：") if several else UNSAID
    en = f"{len(hits)} of {len(rest)} relations are followed"
    zh = f"{len(rest)} 种关系中有 {len(hits)} 种被跟踪"
    if hits:
        en += f", by {len({score.head for score in hits})} heads"
        zh += f"，由 {len({score.head for score in hits})} 个头"
    if len(hits) > 1:
        en += f", which are {one.own:+.2f} better at their own than at the others"
        zh += f"，它们在各自关系上比在其他关系上高 {one.own:+.2f}"
    shown = [score for score in rest if score.hit or score.relation in NAMED]
    listed = ", ".join(f"{score.relation} {told(score, 'by head')}" for score in shown)
    listed_zh = "，".join(f"{ZH.get(score.relation, score.relation)} {told(score, '头')}" for score in shown)
    en += f". Gain of the best head over the best fixed offset: {listed}"
    zh += f"。最佳头相对最佳固定距离的增益：{listed_zh}"
    if ANY in best:
        en += f"; of all together {told(best[ANY], 'by head')}"
        zh += f"；全部合计 {told(best[ANY], '头')}"
    if missing := {name.split()[0] for name in one.scores.few} - set(best):
        en += f". Too rare for a figure: {', '.join(sorted(missing))}"
        zh += f"。数量太少、未计：{'、'.join(ZH.get(name, name) for name in sorted(missing))}"
    return Words(f"{prefix.en}{en}.", f"{prefix.zh}{zh}。")


def _record(scores: RelationScores) -> dict[str, Any]:
    return {
        "texts": scores.texts, "few": dict(scores.few), "lost": dict(scores.lost),
        "scores": [
            {
                "relation": one.relation, "direction": one.direction, "count": one.count, "offset": one.offset,
                "fixed": one.fixed, "head": list(one.head), "gain": one.best, "interval": list(one.interval),
                "hit": one.hit, "accuracy": one.accuracy.tolist(),
            }
            for one in scores.scores
        ],
    }  # fmt: skip


def _table_of(best: Mapping[str, RelationScore]) -> tuple[list[str], Array]:
    """Relations, the best first, and the gain of each head at them (relations, heads)."""
    names = list(best)
    return names, np.stack([best[name].gain.flatten() for name in names]).astype(np.float32)


def _figures(code: str, best: Mapping[str, RelationScore]) -> list[Figure]:
    if not best:
        return []
    names, table = _table_of(best)
    heads = next(iter(best.values())).gain.shape[1]
    return [
        Matrix(
            Words(
                f"Gain of each head over the best fixed offset, {NAMES[code].en}",
                f"各头相对最佳固定距离的增益，{NAMES[code].zh}",
            ),
            table, worded(names, ZH), [f"{n // heads}.{n % heads}" for n in range(table.shape[1])], "signed",
            Words("relation", "关系"), Words("layer.head", "层.头"),
        ),
        Bars(
            Words(
                f"Gain of the head chosen on other texts, {NAMES[code].en}",
                f"在其他文本上选出的头的增益，{NAMES[code].zh}",
            ),
            worded(names, ZH), {Words("gain", "增益"): [best[name].best for name in names]},
            low=[best[name].interval[0] for name in names], high=[best[name].interval[1] for name in names],
        ),
    ]  # fmt: skip


def _syntax(case: Case, source: str) -> dict[str, Any]:
    """Grammar in a treebank: of each relation the best head, and what layers gain."""
    name = source.rsplit("/", 1)[-1]
    try:
        sentences = [of_treebank(one) for one in drawn(read_treebank(source), case.scaled(200, 8), case.seed)]
        followed = Followed(arc_scores(case.model, case.tokenizer, sentences, seed=case.seed))
    except InputError as error:
        said = Words(f" {name}: not measured, {error}.", f"{name}：未能测量，{error}。")
        return {"said": said, "data": {"file": source, "why": str(error)}}
    share = spelt_out(case.tokenizer, [one.text for one in sentences])
    fit, hits, best = fitness(share), followed.hits, followed.best
    told = ", ".join(
        f"{score.relation} {score.best:+.2f} {span(score.interval)} ({score.head[0]}.{score.head[1]})" for score in hits
    )
    return {
        "name": name, "best": best,
        "said": Words(
            f" {name}, {followed.scores.texts} sentences: {len(hits)} of {len(best)} relations of grammar are followed"
            f"{': ' + told if told else ''}; the tokenizer spells {share:.0%} of the words' bytes one by one{fit.en}.",
            f"{name}，{followed.scores.texts} 个句子：{len(best)} 种语法关系中有 {len(hits)} 种被跟踪"
            f"{'：' + told if told else ''}；分词器逐字节拼写了词语中 {share:.0%} 的字节{fit.zh}。",
        ),
        "data": {"file": source, "spelt_out": share} | _record(followed.scores),
    }  # fmt: skip


def _treebank_figures(row: Mapping[str, Any]) -> list[Figure]:
    best: Mapping[str, RelationScore] = row["best"]
    if not best:
        return []
    layers = np.stack([score.gain.max(1) for score in best.values()])  # (relations, L)
    shown = list(best)[:MOST]
    columns = (
        Words("relation", "关系"), Words("direction", "方向"), Words("arcs", "弧数"), Words("best head", "最佳头"),
        Words("its accuracy", "其准确率"), Words("best fixed offset", "最佳固定距离"),
        Words("gain on other texts", "在其他文本上的增益"), Words("95 % interval", "95% 区间"), Words("hit", "达标"),
    )  # fmt: skip
    rows = [
        (
            name, one.direction, one.count, f"{one.head[0]}.{one.head[1]}", f"{float(one.accuracy[one.head]):.2f}",
            f"{one.fixed:.2f} ({one.offset:+d})", f"{one.best:+.2f}", span(one.interval), "x" if one.hit else "",
        )
        for name, one in best.items()
    ]  # fmt: skip
    return [
        Table(Words(f"Grammar in {row['name']}", f"{row['name']} 中的语法"), columns, rows),
        Lines(
            Words(f"Gain of the best head of each layer, {row['name']}", f"每层最佳头的增益，{row['name']}"),
            list(range(layers.shape[1])),
            {Words("mean of all", "全部平均"): layers.mean(0).tolist()}
            | {name: best[name].gain.max(1).tolist() for name in shown},
            Words("layer", "层"), Words("gain", "增益"),
        ),
    ]  # fmt: skip


MOST = 6  # relations that are drawn as lines
NAMES = {"en": Words("English", "英文"), "zh": Words("Chinese", "中文")}
HOW = Words(
    "Annotated stories and facts of the world: from a word the head's largest share of the other words, the sink left "
    "out, must lead to the word that it belongs with (Clark et al. 2019), in whichever direction. The head is chosen "
    "on nine tenths of the texts and measured on the last, in turn; the fixed offset is the best of the same texts, "
    "which favours it. Bootstrap over texts. Facts are few and told often, so that a head may know a pair by heart. A "
    "head shows where a relation can be read, and is no proof of what the model uses.",
    "用世界中带标注的故事和事实：从一个词出发，除去注意力汇后，头的最大份额须落在与它相关的词上（Clark 等，2019），"
    "方向不限。头在十分之九的文本上选出，在其余文本上测量，轮流进行；固定距离取同一批文本上最好的，对它有利。"
    "按文本做自助法。事实数量少而重复多，头可能只是记住了词对。头只说明关系可以从哪里读出，不能证明模型用了它。",
)
ZH = {
    ANY: "以上任一", "does": "谁对谁做", "owner-thing": "主人与物品", "part-whole": "部分与整体",
    "thing-place": "物品与地点", "person-place": "人与地点", "to-whom": "给谁", "from-whom": "从谁",
    "wants-place": "想去的地点", "before": "先后",
    "product-field": "产品与领域", "product-technology": "产品与技术", "product-organisation": "产品与组织",
    "organisation-place": "组织与地点", "organisation-field": "组织与领域", "organisation-person": "组织与人",
    "technology-field": "技术与领域", "animal-place": "动物与住处", "animal-food": "动物与食物",
    "animal-young": "动物与幼崽",
}  # fmt: skip
RELATIONS = Claim(
    "relations",
    title=Words("Heads follow different relations", "不同的头跟踪不同的关系"),
    unit=Words("relations of words are followed by a head", "种词间关系有头跟踪"),
    said=Words(
        "Several heads catch different relations, such as grammar and meaning, and how nouns belong together.",
        "多个头各看各的关系，例如语法和语义，以及名词与名词之间的联系。",
    ),
    rule=Words(
        f"A relation is followed where a head chosen on other texts finds the right word at least {GAIN:.2f} more "
        "often than the best fixed offset, with a 95 % interval over texts above 0. Holds where, in each language, "
        f"{WANTED} or more relations are followed, by {HEADS} or more different heads, which are on average better at "
        "their own than at each other's; fails where none is followed in any.",
        f"若在其他文本上选出的头找对词的比例比最佳固定距离至少高 {GAIN:.2f}，且按文本的 95% 区间高于 0，"
        f"则称关系被跟踪。若在每种语言中至少 {WANTED} 种关系被至少 {HEADS} 个不同的头跟踪，"
        "且这些头平均在自己的关系上优于在彼此的关系上，则成立；若没有任何关系被跟踪，则不成立。",
    ),
    measure=measure,
)
