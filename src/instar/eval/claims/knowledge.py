"""Knowledge sits in the weights: facts that no prompt tells are known all the same, and by some parts more than by
others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol

import numpy as np

from ...data.world.facts import Fact, answers, facts
from ...data.world.ontology import Entity
from ...data.world.realise import language
from ...data.world.template import capital, filled
from ...infer.prompt import check_speaks
from ...model.transformer import Transformer
from ...probe.intervene import Part, skipped
from ...probe.panel import Bars, Figure, Lines, Words
from ..likelihood import Window, after, score
from .verdict import Array, Case, Claim, Finding, against, curves_of, interval, mean, span, worded

CANDIDATES = 4
GROUPS = 6  # of layers that are skipped together, at most
CONTEXT = "{question}\n"


class Question(Protocol):
    """What is asked, and the answers to choose from."""

    @property
    def question(self) -> str: ...
    @property
    def candidates(self) -> Sequence[str]: ...


@dataclass(frozen=True)
class Asked:
    """A fact that is asked without a story: the question in words that no training has, the candidates as they are said
    and as they are, the right one's place, and whether questions in training asked it (in other words), or only its
    telling stood there."""

    code: str
    fact: Fact
    question: str
    candidates: list[str]
    answers: list[Entity]
    right: int
    taught: bool


def questions(case: Case, count: int) -> list[Asked]:
    """Fixed facts, each once in each language that the tokenizer speaks; `count` of them at most, drawn by the seed."""
    chance = Random(case.seed)
    found = []
    for code in case.languages:
        speaks = language(code)
        for fact in facts():
            rest = [each for each in answers(fact.relation) if each is not fact.roles["o"]]
            chosen = [fact.roles["o"], *chance.sample(rest, CANDIDATES - 1)]
            chance.shuffle(chosen)
            said = [speaks.fact_answer(Fact(fact.relation, {**fact.roles, "o": each})) for each in chosen]
            right = chosen.index(fact.roles["o"])
            found.append(
                Asked(code, fact, speaks.fact_question(fact, 0.0, True), said, chosen, right, not fact.held_out)
            )
    chance.shuffle(found)
    return found[:count]


def windows(model: Transformer, case: Case, asked: Sequence[Question], chat: bool) -> list[Window]:
    """The candidates of each question in turn: as a reply to a message, or as what goes on behind the question."""
    if not chat:
        pairs = [(CONTEXT.format(question=one.question), said) for one in asked for said in one.candidates]
        return after(model, case.tokenizer, pairs)
    prompts = [[{"role": "user", "content": one.question}] for one in asked]
    found = []
    for one, prompt in zip(asked, case.tokenizer.chat_batch(prompts, add_generation_prompt=True)):
        answers = case.tokenizer.encode_batch(list(one.candidates))
        found += [Window([*prompt.ids, *ids], len(prompt.ids)) for ids in answers]
    return found


def likelihoods(model: Transformer, ready: Sequence[Window], case: Case, candidates: int = CANDIDATES) -> Array:
    """log p of each candidate: (questions, candidates)."""
    with case.watch.counting("candidates read", len(ready)) as each:
        found = score(model, ready, each=each)
    return np.array([one.logprob for one in found]).reshape(-1, candidates)


def told(model: Transformer, case: Case, asked: Sequence[Asked]) -> list[Window]:
    """The candidates in the sentence that tells the fact, as pretraining has it."""
    pairs = []
    for one in asked:
        speaks = language(one.code)
        template = speaks.told[one.fact.relation][0]
        place = next(number for number, (_, role, _) in enumerate(template) if role == "o")
        start = (*template[:place], (template[place][0], "", ""))
        for each in one.answers:
            roles = {**one.fact.roles, "o": each}
            context = capital(filled(start, roles, speaks.index))
            pairs.append((context, filled(template, roles, speaks.index)[len(context) :]))
    return after(model, case.tokenizer, pairs)


def majority(asked: Sequence[Asked]) -> Array:
    """Whether the right answer is the candidate that most facts of the relation have, ties in shares: (questions,)."""
    counts = Counter((fact.relation, fact.roles["o"].key) for fact in facts())
    found = []
    for one in asked:
        often = [counts[one.fact.relation, each.key] for each in one.answers]
        found.append((often[one.right] == max(often)) / often.count(max(often)))
    return np.array(found)


def measure(case: Case) -> Finding:
    """The share of facts whose right answer is the likeliest of four, with what guesses and fresh weights reach, and
    with parts of the model skipped."""
    model = case.model
    check_speaks(model)
    asked = questions(case, case.scaled(400, 8))
    right = np.array([one.right for one in asked])
    rows = np.arange(len(asked))
    ways = {chat: windows(model, case, asked, chat) for chat in ([False, True] if chats(case) else [False])}
    found = {chat: likelihoods(model, ready, case) for chat, ready in ways.items()}
    # the way of asking in which the right answers are likelier; it is not chosen by what is measured
    chat = max(found, key=lambda way: float(found[way][rows, right].mean()))
    fresh = Transformer(model.config, seed=case.seed).to(model.device, model.dtype).eval()
    guesses = likelihoods(fresh, ways[chat], case)
    hits = (found[chat].argmax(1) == right).astype(float)
    as_told = (likelihoods(model, told(model, case, asked), case).argmax(1) == right).astype(float)
    bars = {
        "majority": majority(asked), "random": np.full(len(asked), 1 / CANDIDATES),
        "fresh weights": (guesses.argmax(1) == right).astype(float),
    }  # fmt: skip
    chance = max(mean(values) for values in bars.values())
    sure = interval(hits, case.seed)
    taught = np.array([one.taught for one in asked])
    groups = {"asked in training": hits[taught], "only told in training": hits[~taught], "all": hits}
    shown = {name: values for name, values in {**groups, TOLD: as_told, **bars}.items() if len(values)}
    ends = [interval(values, case.seed) for values in shown.values()]
    some = [place for place in range(len(asked)) if hits[place]][: case.scaled(96, 8)]
    parts, lost = _parts(case, [asked[place] for place in some], chat) if some else ({}, Words("", ""))
    accuracy = {name: mean(values) for name, values in shown.items()}
    parted = "; ".join(f"{name}: {mean(values):.0%} of {len(values)}" for name, values in groups.items() if len(values))
    parted_zh = "；".join(
        f"{ZH[name]}：{len(values)} 个中 {mean(values):.0%}" for name, values in groups.items() if len(values)
    )
    figures: list[Figure] = [
        Bars(
            Words("Share of facts answered rightly", "回答正确的事实比例"), worded(shown, ZH),
            {Words("share", "比例"): list(accuracy.values())},
            low=[low for low, _ in ends], high=[high for _, high in ends],
        )
    ]  # fmt: skip
    if parts:
        figures.append(
            Lines(
                Words("Still right with a part skipped, of what was right", "跳过某部分后仍答对的比例（原本答对的）"),
                parts["layers"], curves_of({name: parts[name] for name in ("attention", "feed_forward")}, ZH),
                Words("first layer skipped", "被跳过的第一层"), Words("share", "比例"),
            )
        )  # fmt: skip
    return Finding(
        against(sure, chance), mean(hits), interval=sure, chance=chance, count=len(asked),
        found=Words(
            f"Asked without any story in words that training does not have, the right answer of {CANDIDATES} is the "
            f"likeliest for {mean(hits):.0%} of the facts {span(sure)} ({parted}). In the sentence that told the fact "
            "in "
            f"training it is for {mean(as_told):.0%}. Guessing gives: the most frequent answer "
            f"{accuracy['majority']:.0%}, at random {accuracy['random']:.0%}, the same model with fresh weights "
            f"{accuracy['fresh weights']:.0%}.{lost.en}",
            f"不给任何故事、用训练中没有的问法提问时，{CANDIDATES} 个候选中正确答案最可能的比例为 {mean(hits):.0%} "
            f"{span(sure)}（{parted_zh}）。放在训练时讲述该事实的句子里，则为 {mean(as_told):.0%}。对照：最常见答案 "
            f"{accuracy['majority']:.0%}，随机 {accuracy['random']:.0%}，"
            f"同一模型换成未训练的权重 {accuracy['fresh weights']:.0%}。{lost.zh}",
        ),
        how=Words(
            "The fixed facts of the world (who makes a product, in which field a technology is used, where an animal "
            "lives). Candidates are answers of the same kind; the one of the largest log-probability counts. Asked as "
            + ("a message" if chat else "a text")
            + ", whichever makes right answers likelier. What holds them is seen by skipping the attention or the "
            "feed-forward layers of some neighbouring blocks.",
            "世界的固定事实（产品由谁制造、技术属于哪个领域、动物住在哪里）。候选为同类答案，取对数概率最大者。以"
            + ("对话消息" if chat else "普通文本")
            + "的形式提问（取使正确答案更可能的一种）。跳过若干相邻层的注意力或前馈部分，可以看出知识由哪部分承载。",
        ),
        figures=figures, data={"accuracy": accuracy, "chat": chat, "parts": parts},
    )  # fmt: skip


def _parts(case: Case, asked: Sequence[Asked], chat: bool) -> tuple[dict[str, list[float]], Words]:
    """Of facts that were answered rightly, the share that still is with each group of layers' attention, or
    feed-forward layers, skipped."""
    model, layers = case.model, case.model.config.layers
    ready, right = windows(model, case, asked, chat), np.array([one.right for one in asked])
    size = -(-layers // GROUPS)
    starts = list(range(0, layers, size))
    names: tuple[Part, ...] = ("attention", "feed_forward")
    kept: dict[str, list[float]] = {"layers": [float(start) for start in starts]}
    for name in names:
        kept[name] = []
        for start in starts:
            with skipped(model, [(layer, name) for layer in range(start, min(layers, start + size))]):
                kept[name].append(mean(likelihoods(model, ready, case).argmax(1) == right))
    worst = {name: min(zip(kept[name], starts)) for name in names}
    block = "a layer" if size == 1 else f"{size} layers"
    return kept, Words(
        f" Of those answered rightly, skipping the feed-forward part of {block} leaves {worst['feed_forward'][0]:.0%} "
        "at "
        f"worst (layer {worst['feed_forward'][1]}), skipping attention {worst['attention'][0]:.0%} (layer "
        f"{worst['attention'][1]}); on average {mean(kept['feed_forward']):.0%} and {mean(kept['attention']):.0%}.",
        f"在原本答对的事实中，跳过 {size} 层的前馈部分后最少剩 {worst['feed_forward'][0]:.0%}"
        f"（第 {worst['feed_forward'][1]} 层），跳过注意力最少剩 {worst['attention'][0]:.0%}"
        f"（第 {worst['attention'][1]} 层）；平均分别为 {mean(kept['feed_forward']):.0%} 与 "
        f"{mean(kept['attention']):.0%}。",
    )


def chats(case: Case) -> bool:
    """Whether messages can be put to the model at all."""
    return not case.model.config.encoder_layers and case.tokenizer.template is not None


TOLD = "in the words of training"
ZH = {
    "asked in training": "训练中问过", "only told in training": "训练中只讲过", "all": "全部", TOLD: "训练时的原句",
    "majority": "最常见答案", "random": "随机", "fresh weights": "未训练的权重", "attention": "注意力",
    "feed_forward": "前馈",
}  # fmt: skip
KNOWLEDGE = Claim(
    "knowledge",
    title=Words("Knowledge sits in the weights", "知识存放在权重中"),
    unit=Words("of the facts are known", "的事实被记住"),
    said=Words(
        "By pretraining a model learns grammar, meaning, logic and knowledge of the world.",
        "模型在预训练中学到语法、词义、推理，以及关于世界的知识。",
    ),
    rule=Words(
        "Holds where facts of the world that no prompt tells are known, the 95 % interval of the share above the best "
        "of "
        "three guesses: the most frequent answer, one at random, and the same model with fresh weights; fails where it "
        "lies at or below.",
        "若模型知道提示中没有讲过的世界事实，且答对比例的 95% 区间高于三种猜测（最常见答案、随机、未训练权重的同一模型"
        "）"
        "中最好的一个，则成立；若区间不高于它，则不成立。",
    ),
    measure=measure,
)
