"""What may be asked of sampling, and what is refused."""

import math
from dataclasses import replace

import pytest

from instar.config import InputError
from instar.config.options import ChatOptions, GenerateOptions, SamplingOptions
from instar.infer.asking import check, check_ids, describe


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temperature": -0.1}, "temperature=-0.1, wanted a number from 0 to 100"),
        ({"temperature": 1e-9}, "wanted 0, which is greedy, or 0.001 and more"),
        ({"temperature": math.nan}, "temperature=nan"),
        ({"temperature": math.inf}, "temperature=inf"),
        ({"top_p": 1.1}, "top_p=1.1, wanted a number from 0 to 1"),
        ({"top_k": 2.5}, "top_k=2.5, wanted a whole number"),
        ({"top_k": True}, "top_k=True"),
        ({"min_p": "0.1"}, "min_p=0.1, wanted a number"),
        ({"repetition_penalty": 0.0}, "repetition_penalty=0.0"),
        ({"max_new_tokens": 0}, "max_new_tokens=0, wanted a whole number from 1"),
        ({"min_new_tokens": 9, "max_new_tokens": 8}, "min_new_tokens=9 is above max_new_tokens=8"),
        ({"strategy": "beem"}, "unknown sampling.strategy beem"),
        ({"stop": ("",)}, "stop=.* none of them empty"),
        ({"no_repeat_ngram_size": 65}, "no_repeat_ngram_size=65, wanted a whole number from 0 to 64"),
        ({"top_logprobs": 21}, "top_logprobs=21, wanted a whole number from 0 to 20"),
        ({"stop_ids": 7}, "stop_ids has 7, wanted a tuple of at most 1024"),
        ({"stop_ids": (3, -1)}, "stop_ids holds -1, wanted token ids"),
        ({"stop_ids": (True,)}, "stop_ids holds True, wanted token ids"),
        ({"logit_bias": {17: 1.0}}, r"logit_bias has \{17: 1.0\}, wanted a tuple of at most 1024"),
        (
            {"logit_bias": tuple((id, 1.0) for id in range(1025))},
            "logit_bias has 1025 entries, wanted a tuple of at most",
        ),
        ({"logit_bias": (17,)}, "logit_bias holds 17, wanted pairs of a token id and its bias"),
        ({"logit_bias": (("17", 1.0),)}, "wanted pairs of a token id and its bias"),
        ({"logit_bias": ((-1, 1.0),)}, "wanted pairs of a token id and its bias"),
        ({"logit_bias": ((17, 100.5),)}, "logit_bias adds 100.5 to token 17, wanted a number from -100 to 100"),
        ({"logit_bias": ((17, math.nan),)}, "logit_bias adds nan to token 17"),
        ({"logit_bias": ((17, True),)}, "logit_bias adds True to token 17"),
        ({"logit_bias": ((17, 1.0), (3, 0.0), (17, 2.0))}, "logit_bias names token 17 twice; keep one"),
        ({"regex": 3}, "regex=3, wanted a text"),
        ({"choice": ("yes", "")}, "choice=.* wanted texts, none of them empty"),
        ({"choice": "yes"}, "choice=yes, wanted texts"),
        ({"regex": "a+", "choice": ("a",)}, "found the constraints regex and choice, wanted at most one; leave"),
        ({"json_schema": "{}", "grammar": "start: X"}, "found the constraints json_schema and grammar"),
    ],
)
def test_figures_out_of_range(changes, message):
    """Each names the option, the value and what is wanted."""
    with pytest.raises(InputError, match=message):
        check(replace(SamplingOptions(), **changes))


UNHEARD = {
    "temperature": 0.5, "top_k": 3, "top_p": 0.5, "min_p": 0.1, "repetition_penalty": 1.1, "presence_penalty": 0.1,
    "frequency_penalty": 0.1, "no_repeat_ngram_size": 2, "logit_bias": ((1, 2.0),), "stop": ("x",), "stop_ids": (3,),
    "top_logprobs": 2, "json_schema": "{}", "regex": "a", "choice": ("a",), "grammar": "start: X",
}  # fmt: skip


@pytest.mark.parametrize("name", UNHEARD)
def test_beam_search_refuses_what_it_does_not_heed(name):
    """It weighs whole answers by the model's own logits. All but the strategy's own options are on the list."""
    with pytest.raises(
        InputError, match=f"strategy=beam does not heed {name}=.*; leave it out, or say strategy sample"
    ):
        check(SamplingOptions(strategy="beam", **{name: UNHEARD[name]}))
    check(SamplingOptions(strategy="sample", **{name: UNHEARD[name]}))
    heeded = {"strategy", "beams", "length_penalty", "early_stopping", "min_new_tokens", "max_new_tokens"}
    assert set(UNHEARD) | heeded == set(SamplingOptions.__dataclass_fields__)


def test_ids_that_the_model_does_not_have():
    """Known only beside a model: the last id is one, the next is not."""
    check_ids(SamplingOptions(logit_bias=((60, 1.0),), stop_ids=(0, 60)), 61)
    with pytest.raises(InputError, match="logit_bias names token 61, outside 0 to 60"):
        check_ids(SamplingOptions(logit_bias=((0, 1.0), (61, 1.0))), 61)
    with pytest.raises(InputError, match="stop_ids names token 61, outside 0 to 60"):
        check_ids(SamplingOptions(stop_ids=(61,)), 61)


def test_describe_tells_what_decides():
    """Story: vllm-project/vllm#15241, hidden sampling defaults (U11). What is said is what acts, and no more."""
    assert describe(SamplingOptions()) == "temperature 1"
    assert describe(GenerateOptions().sampling) == describe(ChatOptions().sampling) == "temperature 0.8, top p 0.95"
    assert describe(SamplingOptions(strategy="greedy", temperature=0.7, top_k=5)) == "greedy"
    assert describe(SamplingOptions(temperature=0, repetition_penalty=1.2)) == "greedy, repetition penalty 1.2"
    assert describe(SamplingOptions(strategy="greedy", logit_bias=((1, 2.0),), regex="a+", no_repeat_ngram_size=3)) == (
        "greedy, no repeat ngram size 3, bias on 1 token, held to a regex"
    )
    assert describe(
        SamplingOptions(logit_bias=((1, 2.0), (2, 1.0)), json_schema="{}", top_logprobs=5, stop_ids=(1,))
    ) == ("temperature 1, bias on 2 tokens, held to a json schema")
