"""What was seen of a text: the panels of the views that were asked for, and how they are kept and shown."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from ..adapt.lora import using
from ..config import InputError, ModelConfig, unknown
from ..config.options import InspectOptions, SamplingOptions
from ..config.strict import from_dict
from ..infer.text import complete
from ..model.transformer import Transformer
from ..text.tokenizer import Tokenizer
from . import draw
from .checks import all_checks
from .compare import compare
from .heading import heading_of
from .look import Look
from .panel import NOWHERE, Check, Heading, Panel, Words, why_not
from .subject import Subject, read, read_ids, within
from .views import VIEWS
from .views.attention import told as tokens_told

Pair = tuple[Transformer, Tokenizer | None]
ALL = "all"
THIS = "this"  # a model that nobody named
BASE = "base"  # the model itself, with its adapters off
ENDINGS = {
    "text": ".txt", "json": ".json", "html": ".html", "svg": ".svg", "png": ".png", "safetensors": ".safetensors",
}  # fmt: skip
SINGLE = ("svg", "png")  # one picture a file
BINARY = ("png", "safetensors")
PROOF = "proof"  # the panel of what is proven of the model as a whole, where checks are asked for
WHOLE = Words("The whole pass, proven", "对整个前向计算的验证")
SAID = 24  # ids of an answer that nobody gave


@dataclass(frozen=True)
class Inspection:
    """What was seen. heading: of what."""

    panels: tuple[Panel, ...]
    heading: Heading = NOWHERE
    language: str = "en"

    @property
    def left_out(self) -> Mapping[str, Words]:
        """The views that do not apply to the model, and why."""
        return self.heading.left_out

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
        return draw.whole(self.panels, self.heading)

    def written(self, format: str) -> str | bytes:
        """All of it as one file's content. Raises InputError for a format that there is not."""
        return draw.write(self.panels, format, self.language, heading=self.heading)

    def save(self, path: str | Path, format: str = "", say: Callable[[str], None] = warnings.warn) -> list[Path]:
        """Write it, in a format or as the file's ending says, and give the files: of svg and png one for each picture,
        with a number before the ending where there are several. say: is told which pictures cannot be drawn here.
        Raises InputError for an ending that is unknown, or of another format."""
        path, kind = Path(path), format_for(path, format)
        drawn = (
            draw.pictures(self.panels, kind, self.language, self.heading) if kind in SINGLE else [self.written(kind)]
        )
        if not drawn:
            raise InputError(f"found no picture to write as {kind}; wanted a view that has one")
        if missing := [figure.title.of(self.language) for figure in draw.undrawn(self.panels, kind)]:
            remedy = 'pip install "instar[plot]", or take svg or html'
            say(f"not drawn, as matplotlib is missing ({remedy}): {'; '.join(missing)}")
        paths = [path] if len(drawn) == 1 else [numbered(path, number, len(drawn)) for number in range(len(drawn))]
        for one, content in zip(paths, drawn):
            draw.save(one, content)
        return paths

    def _repr_html_(self) -> str:
        return draw.html_of(self.panels, self.language, self.heading)

    def __str__(self) -> str:
        return draw.text(self.panels, self.language).plain


def inspect(
    model: Transformer,
    tokenizer: Tokenizer | None,
    text: str | Sequence[int] = "",
    view: str | Sequence[str] = "attention",
    vs: Transformer | Pair | str | None = None,
    *,
    names: tuple[str, str] = (THIS, "other"),
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
    options = _options(text, ask)
    several: Sequence[Any] = view if isinstance(view, list | tuple) else [view]
    views = check_views(several, options)
    return look_at((model, tokenizer), options, views, _other(model, tokenizer, vs), names)


def _options(text: Any, ask: dict[str, Any]) -> InspectOptions:
    """The options as flags would say them. Raises InputError for a name, a value or a type that there is not."""
    known = {one.name for one in fields(InspectOptions)} - {"model", "text", "view", "vs"}
    for name in ask.keys() - known:
        raise unknown("option", name, known)
    said = {name: _plain(value) for name, value in ask.items()}
    text = _plain(text)
    said |= {"text": text} if isinstance(text, str) else {"ids": text}
    sampling = said.pop("sampling", None)
    if isinstance(sampling, Mapping):
        said["sampling"], sampling = sampling, None
    if not isinstance(sampling, SamplingOptions | None):
        raise InputError(f"sampling: found {type(sampling).__name__}, wanted SamplingOptions")
    base = InspectOptions() if sampling is None else InspectOptions(sampling=sampling)
    return from_dict(InspectOptions, said, base=base)


def _plain(value: Any) -> Any:
    """Numbers of numpy and torch as Python's own."""
    value = value.tolist() if hasattr(value, "tolist") else value
    return [_plain(one) for one in value] if isinstance(value, tuple | list | range) else value


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
    names: tuple[str, str] = (THIS, "other"),
    done: Callable[[int], None] = lambda more: None,
) -> Inspection:
    """`inspect` once everything is at hand. other: the same model means the one with its adapters off; done: called
    with 1 for each view of each model."""
    look = look_of(one, ask)
    beside = None
    if other is not None:
        with _named(names[1]):
            beside = beside_of(look, other)
    return seen(look, views, beside, names, done)


def look_of(one: Pair, ask: InspectOptions) -> Look:
    """What is asked of one model, before anything is computed. Raises InputError for what cannot be."""
    check_numbers(ask)
    check_shape(one[0].config, ask)
    return Look(subject_of(*one, ask), ask)


def beside_of(look: Look, other: Pair) -> Look:
    """The same question to another model, of the same words; the same model means the one with its adapters off. Raises
    InputError."""
    model, ask = other[0], look.ask
    if look.subject.source and model.config.encoder_layers:
        ask = _same_words(look.subject, ask)
    check_shape(model.config, ask)
    with _bare(model, look):
        return Look(subject_of(*other, ask), ask)


def seen(
    look: Look,
    views: Sequence[str],
    beside: Look | None = None,
    names: tuple[str, str] = (THIS, "other"),
    done: Callable[[int], None] = lambda more: None,
    told: Callable[[Look, Panel], Panel] = lambda look, panel: panel,
) -> Inspection:
    """These views of a look, `proof` among them, by its pass, and held against another where there is one. told: what
    is told of a panel, where whoever asks knows more of the model than the view does."""
    panels, left_out = _panels(look, views, done, told)
    name = "" if names[0] == THIS else names[0]
    if beside is None:
        heading = heading_of(look.subject, look.ask, left_out, name)
        return Inspection(tuple(panels.values()), heading, look.ask.language)
    with _named(names[1]), _bare(beside.subject.model, look):
        second, missing = _panels(beside, views, done, told)
    left_out |= {
        view: Words(f"{names[1]}: {why.en}", f"{names[1]}：{why.zh}")
        for view, why in missing.items() if view not in left_out
    }  # fmt: skip
    source = [[(token.id, token.piece) for token in each.subject.source] for each in (look, beside)]
    both = [
        compare(panel, second[view], names, same_source=source[0] == source[1])
        for view, panel in panels.items() if view in second
    ]  # fmt: skip
    if not both:
        raise InputError(f"none of the views applies to both: {'; '.join(why.en for why in left_out.values())}")
    return Inspection(tuple(both), heading_of(look.subject, beside.ask, left_out, *names), beside.ask.language)


@contextmanager
def _named(name: str) -> Iterator[None]:
    """What is wrong is wrong with this model."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{name}: {error}") from None


def _bare(model: Transformer, look: Look) -> AbstractContextManager[None]:
    """The model of a look beside itself is the one with its adapters off."""
    return using(model) if model is look.subject.model else nullcontext()


def _panels(
    look: Look, views: Sequence[str], done: Callable[[int], None], told: Callable[[Look, Panel], Panel]
) -> tuple[dict[str, Panel], dict[str, Words]]:
    """Those of the views; of `all` those that apply, and why the others do not."""
    everything = ALL in views
    _ = look.side, look.keys, look.layer, look.head, look.at  # what is wrong with all of them is told at once
    panels: dict[str, Panel] = {}
    left_out: dict[str, Words] = {}
    for name in VIEWS if everything else views:
        try:
            panels[name] = told(look, proof(look) if name == PROOF else VIEWS[name](look))
        except InputError as error:
            if not everything:
                raise
            left_out[name] = why_not(error)
        done(1)
    if not panels:
        raise InputError(f"no view applies: {'; '.join(why.en for why in left_out.values())}")
    if look.ask.check:
        panels[PROOF] = told(look, proof(look))
    return panels, left_out


def proof(look: Look) -> Panel:
    """What is proven of the whole pass, over all layers, heads and stacks."""
    return Panel(PROOF, WHOLE, {"tokens": tokens_told(look.subject.tokens)}, checks=all_checks(look))


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
            raise unknown("view", str(name), [*VIEWS, ALL])
    if not views:
        raise InputError(f"found no view; wanted some of {', '.join(VIEWS)}, or {ALL}")
    if ask is not None and (ask.other or ask.other_ids) and not {"effects", ALL} & set(views):
        raise InputError(f"found another text, and the view {', '.join(views)}; only effects reads it")
    if ask is not None and ask.entities and not {"heads", ALL} & set(views):
        raise InputError(f"found entities, and the view {', '.join(views)}; only heads measures them")
    return tuple(dict.fromkeys(views))


def check_numbers(ask: InspectOptions) -> None:
    """Raises InputError for a count that shows nothing, whatever view it is for."""
    if ask.top < 1:
        raise InputError(f"top={ask.top}, wanted at least 1 token")


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


def format_for(path: str | Path, format: str = "") -> str:
    """The format of a file, which is asked for or said by its ending. Raises InputError where the two contradict."""
    meant = next((name for name, ending in ENDINGS.items() if Path(path).suffix.lower() == ending), None)
    if format and meant and meant != format:
        raise InputError(f"{path} has the ending of {meant}, and the format is {format}; leave one of them out")
    return format or format_of(path)


def numbered(path: Path, number: int, count: int) -> Path:
    """Example: a.svg, the third of twelve -> a-03.svg"""
    return path.with_name(f"{path.stem}-{number + 1:0{len(str(count))}d}{path.suffix}")
