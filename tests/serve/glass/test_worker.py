"""The process of the glass box, its loop run step by step here; and as a process of its own."""

import json
import os
import signal
import socket
import subprocess
import sys
from queue import SimpleQueue

import pytest
import torch

from instar.config import InputError
from instar.config.options import GlassOptions, ServeOptions
from instar.config.strict import to_dict
from instar.probe.panel import Unfit, Words
from instar.serve.glass import worker as module
from instar.serve.glass.box import Binary
from instar.serve.glass.caller import PROGRAM
from instar.serve.glass.stock import stacks
from instar.serve.glass.trouble import Trouble
from instar.serve.glass.worker import Worker, out_of_memory


class Loop:
    """A worker whose jobs are given and taken by hand."""

    def __init__(self, ops, model="/nowhere", **glass):
        self.far, line = socket.socketpair()
        self.far.settimeout(20)
        self.read = self.far.makefile("rb")
        self.inbox, self.cancelled = SimpleQueue(), set()
        options = ServeOptions(model=str(model), dtype="fp32", device="cpu", glass=GlassOptions(**glass))
        self.worker = Worker(options, line, self.inbox, self.cancelled, ops)

    def take(self, id, op, **args):
        self.worker.take({"id": id, "op": op, "args": args})

    def told(self):
        """The next frame: its header, and its body as JSON where it is that."""
        header = json.loads(self.read.readline())
        body = self.read.read(header["size"])
        return header, body if header["kind"] == "bytes" else json.loads(body or "{}")

    def answer(self, id, op, **args):
        self.take(id, op, **args)
        return self.told()


@pytest.fixture
def loop():
    """loop(ops, model=, and fields of GlassOptions) -> Loop."""
    made = []

    def make(ops, *arguments, **options):
        made.append(Loop(ops, *arguments, **options))
        return made[-1]

    yield make
    for each in made:
        each.read.close()
        each.far.close()
        each.worker.line.close()


def raising(error):
    def op(box, args):
        raise error

    return op


def test_answers_are_json_or_bytes(loop):
    """What an operation gives comes back as it is, also half of a surrogate pair, which is no UTF-8."""
    at = loop({"json": lambda box, args: {"was": args}, "bytes": lambda box, args: Binary(b"\n\x00", "a/b", "c.d")})
    header, body = at.answer(3, "json", text="中\udc80\n")
    assert (header["id"], header["kind"], header["type"]) == (3, "json", "application/json")
    assert body == {"was": {"text": "中\udc80\n"}}
    header, body = at.answer(4, "bytes")
    assert (header["type"], header["name"], body) == ("a/b", "c.d", b"\n\x00")


@pytest.mark.parametrize(
    ("error", "status", "code", "more"),
    [
        (Trouble(413, "too_long", "long", limit=8, got=9), 413, "too_long", {"limit": 8, "got": 9}),
        (InputError("layer=9, wanted 0 to 3"), 422, "bad_input", {}),
        (Unfit(Words("no head", "没有头")), 422, "unfit", {"zh": "没有头"}),
        (MemoryError(), 507, "memory", {"need": 0, "budget": 2**30}),
        (torch.OutOfMemoryError("CUDA out of memory"), 507, "memory", {"need": 0, "budget": 2**30}),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), 507, "memory", {}),
        (RuntimeError("shapes do not fit"), 500, "internal_error", {}),
        (KeyError("canary-7f3a"), 500, "internal_error", {}),
    ],
)
def test_what_goes_wrong_is_told_by_its_code_and_the_loop_goes_on(error, status, code, more, loop, capfd):
    """Each kind of error has a status and a code, the words of a fault of ours are told to nobody, and the next job
    works."""
    at = loop({"fail": raising(error), "fine": lambda box, args: {}})
    header, body = at.answer(1, "fail")
    assert (header["kind"], header["status"], body["code"]) == ("error", status, code)
    assert body.items() >= more.items()
    assert "canary" not in json.dumps(body) + capfd.readouterr().err
    assert at.answer(2, "fine")[0]["kind"] == "json"


def test_memory_that_ran_out_is_given_back(loop):
    """Kept traces go where memory ran out, and torch's own words are known for what they are."""
    at = loop({"fail": raising(MemoryError())})
    at.worker.box.traces._kept["t1"] = object()
    at.answer(1, "fail")
    assert len(at.worker.box.traces) == 0
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60)
    assert out_of_memory(caught.value)


def test_what_is_not_known_is_no_operation(loop):
    """404, and nothing is looked up as a name of Python's."""
    assert loop({}).answer(1, "__class__")[1]["code"] == "not_found"


def test_a_number_that_json_does_not_have_is_a_fault_of_ours(loop):
    """NaN in an answer is never sent."""
    assert loop({"nan": lambda box, args: {"x": float("nan")}}).answer(1, "nan")[1]["code"] == "internal_error"


def counting(name, count, closed=None):
    def op(box, args):
        try:
            for number in range(count):
                yield {"event": name, "data": {"number": number}}
        finally:
            if closed is not None:
                closed.append(name)

    return op


def test_streams_take_turns_with_each_other_and_with_jobs(loop):
    """Two streams give an event each in turn, a job between them is answered, and each says that it ends."""
    at = loop({"a": counting("a", 2), "b": counting("b", 3), "job": lambda box, args: {}})
    at.take(1, "a")
    at.take(2, "b")
    at.worker.go_on(), at.worker.go_on()
    at.take(3, "job")
    while at.worker.streams:
        at.worker.go_on()
    found = []
    while len(found) < 8:
        header, _ = at.told()
        found.append((header["id"], header["kind"]))
    assert found == [
        (1, "event"), (2, "event"), (3, "json"), (1, "event"), (2, "event"), (1, "end"), (2, "event"), (2, "end"),
    ]  # fmt: skip


def test_a_stream_that_has_nothing_to_tell_is_asked_again(loop):
    """None is no event, and says that there is time to rest."""

    def quiet(box, args):
        yield None
        yield {"event": "x", "data": {}}

    at = loop({"quiet": quiet})
    at.take(1, "quiet")
    assert [at.worker.go_on(), at.worker.go_on(), at.worker.go_on()] == [False, True, True]
    assert [at.told()[0]["kind"], at.told()[0]["kind"]] == ["event", "end"]


def test_a_cancelled_job_does_not_begin_and_a_cancelled_stream_ends(loop):
    """Both are told once more, so that their places are free, and a stream tidies up."""
    closed, alive = [], []  # a generator that somebody holds does not tidy up by itself

    def held(box, args):
        alive.append(counting("a", 9, closed)(box, args))
        return alive[-1]

    at = loop({"job": lambda box, args: {}, "a": held})
    at.cancelled.add(1)
    header, body = at.answer(1, "job")
    assert (header["status"], body["code"]) == (499, "cancelled")
    at.take(2, "a")
    at.worker.go_on()
    assert at.told()[0]["kind"] == "event"
    assert closed == []
    at.cancelled.add(2)
    at.worker.go_on()
    assert at.told()[0]["status"] == 499
    assert closed == ["a"]
    assert not at.worker.streams
    assert not at.cancelled


def test_a_cancel_that_comes_too_late_is_forgotten(loop, monkeypatch):
    """It is known at once and comes again in its turn, when its job has ended or is a stream that goes on."""
    at = loop({"job": lambda box, args: {}, "a": lambda box, args: counting("a", 9, [])})
    monkeypatch.setattr(module.os, "_exit", lambda code: None)
    near, far = socket.socketpair()
    far.sendall(b'{"id": 1, "op": "cancel"}\n{"id": 2, "op": "cancel"}\n')
    far.close()
    at.answer(1, "job")
    at.take(2, "a")
    module.listen(near, at.inbox, at.cancelled)
    near.close()
    assert at.cancelled == {1, 2}
    for _ in range(2):
        at.worker.take(at.inbox.get_nowait())
    assert at.cancelled == {2}
    at.worker.go_on()
    assert at.told()[0]["status"] == 499
    assert not at.cancelled


def test_a_stream_that_fails_tells_why_and_ends(loop):
    """What it told before stands, and a close that fails as well is nobody's matter."""

    def bad(box, args):
        try:
            yield {"event": "x", "data": {}}
            raise InputError("no more")
        finally:
            raise ValueError("worse")

    at = loop({"bad": bad, "job": lambda box, args: {}})
    at.take(1, "bad")
    at.worker.go_on(), at.worker.go_on()
    assert [at.told()[0]["kind"], at.told()[0]["kind"]] == ["event", "error"]
    assert at.answer(2, "job")[0]["kind"] == "json"
    assert not at.worker.streams


def test_a_pass_that_nobody_waits_for_is_abandoned_at_the_next_block(tokenizer, build, tmp_path, loop):
    """Of a model 40 blocks deep that is cancelled in the sixth, no block behind that computes; the next job runs on
    the same model, whole."""
    folder = build(tokenizer, tmp_path / "deep", layers=40, d_model=16)
    ran = []

    def pass_of(box, args):
        held = box.stock.get("deep")
        (stack,) = stacks(held.model)
        hooks = [
            block.register_forward_hook(lambda block, given, y, number=number: ran.append(number))
            for number, block in enumerate(stack.blocks)
        ]
        hooks.append(stack.blocks[5].register_forward_hook(lambda *_: at.cancelled.update(args["cancel"])))
        try:
            y = held.model.hidden(torch.tensor([[1, 2, 3]]))
        finally:
            for hook in hooks:
                hook.remove()
        return {"shape": list(y.shape)}

    at = loop({"pass": pass_of}, folder)
    header, body = at.answer(1, "pass", cancel=[1])
    assert (header["status"], body["code"]) == (499, "cancelled")
    assert ran == list(range(6))
    ran.clear()
    assert at.answer(2, "pass", cancel=[])[1] == {"shape": [1, 3, 16]}
    assert ran == list(range(40))


def test_the_front_is_told_which_models_are_loaded_when_that_is_news(folder, loop):
    """With the first answer behind it, and not again."""

    def load(box, args):
        box.stock.get("tiny")
        return {}

    at = loop({"load": load}, folder)
    assert [at.answer(number, "load")[0].get("loaded") for number in (1, 2)] == [["tiny"], None]


def test_paths_are_told_by_the_names_of_their_models(folder, loop):
    """An error of the package that names a folder says the model's id in its place."""
    at = loop({"fail": raising(InputError(f"{folder} has no head"))}, folder)
    at.worker.box.stock.index.refresh()
    assert at.answer(1, "fail")[1]["detail"] == "tiny has no head"


@pytest.fixture
def process(folder):
    """A real one, and our end of its socket."""
    ours, theirs = socket.socketpair()
    ours.settimeout(60)
    with theirs:
        started = subprocess.Popen(
            [sys.executable, *PROGRAM, str(theirs.fileno())], pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        )  # fmt: skip
    options = to_dict(ServeOptions(model=str(folder)))
    ours.sendall(json.dumps({"op": "start", "args": options}).encode() + b"\n")
    yield started, ours
    ours.close()
    started.kill()
    started.wait()


@pytest.mark.slow
def test_the_real_process_traces_gives_way_to_others_and_ends_with_the_front(process):
    """It is niced by 5, heeds no Ctrl-C, traces a text of the served model with green checks, and ends by itself with
    0 when the socket closes."""
    started, line = process
    read = line.makefile("rb")
    asked = {"id": 1, "op": "trace", "args": {"model": "tiny", "text": "Anna has a ball."}}
    line.sendall(json.dumps(asked).encode() + b"\n")
    header = json.loads(read.readline())
    body = json.loads(read.read(header["size"]))
    assert header["kind"] == "json", body
    assert header["loaded"] == ["tiny"]
    assert "".join(token["text"] for token in body["tokens"] if not token["special"]) == "Anna has a ball."
    assert body["checks"]
    assert all(check["green"] for check in body["checks"])
    assert os.getpriority(os.PRIO_PROCESS, started.pid) == os.getpriority(os.PRIO_PROCESS, 0) + module.NICE
    for number in (signal.SIGINT, signal.SIGTERM):
        started.send_signal(number)
    line.sendall(b'{"id": 2, "op": "traced", "args": {"trace": "t0"}}\n')
    header = json.loads(read.readline())
    assert header["status"] == 409
    read.close()
    line.shutdown(socket.SHUT_RDWR)
    assert started.wait(20) == 0
