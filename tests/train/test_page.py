"""report.html of a run: one inert file that needs nothing, tells everything, and never costs a run."""

import json
import os
import re
import time

import pytest

from instar.config import dump_yaml, to_dict
from instar.config.options import PretrainOptions, SftOptions
from instar.config.presets import preset
from instar.train.page import EVALUATIONS, PAGE, link, render_run, samples, write_page
from instar.train.tables import flatten, settings, stage_defaults, words

EVIL = "<img src=x onerror=alert(1)><script>alert(2)</script>'\"&</span></style>"


def row(step, **changes):
    usual = {
        "step": step, "tokens": 100 * step, "targets": 90, "loss": 7.0 - step / 100, "accuracy": 0.1, "grad_norm": 0.5,
        "lr": 0.001, "epoch": 0, "tokens_per_second": 1000.0, "seconds": 0.1 * step, "skipped": 0,
    }  # fmt: skip
    return usual | changes


@pytest.fixture
def make_run(tmp_path):
    """A run's folder: rows of metrics.jsonl (a str is a line as it stands), samples, report, changes of instar.yaml."""

    def make(rows, samples=(), report=None, name="run", **changes):
        folder = tmp_path / name
        folder.mkdir()
        recipe = {
            "stage": "pretrain", "seed": 3, "compute": "fp32", "steps": 20, "started": "2026-01-31T09:05:07+00:00",
            "parameters": 1234567, "options": to_dict(PretrainOptions(out="runs/demo/first", seed=3)),
            "model": to_dict(preset("nano", vocab_size=512)), "versions": {"torch": "2.9"},
            "hardware": {"cpu": "Abacus"}, "parent": {}, "data": {"fingerprint": "d" * 64, "documents": 4321},
            "tokenizer": {"fingerprint": "e" * 64},
        }  # fmt: skip
        (folder / "instar.yaml").write_text(dump_yaml(recipe | changes), encoding="utf-8")
        lines = [line if isinstance(line, str) else json.dumps(line) for line in rows]
        (folder / "metrics.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        (folder / "samples.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in samples), encoding="utf-8")
        if report is not None:
            (folder / "report.json").write_text(json.dumps(report))
        return folder

    return make


def curve(page, kind, number=0):
    """The `number`th path of this kind."""
    paths = [path for path in page.all("path") if path.get("class") == f"curve {kind}"]
    return re.findall(r"([ML])([\d.]+) ([\d.]+)", paths[number]["d"])


def test_one_file_that_needs_nothing(make_run, page_of):
    """No script, and no style, font or image from elsewhere; the policy forbids what is not here."""
    page = page_of(render_run(make_run([row(1), row(2)], [{"step": 2, "prompt": "a", "text": "b"}])))
    (policy,) = [meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert not {"script", "img", "iframe", "object", "embed", "base", "form", "use", "image"} & {
        tag for tag, _ in page.tags
    }
    for tag, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
        for name in ("src", "href", "xlink:href", "srcset", "data", "action"):
            assert name not in attributes or attributes[name] == "data:,", (tag, attributes)
    assert "url(" not in page.text
    assert "@import" not in page.text


def test_words_of_strangers_are_inert(make_run, page_of):
    """A token such as <img onerror=...> stays text wherever a model, data, a path or a version brings it."""
    folder = make_run(
        [row(1, skipped=1, loss=None)], [{"step": 1, "prompt": EVIL, "text": EVIL}], stage=EVIL,
        parent={"name": EVIL, "folder": EVIL, "sha256": EVIL}, versions={EVIL: EVIL}, hardware={"cpu": EVIL},
        data={"fingerprint": EVIL, EVIL: EVIL}, tokenizer={"fingerprint": EVIL}, started=EVIL, compute=EVIL,
        options={"out": EVIL, EVIL: [EVIL]}, model={"vocab_size": 8, "act": EVIL},
    )  # fmt: skip
    skip = {"step": 1, "loss": EVIL, "grad_norm": EVIL, "rows": [{"row": EVIL, "texts": [EVIL]}]}
    (folder / "skipped.jsonl").write_text(json.dumps(skip) + "\n")
    exam = {
        "scores": {EVIL: {EVIL: {"questions": 1, "exact": 0.5}}},
        "wrong": [{"user": EVIL, "wanted": EVIL, "answer": EVIL}],
    }
    (folder / "exam.json").write_text(json.dumps({"exam": exam}))
    text = render_run(folder)
    page = page_of(text)
    assert page.text.count(EVIL) > 15
    assert not page.all("img")
    assert not page.all("script")
    assert text.count("</style>") == 1
    assert text.count("<style>") == 1


def test_every_point_is_drawn_where_they_can_be_seen(make_run, page_of):
    """Twelve steps are twelve points of the curve, the smoothed one has as many, and held-out points are dots."""
    rows = [row(step, **({"held_out_loss": 6.0} if step % 4 == 0 else {})) for step in range(1, 13)]
    text = render_run(make_run(rows))
    assert len(curve(page_of(text), "raw")) == len(curve(page_of(text), "smooth")) == 12
    assert [circle["class"] for circle in page_of(text).all("circle")] == ["held-out"] * 3
    assert len({y for _, _, y in curve(page_of(text), "raw")}) == 12
    assert "points drawn" not in text


def test_a_long_run_says_how_many_points_are_left(make_run, page_of):
    """10,000 steps: the page says how many points are drawn, and so many there are; it is made in an instant."""
    folder = make_run([row(step, loss=3 + (step * 7919 % 1000) / 1000) for step in range(1, 10_001)])
    render_run(make_run([row(1)], name="warm"))
    started = time.process_time()
    text = render_run(folder)
    assert time.process_time() - started < 1.0  # 0.3 on an idle machine
    shown, total = re.search(r"Loss: each step, ([\d,]+) of ([\d,]+) points drawn", text).groups()
    assert total == "10,000"
    assert len(curve(page_of(text), "raw")) == int(shown.replace(",", "")) <= 1200
    assert len(text) < 400_000


def test_what_is_not_finite_is_a_gap_and_skipped_steps_are_marked(make_run, page_of):
    """A null, a NaN and a step without a line lift the pen; the step whose gradient was not finite has a mark."""
    rows = [row(1), row(2), row(3, loss=None, skipped=1), row(4, skipped=1), row(5, loss=float("nan"), skipped=1),
            row(6, skipped=1), row(8, skipped=1)]  # fmt: skip
    text = render_run(make_run(rows))
    assert [pen for pen, _, _ in curve(page_of(text), "raw")] == ["M", "L", "M", "M", "M"]
    marks = [path for path in page_of(text).all("path") if path.get("class") == "mark"]
    assert len(marks) == 2  # below the loss and below the norm
    x = {step: float(place) for step, (_, place, _) in zip((1, 2, 4, 6, 8), curve(page_of(text), "raw"))}
    assert float(re.match(r"M([\d.]+)", marks[0]["d"]).group(1)) == pytest.approx((x[2] + x[4]) / 2, abs=1)
    assert "Steps without a line: 1." in text


def test_broken_lines_are_skipped_and_counted(make_run, page_of):
    """Half a line, a list, a step that goes back and a step without a number cost the page nothing but a count."""
    rows = [
        row(1),
        '{"step": 2, "lo',
        "[1, 2]",
        row(2),
        row(1),
        row(3) | {"step": "three"},
        row(3, loss=10**400, lr="x"),
        "",
    ]
    text = render_run(make_run(rows, [{"step": 1}]))
    assert len(curve(page_of(text), "raw")) == 2
    assert "left out: 5." in text
    whole = render_run(make_run([row(1), row(2)], name="whole"))
    assert "left out" not in whole


def test_same_folder_same_bytes(make_run):
    """Nothing but the run's files goes into the page: neither the time nor where the folder lies."""
    arguments = ([row(1), row(2)], [{"step": 2, "prompt": "a", "text": "b"}], {"seconds": 1.0, "held_out_loss": 2.0})
    first, second = (make_run(*arguments, name=name) for name in ("one", "two"))
    os.utime(second / "metrics.jsonl", (0, 0))
    assert render_run(first) == render_run(first) == render_run(second)


@pytest.mark.parametrize("options", [PretrainOptions(), SftOptions()])
def test_every_config_value_is_there(make_run, options, page_of):
    """Each option with its value, changed ones before the others; so with the shape of the model."""
    changed = to_dict(options) | {"seed": 987, "out": "runs/a/b"}
    stage = "pretrain" if isinstance(options, PretrainOptions) else "sft"
    shape = to_dict(preset("nano", vocab_size=777))
    page = page_of(render_run(make_run([row(1)], stage=stage, options=changed, model=shape)))
    cells = re.sub(r"\s+", " ", page.text)
    for name, value in (flatten(changed) | flatten(shape)).items():
        assert f"{name} {words(value)}".replace("\n", " ") in cells or f"{name}{words(value)}" in cells, name
    assert cells.index("987") < cells.index("more, left at their defaults") < cells.index("train.batch_tokens")


def test_defaults_know_the_preset():
    """A run of a preset differs from it in what was said, not in the preset's own shape."""
    options = to_dict(PretrainOptions(preset="gpt2", model=preset("gpt2", layers=3)))
    changed = {row.name for row in settings(options, stage_defaults("pretrain", options)) if row.changed}
    assert changed == {"preset", "model.layers"}


def test_samples_over_time(make_run):
    """The prompt plain, what the model said bold; Chinese is marked as such, and control characters are seen."""
    rows = [
        {"step": step, "prompt": prompt, "text": f"{said}{step}"}
        for step in (4, 8)
        for prompt, said in (("The\x1b cat", " sat"), ("狼在", "森林里"))
    ]
    text = render_run(make_run([row(1)], rows))
    assert '<b><span lang="zh">森林里8</span></b>' in text
    assert "<p><span>The␛ cat</span></p>" in text
    assert text.index("sat4") < text.index("sat8") < text.index("森林里4")


def test_of_many_evaluations_an_even_choice():
    """The first and the last are among those shown."""
    rows = [{"step": step, "prompt": "a", "text": "b"} for step in range(10, 1010, 10)]
    shown = [step for step, _ in samples(rows)["a"]]
    assert len(shown) == EVALUATIONS
    assert (shown[0], shown[-1]) == (10, 1000)


def test_lineage_and_controls(make_run, page_of):
    """Hashes, fingerprints, versions and hardware in full; beside the loss its first value and an even guess."""
    parent = {"name": "base", "folder": "runs/demo/base", "sha256": "f" * 64}
    text = page_of(render_run(make_run([row(1), row(2)], parent=parent, stage="sft"))).text
    assert all(word in text for word in ("base", "f" * 64, "d" * 64, "e" * 64, "Abacus", "2.9", "4,321"))
    assert re.search(r"training loss\s*6\.985\s*6\.99 \(step 1\)\s*6\.238", text)  # ln 512
    assert "1.23 M" in text
    assert "2026-01-31 09:05 UTC" in text


def test_the_exam_stands_beside_its_controls(make_run, page_of):
    """Once the exam was taken, its scores and what guessing reaches are on the page."""
    folder = make_run([row(1)])
    exam = {
        "scores": {"zh": {"who": {"questions": 50, "exact": 0.875}}},
        "controls": {"zh": {"all": {"majority": 0.1}, "who": {"majority": 0.125}}},
    }
    (folder / "exam.json").write_text(json.dumps({"exam": exam}))
    text = page_of(render_run(folder)).text
    assert "Chinese" in text
    assert "majority" in text
    assert re.search(r"who\s*50\s*0\.875\s*0\.125", text)
    assert "No exam was taken" not in text


def test_the_parent_is_linked_where_it_has_a_page(tmp_path):
    """Relative, wherever the life lies now; no link to what is not there or to anything but a page."""
    child, parent = tmp_path / "moved" / "sft", tmp_path / "moved" / "pre train"
    for folder in (child, parent):
        folder.mkdir(parents=True)
    assert link(child, "runs/x/sft", "runs/x/pre train") == ""
    (parent / PAGE).write_text("")
    assert link(child, "runs/x/sft", "runs/x/pre train") == f"../pre%20train/{PAGE}"
    assert link(child, "runs/x/sft", "/somewhere/else") == ""
    assert link(child, "runs/x/sft", "") == ""


def test_a_page_never_costs_a_run(make_run, tmp_path):
    """A damaged folder gives a sentence instead of a page; a folder without a run stays as it is."""
    folder, said = make_run([row(1)], name="damaged"), []
    (folder / "report.json").write_text("{")
    write_page(folder, said.append)
    assert not (folder / PAGE).exists()
    assert "damaged/report.html was not written" in said[0]
    write_page(tmp_path / "nothing", said.append)
    assert not (tmp_path / "nothing").exists()
    assert len(said) == 1


def test_a_character_that_no_file_can_hold(make_run):
    """A lone surrogate, which JSON can bring, is spelt out."""
    folder, said = make_run([row(1)], [{"step": 1, "prompt": "a\ud800b", "text": "c"}]), []
    write_page(folder, said.append)
    assert not said
    assert "a\\ud800b" in (folder / PAGE).read_text(encoding="utf-8")


def test_a_stopped_run_says_so(make_run):
    """Without a report the page tells how far it came."""
    assert "stopped at step 2 of 20" in render_run(make_run([row(1), row(2)]))
    assert "stopped at" not in render_run(make_run([row(1)], report={"seconds": 1.0}, name="whole"))
