"""The view of the loop."""

from dataclasses import replace

import pytest

from instar.config import InputError
from instar.config.options import SamplingOptions
from instar.config.options.inspecting import InspectOptions
from instar.probe import telling
from instar.probe.look import Look
from instar.probe.panel import Flow, Lines, Table
from instar.probe.views import generation as module
from instar.probe.views.generation import generation

DRAWN = SamplingOptions(temperature=0.8, top_k=20, top_p=0.9, max_new_tokens=6)


@pytest.mark.parametrize("shape", ["decoder", "windows", "encoder-decoder"])
@pytest.mark.parametrize("sampling", [DRAWN, SamplingOptions("greedy", max_new_tokens=4)])
def test_green_on_every_shape(subject_of, shape, sampling):
    """The text is what `generate` says with the seed, every token the engine's, cached = uncached at every step; and a
    row for each step."""
    panel = generation(Look(subject_of(shape), InspectOptions(sampling=sampling, seed=2)))
    wanted = {"engine", "generate", "cached", "probabilities"}
    wanted |= {"top_p", "luck"} if sampling is DRAWN else set()
    assert {check.name for check in panel.checks} == wanted
    assert panel.green, panel.checks
    steps = panel.data["steps"]
    assert [step["step"] for step in steps] == list(range(len(steps)))
    assert [step["phase"] for step in steps] == ["prefill"] + ["decode"] * (len(steps) - 1)
    assert steps[-1]["finish"] in ("stop", "length")
    assert panel.arrays["logits"].shape == panel.arrays["chances"].shape
    assert len(panel.arrays["cache_bytes"]) == len(steps)
    flow, table, lines = (next(f for f in panel.figures if isinstance(f, kind)) for kind in (Flow, Table, Lines))
    names = [name.en for name, _ in flow.steps]
    assert names[:6] == ["prompt", "tokens", "embedding", "layers", "head", "softmax"]
    assert names[-3:] == ["cache", "again", "end"]
    assert len(table.rows) == len(steps) == len(lines.x)


def test_chat_masks_and_ids(subject_of, talker):
    """A user's message, and ids without a tokenizer, are answered as `generate` answers them."""
    from instar import load
    from instar.probe.subject import read

    model, tokenizer = load(talker / "model")
    asked = InspectOptions(chat=True, sampling=SamplingOptions(max_new_tokens=4))
    assert generation(Look(read(model, tokenizer, "Who likes Ada?", chat=True), asked)).green
    assert generation(Look(subject_of(ids=[1, 2], vocab_size=9), InspectOptions(sampling=DRAWN))).green
    masked = subject_of(text="Anna <|mask|> a")
    assert generation(Look(masked, InspectOptions(sampling=DRAWN))).green


def test_what_is_shortened_and_kept(subject_of, monkeypatch):
    """An answer that the model has no room for is shortened and that is said; of very many logits the last are kept."""
    monkeypatch.setattr(module, "MOST_NUMBERS", 5 * 384)
    panel = generation(Look(subject_of(max_positions=24), InspectOptions(sampling=SamplingOptions("greedy"))))
    assert any("has room for" in note.en for note in panel.notes)
    kept = len(panel.arrays["logits"])
    assert kept == 5 * 384 // panel.arrays["logits"].shape[1]
    assert panel.data["logits_from"] + kept == len(panel.data["steps"])


def test_an_encoder_is_refused(subject_of):
    """It cannot continue a text."""
    with pytest.raises(InputError, match="encoder"):
        generation(Look(subject_of("encoder"), InspectOptions(sampling=DRAWN)))


def red(subject, **ask):
    panel = generation(Look(subject, InspectOptions(sampling=DRAWN, **ask)))
    return {check.name for check in panel.checks if not check.green}


def test_a_wrong_kernel_is_red(subject_of):
    """A product that is wrong for single tokens, as decoding has them, is seen in the logits."""
    subject = subject_of()
    v = subject.model.blocks[0].attention.v
    hook = v.register_forward_hook(lambda module, given, y: y if y.shape[1] > 1 else 1.01 * y)
    assert "cached" in red(subject)
    hook.remove()


def test_another_seed_is_red(subject_of, monkeypatch):
    """Where the view were to answer with another seed than it says, its text is not that of `generate`."""
    right = telling.tell
    monkeypatch.setattr(module, "tell", lambda subject, options, seed, **how: right(subject, options, seed + 1, **how))
    assert "generate" in red(subject_of(), seed=0)


def test_another_luck_is_red(subject_of, monkeypatch):
    """Where the view were to draw by another number than the engine, its tokens are not the engine's."""
    right = telling.choose
    monkeypatch.setattr(
        telling, "choose", lambda logits, options, state: right(logits, options, state._replace(luck=0.0))
    )
    assert "engine" in red(subject_of(), seed=1)


def test_no_chip_is_shown_of_what_is_not_computed(subject_of):
    """An encoder-decoder that goes on from ids has nothing of `generate` to be held against: a note, and no check."""
    from instar.probe.subject import read_ids

    model = subject_of("encoder-decoder").model
    panel = generation(Look(read_ids(model, [1, 5, 6], [7, 8]), InspectOptions(sampling=DRAWN)))
    assert "generate" not in {check.name for check in panel.checks}
    assert panel.green
    assert module.UNASKED in panel.notes


def test_it_begins_as_generate_does(subject_of):
    """Without a word of sampling it says what `instar generate` says, and how that was drawn."""
    from instar.config.options import GenerateOptions
    from instar.infer.text import complete

    subject, ask, usual = subject_of(), InspectOptions(), GenerateOptions().sampling
    assert ask.sampling == usual
    panel = generation(Look(subject, ask))
    usual = replace(usual, max_new_tokens=len(panel.data["ids"]))  # the context ends before usual's 128
    (answer,) = complete(subject.model, subject.tokenizer, [subject.text], usual, seed=ask.seed)
    assert panel.data["ids"] == answer.ids
    assert any("temperature 0.8, top p 0.95; seed 0" in note.en for note in panel.notes)
    assert any("温度 0.8，top-p 0.95；种子 0" in note.zh for note in panel.notes)


def test_steps_are_held_against_their_own(subject_of):
    """Each row is of what was said before it; two answers are subtracted up to the first token that differs."""
    from instar.probe.compare import compare

    subject = subject_of()
    one, other = (generation(Look(subject, InspectOptions(sampling=DRAWN, seed=seed))) for seed in (2, 5))
    ids = [[step["id"] for step in panel.data["steps"]] for panel in (one, other)]
    shared = next(n for n, (a, b) in enumerate(zip(*ids)) if a != b)
    found = compare(one, other, ("a", "b"))
    assert len(found.arrays["difference/logits"]) == shared + 1
    assert not found.arrays["difference/logits"][0].any()
