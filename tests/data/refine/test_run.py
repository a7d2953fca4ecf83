"""A recipe from raw files to shards: the same by whoever runs it, however often it is killed.

Run as a program, this file is the process whose children are killed: everything is imported once, each start is a fork.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import pytest

from instar.config import Failed, InputError, Interrupted, load_yaml, to_dict
from instar.config.data import read_data_recipe
from instar.data.corpus import load_tokens
from instar.data.refine import phases, report
from instar.data.refine.run import prepare
from instar.data.refine.tokens import stored
from instar.data.sources import read
from instar.text.tokenizer import Tokenizer

KILLS = int(os.environ.get("INSTAR_KILLS", "2"))


def outcome(folder):
    """Everything that a run leaves, by name: its hash; of the report all but times and who worked."""
    found = {}
    for path in sorted(Path(folder).rglob("*")):
        name = str(path.relative_to(folder))
        if path.name == "report.json":
            found[name] = json.loads(path.read_text())
            del found[name]["seconds"], found[name]["recipe"]["executor"]
        elif path.is_file() and path.suffix != ".html" and path.name != "recipe.yaml":
            found[name] = sha256(path.read_bytes()).hexdigest()
    return found


def rows_of(folder):
    """The documents of a folder by id."""
    paths = sorted((Path(folder) / "documents").iterdir())
    return {document.record["id"]: document.record for path in paths for document in stored(path)}


def finished(out, recipe, tokens):
    """A finished folder: where it is, and its report."""
    told = prepare(recipe, tokens, out)
    assert not (out / "work").exists()
    return told


@pytest.fixture(scope="module")
def made(recipe_of, tokens, tmp_path_factory):
    """A finished folder, not to be changed, and its report."""
    out = tmp_path_factory.mktemp("made") / "out"
    return out, finished(out, recipe_of(), tokens)


@pytest.fixture
def copy(made, tmp_path):
    """A finished folder that may be changed."""
    return Path(shutil.copytree(made[0], tmp_path / "copy"))


# --- what comes out ---------------------------------------------------------------------------------------------------


def test_faults_are_counted_and_nothing_else_is_lost(made, raw):
    """Every row that can be read and is no copy stands in the documents; every fault has a reason, a count and a place;
    files without a reader are counted."""
    out, told = made
    rows, flow = told["sources"]["rows"], told["sources"]["rows"]["flow"]
    faults = {each["reason"]: each["count"] for each in rows["broken"]}
    assert {"json", "empty", "shape"} <= faults.keys()
    assert rows["skipped"] == {".pdf": 1}
    assert rows["broken"][0]["first"][0]["where"].startswith(str(raw / "rows"))
    assert flow["read"]["documents"][0] - flow["read"]["documents"][1] == sum(faults.values())
    assert any("picture.txt" in each["first"][0]["where"] for each in told["sources"]["texts"]["broken"])
    found = rows_of(out)
    assert len(found) == report.left(told) == told["total"]["flow"]["tokens"]["documents"][1]
    assert sum("Story" in row["text"] for row in found.values()) >= 33


def test_of_copies_the_first_stays(made, raw):
    """By the order of the sources and of their files; the report names what a copy is one of."""
    out, told = made
    found = [id for id, row in rows_of(out).items() if row["text"].startswith("Story 40.")]
    assert len(found) == 1
    assert str(raw / "rows" / "b.jsonl") in found[0]
    assert told["sources"]["texts"]["flow"]["exact"]["reasons"]["copy"]["documents"] == 1
    (sample,) = [each for each in told["samples"] if each["source"] == "texts" and each["reason"] == "copy"]
    assert sample["detail"] == f"exact copy of {found[0]}"


def test_every_step_hands_on_what_it_keeps(made):
    """What comes out of a step goes into the next one, in documents and in bytes, of each source and of all; all that
    went has a reason."""
    _, told = made
    assert told["steps"] == ["read", "repair", "exact", "near", "tokens"]
    for flow in (*(source["flow"] for source in told["sources"].values()), told["total"]["flow"]):
        steps = list(flow.values())
        for data in steps:
            gone = sum(reason["documents"] for reason in data["reasons"].values() if not reason["changed"])
            assert data["documents"][0] - data["documents"][1] == gone
    for source in told["sources"].values():
        steps = list(source["flow"].values())
        for one, other in pairwise(steps):
            assert one["documents"][1] == other["documents"][0]
            assert one["bytes"][1] == other["bytes"][0]


def test_shards_hold_the_documents(made, tokens):
    """Tokens of every document, told of each shard and of the whole; documents can be read as data again."""
    out, told = made
    store, counts = load_tokens([str(out)], Tokenizer.load(tokens))
    assert counts["documents"] == len(rows_of(out))
    assert store.total == sum(shard["tokens"] for shard in told["shards"])
    assert {shard["source"] for shard in told["shards"]} == {"rows", "texts"}
    assert {row["text"] for row in rows_of(out).values()} == {each.text for each in read([str(out / "documents")])}


def test_a_folder_says_what_made_it(made, recipe_of):
    """The recipe with every default, the plan's key in the report, the page, no work left."""
    out, told = made
    assert read_data_recipe(load_yaml(out / "recipe.yaml")) == recipe_of()
    assert json.loads((out / "plan.json").read_text())["key"] == told["key"]
    assert told == json.loads((out / "report.json").read_text()) | {"reused": False}
    assert (out / "report.html").is_file()


# --- going on ---------------------------------------------------------------------------------------------------------


def test_a_finished_folder_is_left_alone(copy, recipe_of, tokens):
    """The same command again reads nothing; other epochs change the mixture and no shard; a shard that was removed is
    made again; a recipe that would make other documents is refused with what differs."""
    before, written = outcome(copy), (copy / "report.json").stat().st_mtime_ns
    assert prepare(recipe_of(), tokens, copy)["reused"]
    assert prepare(recipe_of(), None, copy)["reused"]
    assert (copy / "report.json").stat().st_mtime_ns == written
    shard = sorted(copy.glob("*.safetensors"))[1]
    shard.unlink()
    assert not prepare(recipe_of(), tokens, copy)["reused"]
    assert outcome(copy) == before
    sources = [replace(source, epochs=3.0) for source in recipe_of().sources]
    told = prepare(replace(recipe_of(), sources=tuple(sources)), tokens, copy)
    assert {source["epochs"] for source in told["sources"].values()} == {3.0}
    assert [name for name, what in outcome(copy).items() if what != before[name]] == ["mixture.json", "report.json"]
    with pytest.raises(InputError, match="seed was 0 and is 1"):
        prepare(recipe_of(seed=1), tokens, copy)


def test_documents_first_and_tokens_later(made, recipe_of, tokens, tmp_path):
    """Without a tokenizer there are documents alone; the same recipe with one goes on from them, and the shards are
    those of a run in one go. A tokenizer that is another one is refused."""
    out = tmp_path / "out"
    told = prepare(recipe_of(), None, out)
    assert (told["tokenizer"], told["shards"]) == (None, [])
    assert len(list(read([str(out)]))) == report.left(told)
    times = {path: path.stat().st_mtime_ns for path in (out / "documents").iterdir()}
    prepare(recipe_of(), tokens, out)
    assert {path: path.stat().st_mtime_ns for path in (out / "documents").iterdir()} == times
    found, wanted = outcome(out), outcome(made[0])
    assert {name: what for name, what in found.items() if name != "report.json"} == {
        name: what for name, what in wanted.items() if name != "report.json"
    }
    assert found["report.json"]["samples"] == wanted["report.json"]["samples"]
    other = Tokenizer.train(["another one"], 300)
    with pytest.raises(InputError, match=f"holds tokens of the tokenizer .*, wanted {other.fingerprint[:12]}"):
        prepare(recipe_of(), other, out)


def test_a_run_that_failed_goes_on(made, recipe_of, tokens, tmp_path, monkeypatch):
    """Stopped between two phases and once inside one, it is in the end what it is without that."""
    out, usual = tmp_path / "out", phases.run

    def stop(job, phase, tell):
        if phase.name == "write":
            raise KeyboardInterrupt
        usual(job, phase, tell)

    monkeypatch.setattr(phases, "run", stop)
    with pytest.raises(Interrupted):
        prepare(recipe_of(), tokens, out)
    assert not (out / "report.json").exists()
    with pytest.raises(InputError, match="has not finished"):
        list(read([str(out)]))
    monkeypatch.undo()
    (out / "work" / "logs" / "read" / "completions" / "00001").unlink()
    finished(out, recipe_of(), tokens)
    assert outcome(out) == outcome(made[0])


# --- what is refused --------------------------------------------------------------------------------------------------


def test_what_would_write_nothing_is_refused_before_it_starts(raw, recipe_of, tokens, tmp_path):
    """No file, an unknown rule, a missing tokenizer or evaluation text, a folder of others: nothing is made."""
    out, rows = tmp_path / "out", str(raw / "rows")
    for words, recipe in (
        ("no such file", {"sources": [{"data": [str(raw / "none")]}]}),
        ("found .pdf", {"sources": [{"data": [rows + "/*.pdf"]}]}),
        ("unknown rule", {"sources": [{"data": [rows], "rules": ["gohper"]}]}),
        ("none.jsonl", {"evaluation": {"data": [str(raw / "none.jsonl")]}}),
    ):
        with pytest.raises(InputError, match=words):
            prepare(recipe_of(**recipe), tokens, out)
    with pytest.raises(InputError):
        prepare(recipe_of(), tmp_path / "no-tokenizer", out)
    assert not out.exists()
    (tmp_path / "thesis.tex").write_text("years of work")
    for place in (tmp_path, tmp_path / "thesis.tex"):
        with pytest.raises(InputError, match=r"name a(nother)? folder"):
            prepare(recipe_of(), tokens, place)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_nothing_left(raw, recipe_of, tokens, tmp_path):
    """Where the rules drop everything it is said for what, the report stays to look at, and again says the same."""
    recipe = recipe_of(sources=[{"name": "rows", "data": [str(raw / "rows")], "languages": ["zh"]}])
    for _ in range(2):
        with pytest.raises(
            InputError, match=r"nothing is left of \d+ documents: language: language .*report\.html shows why"
        ):
            prepare(recipe, tokens, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "report.json").read_text())["samples"]
    assert not list((tmp_path / "out").glob("*.safetensors"))


def test_a_folder_in_use(recipe_of, tokens, tmp_path):
    """Two runs never write into one folder."""
    from instar.data import lock

    with lock.held(tmp_path / "out" / ".lock"), pytest.raises(InputError, match="in use by process"):
        prepare(recipe_of(), tokens, tmp_path / "out")


# --- by others, and killed --------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_workers_write_what_one_does(made, recipe_of, tokens, tmp_path):
    """Byte for byte, and a worker's failure is an error here with the end of its trace."""
    finished(tmp_path / "out", recipe_of(executor={"workers": 2}), tokens)
    assert outcome(tmp_path / "out") == outcome(made[0])


@pytest.mark.slow
def test_a_worker_that_is_killed_ends_the_run(recipe_of, tokens, tmp_path):
    """A worker that is gone, as when memory is short, is noticed and named; run again it goes on."""
    out = tmp_path / "out"
    started, found = out / "work" / "logs" / "read" / "started", []

    def shoot(state):
        for path in started.glob("*") if not found else ():
            _, pid = path.read_text().split()
            os.kill(int(pid), signal.SIGKILL)
            found.append(int(pid))

    recipe = recipe_of(executor={"workers": 2}, task_mb=0.001)
    slow = replace(recipe, sources=tuple(replace(source, rules=("repair", "language")) for source in recipe.sources))
    with pytest.raises(Failed, match=r"task \d+ of phase read was killed"):
        prepare(slow, tokens, out, progress=shoot)
    prepare(slow, tokens, out)


FAKES = {
    # runs the jobs of the array one after the other
    "sbatch": """
        for last; do :; done
        top=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$last")
        for i in $(seq 0 "$top"); do
            SLURM_ARRAY_TASK_ID=$i RUN_OFFSET=0 SLURM_NODELIST=here SLURM_JOB_ID=7 bash "$last" >&2 || exit 1
        done
        echo Submitted batch job 7""",
    "srun": 'while [ "${1#-}" != "$1" ] || [ "$1" = 1 ]; do shift; done; exec "$@"',
    "scontrol": "echo localhost",
    "squeue": "exit 0",
    "scancel": "exit 0",
}


@pytest.mark.slow
def test_slurm_writes_the_same(made, recipe_of, tokens, tmp_path, monkeypatch):
    """With a queue that runs its jobs here, one after the other."""
    (tmp_path / "bin").mkdir()
    for name, script in FAKES.items():
        path = tmp_path / "bin" / name
        path.write_text(f"#!/bin/bash\n{script}\n")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    recipe = recipe_of(executor={"kind": "slurm", "partition": "cpu"})
    finished(tmp_path / "out", recipe, tokens)
    assert outcome(tmp_path / "out") == outcome(made[0])


@pytest.mark.slow
def test_ray_writes_the_same(made, recipe_of, tokens, tmp_path):
    """On a cluster of two nodes."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        options = {"kind": "ray", "address": cluster.address, "memory_gb": 0.2, "workers": 2}
        finished(tmp_path / "out", recipe_of(executor=options), tokens)
    finally:
        cluster.shutdown()
    assert outcome(tmp_path / "out") == outcome(made[0])


def drive(folder: Path, kills: int, seed: int) -> None:
    """Kill runs at random times, each going on where the one before was killed, until there were enough; then run to
    the end. A run that ends before it is killed is begun anew."""
    told = json.loads((folder / "told.json").read_text())
    recipe, draw, out = read_data_recipe(told["recipe"]), random.Random(seed), folder / "out"

    def start() -> int:
        if child := os.fork():
            return child
        try:
            prepare(recipe, told["tokens"], out)
        except BaseException as error:
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
            os._exit(1)
        os._exit(0)

    killed, seconds = 0, told["seconds"]
    while killed < kills:
        child = start()
        time.sleep(draw.uniform(0, seconds / 3))
        os.kill(child, signal.SIGKILL)
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
            shutil.rmtree(out)
        else:
            killed += 1
    assert os.waitstatus_to_exitcode(os.waitpid(start(), 0)[1]) == 0


def kill_and_compare(made, recipe, tokens, folder, kills, seed, seconds):
    """What is left after so many kills is what an undisturbed run leaves."""
    told = {"recipe": to_dict(recipe), "tokens": str(tokens), "seconds": seconds}
    (folder / "told.json").write_text(json.dumps(told))
    subprocess.run([sys.executable, __file__, folder, str(kills), str(seed)], check=True)
    assert outcome(folder / "out") == outcome(made[0])


def test_killed_at_random_times(made, recipe_of, tokens, tmp_path):
    """kill -9, and on it goes: documents, shards, mixture and report are those of a run that nobody killed."""
    kill_and_compare(made, recipe_of(), tokens, tmp_path, KILLS, 1, sum(made[1]["seconds"].values()))


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_killed_at_twenty_random_times(made, recipe_of, tokens, tmp_path, workers):
    """The same at length; two workers die with the process that started them, and no orphan of theirs is left."""
    seconds = sum(made[1]["seconds"].values()) if workers == 1 else 12.0
    recipe = recipe_of(executor={"workers": workers})
    kill_and_compare(made, recipe, tokens, tmp_path, max(20, KILLS), workers, seconds)
    time.sleep(1.0)
    lines = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout.splitlines()
    assert not [line for line in lines if str(tmp_path) in line and "conductor" in line]


if __name__ == "__main__":
    drive(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
