"""Linear probes: what can be read off the residual stream, layer by layer, by a plane between classes.

A probe shows that something can be read there, not that the model uses it. How much of it the probe has merely learnt
by heart is shown by a control task, in which each kind of word has a label that was drawn for it (Hewitt and Liang
2019): selectivity is accuracy less the accuracy of the control.

Letters: N examples, D model, C classes, R rows of the stream, layers + 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..config import InputError
from ..infer.reader import resting
from ..model.transformer import Transformer
from .capture import watching

PENALTY = 1e-2  # on the squared weights of standardised features, beside the mean loss
STEPS = 100  # of L-BFGS at most; it is done well before
RESAMPLES = 1000  # of a bootstrap
ALPHA = 0.05  # intervals hold 95 %


class Example(NamedTuple):
    """A text's ids, the place whose state is read, what is to be read there, and the group, a text or a word: no group
    is trained on and tested on. kind: what the control task knows the example by; empty is the token at the place."""

    ids: Sequence[int]
    place: int
    label: str
    group: Hashable
    kind: Hashable = ""


@dataclass(frozen=True)
class Probe:
    """weight (C, D) and bias (C,) over features less `mean` and divided by `scale`, both (D,). slope: the largest
    derivative of the loss at them, 0 at its minimum."""

    mean: Tensor
    scale: Tensor
    weight: Tensor
    bias: Tensor
    slope: float = 0.0

    def __call__(self, features: Tensor) -> Tensor:
        """features (N, D) -> logits (N, C)."""
        return F.linear((features.double() - self.mean) / self.scale, self.weight, self.bias)

    def right(self, features: Tensor, labels: Tensor) -> Tensor:
        """features (N, D), labels (N,) -> whether each is told (N,)."""
        return self(features).argmax(-1) == labels


def fit(features: Tensor, labels: Tensor, classes: int = 0, penalty: float = PENALTY) -> Probe:
    """Multinomial logistic regression of labels (N,), 0 to classes - 1, on features (N, D), each standardised: the mean
    cross entropy and penalty / 2 times the squared weights, by L-BFGS from zero in fp64. It has one minimum, so the
    same data give the same probe; nothing is drawn.

    Raises InputError where there are no examples, or fewer than two classes.
    """
    classes = classes or (int(labels.max()) + 1 if len(labels) else 0)
    if not len(features) or classes < 2:
        raise InputError(f"found {len(features)} examples of {classes} classes; a probe wants some of at least 2")
    x = features.detach().cpu().double()
    mean, scale = x.mean(0), x.std(0, correction=0)
    # of a channel that never changes nothing can be read
    scale = torch.where(scale > 1e-12 * x.abs().amax(0).clamp(min=1e-30), scale, torch.inf)
    x, labels = (x - mean) / scale, labels.cpu()
    with torch.enable_grad():
        weight = torch.zeros(classes, x.shape[1], dtype=x.dtype, requires_grad=True)
        bias = torch.zeros(classes, dtype=x.dtype, requires_grad=True)
        search = torch.optim.LBFGS(
            [weight, bias], max_iter=STEPS, tolerance_grad=1e-5, tolerance_change=1e-9, line_search_fn="strong_wolfe"
        )

        def loss() -> Tensor:
            search.zero_grad()
            found = F.cross_entropy(F.linear(x, weight, bias), labels) + penalty / 2 * weight.square().sum()
            found.backward()
            return found

        search.step(loss)
        loss()
    slope = max(float(x.grad.abs().max()) for x in (weight, bias) if x.grad is not None)
    return Probe(mean, scale, weight.detach(), bias.detach(), slope)


def held_out(groups: Sequence[Hashable], share: float = 0.3, seed: int = 0) -> np.ndarray:
    """(N,), True for what is tested: whole groups, drawn until they hold that share of the examples, none that would
    make it more; where every group is larger than that, the smallest.

    Raises InputError where there are fewer than two groups, and nothing would be left on one side.
    """
    known = list(dict.fromkeys(groups))
    if len(known) < 2:
        raise InputError(
            f"all {len(groups)} examples are of one group; a probe is tested on groups it was not trained on"
        )
    counts = dict.fromkeys(known, 0)
    for group in groups:
        counts[group] += 1
    tested: set[Hashable] = set()
    found = 0
    drawn = [known[number] for number in np.random.default_rng(seed).permutation(len(known))]
    for group in drawn:
        if found + counts[group] <= share * len(groups):
            tested.add(group)
            found += counts[group]
    tested = tested or {min(drawn, key=counts.__getitem__)}
    return np.array([group in tested for group in groups])


def control(kinds: Sequence[Hashable], labels: np.ndarray, seed: int = 0) -> np.ndarray:
    """Labels of a control task (N,): each kind of example has one that is drawn from the labels (N,) as they are
    spread, and keeps it wherever it stands."""
    known = {kind: number for number, kind in enumerate(dict.fromkeys(kinds))}
    drawn = np.random.default_rng(seed).choice(labels, len(known))
    return np.array([drawn[known[kind]] for kind in kinds], dtype=labels.dtype)


@dataclass(frozen=True)
class Probes:
    """A task at each row of the stream. right, guessed (R, N) over the tested examples: whether the probe, and that of
    the control task, told each, NaN of a task whose tested kinds were never trained on: labels drawn for them cannot be
    learnt; groups: theirs; majority: the share of their most frequent class, the most that the
    same answer to all could reach; classes: their names; taught: the groups of the examples trained
    on; fitted: the probe of each row."""

    right: np.ndarray
    guessed: np.ndarray
    groups: tuple[Hashable, ...]
    majority: float
    classes: tuple[str, ...]
    taught: tuple[Hashable, ...]
    fitted: tuple[Probe, ...] = ()

    @property
    def shared(self) -> set[Hashable]:
        """Groups that were trained on and tested on: none."""
        return set(self.groups) & set(self.taught)

    @property
    def accuracy(self) -> np.ndarray:
        """(R,)."""
        return self.right.mean(1)

    @property
    def control(self) -> np.ndarray:
        """(R,), of the control task; NaN where there is none."""
        return self.guessed.mean(1)

    @property
    def selectivity(self) -> np.ndarray:
        """(R,), accuracy less that of the control task; NaN where there is none."""
        return self.accuracy - self.control

    def interval(self, of: Callable[[Probes], np.ndarray | float], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """The ends of the 95 % interval of what `of` makes of probes, by drawing the tested groups anew. Not finite
        values, where nothing could be said, are left out.

        Example: probes.interval(lambda probes: probes.accuracy)
        """
        values = self.drawn(of, seed)
        if not np.isfinite(values).any():
            return np.full(values.shape[1:], math.nan), np.full(values.shape[1:], math.nan)
        low, high = np.nanquantile(np.where(np.isfinite(values), values, math.nan), [ALPHA / 2, 1 - ALPHA / 2], axis=0)
        return low, high

    def drawn(self, of: Callable[[Probes], np.ndarray | float], seed: int = 0) -> np.ndarray:
        """What `of` makes of probes whose tested groups are drawn anew, 1,000 times: (1000, ...)."""
        number = {group: n for n, group in enumerate(dict.fromkeys(self.groups))}
        places: list[list[int]] = [[] for _ in number]
        for place, group in enumerate(self.groups):
            places[number[group]].append(place)
        generator = np.random.default_rng(seed)
        found = []
        for _ in range(RESAMPLES):
            drawn = np.concatenate([places[n] for n in generator.integers(len(places), size=len(places))])
            again = replace(self, right=self.right[:, drawn], guessed=self.guessed[:, drawn])
            found.append(np.asarray(of(again), np.float64))
        return np.stack(found)

    def gravity(self) -> float:
        """Where the task is learnt: the centre of gravity of its accuracy over the rows, from the majority up."""
        return gravity(self.accuracy, self.majority)


def gravity(scores: Sequence[float] | np.ndarray, chance: float | None = None) -> float:
    """E = sum l g_l / sum g_l over the rows l, where g_l >= 0 is what row l adds to the best score so far (after Tenney
    et al. 2019, section 3.2, whose scores are of probes that see all rows up to l). Before row 0 the best is `chance`;
    None leaves row 0 out, as they do. NaN where nothing is added.

    Example: gravity([0.5, 0.5, 1.0, 1.0], 0.5) -> 2.0
    """
    scores = np.asarray(scores, np.float64)
    best = np.maximum.accumulate(np.concatenate(([scores[0] if chance is None else chance], scores)))
    gains = np.diff(best)
    return float((np.arange(len(scores)) * gains).sum() / gains.sum()) if gains.sum() > 0 else math.nan


def by_layer(
    model: Transformer,
    examples: Sequence[Example | tuple[Sequence[int], int, str, Hashable]],
    *,
    share: float = 0.3,
    seed: int = 0,
    penalty: float = PENALTY,
    states: Callable[[Transformer, Sequence[int]], Tensor] | None = None,
) -> Probes:
    """Train a probe and its control at each row of the stream, on whole groups, and test both on the others.

    share: of the examples that is tested. states: (model, ids) -> (R, T, D), what is probed; none takes `stream_of`.
    Raises InputError where there are fewer than two groups or classes, a place does not exist, or a text is too long.
    """
    all_of = [Example(*example) for example in examples]
    _split(all_of, share, seed)
    return by_row(features_of(model, all_of, states or stream_of), all_of, share=share, seed=seed, penalty=penalty)


def by_row(
    features: Tensor, examples: Sequence[Example], *, share: float = 0.3, seed: int = 0, penalty: float = PENALTY
) -> Probes:
    """The same of features (R, N, D) that are there already. Raises InputError as `by_layer` does."""
    classes, labels, tested = _split(examples, share, seed)
    kinds = [example.kind if example.kind != "" else int(example.ids[example.place]) for example in examples]
    fitted, right = _told(features, labels, tested, len(classes), penalty)
    guessed = np.full(right.shape, np.nan)
    # a kind that is tested alone has a label that nothing could have taught
    sides: tuple[set[Hashable], set[Hashable]] = (set(), set())
    for kind, is_tested in zip(kinds, tested.tolist()):
        sides[is_tested].add(kind)
    if sides[0] & sides[1]:
        _, guessed = _told(features, control(kinds, labels, seed), tested, len(classes), penalty)
    groups: tuple[list[Hashable], list[Hashable]] = ([], [])
    for example, is_tested in zip(examples, tested.tolist()):
        groups[is_tested].append(example.group)
    majority = float(np.bincount(labels[tested]).max() / tested.sum())
    return Probes(right, guessed, tuple(groups[1]), majority, classes, tuple(groups[0]), fitted)


def planted(features: Tensor, examples: Sequence[Example]) -> float:
    """How often a probe tells labels that were written into features (N, D) beside what is there: 1, or nothing that a
    probe says of them counts."""
    classes, labels, _ = _split(examples, 0.3, 0)
    told = F.one_hot(torch.from_numpy(labels), len(classes)).to(features)
    return float(by_row(torch.cat((features, told), -1)[None], examples).accuracy[0])


def _split(examples: Sequence[Example], share: float, seed: int) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """The classes, the label (N,) of each example, and which are tested (N,). Raises InputError as `by_layer` does."""
    if not examples:
        raise InputError("found no examples; a probe wants some of at least 2 classes")
    for example in examples:
        if not 0 <= example.place < len(example.ids):
            raise InputError(f"place={example.place} of a text of {len(example.ids)} tokens")
    classes = tuple(sorted({example.label for example in examples}))
    labels = np.array([classes.index(example.label) for example in examples])
    tested = held_out([example.group for example in examples], share, seed)
    if len(set(labels[~tested])) < 2:
        raise InputError(f"the {int((~tested).sum())} examples that are trained on have one class; wanted at least 2")
    return classes, labels, tested


def features_of(
    model: Transformer, examples: Sequence[Example], states: Callable[[Transformer, Sequence[int]], Tensor]
) -> Tensor:
    """(R, N, D): the states at the examples' places; each text is read once."""
    places: dict[tuple[int, ...], list[int]] = {}
    for number, example in enumerate(examples):
        places.setdefault(tuple(example.ids), []).append(number)
    found: list[Tensor] = [torch.empty(0)] * len(examples)
    for ids, numbers in places.items():
        rows = states(model, ids)
        for number in numbers:
            found[number] = rows[:, examples[number].place].to("cpu", torch.float32, copy=True)
    return torch.stack(found, 1)


@torch.no_grad()
def stream_of(model: Transformer, ids: Sequence[int]) -> Tensor:
    """The residual stream (R, T, D) of a text: what goes into each block and what comes out of the last; in the
    encoder of an encoder-decoder, which alone reads texts."""
    tokens = torch.tensor([list(ids)], device=model.device)
    with resting(model), watching(model) as sides:
        if model.encoder is None:
            model.hidden(tokens)
        else:
            model.encode(tokens)
    return torch.cat(sides[0].stream)


def _told(
    features: Tensor, labels: np.ndarray, tested: np.ndarray, classes: int, penalty: float
) -> tuple[tuple[Probe, ...], np.ndarray]:
    """A probe of each row, trained on what is not tested, and whether it tells the others (R, N tested)."""
    kept, rest, truth = (torch.from_numpy(x) for x in (~tested, tested, labels))
    fitted = tuple(fit(row[kept], truth[kept], classes, penalty) for row in features)
    right = [probe.right(row[rest], truth[rest]).numpy() for probe, row in zip(fitted, features)]
    return fitted, np.stack(right)
