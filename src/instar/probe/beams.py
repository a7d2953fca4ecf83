"""The tree of a beam search, as the engine's own search grew it: what went on, what ended, what was given up."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch

from ..config import InputError
from ..config.options import BEAMING, InspectOptions, SamplingOptions
from ..infer.asking import check, unheeded
from ..infer.reader import resting
from ..infer.request import Considered, Hypothesis
from ..model.transformer import Transformer
from .panel import Words
from .subject import Subject
from .telling import begins, engine_for


@dataclass
class Node:
    """A token behind others. parent: number of the node before it, -1 at the beginning; logprob: in nats; total: the
    sum to here; score: the total over length ** length_penalty; state: kept (went on), pruned, done or best."""

    parent: int
    id: int
    depth: int
    logprob: float
    total: float
    score: float
    state: str


@dataclass
class Searched:
    """prompt, source: ids; nodes: a parent before its children; answers: best first, and `ends`: the node of each."""

    prompt: list[int]
    source: list[int]
    options: SamplingOptions
    nodes: list[Node] = field(default_factory=list)
    answers: list[Hypothesis] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)

    def path(self, number: int) -> list[int]:
        """The ids from the beginning to a node."""
        ids: list[int] = []
        while number >= 0:
            ids.append(self.nodes[number].id)
            number = self.nodes[number].parent
        return ids[::-1]


def searching(options: SamplingOptions) -> tuple[SamplingOptions, list[Words]]:
    """The same as a beam search, and what it does not heed of them. Raises InputError for a figure out of range."""
    # what `generate` draws by where nobody says otherwise was not asked for
    usual, plain = InspectOptions().sampling, SamplingOptions("beam")
    if options.strategy == "beam":
        unasked = [name for name in unheeded(options) if getattr(options, name) == getattr(usual, name)]
        options = replace(options, **{name: getattr(plain, name) for name in unasked})
        check(options)
        return options, []
    names = (*BEAMING, "min_new_tokens", "max_new_tokens")
    found = SamplingOptions("beam", **{name: getattr(options, name) for name in names})
    check(found)
    asked = {name: value for name, value in vars(options).items() if value != getattr(usual, name)}
    lost = unheeded(SamplingOptions(**{**asked, "strategy": "beam"}))
    if not lost:
        return found, []
    said = ", ".join(lost)
    return found, [Words(f"A beam search does not heed {said}.", f"束搜索不使用 {said}。")]


def search(subject: Subject, options: SamplingOptions, *, anew: bool = True) -> Searched:
    """Search with these options, and keep every candidate that was weighed. Raises InputError as `Engine.submit`
    does."""
    prompt, source = begins(subject, anew=anew)
    engine = engine_for(subject, prompt, source, options.max_new_tokens, options.beams)
    request = engine.submit(prompt, options, source=source, n=options.beams)
    found = Searched(request.prompt, request.source, options)
    live, depth = [-1] * options.beams, 0
    ended: dict[tuple[int, ...], int] = {}

    def hear(told: Considered) -> None:
        nonlocal live, depth
        depth += 1
        numbers = []
        for parent, id, logprob, total, ends in zip(told.parents, told.ids, told.logprobs, told.sums, told.ended):
            numbers.append(len(found.nodes))
            if total == -torch.inf:
                numbers[-1] = -1
                continue
            score = total / depth**options.length_penalty
            found.nodes.append(Node(live[parent], id, depth, logprob, total, score, "pruned"))
            if ends:
                path = tuple(found.path(numbers[-1]))
                ended[path] = numbers[-1]
        live = [numbers[place] for place in told.next]
        for number in live:
            if number >= 0:
                found.nodes[number].state = "kept"

    request.heard = hear
    engine.run()
    if request.error is not None:
        raise InputError(f"the search failed: {request.error}")
    found.answers = list(request.hypotheses)
    for place, answer in enumerate(found.answers):
        number = _end(found, ended, answer, request.stops)
        found.ends.append(number)
        found.nodes[number].state = "done" if place else "best"
    return found


def _end(found: Searched, ended: dict[tuple[int, ...], int], answer: Hypothesis, stops: frozenset[int]) -> int:
    """The node at which an answer ends: that of its stop, where one ended it."""
    ids = tuple(answer.ids)
    if answer.finish == "length":
        return ended[ids]
    tails = [number for stop in stops if (number := ended.get((*ids, stop))) is not None]
    return min(tails, key=lambda number: abs(found.nodes[number].score - answer.score))


@torch.no_grad()
def summed(model: Transformer, found: Searched, number: int) -> tuple[float, float]:
    """The sum of log-probabilities to a node, by one pass without a cache, and how large the logits are."""
    said = found.path(number)
    ids = torch.tensor([[*found.prompt, *said[:-1]]], device=model.device)
    source = torch.tensor([found.source], device=model.device) if found.source else None
    with resting(model):
        hidden = model.hidden(ids, source=source)
        logits = model.heads["lm"](hidden[0, len(found.prompt) - 1 :])
    chances = logits.log_softmax(-1).gather(-1, torch.tensor(said, device=logits.device)[:, None])
    return float(chances.double().sum()), float(logits.abs().max())
