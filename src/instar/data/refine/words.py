"""Words and sentences of any text, for datatrove's filters and MinHash: no dictionary, no model, the same everywhere.

A run of letters, marks and digits is a word, apostrophes inside it too; a run of punctuation is a word of its own,
because the filters count symbols; a Han or kana character is a word by itself. Thai, Lao, Khmer and Burmese write no
blanks either, and here a phrase of theirs is one word.
"""

from __future__ import annotations

import regex
from datatrove.utils.word_tokenizers import WordTokenizer

# scripts that write no blanks between words and whose characters are counted one by one
SINGLE = r"\p{Han}\p{Hiragana}\p{Katakana}ー"
LETTERS = rf"[[\w]--[{SINGLE}]]"
WORD = regex.compile(rf"(?V1)[{SINGLE}]|{LETTERS}++(?:['’]{LETTERS}++)*+|[^\w\s]++")
# closing quotes and brackets belong to the sentence before. No sign of a run is tried twice, so that a megabyte of dots
# takes linear time
CLOSING = "[\"'”’」』）】》)\\]]*+"
END = regex.compile(
    rf"(?V1)[。！？｡．]++[。！？｡．…!?]*+{CLOSING}|(?<![.!?])[.!?]++{CLOSING}(?=\s|\Z)|(?<=\p{{Han}})[.!?](?=\p{{Han}})|\n"
)
HAN = regex.compile(rf"[{SINGLE}]")
OTHER = regex.compile(rf"(?V1)[\p{{L}}--[{SINGLE}]][\p{{L}}\p{{M}}--[{SINGLE}]]++")
# Han characters that say as much as one word
HAN_PER_WORD = 1.6
UNSPACED = ("zh", "ja")


class Words(WordTokenizer):
    """What datatrove takes as `language=`. All are equal and hash alike, so that its caches serve every copy of it, in
    whichever process it was unpacked."""

    def __init__(self) -> None:
        super().__init__("instar")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Words)

    def __hash__(self) -> int:
        return hash(Words)

    def word_tokenize(self, text: str) -> list[str]:
        """Example: "It's 3 km, 漢字！" -> ["It's", "3", "km", ",", "漢", "字", "！"]"""
        return WORD.findall(text)

    def sent_tokenize(self, text: str) -> list[str]:
        """Sentences without the blanks around them."""
        return [text[start:stop].strip() for start, stop in self.span_tokenize(text)]

    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        """Start and stop of each sentence; one ends at 。！？, at .!? before a blank, and at a line break.

        Example: "Pi is 3.14. Good.\\n好。" -> [(0, 11), (11, 18), (18, 20)]
        """
        spans, start = [], 0
        for match in END.finditer(text):
            if text[start : match.end()].strip():
                spans.append((start, match.end()))
                start = match.end()
        if text[start:].strip():
            spans.append((start, len(text)))
        return spans


def unspaced(text: str, language: str = "") -> bool:
    """Whether a text is counted by characters: its language says so or, where it is not known, most of its beginning is
    Han or kana."""
    if language and language != "unknown":
        return language in UNSPACED
    return share_unspaced(text[:2000]) > 0.5


def share_unspaced(text: str) -> float:
    """Han and kana as a share of all words; single letters of other scripts are names of things rather than words."""
    single = len(HAN.findall(text)) / HAN_PER_WORD
    return single / ((single + len(OTHER.findall(text))) or 1)
