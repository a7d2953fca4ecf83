"""Texts as vectors."""

import base64
import time

import httpx
import numpy as np
import pytest

from instar.serve.embeddings import written
from instar.serve.wire import Cancel, Embed


@pytest.fixture
def post(make_service, serve_here):
    """post({"input": ...}) -> the answer; post.fleet: who was asked."""
    service = make_service(adapters=("sft",))
    url = serve_here(service).url

    def posting(body):
        return httpx.post(f"{url}/v1/embeddings", json={"model": "tiny", **body})

    posting.fleet = service.desk.fleet
    return posting


def numbers(text):
    return np.frombuffer(base64.b64decode(text), "<f4")


def test_both_forms_hold_the_same_numbers(post):
    """Section 5: base64 is float32, lowest byte first, to the bit what a list of numbers says."""
    texts = ["Anna had a ball.", "Tom", "王明"]
    plain, packed = (post({"input": texts, "encoding_format": form}).json() for form in ("float", "base64"))
    for left, right in zip(plain["data"], packed["data"], strict=True):
        assert np.array_equal(np.float32(left["embedding"]), numbers(right["embedding"]))
    assert [row["index"] for row in plain["data"]] == [0, 1, 2]
    assert {row["object"] for row in plain["data"]} == {"embedding"}
    assert plain["object"] == "list"
    assert plain["usage"] == packed["usage"]


def test_every_kind_of_input(post, tokenizer, told):
    """A text, texts, ids and lists of ids reach the engine as rows of ids, and usage counts them."""
    ids = tokenizer.prompt("Tom said")
    kinds = ["Tom said", ["Tom said", "Anna"], ids, [ids, [5]]]
    answers = [post({"input": given, "model": "sft"}) for given in kinds]
    rows = [message.rows for message in told(post.fleet, Embed)]
    assert rows == [[ids], [ids, tokenizer.prompt("Anna")], [ids], [ids, [5]]]
    assert {message.adapter for message in told(post.fleet, Embed)} == {"sft"}
    for answer, sent in zip(answers, rows, strict=True):
        assert answer.json()["usage"] == {"prompt_tokens": sum(map(len, sent)), "total_tokens": sum(map(len, sent))}


def test_fewer_dimensions_have_length_one_again(post):
    """dimensions: the first of each vector, normalised (Kusupati et al. 2022)."""
    whole, cut = (
        np.array(post({"input": "Tom", **more}).json()["data"][0]["embedding"]) for more in ({}, {"dimensions": 3})
    )
    assert cut.shape == (3,)
    assert np.abs(cut - whole[:3] / np.linalg.norm(whole[:3])).max() < 1e-6


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": [""]}, "input"),
        ({"input": ["a", ""]}, "input"),
        ({"input": [[]]}, "input"),
        ({"input": [1, "a"]}, "input"),
        ({"input": ["a", [1]]}, "input"),
        ({"input": [-1]}, "input"),
        ({"input": [True]}, "input"),
        ({"input": [1.0]}, "input"),
        ({"input": [384]}, "input"),
        ({"input": [2**70]}, "input"),
        ({"input": ["a"] * 2049}, "input"),
        ({"input": [[1] * 512] * 600}, "input"),
        ({"input": {"a": 1}}, "input"),
        ({}, "input"),
        ({"input": "a", "dimensions": 0}, "dimensions"),
        ({"input": "a", "dimensions": 9}, "dimensions"),
        ({"input": "a", "dimensions": 2**40}, "dimensions"),
        ({"input": "a", "encoding_format": "int8"}, "encoding_format"),
        ({"input": "a", "model": 3}, "model"),
    ],
)
def test_what_cannot_be_embedded_is_refused(body, param, post, told):
    """S7: 400 that names the field; nothing of it reaches an engine."""
    answer = post(body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
    assert not told(post.fleet, Embed)


def test_a_text_that_is_too_long_is_refused(post):
    """S5: a text is never cut unasked."""
    answer = post({"input": "ball " * 600})
    assert answer.json()["error"]["code"] == "context_length_exceeded"
    assert answer.status_code == 400


def test_a_model_without_vectors_says_so(make_service, serve_here):
    """400 that names the model, before anything is computed."""
    url = serve_here(make_service(facts={"embeds": False})).url
    answer = httpx.post(f"{url}/v1/embeddings", json={"model": "tiny", "input": "a"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "model")


def test_an_encoder_reads_a_text_between_its_marks(make_service, serve_here, told):
    """As in its training; a decoder's text has not ended."""
    from instar.text.tokenizer import Tokenizer

    masks = Tokenizer.train(["Anna had a red ball."] * 3, 320, masks=True)
    service = make_service(tokenizer=masks, facts={"speaks": False})
    httpx.post(f"{serve_here(service).url}/v1/embeddings", json={"model": "tiny", "input": "Anna"})
    assert told(service.desk.fleet, Embed)[0].rows == [masks.document("Anna")]


def test_what_is_not_finite_is_never_sent():
    """NaN is no JSON: the server's fault (500), not a broken body."""
    from instar.serve.failure import Refusal

    with pytest.raises(Refusal, match="not finite"):
        written(np.full((1, 4), np.nan, np.float32), None, "float", "tiny", {})


def test_who_leaves_while_vectors_are_made_gives_them_up(make_service, serve_here, told):
    """S3: within half a second of its client's leaving a request for vectors is cancelled, and its place is free."""
    service = make_service()
    service.desk.fleet._measure = lambda *_: None  # an engine that takes its time
    url = serve_here(service).url
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{url}/v1/embeddings", json={"model": "tiny", "input": "a"}, timeout=httpx.Timeout(5, read=0.3))
    until = time.monotonic() + 0.5
    while service.desk.running and time.monotonic() < until:
        time.sleep(0.005)
    assert service.desk.running == 0
    assert [type(message) for message in service.desk.fleet.told] == [Embed, Cancel]
