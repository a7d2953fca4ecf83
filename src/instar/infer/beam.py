"""Beam search over whole lists of prompts: the likeliest whole answers to each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..config import InputError
from ..config.options import SamplingOptions
from ..model.transformer import Transformer
from .asking import check
from .engine import Engine
from .prompt import check_speaks
from .request import Hypothesis
from .search import check_count


def beam_search(
    model: Transformer,
    prompts: Sequence[Sequence[int]],
    options: SamplingOptions,
    *,
    sources: Sequence[Sequence[int]] | None = None,
    n: int = 1,
    stops: Iterable[int] = (),
    slots: int = 64,
) -> list[list[Hypothesis]]:
    """The n best answers to each prompt, best first; no answer depends on what else is asked.

    sources: what an encoder-decoder is to answer, one for each prompt; prompts may then be empty, which is the model's
    `start`. slots: rows of the memory, a beam each, so slots // beams prompts are worked on at a time, and never fewer
    than one. Raises InputError before any work where n is not from 1 to beams, or where `Engine.submit` would; and
    afterwards where there are not n answers.
    """
    check(options)
    check_speaks(model)
    check_count(options, n)
    if sources is not None and len(sources) != len(prompts):
        raise InputError(f"{len(sources)} sources and {len(prompts)} prompts; wanted as many of both")
    if not prompts:
        return []
    given: Sequence[Sequence[int] | None] = sources or (None,) * len(prompts)
    engine = Engine(
        model,
        slots=max(1, min(slots // options.beams, len(prompts))) * options.beams,
        capacity=max(1, *map(len, prompts)) + options.max_new_tokens - 1,
        source_capacity=max((len(source) for source in given if source is not None), default=None),
        stops=stops,
    )
    asked = [engine.submit(prompt, options, source=source, n=n) for prompt, source in zip(prompts, given)]
    engine.run()
    if short := [place for place, request in enumerate(asked) if len(request.hypotheses) < n]:
        raise InputError(
            f"n={n} answers are wanted, but to prompt {short[0]} there are only {len(asked[short[0]].hypotheses)} "
            f"of at most {options.max_new_tokens} tokens"
        )
    return [request.hypotheses for request in asked]
