"""The view of a beam search."""

import pytest

from instar.config import InputError
from instar.config.options import SamplingOptions
from instar.config.options.inspecting import InspectOptions
from instar.infer.search import Batch
from instar.probe.look import Look
from instar.probe.panel import Tree
from instar.probe.views.beam import beam

FEW = SamplingOptions("beam", beams=3, max_new_tokens=6)


@pytest.mark.parametrize("shape", ["decoder", "encoder-decoder"])
def test_green_on_every_shape(subject_of, shape):
    """Beam: width 1 = greedy; sum = Σ log p; scores by the length penalty. The best answer's path is in the tree."""
    panel = beam(Look(subject_of(shape), InspectOptions(sampling=FEW)))
    assert {check.name for check in panel.checks} == {"sums", "scores", "width_1"}
    assert panel.green, panel.checks
    (tree,) = [figure for figure in panel.figures if isinstance(figure, Tree)]
    states = [state for *_, state in tree.nodes]
    assert states.count("best") == 1
    assert states.count("done") == 2
    assert {"kept", "pruned"} <= set(states)
    assert all(parent < number for number, (parent, *_) in enumerate(tree.nodes))
    assert len(panel.arrays["sums"]) == len(panel.data["nodes"]) >= len(tree.nodes)


def test_a_large_tree_is_drawn_in_part(subject_of):
    """The answers' own paths are always there, and what is left out is said."""
    panel = beam(Look(subject_of(), InspectOptions(sampling=SamplingOptions("beam", beams=8, max_new_tokens=14))))
    (tree,) = [figure for figure in panel.figures if isinstance(figure, Tree)]
    assert len(tree.nodes) <= 160 < len(panel.data["nodes"])
    assert sum(state in ("best", "done") for *_, state in tree.nodes) == 8
    assert any("leaves out" in note.en for note in panel.notes)


def test_what_is_asked_otherwise(subject_of):
    """Without strategy beam its figures hold all the same; an answer too long for the model is shortened; an encoder
    is refused. A model without a tokenizer is searched too."""
    panel = beam(
        Look(
            subject_of(max_positions=20),
            InspectOptions(sampling=SamplingOptions(beams=2, temperature=0.5, max_new_tokens=100)),
        )
    )
    assert panel.data["width"] == 2
    assert len(panel.notes) >= 2
    assert beam(Look(subject_of(ids=[3], vocab_size=9), InspectOptions(sampling=FEW))).green
    with pytest.raises(InputError, match="encoder"):
        beam(Look(subject_of("encoder"), InspectOptions(sampling=FEW)))


def test_a_wrong_search_is_red(subject_of, monkeypatch):
    """Keys that the engine reads wrong turn the sums red; scores over another length, the scores."""
    subject = subject_of()

    def red(subject):
        panel = beam(Look(subject, InspectOptions(sampling=FEW)))
        return {check.name for check in panel.checks if not check.green}

    v = subject.model.blocks[0].attention.v
    hook = v.register_forward_hook(lambda module, given, y: y if y.shape[:2] != (1, 3) else 1.05 * y)
    assert "sums" in red(subject)
    hook.remove()
    right = Batch._figures
    monkeypatch.setattr(Batch, "_figures", lambda self: right(self) * 1.1)
    assert "scores" in red(subject)


def test_one_beam_that_is_not_greedy_is_red(subject_of, monkeypatch):
    """As where the shortest answer were forgotten by one of the two."""
    from instar.infer.chooser import Chooser

    subject = subject_of()
    right = Chooser.choose
    monkeypatch.setattr(Chooser, "choose", lambda self, said, logits, masks: right(self, said, -logits, masks))
    panel = beam(Look(subject, InspectOptions(sampling=FEW)))
    assert "width_1" in {check.name for check in panel.checks if not check.green}


def test_a_wide_search_draws_a_dozen_answers(subject_of):
    """Of more answers the best paths alone are drawn, and that is said; one too wide to be drawn is refused."""
    panel = beam(Look(subject_of(), InspectOptions(sampling=SamplingOptions("beam", beams=20, max_new_tokens=8))))
    (tree,) = [figure for figure in panel.figures if isinstance(figure, Tree)]
    assert len(panel.data["answers"]) == 20
    assert sum(state in ("best", "done") for *_, state in tree.nodes) == 12
    assert any("Of 20 answers the paths of the 12 best" in note.en for note in panel.notes)
    with pytest.raises(InputError, match="at most 64"):
        beam(Look(subject_of(), InspectOptions(sampling=SamplingOptions("beam", beams=100))))


def test_usual_sampling_is_no_matter_of_a_search(subject_of):
    """What `generate` draws by unless told otherwise was not asked for, and no note says that it is not heeded."""
    asked = [InspectOptions(), InspectOptions(sampling=SamplingOptions(temperature=0.5))]
    subject = subject_of(max_positions=20)
    said = [any("does not heed" in note.en for note in beam(Look(subject, ask)).notes) for ask in asked]
    assert said == [False, True]
