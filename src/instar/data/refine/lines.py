"""Rule "c4": lines that are no prose go, and documents of which too little is left (Raffel et al. 2020, JMLR 21:140).

On English it judges as datatrove's C4QualityFilter does, and with keep_layout off it also leaves the same text. That
filter knows no 。！？”, takes a Chinese paragraph for one long word, and knows no Chinese menu or notice; so
for Chinese and Japanese words are characters and the phrases are these below.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import regex
from datatrove.pipeline.filters.c4_filters import CITATION_REGEX, ELLIPSIS, END_PUNCTUATION, POLICY_SUBSTRINGS

from ...config.data import QualityOptions, Thresholds
from .quality import CHINESE_ENDS
from .rule import Verdict
from .words import SINGLE, Words, unspaced

CHINESE_CITATION = regex.compile(r"\[(?:编辑|編輯|来源请求|來源請求)\]")
# what stands below and beside Chinese pages: rights, policies, licences, cookies, follow us, sign in
CHINESE_POLICY = (
    "版权所有", "版權所有", "保留所有权利", "未经授权", "未经许可不得", "不得转载", "转载请注明", "转载需",
    "隐私政策", "隱私政策", "隐私条款", "使用条款", "服务条款", "用户协议", "法律声明", "免责声明", "cookie",
    "icp备", "icp证", "公网安备", "增值电信业务", "互联网新闻信息服务许可证", "违法和不良信息举报",
    "扫码关注", "扫一扫关注", "扫描二维码", "关注公众号", "微信公众号：", "点击下载app", "下载客户端",
    "登录后才能", "登录后发表", "请先登录", "还没有账号", "上一篇：", "下一篇：", "责任编辑：", "（责编：",
)  # fmt: skip
CHINESE_ENDING = (*END_PUNCTUATION, "。", "！", "？", "．", *(end for end in CHINESE_ENDS if end not in "…；："))
UNIT = regex.compile(rf"(?V1)[{SINGLE}]|[[\w]--[{SINGLE}]]++")
APART = regex.compile(rf"[{SINGLE}\s，。、；：！？]+")
WORDS = Words()


@dataclass(frozen=True)
class Language:
    """What a line is measured by: its words, how long a word may be cut, what it may end with, what betrays it."""

    chinese: bool
    ends: tuple[str, ...]
    policy: tuple[str, ...]

    def words(self, line: str) -> int:
        return len(UNIT.findall(line)) if self.chinese else len(line.split())

    def longest(self, line: str) -> int:
        return max(map(len, APART.split(line) if self.chinese else line.split()), default=0)

    def cleared(self, line: str) -> str:
        line = CITATION_REGEX.sub("", line)
        return CHINESE_CITATION.sub("", line) if self.chinese else line


ENGLISH = Language(False, END_PUNCTUATION, tuple(POLICY_SUBSTRINGS))
CHINESE = Language(True, CHINESE_ENDING, (*POLICY_SUBSTRINGS, *CHINESE_POLICY))


@dataclass(frozen=True)
class Lines:
    """The rule; it changes a text by leaving out lines and marks of citations, and drops what is left too short."""

    options: QualityOptions
    name: str = "c4"

    def __call__(self, text: str, meta: dict[str, Any]) -> Verdict:
        if unspaced(text, str(meta.get("language", ""))):
            return sift(text, self.options.zh, CHINESE)
        return sift(text, self.options.en, ENGLISH)


def sift(text: str, wanted: Thresholds, language: Language) -> Verdict:
    """Keep the lines that are prose."""
    kept: list[str] = []
    gone: Counter[str] = Counter()
    sentences = gap = 0
    for whole in text.splitlines():
        line = whole.strip()
        if not line and wanted.min_line_words > 0:
            gap += 1
            continue
        line = language.cleared(line)
        if reason := dropped(line, whole, wanted, language):
            if reason in FATAL:
                return Verdict(None, reason, f"found {FATAL[reason]!r} in {line[:80]!r}, wanted none")
            gone[reason] += 1
            continue
        if line != whole.strip():
            gone["citation"] += 1
        sentences += max(1, len(WORDS.span_tokenize(line)))
        if wanted.keep_layout:
            # gaps on both sides of a line that went become one, as wide as the wider
            kept += [""] * min(gap, 2) if kept else []
            line = whole[: len(whole) - len(whole.lstrip())] + line
        kept.append(line)
        gap = 0
    if sentences < wanted.min_sentences:
        detail = f"{sentences} sentences in the lines that stay, at least {wanted.min_sentences} wanted"
        return Verdict(None, "few_sentences", detail + (f"; lines out: {said(gone)}" if gone else ""))
    after = "\n".join(kept).strip()
    if not gone and wanted.keep_layout:
        return Verdict(text)
    if after == text:
        return Verdict(text)
    return Verdict(after, "lines", said(gone) or "blank lines", gone.total())


# a phrase that drops the whole document -> as it is shown
FATAL = {"lorem_ipsum": "lorem ipsum", "curly_bracket": "{"}


def dropped(line: str, whole: str, wanted: Thresholds, language: Language) -> str:
    """Why a line goes, "" where it stays. The order is datatrove's: the first reason wins."""
    # lengths are of the line before its citations went
    if wanted.max_characters and language.longest(whole) > wanted.max_characters:
        return "long_word"
    if wanted.end_punctuation and (not line.endswith(language.ends) or line.endswith(ELLIPSIS)):
        return "no_end"
    if language.words(whole) < wanted.min_line_words:
        return "short"
    small = line.lower()
    if "lorem ipsum" in small:
        return "lorem_ipsum"
    if "javascript" in small:
        return "javascript"
    if wanted.curly_brackets and "{" in line:
        return "curly_bracket"
    return "policy" if any(phrase in small for phrase in language.policy) else ""


def said(gone: Counter[str]) -> str:
    """Counts of lines for a person."""
    return ", ".join(f"{reason}: {count}" for reason, count in gone.most_common())
