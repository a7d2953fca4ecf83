"""report.html of a data preparation: one inert file that says in a minute why a document went."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

from instar.data.raw.piece import REASONS as UNREAD
from instar.data.refine import phrases
from instar.data.refine.page import ROWS, render_report, write_report
from instar.data.refine.phrases import LANGUAGES, Phrases
from instar.data.refine.rules import RULES
from instar.data.refine.specimens import CUT, EACH, MOST
from instar.text.figures import count, figure, size

spec = importlib.util.spec_from_file_location("report_example", Path(__file__).with_name("report_example.py"))
example = importlib.util.module_from_spec(spec)
spec.loader.exec_module(example)
EVIL = "<img src=x onerror=alert(1)><script>alert(2)</script>'\"&</span></style>"
OUTSIDE = ("src", "href", "xlink:href", "srcset", "data", "action", "poster", "background")


@pytest.fixture
def report():
    return example.make_report()


def source_of(**changes):
    """A source of which one document was read and kept."""
    flow = {"read": {"documents": [1, 1], "bytes": [5, 5], "tokens": None, "changed": 0, "places": 0, "reasons": {}}}
    usual = {"kind": "text", "files": 1, "skipped": {}, "bytes": 5, "languages": {}, "epochs": None, "share": None}
    return usual | {"broken": [], "flow": flow} | changes


def report_of(sources, samples=(), **changes):
    usual = {
        "name": "small", "key": "k", "version": "0", "sampled": None, "seconds": {}, "recipe": {}, "steps": ["read"],
        "sources": sources, "samples": list(samples), "shards": [],
    }  # fmt: skip
    return usual | changes


def sample_of(number=0, **changes):
    usual = {
        "source": "one", "step": "gopher", "verdict": "dropped", "reason": "short", "detail": "3 words",
        "where": f"file#{number}", "before": "three words only", "after": None,
    }  # fmt: skip
    return usual | changes


@pytest.mark.parametrize("language", LANGUAGES)
def test_one_file_that_needs_nothing(report, language, page_of):
    """No script and nothing from elsewhere: every link leads to the page itself or to the one in the other language."""
    page = page_of(render_report(report, language))
    (policy,) = [meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert not {"script", "img", "iframe", "object", "embed", "base", "form"} & {tag for tag, _ in page.tags}
    ids = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    for tag, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
        for name in OUTSIDE:
            if name in attributes and attributes[name] not in ("data:,", "report.html", "report.zh.html"):
                assert attributes[name].startswith("#"), (tag, attributes)
                assert attributes[name][1:] in ids, (tag, attributes)
    assert len(page.all("html")) == 1
    assert page.all("html")[0]["lang"] == language
    assert "url(" not in page.text
    assert "@import" not in page.text


def test_ids_stand_once(report, page_of):
    """What a link leads to is one place."""
    ids = [attributes["id"] for _, attributes in page_of(render_report(report)).tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_words_of_strangers_are_inert(page_of):
    """A tag stays text wherever a document, a file name, a source, a reason or a recipe brings it."""
    flow = {
        "documents": [2, 1], "bytes": [10, 5], "tokens": [3, 2], "changed": 1, "places": 1,
        "reasons": {EVIL: {"documents": 1, "bytes": 5, "changed": False}},
    }  # fmt: skip
    broken = [{"reason": EVIL, "count": 1, "bytes": 1, "first": [{"where": EVIL, "detail": EVIL}]}]
    source = source_of(
        kind=EVIL, skipped={EVIL: 2}, languages={EVIL: 1}, broken=broken, flow={"read": flow, EVIL: flow}
    )
    samples = [sample_of(source=EVIL, step=EVIL, reason=EVIL, detail=EVIL, where=EVIL, before=EVIL * 30)]
    samples += [samples[0] | {"verdict": "changed", "before": EVIL, "after": f"{EVIL} {EVIL}"}]
    shard = {"file": EVIL, "source": EVIL, "documents": 1, "tokens": 1, "bytes": 1}
    text = render_report(
        report_of(
            {EVIL: source}, samples, name=EVIL, key=EVIL, version=EVIL, tokenizer=EVIL, seconds={EVIL: 2.0},
            recipe={EVIL: EVIL}, steps=["read", EVIL], shards=[shard],
        )
    )  # fmt: skip
    page = page_of(text)
    assert page.text.count(EVIL) > 30
    assert not page.all("img")
    assert not page.all("script")
    assert text.count("<style>") == text.count("</style>") == 1


def numbers_of(report):
    """Every number of a report as the page shows it, with the way to it."""
    for name, source in report["sources"].items():
        yield f"{name} files", count(source["files"])
        yield f"{name} stored", size(source["bytes"])
        yield f"{name} epochs", figure(source["epochs"])
        for language, documents in source["languages"].items():
            yield f"{name} {language}", f"{language} {count(documents)}"
        for suffix, files in source["skipped"].items():
            yield f"{name} {suffix}", f"{suffix} {count(files)}"
        for broken in source["broken"]:
            yield f"{name} {broken['reason']}", f"{broken['reason']} {count(broken['count'])} {size(broken['bytes'])}"
            yield from ((f"{name} {broken['reason']}", each["where"]) for each in broken["first"])
        for step, flow in source["flow"].items():
            row = [count(each) for each in flow["documents"]] + [size(each) for each in flow["bytes"]]
            row += [("≈ " if flow["tokens_estimated"] else "") + count(each) for each in flow["tokens"]]
            yield f"{name} {step}", " ".join([*row, count(flow["changed"]), count(flow["places"])])
            for reason, found in flow["reasons"].items():
                yield f"{name} {step} {reason}", count(found["documents"])
    for step, flow in report["total"]["flow"].items():
        for reason, found in flow["reasons"].items():
            yield f"total {step} {reason}", f"{reason} {count(found['documents'])}"
            yield f"total {step} {reason}", size(found["bytes"])
    for shard in report["shards"]:
        row = [count(shard["documents"]), count(shard["tokens"]), size(shard["bytes"])]
        yield shard["file"], " ".join([shard["file"], shard["source"], *row])


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_number_is_there(report, language, page_of):
    """Documents, bytes and tokens in and out of each step, each reason, each fault, each shard, in either language."""
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", render_report(report, language)))
    missing = [f"{where}: {shown}" for where, shown in numbers_of(report) if shown not in text]
    assert not missing, missing[:5]


def test_what_is_shortened_stands_in_full_beside_it(report, page_of):
    """A size such as 134 MB has its bytes in its title."""
    titles = {attributes.get("title") for _, attributes in page_of(render_report(report)).tags}
    for source in report["sources"].values():
        assert f"{count(source['bytes'])} B" in titles
        assert all(f"{count(each)} B" in titles for flow in source["flow"].values() for each in flow["bytes"])


def test_bars_are_the_bytes(report, page_of):
    """The blue of a step is what is left of the text, the orange what it took, in shares of what was read."""
    report["sources"] = {"pages": report["sources"]["pages"]}
    report["total"] = {}
    flow = report["sources"]["pages"]["flow"]
    widths = [
        (each["class"], float(each["style"].removeprefix("width:").removesuffix("%")))
        for each in page_of(render_report(report)).all("i")
        if each.get("class")
    ]
    start = flow["read"]["bytes"][0]
    drawn = [width for kind, width in widths if kind == "kept"]
    for step in ("read", "gopher", "near"):
        assert any(width == pytest.approx(100 * flow[step]["bytes"][1] / start, abs=0.001) for width in drawn), step
    taken = 100 * (flow["near"]["bytes"][0] - flow["near"]["bytes"][1]) / start
    assert ("taken", pytest.approx(taken, abs=0.001)) in widths
    assert all(0 <= width <= 100 for _, width in widths)


def test_why_a_document_went(report, page_of):
    """The reason in words, what was found and wanted, which file and place, and the text, under its source and rule."""
    text = page_of(render_report(report)).text
    place = text.index("Samples", text.index("Rules and reasons"))
    went = re.sub(r"\s+", " ", text[place:])
    assert (
        "gopher too few words 5,423 documents 12 words, at least 50 wanted data/web/aeb/html/19f0.html#1 Sign in"
        in went
    )
    chinese = page_of(render_report(report, "zh")).text
    assert re.search(r"gopher\s+词太少\s+5,423 篇\s+12 words, at least 50 wanted", chinese)


def test_reasons_lead_to_their_samples(report):
    """In the flow of a source and in the table of reasons a reason is a link to the group of its samples."""
    text = render_report(report)
    group = re.search(r'id="(samples-\d+)">\s*<h4>[^\n]*gopher</span> too few words', text)[1]
    assert re.search(rf'<a href="#{group}">too few words</a>', text)
    assert f'<a href="#{group}"><span>pages</span></a>' in text


def test_changes_are_marked(report):
    """Of a changed document what went out is struck and what came in is marked, the rest is plain."""
    text = render_report(report)
    assert "<del>jane.doe+spam@post.invalid</del><ins>someone@example.com</ins>" in text
    assert "<del>13812345678</del><ins>13800000000</ins>" in text
    assert '<del class="odd">U+200B</del>' in text
    assert re.search(r'<span class="same">\d+ characters the same</span>', text)


def test_what_no_file_can_hold_is_spelt_out(tmp_path):
    """Lone surrogates, controls and marks of direction of a text, a detail or an address are seen, in a UTF-8 file."""
    bad = "a\ud800b\x1bc\u202ed"
    spelt = 'a<span class="odd">U+D800</span>b<span class="odd">U+001B</span>c<span class="odd">U+202E</span>d'
    made = report_of({"one": source_of(), bad: source_of()}, [sample_of(before=bad, detail=bad, where=bad)])
    write_report(tmp_path, made, pytest.fail)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert spelt in text
    assert text.count("aU+D800bU+001BcU+202Ed") == 2
    assert "\x1b" not in text


def test_estimates_are_marked(report, page_of):
    """Tokens that were estimated carry ≈ wherever they stand, those that were counted do not."""
    text = page_of(render_report(report)).text
    assert "≈ marks numbers" in text
    start = sum(source["flow"]["read"]["tokens"][0] for source in report["sources"].values())
    stop = sum(source["flow"]["tokens"]["tokens"][1] for source in report["sources"].values())
    assert re.search(rf"≈ {start / 1e6:.3g} M", text)
    assert re.search(rf"(?<!≈ )\b{stop / 1e6:.3g} M", text)
    for source in report["sources"].values():
        for flow in source["flow"].values():
            flow["tokens_estimated"] = False
    assert "≈" not in page_of(render_report(report)).text


def test_without_a_tokenizer(page_of):
    """Before there are tokens none are claimed, and nothing is called an estimate."""
    text = page_of(render_report(example.make_report(tokens=False))).text
    assert "≈" not in text
    assert "There are none yet." in text
    assert "It is known once there are shards." in text


def test_no_tokenizer_no_step(page_of):
    """A step that could not run, for want of a tokenizer, is not drawn as if it had."""
    flow = source_of()["flow"] | {"tokens": source_of()["flow"]["read"]}
    made = report_of({"one": source_of(flow=flow)}, steps=["read", "tokens"])
    assert "texts become token shards" not in page_of(render_report(made)).text
    flow["tokens"] = flow["tokens"] | {"tokens": [2, 2]}
    assert "texts become token shards" in page_of(render_report(made)).text


def test_a_sample_says_that_it_is_one(page_of):
    """Whoever looks at a trial must not take its numbers for those of all the data."""
    text = page_of(render_report(example.make_report(sampled=1000))).text
    assert "tried on 1,000 documents" in text
    assert "not of all the data" in text
    assert "tried on" not in page_of(render_report(example.make_report())).text


def test_same_report_same_bytes(report):
    """Nothing but the report goes into the page, and a report that was stored and read again is the same."""
    first = render_report(report)
    assert first == render_report(example.make_report())
    assert first == render_report(json.loads(json.dumps(report)))


def test_the_page_stays_small():
    """Of very many samples, shards and long texts it shows so many, and says how many are left out."""
    sources = {f"source {number}": source_of() for number in range(60)}
    samples = [
        sample_of(number, source=name, reason=f"reason {kind}", before="&" * 9000, detail="d" * 9000, where="w" * 9000)
        for name in sources for kind in range(4) for number in range(EACH)
    ]  # fmt: skip
    shard = {"file": "0.tokens.safetensors", "source": "source 1", "documents": 1, "tokens": 1, "bytes": 1}
    text = render_report(report_of(sources, samples, shards=[shard] * (ROWS + 7), recipe={"long": "x" * 1_000_000}))
    assert text.count('<article class="specimen">') == 240 <= MOST
    assert f"{len(samples) - 240} more samples stand in report.json." in text
    assert "7 more in report.json." in text
    assert text.count("<span>0.tokens.safetensors</span>") == ROWS
    assert text.count("&amp;") == 240 * CUT
    assert len(text) < 240 * (5 * CUT + 3000) + 500_000


def test_nothing_at_all(page_of):
    """Without sources, without documents and without bytes there is a page, and no share of nothing."""
    assert "Nothing was read." in page_of(render_report(report_of({}))).text
    empty = {"documents": [0, 0], "bytes": [0, 0], "tokens": [0, 0], "changed": 0, "places": 0, "reasons": {}}
    lost = empty | {"documents": [3, 0], "reasons": {"binary": {"documents": 3, "bytes": 9, "changed": False}}}
    sources = {
        "none": source_of(flow={}),
        "zero": source_of(flow={"read": empty}),
        "lost": source_of(flow={"read": lost}),
    }
    text = page_of(render_report(report_of(sources, seconds={"read": 0.0}))).text
    assert "nan" not in text
    assert re.search(r"not text\s*binary\s*3\s*100 %", text)


def test_a_step_that_makes_text_longer(page_of):
    """Text that grows is no negative width: it is said with a plus."""
    flow = {"documents": [1, 1], "bytes": [10, 15], "tokens": None, "changed": 1, "places": 1, "reasons": {}}
    page = page_of(render_report(report_of({"one": source_of(flow={"read": flow})})))
    assert "+50.0 %" in page.text
    drawn = [(each["class"], each["style"]) for each in page.all("i") if each.get("class")]
    assert set(drawn) == {("kept", "width:100.000%"), ("kept", "width:0.000%")}  # and nothing of the mixture yet


def test_a_page_never_costs_a_run(tmp_path):
    """What cannot be shown is said; both languages are written, and nothing else stays in the folder."""
    said = []
    write_report(tmp_path, {"name": "broken"}, said.append)
    assert len(said) == len(LANGUAGES)
    assert "report.html was not written: KeyError" in said[0]
    assert not list(tmp_path.iterdir())
    write_report(tmp_path, example.make_report(), pytest.fail)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.zh.html"]


def test_everything_has_words_in_every_language():
    """Each rule, step, reason for giving up and heading is said in both; an unknown reason is shown as it is."""
    tables = (phrases.STEPS, phrases.ABOUT, phrases.REASONS, phrases.WORDS, phrases.KINDS, phrases.PHASES)
    assert all(len(said) == len(LANGUAGES) and all(said) for table in tables for said in table.values())
    assert phrases.UNREAD_ZH.keys() == UNREAD.keys()
    assert {*RULES, "read", "exact", "near", "tokens"} == phrases.STEPS.keys() == phrases.ABOUT.keys()
    t = Phrases("en")
    assert (t.reason("gopher", "odd_new_one"), t.reason("new", "short"), t.step("new")) == (
        "odd new one",
        "short",
        "new",
    )
    with pytest.raises(KeyError, match="no words in 'fr'"):
        Phrases("fr")


def test_the_reasons_of_the_rules_have_words():
    """What datatrove's filters and ours give as a reason is said in words, each for its own rule."""
    pytest.importorskip("datatrove")
    from instar.data.refine.lines import FATAL
    from instar.data.refine.quality import GOPHER

    known = {("gopher", row[0]) for row in GOPHER.values()} | {("c4", reason) for reason in FATAL}
    known |= {("c4", "lines"), ("c4", "few_sentences"), ("read", "surrogates"), ("personal", "masked")}
    known |= {("repetition", reason) for reason in ("lines", "paragraphs", "top_run", "runs", "empty")}
    known |= {("fineweb", reason) for reason in ("open_lines", "short_lines", "copied_lines", "list")}
    known |= {("repair", reason) for reason in ("repaired", "broken", "empty")} | {("language", "language")}
    known |= {("evaluation", "contaminated"), ("evaluation", "cut"), ("exact", "copy"), ("near", "copy")}
    assert not {(step, reason) for step, reason in known if not {f"{step}/{reason}", reason} & phrases.REASONS.keys()}
