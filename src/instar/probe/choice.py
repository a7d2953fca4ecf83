"""How one token is chosen: the model's own distribution, what each rule leaves of it, the luck and where it falls.

Every distribution here comes of the engine's own rules (infer/sampling.py), which are given ever more of the options;
nothing is computed a second way.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from ..config.options import CONSTRAINTS, SamplingOptions
from ..infer.sampling import Rules, Said, draws, logprob
from .panel import Check, Words

# The rules in the order in which the engine applies them: name, for the eye, and the options that are its own.
SHAPING = (
    ("constraint", Words("constraint", "约束"), CONSTRAINTS),
    ("logit_bias", Words("logit bias", "logit 偏置"), ("logit_bias",)),
    ("penalties", Words("penalties", "重复惩罚"), ("repetition_penalty", "presence_penalty", "frequency_penalty")),
    ("no_repeat_ngram_size", Words("no repeated n-gram", "禁止重复 n 元组"), ("no_repeat_ngram_size",)),
    ("min_new_tokens", Words("shortest answer", "最短回答"), ("min_new_tokens",)),
)
DRAWING = (
    ("temperature", Words("temperature", "温度"), ("temperature",)),
    ("top_k", Words("top-k", "top-k"), ("top_k",)),
    ("top_p", Words("top-p", "top-p"), ("top_p",)),
    ("min_p", Words("min-p", "min-p"), ("min_p",)),
)
OWN = Words("model's own", "模型原始分布")
GREEDY = Words("greedy", "贪心")
MASS = 1e-6  # by how much sums of probabilities in fp32 may be off


class State(NamedTuple):
    """Where an answer stands: the ids of its prompt and of what it said, what ends it, what its constraint allows
    (V,) bool, and the number, uniform in [0, 1), by which it draws now."""

    prompt: Sequence[int]
    said: Sequence[int] = ()
    stops: Collection[int] = ()
    allowed: Tensor | None = None
    luck: float = 0.0


@dataclass(frozen=True)
class Stage:
    """One rule. setting: what it was told, for the eye, empty where it changes nothing; chances (V,) fp64: the
    distribution after it; mass: how much of the distribution before it stands on the tokens that it keeps."""

    name: str
    title: Words
    setting: str
    chances: Tensor
    mass: float = 1.0

    @property
    def kept(self) -> int:
        return int((self.chances > 0).sum())

    @property
    def entropy(self) -> float:
        """In nats."""
        return float(torch.special.entr(self.chances).sum())


class Figures(NamedTuple):
    """A stage without its distribution; p: after it, of the token that was chosen."""

    name: str
    title: Words
    setting: str
    kept: int
    mass: float
    entropy: float
    p: float


@dataclass(frozen=True)
class Chosen:
    """A choice in numbers, without the distributions: those over a large vocabulary, one a rule and token, fill a
    memory. top: the likeliest under the model, with their probability; checks: what was proven of it."""

    stages: tuple[Figures, ...]
    id: int
    luck: float | None
    low: float | None
    high: float | None
    logprob: float
    rank: int
    top: tuple[tuple[int, float], ...]
    checks: tuple[Check, ...]

    def stage(self, name: str) -> Figures | None:
        return next((stage for stage in self.stages if stage.name == name), None)


@dataclass(frozen=True)
class Choice:
    """A token and how it came about. logits (V,): the model's; luck, low and high: the number that was drawn and the
    share of the line, tokens in the order of their ids, that is the token's; None where nothing is drawn."""

    logits: Tensor
    stages: tuple[Stage, ...]
    id: int
    luck: float | None
    low: float | None
    high: float | None

    @property
    def logprob(self) -> float:
        """Under the model's own distribution, in nats, as the engine tells it."""
        return float(logprob(self.logits[None], torch.tensor([self.id], device=self.logits.device)))

    @property
    def rank(self) -> int:
        """1 for the token that the model finds likeliest."""
        return 1 + int((self.logits > self.logits[self.id]).sum())

    def numbers(self, count: int, p: float) -> Chosen:
        """What is told of it: `count` of the likeliest; p: the top-p that was asked for."""
        stages = tuple(
            Figures(one.name, one.title, one.setting, one.kept, one.mass, one.entropy, float(one.chances[self.id]))
            for one in self.stages
        )
        own = self.stages[0].chances
        best = own.topk(min(max(1, count), len(own)))
        top = tuple(zip(best.indices.tolist(), best.values.tolist()))
        checks = tuple(check for check in (adds_up(self), nucleus(self, p), falls(self)) if check is not None)
        return Chosen(stages, self.id, self.luck, self.low, self.high, self.logprob, self.rank, top, checks)

    def stage(self, name: str) -> Stage | None:
        return next((stage for stage in self.stages if stage.name == name), None)


@torch.inference_mode()
def choose(logits: Tensor, options: SamplingOptions, state: State) -> Choice:
    """logits (V,), with greedy or sample -> the token, and the distribution before and after each rule."""
    logits = logits.detach()
    rows, said = logits[None], None
    if Rules([options], rows).counting:
        said = Said(1, len(state.prompt) + len(state.said) + 1, len(logits), logits.device)
        said.begin(0, state.prompt, state.said)
    short = torch.tensor([len(state.said) < options.min_new_tokens], device=logits.device)
    allowed = None if state.allowed is None else state.allowed[None].to(logits.device)

    def shaped(heeded: SamplingOptions, holds: bool) -> tuple[Rules, Tensor]:
        rules = Rules([heeded], rows, [state.stops])
        wants = heeded.min_new_tokens > 0
        past = said if rules.counting else None
        return rules, rules.shape(rows, past, None, short if wants else None, allowed if holds else None)

    def chances(heeded: SamplingOptions, holds: bool) -> Tensor:
        rules, after = shaped(heeded, holds)
        weights = rules.weigh(after)[0, : len(logits)].double()
        return weights / weights.sum()

    heeded = SamplingOptions(strategy="sample", max_new_tokens=options.max_new_tokens)
    stages = [Stage("model", OWN, "", chances(heeded, False))]
    drawing = draws(options)
    for name, title, fields in (*SHAPING, *(DRAWING if drawing else ())):
        setting = _setting(options, fields)
        if not setting and name not in [rule for rule, *_ in DRAWING]:
            continue
        before = stages[-1].chances
        if setting:
            if name != "constraint":
                heeded = replace(heeded, **{field: getattr(options, field) for field in fields})
            after = chances(heeded, allowed is not None)
            stages.append(Stage(name, title, setting, after, float(before[after > 0].sum())))
        else:
            stages.append(Stage(name, title, "", before))
    rules, last = shaped(options, allowed is not None)
    luck = torch.tensor([state.luck], dtype=torch.float64)
    id = int(rules.choose(last, luck if rules.drawing else None))
    if not drawing:
        before = stages[-1].chances
        only = torch.zeros_like(before).index_fill_(0, torch.tensor(id, device=before.device), 1.0)
        stages.append(Stage("greedy", GREEDY, "argmax", only, float(before[id])))
        return Choice(logits, tuple(stages), id, None, None, None)
    line = stages[-1].chances.cumsum(0)
    return Choice(logits, tuple(stages), id, state.luck, float(line[id - 1]) if id else 0.0, float(line[id]))


def _setting(options: SamplingOptions, fields: Sequence[str]) -> str:
    """What is said of these options that is not neutral. Example: "0.8", "repetition 1.2, frequency 0.5"."""
    neutral = SamplingOptions()
    asked = {field: getattr(options, field) for field in fields if getattr(options, field) != getattr(neutral, field)}
    if fields == CONSTRAINTS:
        return ", ".join(name.replace("_", " ") for name in asked)
    if fields == ("logit_bias",):
        return ", ".join(f"{id}: {bias:+g}" for id, bias in options.logit_bias[:3]) + "…" * (
            len(options.logit_bias) > 3
        )
    if len(fields) == 1:
        return "".join(f"{value:g}" for value in asked.values())
    return ", ".join(f"{name.removesuffix('_penalty')} {value:g}" for name, value in asked.items())


def adds_up(choice: Choice) -> Check:
    """The log-probabilities that the engine tells of tokens are those of one distribution over all of them."""
    first = torch.zeros(1, dtype=torch.int64, device=choice.logits.device)
    told = (
        choice.logits - choice.logits[0] + logprob(choice.logits[None], first)
    )  # what is taken off is the same for all
    gap = abs(float(told.double().exp().sum()) - 1)
    return Check("probabilities", gap, 1e-5, Words("probabilities of all tokens add up to 1", "全部词元的概率之和为 1"))


def nucleus(choice: Choice, p: float) -> Check | None:
    """Top-p keeps the likeliest tokens whose probability reaches p, and none that could be spared (Holtzman et al.
    2020). None where it was not asked for."""
    stage = choice.stage("top_p")
    if stage is None or not stage.setting:
        return None
    before = choice.stages[choice.stages.index(stage) - 1].chances
    kept = stage.chances > 0
    least = before[kept].min()
    spared = before[~kept].max() if bool((~kept).any()) else before.new_tensor(0.0)
    over = before[before > least].sum()  # without the least likely of the set, and its equals
    gaps = (p - before[kept].sum(), over - p, spared - least)
    gap = max(0.0, *(float(gap) for gap in gaps))
    about = Words("the top-p set reaches p and is the smallest that does", "top-p 集合达到 p 且为最小")
    return Check("top_p", gap, MASS, about)


def falls(choice: Choice) -> Check | None:
    """The number that was drawn lies in the share of the token that was chosen. None where nothing is drawn."""
    if choice.luck is None or choice.low is None or choice.high is None:
        return None
    gap = max(0.0, choice.low - choice.luck, choice.luck - choice.high)
    return Check("luck", gap, MASS, Words("the number drawn falls into the token's share", "随机数落在该词元的区间内"))
