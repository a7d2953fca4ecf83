"""Beam search beyond what tests/traps/test_28 shows: limits, ends, odd vocabularies, and its way from text to text."""

import pytest
import torch
from torch import nn

from instar.config import InputError
from instar.config.options import SamplingOptions
from instar.infer import beam as beam_file
from instar.infer.beam import beam_search
from instar.infer.engine import Engine
from instar.infer.sampling import check, describe
from instar.infer.text import complete, generate, sampling_options, stream


def beam(width=3, **rules):
    return SamplingOptions(strategy="beam", beams=width, **dict(max_new_tokens=8) | rules)


class Only(nn.Module):
    """A head that leaves nothing but a few tokens."""

    def __init__(self, head, ids):
        super().__init__()
        self.head, self.ids = head, ids

    def forward(self, hidden):
        logits = self.head(hidden)
        kept = torch.full_like(logits, -torch.inf)
        kept[..., self.ids] = logits[..., self.ids]
        return kept


def test_the_best_come_first(make_model):
    """n answers, all different, best first; fewer are the first of more."""
    (found,) = beam_search(make_model(), [[1, 2, 3]], beam(5), n=5)
    assert len({tuple(answer.ids) for answer in found}) == 5
    assert [answer.score for answer in found] == sorted((answer.score for answer in found), reverse=True)
    assert beam_search(make_model(), [[1, 2, 3]], beam(5), n=2) == [found[:2]]
    assert beam_search(make_model(), [], beam(5)) == []


def test_more_beams_find_likelier_answers(make_model):
    """By the sum of log-probabilities, what 8 beams find is never less likely than what 1 finds, and here more."""
    prompts = [[n, n + 1] for n in range(12)]
    one, many = (beam_search(make_model(), prompts, beam(width, length_penalty=0.0)) for width in (1, 8))
    gains = [b.score - a.score for (a,), (b,) in zip(one, many)]
    assert max(gains) > 0.1
    assert sum(gain > 0 for gain in gains) > sum(gain < 0 for gain in gains)


@pytest.mark.parametrize("stops", [[7], [7, 30, 12], list(range(0, 61, 3))])
def test_shortest_and_longest_answers(make_model, stops):
    """No stop before min_new_tokens are said, none behind max_new_tokens, and no stop among the ids, however many."""
    prompts = [[1], [2, 3], [9] * 7]
    found = beam_search(make_model(), prompts, beam(4, min_new_tokens=3, max_new_tokens=6), n=4, stops=stops)
    answers = [answer for best in found for answer in best]
    assert {len(answer.ids) for answer in answers} <= {3, 4, 5, 6}
    assert not {id for answer in answers for id in answer.ids} & set(stops)
    assert all((len(answer.ids) == 6) == (answer.finish == "length") for answer in answers)
    if len(stops) > 3:
        assert min(len(answer.ids) for answer in answers) == 3
        free = beam_search(make_model(), prompts, beam(4, max_new_tokens=6), n=4, stops=stops)
        assert min(len(answer.ids) for best in free for answer in best) < 3


def test_a_vocabulary_smaller_than_the_beams(make_model):
    """20 beams over 3 tokens, of which one has no chance: every answer is found, and none with that token."""
    model = make_model(vocab_size=3)
    model.heads["lm"] = Only(model.heads["lm"], [0, 2])
    (found,) = beam_search(model, [[1]], beam(20, max_new_tokens=3), n=8)
    assert sorted(answer.ids for answer in found) == [[a, b, c] for a in (0, 2) for b in (0, 2) for c in (0, 2)]
    with pytest.raises(InputError, match=r"n=9 answers are wanted, but to prompt 0 there are only 8 of at most 3 tok"):
        beam_search(model, [[1]], beam(20, max_new_tokens=3), n=9)


def test_logits_that_are_no_numbers(make_model):
    """Damaged weights are an error, not an answer."""
    model = make_model()
    with torch.no_grad():
        model.heads["lm"].weight[5] = float("nan")
    with pytest.raises(InputError, match="logits are not numbers"):
        beam_search(model, [[1]], beam())


def test_memory_is_bounded(make_model, monkeypatch):
    """Never more rows than slots, nor than the prompts need, as long as the longest; one prompt may need more."""
    made = []

    def watched(*model, **sizes):
        made.append((sizes["slots"], sizes["capacity"]))
        return Engine(*model, **sizes)

    monkeypatch.setattr(beam_file, "Engine", watched)
    prompts = [[1] * n for n in (1, 9, 3, 7, 5)]
    for count, slots in ((5, 9), (5, 40), (2, 1)):
        assert len(beam_search(make_model(), prompts[:count], beam(4), slots=slots)) == count
    assert made == [(8, 16), (20, 16), (4, 16)]


def test_half_precision_is_summed_in_single(make_model):
    """Sums of bf16 log-probabilities would tie; scores are those of the same logits in fp32."""
    model = make_model().float()
    model.compute = torch.bfloat16
    (found,) = beam_search(model, [[1, 2]], beam(length_penalty=0.0), n=3)
    for answer in found:
        assert answer.score == pytest.approx(sum(answer.logprobs), abs=1e-5)
        assert torch.tensor(answer.score).to(torch.bfloat16).item() != answer.score


def test_a_model_in_training_goes_on_in_training(make_model):
    """Without dropout, and afterwards as it was."""
    model = make_model(dropout=0.5)
    wanted = beam_search(model.eval(), [[1, 2]], beam())
    assert beam_search(model.train(), [[1, 2]], beam()) == wanted
    assert model.training


def test_what_is_refused(make_model):
    """Before any work, by name: too many answers, prompts that cannot be."""
    model = make_model()
    with pytest.raises(InputError, match="n=4, wanted from 1 to beams=3; ask for fewer answers or for more beams"):
        beam_search(model, [[1]], beam(), n=4)
    with pytest.raises(InputError, match="the prompt is empty"):
        beam_search(model, [[1], []], beam())
    with pytest.raises(InputError, match="the model reads 48; ask for at most 39"):
        beam_search(model, [[1] * 10], beam(max_new_tokens=40))
    assert len(beam_search(model, [[1] * 10], beam(max_new_tokens=39))[0][0].ids) == 39


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (dict(strategy="beam", temperature=0.7), "strategy=beam does not heed temperature=0.7; leave it out"),
        (dict(strategy="beam", top_k=3, top_p=0.9), "does not heed top_k=3, top_p=0.9"),
        (dict(strategy="beam", repetition_penalty=1.2), "does not heed repetition_penalty=1.2"),
        (dict(strategy="beam", stop=("x",)), "does not heed stop="),
        (dict(strategy="sample", beams=6), "strategy=sample does not heed beams=6; say strategy beam"),
        (dict(strategy="greedy", length_penalty=0.0), "does not heed length_penalty=0.0"),
        (dict(strategy="beam", beams=0), "beams=0, wanted a whole number from 1 to 4096"),
        (dict(strategy="beam", length_penalty=99.0), "length_penalty=99.0, wanted a number from -10 to 10"),
        (dict(strategy="beam", early_stopping="fll"), "unknown sampling.early_stopping fll; did you mean full?"),
        (dict(min_new_tokens=9, max_new_tokens=8), "min_new_tokens=9 is above max_new_tokens=8"),
    ],
)
def test_rules_that_make_no_sense_together(rules, message):
    """Nothing that was asked for is dropped silently."""
    with pytest.raises(InputError) as error:
        check(SamplingOptions(**rules))
    assert message in str(error.value)


def test_rules_of_beam_search_mean_to_search():
    """As a rule of drawing means to draw; stopping may be said as transformers says it."""
    assert sampling_options(beams=2) == SamplingOptions(strategy="beam", beams=2)
    assert sampling_options(early_stopping=True).early_stopping == "full"
    assert sampling_options(early_stopping=False) == SamplingOptions(strategy="beam")
    assert describe(sampling_options(beams=2)) == "2 beams, length penalty 1, early stopping likely"
    assert describe(beam(min_new_tokens=2)).endswith(", at least 2 tokens")


def test_from_text_to_text(tokenizer, make_model):
    """The n best answers to each prompt, as texts, with scores; a stream gives the best in one piece."""
    model = make_model(vocab_size=tokenizer.vocab_size)
    answers = complete(model, tokenizer, ["Anna", "Tom had"], beam(), n=2)
    ids = [tokenizer.prompt(text) for text in ("Anna", "Tom had")]
    found = [answer for best in beam_search(model, ids, beam(), n=2, stops=tokenizer.stops) for answer in best]
    assert [(a.ids, a.finish) for a in answers] == [(a.ids, a.finish) for a in found]
    for answer, best in zip(answers, found):
        assert [answer.score, *answer.logprobs] == pytest.approx([best.score, *best.logprobs], abs=1e-12)
    assert [a.text for a in answers] == [tokenizer.decode(a.ids, continues=True) for a in found]
    assert generate(model, tokenizer, "Anna", beams=3, n=2, max_new_tokens=8) == [a.text for a in answers[:2]]
    assert list(stream(model, tokenizer, "Anna", options=beam())) == [answers[0].text]
    with pytest.raises(InputError, match="n=5, wanted from 1 to beams=4"):
        generate(model, tokenizer, "Anna", strategy="beam", n=5)
    with pytest.raises(InputError, match="the model reads 48"):
        stream(model, tokenizer, "Anna had a red ball. " * 9, options=beam())


def test_shortest_answers_of_the_engine(make_model):
    """min_new_tokens holds for greedy and drawn answers too, row by row, and changes no log-probability."""
    model = make_model()
    free = Engine(model)
    first = free.submit([1, 2], SamplingOptions(strategy="greedy", max_new_tokens=1))
    free.run()
    engine = Engine(model, stops=first.ids)
    held = engine.submit([1, 2], SamplingOptions(strategy="greedy", min_new_tokens=4, max_new_tokens=6))
    drawn = engine.submit([1, 2], SamplingOptions(min_new_tokens=6, max_new_tokens=6))
    ended = engine.submit([1, 2], SamplingOptions(strategy="greedy", max_new_tokens=6))
    engine.run()
    assert (ended.ids, ended.finish) == ([], "stop")
    assert len(held.ids) >= 4
    assert (len(drawn.ids), drawn.finish) == (6, "length")
    assert not set(held.ids) & set(first.ids)
    with torch.no_grad():
        chances = model(torch.tensor([[1, 2]]))[0, -1].log_softmax(-1)
    assert held.logprobs[0] == pytest.approx(float(chances[held.ids[0]]), abs=1e-10)
