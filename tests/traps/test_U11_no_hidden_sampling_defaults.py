"""Trap U11: sampling settings that nobody asked for. vllm-project/vllm#15241, #15281.

A server took temperature and top-p from the checkpoint's generation_config.json, so the same request gave other text
with another folder, and greedy evaluations were sampled. Here the request alone decides; a folder may only name the ids
that end an answer.
"""

import json

from instar.config import ModelConfig
from instar.config.options import SamplingOptions
from instar.hub.files import save_model
from instar.hub.folders import load
from instar.infer.sampling import describe
from instar.infer.text import generate
from instar.model.transformer import Transformer
from instar.text.tokenizer import Tokenizer

HIDDEN = {
    "do_sample": True, "temperature": 0.01, "top_k": 1, "top_p": 0.01, "repetition_penalty": 9.0, "max_new_tokens": 1,
}  # fmt: skip


def test_a_folder_does_not_change_how_tokens_are_chosen(tmp_path):
    """The same answers, greedy and drawn, whatever a checkpoint's generation_config.json recommends."""
    tokenizer = Tokenizer.train(["the cat sat on the mat. " * 8], 320)
    config = ModelConfig(vocab_size=tokenizer.vocab_size, d_model=16, layers=1, heads=2, max_positions=64)
    for name in ("plain", "hidden"):
        save_model(Transformer(config, seed=1), tmp_path / name)
        tokenizer.save(tmp_path / name)
    path = tmp_path / "hidden" / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | HIDDEN))
    plain, hidden = load(tmp_path / "plain"), load(tmp_path / "hidden")
    for rules in ({}, {"temperature": 1.0, "seed": 3}, {"strategy": "sample"}):
        answers = generate(*plain, "the cat", max_new_tokens=12, **rules)
        assert answers == generate(*hidden, "the cat", max_new_tokens=12, **rules)


def test_defaults_of_the_library_are_neutral():
    """What a caller does not ask for leaves the model's own distribution alone; what acts can be printed."""
    assert describe(SamplingOptions()) == "temperature 1"
