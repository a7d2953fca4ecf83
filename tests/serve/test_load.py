"""The generator of load: what it measures of a server whose pace is known, and what becomes of faults. Then the load
itself (S1): canaries, memory and keys of ours under many clients."""

import asyncio
import json
import os
import random
import re
import time
from itertools import count, islice
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from instar.config import InputError
from instar.config.options import BenchServeOptions
from instar.serve.load import WORDS, Asking, Reply, Target, agree, bench, percentiles, summary

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
END = b"data: [DONE]\n\n"
PAUSE = 0.02


def event(text="", finish=None, **more):
    """A chunk of a chat completion."""
    return b"data: " + json.dumps({"choices": [{"delta": {"content": text}, "finish_reason": finish}]} | more).encode()


def answer(*texts, finish="length", pause=PAUSE, usage=None):
    """The events of a whole answer, with a pause before each text."""
    said = [HEAD, event() + b"\n\n"]
    for text in texts:
        said += [pause, event(text) + b"\n\n"]
    last = {"usage": usage} if usage else {}
    return [*said, event(finish=finish, **last) + b"\n\n", END]


def refusal(status):
    return f"HTTP/1.1 {status} No\r\ncontent-length: 4\r\n\r\nnope".encode()


def run(work, seconds=30):
    return asyncio.run(asyncio.wait_for(work, seconds))


def asked(scripted, said, body=None, **options):
    """The reply to a server that says this."""

    async def main():
        async with scripted(lambda *_: said) as server:
            return await Target(server.url, **options).ask("chat/completions", body or {"model": "m"})

    return run(main())


def test_times(scripted):
    """First text, gaps and end are those of the server; a role without text is no text, and usage counts tokens."""
    reply = asked(scripted, answer("a", "b ", "c", usage={"completion_tokens": 7, "prompt_tokens": 5}))
    assert (reply.fault, reply.text, reply.finish) == ("", "ab c", "length")
    assert (reply.tokens, reply.prompt) == (7, 5)
    assert PAUSE <= reply.first < 5 * PAUSE
    assert len(reply.gaps) == 2
    assert all(PAUSE / 2 <= gap < 5 * PAUSE for gap in reply.gaps)
    assert 3 * PAUSE <= reply.total < 20 * PAUSE


def test_without_usage(scripted):
    """Texts count where the server does not; events may come in any pieces, ends of lines of either kind."""
    sent = event("a") + b"\r\n\r\n: ping\n\n" + event("b", "stop") + b"\n\n"
    reply = asked(scripted, [HEAD, sent[:20], 0.001, sent[20:70], 0.001, sent[70:]])
    assert (reply.fault, reply.text, reply.tokens, reply.finish) == ("", "ab", 2, "stop")


def test_other_texts(scripted):
    """Completions, reasoning and the arguments of calls are texts too."""
    told = [
        {"text": "a"}, {"delta": {"reasoning_content": "b"}},
        {"delta": {"tool_calls": [{"index": 0, "function": {"arguments": "c"}}]}},
        {"text": "", "finish_reason": "stop"},
    ]  # fmt: skip
    lines = [b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n" for choice in told]
    assert asked(scripted, [HEAD, *lines]).text == "abc"


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        ([refusal(429)], "429"),
        ([refusal(503)], "503"),
        ([HEAD, event("a") + b'\n\ndata: {"error": {"message": "oh"}}\n\n'], "in stream"),
        ([HEAD, b"data: {nonsense\n\n"], "in stream"),
        ([HEAD, b"data: [1]\n\n"], "in stream"),
        ([HEAD, b'data: {"choices": [[1]]}\n\n'], "in stream"),
        ([HEAD, event("a") + b"\n\n"], "cut"),
        ([HEAD, event("a") + b"\n\n", END], "cut"),
        (
            [
                b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
                + b"%x\r\n%s\r\n" % (90, event("a").ljust(88) + b"\n\n")
            ],
            "cut",
        ),
        ([], "no answer"),
        ([HEAD, event("a") + b"\n\n", 30], "late"),
    ],
)
def test_faults(scripted, said, fault):
    """Each is named, none is an answer, and none is raised."""
    reply = asked(scripted, said, timeout=0.3)
    assert reply.fault == fault
    found = summary([reply])
    assert (found["whole"], found["faults"], found["rate"], found["first"]) == (0, {fault: 1}, 0.0, {})


def test_closed_loop(scripted):
    """Everything is asked once, never more at a time than there are streams, and always as many."""

    async def main():
        async with scripted(lambda method, path, body: answer(f"x{body['number']}", pause=0.005)) as server:
            replies = await Target(server.url).load("completions", ({"number": n} for n in range(25)), 4)
            return replies, [body for *_, body in server.heard], server.most

    replies, bodies, most = run(main())
    assert sorted(body["number"] for body in bodies) == list(range(25))
    assert all(body["stream"] is True for body in bodies)
    assert [reply.text for reply in replies] == [f"x{n}" for n in range(25)]
    assert most == 4


class Server:
    """A script of a server with one model that refuses fields of requests; tokens: of a prompt of so many words."""

    def __init__(self, refused=(), status=422, around=6, each=2, models=("one", "two")):
        self.refused, self.status, self.around, self.each, self.models = refused, status, around, each, models

    def __call__(self, method, path, body):
        if method == "GET":
            sent = json.dumps({"data": [{"id": name} for name in self.models]}).encode()
            return [b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(sent) + sent]
        if any(name in body for name in self.refused):
            return [refusal(self.status)]
        words = len((body.get("prompt") or body["messages"][0]["content"]).split())
        usage = {"completion_tokens": body["max_tokens"], "prompt_tokens": self.around + self.each * words}
        told = usage if "stream_options" in body else None
        return answer(*["t"] * body["max_tokens"], pause=0, usage=told)


@pytest.mark.parametrize("refused", [(), ("ignore_eos",), ("stream_options",), ("ignore_eos", "stream_options")])
def test_agreement(scripted, refused):
    """What a server does not take is left out, and said; the rest is sent, and the first model is asked."""

    async def main():
        async with scripted(Server(refused, 400 if len(refused) == 1 else 422)) as server:
            options = BenchServeOptions(url=server.url, streams=(2, 3), requests=5, prompt=40, new=4)
            return await bench(options, ""), [body for method, _, _, body in server.heard if method == "POST"]

    report, bodies = run(main())
    assert report["refused"] == list(refused)
    assert report["model"] == "one"
    assert [(row["streams"], row["whole"], row["tokens"]) for row in report["rows"]] == [(2, 5, 4), (3, 5, 4)]
    last = bodies[-1]
    assert last["temperature"] == 0
    assert set(last) >= {"ignore_eos", "stream_options"} - set(refused)
    assert not set(last) & set(refused)
    if "stream_options" not in refused:  # (40 - 6) / 2 words
        assert {len(body["messages"][0]["content"].split()) for body in bodies[-5:]} == {17}
        assert report["rows"][0]["prompt"] == 40


def test_agreement_fails(scripted):
    """A model that there is not, no model, and a server that answers nothing are said."""

    async def main(script, **options):
        async with scripted(script) as server:
            await agree(Target(server.url), BenchServeOptions(**options))

    with pytest.raises(InputError, match="no model three; there are: one, two"):
        run(main(Server(), model="three"))
    with pytest.raises(InputError, match="it has none"):
        run(main(Server(models=())))
    with pytest.raises(InputError, match="does not answer: 500 nope"):
        run(main(Server(("model",), 500)))
    with pytest.raises(InputError, match="wants a key"):
        run(main(lambda *_: [refusal(401)]))
    with pytest.raises(InputError, match="is it a server of OpenAI's API"):
        run(main(lambda *_: [refusal(404)]))


def test_prompts():
    """None begins like another, the same seed gives the same ones, and each kind has its own field."""
    asking = Asking("chat/completions", "m", 9, 12)
    texts = [body["messages"][0]["content"] for body in islice(asking.bodies(5), 50)]
    assert texts == [body["messages"][0]["content"] for body in islice(asking.bodies(5), 50)]
    assert len({" ".join(text.split()[:5]) for text in texts}) == 50
    assert all(len(text.split()) == 12 and set(text.split()) <= set(WORDS) for text in texts)
    assert Asking("completions", "m", 9, 2).body("a b") == {
        "model": "m", "prompt": "a b", "max_tokens": 9, "temperature": 0
    }  # fmt: skip


def test_key(scripted):
    """The key is sent with everything, where there is one."""

    async def main(key):
        async with scripted(Server()) as server:
            await agree(Target(server.url, key), BenchServeOptions())
            return {headers.get("authorization") for _, _, headers, _ in server.heard}

    assert run(main("secret")) == {"bearer secret"}
    assert run(main("")) == {None}


def test_summary():
    """Rates are over the whole time, percentiles over whole answers, and failed ones count nowhere else."""
    replies = [
        Reply(10.0, "", 0.5, 2.0, [0.5, 1.0], 3, 7, "abc", "length"),
        Reply(11.0, "", 1.5, 3.0, [1.5], 5, 9, "abc", "stop"),
        Reply(10.5, "429", 0.0, 0.1),
        Reply(10.5, "cut", 0.1, 5.5, [0.1], 2),
    ]
    found = summary(replies)
    assert (found["requests"], found["whole"], found["faults"]) == (4, 2, {"429": 1, "cut": 1})
    assert found["seconds"] == 6.0
    assert found["rate"] == pytest.approx(8 / 6)
    assert (found["tokens"], found["prompt"], found["pieces"]) == (4, 8, 2.5)
    assert found["first"] == pytest.approx({"p50": 1.0, "p90": 1.4, "p99": 1.49})
    assert found["gap"]["p50"] == 1.0
    assert found["total"] == pytest.approx({"p50": 2.5, "p90": 2.9, "p99": 2.99})
    assert percentiles([]) == {}
    assert summary([])["rate"] == 0.0


# S1 from here on

LETTERS = "abcdefghijklmnopqrstuvwxyz"
PAIRS = [one + other for place, one in enumerate(LETTERS) for other in LETTERS[place + 1 :]]
NEW = 24  # tokens of an answer
GROWTH = 1.05  # of memory


class Canaries:
    """Requests whose answers can be their own alone: every second one is held to a grammar with its number in it, the
    others to two letters, by biases; neighbours never have the same. until: by time.monotonic, or none."""

    def __init__(self, url, *, requests=None, until=None):
        self.url, self.requests, self.until, self.wanted = url, requests, until, []
        self.ids = {letter: self._tokens(letter) for letter in LETTERS}

    def _tokens(self, letter):
        sent = json.dumps({"model": "tiny", "prompt": letter}).encode()
        asked = Request(f"{self.url}/v1/tokenize", sent, {"content-type": "application/json"})
        with urlopen(asked) as said:
            (id,) = json.load(said)["tokens"]
        return str(id)

    def __iter__(self):
        for number in count(random.Random(self.requests).randrange(10**6)):
            if self.requests == len(self.wanted) or (self.until is not None and time.monotonic() > self.until):
                return
            canary, pair = f"canary{number:07d}", PAIRS[number % len(PAIRS)]
            body = {"model": "tiny", "messages": [{"role": "user", "content": f"{canary} {pair}"}], "seed": number}
            if number % 2:
                wanted = rf"{canary}( [a-z]{{1,3}}){{3}}"
                yield self._told(body, wanted, max_tokens=96, response_format={"type": "regex", "regex": wanted})
            else:
                bias = {self.ids[letter]: 100 for letter in pair}
                wanted = f"[{pair}]{{{NEW}}}"
                yield self._told(body, wanted, max_tokens=NEW, logit_bias=bias, ignore_eos=True)

    def _told(self, body, wanted, **more):
        self.wanted.append(wanted)
        return body | more

    def load(self, clients):
        """Ask all, so many at a time -> the replies, each of which is whole and its own."""
        replies = run(Target(self.url).load("chat/completions", self, clients), 3600)
        assert summary(replies)["faults"] == {}
        strange = [reply.text for reply, wanted in zip(replies, self.wanted) if not re.fullmatch(wanted, reply.text)]
        assert strange == []
        assert len(replies) == len(self.wanted)
        return replies


def metrics(url):
    """Name with its labels -> value."""
    with urlopen(f"{url}/metrics") as said:
        lines = [line for line in said.read().decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def added(found, name, *labels):
    """The sum of all series of a name that have these labels."""
    return sum(value for key, value in found.items() if key.split("{")[0] == name and all(l in key for l in labels))


def resident(pid):
    """Bytes of a process and of those that it has started."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    own = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))
    children = " ".join(path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children"))
    return own + sum(resident(int(child)) for child in children.split())


def rests(url, seconds=10):
    """Wait until all keys are given back -> the metrics then."""
    until = time.monotonic() + seconds
    while True:
        found = metrics(url)
        free, total = (added(found, f"instar_engine_kv_blocks{end}") for end in ("_free", ""))
        if (free == total > 0 and not added(found, "instar_requests_running")) or time.monotonic() > until:
            assert free == total > 0
            return found
        time.sleep(0.1)


def check_load(server, clients, warm, load):
    """S1: nothing fails, no canary is foreign, memory and keys are as they were."""
    warm.load(clients)
    before, memory = rests(server.url), resident(server.pid)
    replies = load.load(clients)
    after = rests(server.url)
    assert added(after, "instar_http_requests_total", 'status="5') == 0
    started, ended = (
        added(after, f"instar_requests_{what}_total") - added(before, f"instar_requests_{what}_total")
        for what in ("started", "ended")
    )
    assert started == ended == len(replies)
    assert resident(server.pid) <= GROWTH * memory
    return replies


def test_many_clients(server):
    """S1, in small: 16 streams, two answers each: whole, each its own, and nothing is left behind."""
    check_load(server, 16, Canaries(server.url, requests=16), Canaries(server.url, requests=32))


@pytest.mark.slow
@pytest.mark.timeout(5400)
def test_many_clients_for_long(start_server):
    """S1: 256 streams for 10 minutes (INSTAR_LOAD_SECONDS), the first tenth of which, and a quarter of a minute at
    least, warms up: grammars fill their cache, keys touch their memory."""
    seconds, clients = (
        float(os.environ.get("INSTAR_LOAD_SECONDS", "600")),
        int(os.environ.get("INSTAR_LOAD_CLIENTS", "256")),
    )
    server = start_server("--name", "tiny")
    now = time.monotonic()
    warm = Canaries(server.url, until=now + max(15, seconds / 10))
    replies = check_load(server, clients, warm, Canaries(server.url, until=now + seconds))
    assert len(replies) >= clients
