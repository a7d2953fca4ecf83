"""Rule "repair": text that was decoded wrongly is decoded again, what no reader sees is removed, and line ends, blanks
and letters get one form. What stays broken is counted, and too much of it drops the document.

ftfy repairs UTF-8 that was read in a Western or Cyrillic encoding; here it also leaves curly quotes and full-width
letters and punctuation as they are, which in Chinese are the usual ones. UTF-8 that was read as GBK (锛 for ，) and
GBK that was read as Latin-1 are repaired below. What 锟斤拷 stood for is lost.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import regex

from .rule import Verdict

# lines that ftfy should see: entities, terminal escapes, C1 controls
ODD = re.compile("&#?[A-Za-z0-9]{2,24};|\x1b|[\x80-\x9f]")
# what every sign of wrong decoding that ftfy knows has in it: one of a few letters, or two characters of those that
# other alphabets decode to, dashes, dots and apostrophes not counted. A look for these is many times as fast as for
# the signs themselves; `re` skips ahead only to a pattern that begins with one class, so all patterns here do
ALONE = "\x80-\x9fÃÂÎÐØÙŒœ√"
FIRST = (
    "\u00a1-\u00ac\u00ae-\u00b3\u00b5\u00b6\u00b8-\u04ff\u2018\u201a-\u2025\u2030-\u2265"
    "\u2310\u2500-\u25ff\uf8ff\ufb01\ufb02\ufffd"
)
SECOND = "\u00a1-\u04ff\u2013-\u2265\u2310\u2500-\u25ff\uf8ff\ufb01\ufb02\ufffd"
SUSPECT = re.compile(f"[{ALONE}{FIRST}](?:(?<=[{ALONE}])|[{SECOND}])")
SURROGATE = re.compile("[\ud800-\udfff]")
BREAKS = re.compile("[\r\x0b\x0c\x1c-\x1e\u2028\u2029](?:(?<=\r)\n)?")
# controls, byte order marks, direction marks that are closed nowhere, and characters that Unicode never gives out
UNSEEN = regex.compile(
    r"[\x00-\x08\x0e-\x1b\x1f\x7f-\x9f\u00ad\u180e\u2060-\u206f\u202a-\u202e\ufeff\ufff9-\ufffb\ufdd0-\ufdef\ufffe\uffff]"
    r"|[\u200e\u200f](?<![\p{Hebrew}\p{Arabic}\p{Syriac}].)(?![\p{Hebrew}\p{Arabic}\p{Syriac}])"
    # a blank of no width parts words in scripts that write no other
    r"|\u200b(?<![\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}].)(?![\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}])"
    # joiners shape letters of Arabic and of India, and bind emoji
    r"|[\u200c\u200d](?<![\p{Arabic}\p{Syriac}\p{Mongolian}\p{Devanagari}\p{Bengali}\p{Gurmukhi}\p{Gujarati}\p{Oriya}\p{Tamil}"
    r"\p{Telugu}\p{Kannada}\p{Malayalam}\p{Sinhala}\p{Khmer}\p{Extended_Pictographic}\ufe0f\p{Emoji_Modifier}].)"
)
HIDDEN = re.compile(
    "[\x00-\x08\x0e-\x1b\x1f\x7f-\x9f\u00ad\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ufdd0-\ufdef\ufffe\uffff]"
)
# a quick look first; then only the first blank of a run begins a match, so that a megabyte of them takes linear time
BLANK_END = re.compile("[ \t\u00a0\u3000](?=\n|\\Z)")
TRAILING = re.compile("[ \t\u00a0\u3000](?<![ \t\u00a0\u3000]{2})[ \t\u00a0\u3000]*+(?=\n|\\Z)")
GAPS = re.compile("\n{4,}")
# what is left of bytes that nobody can read: replacement characters, the same as GBK, memory that was never written
PARTS = re.compile("[\ufffd锟斤烫屯葺]")
LOST = re.compile("\ufffd|锟斤拷|锟斤|斤拷|(?:烫烫){3,}|(?:屯屯){3,}|(?:葺葺){3,}")
# two of the three bytes of ，：！ and of 。、《 and of 的 in UTF-8, as GBK; all are rare in any Chinese
READ_AS_GBK = re.compile("[锛紝銆鐨殑]")
READ_AS_LATIN = re.compile("[\xa1-\xff][\xa1-\xff]{5,}")


@dataclass(frozen=True)
class Repair:
    """most: share of characters that are broken beyond repair, above which the document is dropped. plain: text of
    programs, in which only line ends and control characters are touched."""

    most: float = 0.01
    plain: bool = False
    name: str = "repair"

    def __call__(self, text: str, meta: dict[str, Any]) -> Verdict:
        work = Work(text)
        work.run(PLAIN if self.plain else STEPS)
        if not work.text or work.text.isspace():
            return Verdict(None, "empty", "no characters are left")
        lost, share = broken(work.text)
        if share > self.most:
            wanted = f"{100 * share:.2g} % of its characters are broken ({lost}), at most {100 * self.most:g} % wanted"
            return Verdict(None, "broken", wanted)
        if work.text == text:
            return Verdict(text)
        return Verdict(work.text, "repaired", work.said, work.places.total())


@dataclass
class Work:
    """One text under repair, and how many places of which sort were changed."""

    text: str
    places: Counter[str] = field(default_factory=Counter)

    def run(self, steps: tuple[Any, ...]) -> None:
        for step in steps:
            step(self)

    @property
    def said(self) -> str:
        return ", ".join(f"{name}: {count}" for name, count in self.places.items() if count)

    def replace(self, pattern: Any, by: str, name: str) -> None:
        self.text, count = pattern.subn(by, self.text)
        self.places[name] += count

    def lines(self, change: Any, name: str) -> None:
        """Change each line by itself, counting those that differ after it."""
        before = self.text.split("\n")
        after = [change(line) for line in before]
        self.places[name] += sum(one != other for one, other in zip(before, after))
        self.text = "\n".join(after)


def surrogates(work: Work) -> None:
    """Halves of characters, as JSON may hold them, are joined; one alone becomes U+FFFD and can be written again."""
    if SURROGATE.search(work.text):
        work.lines(lambda line: line.encode("utf-16", "surrogatepass").decode("utf-16", "replace"), "surrogates")


def line_ends(work: Work) -> None:
    if BREAKS.search(work.text):
        work.replace(BREAKS, "\n", "line ends")


def encoding(work: Work) -> None:
    """Lines that look wrongly decoded, by ftfy; entities stay where the text speaks of tags."""
    if not ODD.search(work.text) and not SUSPECT.search(work.text):
        return
    from ftfy import fix_text_segment

    settings = _settings("<" not in work.text)

    def change(line: str) -> str:
        if not ODD.search(line) and not wrong(line):
            return line
        # ftfy takes more than linear time; a line of megabytes goes through it in parts
        parts = (line[start : start + 100_000] for start in range(0, len(line), 100_000))
        return "".join(fix_text_segment(part, settings) for part in parts)

    work.lines(change, "encoding")


def wrong(line: str) -> int:
    """In how many places a line looks as if it had been decoded wrongly."""
    if not SUSPECT.search(line):
        return 0
    from ftfy.badness import badness

    return badness(line)


@cache
def _settings(entities: bool) -> Any:
    from ftfy import TextFixerConfig

    return TextFixerConfig(
        unescape_html=entities, uncurl_quotes=False, fix_character_width=False, fix_latin_ligatures=True, explain=False
    )


def chinese_encoding(work: Work) -> None:
    """Lines of UTF-8 that were read as GBK, and of GBK that were read as Latin-1."""
    if READ_AS_GBK.search(work.text):
        work.lines(_from_gbk, "encoding")
    if READ_AS_LATIN.search(work.text):
        work.lines(lambda line: READ_AS_LATIN.sub(_from_latin, line), "encoding")


def _from_gbk(line: str) -> str:
    """Windows shows the byte 80, which is none of GBK's, as €. A few characters may be lost, and are counted later."""
    if not READ_AS_GBK.search(line):
        return line
    try:
        data = b"\x80".join(part.encode("gb18030") for part in line.split("€"))
    except UnicodeEncodeError:  # half of a character, which no encoding has
        return line
    again = data.decode("utf-8", "replace")
    return line if 20 * again.count("\ufffd") > len(again) else again


def _from_latin(match: re.Match[str]) -> str:
    """Letters with accents in a row are GBK when nearly all are frequent Chinese characters and signs, which have the
    first rows of it, unless most are letters of other alphabets in UTF-8."""
    data = match[0].encode("latin-1")
    if len(data) % 2 or sum(0xB0 <= byte <= 0xD7 or byte in (0xA1, 0xA3) for byte in data[::2]) < 0.45 * len(data):
        return match[0]
    if len(data.decode("utf-8", "ignore")) >= len(data) / 4:
        return match[0]
    return data.decode("gb18030", "replace")


def unseen(work: Work) -> None:
    if HIDDEN.search(work.text):
        work.replace(UNSEEN, "", "unseen characters")


def letters(work: Work) -> None:
    """A letter and its accents as one character, NFC (Unicode annex 15)."""
    if not unicodedata.is_normalized("NFC", work.text):
        work.lines(lambda line: unicodedata.normalize("NFC", line), "composed letters")


def blanks(work: Work) -> None:
    """Blanks at the ends of lines, more than two empty lines, and empty lines around the whole."""
    if BLANK_END.search(work.text):
        work.replace(TRAILING, "", "trailing blanks")
    if "\n\n\n\n" in work.text:
        work.replace(GAPS, "\n\n\n", "empty lines")
    work.text = work.text.strip("\n")


def broken(text: str) -> tuple[str, float]:
    """What is broken in a text, for a person, and its share of the characters."""
    if text.isascii():
        return "", 0.0
    counts: Counter[str] = Counter()
    for match in LOST.finditer(text) if PARTS.search(text) else ():
        counts[match[0][:3]] += len(match[0])
    # a sign that stands for three bytes has two neighbours that are as wrong as it is
    counts["wrong encoding"] = 3 * sum(map(wrong, text.split("\n"))) if SUSPECT.search(text) else 0
    counts["UTF-8 as GBK"] = 3 * len(READ_AS_GBK.findall(text))
    share = min(1.0, counts.total() / max(len(text), 1))
    return ", ".join(f"{name}: {count}" for name, count in counts.most_common(3) if count), share


# GBK before ftfy, which would take two of its bytes for one letter in UTF-8 here and there
STEPS = (surrogates, line_ends, chinese_encoding, encoding, unseen, letters, blanks)
PLAIN = (surrogates, line_ends, unseen)
