"""`instar generate` and `instar chat`."""

import json

import pytest

import instar
from instar.config import ModelConfig
from instar.config.options import SamplingOptions
from instar.hub.files import save_model
from instar.infer.text import complete, generate
from instar.model.transformer import Transformer
from instar.text.tokenizer import Tokenizer

GREEDY = ["--sampling.strategy", "greedy", "--sampling.max-new-tokens", "6"]


@pytest.fixture(scope="session")
def loaded(grown):
    """The model and the tokenizer of the finished life."""
    return instar.load(grown.sft)


def test_generate_streams_one_answer(grown, cli, loaded):
    """The prompt and the answer on stdout, what decides the draws on stderr; the same as instar.generate."""
    result = cli("generate", "--model", grown.sft, "--prompt", "Tom had", *GREEDY)
    (text,) = generate(*loaded, ["Tom had"], max_new_tokens=6)
    assert (result.status, result.out) == (0, f"Tom had{text}\n")
    assert "greedy" in result.err


def test_generate_many(grown, cli, loaded):
    """n answers to each prompt, each with the seed it would have alone."""
    words = ["--prompt", "Tom had", "[b]Anna", "--n", "2", "--seed", "5", "--sampling.max-new-tokens", "6"]
    result = cli("generate", "--model", grown.sft, *words, "--json")
    options = SamplingOptions(temperature=0.8, top_p=0.95, max_new_tokens=6)
    wanted = complete(*loaded, ["Tom had", "[b]Anna"], options, n=2, seed=5)
    assert [answer["ids"] for answer in result.json["answers"]] == [answer.ids for answer in wanted]
    assert [answer["prompt"] for answer in result.json["answers"]] == ["Tom had"] * 2 + ["[b]Anna"] * 2
    assert all(len(answer["ids"]) == len(answer["logprobs"]) for answer in result.json["answers"])
    plain = cli("generate", "--model", grown.sft, *words)
    assert plain.out == "\n".join(answer["prompt"] + answer["text"] + "\n" for answer in result.json["answers"])


def test_generate_the_best(grown, cli, loaded):
    """The n best of beam search with their scores, a blank line between; one answer is shown without."""
    words = ["--model", grown.sft, "--prompt", "Tom had", "Anna", "--strategy", "beam", "--max-new-tokens", "6"]
    wanted = complete(*loaded, ["Tom had", "Anna"], SamplingOptions(strategy="beam", beams=3, max_new_tokens=6), n=2)
    result = cli("generate", *words, "--beams", "3", "--n", "2", "--json")
    assert "3 beams, length penalty 1, early stopping likely" in result.err
    assert [(a["text"], a["score"]) for a in result.json["answers"]] == [(a.text, a.score) for a in wanted]
    plain = cli("generate", *words, "--beams", "3", "--n", "2")
    assert plain.out == "\n".join(
        f"{a.score:.4f}  {prompt}{a.text}\n" for prompt, a in zip(["Tom had"] * 2 + ["Anna"] * 2, wanted)
    )
    best = cli("generate", "--model", grown.sft, "--prompt", "Tom had", "--beams", "3", "--max-new-tokens", "6")
    assert best.out == f"Tom had{wanted[0].text}\n"
    for more, message in (
        (["--temperature", "0.5"], "strategy=beam does not heed temperature=0.5"),
        (["--n", "5"], "n=5, wanted from 1 to beams=4"),
    ):
        refused = cli("generate", *words, *more)
        assert (refused.status, message in refused.err) == (2, True)


def test_generate_as_a_chat(grown, cli, loaded):
    """With --chat the prompt is a user's message, and only the answer is shown."""
    result = cli("generate", "--model", grown.sft, "--prompt", "Hello!", "--chat", *GREEDY, "--quiet")
    (text,) = generate(*loaded, [[{"role": "user", "content": "Hello!"}]], max_new_tokens=6)
    assert (result.out, result.err) == (f"{text}\n", "")


def test_chat(grown, cli, say):
    """Two turns, /reset, one turn: only what came after it is remembered."""
    say("Hello!", "And you?", "/reset", "你好！")
    result = cli("chat", "--model", grown.sft, *GREEDY, "--json")
    assert result.status == 0
    assert [message["role"] for message in result.json["messages"]] == ["user", "assistant"]
    assert result.json["messages"][0]["content"] == "你好！"
    assert "forgotten" in result.err


def test_chat_remembers(grown, cli, say, loaded):
    """The second answer is that to the whole conversation; a blank line is no turn."""
    say("Hello!", "", "And you?")
    messages = cli("chat", "--model", grown.sft, "--system", "Be kind.", *GREEDY, "--json").json["messages"]
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user", "assistant"]
    (text,) = generate(*loaded, [messages[:4]], max_new_tokens=6)
    assert messages[4]["content"] == text


def test_ctrl_c_stops_the_answer_and_not_the_chat(grown, cli, say, monkeypatch):
    """What was said until then stays in the conversation, and the next turn is answered."""
    calls = []

    def pieces(speaker, prompt, *_, **__):
        calls.append(prompt)
        yield "half"
        if len(calls) == 1:
            raise KeyboardInterrupt
        yield " and half"

    monkeypatch.setattr("instar.infer.speaker.Speaker.stream", pieces)
    say("one", KeyboardInterrupt(), "two")
    result = cli("chat", "--model", grown.sft, "--json")
    assert (result.status, len(calls)) == (0, 2)
    assert [message["content"] for message in result.json["messages"]] == ["one", "half", "two", "half and half"]


def test_ctrl_c_is_shown(grown, cli, say, monkeypatch):
    """The broken answer ends with a word that says so."""

    def pieces(*_, **__):
        yield "half"
        raise KeyboardInterrupt

    monkeypatch.setattr("instar.infer.speaker.Speaker.stream", pieces)
    say("one")
    assert cli("chat", "--model", grown.sft, "--quiet").out == "half [stopped]\n"


def test_a_conversation_that_is_too_long_goes_on_after_reset(grown, cli, say):
    """The message is refused with the way out, the chat goes on."""
    say("ball " * 2000, "Hello!")
    result = cli("chat", "--model", grown.sft, *GREEDY, "--json")
    assert "say /reset" in result.err
    assert result.json["messages"][0]["content"] == "Hello!"


def test_a_misspelt_command_of_the_chat_is_not_sent_to_the_model(grown, cli, say):
    """Story: a user believed to have begun anew."""
    say("/rest")
    result = cli("chat", "--model", grown.sft, "--json")
    assert "did you mean /reset?" in result.err
    assert json.loads(result.out) == {"messages": []}


@pytest.fixture(scope="session")
def translator(tmp_path_factory):
    """The folder of an encoder-decoder that nobody has trained."""
    folder = tmp_path_factory.mktemp("translator")
    tokenizer = Tokenizer.train(["Anna had a red ball. " * 8], 320)
    shape = dict(d_model=16, layers=1, encoder_layers=1, heads=2, positions="t5", score_size=1.0, tied=False)
    save_model(Transformer(ModelConfig(vocab_size=tokenizer.vocab_size, start=tokenizer.pad, **shape)), folder)
    tokenizer.save(folder)
    return str(folder)


@pytest.mark.parametrize("how", [["--strategy", "greedy"], ["--beams", "3"]])
def test_an_encoder_decoder_answers(translator, cli, how):
    """The prompt is a source and no part of what is shown; it is not for talking with."""
    strategy = dict(strategy="greedy") if how[0] == "--strategy" else dict(strategy="beam", beams=3)
    (wanted,) = complete(*instar.load(translator), ["Anna"], SamplingOptions(max_new_tokens=5, **strategy))
    result = cli("generate", "--model", translator, "--prompt", "Anna", "--max-new-tokens", "5", *how)
    assert (result.status, result.out) == (0, f"{wanted.text}\n")
    refused = cli("chat", "--model", translator)
    assert (refused.status, "an encoder-decoder answers a source and holds no conversation" in refused.err) == (2, True)
    refused = cli("generate", "--model", translator, "--prompt", "Anna", "--chat", *how)
    assert (refused.status, "holds no conversation; pass the text alone" in refused.err) == (2, True)


def test_tokens_are_steered_by_their_ids(translator, cli):
    """A bias, an n-gram that may not come twice, and a token that ends the answer, but not too early."""
    words = ["--model", translator, "--prompt", "Anna", "--strategy", "greedy", "--max-new-tokens", "4", "--json"]

    def ids(*more):
        result = cli("generate", *words, *more)
        assert result.status == 0
        return result.json["answers"][0]["ids"]

    assert ids("--logit-bias", "300=100", "301=90") == [300] * 4
    assert ids("--logit-bias", "300=100", "301=90", "--no-repeat-ngram-size", "2")[:3] == [300, 300, 301]
    assert ids("--logit-bias", "300=100", "--stop-ids", "5", "300") == []
    short = ids("--logit-bias", "300=100", "301=90", "--stop-ids", "5", "300", "--min-new-tokens", "2")
    assert short == [301, 301]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--logit-bias", "320=1"], "sampling.logit_bias names token 320, outside 0 to 319"),
        (["--logit-bias", "3=101"], "sampling.logit_bias adds 101.0 to token 3, wanted a number from -100 to 100"),
        (["--logit-bias", "3"], "--logit-bias: found '3', wanted pairs such as 17=-5 18=2.5"),
        (["--stop-ids", "999"], "sampling.stop_ids names token 999"),
        (["--regex", "a+", "--choice", "a", "b"], "found the constraints regex and choice, wanted at most one"),
        (["--beams", "3", "--no-repeat-ngram-size", "2"], "strategy=beam does not heed no_repeat_ngram_size=2"),
    ],
)
def test_what_steers_nothing_is_refused(translator, cli, words, message):
    """Status 2, and what is wrong by name."""
    refused = cli("generate", "--model", translator, "--prompt", "Anna", "--max-new-tokens", "3", *words)
    assert (refused.status, message in refused.err) == (2, True)


@pytest.mark.parametrize("ahead", [["--speculate", "ngram"], ["--draft"]])
def test_guesses_change_no_answer(grown, cli, say, ahead):
    """With n-grams, or with a draft model, here the model before its tuning, a command says what it says without."""
    ahead = [*ahead, grown.base] if ahead == ["--draft"] else ahead
    for words in (
        ["--prompt", "Tom had a ball. Tom had", *GREEDY],
        ["--prompt", "Tom", "Anna", "--max-new-tokens", "9"],
    ):
        plain, guessed = (cli("generate", "--model", grown.sft, *words, *more) for more in ([], ahead))
        assert (guessed.status, guessed.out) == (0, plain.out)
    said = []
    for more in ([], ahead):
        say("Hello")
        said.append(cli("chat", "--model", grown.sft, *GREEDY, *more).out)
    assert said[0] == said[1] != ""
