"""What models there are, and how they read a text."""

import asyncio
import json
import sys

import httpx
import pytest

from instar.serve.app import create_app
from instar.serve.catalog import pieces_of

opened = []
sys.addaudithook(lambda event, arguments: opened.append(arguments[0]) if event == "open" else None)


def test_the_base_and_its_adapters_are_models(make_service, serve_here):
    """Section 5: a list of all, and each by its name, where a name may hold a slash."""
    url = serve_here(make_service(adapters=("team/sft",))).url
    listed = httpx.get(f"{url}/v1/models").json()
    assert listed["object"] == "list"
    assert [(each["id"], each["parent"]) for each in listed["data"]] == [("tiny", None), ("team/sft", "tiny")]
    for path in ("team/sft", "team%2Fsft"):
        assert httpx.get(f"{url}/v1/models/{path}").json() == listed["data"][1]


NAMES = [
    "../tiny", "%2e%2e%2ftiny", "..%2f..%2fetc%2fpasswd", "/etc/passwd", "%2Fetc%2Fpasswd", "tiny%00", "tiny/", "TINY",
    "tiny%0d%0a", "~root", "%ff", "a" * 4000,
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_a_key_and_never_a_path(name, make_service, serve_here):
    """S20: whatever a name looks like, it is looked up (404), nothing is opened, and it is not repeated."""
    url = serve_here(make_service()).url
    httpx.get(f"{url}/v1/models")
    with httpx.Client() as client:
        client.get(f"{url}/v1/models")
        opened.clear()
        answer = client.get(httpx.URL(f"{url}/v1/models/{name}"))
        seen = list(opened)
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] in ("model_not_found", "not_found")
    assert name not in answer.text
    assert not [path for path in seen if isinstance(path, str | bytes) and "passwd" in str(path)]
    assert not seen


def test_texts_and_conversations_are_read_as_the_model_reads_them(make_service, serve_here, tokenizer):
    """/v1/tokenize: the ids of a text or of a conversation up to its answer, and each token for the eye."""
    url = serve_here(make_service()).url
    text = "Anna had 球 🙂."
    told = httpx.post(f"{url}/v1/tokenize", json={"model": "tiny", "prompt": text, "return_token_strs": True}).json()
    assert told["tokens"] == tokenizer.prompt(text)
    assert told["count"] == len(told["tokens"])
    assert told["max_model_len"] == 512
    assert told["token_strs"] == [tokenizer.piece(id) for id in told["tokens"]]
    messages = [
        {"role": "developer", "content": "Be short."},
        {"role": "user", "content": [{"type": "text", "text": "Who?"}]},
    ]
    told = httpx.post(f"{url}/v1/tokenize", json={"model": "tiny", "messages": messages}).json()
    plain = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Who?"}]
    assert told["tokens"] == tokenizer.chat(plain, add_generation_prompt=True).ids
    assert told["token_strs"] is None


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "prompt"),
        ({"prompt": "a", "messages": [{"role": "user", "content": "a"}]}, "prompt"),
        ({"prompt": "a", "tools": [{}]}, "tools"),
        ({"prompt": "a", "chat_template": "{{ 1 }}"}, "chat_template"),
        ({"prompt": "a", "chat_template_kwargs": {"x": 1}}, "chat_template_kwargs"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": "a"}] * 2049}, "messages"),
        ({"messages": [{"role": "nobody", "content": "a"}]}, "messages"),
        ({"prompt": 1}, "prompt"),
        ({"prompt": "a", "return_token_strs": "yes"}, "return_token_strs"),
    ],
)
def test_what_cannot_be_read_is_refused(body, param, make_service, serve_here):
    """S21: no template of the request's own; the rest by its field."""
    answer = httpx.post(f"{serve_here(make_service()).url}/v1/tokenize", json={"model": "tiny", **body})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


def test_pieces_are_told_for_every_id(make_service):
    """A token that is no whole text is shown by its bytes, and a row that nothing uses by nothing."""
    service = make_service()
    assert pieces_of(service, range(service.facts.vocab_size))[-1] is not None


@pytest.mark.parametrize("asked", [{"prompt": "a"}, {"messages": [{"role": "user", "content": "a"}]}])
def test_who_leaves_is_read_for_no_longer(asked, make_service, tokenizer):
    """S3: where the client has left nobody waits for its ids, and the log hears of it."""

    class Never:
        template = tokenizer.template

        async def chat(self, messages, *, tools=None, client=""):
            await asyncio.Event().wait()

    service = make_service(renderer=Never())
    service.in_turn = lambda client, work, *arguments: asyncio.Event().wait()
    body, said = json.dumps({"model": "tiny", **asked}).encode(), []
    headers = {"host": "127.0.0.1", "content-type": "application/json", "content-length": str(len(body))}
    coming = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive():
        return coming.pop() if coming else {"type": "http.disconnect"}

    async def send(message):
        said.append(message)

    scope = {
        "type": "http", "http_version": "1.1", "method": "POST", "path": "/v1/tokenize", "raw_path": b"/v1/tokenize",
        "query_string": b"", "root_path": "", "scheme": "http", "client": ("192.0.2.7", 4711), "state": {},
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "server": ("127.0.0.1", 8000), "asgi": {"version": "3.0"},
    }  # fmt: skip
    asyncio.run(asyncio.wait_for(create_app(service=service)(scope, receive, send), 5))
    assert said[0]["status"] == 499
