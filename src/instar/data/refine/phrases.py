"""What the report says in words, in each language of a reader: steps, reasons, headings. All of them stand here.

A reason that nobody foresaw is shown as it is.
"""

from __future__ import annotations

from ..raw.piece import REASONS as UNREAD

LANGUAGES = {"en": "English", "zh": "中文"}  # of a page, in the order of the tuples below
Said = tuple[str, ...]

# step -> its name
STEPS: dict[str, Said] = {
    "read": ("reading", "读取"),
    "repair": ("repair", "修复"),
    "language": ("language", "语种"),
    "gopher": ("gopher", "gopher"),
    "repetition": ("repetition", "重复"),
    "c4": ("c4", "c4"),
    "fineweb": ("fineweb", "fineweb"),
    "evaluation": ("evaluation", "评测文本"),
    "personal": ("personal", "个人信息"),
    "exact": ("exact", "完全重复"),
    "near": ("near", "近似重复"),
    "tokens": ("tokens", "分词"),
}
# step -> what it does
ABOUT: dict[str, Said] = {
    "read": ("files become texts", "由文件得到文本"),
    "repair": ("wrong encodings and unseen characters", "错误的编码和看不见的字符"),
    "language": ("languages that are wanted", "是否为所需语种"),
    "gopher": ("lengths, signs, stop words (Rae et al. 2021)", "长度、符号、常用词（Rae et al. 2021）"),
    "repetition": ("what stands again and again (Rae et al. 2021)", "篇内反复出现的内容（Rae et al. 2021）"),
    "c4": ("lines that are no prose (Raffel et al. 2020)", "不成句的行（Raffel et al. 2020）"),
    "fineweb": ("lists, menus, copied lines (Penedo et al. 2024)", "列表、菜单、照抄的行（Penedo et al. 2024）"),
    "evaluation": ("text that models are examined with", "用来考模型的文本"),
    "personal": ("numbers and addresses of people", "个人的号码和地址"),
    "exact": ("the same text twice", "一模一样的文本"),
    "near": ("nearly the same text (MinHash)", "几乎一样的文本（MinHash）"),
    "tokens": ("texts become token shards", "文本变为词元分片"),
}
# reason, or step/reason where it means something of its own there -> why a document was dropped or changed
REASONS: dict[str, Said] = {
    "read/surrogates": ("halves of characters replaced", "替换了半个字符"),
    "empty": ("nothing is left of it", "没有剩下内容"),
    "crash": ("the rule failed on it", "规则在此出错"),
    "language": ("in no wanted language", "不是所需语种"),
    "repaired": ("repaired", "已修复"),
    "broken": ("broken beyond repair", "损坏严重，无法修复"),
    "gopher/short": ("too few words", "词太少"),
    "gopher/long": ("too many words", "词太多"),
    "short_words": ("words too short on average", "平均词长过短"),
    "long_words": ("words too long on average", "平均词长过长"),
    "hashes": ("too many # signs", "# 号过多"),
    "ellipses": ("too many ellipses", "省略号过多"),
    "bullets": ("nearly all lines are bullets", "几乎每行都是列表项"),
    "gopher/open_lines": ("too many lines end in an ellipsis", "以省略号结尾的行过多"),
    "signs": ("too few words with letters", "含字母的词过少"),
    "stop_words": ("too few common words", "常用词过少"),
    "repetition/lines": ("lines repeat", "行重复"),
    "repetition/paragraphs": ("paragraphs repeat", "段落重复"),
    "top_run": ("one phrase takes up too much", "同一短语占比过高"),
    "repetition/runs": ("phrases repeat", "短语重复"),
    "c4/lines": ("lines taken out", "删去若干行"),
    "few_sentences": ("too few sentences", "句子太少"),
    "lorem_ipsum": ("filler text (lorem ipsum)", "占位文本（lorem ipsum）"),
    "curly_bracket": ("a curly bracket, as in code", "含花括号，像代码"),
    "fineweb/open_lines": ("few lines end in punctuation", "以标点结尾的行过少"),
    "short_lines": ("too many short lines", "短行过多"),
    "copied_lines": ("too much text in copied lines", "照抄的行占比过高"),
    "list": ("many line breaks, few words", "换行多而词少"),
    "masked": ("personal data replaced", "已替换个人信息"),
    "contaminated": ("has text of an evaluation in it", "含有评测文本"),
    "evaluation/cut": ("text of an evaluation taken out", "已删去评测文本"),
    "exact/copy": ("the same text stands before it", "前面已有相同的文本"),
    "near/copy": ("nearly the same text stands before it", "前面已有几乎相同的文本"),
}
# why something could not be read; in English as the readers have it
UNREAD_ZH = {
    "empty": "没有文本",
    "binary": "不是文本",
    "encoding": "没有能读它的编码",
    "truncated": "文件中途截断",
    "compressed": "压缩数据损坏",
    "expands": "解压后超出上限",
    "long": "超过长度上限",
    "shape": "数据行的结构不符",
    "json": "不是 JSON",
    "markup": "标记无法解析",
    "deep": "嵌套过深",
    "slow": "超过时间上限",
    "crash": "读取程序崩溃",
    "archive": "不是名称所示的压缩包",
    "generated": "由程序写给程序的文件",
    "status": "服务器答复没有此页",
    "unknown": "没有读这类文件的程序",
    "missing": "无法打开",
}
# what a table or a heading says
WORDS: dict[str, Said] = {
    "prepared": ("finished", "已完成"),
    "sampled": ("tried on {count} documents", "试读 {count} 篇"),
    "sample_note": (
        "Documents and text are of a sample, not of all the data; files and stored bytes are of all of it.",
        "篇数与文本量只是一份样本的，不是全部数据的；文件数与存储量是全部数据的。",
    ),
    "version": ("version", "版本"),
    "key": ("key", "标识"),
    "tokenizer": ("tokenizer", "分词器"),
    "sources": ("sources", "个来源"),
    "files": ("files", "个文件"),
    "stored": ("stored", "存储"),
    "documents": ("documents", "篇数"),
    "of_them": ("documents", "篇"),
    "bytes": ("text", "文本量"),
    "tokens": ("tokens", "词元"),
    "left": ("left", "留下"),
    "kept": ("kept", "保留"),
    "gone": ("gone", "去除"),
    "before": ("gone before", "此前已去除"),
    "share": ("share", "占比"),
    "estimate_note": (
        "≈ marks numbers of tokens that are estimated from a part of the documents.",
        "≈ 表示由一部分文档估算的词元数。",
    ),
    "nothing": ("Nothing was read.", "没有读到任何文本。"),
    "most": ("What took most", "去除最多的原因"),
    "flow": ("The way of the text", "文本的去向"),
    "flow_note": (
        "Widths are bytes of text. Blue goes on, orange is taken by the step. Reasons lead to samples.",
        "宽度按文本字节数。蓝色继续，橙色由该步去除。点击原因可看样本。",
    ),
    "all_sources": ("All sources", "全部来源"),
    "source": ("source", "来源"),
    "step": ("step", "步骤"),
    "kind": ("kind", "类型"),
    "changed": ("changed", "改动"),
    "places": ("places", "处"),
    "figures": ("All figures of this source", "该来源的全部数字"),
    "in": ("in", "进"),
    "out": ("out", "出"),
    "untouched": ("took and changed nothing", "未去除也未改动"),
    "reasons": ("Rules and reasons", "规则与原因"),
    "reasons_note": (
        "Shares are of what went into the step. Of a changed document the bytes are those of its text before.",
        "占比相对于进入该步的量。被改动的文档按改动前的字节数计。",
    ),
    "reason": ("reason", "原因"),
    "of_documents": ("of documents", "占篇数"),
    "of_bytes": ("of text", "占文本"),
    "samples": ("Samples", "样本"),
    "see": ("samples", "样本"),
    "samples_note": (
        "Chosen by a hash of their id, so the same every time. Each shows the text as it came to the step.",
        "按标识的散列值选出，每次相同。所示为进入该步时的文本。",
    ),
    "left_out": ("{count} more samples stand in report.json.", "另有 {count} 份样本在 report.json 中。"),
    "no_samples": ("There are none.", "没有样本。"),
    "kept_samples": ("kept to the end", "保留到最后"),
    "as_it_is": ("a document that stays", "保留下来的文档"),
    "more": ("{count} more characters", "还有 {count} 个字符"),
    "same": ("{count} characters the same", "{count} 个字符相同"),
    "nothing_left": ("(no text)", "（无文本）"),
    "removed": ("taken out", "删去"),
    "added": ("put in", "写入"),
    "odd": ("unseen characters, spelt out", "看不见的字符"),
    "unread": ("What could not be read", "未能读取"),
    "unread_note": ("None of it was silently left out.", "均已计数，没有悄悄丢弃。"),
    "all_read": ("All files could be read.", "所有文件均可读取。"),
    "count": ("count", "数量"),
    "where": ("the first of them", "最先几处"),
    "skipped": ("Files of other kinds, not opened", "其他类型的文件，未打开"),
    "languages": ("Languages", "语种"),
    "languages_note": ("Documents that are left, by language.", "留下的文档，按语种。"),
    "no_languages": ("The language was not asked about.", "未判断语种。"),
    "others": ("others", "其他"),
    "mixture": ("Mixture", "配比"),
    "mixture_note": (
        "What one pass over the data consists of: tokens of a source, times its epochs.",
        "一轮训练数据的组成：各来源词元数乘以遍数。",
    ),
    "epochs": ("epochs", "遍数"),
    "of_a_pass": ("of one pass", "占一轮"),
    "no_mixture": ("It is known once there are shards.", "写出分片后方知。"),
    "speed": ("Time", "用时"),
    "phase": ("phase", "阶段"),
    "seconds": ("time", "用时"),
    "rate": ("text a second", "每秒文本"),
    "whole": ("all", "合计"),
    "no_time": ("It was not measured.", "未计时。"),
    "shards": ("Shards", "分片"),
    "shards_of": ("{count} shards", "{count} 个分片"),
    "file": ("file", "文件"),
    "no_shards": ("There are none yet.", "尚无分片。"),
    "more_rows": ("{count} more in report.json.", "另有 {count} 个在 report.json 中。"),
    "recipe": ("Recipe", "配方"),
    "recipe_of": ("The whole recipe", "完整配方"),
    "foot": (
        "Made of report.json beside this file. It loads nothing and runs no script.",
        "由同目录的 report.json 生成。不加载任何外部内容，不运行脚本。",
    ),
}
KINDS: dict[str, Said] = {
    "text": ("text", "文本"), "web": ("web pages", "网页"), "books": ("books", "书籍"), "papers": ("papers", "论文"),
    "dialogues": ("dialogues", "对话"), "code": ("code", "代码"),
}  # fmt: skip
PHASES: dict[str, Said] = {
    "read": ("read and judge", "读取与判断"), "write": ("write documents", "写出文档"), "buckets": ("compare", "比对"),
    "cluster": ("join copies", "归并重复"), "tokens": ("tokenise", "分词"),
}  # fmt: skip


class Phrases:
    """The words of one language. Raises KeyError for one that has none."""

    def __init__(self, language: str) -> None:
        self.language = language
        if language not in LANGUAGES:
            raise KeyError(f"no words in {language!r}, only in {', '.join(LANGUAGES)}")
        self._place = list(LANGUAGES).index(language)

    def __call__(self, word: str, **values: object) -> str:
        return WORDS[word][self._place].format(**values)

    def step(self, name: str) -> str:
        return self._of(STEPS, name)

    def about(self, step: str) -> str:
        return ABOUT[step][self._place] if step in ABOUT else ""

    def kind(self, name: str) -> str:
        return self._of(KINDS, name)

    def phase(self, name: str) -> str:
        return self._of(PHASES, name)

    def reason(self, step: str, reason: str) -> str:
        """Example: "gopher", "short" -> too few words"""
        said = REASONS.get(f"{step}/{reason}") or REASONS.get(reason)
        if step == "read" and f"{step}/{reason}" not in REASONS and reason in UNREAD:
            return self.unread(reason)
        return said[self._place] if said else reason.replace("_", " ")

    def unread(self, reason: str) -> str:
        return UNREAD_ZH.get(reason, reason) if self.language == "zh" else UNREAD.get(reason, reason)

    def _of(self, table: dict[str, Said], name: str) -> str:
        return table[name][self._place] if name in table else name
