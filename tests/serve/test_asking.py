"""From a request to what an engine is asked."""

from dataclasses import replace

import pytest

from instar.config.options import SamplingOptions
from instar.serve.asking import asks, room, sampling
from instar.serve.failure import Refusal
from instar.serve.schema import INT64, ChatRequest
from instar.serve.service import Card

CARD = Card("tiny", "", 0)


def body(**fields):
    return ChatRequest.model_validate({"model": "tiny", "messages": [{"role": "user", "content": "x"}], **fields})


def test_the_request_before_the_server_before_nothing(make_service):
    """The request's word counts most, then the server's options; a checkpoint is never asked."""
    service = make_service(temperature=0.5, top_p=0.9, top_k=40, min_p=0.1)
    assert sampling(service, body(), 5) == SamplingOptions(
        temperature=0.5, top_p=0.9, top_k=40, min_p=0.1, max_new_tokens=5
    )
    asked = body(temperature=1.5, top_p=1, top_k=-1, min_p=0)
    assert sampling(service, asked, 5) == SamplingOptions(temperature=1.5, max_new_tokens=5)


def test_every_rule_is_passed_on(make_service):
    """Each field of sampling arrives under the engine's name."""
    asked = body(
        frequency_penalty=1, presence_penalty=-1, repetition_penalty=1.1, logit_bias={"7": 5, "3": -2.5},
        stop_token_ids=[9], min_tokens=2, stop=["a"],
    )  # fmt: skip
    found = sampling(make_service(), asked, 8, {"regex": "a+"}, top=3)
    assert found == SamplingOptions(
        frequency_penalty=1.0, presence_penalty=-1.0, repetition_penalty=1.1, logit_bias=((7, 5.0), (3, -2.5)),
        stop_ids=(9,), min_new_tokens=2, max_new_tokens=8, regex="a+", top_logprobs=3,
    )  # fmt: skip
    assert found.stop == ()  # the front cuts texts


@pytest.mark.parametrize("cold", [0, 1e-9, 0.0009])
def test_no_temperature_is_greedy(make_service, cold):
    """Temperature 0, and what is next to it, takes the likeliest token."""
    assert sampling(make_service(), body(temperature=cold), 5).strategy == "greedy"
    assert sampling(make_service(), body(temperature=0.001), 5).strategy == "sample"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"logit_bias": {"99999": 1}}, "logit_bias"),
        ({"logit_bias": {"5": 1, "05": 2}}, "logit_bias"),
        ({"stop_token_ids": [99999]}, "stop_token_ids"),
        ({"min_tokens": 6}, "min_tokens"),
    ],
)
def test_ids_outside_the_vocabulary(make_service, fields, param):
    """S7: a bias on a token that there is not: 400 by name."""
    with pytest.raises(Refusal) as caught:
        sampling(make_service(), body(**fields), 5)
    assert (caught.value.status, caught.value.param) == (400, param)


def test_room(make_service):
    """S5, S6: what the context leaves; a prompt or an answer too long is told by the field at fault."""
    service, fields = make_service(facts={"context": 100}), ("messages", "max_tokens")
    assert room(service, 90, None, fields, None) == 10
    assert room(service, 90, None, fields, 16) == 10
    assert room(service, 50, None, fields, 16) == 16
    assert room(service, 90, 10, fields, None) == 10
    for prompt, wanted, param in ((100, None, "messages"), (5000, 1, "messages"), (90, 11, "max_tokens")):
        with pytest.raises(Refusal) as caught:
            room(service, prompt, wanted, fields, None)
        assert (caught.value.status, caught.value.param) == (400, param)
        assert caught.value.code == "context_length_exceeded"


def test_n_answers_draw_with_seeds_one_after_the_other(make_service):
    """Each of n answers is what it would be alone under its own seed, also where seeds go round."""
    service, options = make_service(), SamplingOptions()
    three = asks(service, body(n=3, seed=5), CARD, [1, 2], options, "addr:x")
    assert [ask.seed for ask in three] == [5, 6, 7]
    assert all(ask.prompt == [1, 2] and ask.source is None and not ask.endless for ask in three)
    last = asks(service, body(n=2, seed=INT64 - 1), CARD, [1], options, "addr:x")
    assert [ask.seed for ask in last] == [INT64 - 1, -INT64]
    without = {asks(service, body(), CARD, [1], options, "addr:x")[0].seed for _ in range(4)}
    assert len(without) == 4


def test_what_an_engine_has_to_know_besides(make_service):
    """An adapter, an answer without end, a source, and salt that differs between keys and is none without."""
    service, options = make_service(facts={"reads_source": True}), SamplingOptions()
    (ask,) = asks(service, body(ignore_eos=True), replace(CARD, adapter="sft"), [1, 2], options, "key:aaaaaaaa")
    assert (ask.source, ask.prompt, ask.adapter, ask.endless) == ([1, 2], [], "sft", True)
    other = asks(service, body(), CARD, [1], options, "key:bbbbbbbb")[0]
    assert ask.salt != other.salt != ""
    assert asks(service, body(), CARD, [1], options, "addr:127.0.0.1")[0].salt == ""
