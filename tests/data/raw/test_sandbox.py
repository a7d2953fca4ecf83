"""What a stranger's data does to the second process, it does to that alone."""

import os
import signal
import subprocess
import sys
import threading
import time
from multiprocessing import get_context

import pytest

from instar.data.raw import sandbox
from instar.data.raw.piece import Refused
from instar.data.raw.sandbox import Sandbox

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks /proc who is alive")


# what the second process does here; a module of its own, so that it starts without pytest
ACTS = """
import os, signal, time
from instar.data.raw.piece import Refused
from instar.data.raw.sandbox import MEMORY

def deeper(level):
    return deeper(level + 1) + 1

def act(question, data):
    wish = question.get("wish")  # none in the question before the first
    if wish == "loop":
        while True:
            pass
    if wish == "sleep":
        time.sleep(60)
    if wish == "die":
        os.kill(os.getpid(), signal.SIGSEGV)
    if wish == "deep":
        deeper(0)
    if wish == "large":
        bytearray(MEMORY)
    if wish == "refuse":
        raise Refused("markup", "no page")
    if wish == "raise":
        raise ValueError("odd\\npage")
    if wish == "print":
        print("a library's chatter", flush=True)
        os.system("echo more of it")
    return {"process": os.getpid(), "size": len(data), "text": "人咬狗"}
"""
FUNCTION = "acts:act"


@pytest.fixture(autouse=True)
def acts(tmp_path, monkeypatch):
    (tmp_path / "acts.py").write_text(ACTS, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)


@pytest.fixture
def box():
    box = Sandbox(FUNCTION)
    yield box
    box.end()


def ask(box, wish="", data=b"", seconds=5.0):
    return box.ask({"wish": wish}, data, seconds)


def alive(process):
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def gone(process, seconds=10.0):
    end = time.monotonic() + seconds
    while alive(process) and time.monotonic() < end:
        time.sleep(0.01)
    return not alive(process)


def test_questions_are_answered_by_one_process(box):
    """Of any size, and whatever the function prints meanwhile."""
    answers = [ask(box, "", bytes(3_000_000)), ask(box, "print")]
    os.kill(answers[0]["process"], signal.SIGINT)  # as Ctrl-C does to all of a terminal
    answers.append(ask(box))
    assert len({answer["process"] for answer in answers}) == 1
    assert answers[0]["process"] != os.getpid()
    assert [answer["size"] for answer in answers] == [3_000_000, 0, 0]
    assert answers[2]["text"] == "人咬狗"


def test_what_goes_wrong_there_is_refused_here(box):
    """And the next question is answered, by a new process if need be."""
    for wish, reason, said in (
        ("loop", "slow", "limits.seconds=0.1"), ("die", "crash", "SIGSEGV"), ("deep", "deep", "nested"),
        ("large", "expands", "memory"), ("refuse", "markup", "no page"), ("raise", "crash", "ValueError: odd page"),
    ):  # fmt: skip
        with pytest.raises(Refused) as caught:
            ask(box, wish, seconds=0.1 if wish == "loop" else 5.0)
        assert caught.value.reason == reason, wish
        assert said in caught.value.detail
        assert ask(box)["size"] == 0


def test_computing_time_is_counted_and_not_waiting(box, monkeypatch):
    """A busy machine refuses nothing; a process that waits for ever is ended by the clock all the same."""
    assert ask(box)
    with monkeypatch.context() as short:
        short.setattr(sandbox, "START", 0.3)
        short.setattr(sandbox, "PATIENCE", 0.0)
        with pytest.raises(Refused, match="crash"):
            ask(box, "sleep", seconds=0.1)
    assert ask(box)


def test_threads_have_processes_of_their_own_that_end_with_them(box):
    """Answers are never mixed up, and nothing is left behind."""
    found, together = {}, threading.Barrier(2)

    def work(name):
        ask(box)
        together.wait(60)
        found[name] = [ask(box, "", bytes(name)) for _ in range(20)]
        together.wait(60)

    threads = [threading.Thread(target=work, args=(name,)) for name in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all({answer["size"] for answer in found[name]} == {name} for name in (1, 2))
    first, second = (found[name][0]["process"] for name in (1, 2))
    assert first != second
    assert gone(first) and gone(second)  # noqa: PT018


def test_after_many_questions_another_process_takes_over(box, monkeypatch):
    """So that what a library never forgets is forgotten."""
    monkeypatch.setattr(sandbox, "QUESTIONS", 2)
    processes = [ask(box)["process"] for _ in range(4)]
    assert processes[0] == processes[1] != processes[2] == processes[3]
    assert gone(processes[0])


def test_a_missing_library_is_named():
    """ImportError, which readers turn into the sentence with its remedy."""
    box = Sandbox("no_such_library.inside:act")
    with pytest.raises(ImportError) as caught:
        ask(box)
    assert caught.value.name == "no_such_library"


def worker(results):
    results.put(ask(Sandbox(FUNCTION))["process"])


def test_a_daemonic_worker_may_have_one():
    """As datatrove's are, which multiprocessing allows no children."""
    context = get_context("forkserver")
    results = context.Queue()
    process = context.Process(target=worker, args=(results,), daemon=True)
    process.start()
    theirs = results.get(timeout=60)
    process.join()
    assert gone(theirs)


def test_a_fork_does_not_speak_through_the_pipes_of_its_parent(box):
    """It starts its own process, and ends none but that."""
    mine, context = ask(box)["process"], get_context("fork")
    results = context.Queue()
    process = context.Process(target=lambda: results.put(ask(box)["process"]), daemon=True)
    process.start()
    theirs = results.get(timeout=60)
    process.join()
    assert theirs != mine
    assert gone(theirs)
    assert ask(box)["process"] == mine


@pytest.mark.parametrize("wish", ["", "loop"], ids=["waiting", "computing"])
def test_it_dies_with_its_parent(wish):
    """Even where the parent was killed and could end nothing."""
    code = f"""if True:
        import sys; sys.path[:] = {sys.path!r}
        from instar.data.raw.sandbox import Sandbox
        box = Sandbox("{FUNCTION}")
        print(box.ask({{"wish": ""}}, b"", 5.0)["process"], flush=True)
        box.ask({{"wish": {wish!r}}}, b"", 50.0)
        sys.stdin.read()
    """
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        process = int(parent.stdout.readline())
        assert alive(process)
        time.sleep(0.3)  # until it was asked
        parent.kill()
    assert gone(process)
