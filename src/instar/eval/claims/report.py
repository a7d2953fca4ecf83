"""Verdicts as JSON, and as a page in English and one in Chinese."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from ...config import InputError
from ...hub.files import write_whole
from ...probe.draw.canvas import style
from ...probe.draw.page import SCOPE, drawing
from ...probe.draw.record import finite
from ...probe.panel import Words
from ...text.page import render
from .verdict import Case, Verdict

JSON, PAGES = "claims.json", {"en": "claims.html", "zh": "claims.zh.html"}
OUTCOMES = {
    "holds": Words("holds", "成立"), "fails": Words("does not hold", "不成立"), "unclear": Words("unclear", "不明确"),
}  # fmt: skip
SAID = {
    "title": Words("Claims", "论断检验"),
    "of": Words("What the textbook says, measured on this model", "教科书的说法，在这个模型上的测量"),
    "textbook": Words("The textbook", "教科书"), "rule": Words("When it holds", "判定规则"),
    "how": Words("How it was measured", "测量方法"), "chance": Words("chance", "随机水平"),
    "sure": Words("95 % interval", "95% 区间"), "count": Words("texts", "样本数"),
    "other": Words("中文", "English"), "numbers": Words("Numbers", "数值"), "checks": Words("Checks", "检验"),
    "foot": Words(
        "Rules are the same for every model; intervals are bootstraps over texts, 2,000 resamples. A "
        "verdict is of this model and these texts, and of no other.",
        "判定规则对每个模型相同；区间为对文本的自助法（bootstrap）重采样 2,000 次。结论只针对该模型和这些文本。",
    ),
    "none": Words("–", "–"),
}  # fmt: skip


def record(case: Case, name: str, verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """What a model is, and each verdict of it, as JSON knows it."""
    config = case.model.config
    about = {
        "model": name, "weights": case.model.size(), "layers": config.layers, "encoder_layers": config.encoder_layers,
        "width": config.d_model, "heads": config.heads, "vocabulary": config.vocab_size, "seed": case.seed,
        "limit": case.limit,
    }  # fmt: skip
    found: dict[str, Any] = finite(about | {"claims": [verdict.record() for verdict in verdicts]})
    return found


def write(out: str | Path, case: Case, name: str, verdicts: Sequence[Verdict]) -> list[Path]:
    """claims.json, claims.html and claims.zh.html in a folder, which is made. Raises InputError where it is a file."""
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; name a folder for the report")
    folder.mkdir(parents=True, exist_ok=True)
    texts = {JSON: json.dumps(record(case, name, verdicts), ensure_ascii=False, indent=1) + "\n"}
    texts |= {PAGES[language]: page(case, name, verdicts, language) for language in PAGES}
    for file, text in texts.items():
        write_whole(folder / file, lambda draft, text=text: draft.write_text(text, encoding="utf-8"))
    return [folder / file for file in texts]


def page(case: Case, name: str, verdicts: Sequence[Verdict], language: str = "en") -> str:
    """One page: a card for each claim."""
    config = case.model.config
    say = {key: words.of(language) for key, words in SAID.items()}
    counts = {outcome: sum(verdict.verdict == outcome for verdict in verdicts) for outcome in OUTCOMES}
    return render(
        "eval/claims/claims.html.jinja", spoken=language, say=say, name=name, style=Markup(style(SCOPE)), scope=SCOPE,
        other=PAGES["en" if language == "zh" else "zh"], other_spoken="en" if language == "zh" else "zh",
        cards=[(words.of(language), counts[outcome], "") for outcome, words in OUTCOMES.items()],
        shape=Words(
            f"{case.model.size():,} weights, {config.layers} layers, {config.d_model} wide, {config.heads} heads",
            f"{case.model.size():,} 个参数，{config.layers} 层，宽 {config.d_model}，{config.heads} 个头",
        ).of(language),
        claims=[_shown(verdict, language) for verdict in verdicts],
    )  # fmt: skip


def _shown(verdict: Verdict, language: str) -> dict[str, Any]:
    words = {key: getattr(verdict, key).of(language) for key in ("title", "unit", "said", "rule", "found", "how")}
    ends = "" if verdict.interval is None else " – ".join(plain(end) for end in verdict.interval)
    beside = (("sure", ends), ("chance", plain(verdict.chance)), ("count", verdict.count or ""))
    return words | {
        "name": verdict.claim, "verdict": verdict.verdict, "outcome": OUTCOMES[verdict.verdict].of(language),
        "figure": plain(verdict.figure),
        "beside": [f"{SAID[key].of(language)} {value}" for key, value in beside if value != ""],
        "figures": [drawing(figure, language) for figure in verdict.figures],
    }  # fmt: skip


def plain(value: float | None) -> str:
    """A figure in three digits, or nothing. Example: 0.49512 -> 0.495, 31.47 -> 31.5"""
    if value is None:
        return ""
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
