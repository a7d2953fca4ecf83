"""What `instar eval --metric` can be, and how each is measured; the same from the command line and from a recipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from itertools import islice
from typing import Any, Protocol

from ..config import InputError
from ..config.options import EvalOptions

Report = dict[str, Any]
SHOWN = 20  # wrong answers that a report holds


class Watch(Protocol):
    """Who looks on: `say` hears what is to be told, `counting` shows how far a task is (what is counted, of how many if
    that is known) and gives what is to be called with how many more are done."""

    @property
    def say(self) -> Callable[[str], None]: ...
    @property
    def counting(self) -> Callable[[str, int | None], AbstractContextManager[Callable[[int], None]]]: ...


def measure(model: Any, tokenizer: Any, options: EvalOptions, watch: Watch) -> Report:
    """What `options.metric` says of a model; some figures by name, and what they were made of. Raises InputError."""
    if options.batch < 1 or options.limit < 0:
        raise InputError(f"batch={options.batch} and limit={options.limit}, wanted at least 1 and at least 0")
    if options.claims or options.out:
        raise InputError("claims and out are for instar eval --claims, and no part of a metric; leave them out")
    usual = EvalOptions()
    for name, metrics in HEEDED.items():
        if options.metric not in metrics and getattr(options, name) != getattr(usual, name):
            raise InputError(
                f"{name}={getattr(options, name)} with metric={options.metric}, which does not look at it; it is for "
                f"{', '.join(sorted(metrics))}; leave it out"
            )
    return METRICS[options.metric](watch, options, model, tokenizer)


# Options that only some metrics look at.
HEEDED = {
    "context": {"perplexity", "masked", "accuracy", "f1"},
    "between": {"choices", "cloze"},
    "source_key": {"bleu"},
    "target_key": {"bleu"},
    "bleu_tokenizer": {"bleu"},
    "sampling": {"bleu", "manner"},
    "reference": {"reward"},
}


def figures_of(report: Report) -> dict[str, float]:
    """The numbers of a report, without what they were made of."""
    return {name: value for name, value in report.items() if isinstance(value, int | float)}


def documents(options: EvalOptions) -> Iterator[Any]:
    """The documents that the options mean: all, or those that training held out."""
    from ..data.corpus import divide, read

    found = read(options.data)
    if options.split == "held-out":
        found = (document for document, held in divide(found, options.held_out) if held)
    return islice(found, options.limit or None)


def records(options: EvalOptions, how: Callable[[dict[str, Any]], Any], wanted: str) -> list[Any]:
    """Each record as `how` reads it. Raises InputError where there is none, or one of another shape by its place."""
    from ..data.corpus import read

    if options.split == "held-out":
        raise InputError(f"split=held-out with metric={options.metric}, whose data no training divides; leave it out")
    found = [document.read(how) for document in islice(read(options.data), options.limit or None)]
    if not found:
        raise no_records(options, wanted)
    return found


def no_records(options: EvalOptions, wanted: str) -> InputError:
    return InputError(f"{', '.join(options.data)}: no records; wanted {wanted}")


def perplexity(watch: Watch, options: EvalOptions, model: Any, tokenizer: Any) -> Report:
    """How surprised the model is by the documents, or by the share that pretraining held out."""
    from .perplexity import measure

    texts = (document.text for document in documents(options))
    rows = max(1, options.batch // 8)
    with watch.counting("documents read", options.limit or None) as each:
        return measure(model, tokenizer, texts, context=options.context, batch=rows, each=each).report()


def exact(watch: Watch, options: EvalOptions, model: Any, tokenizer: Any) -> Report:
    """Share of answers that are word for word the known ones, per language and kind where the records name them."""
    from .exact import ask, tally

    asking = [document.record for document in documents(options)]
    if not asking:
        raise no_records(options, "questions with their answers")
    with watch.counting("questions answered", len(asking)) as each:
        asked = ask(model, tokenizer, asking, batch=options.batch, each=each)
    groups = {group: tally(asked, group) for group in ("lang", "kind") if any(group in one.groups for one in asked)}
    wrong = [{"wanted": one.wanted, "answer": one.answer} for one in asked if not one.right][:SHOWN]
    return tally(asked, "")["all"] | {"groups": groups, "wrong": wrong}


def pairs(watch: Watch, options: EvalOptions, model: Any, tokenizer: Any) -> Report:
    """Share of minimal pairs whose good sentence is the likelier, per term, field and paradigm."""
    from .pairs import WANTED, judge, pair_of, report

    found = records(options, pair_of, WANTED)
    with watch.counting("sentences read", 2 * len(found)) as each:
        figures = report(judge(model, tokenizer, found, batch=options.batch, each=each))
    if same := round(figures["same"] * len(found)):
        watch.say(f"{same} of {len(found)} pairs are the same tokens twice, and count as wrong")
    return figures


def choices(watch: Watch, options: EvalOptions, model: Any, tokenizer: Any) -> Report:
    """Share of questions whose right choice is the likeliest, and the likeliest for its length."""
    from .choices import WANTED, choose, question_of, report

    found = records(options, partial(question_of, between=options.between), WANTED)
    with watch.counting("choices read", sum(len(one.pairs) for one in found)) as each:
        chosen, cut = choose(model, tokenizer, found, batch=options.batch, each=each)
    return report(chosen) | _cut(watch, cut, "contexts")


def cloze(watch: Watch, options: EvalOptions, model: Any, tokenizer: Any) -> Report:
    """Share of what is missing that is said to the letter, and its perplexity."""
    from .cloze import HOLE, NEXT, fill, hole_of, next_of, report

    masked = "masked" in model.heads
    reading, wanted = (hole_of, HOLE) if masked else (partial(next_of, between=options.between), NEXT)
    found = records(options, reading, wanted)
    with watch.counting("gaps read", len(found)) as each:
        filled, cut = fill(model, tokenizer, found, batch=options.batch, each=each)
    return report(found, filled) | _cut(watch, cut, "texts")


def masked(watch: Watch, options: EvalOptions, model: Any, tokenizer: Any) -> Report:
    """Share of hidden tokens that a masked model restores, and its surprise at them."""
    from .masked import hide, report, restore

    texts = (document.text for document in documents(options))
    hidden = hide(model, tokenizer, texts, context=options.context, seed=options.seed)
    with watch.counting("windows read", None) as each:
        return report(restore(model, hidden, batch=options.batch, each=each))


def classes(watch: Watch, options: EvalOptions, model: Any, tokenizer: Any) -> Report:
    """Share of texts or words whose class is said, and F1 of classes or of entities."""
    from ..data.corpus import read
    from .labels import classify, report

    whole = options.split == "all"
    found = islice(read(options.data), options.limit or None if whole else None)
    with watch.counting("texts read", options.limit or None) as each:
        said = classify(
            model, tokenizer, found, held_out=0.0 if whole else options.held_out, limit=options.limit,
            context=options.context, batch=options.batch, each=each,
        )  # fmt: skip
    figures = report(said)
    for name, what in (("empty", "texts were empty"), ("truncated", "texts were cut"), ("lost", "labels were lost")):
        if figures[name]:
            watch.say(f"{figures[name]} {what}")
    return figures


def bleu(watch: Watch, options: EvalOptions, model: Any, tokenizer: Any) -> Report:
    """BLEU and chrF of translations, and some of them beside their references."""
    from ..data.corpus import read
    from . import translation

    translation.sacrebleu()  # before the work whose figures it counts
    reading = partial(translation.reference_of, source_key=options.source_key, target_key=options.target_key)
    share = options.held_out if options.split == "held-out" else None
    kept = (one for one in (document.read(reading) for document in read(options.data)) if one.is_kept(share))
    found = list(islice(kept, options.limit or None))
    if not found:
        raise no_records(options, f'{{"{options.source_key}", "{options.target_key}"}}')
    sources = [reference.source for reference in found]
    with watch.counting("sentences translated", len(found)) as each:
        said = translation.translate(
            model, tokenizer, sources, options.sampling, batch=options.batch, seed=options.seed, each=each
        )
    shown = [{"source": r.source, "wanted": r.target, "said": text} for r, text in zip(found, said)][:SHOWN]
    return translation.bleu(said, found, options.bleu_tokenizer) | {"translations": shown}


def manner(watch: Watch, options: EvalOptions, model: Any, tokenizer: Any) -> Report:
    """Share of answers in a preferred manner, in each, and with the right answer; what `check` pays on average."""
    from .manner import WANTED, judge, report, shown

    asking = [document.record for document in documents(options)]
    if not asking:
        raise no_records(options, WANTED)
    with watch.counting("questions answered", len(asking)) as each:
        judged = judge(
            model, tokenizer, asking, options.sampling, batch=options.batch, seed=options.seed, each=each
        )  # fmt: skip
    return report(judged) | {"answers": shown(judged, SHOWN)}


def reward(watch: Watch, options: EvalOptions, model: Any, tokenizer: Any) -> Report:
    """Share of pairs whose better answer has the higher reward, said or implicit, per language, kind and aspect."""
    from ..adapt.folders import load
    from .reward import WANTED, compare, pair_of, report

    found = records(options, pair_of, WANTED)
    reference = None
    if options.reference:
        reference, theirs = load(options.reference, dtype=model.dtype, device=model.device)
        if theirs.fingerprint != tokenizer.fingerprint:
            raise InputError(f"reference={options.reference} has another tokenizer than {options.model}")
    with watch.counting("pairs compared", len(found)) as each:
        return report(compare(model, tokenizer, found, reference=reference, batch=options.batch, each=each))


def _cut(watch: Watch, cut: int, what: str) -> dict[str, int]:
    """What was too long for the model, said and reported."""
    if cut:
        watch.say(f"{cut} {what} were longer than the model reads, and were cut")
    return {"cut": cut}


METRICS: dict[str, Callable[[Watch, EvalOptions, Any, Any], Report]] = {
    "perplexity": perplexity,
    "exact": exact,
    "pairs": pairs,
    "choices": choices,
    "cloze": cloze,
    "masked": masked,
    "accuracy": classes,
    "f1": classes,
    "bleu": bleu,
    "manner": manner,
    "reward": reward,
}
