"""One answer, watched: the engine's own tokens, logits and cache."""

import pytest
import torch

from instar.config import InputError
from instar.config.options import SamplingOptions
from instar.infer.engine import Engine
from instar.infer.text import complete
from instar.probe.telling import bytes_of, cache_gap, gap, limit_of, room, speaks, tell

RULES = dict(
    temperature=0.9, top_k=30, top_p=0.95, min_p=0.001, repetition_penalty=1.1, frequency_penalty=0.1,
    no_repeat_ngram_size=3, min_new_tokens=3, max_new_tokens=7, logit_bias=((70, 1.5),),
)  # fmt: skip


@pytest.mark.parametrize("shape", ["decoder", "windows", "encoder-decoder"])
@pytest.mark.parametrize("rules", [dict(strategy="greedy", max_new_tokens=6), RULES])
def test_every_choice_is_the_engines(subject_of, shape, rules):
    """Each token is chosen again by the same rules from the logits that the engine had, and is the engine's; the text
    is what `generate` says with the seed; cached = uncached at every step."""
    subject, options = subject_of(shape), SamplingOptions(**rules)
    told = tell(subject, options, 5)
    assert told.chosen[: len(told.ids)] == told.ids
    assert len(told.passes) == len(told.ids) + (told.finish == "stop")
    (answer,) = complete(subject.model, subject.tokenizer, [subject.source_text or subject.text], options, seed=5)
    assert (answer.ids, answer.text, answer.finish) == (told.ids, told.text, told.finish)
    assert [each.choice.logprob for each in told.passes[: len(told.ids)]] == pytest.approx(told.logprobs)
    assert cache_gap(subject.model, told) < 1e-12


def test_the_cache_grows_by_a_token(subject_of):
    """A prefill of the whole prompt, then one token a step; its bytes are 2 L K E T b, and the engine's blocks of 16
    tokens hold them."""
    subject = subject_of()
    told = tell(subject, SamplingOptions("greedy", max_new_tokens=12), 0)
    length = len(subject.tokens)
    assert [each.phase for each in told.passes] == ["prefill", *["decode"] * 11]
    assert [each.held for each in told.passes] == [length + n for n in range(12)]
    assert [each.needed for each in told.passes] == [2 * 2 * 2 * 4 * (length + n) * 8 for n in range(12)]
    blocks = [-(-each.held // 16) for each in told.passes]
    assert len(set(blocks)) > 1, "the answer must fill a block"
    assert [each.used for each in told.passes] == [bytes_of(subject.model.config, 16 * n, 0, 8) for n in blocks]


def test_constraints_are_followed(subject_of):
    """The mask of a regular expression is one of the stages, and the choices stay the engine's."""
    pytest.importorskip("llguidance")
    told = tell(subject_of(), SamplingOptions(regex="a[bc]d", max_new_tokens=8), 1)
    assert told.text in ("abd", "acd")
    assert told.chosen[: len(told.ids)] == told.ids
    stage = told.passes[0].choice.stage("constraint")
    assert stage.kept < 10
    assert 0 < stage.mass < 1


def test_stop_texts_end_an_answer(subject_of):
    """As they do in `generate`: the token that completes one is the last."""
    subject = subject_of()
    whole = tell(subject, SamplingOptions("greedy", max_new_tokens=12), 0)
    letter = next(letter for letter in whole.text[1:] if letter != whole.text[0])
    told = tell(subject, SamplingOptions("greedy", max_new_tokens=12, stop=(letter,)), 0)
    assert told.finish == "stop"
    assert letter not in told.text
    assert told.ids == whole.ids[: len(told.ids)]


def test_no_hook_is_left(subject_of, monkeypatch):
    """Not after an answer, nor after a step that failed."""
    subject = subject_of()
    tell(subject, SamplingOptions("greedy", max_new_tokens=2), 0)
    monkeypatch.setattr(Engine, "step", lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        tell(subject, SamplingOptions("greedy", max_new_tokens=2), 0)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in subject.model.modules())


def test_room_and_what_is_changed(subject_of):
    """An answer longer than the model reads is shortened and that is said; beam search becomes greedy and that is
    said; a prompt that leaves no room is refused."""
    subject = subject_of()
    assert room(subject.model, [1] * 64) == 1
    with pytest.raises(InputError, match="shorten it"):
        room(subject.model, [1] * 65)
    options, notes = speaks(SamplingOptions(max_new_tokens=100, min_new_tokens=99), 40)
    assert (options.max_new_tokens, options.min_new_tokens, len(notes)) == (40, 40, 1)
    options, notes = speaks(SamplingOptions("beam", max_new_tokens=9), 40)
    assert (options.strategy, options.max_new_tokens, len(notes)) == ("greedy", 9, 1)
    assert speaks(SamplingOptions(max_new_tokens=9), 40) == (SamplingOptions(max_new_tokens=9), [])


def test_an_encoder_is_refused(subject_of):
    """It cannot continue a text."""
    with pytest.raises(InputError, match="encoder"):
        tell(subject_of("encoder"), SamplingOptions("greedy", max_new_tokens=2), 0)


def test_gaps():
    """A share of the largest number above 1, an absolute difference below; other shapes and no numbers are NaN."""
    assert gap(torch.tensor([10.0, 4.0]), torch.tensor([10.0, 5.0])) == pytest.approx(0.1)
    assert gap(torch.tensor([0.1]), torch.tensor([0.2])) == pytest.approx(0.1)
    assert gap(torch.ones(2), torch.ones(3)) != gap(torch.ones(2), torch.ones(3))


def test_limits(subject_of):
    """Tighter in fp64 than in half precision."""
    model = subject_of().model
    assert limit_of(model) < 1e-9 < 1e-3 < limit_of(model.to(torch.bfloat16))


def test_distributions_are_kept_of_a_few(subject_of):
    """Of the first pass, the last ones and the least decided; of the others numbers alone, which are the same."""
    subject, options = subject_of(), SamplingOptions(temperature=0.8, top_p=0.9, max_new_tokens=12)
    whole, few = (tell(subject, options, 3, keep=keep, top=4) for keep in (99, 2))
    assert [each.choice for each in whole.passes] == [each.choice for each in few.passes]
    count = len(few.passes)
    kept = [each.number for each in few.passes if each.whole is not None]
    assert count > 4
    assert set(kept) == {0, few.openest.number, count - 2, count - 1}
    for each in whole.passes:
        assert each.choice.top[0] == (int(each.whole.logits.argmax()), float(each.whole.stages[0].chances.max()))


def test_a_state_that_is_off_is_a_gap(subject_of):
    """One pass of many, beyond the first places that are compared; and a pass too few."""
    subject = subject_of(max_positions=64)
    told = tell(subject, SamplingOptions("greedy", max_new_tokens=24), 0)
    assert cache_gap(subject.model, told) < 1e-12
    told.states[20] = told.states[20] * 1.01
    assert cache_gap(subject.model, told) > 1e-4
    told.states[20] = told.states[20] * float("nan")
    assert not cache_gap(subject.model, told) <= 1.0
    told.states.pop()
    assert not cache_gap(subject.model, told) <= 1.0
