"""The benchmark of SFT and DPO: its figures, what it tries, its gate, what it teaches, and one run beside TRL."""

import json
import math
import runpy
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
PEERS = FOLDER.parent / ".venv-peers" / "bin" / "python"
HAS_TRL = any((PEERS.parents[1] / "lib").glob("python*/site-packages/trl"))
SHAPE = dict(d_model=32, layers=2, heads=2, d_ff=64, vocab_size=512)


@pytest.fixture
def peers(monkeypatch):
    """The modules beside the script, and the script's own names."""
    monkeypatch.syspath_prepend(str(FOLDER / "peers"))
    monkeypatch.syspath_prepend(str(FOLDER))
    names = {name: import_module(f"peers.{name}") for name in ("contest", "settings", "lessons", "worker")}
    yield SimpleNamespace(**names, script=runpy.run_path(str(FOLDER / "alignment.py")))
    for name in [name for name in sys.modules if name.split(".")[0] in ("peers", "gate", "protocol", "with_stage")]:
        del sys.modules[name]


def told(tokens, seconds, losses=(1.0,), peak=0, samples=1):
    return {
        "tokens": tokens, "computed": 2 * tokens, "seconds": seconds, "samples": samples, "losses": list(losses),
        "memory": {"peak": peak},
    }  # fmt: skip


def lessons_of(peers, mean=100.0, count=50):
    return peers.lessons.Lessons(count, mean, 200, 2.5, 256, "here")


def trial_of(peers, system, rounds, **setting):
    start = {**peers.settings.STARTS[system]["dpo"], **setting}
    return peers.settings.Trial(system, start, ready={"seconds": 5.0, "memory": {"peak": 9}}, rounds=rounds)


def test_figures(peers):
    """Samples a second are those of average length, by the median round; a reference computed first costs its share."""
    trial = trial_of(peers, "instar", [told(1000, 1.0), told(1000, 2.0, peak=7), told(1000, 4.0)])
    figures = peers.contest.Figures(trial, lessons_of(peers))
    assert figures.rate == 5.0
    assert figures.whole == 5.0
    assert figures.peak == 7
    trial.ready["referring"] = 10.0  # of 50 samples: a fifth of a second each, as much as a sample of training
    assert figures.whole == 2.5
    assert figures.told()["computed"] == 1000.0


def test_goals(peers):
    """Ours beside the best of theirs that gets its reference the same way, and beside all with its time counted."""
    found = [
        trial_of(peers, "instar", [told(1000, 1.0, peak=2)]),
        trial_of(peers, "trl", [told(1000, 2.0, peak=4)]),
        trial_of(peers, "trl", [told(1000, 2.5, peak=1)], micro=2),
        trial_of(peers, "trl", [told(1000, 1.0, peak=8)], reference="precomputed"),
    ]
    found[-1].ready["referring"] = 5.0  # a tenth of a second a sample, as long as its step
    rows = peers.contest.goals([peers.contest.Figures(trial, lessons_of(peers)) for trial in found])
    by_name = {row[0]: row[1:4] for row in rows}
    assert by_name["samples/s, live"] == ["10.00", "5.00", "2.00"]
    assert by_name["peak MB of steps, live"][2] == "0.50"
    assert by_name["samples/s, precomputed"] == ["", "", ""]
    assert by_name["samples/s, the reference's time counted, best way of each"] == ["10.00", "5.00", "2.00"]


def test_search(peers):
    """Each group starts from the best so far and the best of another kind; nothing is tried twice, and what somebody
    gets who sets nothing is tried too."""
    tried = []

    def attempt(trial):
        tried.append(trial.name)
        setting = trial.setting
        trial.rate = 1.0 + (setting["layout"] == "packed") + 0.5 * (setting["micro"] == 1) + setting["compile"]
        trial.rate += 0.25 * (setting["attention"] == "eager") - (setting["precision"] == "bf16")

    ranked = peers.settings.search("trl", "sft", attempt)
    assert len(set(tried)) == len(tried) == len(ranked)
    best = ranked[0].setting
    assert (best["layout"], best["micro"], best["compile"], best["attention"]) == ("packed", 1, True, "eager")
    compiled = {trial.setting["layout"] for trial in ranked if trial.setting["compile"]}
    assert len(compiled) == 2
    usual = {**peers.settings.STARTS["trl"]["sft"], **peers.settings.USUAL["trl"]}
    assert usual in [dict(trial.setting) for trial in ranked]
    few = peers.settings.search("trl", "sft", attempt, [best, best])
    assert [dict(trial.setting) for trial in few] == [dict(best)]


def test_names(peers):
    """Two settings have the same name only where they are the same."""
    for system in peers.settings.SYSTEMS:
        for task, start in peers.settings.STARTS[system].items():
            changes = [change for group in peers.settings.GROUPS[system][task] for change in group]
            settings = [{**start, **one, **other} for one in changes for other in changes]
            names = {
                json.dumps(setting, sort_keys=True): peers.settings.name_of(system, setting) for setting in settings
            }
            assert len(set(names.values())) == len(names)


def test_a_larger_model_is_tried_near_the_best(peers):
    """It begins with the best of each kind and changes the best one alone."""
    fast, slow = (trial_of(peers, "trl", [], layout=layout) for layout in ("grouped", "padded"))
    fast.rate, slow.rate = 2.0, 1.0
    failed = trial_of(peers, "trl", [], precision="bf16")
    found = peers.settings.around([slow, fast, failed])
    assert found[:2] == [fast.setting, slow.setting]
    assert {**fast.setting, "compile": True} in found
    assert "bf16" not in {setting["precision"] for setting in found}
    assert not peers.settings.around([])


class Slow:
    """A process whose steps take so many seconds, one after the other."""

    def __init__(self, *seconds):
        self.left = list(seconds)

    def ask(self, request):
        return told(100, self.left.pop(0), samples=10)


def test_patience(peers):
    """What takes much longer than the best is given up, but not for a first step, nor for what a compiler takes."""
    Bench, Model = peers.script["Bench"], peers.script["MODELS"]["tiny"]
    options = SimpleNamespace(quick=False, patience=4)
    bench = Bench("dpo", Model, Path(), lessons_of(peers), options, best=0.1)  # seconds a sample: one for ten
    assert not bench._warm(Slow(11.0, 3.9), trial_of(peers, "trl", []))
    assert "5 s" in bench._warm(Slow(11.0, 5.0), trial_of(peers, "trl", []))
    assert "13 s" in bench._warm(Slow(13.0), trial_of(peers, "trl", []))
    compiled = trial_of(peers, "trl", [], compile=True)
    assert not bench._warm(Slow(90.0, 1.0, 1.0), compiled)
    assert compiled.ready["warm"] == 92.0


LOOP = """
import sys
sys.path.insert(0, {folder!r})
from gate import run
def train(request, gate):
    gate.ready(asked=request["asked"])
    for step in range(3):
        gate.passed(float(step), 2, 10, 16)
    raise ValueError("no more data")
run(train)
"""


def test_gate(peers):
    """A loop stands still until steps are wanted, tells what they held, and its failure is an answer too."""
    process = peers.worker.Process([sys.executable, "-c", LOOP.format(folder=str(FOLDER / "peers"))], {})
    loaded = process.ask({"do": "load", "asked": 7})
    assert loaded["asked"] == 7
    assert {"seconds", "memory"} <= loaded.keys()
    found = process.ask({"do": "steps", "count": 2})
    assert (found["losses"], found["samples"], found["tokens"], found["computed"]) == ([0.0, 1.0], 4, 20, 32)
    assert process.ask({"do": "steps", "count": 2}) == {"failed": "ValueError: no more data"}
    process.close()
    other = peers.worker.Process([sys.executable, "-c", LOOP.format(folder=str(FOLDER / "peers"))], {})
    other.ask({"do": "load", "asked": 7})
    other.close()
    assert other.process.returncode == 0


@pytest.fixture
def lessons(peers, tmp_path):
    """A tiny model and made-up records."""
    return tmp_path, peers.lessons.make(tmp_path, SHAPE, 256, {"sft": 24, "dpo": 24}, tmp_path / "none")


def test_lessons(peers, lessons):
    """Records fit the context with and without packing; the second call finds what the first one wrote."""
    folder, told = lessons
    for task in ("sft", "dpo"):
        assert len((folder / f"{task}.jsonl").read_text(encoding="utf-8").splitlines()) == 24
        assert told[task].mean <= told[task].longest
        assert told[task].rows_each > 1
    assert told["sft"].longest <= 256 == told["sft"].width
    assert 256 <= told["dpo"].width <= 512
    assert peers.lessons.make(folder, SHAPE, 256, {}, folder) == told
    template = (folder / "dpo.jinja").read_text(encoding="utf-8")
    import jinja2

    asked = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    plain = template.replace("{%- generation %}", "").replace("{%- endgeneration %}", "")
    shown = jinja2.Environment(trim_blocks=True, lstrip_blocks=True).from_string(plain)
    assert shown.render(messages=asked).endswith("b<|im_end|>")
    assert shown.render(messages=asked[:1], add_generation_prompt=True).endswith("<|im_end|>\n<|im_start|>assistant\n")


class Enough(Exception):
    """The steps that were wanted are taken."""


class Book:
    """In place of the gate."""

    def __init__(self):
        self.facts, self.steps = {}, []

    def ready(self, **facts):
        self.facts = facts

    def passed(self, loss, samples, tokens, computed):
        self.steps.append((loss, samples, tokens, computed))
        if len(self.steps) == 3:
            raise Enough


def trained(peers, lessons, task, **changes):
    """Three steps of our own stage."""
    folder, told = lessons
    setting = {**peers.settings.STARTS["instar"][task], **changes}
    request = {
        "task": task, "path": str(folder / "hf"), "data": str(folder / f"{task}.jsonl"), "setting": setting,
        "context": 256, "rows": 4, "width": told[task].width, "samples": 8, "lr": 1e-4, "beta": 0.1,
        "out": str(folder / f"run-{len(list(folder.iterdir()))}"),
    }  # fmt: skip
    book = Book()
    with pytest.raises(Enough):
        import_module("with_stage").train(request, book)
    return book


def test_our_sft(peers, lessons):
    """The stage itself, counted: a step reads what its rows hold, packed or not, and the order is told beforehand."""
    packed, alone = (trained(peers, lessons, "sft", packing=packing) for packing in ("best-fit", "none"))
    assert all(samples > 4 for _, samples, _, _ in packed.steps)
    assert all(samples == 8 for _, samples, _, _ in alone.steps)
    assert [samples for _, samples, _, _ in packed.steps] == [len(step) for step in packed.facts["order"][:3]]
    for book, rows in ((packed, 4), (alone, 8)):
        assert all(0 < tokens <= computed <= rows * 256 for _, _, tokens, computed in book.steps)
    assert packed.facts["held"] == pytest.approx(24 * lessons[1]["sft"].mean)
    assert abs(packed.steps[0][0] - math.log(512)) < 0.5


def test_our_dpo(peers, lessons):
    """It begins at ln 2, whichever way the reference is got; what a shared prompt saves is not computed."""
    for reference in ("live", "precomputed"):
        book = trained(peers, lessons, "dpo", reference=reference)
        assert book.steps[0][0] == pytest.approx(math.log(2), abs=1e-5)
        assert (book.facts["referring"] > 0) == (reference == "precomputed")
    twice = trained(peers, lessons, "dpo", share=False)
    assert book.facts["held"] == twice.facts["held"] == pytest.approx(24 * lessons[1]["dpo"].mean)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif(not HAS_TRL, reason="the peers' venv has no TRL; make bench-alignment builds it")
def test_a_run(peers, tmp_path):
    """From no model to the table and the file: both learn the same, and every setting has its figure."""
    path = tmp_path / "found.json"
    words = [sys.executable, str(FOLDER / "alignment.py"), "--quick", "--threads", "1", "--json", str(path)]
    ran = subprocess.run([*words, "--data", str(tmp_path)], text=True, capture_output=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "NOT ALIKE" not in ran.stdout
    (model,) = json.loads(path.read_text(encoding="utf-8"))["models"]
    for report in model["tasks"]:
        assert report["check"]["alike"], report["check"]
        assert {one["system"] for one in report["finals"]} == {"instar", "trl"}
        assert not [one["why"] for one in report["finals"] + report["trials"] if one["why"]]
        held = {(one["held"], one["taught"]) for one in report["finals"]}
        assert len(held) == 1
    (dpo,) = [report for report in model["tasks"] if report["task"] == "dpo"]
    for system in ("instar", "trl"):
        assert dpo["check"][system][0] == pytest.approx(math.log(2), abs=1e-5)
