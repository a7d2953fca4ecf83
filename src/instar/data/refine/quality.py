"""Rules "gopher", "repetition", "c4" and "fineweb": datatrove's filters with the thresholds of the recipe, those for
Chinese and Japanese where a text is in one of them, and with what was found and wanted said of every text dropped.

Papers: Gopher (Rae et al. 2021, arXiv:2112.11446), C4 (Raffel et al. 2020, JMLR 21:140), FineWeb (Penedo et al. 2024,
arXiv:2406.17557). The filters judge lists of words, so a long text is judged in passages, and dropped when more than
half of it stands in passages that would be dropped; memory then does not depend on the longest book.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from datatrove.data import Document
from datatrove.pipeline.filters import FineWebQualityFilter, GopherQualityFilter, GopherRepetitionFilter
from datatrove.pipeline.filters.gopher_repetition_filter import (
    find_all_duplicate,
    find_duplicates,
    find_top_duplicate,
    get_n_grams,
)
from datatrove.utils.text import PUNCTUATION_SET, TERMINAL_PUNCTUATION, split_into_words

from ...config.data import QualityOptions, Thresholds
from .rule import Verdict
from .sound import runs_are_sound, words_are_sound
from .words import Words, unspaced

# characters of one passage
PASSAGE = 200_000
# what a line of Chinese may end with, beside what datatrove knows
CHINESE_ENDS = ("”", "’", "」", "』", "）", "》", "】", "…", "；", "：")
WORDS = Words()


@dataclass(frozen=True)
class Judge:
    """One of datatrove's filters with the thresholds it was made from. drops: text -> reason of datatrove's or "".
    why: reason -> (our word for it, text -> found, wanted)."""

    drops: Callable[[str], str]
    why: Callable[[str, str], tuple[str, str]]

    def __call__(self, text: str) -> tuple[str, str] | None:
        """Reason and detail, None where the text stays."""
        reason = self.drops(text)
        return self.why(reason, text) if reason else None


@dataclass(frozen=True)
class Quality:
    """A rule that drops or lets go on. judges: of English, of Chinese and Japanese, of other languages."""

    name: str
    english: Judge
    chinese: Judge
    others: Judge

    def __call__(self, text: str, meta: dict[str, Any]) -> Verdict:
        judge = self.choose(text, str(meta.get("language", "")))
        if not text.strip():
            return Verdict(None, "empty", "no characters are left")
        if len(text) <= PASSAGE:
            found = judge(text)
            return Verdict(None, *found) if found else Verdict(text)
        return self.long(judge, text)

    def choose(self, text: str, language: str) -> Judge:
        if unspaced(text, language):
            return self.chinese
        return self.english if language in ("en", "", "unknown") else self.others

    def long(self, judge: Judge, text: str) -> Verdict:
        """Judge a long text by its passages."""
        bad: Counter[str] = Counter()
        details: dict[str, str] = {}
        for passage in passages(text):
            if found := judge(passage):
                bad[found[0]] += len(passage)
                details.setdefault(*found)
        if 2 * bad.total() <= len(text):
            return Verdict(text)
        reason, _ = max(bad.items(), key=lambda item: (item[1], item[0]))
        detail = (
            f"{100 * bad.total() / len(text):.0f} % of its passages, at most 50 % wanted; the first: {details[reason]}"
        )
        return Verdict(None, reason, detail)


def passages(text: str) -> Iterator[str]:
    """A long text in parts of PASSAGE characters, cut at a line break where one is near."""
    start = 0
    while start < len(text):
        stop = start + PASSAGE
        if stop < len(text):
            stop = text.rfind("\n", start + PASSAGE // 2, stop) + 1 or stop
        if text[start:stop].strip():
            yield text[start:stop]
        start = stop


def quality(name: str, make: Callable[[Thresholds, str], Judge], options: QualityOptions) -> Quality:
    return Quality(name, make(options.en, "en"), make(options.zh, "zh"), make(options.en, ""))


def asked(filtering: Any, sound: Callable[[str, Any], bool] = lambda text, limits: False) -> Callable[[str], str]:
    """A filter of datatrove's as a function of a text, which gives its reason for dropping it or ""; it is not asked of
    texts that are certainly sound."""

    def drops(text: str) -> str:
        if sound(text, filtering):
            return ""
        result = filtering.filter(Document(text=text, id=""))
        return "" if result is True else str(result[1])

    return drops


# gopher -----------------------------------------------------------------------------------------------------------


def gopher(wanted: Thresholds, language: str, *, web: bool = True) -> Judge:
    """How many words, how long, how many signs, bullets, ellipses and stop words. Stop words and the length of a word
    are facts about a language, so of others than English and Chinese they are not asked."""
    known = bool(language)
    limits = {
        "min_doc_words": max(wanted.min_words, 1),
        "max_doc_words": wanted.max_words if web else 0,
        "min_avg_word_length": wanted.min_word_length if known else 0,
        "max_avg_word_length": wanted.max_word_length if known else 0,
        "max_symbol_word_ratio": wanted.max_symbols,
        "max_bullet_lines_ratio": wanted.max_bullets,
        "max_ellipsis_lines_ratio": wanted.max_ellipses,
        "max_non_alpha_words_ratio": wanted.min_letters,
        "min_stop_words": wanted.min_stop_words if known else 0,
    }
    filtering = GopherQualityFilter(**limits, stop_words=list(wanted.stop_words), language=WORDS)

    def why(reason: str, text: str) -> tuple[str, str]:
        word, find, sense, option = GOPHER[reason]
        found = find(text, filtering)
        return word, f"{found:.4g} {GOPHER_SAYS[word]}, {sense} {limits[option]:g} wanted"

    return Judge(asked(filtering, words_are_sound), why)


def _said(text: str) -> list[str]:
    """Words that are not punctuation alone."""
    return [word for word in WORDS.word_tokenize(text) if any(sign not in PUNCTUATION_SET for sign in word)]


def _share(text: str, true: Callable[[str], bool]) -> float:
    lines = text.splitlines()
    return sum(map(true, lines)) / len(lines)


def _each(text: str, count: int) -> float:
    return count / len(WORDS.word_tokenize(text))


def _mean(text: str, filtering: Any) -> float:
    said = _said(text)
    return sum(map(len, said)) / len(said)


# datatrove's reason -> our word, what was found, at least or at most, the limit
GOPHER: dict[str, tuple[str, Callable[[str, Any], float], str, str]] = {
    "gopher_short_doc": ("short", lambda text, _: len(_said(text)), "at least", "min_doc_words"),
    "gopher_long_doc": ("long", lambda text, _: len(_said(text)), "at most", "max_doc_words"),
    "gopher_below_avg_threshold": ("short_words", _mean, "at least", "min_avg_word_length"),
    "gopher_above_avg_threshold": ("long_words", _mean, "at most", "max_avg_word_length"),
    "gopher_too_many_hashes": (
        "hashes", lambda text, _: _each(text, text.count("#")), "at most", "max_symbol_word_ratio",
    ),
    "gopher_too_many_ellipsis": (
        "ellipses", lambda text, _: _each(text, text.count("...") + text.count("…")), "at most",
        "max_symbol_word_ratio",
    ),
    "gopher_too_many_bullets": (
        "bullets", lambda text, _: _share(text, lambda line: line.lstrip().startswith(("•", "-"))), "at most",
        "max_bullet_lines_ratio",
    ),
    "gopher_too_many_end_ellipsis": (
        "open_lines", lambda text, _: _share(text, lambda line: line.rstrip().endswith(("...", "…"))), "at most",
        "max_ellipsis_lines_ratio",
    ),
    "gopher_below_alpha_threshold": (
        "signs", lambda text, _: _each(text, sum(any(map(str.isalpha, word)) for word in WORDS.word_tokenize(text))),
        "at least", "max_non_alpha_words_ratio",
    ),
    "gopher_enough_stop_words": (
        "stop_words", lambda text, filtering: len(filtering.stop_words & set(WORDS.word_tokenize(text))), "at least",
        "min_stop_words",
    ),
}  # fmt: skip
GOPHER_SAYS = {
    "short": "words",
    "long": "words",
    "short_words": "letters a word",
    "long_words": "letters a word",
    "hashes": "signs # a word",
    "ellipses": "ellipses a word",
    "bullets": "of the lines begin with a bullet",
    "open_lines": "of the lines end in an ellipsis",
    "signs": "of the words have a letter",
    "stop_words": "different stop words",
}


# repetition -------------------------------------------------------------------------------------------------------


def repetition(wanted: Thresholds, language: str) -> Judge:
    """Lines, paragraphs and runs of words that stand in a text again and again. In a text too short for gopher, a poem
    or an answer, every run is a large share, so there the most frequent one is not asked about."""

    def made(top_runs: tuple[tuple[int, float], ...]) -> GopherRepetitionFilter:
        return GopherRepetitionFilter(
            dup_line_frac=wanted.max_repeated_lines,
            dup_para_frac=wanted.max_repeated_paragraphs,
            dup_line_char_frac=wanted.max_repeated_line_characters,
            dup_para_char_frac=wanted.max_repeated_paragraph_characters,
            top_n_grams=top_runs,
            dup_n_grams=wanted.repeated_runs,
            language=WORDS,
        )

    filtering, brief = made(wanted.top_runs), made(())
    whole, short = asked(filtering, runs_are_sound), asked(brief, runs_are_sound)

    def drops(text: str) -> str:
        return (short if len(split_into_words(text, WORDS)) < wanted.min_words else whole)(text)

    limits = dict(wanted.top_runs), dict(wanted.repeated_runs)

    def why(reason: str, text: str) -> tuple[str, str]:
        if reason.startswith("dup_"):
            lines = filtering._line_splitter.split(text)
            paragraphs = filtering.paragraph_exp.split(text.strip())
            parts, name = (lines, "lines") if "line" in reason else (paragraphs, "paragraphs")
            count, characters = find_duplicates(parts)
            found = characters / len(text) if "char" in reason else count / len(parts)
            of = f"of the characters stand in {name}" if "char" in reason else f"of the {name} are ones"
            return name, f"{found:.3g} {of} that stood before, at most {getattr(filtering, reason):g} wanted"
        words, n = WORDS.word_tokenize(text), int(reason.split("_")[1])
        if reason.startswith("top_"):
            found = find_top_duplicate(get_n_grams(words, n)) / len(text)
            of = f"of the characters are the most frequent run of {n} words"
            return "top_run", f"{found:.3g} {of}, at most {limits[0][n]:g} wanted"
        found = find_all_duplicate(words, n) / len(text)
        of = f"of the characters are runs of {n} words that stood before"
        return "runs", f"{found:.3g} {of}, at most {limits[1][n]:g} wanted"

    return Judge(drops, why)


# fineweb ----------------------------------------------------------------------------------------------------------


def fineweb(wanted: Thresholds, language: str) -> Judge:
    """Lists, menus and pages of short or copied lines."""
    ends = (*TERMINAL_PUNCTUATION, *(CHINESE_ENDS if language == "zh" else ()))
    filtering = FineWebQualityFilter(
        line_punct_thr=wanted.min_punctuated_lines,
        stop_chars=ends,
        # a limit of nothing: no share is above 1, and no text has this many line breaks
        short_line_thr=wanted.max_short_lines or 1.0,
        short_line_length=wanted.short_line,
        char_duplicates_ratio=wanted.max_line_copies or 1.0,
        new_line_ratio=wanted.max_breaks or float("inf"),
        language=WORDS,
    )

    def why(reason: str, text: str) -> tuple[str, str]:
        lines = [line for line in text.split("\n") if line.strip()]
        if reason == "line_punct_ratio":
            found = sum(line.endswith(ends) for line in lines) / len(lines)
            limit = f"at least {wanted.min_punctuated_lines:g}"
            return "open_lines", f"{found:.3g} of the lines end in punctuation, {limit} wanted"
        if reason == "short_line_ratio":
            found = sum(len(line) <= wanted.short_line for line in lines) / len(lines)
            of = f"of the lines have at most {wanted.short_line} characters"
            return "short_lines", f"{found:.3g} {of}, at most {wanted.max_short_lines:g} wanted"
        if reason == "char_dup_ratio":
            found = find_duplicates(lines)[1] / len(text.replace("\n", ""))
            of = "of the characters stand in lines that stood before"
            return "copied_lines", f"{found:.3g} {of}, at most {wanted.max_line_copies:g} wanted"
        found = text.count("\n") / len(WORDS.word_tokenize(text))
        return "list", f"{found:.3g} line breaks a word, at most {wanted.max_breaks:g} wanted"

    return Judge(asked(filtering), why)
