"""The tree of a beam search: every candidate that the engine weighed, and what became of it."""

from itertools import product

import pytest
import torch

from instar.config import InputError
from instar.config.options import SamplingOptions
from instar.infer.beam import beam_search
from instar.probe.beams import search, searching, summed
from instar.probe.telling import tell


def beam(width, **rules):
    return SamplingOptions("beam", beams=width, **dict(max_new_tokens=3) | rules)


def test_wide_enough_is_brute_force(subject_of):
    """Beam: width V^(n-1) = brute force: the answers are all V^n in order of Σ log p, and the sums are those of passes
    without a cache."""
    size = 4
    subject = subject_of(ids=[1, 2], vocab_size=size)
    found = search(subject, beam(size**2, length_penalty=0.0))
    sums = {}
    for said in product(range(size), repeat=3):
        logprobs = subject.model(torch.tensor([[1, 2, *said]])).detach().log_softmax(-1)[0]
        sums[said] = sum(float(logprobs[1 + n, id]) for n, id in enumerate(said))
    best = sorted(sums, key=sums.get, reverse=True)[: size**2]
    assert [tuple(answer.ids) for answer in found.answers] == best
    assert [found.nodes[end].total for end in found.ends] == pytest.approx([sums[said] for said in best])


def test_width_1_is_greedy(subject_of):
    """Beam: width 1 = greedy, token by token."""
    subject = subject_of()
    narrow = search(subject, beam(1, max_new_tokens=10, early_stopping="full"))
    assert narrow.answers[0].ids == tell(subject, SamplingOptions("greedy", max_new_tokens=10), 0).ids


@pytest.mark.parametrize("shape", ["decoder", "encoder-decoder"])
def test_the_tree_is_the_search(subject_of, shape):
    """Its answers are those of a search that nobody hears; each ends at a node that spells it, with its score; as many
    nodes as beams go on at each step; sum = Σ log p."""
    subject, options = subject_of(shape), beam(3, max_new_tokens=7, length_penalty=0.7)
    found = search(subject, options)
    source = [[token.id for token in subject.source]] if subject.source else None
    prompt = [] if source else [token.id for token in subject.tokens]
    stops = subject.tokenizer.stops
    (alone,) = beam_search(subject.model, [prompt], options, sources=source, n=3, stops=stops)
    assert [(a.ids, a.score) for a in alone] == [(a.ids, a.score) for a in found.answers]
    for answer, end in zip(found.answers, found.ends):
        node, path = found.nodes[end], found.path(end)
        assert path[: len(answer.ids)] == answer.ids
        assert len(path) == len(answer.ids) + (answer.finish == "stop") == node.depth
        assert answer.score == pytest.approx(node.total / node.depth**0.7) == pytest.approx(node.score)
        assert summed(subject.model, found, end)[0] == pytest.approx(node.total)
    assert [found.nodes[end].state for end in found.ends] == ["best", "done", "done"]
    for depth in range(1, max(node.depth for node in found.nodes)):
        assert sum(node.state == "kept" for node in found.nodes if node.depth == depth) == 3
    for number, node in enumerate(found.nodes):
        assert node.parent < number
        before = found.nodes[node.parent].total if node.parent >= 0 else 0.0
        assert node.total == pytest.approx(before + node.logprob)
    assert all(found.nodes[n.parent].state == "kept" for n in found.nodes if n.parent >= 0)


def test_answers_that_end(subject_of):
    """Where a token ends an answer, the stop is a node of the tree and no id of the answer."""
    subject = subject_of()
    third = tell(subject, SamplingOptions("greedy", max_new_tokens=3), 0).ids[2]
    with torch.no_grad():  # as likely as the third token, and a little more
        weight = subject.model.heads["lm"].weight
        weight[subject.tokenizer.eos] = 1.01 * weight[third]
    found = search(subject, beam(4, max_new_tokens=6))
    stopped = [n for n, answer in enumerate(found.answers) if answer.finish == "stop"]
    assert stopped
    for n in stopped:
        assert found.nodes[found.ends[n]].id == subject.tokenizer.eos
        assert subject.tokenizer.eos not in found.answers[n].ids
        assert found.path(found.ends[n])[:-1] == found.answers[n].ids


def test_what_is_asked_becomes_a_search():
    """Rules of drawing that a search does not heed are named; figures out of range are refused."""
    options, notes = searching(SamplingOptions(temperature=0.5, beams=3, max_new_tokens=9))
    assert (options.strategy, options.beams, options.temperature) == ("beam", 3, 1.0)
    assert "temperature" in notes[0].en
    assert searching(beam(3)) == (beam(3), [])
    with pytest.raises(InputError, match="beams"):
        searching(SamplingOptions(beams=0))
