"""What was seen of a text: the panels of the views that were asked for, and how they are kept and shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from ..adapt.lora import using
from ..config import InputError, ModelConfig, unknown
from ..config.options import InspectOptions, SamplingOptions
from ..infer.text import complete
from ..model.transformer import Transformer
from ..text.tokenizer import Tokenizer
from . import draw
from .compare import compare
from .look import Look
from .panel import Check, Panel
from .subject import Subject, read, read_ids, within
from .views import VIEWS

Pair = tuple[Transformer, Tokenizer | None]
ALL = "all"
BASE = "base"  # the model itself, with its adapters off
ENDINGS = {
    "text": ".txt", "json": ".json", "html": ".html", "svg": ".svg", "png": ".png", "safetensors": ".safetensors",
}  # fmt: skip
SINGLE = ("svg", "png")  # one picture a file
BINARY = ("png", "safetensors")
SAID = 24  # ids of an answer that nobody gave


@dataclass(frozen=True)
class Inspection:
    """What was seen. left_out: the views that do not apply to the model, and why."""

    panels: tuple[Panel, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)
    language: str = "en"

    @property
    def checks(self) -> list[tuple[str, Check]]:
        """(view, check) of all that was proven."""
        return [(panel.view, check) for panel in self.panels for check in panel.checks]

    @property
    def green(self) -> bool:
        """Whether every check is."""
        return all(panel.green for panel in self.panels)

    def record(self) -> dict[str, Any]:
        """All of it as JSON knows it."""
        panels = [draw.record(panel) for panel in self.panels]
        return {"green": self.green, "left_out": dict(self.left_out), "panels": panels}

    def written(self, format: str) -> str | bytes:
        """All of it as one file's content. Raises InputError for a format that there is not."""
        return draw.write(self.panels, format, self.language)

    def save(self, path: str | Path, format: str = "") -> list[Path]:
        """Write it, in a format or as the file's ending says, and give the files: of svg and png one for each picture,
        with a number before the ending where there are several. Raises InputError for an unknown ending."""
        path, kind = Path(path), format or format_of(path)
        drawn = draw.pictures(self.panels, kind, self.language) if kind in SINGLE else [self.written(kind)]
        if not drawn:
            raise InputError(f"found no picture to write as {kind}; wanted a view that has one")
        paths = [path] if len(drawn) == 1 else [numbered(path, number, len(drawn)) for number in range(len(drawn))]
        for one, content in zip(paths, drawn):
            draw.save(one, content)
        return paths

    def _repr_html_(self) -> str:
        return draw.html_of(self.panels, self.language)

    def __str__(self) -> str:
        return draw.text(self.panels, self.language).plain


def inspect(
    model: Transformer,
    tokenizer: Tokenizer | None,
    text: str | Sequence[int] = "",
    view: str | Sequence[str] = "attention",
    vs: Transformer | Pair | str | None = None,
    *,
    names: tuple[str, str] = ("this", "other"),
    **ask: Any,
) -> Inspection:
    """See inside a model: what it computes of a text, drawn, with the checks that prove it. In a notebook the result
    draws itself; `.save("page.html")`, `.panels`, `.checks` and `.record()` are for everything else.

    text: or ids, of a model whose tokenizer is not at hand. view: one or several of `VIEWS`, or "all", which takes
    those that apply. vs: another model to compare with, or "base": this one with its adapters off; names: what the two
    are called then. ask: the options of `instar inspect`, such as layer=2, head=1, target="...".

    Raises InputError for what cannot be asked of this model.

    Example: inspect(model, tokenizer, "Anna has a ball.", "lens", layer=2).save("lens.html")
    """
    known = {one.name for one in fields(InspectOptions)} - {"model", "text", "view", "vs"}
    for name in ask.keys() - known:
        raise unknown("option", name, known)
    ids = () if isinstance(text, str) else tuple(text)
    options = InspectOptions(text=text if isinstance(text, str) else "", **{"ids": ids} | ask)
    views = check_views((view,) if isinstance(view, str) else tuple(view), options)
    return look_at((model, tokenizer), options, views, _other(model, tokenizer, vs), names)


def _other(model: Transformer, tokenizer: Tokenizer | None, vs: Transformer | Pair | str | None) -> Pair | None:
    """What is compared with; the model itself stands for the one without its adapters. Raises InputError."""
    if not isinstance(vs, str):
        return (vs, tokenizer) if isinstance(vs, Transformer) else vs
    if vs != BASE:
        raise InputError(f"vs={vs!r}, wanted a model, a model with its tokenizer, or {BASE!r}")
    if not model.active:
        raise InputError("vs='base', and no adapter is on the model; wanted one kept apart, or another model")
    return model, tokenizer


def look_at(
    one: Pair,
    ask: InspectOptions,
    views: Sequence[str],
    other: Pair | None = None,
    names: tuple[str, str] = ("this", "other"),
    done: Callable[[int], None] = lambda more: None,
) -> Inspection:
    """`inspect` once everything is at hand. other: the same model means the one with its adapters off; done: called
    with 1 for each view of each model."""
    check_shape(one[0].config, ask)
    look = Look(subject_of(*one, ask), ask)
    panels, left_out = _panels(look, views, done)
    if other is None:
        return Inspection(tuple(panels.values()), left_out, ask.language)
    if look.subject.source and other[0].config.encoder_layers:
        ask = _same_words(look.subject, ask)
    try:
        check_shape(other[0].config, ask)
        with using(other[0]) if other[0] is one[0] else nullcontext():
            second, missing = _panels(Look(subject_of(*other, ask), ask), views, done)
    except InputError as error:
        raise InputError(f"{names[1]}: {error}") from None
    left_out |= {name: f"{names[1]}: {why}" for name, why in missing.items() if name not in left_out}
    both = [compare(panel, second[name], names) for name, panel in panels.items() if name in second]
    if not both:
        raise InputError(f"none of the views applies to both: {'; '.join(left_out.values())}")
    return Inspection(tuple(both), left_out, ask.language)


def _panels(look: Look, views: Sequence[str], done: Callable[[int], None]) -> tuple[dict[str, Panel], dict[str, str]]:
    """Those of the views; of `all` those that apply, and why the others do not."""
    everything = ALL in views
    _ = look.side, look.keys, look.layer, look.head, look.at  # what is wrong with all of them is told at once
    panels: dict[str, Panel] = {}
    left_out: dict[str, str] = {}
    for name in VIEWS if everything else views:
        try:
            panels[name] = VIEWS[name](look)
        except InputError as error:
            if not everything:
                raise
            left_out[name] = str(error)
        done(1)
    if not panels:
        raise InputError(f"no view applies: {'; '.join(left_out.values())}")
    return panels, left_out


def subject_of(model: Transformer, tokenizer: Tokenizer | None, ask: InspectOptions) -> Subject:
    """What is asked about, as this model reads it. Raises InputError."""
    if ask.ids:
        config = model.config
        if not config.encoder_layers and ask.target_ids:
            raise InputError("found target ids, and a model without an encoder; leave them out")
        if not config.encoder_layers:
            return read_ids(model, within("ids", ask.ids, config.vocab_size))
        source = within("ids", ask.ids, config.source_vocab_size or config.vocab_size)
        start = (config.start,) if config.start >= 0 else ()
        said = within("target_ids", ask.target_ids, config.vocab_size) or _answer(model, source, ask)
        return read_ids(model, (*start, *said), source)
    if tokenizer is None:
        raise InputError("found a text and no tokenizer; wanted ids, such as --ids 5 9 11")
    return read(model, tokenizer, ask.text, target=ask.target, chat=ask.chat)


def _answer(model: Transformer, source: Sequence[int], ask: InspectOptions) -> list[int]:
    """What the model says of a source, where nobody knows which token ends it but the one who asks."""
    rules = SamplingOptions(strategy="greedy", max_new_tokens=SAID, stop_ids=ask.sampling.stop_ids)
    (answer,) = complete(model, None, [list(source)], rules)
    return list(answer.ids)


def _same_words(subject: Subject, ask: InspectOptions) -> InspectOptions:
    """The question with the words that one model was seen with, so that the other is seen with them too."""
    if not ask.ids:
        return replace(ask, target=subject.text)
    said = [token.id for token in subject.tokens]
    return replace(ask, target_ids=tuple(said[1:] if subject.model.config.start >= 0 else said))


def check_views(views: Sequence[str], ask: InspectOptions | None = None) -> tuple[str, ...]:
    """Raises InputError for a view that there is not, and for a second text that none of them reads."""
    for name in views:
        if name != ALL and name not in VIEWS:
            raise unknown("view", name, [*VIEWS, ALL])
    if not views:
        raise InputError(f"found no view; wanted some of {', '.join(VIEWS)}, or {ALL}")
    if ask is not None and (ask.other or ask.other_ids) and not {"effects", ALL} & set(views):
        raise InputError(f"found another text, and the view {', '.join(views)}; only effects reads it")
    return tuple(dict.fromkeys(views))


def check_shape(config: ModelConfig, ask: InspectOptions) -> None:
    """Raises InputError for a layer or head that a model of this shape does not have. Costs no weights."""
    encodes = ask.side == "encoder" and config.encoder_layers > 0
    layers = config.encoder_layers if encodes else config.layers
    for name, number, count in (("layer", ask.layer, layers), ("head", ask.head, config.heads)):
        if not -1 <= number < count:
            what = "the last" if name == "layer" else "the mean of all"
            raise InputError(f"{name}={number}, wanted 0 to {count - 1}, or -1 for {what}")


def format_of(path: str | Path) -> str:
    """By the ending of a file. Raises InputError for another one."""
    ending = Path(path).suffix.lower()
    for format, known in ENDINGS.items():
        if ending == known:
            return format
    found = f"the ending {ending}" if ending else "no ending"
    raise InputError(f"{path} has {found}, wanted one of {', '.join(ENDINGS.values())}, or a format")


def numbered(path: Path, number: int, count: int) -> Path:
    """Example: a.svg, the third of twelve -> a-03.svg"""
    return path.with_name(f"{path.stem}-{number + 1:0{len(str(count))}d}{path.suffix}")
