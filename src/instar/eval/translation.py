"""Translations against references: BLEU (Papineni et al. 2002) and chrF (Popović 2015), counted by sacrebleu."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..config import InputError
from ..config.options import SamplingOptions
from ..data.corpus import text_key
from ..data.pairs import pair_of
from ..data.shards import threshold
from ..infer.text import complete
from ..model.transformer import Transformer
from ..text.tokenizer import Tokenizer
from . import fields
from .choices import is_wide

GROUPS = ("lang",)  # of the source: what a record may say it should be counted under


@dataclass(frozen=True)
class Reference:
    """A text and what it should become."""

    source: str
    target: str
    groups: dict[str, str]

    def is_kept(self, share: float | None) -> bool:
        """Whether training held its source out, as this share of all; None keeps every text."""
        return share is None or text_key(self.source) < threshold(share)


def reference_of(record: Mapping[str, Any], source_key: str = "source", target_key: str = "target") -> Reference:
    """A record with these two keys, as training reads it. Raises InputError for another shape."""
    try:
        source, target = pair_of(record, source_key, target_key)
    except InputError as error:
        raise InputError(f"{error}, with --source-key and --target-key") from None
    for key, text in ((source_key, source), (target_key, target)):
        if not text.strip():
            raise InputError(f'"{key}" is {text!r}, wanted a text')
    return Reference(source, target, fields.groups(record, GROUPS))


def translate(
    model: Transformer,
    tokenizer: Tokenizer,
    sources: Sequence[str],
    options: SamplingOptions,
    *,
    batch: int = 64,
    seed: int = 0,
    each: Callable[[int], None] = lambda done: None,
) -> list[str]:
    """One translation of each source, without blanks round it: what an encoder-decoder says of it, or how a decoder
    goes on. each: called with how many more were translated."""
    found: list[str] = []
    for start in range(0, len(sources), batch * 8):
        part = sources[start : start + batch * 8]
        found += [answer.text.strip() for answer in complete(model, tokenizer, part, options, seed=seed, slots=batch)]
        each(len(part))
    return found


def bleu(hypotheses: Sequence[str], references: Sequence[Reference], tokenizer: str = "auto") -> dict[str, Any]:
    """records, bleu and chrf of the whole, their signatures, exact (the share that is the reference, blanks round it
    aside), and all of it for each language that is translated from, where records say it.

    tokenizer: sacrebleu's; auto is zh where most letters of the references are Chinese, 13a elsewhere. Raises
    InputError where sacrebleu is not installed.
    """
    groups = [reference.groups for reference in references]
    counted = partial(_corpus, tokenizer=tokenizer)
    return fields.by_groups(list(zip(hypotheses, references)), groups, GROUPS, counted)


def _corpus(pairs: Sequence[tuple[str, Reference]], tokenizer: str) -> dict[str, Any]:
    hypotheses, targets = [said for said, _ in pairs], [reference.target for _, reference in pairs]
    metrics = sacrebleu()
    words, letters = metrics.BLEU(tokenize=tokenizer if tokenizer != "auto" else words_of(targets)), metrics.CHRF()
    return {
        "records": len(targets),
        "bleu": words.corpus_score(hypotheses, [targets]).score,
        "chrf": letters.corpus_score(hypotheses, [targets]).score,
        "exact": sum(said == target.strip() for said, target in zip(hypotheses, targets)) / len(targets),
        "bleu_signature": str(words.get_signature()),
        "chrf_signature": str(letters.get_signature()),
    }


def words_of(references: Sequence[str]) -> str:
    """sacrebleu's tokenizer for a language: zh where most letters are of a script without blanks, otherwise 13a."""
    letters = [character for text in references for character in text if character.isalpha()]
    return "zh" if 2 * sum(map(is_wide, letters)) > len(letters) else "13a"


def sacrebleu() -> Any:
    """The optional library behind BLEU and chrF. Raises InputError where it is not installed."""
    try:
        from sacrebleu import metrics
    except ImportError:
        raise InputError("metric=bleu needs sacrebleu: pip install instar[eval]") from None
    return metrics
