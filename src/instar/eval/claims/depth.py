"""Residual connections and norms keep deep stacks trainable."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from ...config import InputError, ModelConfig
from ...model.transformer import Transformer
from ...probe.panel import Figure, Lines, Words
from .verdict import Case, Claim, Finding, against, curves_of, interval, mean, span, together

LAYERS, WIDTH, HEADS, CONTEXT = 24, 64, 4, 64
STEPS, RATES = 32, (3e-4, 1e-3, 3e-3)
BOTH, NO_NORM, NO_RESIDUAL, NEITHER = "both", "no norms", "no residuals", "neither"


def shapes(config: ModelConfig, rows: int) -> dict[str, ModelConfig]:
    """A thin stack of 24 layers of the parts that a model is made of, with residuals and norms, and without."""
    norm = config.norm if config.norm != "none" else "rms"
    residual = config.residual if config.residual not in ("none", "parallel") else "pre"

    def shape(residual: str, norm: str) -> ModelConfig:
        return ModelConfig(
            vocab_size=rows, d_model=WIDTH, layers=LAYERS, heads=HEADS, norm=norm, residual=residual, mlp=config.mlp,
            act=config.act, positions=config.positions, tied=False, max_positions=CONTEXT,
        )  # fmt: skip

    return {
        BOTH: shape(residual, norm), NO_NORM: shape(residual, "none"), NO_RESIDUAL: shape("none", norm),
        NEITHER: shape("none", "none"),
    }  # fmt: skip


def gradients(config: ModelConfig, texts: Sequence[Sequence[int]], seed: int) -> list[float]:
    """The norm of the gradient that each block of a new model is given by one batch, first block first."""
    model = Transformer(config, seed=seed).train()
    stream = [id for ids in texts for id in ids][: 4 * (CONTEXT + 1)]
    rows = torch.tensor(stream[: len(stream) // (CONTEXT + 1) * (CONTEXT + 1)]).view(-1, CONTEXT + 1)
    logits = model(rows[:, :-1])
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten()).backward()
    model.forget()
    norms = []
    for block in model.blocks:
        squares = [float(w.grad.square().sum()) for w in block.parameters() if w.grad is not None]
        norms.append(math.sqrt(math.fsum(squares)))
    return norms


def measure(case: Case) -> Finding:
    """How far four stacks get in a few steps, each at the best of three learning rates, and what gradient reaches
    their layers at the start. Raises InputError where nothing that trains is at hand."""
    if case.fit is None:
        raise InputError("nothing that trains is at hand; call instar eval --claims, or give the case a fit")
    texts, rows = _texts(case)
    steps = case.scaled(STEPS, 8)
    kinds = shapes(case.model.config, rows)
    norms = {name: gradients(config, texts, case.seed) for name, config in kinds.items()}
    losses: dict[str, dict[float, list[float]]] = {name: {} for name in kinds}
    with case.watch.counting("short trainings", 3 * len(RATES) + 1) as each:
        for name, config in kinds.items():
            for rate in RATES[1:2] if name == NEITHER else RATES:  # no verdict is of that
                found = case.fit(config, texts, steps, lr=rate, seed=case.seed)
                losses[name][rate] = _whole(found, steps, math.log(rows))
                each(1)
    late = steps - steps // 2
    best = {name: min(runs, key=lambda rate: mean(runs[rate][late:])) for name, runs in losses.items()}
    curves = {name: losses[name][rate] for name, rate in best.items()}
    ends = {name: np.array(curve[late:]) for name, curve in curves.items()}
    worse = {name: interval(ends[name] - ends[BOTH], case.seed) for name in (NO_NORM, NO_RESIDUAL)}
    nearest = min(worse, key=lambda name: float(np.mean(ends[name] - ends[BOTH])))
    figure = mean(ends[nearest] - ends[BOTH])
    reach = {name: found[0] / max(found) if max(found) > 0 else 0.0 for name, found in norms.items()}
    after = ", ".join(f"{ends[name].mean():.2f} ({name})" for name in curves)
    after_zh = "，".join(f"{ends[name].mean():.2f}（{ZH[name]}）" for name in curves)
    reached = ", ".join(f"{reach[name]:.1e} ({name})" for name in reach)
    reached_zh = "，".join(f"{reach[name]:.1e}（{ZH[name]}）" for name in reach)
    return Finding(
        together([against(found, 0.0) for found in worse.values()]), figure, interval=worse[nearest], chance=0.0,
        count=len(ends[BOTH]),
        found=Words(
            f"Mean loss over the last {steps // 2} of {steps} steps of {LAYERS} layers: {after}; guessing gives "
            f"{math.log(rows):.2f}. Taking away the less missed of the two costs {figure:.2f} nats "
            f"{span(worse[nearest])}. At the start the first layer is given this share of the largest gradient of any: "
            f"{reached}.",
            f"{LAYERS} 层堆叠训练 {steps} 步，后 {steps // 2} 步的平均损失：{after_zh}；随机猜测为 "
            f"{math.log(rows):.2f}。"
            f"两者中去掉影响较小的一个，损失上升 {figure:.2f} nats {span(worse[nearest])}。训练开始时，"
            f"第一层得到的梯度与各层中最大梯度之比：{reached_zh}。",
        ),
        how=Words(
            f"New stacks of {LAYERS} layers, {WIDTH} wide, of this model's parts, are trained for {steps} steps of 256 "
            f"tokens on the same batches at the learning rates {', '.join(f'{rate:g}' for rate in RATES)}, of which "
            "the "
            "best counts for each; what is worse than guessing counts as guessing. Weights are drawn as in all our "
            "trainings.",
            f"用本模型的部件新建 {LAYERS} 层、宽 {WIDTH} 的堆叠，在相同的批次上各训练 {steps} 步（每步 256 个词元），"
            f"学习率取 {'、'.join(f'{rate:g}' for rate in RATES)} 中对其最好的一个；比随机猜测更差的损失按随机猜测计。"
            "权重初始化与平常训练相同。",
        ),
        figures=_figures(curves, norms, steps),
        data={
            "steps": steps, "best": best, "losses": curves, "gradients": norms, "worse": worse,
            "guessing": math.log(rows),
        },
    )  # fmt: skip


def _texts(case: Case) -> tuple[list[list[int]], int]:
    """Stories, their tokens numbered anew from 0, and how many different ones there are: a large vocabulary would only
    cost time."""
    encoded = [case.tokenizer.document(text) for text in case.stories(case.scaled(160, 24))]
    numbers = {id: number for number, id in enumerate(sorted({id for ids in encoded for id in ids}))}
    return [[numbers[id] for id in ids] for ids in encoded], len(numbers)


def _whole(losses: list[float], steps: int, guessing: float) -> list[float]:
    """A loss for each step, none worse than a guess's: those of a run that diverged are such."""
    found = [loss if math.isfinite(loss) else guessing for loss in losses]
    return [min(loss, guessing) for loss in [*found, *[guessing] * (steps - len(found))]]


def _figures(curves: dict[str, list[float]], norms: dict[str, list[float]], steps: int) -> list[Figure]:
    logs = {
        name: [math.log10(norm) if 0 < norm < math.inf else math.nan for norm in found]
        for name, found in norms.items()
    }  # fmt: skip
    return [
        Lines(
            Words("Loss by step", "各步损失"), list(range(1, steps + 1)), curves_of(curves, ZH), Words("step", "步"),
            Words("loss, nats", "损失（nats）"), dots=False,
        ),
        Lines(
            Words("Gradient of each layer at the start", "训练开始时各层的梯度"), list(range(LAYERS)),
            curves_of(logs, ZH),
            Words("layer", "层"), Words("log10 of its norm", "范数的 log10"), dots=False,
        ),
    ]  # fmt: skip


ZH = {BOTH: "两者都有", NO_NORM: "无归一化", NO_RESIDUAL: "无残差", NEITHER: "两者皆无"}
DEPTH = Claim(
    "depth",
    title=Words("Residuals and norms keep deep stacks trainable", "残差与归一化让深层网络可训练"),
    unit=Words("nats lost without the one less missed", "nats，去掉其中影响较小者的损失"),
    said=Words(
        "Residual connections and normalisation are put into each block, to keep the training of deep networks stable.",
        "每一块里的残差连接和归一化，使很深的网络也能平稳地训练。",
    ),
    rule=Words(
        "Holds where, each at its best learning rate, a stack of 24 layers with both has a lower loss in the second "
        "half "
        "of a short training than without norms and than without residuals, both 95 % intervals over batches above 0; "
        "fails where one lies at or below 0.",
        "各取其最好的学习率，若 24 层堆叠在短训练的后半程，两者都有时的损失既低于无归一化、也低于无残差，"
        "且两个 95% 区间（按批次）都高于 0，则成立；若其中一个不高于 0，则不成立。",
    ),
    measure=measure,
)
