"""Prompts in all their shapes -> answers; streaming and stops are in tests/traps/test_30."""

import pytest
import torch

from instar.config import InputError, ModelConfig
from instar.config.options import SamplingOptions
from instar.infer.asking import check
from instar.infer.conversation import Conversation
from instar.infer.engine import Engine
from instar.infer.text import complete, generate, sampling_options, stream
from instar.model.transformer import Transformer

SAID = "Tom had a 球."


@pytest.fixture
def parrot(tokenizer, script):
    """A model that answers SAID to the text "Anna"."""
    return script(SAID, tokenizer.prompt("Anna"))


def test_prompts_in_all_their_shapes(tokenizer, script, parrot):
    """A text, a list of texts, ids, a list of ids: the same answer in the same form."""
    ids = tokenizer.prompt("Anna")
    assert generate(parrot, tokenizer, "Anna") == [SAID]
    assert generate(parrot, tokenizer, ["Anna", "Anna"]) == [SAID, SAID]
    assert generate(parrot, tokenizer, ids) == generate(parrot, tokenizer, [ids]) == [SAID]
    assert generate(parrot, tokenizer, []) == []
    messages = [{"role": "user", "content": "Anna"}]
    talker = script(SAID, tokenizer.chat(messages, add_generation_prompt=True).ids)
    assert generate(talker, tokenizer, messages) == generate(talker, tokenizer, [messages]) == [SAID]
    assert generate(talker, tokenizer, "Anna", chat=True) == generate(talker, tokenizer, messages, chat=True) == [SAID]


def test_shapes_may_be_mixed(tokenizer, make_model):
    """Texts, messages and ids in one call keep their places, whatever their lengths."""
    model = make_model(vocab_size=tokenizer.vocab_size, max_positions=200)
    prompts = ["a", [{"role": "user", "content": "Hello"}], tokenizer.encode("Anna had a red ball."), "She gave"]
    alone = [generate(model, tokenizer, [prompt], max_new_tokens=9)[0] for prompt in prompts]
    assert generate(model, tokenizer, prompts, max_new_tokens=9) == alone
    assert len(set(alone)) == 4


def test_ids_without_a_tokenizer(tokenizer, parrot):
    """Where there is no tokenizer, ids come back, the stop ids too: nothing is known that would end them."""
    ids = tokenizer.prompt("Anna")
    (answer,) = generate(parrot, None, [ids], max_new_tokens=30)
    wanted = tokenizer.encode(SAID)
    assert answer == wanted + [tokenizer.eos] * (30 - len(wanted))
    assert generate(parrot, None, ids, max_new_tokens=3) == [wanted[:3]]
    with pytest.raises(InputError, match="wanted a list of token ids; or pass a tokenizer"):
        generate(parrot, None, ["Anna"])
    with pytest.raises(InputError, match="stop is text and needs a tokenizer"):
        generate(parrot, None, [ids], stop="x")


def test_completions_tell_how_they_ended(tokenizer, parrot):
    """stop by a token, stop by a text, length; ids and log-probabilities belong together."""
    options = SamplingOptions(strategy="greedy")
    (ended,) = complete(parrot, tokenizer, ["Anna"], options)
    assert (ended.text, ended.finish, ended.ids) == (SAID, "stop", tokenizer.encode(SAID))
    (cut,) = complete(parrot, tokenizer, ["Anna"], SamplingOptions(strategy="greedy", max_new_tokens=4))
    assert (cut.finish, len(cut.ids)) == ("length", 4)
    (stopped,) = complete(parrot, tokenizer, ["Anna"], SamplingOptions(strategy="greedy", stop=("had",)))
    assert (stopped.text, stopped.finish) == ("Tom ", "stop")
    for answer in (ended, cut, stopped):
        assert len(answer.logprobs) == len(answer.ids)
        assert all(logprob <= 0 for logprob in answer.logprobs)


def test_n_answers_stand_side_by_side(tokenizer, make_model):
    """n answers to each prompt, prompt 0's first, each drawn by its own seed."""
    model = make_model(vocab_size=tokenizer.vocab_size)
    answers = generate(model, tokenizer, ["Anna", "Tom"], n=3, temperature=1.0, seed=5, max_new_tokens=8)
    assert len(answers) == 6
    assert len(set(answers)) == 6
    assert generate(model, tokenizer, "Anna", temperature=1.0, seed=6, max_new_tokens=8) == answers[1:2]
    with pytest.raises(InputError, match="n=0, wanted at least 1"):
        generate(model, tokenizer, "Anna", n=0)


def test_what_is_not_given_changes_nothing():
    """Greedy by default; a rule of drawing means to draw, and brings no other rule with it."""
    assert sampling_options() == SamplingOptions(strategy="greedy")
    assert sampling_options(temperature=0.7) == SamplingOptions(strategy="sample", temperature=0.7, top_p=1.0)
    assert sampling_options(stop="\n", repetition_penalty=1.2) == SamplingOptions(
        strategy="greedy", stop=("\n",), repetition_penalty=1.2
    )
    assert sampling_options(strategy="greedy", top_k=3).strategy == "greedy"
    with pytest.raises(InputError, match=r"unknown sampling option temprature; did you mean temperature\?"):
        sampling_options(temprature=1.0)


def test_options_as_python_has_them():
    """One stop, id or choice for several, a mapping of biases, a schema as a mapping; what is wrong stays what it is,
    to be refused by name."""
    options = sampling_options(logit_bias={17: -5.0, 3: 2}, stop_ids=4, choice="yes", regex="")
    assert options.logit_bias == ((17, -5.0), (3, 2))
    assert (options.stop_ids, options.choice) == ((4,), ("yes",))
    assert sampling_options(logit_bias=[[17, 1.0], (3, 2.0)], stop_ids=[1, 2], choice=["a", "b"]) == SamplingOptions(
        strategy="greedy", logit_bias=((17, 1.0), (3, 2.0)), stop_ids=(1, 2), choice=("a", "b")
    )
    assert sampling_options(json_schema={"enum": ["é"]}).json_schema == '{"enum": ["é"]}'
    for wrong in ({"logit_bias": 3}, {"logit_bias": [3]}, {"logit_bias": {"a": 1}}, {"stop_ids": "a"}, {"choice": 3}):
        with pytest.raises(InputError, match=f"sampling.{next(iter(wrong))}"):
            check(sampling_options(**wrong))


def test_everything_wrong_is_said_before_any_work(tokenizer, parrot):
    """One prompt too long among many, or a wrong figure: nothing is read, neither by generate nor by stream."""
    long = "Anna had a ball. " * 200
    with pytest.raises(InputError, match="the model reads 1024"):
        generate(parrot, tokenizer, ["Anna", long])
    with pytest.raises(InputError, match="the model reads 1024"):
        stream(parrot, tokenizer, long)
    with pytest.raises(InputError, match="top_p=2"):
        stream(parrot, tokenizer, "Anna", top_p=2.0)
    with pytest.raises(InputError, match="found both options and top_p"):
        stream(parrot, tokenizer, "Anna", options=SamplingOptions(), top_p=0.5)
    assert parrot.passes == 0


def test_a_closed_stream_works_no_more(tokenizer, parrot):
    """As many passes as tokens were shown, and none behind that."""
    pieces = stream(parrot, tokenizer, "Anna")
    next(pieces)
    pieces.close()
    assert parrot.passes == 1
    assert list(pieces) == []


@pytest.fixture
def translator(tokenizer, make_model):
    """An encoder-decoder whose answers differ from source to source."""
    size = tokenizer.vocab_size
    model = make_model(vocab_size=size, encoder_layers=2, start=tokenizer.pad, max_positions=64)
    with torch.no_grad():
        for block in model.blocks:
            block.cross.out.weight *= 5
    return model


@pytest.mark.parametrize("rules", [{}, {"temperature": 1.0, "seed": 3}, {"beams": 3}], ids=["greedy", "drawn", "beam"])
def test_an_encoder_decoder_is_given_sources(tokenizer, translator, rules):
    """A text is read as a document, with its end, as in training; alone, side by side, streamed: the same answers."""
    texts = ["Anna", "Tom had a ball.", "王明"]
    answers = generate(translator, tokenizer, texts, max_new_tokens=9, **rules)
    assert len(set(answers)) == 3
    ids = [tokenizer.document(text) for text in texts]
    assert ids[0][-1] == tokenizer.eos
    assert generate(translator, tokenizer, ids, max_new_tokens=9, **rules) == answers
    for text, answer in zip(texts, answers):
        assert generate(translator, tokenizer, text, max_new_tokens=9, **rules) == [answer]
        assert "".join(stream(translator, tokenizer, text, max_new_tokens=9, **rules)) == answer


def test_models_that_cannot_answer_so(tokenizer, translator, make_model):
    """By name: a conversation with an encoder-decoder, texts for a vocabulary that is not the tokenizer's, an encoder,
    a model without the head."""
    with pytest.raises(InputError, match="answers a source and holds no conversation; pass the text alone"):
        generate(translator, tokenizer, "Anna", chat=True)
    with pytest.raises(InputError, match="answers a source and holds no conversation; wanted a decoder"):
        Conversation(translator, tokenizer, SamplingOptions())
    size = tokenizer.vocab_size
    other = make_model(vocab_size=size, encoder_layers=1, start=0, source_vocab_size=9)
    with pytest.raises(InputError, match="the sources of this model have a vocabulary of their own; pass their ids"):
        generate(other, tokenizer, "Anna")
    assert len(generate(other, tokenizer, [[1, 8]], max_new_tokens=3)) == 1
    with pytest.raises(InputError, match="start=-1: it is not known what an answer begins with"):
        generate(make_model(vocab_size=size, encoder_layers=1), tokenizer, "Anna", max_new_tokens=3)
    for rules in ({}, {"beams": 2}):
        with pytest.raises(InputError, match="causal=false: an encoder sees the whole text and cannot continue it"):
            generate(make_model(vocab_size=size, causal=False), tokenizer, "Anna", **rules)
        scorer = Transformer(ModelConfig(vocab_size=size, d_model=8, layers=1, heads=2, heads_of=("score",)))
        with pytest.raises(InputError, match="has no language model's head and cannot continue"):
            generate(scorer, tokenizer, "Anna", **rules)
    with pytest.raises(InputError, match="found a source, and a model without an encoder; pass it as the prompt"):
        Engine(make_model()).submit([1], SamplingOptions(), source=[2])
