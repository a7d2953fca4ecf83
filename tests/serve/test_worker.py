"""The loop of an engine's process, turned by hand in this one."""

import base64
import json
import os
import signal
import socket
import threading
import time
from queue import SimpleQueue

import numpy as np
import pytest
import torch

from instar.adapt.folders import base_of, load, save_adapter
from instar.adapt.lora import attach
from instar.config import InputError
from instar.config.options import EngineOptions, LoraOptions, SamplingOptions, ServeOptions
from instar.config.presets import preset
from instar.config.strict import to_dict
from instar.hub.folders import save
from instar.infer.engine import Engine
from instar.infer.surprise import surprise
from instar.infer.vectors import embed
from instar.model.transformer import Transformer
from instar.serve import wire, worker
from instar.serve.wire import Ask, Beat, Cancel, Embed, Failed, Refused, Score, Scored, Taken, Told, Vectors
from instar.serve.worker import Worker

POISON = 70  # a token whose row of the embedding is no number


class Turned(Worker):
    """A worker without a socket, of which `said` keeps what it tells."""

    def __init__(self, options):
        self.said = []
        super().__init__(options, 0, None, SimpleQueue())

    def tell(self, message):
        json.loads(wire.dump(message))  # it can be told
        self.said.append(message)

    def ask(self, *messages):
        for message in messages:
            self.inbox.put(message)

    def turn(self, times=1):
        """Go round the loop."""
        for _ in range(times):
            self.hear()
            if self.engine is not None and self.engine.busy:
                self.step(self.engine)
            if len(self.readings):
                self.read()
        return self

    def until(self, true):
        end = time.monotonic() + 20
        self.turn()
        while not true():
            assert time.monotonic() < end, self.said
            self.turn()
            if not self.busy:  # a thread is at work
                time.sleep(0.001)

    def answer(self, id):
        """The tokens of an answer, and how it ended."""
        rows = [row for message in self.said if isinstance(message, Told) for row in message.events if row[0] == id]
        return [row[1] for row in rows if row[1] is not None], rows[-1][3] if rows else None

    def of(self, kind, id=None):
        return [m for m in self.said if isinstance(m, kind) and (id is None or m.id == id)]


def ask(id, prompt, new=6, *, seed=0, **rules):
    more = {name: rules.pop(name) for name in ("salt", "adapter", "endless", "source") if name in rules}
    rules.setdefault("strategy", "greedy")
    return Ask(id, list(prompt), SamplingOptions(max_new_tokens=new, **rules), seed, **more)


@pytest.fixture
def make(folder):
    """make(model=folder, options of the engine) -> a worker that has loaded."""

    def made(model=folder, **engine):
        return Turned(ServeOptions(model=str(model), engine=EngineOptions(**{"slots": 4, **engine})))

    return made


class Left(BaseException):
    """The process has ended, at once."""


@pytest.fixture
def leaving(monkeypatch):
    """What ends the process raises Left instead. Nothing else would do: who leaves otherwise waits for threads."""

    def leave(code):
        raise Left(code)

    monkeypatch.setattr(worker.os, "_exit", leave)


@pytest.fixture
def bare(tokenizer, tmp_path):
    """The folder of a model that gives vectors alone."""
    config = preset(
        "bert-nano", vocab_size=tokenizer.vocab_size, d_model=16, layers=1, heads=2, max_positions=32, heads_of=(),
        pooling="mean", normalised=True,
    )  # fmt: skip
    save(Transformer(config, seed=1), tokenizer, tmp_path / "bare")
    return tmp_path / "bare"


@pytest.fixture(scope="session")
def poisoned(folder, tokenizer, tmp_path_factory):
    """The same model, but for one token that it cannot read."""
    model, _ = load(folder)
    with torch.no_grad():
        model.embed.weight[POISON] = torch.nan
    place = tmp_path_factory.mktemp("poisoned")
    save(model, tokenizer, place)
    return place


def test_answers_are_those_of_an_engine(make, folder, tokenizer):
    """Several at once, drawn and greedy, are what an engine says to each alone; what was known of a prompt is told with
    the first token."""
    model, _ = load(folder)
    alone, own = Engine(model, slots=1, stops=tokenizer.stops), make()
    own.ask(ask(1, range(1, 40)), ask(2, [7, 8, 9], strategy="sample", seed=5), ask(3, [4], top_logprobs=2))
    own.until(lambda: not own.busy)
    for message in (ask(1, range(1, 40)), ask(2, [7, 8, 9], strategy="sample", seed=5), ask(3, [4], top_logprobs=2)):
        request = alone.submit(message.prompt, message.options, seed=message.seed)
        alone.run()
        assert own.answer(message.id) == (request.ids, request.finish)
    assert len(own.of(Told)[0].events) == 3
    assert all(len(row[4]) == 2 for message in own.of(Told) for row in message.events if row[0] == 3 and row[1])
    own.said.clear()
    own.ask(ask(4, range(1, 40)))
    own.until(lambda: not own.busy)
    assert [row[5] for message in own.of(Told) for row in message.events][:2] == [32, 0]


def test_a_cancelled_request_is_gone_before_the_next_step(make):
    """S3: its blocks are free at once, it says nothing more, and whoever waited for its row gets it."""
    own = make(slots=1)
    own.ask(ask(1, [1, 2, 3], 100, endless=True), ask(2, [5], 2))
    own.turn(3)
    free, total = own._blocks()
    assert free < total
    own.ask(Cancel(1), Cancel(1), Cancel(99))
    own.said.clear()
    own.hear()
    assert own._blocks() == (total, total)
    own.until(lambda: own.answer(2)[1] is not None)
    assert own.answer(1) == ([], "cancelled")
    assert own.said[0].events == [[1, None, 0.0, "cancelled", None, 0]]
    assert own._blocks() == (total, total)
    assert not own.requests
    assert not own.asked
    assert not own.begun


def test_an_endless_answer_goes_on_behind_a_stop(make, tokenizer):
    """ignore_eos: the tokenizer's ends are tokens like others; those that the request names still end it."""
    own = make()
    (end, *_) = tokenizer.stops
    bias = {"logit_bias": ((end, 100.0),)}
    own.ask(ask(1, [1], 3, **bias), ask(2, [1], 3, endless=True, **bias))
    own.ask(ask(3, [1], 3, endless=True, stop_ids=(end,), **bias))
    own.until(lambda: not own.busy)
    assert own.answer(1) == own.answer(3) == ([], "stop")
    assert own.answer(2) == ([end] * 3, "length")


@pytest.mark.parametrize(
    ("message", "param", "words"),
    [
        (ask(1, []), "prompt", "empty"),
        (ask(1, [1], 10**6), "prompt", "1024"),
        (ask(1, [10**6]), "prompt", "ids outside"),
        (ask(1, [1], logit_bias=((10**6, 1.0),)), "logit_bias", "names token"),
        (ask(1, [1], temperature=float("nan"), strategy="sample"), "temperature", "wanted a number"),
        (ask(1, [1], source=[1]), "prompt", "without an encoder"),
        (ask(1, [1], adapter="../other"), None, "no such adapter"),
        (Embed(1, [[1], []]), None, "text 1 has 0 tokens"),
        (Embed(1, [[-1]]), None, "ids outside"),
        (Embed(1, [[1]] * 10**6), None, "texts"),
        (Score(1, [1] * 10**4), None, "the model reads"),
        (Score(1, [10**6]), None, "ids outside"),
    ],
)
def test_what_cannot_be_is_refused_by_its_field(make, message, param, words):
    """S7: nothing is computed for it, and nothing is repeated of it but its figures."""
    own = make()
    own.ask(message)
    own.turn()
    (refusal,) = own.said
    assert isinstance(refusal, Refused)
    assert (refusal.id, refusal.param) == (1, param)
    assert words in refusal.message
    assert not own.busy


def test_a_grammar_holds_up_nobody(make, monkeypatch):
    """S22: while one is compiled, others are answered; a bad one is refused without its own words, and a good one after
    it is obeyed. A request that is cancelled meanwhile is not begun."""
    from instar.infer import constrain

    gate, compile = threading.Event(), constrain.compile
    monkeypatch.setattr(constrain, "compile", lambda *arguments: gate.wait(20) and compile(*arguments))
    own = make()
    own.ask(ask(1, [1], json_schema='{"type": "canary"}'), ask(2, [1], 40, choice=("Tom", "Anna")), ask(3, [2, 3]))
    own.ask(ask(4, [1], 5, regex="a+"), Cancel(4))
    own.until(lambda: own.answer(3)[1] is not None)
    assert {message.id for message in own.of(Taken)} == {3}
    assert own.answer(4) == ([], "cancelled")
    gate.set()
    own.until(lambda: own.answer(2)[1] is not None and not own.compiling)
    assert own.tokenizer.decode(own.answer(2)[0]) in ("Tom", "Anna")
    (refusal,) = own.of(Refused)
    assert (refusal.id, refusal.param) == (1, "json_schema")
    assert "canary" not in refusal.message
    assert own.of(Taken, 4) == []


def test_what_a_library_says_of_a_grammar_that_fails_is_not_its_own_words(make, monkeypatch):
    """S23: where compiling fails by a fault of ours, the log has the reason and nothing that the request said."""
    from instar.infer import constrain

    monkeypatch.setattr(constrain, "compile", lambda tokenizer, options, size: {}[options.regex])
    own = make()
    own.ask(ask(1, [1], regex="canary"))
    own.until(lambda: own.of(Failed))
    assert "KeyError" in own.of(Failed)[0].message
    assert "canary" not in own.of(Failed)[0].message


def test_a_poisoned_request_fails_alone(make, poisoned):
    """S12: a prompt that the model cannot compute fails; its neighbours, and those after it, say what they say without
    it."""
    own = make(poisoned)
    own.ask(ask(1, [1, 2, 3], 12), ask(2, [5, 6], 12, seed=3, strategy="sample"))
    own.until(lambda: not own.busy)
    wanted = [own.answer(1), own.answer(2)]
    own.said.clear()
    own.ask(ask(1, [1, 2, 3], 12), ask(9, [4, POISON, 4]), ask(2, [5, 6], 12, seed=3, strategy="sample"))
    own.until(lambda: not own.busy)
    (failure,) = own.of(Failed)
    assert failure.id == 9
    assert "not numbers" in failure.message
    assert [own.answer(1), own.answer(2)] == wanted
    own.ask(*(ask(10 + n, [n, POISON]) for n in range(9)))  # the process is found to be in order
    own.until(lambda: len(own.of(Failed)) == 10 and not own.busy)
    own.ask(ask(30, [1, 2, 3], 12))
    own.until(lambda: not own.busy)
    assert own.answer(30) == wanted[0]
    assert own._blocks()[0] == own._blocks()[1]


def test_adapters_are_asked_for_by_name(folder, tokenizer, tmp_path):
    """In one batch the bare model, an adapter that brought the others along, and its vectors: each is what it is
    alone."""
    model, _ = load(folder)
    attach(model, "default", LoraOptions(rank=2))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith(".default.b"):
                weight.normal_(std=0.3, generator=torch.Generator().manual_seed(1))
    save_adapter(model, "default", tmp_path / "sft", base_of(folder))
    own = Turned(ServeOptions(model=str(tmp_path / "sft"), name="my.sft", dtype="fp32"))
    assert (own.facts.adapters, own.facts.base) == (["my.sft"], "tiny")
    prompt = range(1, 40)
    own.ask(ask(1, prompt), ask(2, prompt, adapter="my.sft"), ask(3, prompt, adapter="my.sft", salt="a"))
    own.ask(Embed(4, [[*prompt]]), Embed(5, [[*prompt]], "my.sft"), Score(6, [*prompt], 0, "my.sft"))
    own.until(lambda: not own.busy and len(own.of(Vectors)) == 2)
    merged, _ = load(tmp_path / "sft")
    for id, alone in ((1, load(folder)[0]), (2, merged), (3, merged)):
        engine = Engine(alone, slots=1, stops=tokenizer.stops)
        request = engine.submit(prompt, ask(1, prompt).options)
        engine.run()
        assert own.answer(id) == (request.ids, request.finish)
    assert own.answer(1) != own.answer(2)
    assert own.of(Vectors, 4)[0].data != own.of(Vectors, 5)[0].data
    assert own.of(Scored)[0].logprobs == pytest.approx(surprise(merged, [*prompt]).logprobs, abs=1e-3)
    cached = {row[0]: row[5] for message in reversed(own.of(Told)) for row in message.events}
    assert cached == {1: 0, 2: 0, 3: 0}  # neither adapters nor salts share what they know


def test_a_broken_process_ends(make, leaving):
    """S15: where nothing can be computed any more, as on a GPU that has failed, the process ends, to be begun anew."""
    own = make()
    with torch.no_grad():
        own.model.embed.weight.fill_(torch.nan)
    own.ask(*(ask(n, [n]) for n in range(1, 5)))
    with pytest.raises(Left):
        own.turn(200)


@pytest.mark.parametrize("kind", ["folder", "bare"])
def test_a_process_that_can_read_nothing_ends(request, make, leaving, kind):
    """S15: neither with answers nor without; where only some texts cannot be read, others are read after them."""
    own, broken = make(request.getfixturevalue(kind)), False

    def look(module, given):
        if broken or bool((given[0] == POISON).any()):
            raise RuntimeError("the pass failed")

    own.model.embed.register_forward_pre_hook(look)
    for n in range(7):
        own.ask(Embed(n, [[POISON]]))
        own.turn(12)
    own.ask(Embed(7, [[1, 2]]))
    own.until(lambda: not own.busy and own.of(Vectors))
    assert (len(own.of(Failed)), own.losses) == (7, 0)
    broken = True
    for n in range(8, 10):
        own.ask(Embed(n, [[1]]))
        own.turn(12)
    own.ask(Embed(10, [[1]]))
    with pytest.raises(Left):
        own.turn(12)
    assert len(own.of(Failed)) == 10


def test_an_engine_that_fails_itself_gives_up_what_it_holds(make, leaving, monkeypatch):
    """Its requests fail, others are answered after it; and where it always fails, the process ends."""
    own = make()
    plan, left = own.engine.schedule.plan, [1]
    monkeypatch.setattr(own.engine.schedule, "plan", lambda: 1 // 0 if left and left.pop() else plan())
    own.ask(ask(1, [1]), ask(2, [2]))
    own.turn()
    assert {message.id for message in own.of(Failed)} == {1, 2}
    own.ask(ask(3, [3]))
    own.until(lambda: not own.busy)
    assert own.answer(3)[1] is not None
    left += [1] * 3
    for id in (4, 5):
        own.ask(ask(id, [1]))
        own.turn()
    own.ask(ask(6, [1]))
    with pytest.raises(Left):
        own.turn()
    assert len(own.of(Failed)) == 5


def test_texts_are_read_between_the_steps_of_answers(make, folder):
    """Vectors and chances are those that the functions give, and while they are read an answer says a token a turn."""
    model, tokenizer = load(folder)
    texts = ["Anna had a red ball.", "Tom", "王明有一个红色的球。" * 4] * 6
    rows, own = tokenizer.documents(texts), make(chunk=64)
    own.ask(ask(1, [1], 200, endless=True), Embed(2, rows), Score(3, rows[2], 2), Score(4, rows[0]), Embed(5, rows[:1]))
    turns = 0
    while len(own.readings) or not turns:
        own.turn()
        turns += 1
    assert turns > 8
    assert len(own.answer(1)[0]) >= turns - 1
    assert [message.id for message in own.said if isinstance(message, Vectors | Scored)][-1] == 2  # who asks most waits
    (found,) = own.of(Vectors, 2)
    vectors = np.frombuffer(base64.b64decode(found.data), "<f4").reshape(len(texts), found.width)
    assert np.abs(vectors - embed(model, tokenizer, texts).numpy()).max() < 1e-5
    (chances,) = own.of(Scored, 3)
    wanted = surprise(model, rows[2], top=2)
    assert chances.logprobs == pytest.approx(wanted.logprobs, abs=1e-4)
    assert [[id for id, _ in place] for place in chances.alternatives] == [
        [id for id, _ in place] for place in wanted.alternatives
    ]
    own.ask(Embed(6, rows), Cancel(6))
    own.turn()
    assert not len(own.readings)
    assert own.said[-2].events == [[6, None, 0.0, "cancelled", None, 0]] or own.said[-1].events[0][0] == 6


def test_an_idle_engine_beats(make):
    """S15: once a second, with all of its memory free."""
    own = make()
    own.beat()
    (beat,) = own.of(Beat)
    assert (beat.running, beat.waiting, beat.kv_free) == (0, 0, beat.kv_total)
    assert beat.kv_total == own.facts.kv_blocks > 0
    assert beat.rss > 50 * 2**20
    assert own.last_beat > 0
    facts = own.facts
    assert (facts.speaks, facts.embeds, facts.context, facts.slots) == (True, True, own.model.config.max_positions, 4)
    assert facts.weights == own.model.size()
    assert facts.weight_bytes == 4 * facts.weights
    assert facts.kv_bytes == own.engine.pages.nbytes


def test_a_model_of_vectors_alone_is_served(make, bare):
    """A bare encoder has no engine: it gives vectors and refuses the rest; one that says classes is not served."""
    own = make(bare)
    assert (own.facts.speaks, own.facts.embeds, own.facts.kv_blocks, own.facts.longest) == (False, True, 0, 32)
    own.ask(Embed(1, [[1, 2]]), ask(2, [1]), Score(3, [1, 2]))
    own.until(lambda: not own.busy and len(own.said) == 3)
    assert own.of(Vectors)[0].width == 16
    assert {message.id for message in own.of(Refused)} == {2, 3}


def test_the_process_ends_with_the_front(monkeypatch):
    """S14: no orphans: the end of the socket is the end of the process, even in the middle of a line."""
    for last in (b"", b'["cancel",{"i'):
        ours, theirs = socket.socketpair()
        inbox, codes = SimpleQueue(), []
        monkeypatch.setattr(worker.os, "_exit", codes.append)
        ours.sendall(wire.dump(Cancel(3)) + last)
        ours.close()
        worker.listen(theirs, inbox)
        theirs.close()
        assert inbox.get_nowait() == Cancel(3)
        assert codes == [1 if last else 0]


@pytest.fixture
def begin(monkeypatch):
    """begin(options) -> the exit status of the process, and the first line that it says."""
    ours, theirs = socket.socketpair()
    before = {name: signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM)}
    dup2 = []

    def reader(line, inbox):
        inbox.put(wire.load(line.makefile("rb").readline()))

    def begun(options):
        ours.sendall(wire.dump(wire.Start(to_dict(options))))
        with monkeypatch.context() as patch:
            patch.setattr(worker.os, "dup2", lambda *files: dup2.append(files))
            code = worker.main([str(os.dup(theirs.fileno()))])
        assert dup2 == [(2, 1)]
        return code, wire.load(ours.makefile("rb").readline())

    monkeypatch.setattr(worker, "Thread", lambda **options: threading.Thread(target=reader, args=options["args"]))
    yield begun
    for name, handler in before.items():
        signal.signal(name, handler)
    ours.close()
    theirs.close()


def test_a_model_that_cannot_be_loaded_is_told_of(begin, tmp_path):
    """The words are for whoever started the server; signals for a whole group of processes are ignored meanwhile."""
    code, said = begin(ServeOptions(model=str(tmp_path / "nothing")))
    assert code == 2
    assert signal.getsignal(signal.SIGTERM) == signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    assert said.id == -1
    assert "no such folder" in said.message


def test_a_loop_that_fails_ends_the_process_at_once(begin, leaving, monkeypatch, capsys):
    """S15: no thread is waited for, and the log says why."""

    class Broken:
        def __init__(self, *what):
            pass

        def run(self):
            raise ZeroDivisionError("by zero")

    monkeypatch.setattr(worker, "Worker", Broken)
    with pytest.raises(Left, match="1"):
        begin(ServeOptions(model="nothing"))
    assert capsys.readouterr().err.startswith("engine 0: ZeroDivisionError: by zero")


def test_an_unknown_option_of_the_engine_is_refused_at_the_start(folder):
    """What cannot be computed with is told before the model is loaded into an engine."""
    with pytest.raises(InputError, match=r"engine\.slots=0"):
        Turned(ServeOptions(model=str(folder), engine=EngineOptions(slots=0)))
