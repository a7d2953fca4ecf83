"""Trap 19: LoRA with added tokens. Their rows stay random because the embedding is frozen, or all of it is trained and
saved; the adapter then does not load by itself. huggingface/peft#1147, #2898, #2589; hiyouga/LLaMA-Factory#7997.

Guard: rows of added tokens learn, are saved with the adapter and come back with it; no other row moves; tokens that
nobody learnt are an error.
"""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from instar.adapt.folders import load, load_adapted
from instar.adapt.lora import weights_of
from instar.config import InputError
from instar.config.options import EvaluateOptions, LoraOptions, SftOptions, TrainOptions
from instar.config.presets import preset
from instar.hub.folders import load as load_whole
from instar.hub.folders import save
from instar.model.transformer import Transformer
from instar.text.tokenizer import Tokenizer
from instar.train import stages

pytestmark = pytest.mark.usefixtures("one_thread")
TOKENS = ("<|think|>", "<|done|>")
# where our template has an answer, and how it stands between the two tokens
ANSWER = "(message.content or '') | trim }}"
BETWEEN = "'<|think|>' + ((message.content or '') | trim) + '<|done|>' }}"


@pytest.fixture(params=["spare rows", "no spare rows", "tied"])
def run(request, tmp_path):
    """run() -> the folders of the base and of an adapter that was trained with two added tokens."""
    texts = [f"{name} has the {thing}." for name in ("Ada", "Ben") for thing in ("cup", "kite")]
    plain = Tokenizer.train(texts, 320)
    rows = plain.vocabulary.size if request.param == "no spare rows" else 320
    config = {**plain.config, "instar": {**plain.config["instar"], "vocab_size": rows}}
    tokenizer = Tokenizer(plain.vocabulary.spec, config, plain.template)
    tied = request.param == "tied"
    shape = preset("nano", vocab_size=rows, d_model=32, layers=1, heads=2, max_positions=64, tied=tied)
    save(Transformer(shape, seed=1), tokenizer, tmp_path / "base")
    (tmp_path / "base" / "chat_template.jinja").write_text(tokenizer.template.replace(ANSWER, BETWEEN))
    talks = [
        {"messages": [{"role": "user", "content": "What?"}, {"role": "assistant", "content": text}]} for text in texts
    ]
    (tmp_path / "talks.jsonl").write_text("\n".join(map(json.dumps, talks)))
    options = SftOptions(
        model=str(tmp_path / "base"), data=(str(tmp_path / "talks.jsonl"),), out=str(tmp_path / "run"), held_out=0.0,
        dtype="fp32", quiet=True, evaluate=EvaluateOptions(samples=0), lora=LoraOptions(rank=2, tokens=TOKENS),
        train=TrainOptions(context=64, batch_tokens=256, steps=3, lr=1e-2, warmup=0.0),
    )  # fmt: skip

    def make(**changes):
        stages.sft(replace(options, **changes))
        return tmp_path / "base", tmp_path / "run"

    return make


def test_new_rows_learn_and_no_others(run):
    """The rows of both tokens are the adapter's; every row of the base is what it was."""
    base, out = run()
    model, tokenizer = load_adapted(out)
    ids = [tokenizer.specials[token] for token in TOKENS]
    assert model.attached["default"].tokens == tuple(ids)
    rows = {name: weight for name, weight in weights_of(model, "default").items() if name.endswith(".rows")}
    tied = model.config.tied
    assert set(rows) == {"embed.adapters.default.rows"} | (set() if tied else {"heads.lm.adapters.default.rows"})
    for path, name in (("embed", "embed.adapters.default.rows"), ("heads.lm", "heads.lm.adapters.default.rows")):
        if name in rows:
            assert (rows[name] - model.get_submodule(path).weight[ids]).abs().sum(1).min() > 1e-2
    before, had = load_whole(base)
    size = before.config.vocab_size
    assert all(
        torch.equal(weight, model.get_parameter(name)[:size] if name in ("embed.weight", "heads.lm.weight") else
                    model.get_parameter(name))
        for name, weight in before.named_parameters()
    )  # fmt: skip
    assert had.specials.keys() == tokenizer.specials.keys() - set(TOKENS)


def test_the_adapter_loads_by_itself(run):
    """Its folder knows the tokens, the rows are in its file and nothing of the base is, and merged it says the same."""
    _, out = run()
    stored = load_file(out / "adapter_model.safetensors")
    assert all(".lora_" in name or name.endswith("trainable_tokens_delta") for name in stored)
    said = json.loads((out / "adapter_config.json").read_text())["trainable_token_indices"]
    apart, tokenizer = load_adapted(out)
    ids = [tokenizer.specials[token] for token in TOKENS]
    assert ids in ([said] if isinstance(said, list) else said.values())
    merged, _ = load(out)
    text = torch.tensor([[*tokenizer.encode("Ada"), *ids, *tokenizer.encode(" has")]])
    with torch.no_grad():
        torch.testing.assert_close(merged(text), apart(text), rtol=0, atol=1e-5)
        torch.testing.assert_close(merged.embed.weight[ids], apart.embed.adapters["default"].rows)


def test_tokens_that_nobody_learnt_are_an_error(run):
    """Story: LLaMA-Factory#7997. A tokenizer with tokens that neither base nor adapter learnt is refused by name."""
    _, out = run(lora=LoraOptions(rank=2))
    _, tokenizer = load_adapted(out)
    tokenizer.with_controls(TOKENS).save(out)
    with pytest.raises(InputError, match=r"has <\|done\|>, <\|think\|>, which its base does not know.*--lora\.tokens"):
        load(out)
