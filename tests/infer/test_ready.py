"""An engine that stays."""

import pytest
import torch

from instar.config import InputError
from instar.config.options import EngineOptions, SamplingOptions
from instar.infer import ready as module
from instar.infer.ready import ready

HOW = EngineOptions(slots=2)


def test_it_is_warm_and_empty(make_model, tokenizer):
    """It has said something, of which nothing is known any more, and one request that fails leaves others alone."""
    engine = ready(make_model(tokenizer.vocab_size), tokenizer, HOW)
    assert engine.isolate
    assert not engine.busy
    assert engine.capacity == 48
    assert engine.pages.match(list(range(40))) == (0, False)
    request = engine.submit([1, 2], SamplingOptions(strategy="greedy", max_new_tokens=3))
    engine.run()
    assert request.finish == "length"


def test_what_is_compiled_is_compiled_before_anyone_asks(make_model, tokenizer, monkeypatch):
    """A step of one row, and one of several, which is compiled by itself."""
    widths = []

    def compile(step, **how):
        return lambda *given: widths.append(len(given[4].tokens)) or step(*given)

    monkeypatch.setattr(torch, "compile", compile)
    engine = ready(make_model(tokenizer.vocab_size), tokenizer, EngineOptions(slots=2, compile=True))
    assert set(widths) == {1, 2}
    assert not engine.busy
    ready(make_model(tokenizer.vocab_size), tokenizer, EngineOptions(slots=1, compile=True))


def test_texts_are_as_long_as_there_is_memory_for(make_model, tokenizer, monkeypatch):
    """Where the longest text finds no room, half of it may; where nothing worth having does, it says what lacks."""
    model = make_model(tokenizer.vocab_size, max_positions=2048)
    whole = ready(model, tokenizer, HOW).pages.budget
    monkeypatch.setattr(module, "free_bytes", lambda device: whole)  # a quarter of that is taken
    assert ready(model, tokenizer, HOW).capacity == 1024
    assert ready(model, tokenizer, HOW, sharing=2).capacity == 512
    monkeypatch.setattr(module, "free_bytes", lambda device: 1000)
    with pytest.raises(InputError, match="KV budget"):
        ready(model, tokenizer, HOW)


def test_a_model_that_can_say_nothing_is_refused(make_model, tokenizer):
    """Weights that are no numbers are found before anyone asks."""
    model = make_model(tokenizer.vocab_size)
    with torch.no_grad():
        model.heads["lm"].weight.fill_(torch.nan)
    with pytest.raises(InputError, match="not numbers"):
        ready(model, tokenizer, HOW)


def test_what_is_measured_is_left_out_where_bits_are_to_agree(make_model, tokenizer, monkeypatch):
    """Two deterministic engines give the same bits, so neither chooses by its own measurements how it computes."""
    tuned = []
    monkeypatch.setattr(module, "tune", tuned.append)
    model = make_model(tokenizer.vocab_size)
    ready(model, tokenizer, EngineOptions(slots=1, tune=True, deterministic=True), sharing=2)
    assert not tuned
    ready(model, tokenizer, EngineOptions(slots=1, tune=True, deterministic=True))
    assert tuned == [model]
