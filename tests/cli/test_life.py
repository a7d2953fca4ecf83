"""`instar grow`: a whole life, its closing tables on a screen of 80 columns, and what happens the second time."""

import io
import json
import re
import shutil
import time

import pytest
from rich.cells import cell_len
from rich.console import Console

from instar.cli.life import GUESSES, beside_table, closing_lines, draw_exchange, exam_table
from instar.cli.screen import Screen, table
from instar.config import dump_yaml, load_yaml
from instar.config.flags import merge
from instar.config.options import Screen as ScreenOptions

KINDS = ["who", "whom", "where", "has", "why", "wanted", "colour", "count", "yesno", "order"]


def draw(*drawings):
    """What a terminal of 80 columns shows."""
    console = Console(file=io.StringIO(), width=80, highlight=False)
    for drawing in drawings:
        console.print(drawing, markup=False)
    return console.file.getvalue()


def make_exam(questions=1234):
    row = {"questions": questions, "exact": 0.875, "ended": 1.0}
    rows = {"all": row} | dict.fromkeys(KINDS, row)
    guesses = {kind: dict.fromkeys(GUESSES, 0.25) for kind in rows}
    return {"before": {"scores": {"en": rows}}, "after": {"scores": {"en": rows}, "controls": {"en": guesses}}}


def test_a_whole_life(grown):
    """One JSON object on stdout, the same as report.json; a folder for each stage; scores before and after."""
    report = json.loads(grown.said)
    assert grown.said.count("\n") == 1
    written = json.loads((grown.out / "report.json").read_text(encoding="utf-8"))
    assert report | {"seconds": 0} == written | {"seconds": 0}  # another test may have looked at the life again
    assert all((grown.out / stage / "grow.json").is_file() for stage in report["stages"])
    assert set(report["exam"]["after"]["scores"]) == {"en", "zh"}
    assert set(report["exam"]["after"]["controls"]["en"]["all"]) <= set(GUESSES)
    assert [exchange["user"] for exchange in report["exchanges"]][-2:] == ["Hello!", "你好！"]
    assert (grown.out / "loss.svg").is_file()
    page = (grown.out / "report.html").read_text(encoding="utf-8")
    links = re.findall(r'<a href="([^"]*)"', page)
    assert links == ["pretrain/report.html", "lessons/report.html", "sft/report.html"]
    assert all((grown.out / link).is_file() for link in links)
    assert all(guess in page for guess in report["exam"]["after"]["controls"]["en"]["all"])
    of_sft = (grown.out / "sft" / "report.html").read_text(encoding="utf-8")
    assert 'href="../lessons/report.html"' in of_sft
    assert "No exam was taken" not in of_sft


def test_the_second_time_everything_is_skipped(grown, cli):
    """Nothing is trained or asked again, the weights stay as they are, and it takes no five seconds of work."""
    weights = grown.out / "sft" / "model.safetensors"
    before = weights.stat()
    started = time.process_time()
    result = cli("grow", grown.recipe, "--out", grown.out)
    assert time.process_time() - started < 5
    assert result.status == 0
    assert result.err.count("skipped") == len(json.loads(grown.said)["stages"])
    assert "exam of" not in result.err
    assert (weights.stat().st_mtime_ns, weights.stat().st_ino) == (before.st_mtime_ns, before.st_ino)


def test_the_closing_words_fit_the_screen(grown, cli):
    """Nothing is cut short, no table is wider than 80 columns, and the lines to be copied are whole."""
    out = cli("grow", grown.recipe, "--out", grown.out).out
    assert "…" not in out.split("\n>")[0]
    lines = [line for line in out.splitlines() if str(grown.out) not in line]
    assert max(map(cell_len, lines)) <= 80
    assert f"instar chat --model {grown.out}/sft" in out
    assert f"--model {grown.out}/pretrain --prompt 'Once upon a time'" in out


def test_quiet_is_quiet(grown, cli):
    """Neither notes nor tables."""
    result = cli("grow", grown.recipe, "--out", grown.out, "--quiet")
    assert (result.status, result.out, result.err) == (0, "", "")


def test_a_changed_recipe_sets_the_old_folder_aside(grown, cli, tmp_path):
    """Story: a stage with other inputs starts anew; what was made before is kept beside it, and earlier stages stay."""
    out = tmp_path / "out"
    shutil.copytree(grown.out, out)
    old = (out / "sft" / "model.safetensors").read_bytes()
    changed = tmp_path / "changed.yaml"
    changed.write_text(dump_yaml(merge(load_yaml(grown.recipe), {"sft": {"train": {"steps": 1}}})), encoding="utf-8")
    result = cli("grow", changed, "--out", out, "--json")
    assert result.status == 0
    assert result.err.count("skipped") == len(result.json["stages"]) - 1
    assert "the old folder is kept as sft.1" in result.err
    assert (out / "sft.1" / "model.safetensors").read_bytes() == old
    assert (out / "sft" / "model.safetensors").read_bytes() != old
    assert result.json["stages"]["sft"]["steps"] == 1


def test_exam_table():
    """Every kind with its figures in full, the sum last, and a sentence that says what is counted."""
    text = draw(exam_table(make_exam(), "en"))
    lines = text.splitlines()
    assert "…" not in text
    assert max(map(cell_len, lines)) <= 80
    rows = [line.split() for line in lines if "0.875" in line]
    assert [row[0] for row in rows] == [*KINDS, "all"]
    assert rows[0] == ["who", "1,234", "0.875", "0.875", *["0.250"] * 6]
    assert lines[1].strip() == "en: exactly right, before and after SFT, on facts never told in training"
    assert lines[-1].strip().endswith("blind: this model without the story")
    header = next(line for line in lines if "asked" in line)
    assert header.split() == [
        "kind",
        "asked",
        "before",
        "after",
        "majority",
        "first",
        "last",
        "random",
        "no",
        "story",
        "blind",
    ]


def test_the_sum_is_bold():
    """Only the last row of a table with a sum stands out."""
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system="standard")
    console.print(table("", ["a", "b"], [["one", 1], ["all", 1]], sums=True))
    rows = [line for line in console.file.getvalue().splitlines() if "one" in line or "all" in line]
    assert ["\x1b[1m" in row for row in rows] == [False, True]


def test_an_exam_without_guesses():
    """Where no controls were made, the table has the scores alone."""
    exam = make_exam()
    del exam["after"]["controls"]
    assert "majority" not in draw(exam_table(exam, "en"))


@pytest.mark.parametrize("tuned", [["dpo"], ["dpo", "ppo", "grpo"]])
def test_exam_table_after_preference_tuning(tuned):
    """A column for each stage that was tuned; guesses give way, since a screen has 80 columns."""
    exam = make_exam()
    exam |= {stage: {"scores": exam["before"]["scores"]} for stage in tuned}
    text = draw(exam_table(exam, "en"))
    lines = text.splitlines()
    assert "…" not in text
    assert max(map(cell_len, lines)) <= 80
    header = next(line for line in lines if "asked" in line)
    assert header.split()[:5] == ["kind", "asked", "before", "after", "dpo"]
    rows = [line.split() for line in lines if "0.875" in line]
    assert [row[0] for row in rows] == [*KINDS, "all"]
    assert rows[0] == ["who", "1,234", *["0.875"] * (2 + len(tuned)), *["0.250"] * (6 - len(tuned))]
    assert "report.html has more" in text


def test_harder_questions():
    """Each language and kind in a row of its own."""
    row = {"questions": 4, "exact": 0.5, "ended": 1.0}
    assert ["zh", "two-hop", "4", "0.500"] in [
        line.split() for line in draw(beside_table({"zh": {"two-hop": row}})).splitlines()
    ]


def test_what_sft_alone_had_said():
    """After preference tuning the earlier answer stands below, where it was another."""
    said = {"user": "Where?", "answer": "In the park.", "wanted": "In the park.", "right": True}
    assert "after SFT alone: What a silly question!" in draw(draw_exchange(said | {"before": "What a silly question!"}))
    assert "after SFT" not in draw(draw_exchange(said | {"before": "In the park."}))
    assert "after SFT alone: (nothing)" in draw(draw_exchange(said | {"before": ""}))


def test_exchanges():
    """The question behind its mark, the answer under it with a tick, a cross with what was wanted, or neither; text
    that looks like markup is text, and Chinese begins on the line of its mark."""
    story = "一天早上，红色的本子在河边被鲍勃找到了。" * 4
    shown = draw(
        draw_exchange({"user": story, "answer": "[bold]在河边[/bold]。", "wanted": "在河边。", "right": False}),
        draw_exchange({"user": "[b]Where?", "answer": "Here.", "wanted": "Here.", "right": True}),
        draw_exchange({"user": "Hello!", "answer": "", "wanted": None, "right": None}),
    )
    assert shown.startswith("> 一天早上")
    assert "[bold]在河边[/bold]。 ✗  wanted: 在河边。" in shown
    assert "> [b]Where?" in shown
    assert "Here. ✓" in shown
    assert "(nothing)" in shown


def test_closing_lines_can_be_pasted():
    """A folder with a blank is quoted."""
    report = {"seconds": 600.0, "picture": None, "finished": "sft", "architecture": "LlamaForCausalLM"}
    lines = closing_lines(report, "my runs/a")
    assert lines[0] == "done in 10.0 minutes"
    assert "talk with it:      instar chat --model 'my runs/a/sft'" in lines


def test_chinese_is_drawn_two_cells_wide(tmp_path):
    """rich's SVG gave Chinese half its room, so that characters lay on each other; Latin keeps its own."""
    Screen(ScreenOptions()).picture(["中文", "ab"], tmp_path / "s.svg", "t")
    drawn = re.findall(r'textLength="([\d.]+)"[^>]*>([^<]*)</text>', (tmp_path / "s.svg").read_text("utf-8"))
    widths = {text: float(length) for length, text in drawn}
    assert widths["中文"] == pytest.approx(2 * widths["ab"])


def test_a_folder_that_is_read_otherwise_elsewhere_fails_the_command(grown, cli, tmp_path, monkeypatch):
    """The tables are shown, the verdict among them, and the exit status is 1."""
    report = json.loads((grown.out / "report.json").read_text(encoding="utf-8"))
    gaps = {"version": "9", "logit_gap": 0.5, "texts": 4, "same_words": 0, "same_ids": 4, "of_ids": 4, "same": False}
    report["verify"] = {"folder": "x", "readers": {"transformers": gaps}, "same": False}
    monkeypatch.setattr("instar.grow.life.Life.grow", lambda self: report)
    result = cli("grow", grown.recipe, "--out", tmp_path)
    assert result.status == 1
    assert "DIFFERENT" in result.out


def test_a_life_without_dialogues(cli, tmp_path):
    """A recipe may end with labels and measurements: each figure beside its goal, on the screen, the page and as JSON;
    what pretraining was worth is the same labels from fresh weights."""
    measured = {"metric": "accuracy", "data": ["world:order?split=test&count=20&lang=en"]}
    train = {"steps": 3, "context": 64, "batch_tokens": 512}
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(dump_yaml({
        "name": "labels",
        "tokenizer": {"data": ["world:stories?count=60&lang=en"], "vocab_size": 384, "masks": True},
        "pretrain": {
            "data": ["world:stories?count=60&lang=en"], "objective": "masked", "preset": "bert-nano", "train": train,
            "model": {"d_model": 32, "layers": 1, "heads": 2, "max_positions": 64},
        },
        "classify": {"data": ["world:order?count=60&lang=en"], "train": train},
        "fresh": True,
        "tests": [
            {"name": "told", "of": "classify", "goal": 0.9, "eval": measured},
            {"name": "fresh", "of": "fresh", "eval": measured},
        ],
    }))  # fmt: skip
    said = cli("grow", str(recipe), "--out", str(tmp_path / "out"))
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert list(report["stages"]) == ["tokenizer", "pretrain", "classify", "fresh"]
    assert report["finished"] == "classify"
    assert [(test["name"], test["goal"]) for test in report["tests"]] == [("told", 0.9), ("fresh", None)]
    assert all(0 <= test["value"] <= 1 for test in report["tests"])
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    for shown in (said.out, page):
        assert "told" in shown
        assert f"{report['tests'][0]['value']:.3f}" in shown
    assert "BertForSequenceClassification.from_pretrained" in said.out
    again = cli("grow", str(recipe), "--out", str(tmp_path / "out"))
    assert again.err.count("skipped") == 4
