"""Answers as events, token by token, and searches."""

import base64
import json

import pytest

from instar.config import InputError
from instar.config.options import SamplingOptions
from instar.infer.text import complete
from instar.serve.glass.ops import OPS
from instar.serve.glass.trouble import Abandoned, Trouble

TEXT = "Anna had a 球"
RULES = dict(temperature=0.9, top_k=30, top_p=0.95, repetition_penalty=1.1, frequency_penalty=0.2, max_new_tokens=8)


@pytest.fixture
def say(ask):
    """say(**args) -> the start, the tokens and the end of an answer."""

    def said(**args):
        events = ask("generate", **{"model": "decoder", "prompt": TEXT, "seed": 5, **args})
        json.dumps(events, allow_nan=False)
        assert [event["event"] for event in events] == ["start", *["token"] * (len(events) - 2), "done"]
        start, *tokens, done = (event["data"] for event in events)
        return start, tokens, done

    return said


def test_the_answer_is_that_of_generate(say, box):
    """Known answer "KV": the tokens that are told are those that `instar generate` says with this seed, each with the
    model's own log-probability, its rank, what it was chosen from and the cache's bytes, 2 L K E T b."""
    held = box.stock.held["decoder", ""]
    start, tokens, done = say(sampling=RULES)
    options = SamplingOptions(**RULES)
    (answer,) = complete(held.model, held.tokenizer, [TEXT], options, seed=5)
    assert [token["id"] for token in tokens] == done["ids"] == answer.ids
    assert [token["logprob"] for token in tokens] == pytest.approx(answer.logprobs)
    assert (done["text"], done["finish"]) == (answer.text, answer.finish)
    assert [token["step"] for token in tokens] == list(range(len(tokens)))
    assert [token["phase"] for token in tokens] == ["prefill", *["decode"] * (len(tokens) - 1)]
    assert [token["kv_len"] for token in tokens] == [start["prompt_tokens"] + n for n in range(len(tokens))]
    assert [token["kv_bytes"] for token in tokens] == [2 * 2 * 2 * 4 * token["kv_len"] * 8 for token in tokens]
    for token in tokens:
        assert len(token["top"]) == 20
        assert token["kept"] == sum(after > 0 for *_, after in token["top"]) or token["kept"] > 20
        assert token["low"] <= token["u"] <= token["high"]
        assert token["rank"] > 20 or token["top"][token["rank"] - 1][0] == token["id"]
        assert token["p_after"] >= token["p"] or token["p_after"] > 0
    assert all(check["green"] for check in done["checks"])


def test_unfinished_characters_say_nothing_yet(say, box):
    """Known answer "Tokens": no piece of text has a U+FFFD, those inside a character are empty, and all bytes, joined,
    are the answer's."""
    tokenizer = box.stock.held["decoder", ""].tokenizer
    ids = tokenizer.encode("狗咬")
    for place, id in enumerate(ids):
        _, tokens, done = say(prefix_ids=ids[:place], sampling={"logit_bias": [[id, 100.0]], "max_new_tokens": 1})
        (token,) = tokens
        assert token["text"] == {2: "狗", 5: "咬"}.get(place, "")
        assert base64.b64decode(token["b64"]) == tokenizer.token_bytes(id)
        assert done["ids"] == ids[: place + 1]


@pytest.mark.parametrize("model", ["decoder", "pair"])
def test_a_fork_goes_on_as_it_would_have(say, model):
    """From each token on, given as a prefix, the same seed says the same: what was said before counts in every rule and
    the draws are those of the place."""
    start, whole, done = say(model=model, sampling=RULES)
    for place in (1, 4):
        asked = dict(RULES, max_new_tokens=RULES["max_new_tokens"] - place)
        again, rest, end = say(model=model, prefix_ids=done["ids"][:place], sampling=asked)
        assert again["ids"] == start["ids"]
        assert [(one["id"], one["step"]) for one in rest] == [(one["id"], one["step"]) for one in whole[place:]]
        assert end["text"] == done["text"]
        assert [one["logprob"] for one in rest] == pytest.approx([one["logprob"] for one in whole[place:]])
        assert all(check["green"] for check in end["checks"])
    other = next(id for id, *_ in whole[2]["top"] if id != whole[2]["id"])
    _, _, forked = say(model=model, prefix_ids=[*done["ids"][:2], other], sampling=RULES)
    assert forked["ids"][:3] == [*done["ids"][:2], other]


def test_ids_are_the_truth(say, ask):
    """The ids of the start, sent again, a trace, and the text itself all give the same answer."""
    start, _, done = say(sampling=RULES)
    trace = ask("trace", model="decoder", text=TEXT)["trace"]
    assert say(prompt=None, ids=start["ids"], sampling=RULES)[2]["ids"] == done["ids"]
    assert say(prompt=None, model=None, trace=trace, sampling=RULES)[2]["ids"] == done["ids"]


def test_stop_texts_end_an_answer(say):
    """No token tells of the stop, and what may yet become one is held back."""
    _, tokens, done = say(sampling={"strategy": "greedy", "max_new_tokens": 12})
    letter = next(token["text"] for token in tokens[1:] if token["text"].strip() and token["text"] != tokens[0]["text"])
    _, some, end = say(sampling={"strategy": "greedy", "max_new_tokens": 12}, stop=[letter])
    assert (end["finish"], letter in end["text"]) == ("stop", False)
    assert done["text"].startswith(end["text"])
    assert "".join(token["text"] for token in some) == end["text"]


def test_a_prefix_that_holds_its_end(say, box):
    """A stop text or a stop token in what the answer begins with ends it at once: nothing more is said."""
    tokenizer = box.stock.held["decoder", ""].tokenizer
    ids = tokenizer.encode("Tom ran")
    _, tokens, done = say(prefix_ids=ids, stop=["ran"], sampling={"max_new_tokens": 4})
    assert (tokens, done["finish"], done["text"]) == ([], "stop", "Tom ")
    _, tokens, done = say(prefix_ids=ids, sampling={"max_new_tokens": 4, "stop_ids": [ids[-1]]})
    assert (tokens, done["finish"], done["ids"]) == ([], "stop", ids[:-1])


def test_a_search_heeds_nothing_that_nobody_asked_for(ask):
    """strategy beam alone is a search, as no strategy is; what is said of drawing beside it is refused, not dropped."""
    small = {"beams": 2, "max_new_tokens": 3}
    told = ask("beam", model="decoder", text=TEXT, sampling={"strategy": "beam", **small})
    assert told["data"] == ask("beam", model="decoder", text=TEXT, sampling=small)["data"]
    trace = ask("trace", model="decoder", text=TEXT)["trace"]
    view = ask("view", trace=trace, view="beam", ask={"sampling": {"strategy": "beam", **small}})
    assert view["data"] == told["data"]
    with pytest.raises(InputError, match="does not heed temperature"):
        ask("beam", model="decoder", text=TEXT, sampling={"strategy": "beam", "temperature": 0.8})
    start, *_ = ask("generate", model="decoder", prompt=TEXT, sampling={"strategy": "beam", **small})
    assert "Beam search" in start["data"]["notes"][0]["en"]


def test_a_search_is_no_longer_than_an_answer_that_is_shown(ask, monkeypatch):
    """However long it is asked to be; that it was shortened is said."""
    monkeypatch.setattr("instar.probe.views.beam.MOST_STEPS", 2)
    told = ask("beam", model="decoder", text=TEXT, sampling={"beams": 2, "max_new_tokens": 30})
    assert max(len(answer["ids"]) for answer in told["data"]["answers"]) == 2
    assert "room for 2 tokens" in told["notes"][0]["en"]


def test_stop_ids_end_an_answer(say):
    """The token that ends it is told with the end, and is no part of it."""
    _, tokens, _ = say(sampling={"strategy": "greedy", "max_new_tokens": 6})
    stop = next(token["id"] for token in tokens[1:] if token["id"] != tokens[0]["id"])
    _, some, done = say(sampling={"strategy": "greedy", "max_new_tokens": 6, "stop_ids": [stop]})
    assert (done["finish"], done["stop"]["id"], stop in done["ids"]) == ("stop", stop, False)
    assert [token["id"] for token in some] == done["ids"]


def test_without_a_tokenizer(say):
    """Ids have no text."""
    _, tokens, done = say(model="ids", prompt=None, ids=[5, 9], sampling={"strategy": "greedy", "max_new_tokens": 3})
    assert [(token["text"], token["piece"], token["b64"]) for token in tokens] == [
        ("", str(id), "") for id in done["ids"]
    ]


def test_an_answer_as_long_as_the_model_reads(say):
    """max_new_tokens beyond it is shortened, and that is said; a text without any room is refused."""
    start, tokens, done = say(model="ids", prompt=None, ids=[5] * 60, sampling={"max_new_tokens": 400})
    assert (len(tokens), done["finish"]) == (5, "length")
    assert start["notes"]
    with pytest.raises(Trouble) as caught:
        say(model="ids", prompt=None, ids=[5] * 60, prefix_ids=[5] * 5)
    assert caught.value.status == 413


def test_between_tokens_the_model_is_as_it_was(box, ask, adapted):
    """Between two events no hook of ours is on the model, so that another job may be done meanwhile; the adapter is
    heeded throughout."""
    hooks = [len(module._forward_hooks) for module in adapted.modules()]
    args = dict(model="decoder", adapter="tuned", prompt=TEXT, sampling={"strategy": "greedy", "max_new_tokens": 4})
    alone = ask("generate", **args)
    seen = []
    for event in OPS["generate"](box, args):
        assert [len(module._forward_hooks) for module in adapted.modules()] == hooks
        told = ask("trace", model="decoder", adapter="tuned", text="Tom had it")
        assert ask("view", trace=told["trace"], view="attention", vs="base")["green"]
        seen.append(event["data"].get("id"))
    assert seen == [event["data"].get("id") for event in alone]
    bare = ask("generate", **{**args, "adapter": ""})
    assert bare[-1]["data"]["ids"] != alone[-1]["data"]["ids"]


def test_nobody_waits(box):
    """It is given up inside the next pass."""
    events = OPS["generate"](box, dict(model="decoder", prompt=TEXT, sampling={"max_new_tokens": 9}))
    assert [next(events)["event"] for _ in range(3)] == ["start", "token", "token"]
    box.cancelled = lambda: True
    with pytest.raises(Abandoned):
        next(events)


@pytest.mark.parametrize(("args", "said"), [
    (dict(sampling={"temprature": 1.0}), "did you mean sampling.temperature"),
    (dict(sampling={"temperature": "1"}), "wanted float"), (dict(sampling={"top_p": 3.0}), "top_p=3.0"),
    (dict(sampling={"logit_bias": [[9999, 1.0]]}), "9999"), (dict(ids=[70]), "prompt and ids"),
    (dict(prefix_ids=[9999]), "9999"), (dict(model="nobody"), "no such model"), (dict(seed=2**70), "seed"),
    (dict(model="encoder"), "encoder"), (dict(prefix_ids=[70], sampling={"choice": ["\u7403"]}), "prefix_ids"),
])  # fmt: skip
def test_what_cannot_be_said(box, args, said):
    """Is refused at once, before the first event."""
    with pytest.raises((InputError, Trouble), match=said):
        OPS["generate"](box, {"model": "decoder", "prompt": TEXT, **args})


def test_a_search(ask, box):
    """Known answer "Beam": the panel is the view's, of a text or of a trace; width 1 says what greedy does."""
    sampling = {"beams": 3, "max_new_tokens": 4, "temperature": 0.8}
    told = ask("beam", model="decoder", text=TEXT, sampling=sampling)
    trace = ask("trace", model="decoder", text=TEXT)["trace"]
    assert told == ask("beam", trace=trace, sampling=sampling)
    assert told == ask("view", trace=trace, view="beam", ask={"sampling": sampling})
    assert told["green"]
    narrow = ask("beam", model="decoder", text=TEXT, sampling={"beams": 1, "max_new_tokens": 4})
    greedy = ask("generate", model="decoder", prompt=TEXT, sampling={"strategy": "greedy", "max_new_tokens": 4})
    assert narrow["data"]["answers"][0]["ids"] == greedy[-1]["data"]["ids"]
