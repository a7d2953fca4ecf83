"""Positions tell 狗咬人 from 人咬狗: the same words in another order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...config import InputError
from ...infer.prompt import check_speaks
from ...probe.ground import OrderLab, order_of
from ...probe.intervene import without_positions
from ...probe.linear import Example, Probes, by_row, features_of, stream_of
from ...probe.panel import UNSAID, Bars, Figure, Lines, Words
from ...probe.subject import Subject
from .knowledge import chats, likelihoods, windows
from .lifts import reads
from .verdict import Array, Case, Claim, Finding, Interval, Outcome, curves_of, interval, mean, span, worded

CHANCE, MORE = 0.5, 0.1
# whichever leaves more pairs the same tokens: some tokenizers put the blank behind a word
MARKS = {"en": (".", " ."), "zh": ("。", " 。")}
FEWEST = 8  # pairs that are worth a probe
COIN = 0.25  # both of a pair, of one who tosses a coin; one who does not heed order has none


@dataclass(frozen=True)
class Pair:
    """Two texts of the same tokens and the same last one; label: whether the person acts in the first."""

    one: Subject
    other: Subject
    label: int
    lang: str


@dataclass(frozen=True)
class Choice:
    """A question about one of a pair, and the answers, the right one first."""

    question: str
    candidates: tuple[str, str]


def pairs_of(case: Case, count: int) -> tuple[list[Pair], int]:
    """Pairs in which a person does it to an animal, and the other way round, word for word reversed but for the mark at
    the end; and how many were left out because their tokens are not the same ones, so that these would tell."""
    records = case.records("order", 2 * count, mirror=1, mixed=1)
    kept: list[Pair] = []
    for code in case.languages:
        mine = [record for record in records if record["lang"] == code]
        one, other = (_pairs(case, mine, mark) for mark in MARKS[code])
        kept += other if len(other) > len(one) else one
    return kept, len(records) // 2 - len(kept)


def _pairs(case: Case, records: Sequence[Mapping[str, Any]], mark: str) -> list[Pair]:
    found = []
    for first, second in zip(records[::2], records[1::2]):
        one, other = (reads(case.model, case.tokenizer, record["text"] + mark) for record in (first, second))
        if one is None or other is None:
            continue
        ids, turned = (tokens_of(subject) for subject in (one, other))
        if sorted(ids) == sorted(turned) and ids != turned and ids[place_of(one)] == turned[place_of(other)]:
            found.append(Pair(one, other, first["label"], first["lang"]))
    return found


def tokens_of(subject: Subject) -> list[int]:
    """What is read, in the encoder of an encoder-decoder."""
    return [token.id for token in subject.source or subject.tokens]


def place_of(subject: Subject) -> int:
    """The last token of the text itself, which closes the sentence: control tokens may stand behind it."""
    tokens = subject.source or subject.tokens
    return max(place for place, token in enumerate(tokens) if not token.control)


def examples(pairs: Sequence[Pair]) -> list[Example]:
    """Both of each pair, which are trained on or tested on together."""
    return [
        Example(tokens_of(subject), place_of(subject), "person" if acts else "animal", number)
        for number, pair in enumerate(pairs)
        for subject, acts in ((pair.one, pair.label), (pair.other, 1 - pair.label))
    ]


def by_pair(probes: Probes) -> Array:
    """How often the last row of the stream tells who acts, of each tested pair: (P,)."""
    groups = np.array(probes.groups)
    return np.array([probes.right[-1][groups == group].mean() for group in dict.fromkeys(probes.groups)])


def verdict_of(sure: Interval, more: float) -> Outcome:
    """As the rule says; more: than without positions."""
    if sure[0] > CHANCE + MORE and more >= MORE:
        return "holds"
    return "fails" if sure[1] < CHANCE + MORE else "unclear"


def measure(case: Case) -> Finding:
    """How often a probe of the last states tells who acts, with positions and without; who is answered to have acted;
    and how far apart what comes next is."""
    pairs, lost = pairs_of(case, case.scaled(320, 2 * FEWEST))
    if len(pairs) < FEWEST:
        raise InputError(
            f"of {len(pairs) + lost} pairs of sentences {len(pairs)} have the same tokens in another order; wanted "
            f"{FEWEST}, and in the others the tokens themselves would tell, not their order"
        )
    case.watch.say(f"{len(pairs)} pairs of sentences are read with positions and without")
    asked = examples(pairs)
    ways: dict[str, Probes] = {}
    for name, how in WAYS.items():
        with how(case):
            ways[name] = by_row(features_of(case.model, asked, stream_of), asked, seed=case.seed)
    told, untold = (by_pair(ways[name]) for name in (WITH, WITHOUT))
    sure, more = interval(told, case.seed), mean(told - untold)
    surer = interval(told - untold, case.seed)
    answers = _answers(case)
    labs = [order_of(pair.one, pair.other) for pair in pairs[: case.scaled(32, 4)]]
    said = [_read(case, told, untold, sure, surer, lost), _answered(answers, case.seed), _apart(labs)]
    return Finding(
        verdict_of(sure, more), mean(told), interval=sure, chance=CHANCE, count=len(pairs),
        found=Words("".join(words.en for words in said).strip(), "".join(words.zh for words in said)),
        how=HOW, figures=_figures(ways, answers, case.seed),
        data={
            "accuracy": {name: probes.accuracy.tolist() for name, probes in ways.items()},
            "more": more, "more_interval": surer, "tested": len(told), "left_out": lost,
            "both_right": {name: mean(values) for name, values in answers.items()},
            "kl": {WITH: _mean_kl([lab.told.kl for lab in labs]), WITHOUT: _mean_kl([lab.untold.kl for lab in labs])},
            "apart": {
                WITH: mean([lab.told.apart for lab in labs]), WITHOUT: mean([lab.untold.apart for lab in labs])
            },
        },
    )  # fmt: skip


def _answers(case: Case) -> dict[str, Array]:
    """Whether the right answer to who did it is the likelier of the two for both of a pair, in facts that are held out,
    with positions and without; nothing of a model that answers no questions."""
    try:
        check_speaks(case.model)
    except InputError:
        return {}  # it is said in the finding
    if case.model.config.encoder_layers:
        return {}
    records = case.records("order", 2 * case.scaled(96, 4), split="test")
    records = [record for code in case.languages for record in records if record["lang"] == code]
    asked = []
    for record in records:
        (wrong,) = (answer for answer in record["candidates"] if answer != record["answer"])
        asked.append(Choice(record["prompt"], (record["answer"], wrong)))
    # as a message or as a text, whichever makes right answers likelier, as of facts
    ways = {chat: windows(case.model, case, asked, chat) for chat in ([False, True] if chats(case) else [False])}
    found = {chat: likelihoods(case.model, ready, case, 2) for chat, ready in ways.items()}
    chat = max(found, key=lambda way: float(found[way][:, 0].mean()))
    with without_positions(case.model):
        untold = likelihoods(case.model, ways[chat], case, 2)
    return {
        name: (table[:, 0] > table[:, 1]).reshape(-1, 2).all(1).astype(float)
        for name, table in ((WITH, found[chat]), (WITHOUT, untold))
    }


def _read(case: Case, told: Array, untold: Array, sure: Interval, surer: Interval, lost: int) -> Words:
    config = case.model.config
    en = (
        f"A probe of the last states tells who acts in {mean(told):.0%} of {2 * len(told)} sentences {span(sure)} with "
        f"positions and in {mean(untold):.0%} without, {mean(told - untold):+.2f} {span(surer)}; guessing gives 50%."
    )
    zh = (
        f"用最后状态上的探针判断谁是施事，{2 * len(told)} 个句子中，有位置信息时正确 {mean(told):.0%} {span(sure)}，"
        f"去掉位置后 {mean(untold):.0%}，相差 {mean(told - untold):+.2f} {span(surer)}；猜测为 50%。"
    )
    if config.causal and not config.encoder_layers and config.layers > 1:
        en += " Without positions a causal mask still leaks order from the second layer on."
        zh += "即使没有位置信息，因果掩码从第二层起仍会泄露顺序。"
    if config.positions == "none":
        en += " This model has no positions at all."
        zh += "该模型本来就没有位置编码。"
    if lost:
        en += f" {lost} pairs were left out, whose tokens are not the same or which the model cannot read."
        zh += f"有 {lost} 对因词元不同或模型无法读取而未用。"
    return Words(en, zh)


def _answered(answers: Mapping[str, Array], seed: int) -> Words:
    if not answers:
        return Words(
            " It is not asked who did it: such a model answers no questions.",
            "这类模型不回答问题，因此没有提问是谁做的。",
        )
    told, untold = answers[WITH], answers[WITHOUT]
    return Words(
        f" Asked who did it, it finds the right one likelier in both of a pair for {mean(told):.0%} of {len(told)} "
        f"pairs {span(interval(told, seed))}, without positions {mean(untold):.0%}; a coin gives {COIN:.0%}, and one "
        "who does not heed order 0%.",
        f"问是谁做的，{len(told)} 对中两句都认为正确者更可能的占 {mean(told):.0%} {span(interval(told, seed))}，"
        f"去掉位置后 {mean(untold):.0%}；抛硬币为 {COIN:.0%}，不顾顺序则为 0%。",
    )


def _apart(labs: Sequence[OrderLab]) -> Words:
    told, untold = (_mean_kl([way.kl for way in ways]) for ways in zip(*((lab.told, lab.untold) for lab in labs)))
    if told is None or untold is None:
        return UNSAID
    return Words(
        f" What comes next differs between the two by a KL of {told:.2g} nats with positions, {untold:.2g} without.",
        f"两句之后的下一词元分布相差 KL {told:.2g} nats，去掉位置后为 {untold:.2g}。",
    )


def _mean_kl(values: Sequence[float]) -> float | None:
    """Of a model that says tokens."""
    known = [value for value in values if np.isfinite(value)]
    return mean(known) if known else None


def _figures(ways: Mapping[str, Probes], answers: Mapping[str, Array], seed: int) -> list[Figure]:
    lasts = {f"read, {name}": by_pair(probes) for name, probes in ways.items()}
    lasts |= {f"both answered, {name}": values for name, values in answers.items()}
    ends = [interval(values, seed) for values in lasts.values()]
    return [
        Bars(
            Words("Who acts is told rightly", "正确判断施事的比例"), worded(lasts, ZH),
            {Words("share", "比例"): [mean(values) for values in lasts.values()]},
            low=[low for low, _ in ends], high=[high for _, high in ends],
        ),
        Lines(
            Words("Who acts, read off each layer", "从每一层读出施事"), list(range(len(ways[WITH].accuracy))),
            curves_of({name: probes.accuracy.tolist() for name, probes in ways.items()}, ZH),
            Words("blocks behind it", "经过的层数"), Words("accuracy", "准确率"),
        ),
    ]  # fmt: skip


WITH, WITHOUT = "with positions", "without positions"
WAYS: dict[str, Callable[[Case], AbstractContextManager[None]]] = {
    WITH: lambda case: nullcontext(), WITHOUT: lambda case: without_positions(case.model),
}  # fmt: skip
HOW = Words(
    "Pairs of the world, such as dog bites man and man bites dog, a person and an animal, word for word reversed, with "
    "the same mark at the end; only pairs with the very same tokens. A linear probe reads the state of that last token "
    "behind the last block and must say whether the person acts; the two of a pair are trained on or tested on "
    "together. Then the same with positions taken away from the model, which it was not trained for. Asked are pairs "
    "of other sentences, passive ones too, of facts that training holds back.",
    "用世界中成对的句子，如“狗咬人”与“人咬狗”：一个人和一个动物，词序完全相反，句末标点相同；只取词元完全相同的句对。"
    "线性探针读取最后一层之后该末词元的状态，判断施事是否为人；同一对的两句一起用于训练或测试。"
    "然后把模型的位置信息去掉再测一次（模型未曾这样训练）。提问用另外的句对，含被动句，且事实在训练中未出现。",
)
ZH = {
    f"read, {WITH}": "探针，有位置", f"read, {WITHOUT}": "探针，无位置",
    f"both answered, {WITH}": "两句都答对，有位置", f"both answered, {WITHOUT}": "两句都答对，无位置",
    WITH: "有位置", WITHOUT: "无位置",
}  # fmt: skip
ORDER = Claim(
    "order",
    title=Words("Positions tell dog bites man from man bites dog", "位置编码区分“狗咬人”和“人咬狗”"),
    unit=Words("of sentences: who acts is told", "的句子能判断谁是施事"),
    said=Words(
        "As a Transformer reads all words at once, it needs labels of their order, to tell dog bites man from man "
        "bites dog.",
        "所有的词是一起读进来的，所以要给它们标上次序，才能分清“狗咬人”和“人咬狗”。",
    ),
    rule=Words(
        "Holds where a probe of the last states tells who acts more often than guessing by 0.1, the 95 % interval over "
        "pairs all above 0.6, and at least 0.1 more often than with positions taken away; fails where the interval "
        "with positions lies below 0.6.",
        "若最后状态上的探针判断施事的准确率的 95% 区间（按句对）高于 0.6（比猜测高 0.1），且比去掉位置后至少高 0.1，"
        "则成立；若有位置时的区间低于 0.6，则不成立。",
    ),
    measure=measure,
)
