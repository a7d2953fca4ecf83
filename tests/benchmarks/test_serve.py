"""The benchmark of servers: prompts, figures, goals, systems that are missing, and one run without peers."""

import json
import runpy
import sys
from argparse import Namespace
from importlib import import_module
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import pytest

from instar.serve.load import Reply

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def servers(monkeypatch):
    """The modules beside the script, and the script's own names."""
    monkeypatch.syspath_prepend(str(FOLDER))
    names = {name: import_module(f"peers.{name}") for name in ("served", "worker", "talker")}
    yield SimpleNamespace(**names, **runpy.run_path(str(FOLDER / "serve.py")))
    for name in [name for name in sys.modules if name.split(".")[0] == "peers"]:
        del sys.modules[name]


def replies(count, tokens, seconds):
    return [Reply(0.0, "", seconds / 2, seconds, [0.1], tokens, finish="length")] * count


def test_figures(servers):
    """Rates are medians of rounds, percentiles of all their answers; a system that failed has no row."""
    result = servers.Result("instar", "fp32", {16: [replies(2, 10, 1.0), replies(2, 10, 4.0), replies(2, 10, 2.0)]})
    row = result.row(16)
    assert row["rates"] == [20, 5, 10]
    assert row["rate"] == 10
    assert row["first"]["p50"] == 1.0
    assert result.row(1) == {}


def test_goals(servers):
    """Ours beside the best of theirs at the same precision; what was not measured makes no row."""
    rates = {"instar": 90, "engine": 100, "transformers": 20, "transformers batching": 45, "llama.cpp": 60}
    results = [servers.Result(name, "fp32", {16: [replies(1, rate, 1.0)]}) for name, rate in rates.items()]
    results.append(servers.Result("instar", "bf16", {16: [replies(1, 1, 1.0)]}))
    found = servers.goals(results, 16)
    assert [(goal[0], goal[2].rpartition(":")[0], *goal[3:]) for goal in found] == [
        ("fp32", "its engine, no server", "0.90", "0.95"),
        ("fp32", "transformers serve --continuous-batching", "2.00", "1.50"),
        ("fp32", "llama_cpp.server", "1.50", ""),
    ]


def test_a_system_that_fails(servers):
    """It is left out with a reason, from then on, and the others go on."""
    answers = {"good": lambda *_: replies(1, 4, 1.0), "bad": lambda *_: [Reply(0.0, "500", said="oh | no")]}
    calls = []

    def contestant(name):
        def loop(texts, streams, new):
            calls.append(name)
            return answers[name](texts, streams, new)

        return SimpleNamespace(loop=loop, go_on=lambda: None, pause=lambda: None)

    running = [(servers.Result(name, "fp32"), contestant(name)) for name in ("bad", "good")]
    servers.measure(running, iter("abcdefghij"), Namespace(rounds=2, streams=[1], each=1, new=4))
    assert calls == ["bad", "good", "good", "good"]
    assert running[0][0].note == "1 clients: {'500': 1} oh / no"
    assert len(running[1][0].rounds[1]) == 2


def test_missing(servers, tmp_path):
    """A venv that is missing and a server that ends are said."""
    place = servers.worker.Place(tmp_path, sys.executable, tmp_path / "none", 1)
    assert "make bench-serve" in servers.served.start("llama.cpp", "fp32", place, 8, 1.0)
    (tmp_path / "python").symlink_to(sys.executable)
    (tmp_path / "transformers").write_text("#!/bin/sh\necho it is broken >&2\nexit 3\n")
    (tmp_path / "transformers").chmod(0o755)
    place = servers.worker.Place(tmp_path, sys.executable, tmp_path / "python", 1)
    assert servers.served.start("transformers", "fp32", place, 8, 1.0) == "it is broken"


def test_the_model(servers, tmp_path):
    """A vocabulary that texts fill; no answer ends before its longest; prompts are as long as wanted; made once."""
    import torch

    from instar.config.options import SamplingOptions
    from instar.hub.folders import load
    from instar.infer.engine import Engine

    assert servers.talker.make(tmp_path, servers.SHAPES["tiny"], ["bf16"]) == {}
    model, tokenizer = load(tmp_path / "bf16", dtype=torch.float32)
    assert not model.embed.weight[list(tokenizer.stops)].any()
    texts = list(islice(servers.texts_of(tokenizer, Namespace(seed=1, prompt=60)), 4))
    prompts = [tokenizer.chat([{"role": "user", "content": text}], add_generation_prompt=True).ids for text in texts]
    assert all(50 <= len(prompt) <= 70 for prompt in prompts)
    engine = Engine(model, slots=4, capacity=200, stops=tokenizer.stops)
    options = SamplingOptions(strategy="greedy", max_new_tokens=100)
    asked = [engine.submit(prompt, options) for prompt in prompts]
    engine.run()
    assert [len(request.ids) for request in asked] == [100] * 4
    assert all(tokenizer.decode([id]) for request in asked for id in request.ids)  # each token is a text
    written = (tmp_path / "bf16.gguf").stat().st_mtime_ns
    servers.talker.make(tmp_path, servers.SHAPES["tiny"], ["bf16"])
    assert (tmp_path / "bf16.gguf").stat().st_mtime_ns == written


@pytest.mark.slow
def test_a_run(servers, tmp_path, capsys):
    """Our own two from no model to the table and the file; a peer that is missing is said."""
    path = tmp_path / "found.json"
    words = ["--quick", "--systems", "instar", "engine", "llama.cpp", "--precisions", "fp32", "--json", str(path)]
    servers.main([*words, "--peers", str(tmp_path / "none"), "--folder", str(tmp_path / "models"), "--threads", "1"])
    shown = capsys.readouterr().out
    assert "is missing; make bench-serve builds it" in shown
    found = json.loads(path.read_text(encoding="utf-8"))
    rows = {result["system"]: result["rows"] for result in found["results"]}
    assert all(row["rate"] > 0 and row["tokens"] == 12 for name in ("instar", "engine") for row in rows[name].values())
    assert rows["llama.cpp"]["1"] == {}
