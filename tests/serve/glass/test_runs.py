"""Runs read from their folders, and followed while they grow."""

import asyncio
import json
import subprocess
import sys

import pytest
from fastapi import FastAPI
from fastapi.responses import JSONResponse
from fastapi.testclient import TestClient

from instar.config.options import GlassOptions, ServeOptions
from instar.data import lock
from instar.serve.glass.following import Tail, follow
from instar.serve.glass.index import Index
from instar.serve.glass.runs import Runs, thinned
from instar.serve.glass.runs_api import routes
from instar.serve.glass.trouble import Trouble

EVIL = "<img src=x onerror=alert(1)>"


def row(step, loss=1.0, **more):
    return {"step": step, "loss": loss, "seconds": float(step), **more}


def write(path, rows, tail=""):
    """As a run that goes on does: another file under the same name."""
    draft = path.with_name("draft")
    draft.write_text("".join(f"{json.dumps(one)}\n" for one in rows) + tail)
    draft.replace(path)


def add(path, text):
    with path.open("a") as file:
        file.write(text)


@pytest.fixture
def client(run_of, tmp_path):
    """The routes over the runs below tmp_path."""
    app = FastAPI()
    glass = GlassOptions(roots=(str(tmp_path),))
    app.include_router(routes(Runs(Index(ServeOptions(model=str(tmp_path / "none"), glass=glass)))))
    app.add_exception_handler(Trouble, lambda request, trouble: JSONResponse(trouble.body, trouble.status))
    return TestClient(app)


def test_runs_are_found_and_told_apart(client, run_of, tmp_path):
    """Finished, stopped and live; a folder that is no run is none, and checkpoints are not looked into."""
    run_of(tmp_path / "life" / "sft", "sft", run_of.metrics(20), steps=20)
    run_of(tmp_path / "halted", "pretrain", run_of.metrics(5), steps=20, report=False)
    run_of(tmp_path / "now", "dpo", run_of.metrics(7), steps=20, report=False)
    run_of(tmp_path / "life" / "sft" / "checkpoints" / "step-9", "sft", [])
    (tmp_path / "notes").mkdir()
    with lock.held(tmp_path / "now" / ".lock"):
        found = client.get("/glass/api/runs").json()["runs"]
    assert [(run["id"], run["state"], run["step"], run["steps"], run["stage"]) for run in found[:1]] == [
        ("now", "live", 7, 20, "dpo")
    ]
    assert {run["id"]: run["state"] for run in found} == {"now": "live", "halted": "stopped", "life/sft": "finished"}
    assert {run["id"]: run["loss"] for run in found}["life/sft"] == 2.6  # held out, from its report


def test_a_run_is_no_path(client, run_of, tmp_path):
    """Ids are looked up: what lies outside the roots has none, however it is written."""
    run_of(tmp_path.parent / f"{tmp_path.name}-outside", "sft", run_of.metrics(3))
    for run in (f"../{tmp_path.name}-outside", "%2e%2e/x", str(tmp_path), "."):
        answer = client.get(f"/glass/api/runs/{run}/metrics")
        assert answer.status_code == 404, run


def test_columns_hold_what_the_rows_hold(client, run_of, tmp_path):
    """Each figure in its column at its step, null where it is not finite or not there; ?after= cuts at a step."""
    rows = [row(1), row(2, float("nan"), held_out_loss=3.0), row(3, None), row(4, 0.25, rows=[1, 2])]
    run_of(tmp_path / "run", "pretrain", rows, steps=8, report=False)
    told = client.get("/glass/api/runs/run/metrics").json()
    assert told["steps"] == [1, 2, 3, 4]
    assert told["last"] == 4
    assert told["of"] == 8
    assert told["columns"] == {
        "loss": [1.0, None, None, 0.25], "seconds": [1.0, 2.0, 3.0, 4.0], "held_out_loss": [None, 3.0, None, None],
    }  # fmt: skip
    assert told["left_s"] == 4.0  # a second a step, four to go
    assert client.get("/glass/api/runs/run/metrics?after=3").json()["steps"] == [4]


def test_decisions_and_skips_are_told(client, run_of, tmp_path):
    """What is not as usual, where it went on from, and steps whose gradient was not finite."""
    rows = [row(1, skipped=0), row(2, skipped=1), row(3, skipped=1)]
    options = {"train": {"lr": 0.5}}
    folder = run_of(tmp_path / "r", "sft", rows, options=options, parent={"folder": "/far/away/runs/demo/pretrain"})
    (folder / "skipped.jsonl").write_text('{"step": 2, "loss": "nan", "grad_norm": "inf", "rows": []}\n')
    told = client.get("/glass/api/runs/r/metrics").json()
    assert told["skipped"] == [2]
    assert told["skips"] == [{"step": 2, "loss": "nan", "grad_norm": "inf"}]
    assert told["decisions"]["parent"] == "demo/pretrain"
    assert {"name": "train.lr", "value": "0.5", "usual": "2e-05"} in told["decisions"]["options"]


def test_a_long_run_is_thinned_and_keeps_its_spikes():
    """Of 10,000 steps a few hundred, among them the single one that leapt and all that were measured."""
    rows = [row(step, 9.0 if step == 5678 else 1 / step) for step in range(1, 10_001)]
    rows[1233]["held_out_loss"] = 1.0
    steps = [one["step"] for one in thinned(rows, 300)]
    assert len(steps) < 310
    assert {1, 1234, 5678, 10_000} <= set(steps)
    assert steps == sorted(steps)
    assert thinned(rows, 10_000) == rows


def test_samples_by_prompt_and_step(client, run_of, tmp_path):
    """From both files that have some; what a model says is data."""
    samples = [{"step": 9, "prompt": "a", "text": EVIL}, {"step": 3, "prompt": "a", "text": "b"}]
    inside = [{"step": 6, "best": {}, "samples": [{"prompt": "c", "text": "d"}, "damaged"]}]
    run_of(tmp_path / "run", "pretrain", [row(1)], samples=samples, inside=inside)
    assert client.get("/glass/api/runs/run/samples").json()["prompts"] == [
        {"prompt": "a", "said": [{"step": 3, "text": "b"}, {"step": 9, "text": EVIL}]},
        {"prompt": "c", "said": [{"step": 6, "text": "d"}]},
    ]


def test_the_birth_of_a_head(client, run_of, tmp_path):
    """The best of each kind at every look under the head that has it at the end, and the surprise of each layer."""
    run_of(tmp_path / "run", "pretrain", [row(1)], inside=run_of.looks(20, 4))
    told = client.get("/glass/api/runs/run/inside").json()
    assert told["steps"] == [0, 10, 20]
    assert told["best"]["induction"] == {"head": [1, 3], "scores": [0.05, 0.8, 0.8]}
    assert told["kl"] == [[3.0, 1.0, 0.5, 0.0]] * 3
    assert told["settled"] == [1.5] * 3


def test_damaged_runs_are_listed_and_say_so(client, run_of, tmp_path):
    """One broken folder hides none of the others."""
    run_of(tmp_path / "good", "sft", [row(1)])
    run_of(tmp_path / "bad", "sft", [row(1)])
    (tmp_path / "bad" / "instar.yaml").write_text("stage: [")
    assert {run["id"] for run in client.get("/glass/api/runs").json()["runs"]} == {"good", "bad"}
    answer = client.get("/glass/api/runs/bad/metrics")
    assert answer.status_code == 422
    assert answer.json()["error"]["code"] == "bad_input"


@pytest.mark.parametrize(("file", "content"), [
    ("report.json", "[1]"), ("report.json", "[" * 100_000), ("instar.yaml", "stage: [sft]\nsteps: [3]\noptions: 7"),
    ("instar.yaml", "parent: here\noptions: {preset: [1]}"), ("instar.yaml", "parent: {folder: 3}\nsteps: many"),
])  # fmt: skip
def test_files_that_hold_something_else(client, run_of, tmp_path, file, content):
    """What is no object where one is wanted hides no other run, and fails no answer of ours: 200, or 422."""
    run_of(tmp_path / "good", "sft", [row(1)])
    (run_of(tmp_path / "odd", "sft", [row(1)]) / file).write_text(content)
    answer = client.get("/glass/api/runs")
    assert {run["id"] for run in answer.json()["runs"]} == {"good", "odd"}
    assert client.get("/glass/api/runs/odd/metrics").status_code == (422 if file == "report.json" else 200)


def test_nobody_hears_where_a_run_lies(client, run_of, tmp_path):
    """A damaged file is named by the run's id, and never by its path, also to those who follow it."""
    (run_of(tmp_path / "life" / "bad", "sft", [row(1)]) / "instar.yaml").write_text("stage: [")
    client.get("/glass/api/runs")
    for what in ("metrics", "events"):
        answer = client.get(f"/glass/api/runs/life/bad/{what}")
        assert answer.status_code == 422
        assert "life/bad/instar.yaml" in answer.text
        assert str(tmp_path) not in answer.text


@pytest.mark.parametrize("path", ["?x=1", "/run/metrics?bogus=1", "/run/samples?after=1", "/run/inside?after=1",
                                  "/run/events?points=3", "/run/metrics?after=1&after=2"])  # fmt: skip
def test_a_name_that_is_not_known(client, run_of, tmp_path, path):
    """422 in every route, and no answer is kept by anyone."""
    run_of(tmp_path / "run", "sft", [row(1)])
    assert client.get("/glass/api/runs").headers["cache-control"] == "no-store"
    answer = client.get(f"/glass/api/runs{path}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "bad_input")


def test_a_tail_waits_for_whole_lines(tmp_path):
    """Half a line, and half a character, are told when they are whole, and once."""
    path = tmp_path / "metrics.jsonl"
    tail = Tail(path)
    assert tail.read() == (None, [])
    add(path, '{"step": 1, "note": "狗"}\n{"step": 2, "lo')
    assert [one["step"] for one in tail.read()[1]] == [1]
    assert tail.read() == (None, [])
    add(path, 'ss": 3}\nno row\n{"step": 3}\n')
    assert tail.read() == (None, [{"step": 2, "loss": 3}, {"step": 3}])
    assert tail.last == 3


def test_a_run_that_goes_on_takes_back_what_it_forgot(tmp_path):
    """After a crash a run goes on from a checkpoint, and its rows behind that are written anew: the first row that
    differs is known even where the new file is already longer."""
    path = tmp_path / "metrics.jsonl"
    write(path, [row(step) for step in range(1, 7)])
    tail = Tail(path)
    tail.read()
    write(path, [row(step) for step in range(1, 5)])
    assert tail.read() == (4, [])
    write(path, [row(1), row(2), *(row(step, 0.5) for step in range(3, 9))])
    back, rows = tail.read()
    assert back == 2
    assert [one["step"] for one in rows] == [3, 4, 5, 6, 7, 8]
    write(path, [row(1), row(2), *(row(step, 0.5) for step in range(3, 9))])
    assert tail.read() == (None, [])  # another file, the same rows


def followed(folder, script, after=0):
    """The events of a run; script: step of the looks -> what happens before it."""

    async def run():
        looks = 0

        async def pause(seconds):
            nonlocal looks
            looks += 1
            script.get(looks, lambda: None)()
            assert looks < 50

        return [event async for event in follow(folder, {"steps": 10}, after, pause)]

    return asyncio.run(run())


def test_a_run_is_followed_to_its_end(run_of, tmp_path):
    """What was there, what is added, that samples came, what was taken back, and the end with its report."""
    folder = run_of(tmp_path / "run", "pretrain", [row(1), row(2)], steps=10, report=False)
    path, guard = folder / "metrics.jsonl", lock.held(folder / ".lock")
    guard.__enter__()

    def end():
        (folder / "report.json").write_text("{}")
        guard.__exit__(None, None, None)

    script = {
        1: lambda: add(path, json.dumps(row(3)) + "\n"),
        2: lambda: (folder / "samples.jsonl").write_text('{"step": 3, "prompt": "a", "text": "b"}\n'),
        3: lambda: write(path, [row(1), row(2, 0.5)]),
        4: end,
    }
    told = followed(folder, script)
    assert [(name, number) for name, _, number in told] == [
        ("rows", 2), ("rows", 3), ("changed", 3), ("rewind", 1), ("rows", 2), ("end", 2),
    ]  # fmt: skip
    assert told[0][1] == {
        "steps": [1, 2], "columns": {"loss": [1.0, 1.0], "seconds": [1.0, 2.0]}, "left_s": 8.0
    }  # fmt: skip
    assert told[2][1] == {"samples": True}
    assert told[4][1]["columns"]["loss"] == [0.5]
    assert told[-1][1] == {"state": "finished"}


def test_whoever_comes_back_gets_what_is_missing(client, run_of, tmp_path):
    """Last-Event-ID goes on behind that step; a step that is no longer there means to begin again."""
    run_of(tmp_path / "run", "pretrain", [row(step) for step in range(1, 6)], report=False)
    said = client.get("/glass/api/runs/run/events", headers={"Last-Event-ID": "3"})
    assert said.headers["content-type"].startswith("text/event-stream")
    rows, end = said.text.strip().split("\n\n")
    assert rows.startswith("event: rows\nid: 5\ndata: ")
    assert '"steps":[4,5]' in rows
    assert end == 'event: end\nid: 5\ndata: {"state":"stopped"}'
    again = client.get("/glass/api/runs/run/events?after=9").text
    assert again.startswith('event: rewind\nid: 0\ndata: {"step":0}')
    assert '"steps":[1,2,3,4,5]' in again
    assert client.get("/glass/api/runs/none/events").status_code == 404
    whole = client.get("/glass/api/runs/run/events", headers={"Last-Event-ID": "9" * 5000})
    assert '"steps":[1,2,3,4,5]' in whole.text  # which was no id of ours


def test_so_many_readers_and_no_more(run_of, tmp_path, monkeypatch):
    """One more is 429, and has a place once another has left; an error is of no step, so that who comes back goes on
    where it was."""
    monkeypatch.setattr("instar.serve.glass.runs_api.FOLLOWERS", 0)
    run_of(tmp_path / "run", "sft", [row(1)], report=False)

    async def stopping(seconds):
        raise Trouble(503, "worker_died", "the server is stopping")

    app = FastAPI()
    glass = GlassOptions(roots=(str(tmp_path),))
    index = Index(ServeOptions(model=str(tmp_path / "none"), glass=glass))
    app.include_router(routes(Runs(index), stopping))
    client = TestClient(app)
    answer = client.get("/glass/api/runs/run/events")
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "busy")
    monkeypatch.setattr("instar.serve.glass.runs_api.FOLLOWERS", 1)
    with lock.held(tmp_path / "run" / ".lock"):
        for _ in range(2):
            *_, last = client.get("/glass/api/runs/run/events").text.strip().split("\n\n")
            assert last.startswith("event: error\ndata: ")


def test_a_fault_of_ours_has_the_form_of_the_page(client, run_of, tmp_path, monkeypatch, caplog):
    """500 internal_error, of which the log says the place and nobody the words."""
    monkeypatch.setattr(Runs, "listed", lambda self: {}["canary-7f3a"])
    answer = client.get("/glass/api/runs")
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_error")
    assert "failed: KeyError" in caplog.text
    assert "canary" not in answer.text + caplog.text


def test_reading_runs_needs_no_torch():
    """The front of the server serves them, and never imports torch."""
    code = "import sys, instar.serve.glass.runs_api; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
