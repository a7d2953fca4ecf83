"""U13: answers that OpenAI's clients cannot read: a finish_reason that is "" or missing. ollama/ollama#4357,
sgl-project/sglang#3912, mudler/LocalAI#1194.

Guard: one place writes every stream. The official clients read the whole surface in tests/serve/test_openai_client.py.
"""

import json
import runpy
from pathlib import Path

import httpx
import pytest

SERVING = runpy.run_path(str(Path(__file__).parents[1] / "serve" / "conftest.py"))
tokenizer, make_service, serve_here = (SERVING[name] for name in ("tokenizer", "make_service", "serve_here"))
BODIES = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "Who had a ball?"}]},
    "/v1/completions": {"prompt": "Who had a ball?"},
}


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("usage", [False, True], ids=["plain", "usage"])
@pytest.mark.parametrize(("longest", "reason"), [(2, "length"), (64, "stop")])
def test_a_stream_says_once_how_it_ended(path, usage, longest, reason, make_service, serve_here):
    """finish_reason is null in every chunk but the last, which says it; then usage, where asked for; then [DONE]."""
    body = {"model": "tiny", "stream": True, "max_tokens": longest, **BODIES[path]}
    if usage:
        body["stream_options"] = {"include_usage": True}
    answer = httpx.post(serve_here(make_service()).url + path, json=body)
    *events, done = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]
    assert done == "[DONE]"
    chunks = [json.loads(event) for event in events]
    if usage:
        last = chunks.pop()
        assert last["choices"] == []
        assert last["usage"]["completion_tokens"] > 0
    reasons = [chunk["choices"][0]["finish_reason"] for chunk in chunks]
    assert reasons == [None] * (len(chunks) - 1) + [reason]
    assert len(chunks) > 1
