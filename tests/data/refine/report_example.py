"""A report as a run over five sources in two languages would leave it, made up by hand and by rules of thumb."""

from instar.config import to_dict
from instar.config.data import read_data_recipe

STEPS = [
    "read", "repair", "language", "gopher", "repetition", "c4", "fineweb", "evaluation", "personal", "exact", "near",
    "tokens",
]  # fmt: skip
# source -> kind, files, stored bytes, documents read, bytes a document, tokens a byte, epochs
SOURCES = {
    "pages": ("web", 1862, 148_213_907, 41_806, 3217, 0.27, 1.0),
    "新闻": ("web", 640, 63_117_440, 18_233, 2871, 0.33, 1.5),
    "novels": ("books", 57, 31_870_112, 57, 553_000, 0.26, 2.0),
    "papers": ("papers", 311, 22_004_871, 309, 68_411, 0.29, 1.0),
    "talks": ("dialogues", 14, 9_811_204, 9_640, 911, 0.31, 1.0),
}
# source -> step -> reason -> share of the documents, share of the bytes of each, whether they only change
RULES = {
    "pages": {
        "read": {"surrogates": (0.00005, 1, True)},
        "repair": {"broken": (0.006, 0.7, False), "repaired": (0.21, 1.2, True)},
        "language": {"language": (0.081, 0.6, False)},
        "gopher": {
            "short": (0.142, 0.06, False),
            "stop_words": (0.031, 0.2, False),
            "signs": (0.012, 0.4, False),
            "bullets": (0.004, 0.3, False),
            "long_words": (0.002, 0.3, False),
        },
        "repetition": {
            "runs": (0.041, 0.9, False),
            "top_run": (0.016, 0.4, False),
            "lines": (0.011, 0.6, False),
            "paragraphs": (0.004, 0.7, False),
        },
        "c4": {
            "few_sentences": (0.053, 0.2, False),
            "curly_bracket": (0.021, 1.1, False),
            "lorem_ipsum": (0.0004, 0.5, False),
            "lines": (0.44, 1.1, True),
        },
        "fineweb": {
            "open_lines": (0.034, 0.5, False),
            "short_lines": (0.029, 0.6, False),
            "copied_lines": (0.013, 0.8, False),
            "list": (0.008, 0.4, False),
        },
        "evaluation": {"contaminated": (0.0006, 1.3, False)},
        "personal": {"masked": (0.072, 1.4, True)},
        "exact": {"copy": (0.046, 0.9, False)},
        "near": {"copy": (0.083, 1.05, False)},
    },
    "新闻": {
        "repair": {"broken": (0.011, 0.8, False), "repaired": (0.34, 1.1, True)},
        "language": {"language": (0.014, 0.5, False)},
        "gopher": {"short": (0.118, 0.07, False), "signs": (0.02, 0.3, False), "stop_words": (0.004, 0.2, False)},
        "repetition": {"runs": (0.025, 0.8, False), "lines": (0.006, 0.5, False)},
        "c4": {"few_sentences": (0.04, 0.15, False), "lines": (0.61, 1.1, True)},
        "fineweb": {"short_lines": (0.026, 0.5, False), "open_lines": (0.012, 0.4, False)},
        "evaluation": {"contaminated": (0.0002, 1.1, False)},
        "personal": {"masked": (0.094, 1.2, True)},
        "exact": {"copy": (0.081, 0.9, False)},
        "near": {"copy": (0.152, 1.0, False)},
    },
    "novels": {
        "repair": {"repaired": (0.8, 1.0, True)},
        "language": {"language": (0.02, 0.6, False)},
        "repetition": {},
        "personal": {},
        "exact": {"copy": (0.036, 0.8, False)},
        "near": {"copy": (0.036, 1.1, False)},
    },
    "papers": {
        "repair": {"repaired": (0.4, 1.0, True)},
        "language": {},
        "repetition": {"runs": (0.013, 0.3, False)},
        "evaluation": {"contaminated": (0.0033, 1, False)},
        "personal": {"masked": (0.55, 1.0, True)},
        "exact": {},
        "near": {"copy": (0.01, 1.0, False)},
    },
    "talks": {
        "repair": {"repaired": (0.03, 1.0, True)},
        "language": {"language": (0.022, 0.8, False)},
        "evaluation": {"contaminated": (0.004, 0.9, False)},
        "personal": {"masked": (0.013, 1.3, True)},
        "exact": {"copy": (0.12, 0.5, False)},
        "near": {"copy": (0.031, 0.9, False)},
    },
}
CUTS = {"repair": 0.004, "c4": 0.07, "personal": 0.0006}  # share of the text that goes from changed documents
BROKEN = {
    "pages": [
        ("empty", 211, 4_402_118, [("data/web/aeb/html/0fb2.html", "no text was found, of 41,204 bytes")]),
        ("deep", 1, 9_400_000, [("data/web/bomb.html", "tags inside each other: 200,000, at most 512 wanted")]),
        ("truncated", 2, 813_002, [("data/web/crawl-07.warc.gz#4411", "ends inside a record"),
                                   ("data/web/crawl-09.warc.gz#17", "ends inside a record")]),
    ],
    "新闻": [("encoding", 6, 88_120, [("data/web/zh/html/旧闻 1998.html", "neither UTF-8 nor GB18030 nor Big5")])],
    "novels": [
        ("archive", 1, 120_331, [("data/sources/books/not-a-book.epub", "found %PDF-1.4, wanted a zip")]),
        ("expands", 1, 42_374, [("data/sources/books/42.epub", "unpacks to 4.5 GB, at most 64 MB wanted")]),
    ],
    "papers": [],
    "talks": [("json", 3, 2_091, [("data/dialogue/chat.jsonl#118", "Expecting ',' delimiter: column 204")])],
}  # fmt: skip
LANGUAGES = {
    "pages": {"en": 0.86, "zh": 0.12, "unknown": 0.02}, "新闻": {"zh": 0.97, "en": 0.03},
    "novels": {"en": 0.7, "zh": 0.3}, "papers": {"en": 0.93, "zh": 0.07}, "talks": {"zh": 0.61, "en": 0.39},
}  # fmt: skip
LONG = (
    "The ferry leaves the northern pier at a quarter past six, and on most mornings in autumn there is nobody "
    "on it but the baker, two nurses and a dog that belongs to none of them. It takes eleven minutes to the "
    "island. The captain, who has done this since the old bridge was closed, knows by the colour of the water "
    "what the wind will do.\n\n"
    "Nothing of this was planned. When the council decided in spring to repair the bridge in sections, it "
    "meant to keep one lane open; then the divers found the piles, and what was to last a summer has lasted "
    "nine years. People have grown used to timetables. The school begins later, the post comes by bicycle, and "
    "the two shops on the island have divided the goods between them so that neither has to carry everything.\n\n"
    "Asked whether they would like the bridge back, most of them look at the water for a while before they "
    "answer."
)
ZH = (
    "清晨的码头上几乎没有人。渡船六点一刻离岸，船上通常只有面包师、两名护士，还有一条不属于任何人的狗。到岛上要十一分钟。"
    "船长看水色便知道风向，自从旧桥封闭，他已经这样开了九年。\n\n没有人预料到会这么久。当初镇里决定分段修桥，本想留一条车道通行，"
    "后来潜水员查看了桥桩，一个夏天的工程便成了九年。人们渐渐习惯了时刻表：学校推迟上课，邮件用自行车送，岛上的两家店铺分着进货，"
    "谁也不必样样都卖。\n\n问他们想不想要回那座桥，多数人会先看一会儿水面，再慢慢回答。"
)
# source, step, verdict, reason, detail, where, before, after
SAMPLES = [
    (
        "pages",
        "repair",
        "dropped",
        "broken",
        "31 % of its characters are broken (\ufffd: 812), at most 1 % wanted",
        "data/web/aeb/html/77ce.html#1",
        "The old town of Bra\ufffd\ufffdov \ufffd\ufffd\ufffd has \ufffd walls " * 20,
        None,
    ),
    (
        "pages",
        "repair",
        "changed",
        "repaired",
        "encoding: 2, unseen characters: 3, trailing blanks: 1",
        "data/web/aeb/html/0a11.html#1",
        "Donâ€™t miss the ferry\u200b to the island.   \nIt\u00ad leaves at\x07 six. " + LONG,
        "Don’t miss the ferry to the island.\nIt leaves at six. " + LONG,
    ),
    (
        "pages",
        "language",
        "dropped",
        "language",
        "found de (0.97), wanted en, zh",
        "data/web/aeb/html/b3d0.html#1",
        "Die Fähre legt um Viertel nach sechs ab, und an den meisten Morgen ist niemand darauf als der Bäcker. " * 3,
        None,
    ),
    (
        "pages",
        "gopher",
        "dropped",
        "short",
        "12 words, at least 50 wanted",
        "data/web/aeb/html/19f0.html#1",
        "Sign in to continue. Forgot your password? Create a new account here.",
        None,
    ),
    (
        "pages",
        "gopher",
        "dropped",
        "short",
        "31 words, at least 50 wanted",
        "data/web/trafilatura/html/menu.html#1",
        "Home\nAbout us\nProducts\nNews\nContact\nImprint\nPrivacy\nFollow us\nSubscribe to our newsletter\nJobs",
        None,
    ),
    (
        "pages",
        "gopher",
        "dropped",
        "stop_words",
        "1 different stop words, at least 2 wanted",
        "data/web/aeb/html/5ad9.html#1",
        "Bolt M6 x 30\nBolt M6 x 35\nBolt M8 x 40, zinc\nWasher M8\nNut M8 DIN 934\n" * 8,
        None,
    ),
    (
        "pages",
        "gopher",
        "dropped",
        "signs",
        "0.52 of the words have a letter, at least 0.8 wanted",
        "data/web/aeb/html/e0e1.html#1",
        "12.50 13.10 13.45 | 14.20 – 15.00 (3) [7] 16.10 / 17.30 = 18.20 total\n" * 12,
        None,
    ),
    (
        "pages",
        "repetition",
        "dropped",
        "runs",
        "0.41 of the characters are runs of 5 words that stood before, at most 0.15 wanted",
        "data/web/aeb/html/c4c4.html#1",
        "Read more about this hotel and book your room today. " * 30,
        None,
    ),
    (
        "pages",
        "c4",
        "dropped",
        "curly_bracket",
        "found '{' in 'function go() { return 1 }', wanted none",
        "data/web/aeb/html/f00d.html#1",
        "How to write a function.\n\nfunction go() { return 1 }\n\n" + LONG,
        None,
    ),
    (
        "pages",
        "c4",
        "changed",
        "lines",
        "short: 3, policy: 1",
        "data/web/trafilatura/html/ferry.html#1",
        "Home\nNews\n"
        + LONG.split("\n\n")[0]
        + "\nThis site uses cookies. Terms of use.\nShare\n"
        + LONG.split("\n\n")[1],
        LONG.split("\n\n")[0] + "\n" + LONG.split("\n\n")[1],
    ),
    (
        "pages",
        "fineweb",
        "dropped",
        "short_lines",
        "0.81 of the lines have at most 30 characters, at most 0.67 wanted",
        "data/web/aeb/html/aa07.html#1",
        "Monday 9-17\nTuesday 9-17\nWednesday closed.\nThursday 9-19\nFriday 9-17.\n" * 6,
        None,
    ),
    (
        "pages",
        "evaluation",
        "dropped",
        "contaminated",
        "13 words of arc_easy.jsonl#88: which of these is a renewable …",
        "data/web/aeb/html/d00d.html#1",
        "Quiz for Friday. Which of these is a renewable source of energy? " + LONG,
        None,
    ),
    (
        "pages",
        "personal",
        "changed",
        "masked",
        "e-mail addresses: 1, telephone numbers: 1",
        "data/web/aeb/html/1234.html#1",
        "Write to jane.doe+spam@post.invalid or call +44 20 7946 0958 before Friday. " + LONG,
        "Write to someone@example.com or call +1 202 555 0100 before Friday. " + LONG,
    ),
    (
        "pages",
        "near",
        "dropped",
        "copy",
        "near copy of data/web/aeb/html/0a11.html#1",
        "data/web/aeb/html/9c1e.html#1",
        LONG,
        None,
    ),
    ("pages", "", "kept", "", "", "data/web/aeb/html/4e4e.html#1", LONG, None),
    ("pages", "", "kept", "", "", "data/web/trafilatura/html/harbour.html#1", LONG[::-1][:300][::-1], None),
    (
        "新闻",
        "repair",
        "dropped",
        "broken",
        "18 % of its characters are broken (锟斤拷: 402), at most 1 % wanted",
        "data/web/zh/html/0031.html#1",
        "锟斤拷锟斤拷新闻锟斤拷，记者锟斤拷报道：" * 24,
        None,
    ),
    (
        "新闻",
        "gopher",
        "dropped",
        "short",
        "23 words, at least 80 wanted",
        "data/web/zh/html/0102.html#1",
        "您访问的页面不存在，五秒后自动返回首页。如果没有跳转，请点击这里。",
        None,
    ),
    (
        "新闻",
        "c4",
        "changed",
        "lines",
        "policy: 2, short: 1",
        "data/web/zh/html/0777.html#1",
        "首页\n" + ZH + "\n责任编辑：王某\n扫码关注公众号，了解更多。",
        ZH,
    ),
    (
        "新闻",
        "personal",
        "changed",
        "masked",
        "telephone numbers: 1, e-mail addresses: 1, identity cards: 1",
        "data/web/zh/html/0815.html#1",
        "联系人：李女士，电话13812345678，邮箱 lili@post.invalid。身份证号11010519491231002X，请勿外传。" + ZH,
        "联系人：李女士，电话13800000000，邮箱 someone@example.com。身份证号110101190001010009，请勿外传。" + ZH,
    ),
    (
        "新闻",
        "exact",
        "dropped",
        "copy",
        "exact copy of data/web/zh/html/0777.html#1",
        "data/web/zh/html/0778.html#1",
        ZH,
        None,
    ),
    ("新闻", "", "kept", "", "", "data/web/zh/html/0920.html#1", ZH, None),
    (
        "novels",
        "repair",
        "changed",
        "repaired",
        "line ends: 4,108",
        "data/pretrain/en/books/harbour.txt#1",
        "CHAPTER I\r\n\r\n" + LONG.replace("\n", "\r\n"),
        "CHAPTER I\n\n" + LONG,
    ),
    ("novels", "", "kept", "", "", "data/sources/books/island.epub#1", "CHAPTER II\n\n" + LONG * 3, None),
    (
        "papers",
        "personal",
        "changed",
        "masked",
        "e-mail addresses: 2",
        "data/papers/stacks_tex/sites.tex#1",
        "A. Writer (a.writer@post.invalid), B. Reader (b.reader@post.invalid)\n\n" + LONG,
        "A. Writer (someone@example.com), B. Reader (someone@example.com)\n\n" + LONG,
    ),
    (
        "talks",
        "exact",
        "dropped",
        "copy",
        "exact copy of data/dialogue/chat.jsonl#4",
        "data/dialogue/chat.jsonl#91",
        "User: Hello!\n\nAssistant: Hello! How can I help you?",
        None,
    ),
    (
        "talks",
        "",
        "kept",
        "",
        "",
        "data/dialogue/chat.jsonl#1207",
        "用户：渡船几点开？\n\n助手：早上六点一刻，第一班。\n\n用户：要多久？\n\n助手：十一分钟。",
        None,
    ),
]


def flow_of(name, tokens):
    """The flow of a source: what each reason takes of what is left."""
    _, _, _, documents, each, rate, _ = SOURCES[name]
    broken = sum(count for _, count, _, _ in BROKEN[name])
    flow, left, size = {}, documents, documents * each
    for step in STEPS[:-1]:
        rules = RULES[name].get(step)
        if rules is None and step != "read":
            continue
        reasons, gone, gone_bytes, changed = {}, 0, 0, 0
        for reason, (share, weight, changes) in (rules or {}).items():
            count = max(1, round(share * left))
            amount = round(count * size / left * weight)
            reasons[reason] = {"documents": count, "bytes": amount, "changed": changes}
            if changes:
                changed += count
                gone_bytes += round(CUTS.get(step, 0) * amount)
            else:
                gone, gone_bytes = gone + count, gone_bytes + amount
        if step == "read":
            for reason, count, amount, _ in BROKEN[name]:
                reasons[reason] = {"documents": count, "bytes": amount, "changed": False}
        entered = left + (broken if step == "read" else 0)
        after = [left - gone, size - gone_bytes]
        flow[step] = {
            "documents": [entered, after[0]], "bytes": [size, after[1]],
            "tokens": [round(size * rate), round(after[1] * rate)] if tokens else None, "tokens_estimated": True,
            "probed": [[0, 0], [0, 0]], "changed": changed, "places": 3 * changed, "reasons": reasons,
        }  # fmt: skip
        left, size = after
    if tokens:
        exact = round(size * rate * 1.004) + left
        flow["tokens"] = {
            "documents": [left, left], "bytes": [size, size], "tokens": [exact, exact], "tokens_estimated": False,
            "probed": [[size, size], [exact, exact]], "changed": 0, "places": 0, "reasons": {},
        }  # fmt: skip
    return flow


def make_report(*, sampled=None, tokens=True):
    """The whole report; without tokens as before there is a tokenizer."""
    flows = {name: flow_of(name, tokens) for name in SOURCES}
    ends = {name: list(flow.values())[-1] for name, flow in flows.items()}
    amounts = {name: SOURCES[name][6] * end["tokens"][1] if tokens else 0 for name, end in ends.items()}
    sources = {}
    for name, (kind, files, stored, _, _, _, epochs) in SOURCES.items():
        left = ends[name]["documents"][1]
        sources[name] = {
            "kind": kind, "files": files, "skipped": {".png": 312, ".css": 41} if name == "pages" else {},
            "bytes": stored, "epochs": epochs, "share": amounts[name] / sum(amounts.values()) if tokens else None,
            "languages": {language: round(share * left) for language, share in LANGUAGES[name].items()},
            "broken": [
                {
                    "reason": reason, "count": count, "bytes": amount,
                    "first": [{"where": where, "detail": detail} for where, detail in first],
                }
                for reason, count, amount, first in BROKEN[name]
            ],
            "flow": flows[name],
        }  # fmt: skip
    recipe = {"name": "harbour", "sources": [
        {"name": name, "kind": kind, "data": [f"data/{kind}"], "epochs": epochs}
        for name, (kind, *_, epochs) in SOURCES.items()
    ]}  # fmt: skip
    shards = [
        {"file": f"{number:05d}.tokens.safetensors", "source": name, "documents": end["documents"][1] // 2 + number,
         "tokens": end["tokens"][1] // 2 + number, "bytes": end["tokens"][1] + 4096 + number}
        for number, (name, end) in enumerate(ends.items())
    ] if tokens else []  # fmt: skip
    keys = ("source", "step", "verdict", "reason", "detail", "where", "before", "after")
    return {
        "name": "harbour", "key": "5e1d" * 16, "version": "0.7.0", "tokenizer": "ab12" * 16 if tokens else None,
        "sampled": sampled, "recipe": to_dict(read_data_recipe(recipe)), "steps": STEPS, "sources": sources,
        "seconds": {"read": 412.6, "buckets": 21.04, "write": 38.2, **({"tokens": 61.7} if tokens else {})},
        "total": {"bytes": sum(source["bytes"] for source in sources.values()), "flow": summed(flows.values())},
        "samples": [dict(zip(keys, sample)) for sample in SAMPLES], "shards": shards,
    }  # fmt: skip


def summed(flows):
    """All flows as one."""
    whole = {}
    for step in STEPS:
        some = [flow[step] for flow in flows if step in flow]
        if not some:
            continue
        reasons = {}
        for each in some:
            for reason, found in each["reasons"].items():
                own = reasons.setdefault(reason, {"documents": 0, "bytes": 0, "changed": found["changed"]})
                own["documents"], own["bytes"] = own["documents"] + found["documents"], own["bytes"] + found["bytes"]
        whole[step] = {
            name: [sum(each[name][side] for each in some) for side in (0, 1)] if some[0][name] else None
            for name in ("documents", "bytes", "tokens")
        } | {
            "tokens_estimated": some[0]["tokens_estimated"], "reasons": reasons,
            "changed": sum(each["changed"] for each in some), "places": sum(each["places"] for each in some),
        }  # fmt: skip
    return whole
