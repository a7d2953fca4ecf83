"""The view of the next token."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from instar.config import InputError
from instar.config.options import SamplingOptions
from instar.config.options.inspecting import InspectOptions
from instar.infer.sampling import sampler, top_p
from instar.probe import telling
from instar.probe.look import Look
from instar.probe.views.next import next as next_view
from instar.probe.views.next import percent

DRAWN = SamplingOptions(temperature=0.8, top_p=0.9)


def look(subject, **ask):
    return Look(subject, InspectOptions(**ask))


@pytest.mark.parametrize("shape", ["decoder", "windows", "encoder-decoder"])
@pytest.mark.parametrize("at", [-1, 1])
def test_the_distribution_and_the_draw(subject_of, shape, at):
    """Sampler: Σp=1, the top-p set minimal, the token the engine's own; the logits those of the trace at that place,
    over the whole vocabulary, and the last stage what the rules give of them."""
    subject = subject_of(shape)
    asked = look(subject, sampling=DRAWN, at=at, seed=3)
    panel = next_view(asked)
    assert {check.name for check in panel.checks} == {"probabilities", "top_p", "luck", "engine", "cached"}
    assert panel.green, panel.checks
    own = asked.trace.logits()[0, asked.at]
    np.testing.assert_allclose(panel.arrays["logits"], own, rtol=1e-5, atol=1e-5)
    after = top_p(0.9)(own[None] / 0.8).softmax(-1)[0]
    np.testing.assert_allclose(panel.arrays["chances/min_p"], after, atol=1e-6)
    assert panel.data["chosen"]["u"] is not None
    assert panel.data["tokens"][0]["id"] == subject.tokens[0].id


def test_the_same_seed_draws_the_same(subject_of):
    """And another may draw another: the token is the sampler's for that luck."""
    subject = subject_of()
    found = {seed: next_view(look(subject, sampling=DRAWN, seed=seed)).data["chosen"] for seed in range(6)}
    assert next_view(look(subject, sampling=DRAWN, seed=2)).data["chosen"] == found[2]
    assert len({chosen["id"] for chosen in found.values()}) > 1
    logits = subject.capture().logits()[:, -1]
    for seed, chosen in found.items():
        generator = torch.Generator().manual_seed(seed)
        assert chosen["id"] == int(sampler(0.8, top_p(0.9), generator=generator)(logits))


def test_what_stands_at_the_masks(subject_of):
    """Of an encoder: the distribution at each mask, else at the place that is asked about; it draws nothing."""
    subject = subject_of("encoder", "Anna <|mask|> a <|mask|>.")
    panel = next_view(look(subject, top=3))
    assert panel.green
    places = [n for n, token in enumerate(subject.tokens) if token.id == subject.tokenizer.mask]
    assert [found["place"] for found in panel.data["masks"]] == places
    logits = subject.model(subject.ids)[0, places]
    np.testing.assert_allclose(panel.arrays["chances"], logits.detach().softmax(-1), atol=1e-6)
    assert panel.data["masks"][0]["top"][0]["id"] == int(logits[0].argmax())
    other = next_view(look(subject, at=0, sampling=DRAWN))
    assert [found["place"] for found in other.data["masks"]] == [0]
    assert any("does not draw" in note.en for note in other.notes)
    assert any("no mask" in note.en for note in next_view(look(subject_of("encoder"))).notes)


def test_ids_without_a_tokenizer(subject_of):
    """A text of one token, of a model whose tokenizer is not at hand."""
    panel = next_view(look(subject_of(ids=[4], vocab_size=11), sampling=SamplingOptions("greedy")))
    assert panel.green
    assert panel.data["chosen"]["piece"] == str(panel.data["chosen"]["id"])


def test_what_cannot_be(subject_of):
    """The encoder's side, rules that are malformed, ids that there are not, a model whose head says no tokens."""
    with pytest.raises(InputError, match="side=encoder"):
        next_view(look(subject_of("encoder-decoder"), side="encoder"))
    with pytest.raises(InputError, match="top_p"):
        next_view(look(subject_of(), sampling=SamplingOptions(top_p=2.0)))
    with pytest.raises(InputError, match="outside"):
        next_view(look(subject_of(), sampling=SamplingOptions(logit_bias=((9999, 1.0),))))
    with pytest.raises(InputError, match="no head says tokens"):
        next_view(look(subject_of(heads_of=("score",))))


def test_a_wrong_kernel_is_red(subject_of):
    """Values that are wrong where the engine reads them turn the check of the cache red."""
    subject = subject_of()
    asked = look(subject, sampling=DRAWN)
    assert asked.trace.tokens.shape[1] > 1
    hook = subject.model.blocks[0].attention.v.register_forward_hook(lambda module, given, y: 1.01 * y)
    red = {check.name for check in next_view(asked).checks if not check.green}
    hook.remove()
    assert red == {"cached"}


def test_a_token_that_is_not_the_engines_is_red(subject_of, monkeypatch):
    """As where the view were to draw by another number than the engine."""
    right = telling.choose
    monkeypatch.setattr(
        telling, "choose", lambda logits, options, state: right(logits, options, state._replace(luck=0.0))
    )
    panels = [next_view(look(subject_of(), sampling=replace(DRAWN, top_p=1.0), seed=seed)) for seed in range(4)]
    assert any(not panel.green for panel in panels)


def test_shares_for_the_eye():
    """Nothing for what was dropped, and never zero for what was not."""
    assert [percent(p) for p in (0.0, 1e-9, 0.031, 1.0)] == ["", "<0.1 %", "3.1 %", "100.0 %"]
