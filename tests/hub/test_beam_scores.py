"""Beam search weighs answers as transformers does: the same answers with the same scores on the same weights."""

import pytest
import torch

from instar.config.options import SamplingOptions
from instar.hub.families import FAMILIES
from instar.hub.files import load_model
from instar.infer.beam import beam_search

PROMPTS = [[1, 2, 3], [5], [7, 8, 9, 10, 11, 12, 13], [60, 3, 3, 1]]
STOPPING = {"likely": False, "full": True, "never": "never"}
CASES = [
    # beams, length penalty, early stopping, stops, shortest
    (4, 1.0, "likely", [3], 0),
    (4, 1.0, "full", [3, 10, 20], 0),
    (3, 2.0, "never", [3, 10, 20], 0),
    (5, -1.0, "likely", [3, 10, 20], 3),
    (5, 0.0, "full", list(range(0, 61, 4)), 0),
    (7, 0.6, "never", list(range(0, 61, 4)), 2),
    (2, 1.0, "likely", list(range(0, 61, 4)), 4),
    # most tokens stop, so that beams often have no other, and each rule of stopping finds other answers
    *((3, 2.0, stopping, [id for id in range(61) if id % 3], 0) for stopping in STOPPING),
]


PAIRED = ("MarianMTModel", "BartForConditionalGeneration", "T5ForConditionalGeneration")


def search(folder, texts, case, **more):
    """Our answers to texts side by side."""
    beams, penalty, stopping, stops, least = case
    options = SamplingOptions(
        strategy="beam", beams=beams, length_penalty=penalty, early_stopping=stopping, min_new_tokens=least,
        max_new_tokens=9,
    )  # fmt: skip
    return beam_search(load_model(folder), texts, options, n=beams, stops=stops, **more)


def name_of(case):
    return " ".join(map(str, [*case[:3], len(case[3]), case[4]]))


def each(family, number):
    """Every day each family stops by each rule, and of the other cases each is tried with one family in turn; the rest
    with the slow tests."""
    case = CASES[number]
    rare = number < len(CASES) - len(STOPPING) and number % len(PAIRED) != family
    name = f"{PAIRED[family]}-{name_of(case)}"
    return pytest.param(PAIRED[family], case, id=name, marks=pytest.mark.slow if rare else ())


EACH = [each(family, number) for family in range(len(PAIRED)) for number in range(len(CASES))]


def theirs(model, prompt, beams, penalty, stopping, stops, least):
    """ids before the stop, and scores, of the best answers to a prompt, or to a source. Without a cache, which
    transformers makes too small where a T5's decoder has more layers than its encoder."""
    found = model.generate(
        torch.tensor([prompt]), num_beams=beams, num_return_sequences=beams, length_penalty=penalty,
        early_stopping=STOPPING[stopping], eos_token_id=stops, pad_token_id=0, min_new_tokens=least or None,
        max_new_tokens=9, do_sample=False, use_cache=False, return_dict_in_generate=True, output_scores=True,
    )  # fmt: skip
    begun = 1 if model.config.is_encoder_decoder else len(prompt)
    answers = found.sequences[:, begun:].tolist()
    ends = [next((place for place, id in enumerate(ids) if id in stops), len(ids)) for ids in answers]
    return [ids[:end] for ids, end in zip(answers, ends)], found.sequences_scores.tolist()


def check(model, texts, found, case):
    for text, best in zip(texts, found):
        ids, scores = theirs(model, text, *case)
        assert [answer.ids for answer in best] == ids
        assert [answer.score for answer in best] == pytest.approx(scores, abs=1e-4)


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_answers_and_scores_of_a_decoder(written, case):
    """Four prompts of four lengths side by side against each by itself."""
    folder, model = written("llama")
    check(model, PROMPTS, search(folder, PROMPTS, case), case)


@pytest.mark.parametrize(("architecture", "case"), EACH)
def test_answers_and_scores_of_an_encoder_decoder(written_pair, pair, architecture, case):
    """Three sources of three lengths side by side against each by itself, for every family that has an encoder."""
    assert {name for name, family in FAMILIES.items() if family.fixed.get("is_encoder_decoder") == (True,)} == {
        *PAIRED, "BartForSequenceClassification",
    }  # fmt: skip
    folder, model = written_pair(architecture)
    sources = [row[kept].tolist() for row, kept in zip(*pair[:2])]
    check(model, sources, search(folder, [[]] * len(sources), case, sources=sources), case)
