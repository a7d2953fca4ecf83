"""A real encoder-decoder, from Arabic to Latin letters, says what its golden file says (CTranslate2's answers)."""

import json

import pytest
import torch
from safetensors.torch import load_file

from instar.config import ModelConfig
from instar.config.options import SamplingOptions
from instar.infer.beam import beam_search
from instar.infer.engine import Engine
from instar.model.transformer import Transformer

BEGIN, END = 1, 2
CONFIG = ModelConfig(
    vocab_size=43, source_vocab_size=51, d_model=32, layers=6, encoder_layers=6, heads=8, d_ff=128, norm="layer",
    norm_eps=1e-6, mlp="plain", act="relu", positions="sinusoidal_t2t", qkv_bias=True, bias=True, tied=False,
    head_bias=True, scaled_embed=True, start=BEGIN, max_positions=128,
)  # fmt: skip
SUBLAYERS = {
    "self_attention.layer_norm": ["attention_norm"],
    "self_attention.linear_0": ["attention.q", "attention.k", "attention.v"],
    "self_attention.linear_1": ["attention.out"],
    "attention.layer_norm": ["cross_norm"],
    "attention.linear_0": ["cross.q"],
    "attention.linear_1": ["cross.k", "cross.v"],
    "attention.linear_2": ["cross.out"],
    "ffn.layer_norm": ["feed_forward_norm"],
    "ffn.linear_0": ["feed_forward.up"],
    "ffn.linear_1": ["feed_forward.down"],
}
WHOLE = {"embeddings": "embed", "layer_norm": "norm"}
KINDS = {"gamma": "weight", "beta": "bias"}


def ours(name):
    """Their name -> ours that it holds side by side, as its page SPEC.md says."""
    stack, _, rest = name.partition(".")
    side = "encoder." if stack == "encoder" else ""
    part, _, kind = rest.rpartition(".")
    kind = KINDS.get(kind, kind)
    if part == "projection":
        return [f"heads.lm.{kind}"]
    if part in WHOLE:
        return [f"{side}{WHOLE[part]}.{kind}"]
    layer, _, part = part.partition(".")
    return [f"{side}blocks.{layer.removeprefix('layer_')}.{own}.{kind}" for own in SUBLAYERS[part]]


@pytest.fixture(scope="module")
def letters(shared):
    """The model, what it reads and what it should say: golden cases with the ids of their sources, and its letters."""
    folder = shared / "weights/aren-transliteration"
    model = Transformer(CONFIG, seed=None)
    state = {}
    for name, weight in load_file(folder / "model.safetensors").items():
        names = ours(name)
        state |= dict(zip(names, weight.chunk(len(names))))
    model.load_state_dict(state, strict=True)
    lines = {
        side: (folder / f"{side}_vocabulary.txt").read_text(encoding="utf-8").split("\n")
        for side in ("source", "target")
    }
    ids = {letter: number for number, letter in enumerate(lines["source"][:50])}
    cases = json.loads((folder / "golden.json").read_text(encoding="utf-8"))
    return model.eval(), cases, [[ids.get(letter, 50) for letter in case["src"]] for case in cases], lines["target"]


def test_golden_greedy_answers(letters):
    """All sources in one engine: the golden words, and the log-probability of each of their letters."""
    model, cases, sources, letter = letters
    engine, options = Engine(model, stops=[END], slots=7), SamplingOptions(strategy="greedy", max_new_tokens=40)
    requests = [engine.submit([], options, source=source) for source in sources]
    engine.run()
    for case, request in zip(cases, requests):
        assert "".join(letter[id] for id in request.ids) == case["greedy"]
        assert request.logprobs == pytest.approx(case["greedy_token_logprobs"][: len(request.ids)], abs=2e-5)


def test_golden_beams(letters):
    """Four beams, all sources side by side: the golden words, of which some are not the greedy ones."""
    model, cases, sources, letter = letters
    options = SamplingOptions(strategy="beam", beams=4, max_new_tokens=40)
    found = beam_search(model, [[]] * len(sources), options, sources=sources, stops=[END])
    assert ["".join(letter[id] for id in best.ids) for (best,) in found] == [case["beam4"] for case in cases]
    assert sum(case["beam4"] != case["greedy"] for case in cases) > 1


@torch.no_grad()
def test_scores_add_up(letters):
    """The score of a beam is the mean log-probability of its letters and its end, by one pass without a cache."""
    model, _, sources, _ = letters
    options = SamplingOptions(strategy="beam", beams=4, max_new_tokens=40)
    for source, (best,) in zip(sources[:5], beam_search(model, [[]] * 5, options, sources=sources[:5], stops=[END])):
        said = torch.tensor([[BEGIN, *best.ids]])
        chances = model(said, source=torch.tensor([source]))[0].log_softmax(-1)
        wanted = chances.gather(1, torch.tensor([*best.ids, END])[:, None]).mean()
        assert best.score == pytest.approx(float(wanted), abs=1e-5)
