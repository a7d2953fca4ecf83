"""Scores of heads on models built by hand, where every answer is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from instar.batch import View
from instar.config import InputError, ModelConfig
from instar.model.transformer import Transformer
from instar.probe.capture import capture
from instar.probe.copying import copying
from instar.probe.heads import labels, profile, profile_of
from instar.probe.repeats import probe_set
from instar.text.tokenizer import Tokenizer


def blank(**shape):
    """A model whose weights are all 0, without norms."""
    shape = dict(vocab_size=24, d_model=8, layers=1, heads=1, max_positions=64, norm="none", tied=False) | shape
    model = Transformer(ModelConfig(**shape))
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
    return model


def looking(weights, tokens=None, **shape):
    """A trace of one layer whose heads share out as told: weights (H, T, S)."""
    heads, count, _ = weights.shape
    model = blank(heads=heads, d_model=2 * heads, head_size=2, **shape)
    trace = capture(model, torch.arange(count)[None] % 24 if tokens is None else torch.tensor([tokens]))
    (seam,) = trace.own.attended
    trace.own.attended = [replace(seam, mask=scores(weights, causal=trace.own.causal), causal=False)]
    return trace


def scores(weights, *, causal=False):
    """What to add to scores of 0 so that they become these weights; -inf in the future alone, which is not visible."""
    mask = weights.clamp(min=1e-30).log()
    future = torch.ones(weights.shape[-2:]).triu(1) > 0
    return mask.masked_fill(future, -torch.inf)[None] if causal else mask[None]


def ahead(count, offset):
    """Every row looks `offset` back, and at the first key where there is none."""
    weights = torch.zeros(1, count, count)
    for place in range(count):
        weights[0, place, max(0, place - offset)] = 1.0
    return weights


@pytest.mark.parametrize(("strength", "score"), [(1, 0.589), (4, 0.975), (16, 1.0)])
def test_a_head_made_of_sinusoids_looks_at_the_token_before(strength, score):
    """Known answer "Sinusoid previous-token head": W_Q = b Shift(-1), W_K = I give 0.589, 0.975, 1.000."""
    model = blank(d_model=64, head_size=64, positions="sinusoidal", score_size=1.0)
    attention = model.blocks[0].attention
    waves = 10000.0 ** (-torch.arange(0, 64, 2) / 64)
    shift = torch.zeros(64, 64)
    for pair, wave in enumerate(waves):
        sin, cos = wave.sin(), wave.cos()
        shift[2 * pair : 2 * pair + 2, 2 * pair : 2 * pair + 2] = torch.tensor([[cos, -sin], [sin, cos]])
    with torch.no_grad():
        attention.q.weight.copy_(strength * shift)
        attention.k.weight.copy_(torch.eye(64))
    trace = capture(model, torch.zeros(1, 64, dtype=torch.long))
    assert trace.own.attended[0].weights()[0, 0].diagonal(-1).mean().item() == pytest.approx(score, abs=6e-4)
    found = profile_of(trace)
    assert found.scores["previous"].item() == pytest.approx(score, abs=6e-4)
    assert found.scores["positional"].item() == 1.0
    assert found.offsets.item() == 1


def test_two_layers_built_by_hand_repeat_what_they_read(induction):
    """Known answer "Two-layer hand-built induction model": previous 1.0, induction 1.0, and all of the second half
    right."""
    model = induction
    found = profile(model, length=8, samples=2)
    assert found.scores["previous"][0, 0] == pytest.approx(1.0, abs=1e-6)
    assert found.scores["induction"][1, 0] == pytest.approx(1.0, abs=1e-6)
    assert labels(found) == [[["previous", "positional"]], [["induction", "copying"]]]
    assert found.best("induction") == (pytest.approx(1.0, abs=1e-6), 1, 0)
    _, tokens, _ = probe_set(model, length=8, samples=1)
    assert len(set(tokens[0, :9].tolist())) == 9
    assert tokens[0, 1:9].tolist() == tokens[0, 9:].tolist()
    said = capture(model, tokens).logits().argmax(-1)
    assert said[0, 9:-1].tolist() == tokens[0, 10:].tolist()
    assert said[0, 1:8].tolist() != tokens[0, 2:9].tolist()


@pytest.mark.parametrize("shape", [{}, {"windows": (5, 0)}, {"causal": False}, {"positions": "learned", "kv_heads": 1}])
def test_a_head_that_looks_everywhere_alike_scores_its_chance(shape):
    """Known answer "Uniform head": entropy 1, every score what chance gives, no label; also within a window."""
    found = profile(blank(layers=2, heads=2, d_model=16, **shape), length=10, samples=2)
    assert found.scores["entropy"] == pytest.approx(np.ones((2, 2)), abs=1e-6)
    for name in set(found.scores) - {"positional", "copying"}:
        assert found.scores[name] == pytest.approx(found.chance[name], abs=1e-6, nan_ok=True), name
    assert labels(found) == [[[], []], [[], []]]


def test_a_window_that_holds_no_pair_loses_its_own_layer_alone():
    """Induction over 10 tokens is out of sight of a window of 5: that layer has no number and no label, the other
    has."""
    found = profile(blank(layers=2, heads=2, d_model=16, windows=(5, 0)), length=10, samples=2)
    assert {name: found.blind(name) for name in ("induction", "duplicate", "previous")} == {
        "induction": [0], "duplicate": [0], "previous": [],
    }  # fmt: skip
    assert np.isfinite(found.scores["induction"][1]).all()
    assert found.best("induction")[1] == 1
    assert found.peaks["induction"][0].tolist() == [-1, -1]
    none = profile(blank(layers=2, heads=2, d_model=16, windows=(2, 2)), length=10, samples=2)
    assert "induction" not in none.scores


def test_the_sink_is_taken_out_of_a_score():
    """A head with 0.9 on the sink and 0.1 on the previous token scores 0.10 raw and 1.00 corrected, and is not idle."""
    weights = 0.1 * ahead(30, 1)
    weights[:, 1] = 0.1 * torch.eye(30)[1]
    weights[:, :, 0] += 0.9
    found = profile_of(looking(weights))
    assert found.raw["previous"].item() == pytest.approx(0.10, abs=1e-6)
    assert found.scores["previous"].item() == pytest.approx(1.00, abs=1e-6)
    assert found.scores["sink"].item() == pytest.approx(0.9, abs=1e-6)
    weights[:, 1:, 0] -= 0.1
    weights[:, 1:] += weights[:, 1:] * (torch.arange(30) > 0)
    assert labels(profile_of(looking(weights))) == [[["previous", "positional"]]]


def test_a_head_that_leaves_all_to_the_sink_is_idle_and_has_no_label():
    """Idle is a state on this text: with 0.95 on the sink the rest makes no label."""
    weights = 0.05 * ahead(30, 1)
    weights[:, :, 0] += 0.95
    found = profile_of(looking(weights))
    assert found.idle.item()
    assert labels(found) == [[[]]]
    with pytest.raises(InputError, match="idle"):
        found.best("previous")


def test_offsets_of_heads_that_look_further_back():
    """A head three back is called by its offset; one that looks at the same token as its own finds duplicates."""
    tokens = [5, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11]
    same = torch.zeros(1, 21, 21)
    for place in range(21):
        same[0, place, place - 10 if place > 10 else 0] = 1.0
    found = profile_of(looking(torch.cat([ahead(21, 3), same]), tokens))
    assert found.offsets[0].tolist() == [3, 10]
    assert labels(found)[0][0] == ["offset 3"]  # not positional: the first rows have no third token before them
    assert found.scores["duplicate"][0].tolist() == pytest.approx([0.0, 1.0])
    assert "duplicate" in labels(found)[0][1]
    assert found.strongest["duplicate"][0, 1].tolist()[1:] in [[n, n - 10] for n in range(11, 21)]
    assert found.peaks["duplicate"][0].tolist() == pytest.approx([0.0, 1.0])


def test_an_encoder_looks_ahead_as_well():
    """The next token is a score of encoders, and induction, which needs an order of reading, is none."""
    weights = torch.zeros(1, 20, 20)
    for place in range(20):
        weights[0, place, min(place + 1, 19)] = 1.0
    found = profile_of(looking(weights, causal=False, heads_of=("masked",)))
    assert found.scores["next"].item() == pytest.approx(1.0)
    assert found.offsets.item() == -1
    assert "induction" not in found.scores
    assert labels(found)[0][0][:2] == ["next", "positional"]


def test_rare_tokens_by_the_frequencies_of_a_corpus():
    """Known from the frequencies alone: a head on the one rare token scores 1, one on the first common one 0; texts in
    which all is equally frequent say nothing."""
    tokens = [0, 1, 2, 3, 4, 5, 6, 7]
    rare = torch.zeros(2, 8, 8)
    rare[:, :, 0] = 1.0
    rare[0, 2:] = torch.eye(8)[2]
    rare[1, 2:] = torch.eye(8)[1]
    often = torch.full((24,), 100)
    often[2] = 1
    trace = looking(rare, tokens)
    found = profile_of(trace, frequencies=often)
    assert found.scores["rare"][0].tolist() == [1.0, 0.0]
    assert "rare" not in profile_of(trace, frequencies=torch.full((24,), 7)).scores


def test_attention_to_a_source_has_an_alignment():
    """Cross-attention that reads the source in step has offset 0; it has neither previous tokens nor a distance."""
    model = blank(encoder_layers=1, start=0, d_model=8)
    trace = capture(model, torch.arange(12)[None], source=torch.arange(12)[None])
    trace.own.crossed = [replace(trace.own.crossed[0], mask=scores(torch.eye(12)[None]))]
    found = profile_of(trace, which="cross")
    assert (found.side, found.which, found.offsets.item()) == ("decoder", "cross", 0)
    assert found.scores["positional"].item() == pytest.approx(11 / 12)  # the row on the sink has nothing else
    assert not {"previous", "induction", "distance"} & set(found.scores)
    assert set(profile(model, which="cross", length=4).scores) >= {"sink", "entropy", "offset", "copying"}
    assert "copying" not in profile(model, side="encoder", length=4).scores


@pytest.mark.parametrize("heads_of", [("lm",), ("masked",)])
def test_copying_is_that_of_the_whole_circuit(heads_of):
    """Copying from the small matrix W_O W_U W_E W_V equals the eigenvalues of the full W_E W_V W_O W_U by brute force,
    with shared keys and with biases."""
    model = Transformer(
        ModelConfig(vocab_size=23, d_model=12, layers=2, heads=4, kv_heads=2, head_size=4, qkv_bias=True, bias=True,
                    heads_of=heads_of, causal=heads_of == ("lm",), tied=False),
        seed=3,
    )  # fmt: skip
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1)
    found = copying(model, capture(model, torch.arange(6)[None]).own)
    words = model.heads["lm"].weight if heads_of == ("lm",) else model.heads["masked"].out.weight
    for layer, block in enumerate(model.blocks):
        values, outputs = block.attention.v.weight.view(2, 4, 12), block.attention.out.weight.view(12, 4, 4)
        for head in range(4):
            full = model.embed.weight @ values[head // 2].T @ outputs[:, head].T @ words.T
            roots = np.linalg.eigvals(full.detach().double().numpy())
            assert found[layer, head].item() == pytest.approx(roots.real.sum() / np.abs(roots).sum(), abs=1e-4)


def test_no_control_token_is_drawn():
    """Random tokens are ones that text can give, behind what a text begins with and before what it ends with."""
    tokenizer = Tokenizer.train(["the cat sat on the mat. " * 3], 320, masks=True)
    model = blank(vocab_size=tokenizer.vocab_size, causal=False, heads_of=("masked",))
    _, tokens, sinks = probe_set(model, tokenizer, length=20, samples=3)
    begin, end = tokenizer.document("")
    assert (tokens[:, 0] == begin).all()
    assert (tokens[:, -1] == end).all()
    assert sinks.nonzero().flatten().tolist() == [0, tokens.shape[1] - 1]
    assert not set(tokens[:, 1:-1].flatten().tolist()) & set(tokenizer.specials.values())
    assert tokens[0, 1:21].tolist() == tokens[0, 21:41].tolist()
    assert tokens[1, 1:19].tolist() == tokens[1, 19:37].tolist()
    assert len(set(tokens[1, 1:-1].tolist())) == 22


def test_what_cannot_be_measured_is_said():
    """No room, no such side, padding, and a text of one token are told before or instead of a number."""
    with pytest.raises(InputError, match="max_positions=4"):
        profile(blank(max_positions=4))
    with pytest.raises(InputError, match="side=encoder"):
        profile(blank(), side="encoder")
    model, tokens = blank(), torch.arange(6)[None]
    padded = capture(model, tokens, view=View(keep=tokens < 4))
    with pytest.raises(InputError, match="padding"):
        profile_of(padded)
    with pytest.raises(InputError, match="longer"):
        profile_of(capture(model, tokens[:, :1]))
    with pytest.raises(InputError, match="no score duplicate"):
        profile_of(capture(model, tokens)).best("duplicate")


def test_the_same_seed_gives_the_same_scores():
    """The probe set depends on its seed alone."""
    model = Transformer(ModelConfig(vocab_size=40, d_model=16, layers=1, heads=2, max_positions=64))
    one, same, other = (profile(model, length=6, seed=seed) for seed in (0, 0, 1))
    assert np.array_equal(one.scores["induction"], same.scores["induction"])
    assert not np.array_equal(one.scores["induction"], other.scores["induction"])
