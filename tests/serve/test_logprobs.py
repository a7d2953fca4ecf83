"""How likely tokens were, in OpenAI's two forms."""

import json
import math

from openai.types.chat.chat_completion import ChoiceLogprobs
from openai.types.completion_choice import Logprobs

from instar.serve.answers import Placed
from instar.serve.logprobs import LEAST, TextLogprobs, of_chat, spelt
from instar.serve.ticket import Token
from instar.serve.wire import Scored


def test_tokens_that_are_no_text():
    """Section 5: a token's text, or its bytes where it is no whole text."""
    assert spelt("é".encode()) == "é"
    assert spelt(b"\xe7\x90") == "\\xe7\\x90"
    assert spelt(b"\xe7\x90", "bytes:") == "bytes:\\xe7\\x90"


def test_the_form_of_chats(tokenizer):
    """Section 5: content with token, logprob, bytes and top_logprobs; bytes of all tokens joined are the text's."""
    ids = tokenizer.encode("球 b")
    placed = [Placed(Token(id, -0.5, None, [(id, -0.5), (1, -2.0), (2, -math.inf)]), 0) for id in ids]
    found = of_chat(tokenizer, placed, 3)
    ChoiceLogprobs.model_validate(json.loads(json.dumps(found, allow_nan=False)))
    assert set(found) == {"content", "refusal"}
    for entry, id in zip(found["content"], ids, strict=True):
        assert set(entry) == {"token", "logprob", "bytes", "top_logprobs"}
        assert entry["bytes"] == list(tokenizer.token_bytes(id))
        assert [top["logprob"] for top in entry["top_logprobs"]] == [-0.5, -2.0, LEAST]
    assert bytes(byte for entry in found["content"] for byte in entry["bytes"]).decode() == "球 b"
    assert of_chat(tokenizer, placed, 0)["content"][0]["top_logprobs"] == []


def test_the_form_of_texts(tokenizer):
    """Section 5: tokens, token_logprobs, top_logprobs, text_offset; the token that was said is among its likeliest; the
    first of an echoed prompt has no probability."""
    ids = tokenizer.encode("ab")
    assert len(ids) == 2
    told = TextLogprobs(tokenizer, 1)
    told.add_prompt(ids, [0, 1], Scored(0, [-1.5], [[[ids[0], -0.25]]]))
    told.add([Placed(Token(ids[0], -3.0, None, [(ids[1], -0.125), (5, -9.0)]), 0)], 2)
    assert told.body == {
        "tokens": ["a", "b", "a"],
        "token_logprobs": [None, -1.5, -3.0],
        "top_logprobs": [None, {"a": -0.25, "b": -1.5}, {"b": -0.125, "a": -3.0}],
        "text_offset": [0, 1, 2],
    }
    bare = TextLogprobs(tokenizer, 0)
    bare.add([Placed(Token(ids[0], -3.0, None), 0)], 0)
    assert bare.body["top_logprobs"] == [{"a": -3.0}]
    Logprobs.model_validate(bare.body)
