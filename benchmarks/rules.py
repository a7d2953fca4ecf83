"""What each rule drops of good text and catches of bad, and how fast it is.

    python benchmarks/rules.py [--data ../shared/data] [--only zh] [--rules gopher,fineweb] [--speed]

Good: real books, articles, papers, documentation, recipes and verse, each taken as a web page, so that every rule is
asked of it whatever is usual for its kind; the share of documents (and of bytes) dropped. Bad: texts made here out of
seeds, in English and in Chinese; the share dropped. A rule sees a text as the rules before it would leave it, but also
what they would have dropped. Last the megabytes a second of each rule on the good text, in one process.
"""

from __future__ import annotations

import argparse
import json
import random
import string
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

from instar.config.data import PersonalOptions, QualityOptions, SourceOptions
from instar.data.refine.rules import RULES

NAMES = ("repair", "language", "gopher", "repetition", "c4", "fineweb", "personal")
PLANTED = 200


def rows(path: Path, *keys: str) -> Iterator[str]:
    """The texts of a .jsonl file."""
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        yield "\n".join(str(row[key]) for key in keys)


def books(folder: Path) -> Iterator[str]:
    for path in sorted(folder.glob("*.txt")):
        yield path.read_text(encoding="utf-8")


def parted(path: Path, separator: str) -> Iterator[str]:
    for text in path.read_text(encoding="utf-8").split(separator):
        if text.strip():
            yield text.strip()


def wikitext(path: Path) -> Iterator[str]:
    """Articles; a heading of the first level has one sign = on each side."""
    article: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith(" = ") and not line.startswith(" = = ") and article:
            yield "\n".join(article).strip()
            article = []
        article.append(line)
    yield "\n".join(article).strip()


def pages(folder: Path) -> Iterator[str]:
    """Main texts of raw pages by trafilatura's own defaults."""
    import trafilatura

    for path in sorted(folder.glob("*.html*")):
        if text := trafilatura.extract(path.read_bytes()):
            yield text


def good(data: Path) -> dict[str, tuple[str, Callable[[], Iterator[str]]]]:
    en, zh = data / "pretrain" / "en", data / "pretrain" / "zh"
    return {
        "books": ("en", lambda: books(en / "books")),
        "wikitext": ("en", lambda: wikitext(en / "wikitext2.valid.txt")),
        "tinystories": ("en", lambda: parted(en / "tinystories.txt", "<|endoftext|>")),
        "speeches": ("en", lambda: rows(en / "speeches.jsonl", "text")),
        "articles (aeb)": ("en", lambda: rows(data / "web/aeb/ground_truth.jsonl", "article_body")),
        "arxiv": ("en", lambda: rows(data / "papers/arxiv_sample.jsonl", "text")),
        "books ": ("zh", lambda: books(zh / "books")),
        "luxun": ("zh", lambda: rows(zh / "luxun.jsonl", "text")),
        "d2l": ("zh", lambda: rows(zh / "d2l_zh.jsonl", "text")),
        "howtocook": ("zh", lambda: rows(zh / "howtocook.jsonl", "text")),
        "oi_wiki": ("zh", lambda: rows(zh / "oi_wiki.jsonl", "text")),
        "react_docs": ("zh", lambda: rows(zh / "react_docs.jsonl", "text")),
        "abstracts (csl)": ("zh", lambda: rows(data / "papers/csl_zh.dev.jsonl", "abstract")),
        "news pages": ("zh", lambda: pages(data / "web/zh/html")),
        "poetry": ("zh", lambda: rows(zh / "poetry.jsonl", "text")),
    }


# planted ------------------------------------------------------------------------------------------------------------

MENU = {
    "en": "Home|About us|Contact|Products|Services|Blog|Login|Register|Cart|Search|Help|FAQ|Careers|Press|Shop now|"
    "Best sellers|New arrivals|Gift cards|Store locator|My account|Wish list|Size guide|Returns|Track my order",
    "zh": "首页|关于我们|联系我们|产品中心|新闻动态|招聘信息|登录|注册|购物车|网站地图|帮助中心|常见问题|会员中心|"
    "友情链接|在线客服|热门推荐|最新上架|特价专区|品牌专区|手机版|收藏本站|设为首页|意见反馈|下载客户端",
}
LEGAL = {
    "en": "This site uses cookies to improve your experience.|Please read our privacy policy and terms of use.|"
    "By continuing you accept the use of cookies.|Copyright 2024 Example Ltd|All rights reserved|"
    "Follow us on social media|Subscribe to our newsletter|Please enable JavaScript to view this page.|Share this page|"
    "Back to top|Powered by Shop",
    "zh": "版权所有 © 2024 某某科技有限公司|京ICP备12345678号-1|京公网安备11010502030000号|"
    "请阅读我们的隐私政策和用户协议。|"
    "未经授权不得转载，违者必究。|扫码关注微信公众号，获取更多资讯。|本站使用cookie以改善您的体验。|请启用JavaScript后继续浏览本页面。|"
    "分享到：微信 微博 QQ空间|返回顶部|责任编辑：小王|上一篇：产品发布|下一篇：没有了|违法和不良信息举报电话：12377",
}
KEYWORDS = {
    "en": "cheap flights|best hotel deals|buy shoes online|discount price|free shipping|car insurance quotes|low rates",
    "zh": "北京租车|租车价格|便宜租车|租车公司|哪家租车好|租车电话|商务租车|婚车租赁|长期租车|租车优惠",
}
LATIN = (
    "lorem ipsum dolor sit amet consectetur adipiscing elit sed do eiusmod tempor incididunt ut labore et dolore magna"
)


def lines(parts: str, rng: random.Random, least: int, most: int) -> str:
    chosen = parts.split("|")
    return "\n".join(rng.choice(chosen) for _ in range(rng.randint(least, most)))


def bad(prose: dict[str, list[str]]) -> dict[str, Callable[[str, random.Random], str]]:
    """Makers of garbage: language, seeded numbers -> a text. prose: paragraphs that some of it is made from."""

    def repeated(language: str, rng: random.Random) -> str:
        few = [rng.choice(prose[language])[:120] for _ in range(3)]
        return "\n".join(rng.choice(few) for _ in range(30))

    def stuffed(language: str, rng: random.Random) -> str:
        chosen, joint = KEYWORDS[language].split("|"), {"en": ", ", "zh": "，"}[language]
        return joint.join(rng.choice(chosen) for _ in range(150)) + {"en": ".", "zh": "。"}[language]

    def mojibake(language: str, rng: random.Random) -> str:
        text = "\n".join(rng.sample(prose["zh"], 4))[:600]
        data = bytearray(text.encode("utf-8" if rng.random() < 0.5 else "gb18030"))
        for place in rng.sample(range(len(data)), len(data) // 20):
            data[place] = rng.randrange(256)
        return data.decode("gb18030" if rng.random() < 0.5 else "utf-8", "replace")

    def bytes_as_text(language: str, rng: random.Random) -> str:
        data = bytes(rng.randrange(256) for _ in range(1500))
        return data.decode("latin-1" if language == "en" else "gb18030", "replace")

    def encoded(language: str, rng: random.Random) -> str:
        signs = string.ascii_letters + string.digits + "+/"
        return "\n".join("".join(rng.choice(signs) for _ in range(76)) for _ in range(30))

    def table(language: str, rng: random.Random) -> str:
        head = {"en": "Price", "zh": "价格"}[language]
        return "\n".join(f"{head} {rng.randrange(10**6)} {rng.random():.4f} | {rng.randrange(999)}" for _ in range(60))

    def cut(language: str, rng: random.Random) -> str:
        size, end = {"en": (40, "..."), "zh": (22, "……")}[language]
        return "\n".join(rng.choice(prose[language])[:size] + end for _ in range(25))

    def filler(language: str, rng: random.Random) -> str:
        return ". ".join(" ".join(rng.choice(LATIN.split()) for _ in range(12)) for _ in range(20)) + ". " + LATIN + "."

    return {
        "menus": lambda language, rng: lines(MENU[language], rng, 40, 120),
        "notices": lambda language, rng: lines(LEGAL[language], rng, 10, 40),
        "repeated lines": repeated,
        "stuffed keywords": stuffed,
        "mojibake": mojibake,
        "random bytes": bytes_as_text,
        "base64": encoded,
        "tables": table,
        "cut teasers": cut,
        "lorem ipsum": filler,
    }


# measured -----------------------------------------------------------------------------------------------------------


def made(names: tuple[str, ...], languages: tuple[str, ...]) -> list:
    recipe = SimpleNamespace(quality=QualityOptions(), personal=PersonalOptions(), evaluation=None)
    source = SourceOptions(name="benchmark", kind="web", languages=languages)
    return [RULES[name](recipe, source, Path(".")) for name in names]


class Tally:
    """What the rules did to the texts of one name."""

    def __init__(self, rules: list) -> None:
        self.rules = rules
        self.documents = self.size = self.left = 0
        self.gone: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()
        self.reasons: dict[str, Counter[str]] = {rule.name: Counter() for rule in rules}
        self.seconds: Counter[str] = Counter()
        self.read: Counter[str] = Counter()

    def add(self, text: str) -> None:
        self.documents += 1
        size = len(text.encode("utf-8", "replace"))
        self.size += size
        meta = {"source": "benchmark", "kind": "web"}
        stays = True
        for rule in self.rules:
            self.read[rule.name] += len(text.encode("utf-8", "replace"))
            start = time.perf_counter()
            verdict = rule(text, meta)
            self.seconds[rule.name] += time.perf_counter() - start
            if verdict.text is None:
                self.gone[rule.name] += 1
                self.bytes[rule.name] += size
                self.reasons[rule.name][verdict.reason] += 1
                stays = False
            else:
                text = verdict.text
        self.left += stays

    def row(self, name: str) -> str:
        shares = [100 * self.gone[rule.name] / max(self.documents, 1) for rule in self.rules]
        weights = [100 * self.bytes[rule.name] / max(self.size, 1) for rule in self.rules]
        cells = "".join(f"{share:>7.1f}{f'({weight:.0f})':>6}" for share, weight in zip(shares, weights))
        return f"{name:<20}{self.documents:>7}{cells}{100 - 100 * self.left / max(self.documents, 1):>9.1f}"

    def why(self) -> str:
        said = (f"{name}: {dict(counts.most_common(4))}" for name, counts in self.reasons.items() if counts)
        return "; ".join(said)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--only", choices=("en", "zh"))
    parser.add_argument("--rules", default=",".join(NAMES))
    parser.add_argument("--why", action="store_true", help="also the reasons")
    options = parser.parse_args()
    names = tuple(options.rules.split(","))
    rules = made(names, ("en", "zh"))
    head = f"{'':<20}{'texts':>7}" + "".join(f"{name:>13}" for name in names) + f"{'any':>9}"
    total: dict[str, Tally] = {}
    prose: dict[str, list[str]] = {"en": [], "zh": []}
    print("good text: share of documents dropped (and of bytes), in percent\n" + head)
    for name, (language, read) in good(options.data).items():
        tally = total.setdefault(language, Tally(rules))
        own = Tally(rules)
        for text in filter(str.strip, read()):
            if name in ("tinystories", "luxun"):
                prose[language] += [part for part in text.split("\n") if len(part) > 60]
            if options.only in (None, language):
                own.add(text)
        for rule in names:
            tally.seconds[rule] += own.seconds[rule]
            tally.read[rule] += own.read[rule]
        if own.documents:
            print(own.row(f"{language} {name.strip()}") + (f"\n      {own.why()}" if options.why else ""), flush=True)
    print(
        "planted garbage: share of documents dropped, in percent; for notices and menus c4 may leave nothing\n" + head
    )
    for name, make in bad(prose).items():
        for language in ("en", "zh"):
            if options.only in (None, language):
                rng = random.Random(f"{name} {language}")
                own = Tally(rules)
                for _ in range(PLANTED):
                    own.add(make(language, rng))
                print(own.row(f"{language} {name}") + (f"\n      {own.why()}" if options.why else ""), flush=True)
    print("speed: MB/s of one process\n" + f"{'':<20}{'':>7}" + "".join(f"{name:>13}" for name in names))
    for language, tally in total.items():
        if tally.read[names[0]]:
            cells = "".join(f"{tally.read[name] / 1e6 / tally.seconds[name]:>13.1f}" for name in names)
            every = tally.read[names[0]] / 1e6 / tally.seconds.total()
            print(f"{language:<27}{cells}{every:>9.1f}")


if __name__ == "__main__":
    main()
