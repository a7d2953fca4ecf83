"""What routes share: names of models are keys of a table, and never paths."""

import asyncio
import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import httpx
import pytest

from instar.serve.failure import Refusal
from instar.serve.service import THREADS

NAMES = [
    "../tiny", "../../../../etc/passwd", "/etc/passwd", "%2e%2e%2fetc%2fpasswd", "..%2Ftiny", "tiny/", "./tiny", "..",
    "\x00", "tiny\x00", "tiny\n", "TINY", " tiny", "tiny ", "ti\u0131ny", "", "~", "runs/tiny", "hf:org/name",
    "\\\\host\\share", "__class__", "x" * 10_000,
]  # fmt: skip
OPENED = []
WATCHED = threading.Event()


def _watch(event, arguments):
    if WATCHED.is_set() and event in ("open", "os.listdir", "os.scandir", "subprocess.Popen", "socket.connect"):
        OPENED.append((event, str(arguments[0])))


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_a_name_that_there_is_not(name, make_service):
    """S20: whatever is no key of the table is 404, and is not repeated."""
    service = make_service(adapters=("dpo",))
    with pytest.raises(Refusal) as error:
        service.card(name)
    assert (error.value.status, error.value.code, error.value.param) == (404, "model_not_found", "model")
    assert error.value.message.endswith("there are: tiny, dpo")


def test_no_name_opens_a_file(make_service, serve_here):
    """S20: while requests ask for paths of all kinds by every route no file is opened, no folder read, no process
    begun: an audit hook sees none."""
    url = serve_here(make_service()).url
    said = {"messages": [{"role": "user", "content": "x"}], "prompt": "x", "input": "x"}
    bodies = [json.dumps({**said, "model": name, "max_tokens": 1}) for name in NAMES]
    with httpx.Client(base_url=url, headers={"content-type": "application/json"}) as http:

        def ask():
            for body in bodies:
                for path in ("chat/completions", "completions", "embeddings", "tokenize"):
                    yield http.post(f"/v1/{path}", content=body).status_code
            for name in ("../tiny", "%2e%2e%2fetc%2fpasswd", "..%2ftiny", "/etc/passwd", "tiny%00", "x/%2e%2e/tiny"):
                yield http.get(f"/v1/models/{name}").status_code

        assert set(ask()) <= {404, 400}  # also imports what is imported late
        sys.addaudithook(_watch)  # can never be taken away again
        try:
            WATCHED.set()
            statuses = list(ask())
        finally:
            WATCHED.clear()
    assert not [opened for opened in OPENED if opened[0] != "socket.connect"]
    assert statuses.count(404) >= len(statuses) - 8


def test_draining_has_an_end(make_service):
    """S14: what is still being read when the time is over is not waited for, nor where draining is given up."""

    async def main(cancels):
        service = make_service()
        with service.entered():
            draining = asyncio.ensure_future(service.drain(5 if cancels else 0.01))
            await asyncio.sleep(0)
            with pytest.raises(Refusal) as error, service.entered():
                pass
            assert (error.value.status, error.value.code) == (503, "draining")
            if cancels:
                draining.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await draining
            else:
                assert await draining == 0
            assert service.desk.draining

    for cancels in (False, True):
        asyncio.run(asyncio.wait_for(main(cancels), 2))


def test_texts_are_read_in_turns(make_service):
    """S25: of many long texts of one client few are read at a time, and a thread is left for answers."""

    async def main():
        service, go = make_service(queue=2, queue_seconds=0.2, facts={"slots": 1}), threading.Event()
        service.threads = ThreadPoolExecutor(THREADS)
        asked = [asyncio.ensure_future(service.in_turn("a", go.wait, 5)) for _ in range(THREADS + 1)]
        await asyncio.sleep(0)
        with pytest.raises(Refusal) as error:
            await service.in_turn("a", len, "a")
        assert error.value.status == 429
        assert await asyncio.wait_for(service.in_thread(len, "a"), 2) == 1
        found = await asyncio.gather(*asked, return_exceptions=True)
        assert {each.status for each in found} == {504}
        go.set()
        service.threads.shutdown()

    asyncio.run(main())


def test_what_can_be_known_of_bytes(make_service, tokenizer):
    """S5: where a token may stand for a text of any length nothing is refused before it is read."""
    service = make_service()
    longest = max(len(tokenizer.token_bytes(id)) for id in range(tokenizer.vocab_size))
    assert service.most_bytes == 512 * longest
    with pytest.raises(Refusal) as error:
        service.check_fits(["球" * (service.most_bytes // 3), "球"], "prompt")
    assert (error.value.status, error.value.code, error.value.param) == (400, "context_length_exceeded", "prompt")
    service.check_fits(["球" * (service.most_bytes // 3), " " * 10**6], "prompt")
    for spec, wanted in (
        ({"normalizer": {"type": "Lowercase"}}, None), ({"normalizer": {"type": "NFC"}}, 3 * 512 * longest),
    ):  # fmt: skip
        vocabulary = SimpleNamespace(spec={**tokenizer.vocabulary.spec, **spec})
        other = SimpleNamespace(
            vocabulary=vocabulary, token_bytes=tokenizer.token_bytes, vocab_size=tokenizer.vocab_size
        )
        assert make_service(tokenizer=other, renderer=object(), says=[1]).most_bytes == wanted
    words = SimpleNamespace(vocabulary=tokenizer.vocabulary, token_bytes=lambda id: b"word", vocab_size=9)
    unknown = make_service(tokenizer=words, renderer=object(), says=[1])
    assert unknown.most_bytes is None
    unknown.check_fits(["a" * 10**6], "prompt")
