"""What ways of choosing tokens do to texts: greedy repeats, beam search is likelier and less varied, temperature orders
how varied they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise

import numpy as np

from ...config.options import SamplingOptions
from ...infer.speaker import Speaker
from ...probe.panel import Bars, Figure, Lines, Words
from .reading import texts_of
from .verdict import Array, Case, Claim, Finding, against, interval, mean, span, together, worded

PROMPT, NEW, SEARCHED = 16, 64, 32  # tokens of a prompt, of an answer, and of one that is searched for
DRAWS = 4  # answers to one prompt
# of the answers that are told apart by temperature, which once they part are different whatever it is: short, and many
SHORT, MANY = 8, 8
GRAM = 4  # tokens in a row that count as repeated
HEAT = (0.3, 0.7, 1.0, 1.5)
SAMPLE = SamplingOptions(strategy="sample")

HOW = Words(
    "Stories of the world are cut after 16 tokens and gone on with (an encoder-decoder is given whole sources); no "
    "answer "
    "may end early, so that all are equally long.",
    "将世界故事截取前 16 个词元作为提示让模型续写（编码器-解码器模型则读完整的源文本）；回答不得提前结束，因此长度相同"
    "。",
)


@dataclass(frozen=True)
class Asked:
    """A model that speaks, and what it is asked."""

    case: Case
    speaker: Speaker
    prompts: Sequence[Sequence[int]]

    def answers(self, options: SamplingOptions, n: int, new: int) -> list[list[tuple[list[int], float]]]:
        """n answers of so many tokens to each prompt: their ids, and their log-probability under the model's own
        distribution."""
        room = self.speaker.model.config.max_positions - max(map(len, self.prompts)) + 1
        if self.speaker.model.config.encoder_layers:
            room = self.speaker.model.config.max_positions
        new = max(2, min(new, room))
        options = replace(options, max_new_tokens=new, min_new_tokens=new)
        with self.case.watch.counting("prompts answered", len(self.prompts)) as each:
            seeds = [self.case.seed + n * place for place in range(len(self.prompts))]
            found = self.speaker.complete(self.prompts, options, n=n, seed=seeds)
            each(len(self.prompts))
        said = [(answer.ids, float(np.sum(answer.logprobs))) for answer in found]
        return [said[start : start + n] for start in range(0, len(said), n)]


def asked(case: Case, count: int) -> Asked:
    """So many prompts. Raises InputError for a model that does not go on with a text."""
    texts = texts_of(case, count, PROMPT)
    prompts = [(text.ids if text.source is None else text.source)[0].tolist() for text in texts]
    return Asked(case, Speaker(case.model, case.tokenizer), prompts)


def repeated(ids: Sequence[int], size: int = GRAM) -> float:
    """The share of runs of so many tokens that stood before in the same text."""
    runs = _runs(ids, size)
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


def difference(answers: Sequence[Sequence[int]]) -> float:
    """How different answers to one prompt are: over all pairs the mean share of pairs of neighbouring tokens, of those
    that either has, that only one has (1 - Jaccard)."""
    sets = [set(_runs(ids, 2)) for ids in answers]
    return mean([1 - len(a & b) / max(1, len(a | b)) for a, b in combinations(sets, 2)])


def distinct(answers: Sequence[Sequence[int]], size: int = 2) -> float:
    """distinct-2: different runs over all runs of these answers (Li et al. 2016)."""
    runs = [run for ids in answers for run in _runs(ids, size)]
    return len(set(runs)) / max(1, len(runs))


def _runs(ids: Sequence[int], size: int) -> list[tuple[int, ...]]:
    return list(zip(*(ids[start:] for start in range(size))))


def measure_greedy(case: Case) -> Finding:
    """How much of a greedy text, and of drawn ones, repeats what stood before in it."""
    ask = asked(case, case.scaled(64))
    greedy = ask.answers(SamplingOptions(strategy="greedy"), 1, NEW)
    drawn = ask.answers(SAMPLE, DRAWS, NEW)
    once = np.array([repeated(group[0][0]) for group in greedy])
    many = np.array([mean([repeated(ids) for ids, _ in group]) for group in drawn])
    more = interval(once - many, case.seed)
    bars, figures = _bars({"greedy": once, "drawn": many}, Words("Share repeated", "重复的比例"), case)
    surer = mean([g[0][1] / len(g[0][0]) for g in greedy]) - mean([s / len(i) for group in drawn for i, s in group])
    return Finding(
        against(more, 0.0), mean(once - many), interval=more, chance=0.0, count=len(once),
        found=Words(
            f"Of the runs of {GRAM} tokens {mean(once):.1%} are repeated in greedy texts and {mean(many):.1%} in drawn "
            f"ones: {100 * mean(once - many):+.1f} points {_points(more)}. Greedy tokens are surer by {surer:.2f} nats "
            "each.",
            f"连续 {GRAM} 个词元的片段中，贪心文本有 {mean(once):.1%} 是重复的，采样文本有 {mean(many):.1%}："
            f"相差 {100 * mean(once - many):+.1f} 个百分点 {_points(more)}。贪心选出的词元平均每个高出 {surer:.2f} "
            "nats。",
        ),
        how=_how(f"Repeated: a run of {GRAM} tokens that stood earlier in the same answer; {DRAWS} draws a prompt at "
                 "temperature 1, and the greedy answer.",
                 f"重复：同一回答中此前出现过的连续 {GRAM} 个词元；每个提示以温度 1 采样 {DRAWS} 次，并取一个贪心回答"
                 "。"),
        figures=figures, data=bars | {"surer": surer},
    )  # fmt: skip


def measure_beam(case: Case) -> Finding:
    """How likely the answers of beam search are beside drawn and greedy ones, and how different from each other."""
    ask = asked(case, case.scaled(48))
    found = ask.answers(SamplingOptions(strategy="beam", beams=DRAWS), DRAWS, SEARCHED)
    drawn = ask.answers(SAMPLE, DRAWS, SEARCHED)
    greedy = ask.answers(SamplingOptions(strategy="greedy"), 1, SEARCHED)
    best = np.array([group[0][1] for group in found])
    usual = np.array([mean([score for _, score in group]) for group in drawn])
    first = np.array([group[0][1] for group in greedy])
    alike = np.array([difference([ids for ids, _ in group]) for group in found])
    apart = np.array([difference([ids for ids, _ in group]) for group in drawn])
    likelier, less = interval(best - usual, case.seed), interval(apart - alike, case.seed)
    scores, charts = _bars(
        {"beam": best, "greedy": first, "drawn": usual}, Words("Log-probability of an answer", "回答的对数概率"), case
    )
    spread, more = _bars(
        {"beam": alike, "drawn": apart},
        Words("Difference between answers to one prompt", "同一提示各回答间的差异"),
        case,
    )
    several = {name: mean([distinct([ids for ids, _ in group]) for group in answers])
               for name, answers in (("beam", found), ("drawn", drawn))}  # fmt: skip
    return Finding(
        together([against(likelier, 0.0), against(less, 0.0)]), mean(best - usual), interval=likelier, chance=0.0,
        count=len(best),
        found=Words(
            f"The best of {DRAWS} beams is likelier than a drawn answer by {mean(best - usual):.1f} nats "
            f"{span(likelier, '.1f')}, and than the greedy one by {mean(best - first):.1f}. Two answers to one prompt "
            f"differ in {mean(alike):.0%} of their pairs of tokens with beams and {mean(apart):.0%} drawn (distinct-2: "
            f"{several['beam']:.2f} and {several['drawn']:.2f}).",
            f"{DRAWS} 束搜索的最佳回答比采样回答的对数概率高 {mean(best - usual):.1f} nats {span(likelier, '.1f')}，"
            f"比贪心回答高 {mean(best - first):.1f}。同一提示的两个回答之间，束搜索有 {mean(alike):.0%} 的相邻词元对不"
            "同，"
            f"采样有 {mean(apart):.0%}（distinct-2：{several['beam']:.2f} 与 {several['drawn']:.2f}）。",
        ),
        how=_how(f"{DRAWS} beams give {DRAWS} answers of equal length, beside {DRAWS} draws at temperature 1. Likely "
                 "is "
                 "the sum of log p under the model's own distribution; different is 1 - Jaccard of neighbouring "
                 "tokens.",
                 f"束宽 {DRAWS} 给出 {DRAWS} 个等长回答，与温度 1 的 {DRAWS} 次采样对照。可能性为模型自身分布下 log p "
                 "之和；"
                 "差异为相邻词元对的 1 − Jaccard 系数。"),
        figures=[*charts, *more], data={"scores": scores, "differences": spread, "distinct": several},
    )  # fmt: skip


def measure_temperature(case: Case) -> Finding:
    """How different answers to one prompt are at several temperatures."""
    ask = asked(case, case.scaled(48))
    rows = []
    for heat in HEAT:
        drawn = ask.answers(replace(SAMPLE, temperature=heat), MANY, SHORT)
        rows.append([difference([ids for ids, _ in group]) for group in drawn])
    table = np.array(rows)
    steps = [interval(after - before, case.seed) for before, after in pairwise(table)]
    least = min(range(len(steps)), key=lambda n: float(np.mean(table[n + 1] - table[n])))
    figure, means = mean(table[least + 1] - table[least]), table.mean(1).tolist()
    said = ", ".join(f"{value:.0%} (T={heat})" for heat, value in zip(HEAT, means))
    return Finding(
        together([against(step, 0.0) for step in steps]), figure, interval=steps[least], chance=0.0,
        count=table.shape[1],
        found=Words(
            f"Two answers to one prompt differ in {said} of their pairs of tokens; the smallest step is "
            f"{100 * figure:+.1f} points {_points(steps[least])}.",
            f"同一提示的两个回答之间相邻词元对的差异为 {said}；相邻温度之间最小的增幅为 {100 * figure:+.1f} 个百分点 "
            f"{_points(steps[least])}。",
        ),
        how=_how(f"{MANY} draws of {SHORT} tokens a prompt at each temperature, by the same luck; different is 1 - "
                 "Jaccard of neighbouring tokens.",
                 f"每个温度下每个提示采样 {MANY} 次、各 {SHORT} 个词元，随机数相同；差异为相邻词元对的 1 − Jaccard 系"
                 "数。"),
        figures=[
            Lines(
                Words("How different answers are", "回答之间的差异"), HEAT, {Words("difference", "差异"): means},
                Words("temperature", "温度"), Words("share that differs", "不同的比例"),
            )
        ],
        data={"temperatures": HEAT, "difference": means, "steps": steps},
    )  # fmt: skip


def _bars(values: dict[str, Array], title: Words, case: Case) -> tuple[dict[str, object], list[Figure]]:
    """A bar for each way, with its interval."""
    ends = [interval(found, case.seed) for found in values.values()]
    means = {name: mean(found) for name, found in values.items()}
    chart = Bars(
        title, worded(values, ZH), {title: list(means.values())}, low=[end[0] for end in ends],
        high=[end[1] for end in ends],
    )  # fmt: skip
    return {"means": means, "intervals": dict(zip(values, ends))}, [chart]


def _points(found: tuple[float, float]) -> str:
    return span((100 * found[0], 100 * found[1]), "+.1f")


def _how(en: str, zh: str) -> Words:
    return Words(f"{HOW.en} {en}", HOW.zh + zh)


ZH = {
    "greedy": "贪心", "drawn": "采样", "beam": "束搜索",
}  # fmt: skip
GREEDY = Claim(
    "greedy",
    title=Words("Greedy search repeats itself", "贪心搜索容易重复"),
    unit=Words("more repeated than drawn, as a share", "比采样多出的重复比例"),
    said=Words(
        "Greedy search takes the token of the highest probability each time, and gives the most conservative text, "
        "which "
        "may repeat itself.",
        "贪心搜索每一步都取最可能的词元，文本最稳妥，却也容易说重复的话。",
    ),
    rule=Words(
        "Holds where greedy texts repeat a larger share of their 4-grams than drawn ones, the 95 % interval of the "
        "difference above 0; fails where it lies at or below 0.",
        "若贪心文本中重复的 4 元组比例高于采样文本，且差值的 95% 区间高于 0，则成立；若区间不高于 0，则不成立。",
    ),
    measure=measure_greedy,
)
BEAM = Claim(
    "beam",
    title=Words("Beam search is likelier and less varied", "束搜索更可能、更单一"),
    unit=Words("nats likelier than drawn", "nats，高于采样"),
    said=Words(
        "Beam search keeps the N best candidates, and balances variety and accuracy.",
        "束搜索同时留住 N 个最好的候选，在准确与多样之间取舍。",
    ),
    rule=Words(
        "Holds where the best beam has a higher log-probability than drawn answers of the same length and its answers "
        "differ less from each other, both intervals above 0; fails where one lies at or below 0.",
        "若束搜索的最佳回答的对数概率高于等长的采样回答，且其各回答之间差异更小，两个 95% 区间都高于 0，则成立；"
        "若其中一个不高于 0，则不成立。",
    ),
    measure=measure_beam,
)
TEMPERATURE = Claim(
    "temperature",
    title=Words("Temperature sets how random a text is", "温度控制随机性"),
    unit=Words("more difference, at the smallest step", "差异的增加（最小的一步）"),
    said=Words(
        "Temperature controls how random the output is: above 1 more random, below 1 more certain.",
        "温度决定输出有多随机：高于 1 更随意，低于 1 更笃定。",
    ),
    rule=Words(
        "Holds where answers differ more at each higher temperature of 0.3, 0.7, 1.0 and 1.5, every interval above 0; "
        "fails where one lies at or below 0.",
        "若温度依次取 0.3、0.7、1.0、1.5 时回答之间的差异逐级增大，且每一级增幅的 95% 区间都高于 0，则成立；"
        "若其中一个不高于 0，则不成立。",
    ),
    measure=measure_temperature,
)
