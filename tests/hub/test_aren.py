"""A real encoder-decoder of another program, OpenNMT, which writes Arabic names in Latin letters: 6 + 6 layers with
norms before, tensor2tensor's positions, and a vocabulary for each side."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from instar.batch import View
from instar.config import ModelConfig
from instar.config.options import SamplingOptions
from instar.infer.beam import beam_search
from instar.infer.engine import Engine
from instar.model.transformer import Transformer

START, END = 1, 2
SHAPE = ModelConfig(
    43, 32, 6, 8, encoder_layers=6, source_vocab_size=51, start=START, d_ff=128, norm="layer", norm_eps=1e-6,
    mlp="plain", act="relu", positions="sinusoidal_t2t", scaled_embed=True, qkv_bias=True, bias=True, head_bias=True,
    tied=False, max_positions=64,
)  # fmt: skip
PARTS = {
    "attention": "self_attention", "cross": "attention", "feed_forward": "ffn",
    "q": "linear_0", "k": "linear_1", "v": "linear_1", "out": "linear_2", "up": "linear_0", "down": "linear_1",
}  # fmt: skip
KINDS = {"weight": "gamma", "bias": "beta"}


def theirs(name):
    """Our name of a weight -> theirs, and which of the parts that lie in it by rows."""
    stack, _, rest = ("encoder." + name.removeprefix("encoder.")).partition(".")
    if not name.startswith("encoder."):
        stack, rest = "decoder", name
    *path, kind = rest.split(".")
    if rest.startswith("heads.lm"):
        return f"decoder.projection.{kind}", None
    if path == ["embed"]:
        return f"{stack}.embeddings.{kind}", None
    if path == ["norm"]:
        return f"{stack}.layer_norm.{KINDS[kind]}", None
    _, number, part, *layer = path
    if not layer:
        return f"{stack}.layer_{number}.{PARTS[part.removesuffix('_norm')]}.layer_norm.{KINDS[kind]}", None
    full = f"{stack}.layer_{number}.{PARTS[part]}"
    if part == "attention" and layer[0] in "qkv":
        return f"{full}.linear_0.{kind}", "qkv".index(layer[0])
    if part == "attention":
        return f"{full}.linear_1.{kind}", None
    return f"{full}.{PARTS[layer[0]]}.{kind}", {"k": 0, "v": 1}.get(layer[0])


@pytest.fixture(scope="module")
def aren(shared):
    """The model, its golden answers, and the letters of both sides."""
    folder = shared / "weights" / "aren-transliteration"
    if not folder.is_dir():
        pytest.skip("the real data is not here")
    weights, model = load_file(folder / "model.safetensors"), Transformer(SHAPE, seed=None)
    state, used = {}, set()
    for name, ours in model.state_dict().items():
        full, place = theirs(name)
        used.add(full)
        rows = len(ours)
        state[name] = weights[full] if place is None else weights[full][place * rows : (place + 1) * rows]
    model.load_state_dict(state)
    assert used == {name for name in weights if weights[name].is_floating_point() and weights[name].ndim}
    golden = json.loads((folder / "golden.json").read_text())
    letters = [(folder / f"{side}_vocabulary.txt").read_text("utf-8").split("\n")[:-1] for side in ("source", "target")]
    return model.eval(), golden, *[{letter: id for id, letter in enumerate(side)} for side in letters]


def batch(cases, source, target):
    """Sources (B, S) of letters alone, what is real of them, tokens (B, T) that begin with <s>, lengths of answers."""
    sources = [[source[letter] for letter in case["src"]] for case in cases]
    answers = [[target[letter] for letter in case["greedy"]] for case in cases]
    wide, long = max(map(len, sources)), max(map(len, answers)) + 1
    keep = torch.tensor([[place < len(row) for place in range(wide)] for row in sources])
    padded = torch.tensor([row + [0] * (wide - len(row)) for row in sources])
    tokens = torch.tensor([[START, *row] + [0] * (long - 1 - len(row)) for row in answers])
    return padded, keep, tokens, [[*row, END] for row in answers]


@torch.no_grad()
def gap(model, cases, source, target):
    """The largest difference of the log-probability of a letter of the golden answers, their ends too, with names of
    many lengths side by side."""
    sources, keep, tokens, answers = batch(cases, source, target)
    said = model(tokens, source=sources, source_view=View(keep=keep)).log_softmax(-1)
    found = [float(said[row, place, id]) for row, answer in enumerate(answers) for place, id in enumerate(answer)]
    wanted = [number for case in cases for number in case["greedy_token_logprobs"]]
    return max(abs(one - other) for one, other in zip(found, wanted, strict=True))


def test_log_probabilities(aren):
    """Of 24 names, to the fifth place, to which the golden ones are rounded."""
    assert len(aren[1]) == 24
    assert gap(*aren) < 2e-5


@pytest.mark.parametrize("changes", [dict(positions="sinusoidal_halves"), dict(scaled_embed=False), dict(act="gelu")])
def test_the_check_can_fail(aren, changes):
    """A model with one detail changed says something else."""
    model, *rest = aren
    wrong = Transformer(replace(SHAPE, **changes), seed=None)
    wrong.load_state_dict(model.state_dict())
    assert gap(wrong.eval(), *rest) > 1e-2


def test_greedy_names(aren):
    """Through the engine, eight rows for all names: the golden letters, and their log-probabilities."""
    model, golden, source, target = aren
    engine = Engine(model, slots=8, capacity=32, source_capacity=16, stops=[END])
    options = SamplingOptions(strategy="greedy", max_new_tokens=20)
    requests = [engine.submit([], options, source=[source[letter] for letter in case["src"]]) for case in golden]
    while engine.busy:
        engine.step()
    letters = list(target)
    for case, request in zip(golden, requests):
        assert request.finish == "stop"
        assert "".join(letters[id] for id in request.ids) == case["greedy"]
        wanted = case["greedy_token_logprobs"][: len(request.ids)]
        assert request.logprobs == pytest.approx(wanted, abs=2e-5)


def test_beam_names(aren):
    """Four beams find the golden answers, some of which greedy search does not."""
    model, golden, source, target = aren
    options = SamplingOptions(strategy="beam", beams=4, max_new_tokens=20)
    sources = [[source[letter] for letter in case["src"]] for case in golden]
    found = beam_search(model, [[]] * len(golden), options, sources=sources, stops=[END])
    letters = list(target)
    assert ["".join(letters[id] for id in best.ids) for (best,) in found] == [case["beam4"] for case in golden]
    assert any(case["beam4"] != case["greedy"] for case in golden)
