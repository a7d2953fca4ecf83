"""The benchmark of decoding: its figures, its groups, systems that cannot be measured, and one run."""

import json
import runpy
import sys
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest

from instar.config import ModelConfig
from instar.eval.limits import Limits

FOLDER = Path(__file__).parents[2] / "benchmarks"
CONFIG = ModelConfig(vocab_size=512, d_model=64, layers=2, heads=4, d_ff=128, tied=False)


@pytest.fixture
def peers(monkeypatch):
    """The modules beside the script, and the script's own names."""
    monkeypatch.syspath_prepend(str(FOLDER))
    names = {name: import_module(f"peers.{name}") for name in ("figures", "worker", "tables", "protocol")}
    yield SimpleNamespace(**names, decode=runpy.run_path(str(FOLDER / "decode.py")))
    for name in [name for name in sys.modules if name.split(".")[0] == "peers"]:
        del sys.modules[name]


def sample(total, rate=None, first=0.0, ids=(), way="", peak=0):
    return {"total": total, "rate": rate, "first": first, "ids": list(ids), "way": way, "memory": {"peak": peak}}


def test_figures(peers):
    """Medians over rounds; the share is the least time that bytes and products take over the time taken."""
    contender = peers.worker.Contender("instar", "fp32")
    loaded = {
        "weights": 1000,
        "read": 800,
        "key": 4,
        "memory": dict(before=50, before_own=40, peak=1550, peak_own=1140),
    }
    samples = {
        "prompt": [sample(0.5), sample(0.25), sample(1.0)],
        "one": [sample(9, 2.0), sample(9, 4.0), sample(9, 3.0)],
        "many": [sample(8.0, 5.0, peak=90000)],
        "beam": [sample(2.0)],
    }
    results = peers.figures.Results(contender, loaded, samples)
    slow = Limits(1e3, {"fp32": 1e15})
    found = peers.figures.Setting(CONFIG, slow, prompt=8, new=4, streams=2, beams=4).figures(results)
    assert found["rates"] == {"prompt": 16.0, "one": 3.0, "many": 5.0, "whole": 1.0, "beam": 2.0}
    keys = 2 * 64 * 2 * 4 * (8 + 4 / 2)  # of one stream, half way through its answer
    assert found["shares"]["prompt"] == pytest.approx(0.8 / 0.5)
    assert found["shares"]["one"] == pytest.approx((800 + keys) / 1e3 * 3.0)
    assert found["shares"]["many"] == pytest.approx((800 + 2 * keys) / 1e3 * 5.0 / 2)
    assert found["memory"]["load"] == 1.5
    assert found["memory"]["load_own"] == 1.1
    assert found["memory"]["rest"] == 90000 - 1000 - 2 * 2 * 64 * 2 * 4 * 12


def test_goals(peers):
    """Ours beside the best of theirs, whichever precision that is; no ratio where one was not measured."""
    rates = {"instar bf16": 30.0, "instar int8": 60.0, "transformers bf16": 10.0, "transformers fp32": 20.0}
    figures = [
        dict(zip(("system", "precision"), name.split()))
        | {"rates": {"one": rate, "many": None, "prompt": None, "beam": None}}
        for name, rate in rates.items()
    ]
    found = [goal[1:4] for goal in peers.figures.goals(figures) if goal[0] == "one stream"]
    assert found == [
        ["instar bf16: 30.0", "transformers fp32: 20.0", "1.50"],
        ["instar bf16: 30.0", "transformers bf16: 10.0", "3.00"],
        ["instar int8: 60.0", "instar bf16: 30.0", "2.00"],
    ]
    assert peers.figures.goals(figures)[2][1:4] == ["instar bf16: no figure", "transformers: no figure", ""]


def test_same_tokens(peers):
    """How far an answer goes with that of the first fp32."""
    Contender, Results = peers.worker.Contender, peers.figures.Results
    said = {("instar", "bf16"): [1, 2, 9, 4], ("instar", "fp32"): [1, 2, 3, 4], ("llama.cpp", "fp32"): [1, 2, 3, 4]}
    results = [Results(Contender(*name), samples={"one": [sample(1, ids=ids)]}) for name, ids in said.items()]
    found = peers.figures.agreement(results)
    assert found == {"instar bf16": "2 of 4", "instar fp32": "4 of 4", "llama.cpp fp32": "4 of 4"}


def test_groups(peers):
    """Together where memory holds all; else several groups, each begun by the first, and nobody is left out."""
    options = SimpleNamespace(systems=["instar", "transformers"], precisions=["bf16", "int8", "fp32"])
    wanted = peers.decode["contenders"](options)
    assert list(map(str, wanted)) == [
        "instar bf16", "transformers bf16", "instar int8", "instar fp32", "transformers fp32"
    ]  # fmt: skip
    groups = peers.decode["groups"]
    assert list(groups(wanted, CONFIG, 1e12)) == [wanted]
    several = list(groups(wanted, CONFIG, 2.5 * (600 << 20)))
    assert all(group[0] == wanted[0] for group in several)
    assert [contender for group in several for contender in group[1:]] == wanted[1:]


def test_patience(peers):
    """A task that a short text shows to be endless is left out, and the others are not."""
    worker = SimpleNamespace(ask=lambda request: sample(1.6 + 0.2, first=1.6))
    asked = peers.decode["tasks"](SimpleNamespace(prompt=100, new=10, streams=16, beams=4))
    found = peers.decode["too_long"](worker, asked, patience=60)
    assert list(found) == ["many"]
    assert "176 s" in found["many"]
    broken = SimpleNamespace(ask=lambda request: {"failed": "no such file"})
    assert peers.decode["too_long"](broken, asked, patience=60) == {"": "no such file"}


def test_absent_peers(peers, tmp_path):
    """A system that is not installed is left out with a reason: without its venv, and where the process dies."""
    Contender, Place = peers.worker.Contender, peers.worker.Place
    (tmp_path / "hf").mkdir()
    place = Place(tmp_path, sys.executable, tmp_path / "none", 1)
    contender = Contender("ctranslate2", "fp32")
    assert "make bench-decode" in place.make({}, [contender])[contender]
    (tmp_path / "python").symlink_to(sys.executable)
    (tmp_path / "ct2-fp32").mkdir()
    worker = peers.worker.Worker(contender, Place(tmp_path, sys.executable, tmp_path / "python", 1))
    assert "ctranslate2" in worker.why_not
    assert "failed" in worker.ask({"do": "answer"})
    worker.close()


def test_prompts(peers):
    """The same for everybody, others in every round, none of the first ids."""
    prompts_of = peers.protocol.prompts_of
    assert prompts_of(5, 2, 8, 100) == prompts_of(5, 2, 8, 100)
    first, second = (prompts_of(seed, 4, 8, 100) for seed in (100, 200))
    assert not {tuple(prompt) for prompt in first} & {tuple(prompt) for prompt in second}
    assert min(min(prompt) for prompt in first + second) >= 3


@pytest.mark.slow
def test_a_run(peers, tmp_path, capsys):
    """From no model to the table and the file; a venv that is missing makes a row too."""
    shape, folder = peers.decode["SHAPES"]["tiny"], tmp_path / "models"
    import_module("peers.make").make(folder / "tiny", shape, ["hf"])  # here, where torch is loaded already
    words = [
        "--folder",
        str(folder),
        "--quick",
        "--systems",
        "instar",
        "llama.cpp",
        "--precisions",
        "fp32",
        "--threads",
        "1",
    ]
    path = tmp_path / "found.json"
    peers.decode["main"]([*words, "--peers", str(tmp_path / "none"), "--json", str(path)])
    shown = capsys.readouterr().out
    rows = {row.split("|")[1].strip(): row for row in shown.splitlines() if row.startswith("| ")}
    assert "%" in rows["instar fp32"]
    assert "is missing" in rows["llama.cpp fp32"]
    (report,) = json.loads(path.read_text(encoding="utf-8"))["models"]
    (figures, _) = report["figures"]
    assert all(figures["rates"].values())
    assert all(0 < share < 1 for share in figures["shares"].values())
    assert figures["notes"] == {}
    assert len(report["samples"]["instar fp32"]["one"][0]["ids"]) == 12
