"""The view of attribution."""

import numpy as np
import pytest
import torch

from instar.config import InputError
from instar.config.options.inspecting import InspectOptions
from instar.model.attention import Attend
from instar.probe import attribution as credits
from instar.probe.look import Look
from instar.probe.panel import Bars, Strip
from instar.probe.views import attribution as viewed
from instar.probe.views.attribution import attribution

METHODS = ["gradient-attention", "gradient-input", "integrated", "occlusion", "direct"]


def asked(subject, **ask):
    return attribution(Look(subject, InspectOptions(**ask)))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", ["decoder", "windows", "encoder", "encoder-decoder"])
def test_green_on_every_shape(subject_of, monkeypatch, shape, method):
    """Every method, of every shape: all checks are green, own and source tokens have their strips, and the referee
    stands beside what was asked."""
    subject = subject_of(shape)
    monkeypatch.setattr(viewed, "JUDGED", 0)
    panel = asked(subject, method=method)
    assert panel.green, panel.checks
    names = {check.name for check in panel.checks}
    assert names >= {"direct": {"direct"}, "integrated": {"completeness"}, "gradient-attention": {"gradient"}}.get(
        method, {f"explained {method}"}
    )
    assert ("later" in names) == (shape != "encoder" and method != "direct")
    assert panel.arrays["occlusion" if method == "direct" else "shares"].shape == (len(subject.tokens),)
    strips = [figure for figure in panel.figures if isinstance(figure, Strip)]
    sides = 2 if shape == "encoder-decoder" else 1
    assert len(strips) == sides * (1 if method in ("direct", "occlusion") else 2)
    assert set(panel.data["faithfulness"]) == {method} - {"direct", "occlusion"}
    assert isinstance(panel.figures[-1], Strip if method in ("direct", "occlusion") else Bars)
    assert all(x.dtype == np.float32 for x in panel.arrays.values())


def test_what_is_explained_can_be_said(subject_of, splitting):
    """A text's first token, a control token's name, a place; without a tokenizer an id, and nothing else."""
    subject = subject_of()
    panel = asked(subject, explain="Anna had", at=2, method="gradient-input")
    assert panel.data["target"]["id"] == splitting.encode("Anna had")[0]
    assert panel.data["at"] == 2
    first = panel.data["target"]["piece"]
    assert any(note.en.endswith(f"the first, {first!r}, is explained.") for note in panel.notes)
    trace = subject.capture()
    assert panel.data["logit"] == pytest.approx(float(trace.logits()[0, 2, panel.data["target"]["id"]]))
    name, id = next(iter(splitting.specials.items()))
    assert asked(subject, explain=name, method="gradient-input").data["target"] == {"id": id, "piece": name}
    numbers = subject_of(ids=[3, 5, 7], vocab_size=9)
    assert asked(numbers, explain="4", method="gradient-input").data["target"]["id"] == 4
    for explain, said in (("x", "wanted the id"), ("9", "id=9, wanted 0 to 8")):
        with pytest.raises(InputError, match=said):
            asked(numbers, explain=explain)
    with pytest.raises(InputError, match="side=encoder"):
        asked(subject_of("encoder-decoder"), side="encoder")
    with pytest.raises(InputError, match="no head says tokens"):
        asked(subject_of(heads_of=("score",)))


def test_an_encoder_is_asked_about_its_hole(subject_of, splitting):
    """Without a place it is the first mask, not the end."""
    mask = next(name for name, id in splitting.specials.items() if id == splitting.mask)
    subject = subject_of("encoder", f"Anna had a {mask} ball.")
    at = asked(subject, method="gradient-input").data["at"]
    assert subject.tokens[at].id == splitting.mask
    assert asked(subject, method="gradient-input", at=1).data["at"] == 1


def test_a_short_text_tells_how_far_to_believe_each_method(subject_of):
    """The meter: the correlation of ranks with occlusion, of every method that credits tokens."""
    subject = subject_of()
    found = asked(subject, method="occlusion").data["faithfulness"]
    assert set(found) == {"gradient-attention", "gradient-input", "integrated"}
    trace = subject.capture()
    wanted = credits.aim(trace)
    for name, rho in found.items():
        judged = viewed.METHODS[name](trace, wanted)
        assert rho == credits.faithfulness(judged, credits.occlusion(trace, wanted), wanted, causal=True)


def test_one_token_and_a_long_text(subject_of, monkeypatch):
    """One token has its share and no correlation; a text that is too long is not occluded unless that is asked for."""
    alone = asked(subject_of(ids=[3], vocab_size=9))
    assert alone.green
    assert set(alone.data["faithfulness"].values()) == {None}
    monkeypatch.setattr(viewed, "REFEREED", 3)
    long = asked(subject_of(), method="integrated")
    assert "occlusion" not in long.arrays
    assert viewed.UNREFEREED in long.notes
    assert long.data["faithfulness"] == {}
    assert "shares" in asked(subject_of(), method="occlusion").arrays


def test_an_integral_cut_short_is_red(subject_of, monkeypatch):
    """Completeness: with too few steps the gap is shown, and not hidden."""
    monkeypatch.setitem(viewed.METHODS, "integrated", lambda *given: credits.integrated(*given, limit=0.0, most=1))
    monkeypatch.setattr(credits, "FIRST_STEPS", 1)
    red = [check.name for check in asked(subject_of()).checks if not check.green]
    assert red == ["completeness"]


def test_that_experts_jump_is_said(subject_of):
    """Where experts are chosen the way has jumps, and a completeness gap is explained beside its check."""
    experts = {"experts": 3, "experts_used": 1}
    assert viewed.JUMPING in asked(subject_of(ids=[3, 5], vocab_size=9, **experts)).notes
    assert viewed.JUMPING not in asked(subject_of(ids=[3, 5], vocab_size=9)).notes


def test_a_gradient_that_is_none_is_red(subject_of, monkeypatch):
    """Gradient x attention: slopes that are not what the logit does, here half of them, are caught by trying one."""
    right = credits.routes

    def halved(*given, **more):
        routed, value = right(*given, **more)
        return [route._replace(slope=route.slope / 2) for route in routed], value

    monkeypatch.setattr(credits, "routes", halved)
    monkeypatch.setattr(viewed, "routes", halved)
    red = [check.name for check in asked(subject_of(), method="gradient-attention").checks if not check.green]
    assert red == ["gradient"]


def test_small_slopes_in_fp32_are_green(subject_of):
    """Gradient x attention: where attention hardly moves the logit, rounding in fp32 is no fault of the gradient."""
    subject = subject_of()
    model = subject.model.float()
    with torch.no_grad():
        for block in model.all_blocks():
            block.attention.out.weight *= 1e-5
    assert asked(subject, method="gradient-attention").green


def test_experts_have_no_check_of_completeness(subject_of):
    """Experts change at a stroke on the way: how far shares do not add up is told, and proves nothing."""
    panel = asked(subject_of(experts=3), method="integrated")
    assert "completeness" not in {check.name for check in panel.checks}
    assert panel.data["completeness"]["gap"] >= 0
    assert viewed.JUMPING in panel.notes


@pytest.mark.parametrize(("method", "said"), [
    ("gradient-attention", "every weight of attention needs about 0.0 GB.* ask another method"),
    ("integrated", "a gradient for this text needs .* ask the method occlusion"),
])  # fmt: skip
def test_what_memory_does_not_hold_is_refused(subject_of, monkeypatch, method, said):
    """Before it is taken, with what is needed, what there is, and what to ask instead."""
    monkeypatch.setattr("instar.probe.memory.BUDGET", 1000)
    monkeypatch.setattr(viewed, "JUDGED", 0)
    with pytest.raises(InputError, match=said):
        asked(subject_of(), method=method)


def test_a_kernel_that_is_none_is_red(subject_of, monkeypatch):
    """A model whose kernel is not the attention that is drawn: what is explained is not what it said."""
    right = Attend.forward
    monkeypatch.setattr(Attend, "forward", lambda self, q, k, v, mask, causal: right(self, 2 * q, k, v, mask, causal))
    red = [check.name for check in asked(subject_of(), method="gradient-attention").checks if not check.green]
    assert red == ["explained gradient-attention"]


def test_a_leak_of_the_future_is_red(subject_of, monkeypatch):
    """A mask that lets the future in gives later tokens a share, and that is seen."""
    right = Attend.forward
    monkeypatch.setattr(Attend, "forward", lambda self, q, k, v, mask, causal: right(self, q, k, v, None, False))
    red = [check.name for check in asked(subject_of(), method="gradient-input", at=2).checks if not check.green]
    assert red == ["later"]
