"""Real checkpoints say what they said in the hands of their makers."""

import base64
import json
import struct

import pytest
import torch
from safetensors.torch import load_file

from instar.hub.files import load_model
from instar.model.cache import KVCache


@pytest.fixture(scope="module")
def storyteller(shared):
    """TinyStories-656K, a Llama, with what transformers computed of it."""
    folder = shared / "weights" / "TinyStories-656K"
    return load_model(folder), json.loads((folder / "golden.json").read_text()), folder


@pytest.fixture(scope="module")
def sorter(shared):
    """minGPT's gpt-nano, a GPT-2 that sorts six letters, with its activations on a batch."""
    folder = shared / "weights" / "gpt-nano-sort"
    golden = json.loads((folder / "golden.json").read_text())
    partials = json.loads((folder / "gpt-nano-sort-t0-partials.json").read_text())
    return load_model(folder / "hf"), golden, partials


@torch.no_grad()
def greedy(model, prompts, count):
    """Lists of ids, of any lengths -> the `count` likeliest that follow each, all rows side by side in one cache."""
    lengths = [len(prompt) for prompt in prompts]
    padded = torch.tensor([prompt + [0] * (max(lengths) - len(prompt)) for prompt in prompts])
    cache = KVCache(model.config, len(prompts), max(lengths) + count)
    logits = model(padded, cache=cache)[range(len(prompts)), [length - 1 for length in lengths]]
    cache.trim(lengths)
    said = [logits.argmax(-1)]
    while len(said) < count:
        said.append(model(said[-1][:, None], cache=cache)[:, -1].argmax(-1))
    return torch.stack(said, dim=1).tolist()


@torch.no_grad()
def test_tinystories_logits(storyteller):
    """The ten likeliest tokens, their logits, and the log-probability of every token of every prompt."""
    model, golden, _ = storyteller
    for case in golden["causal_lm"]:
        ids = torch.tensor([case["input_ids"]])
        logits = model(ids)[0]
        values, best = logits[-1].topk(10)
        assert best.tolist() == case["top10_ids"]
        torch.testing.assert_close(values, torch.tensor(case["top10_logits"]), rtol=0, atol=2e-5)
        said = logits[:-1].log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
        torch.testing.assert_close(said, torch.tensor(case["prompt_token_logprobs"]), rtol=0, atol=2e-5)


def test_tinystories_tells_the_same_stories(storyteller):
    """Sixty greedy tokens of every prompt, ragged prompts side by side in one cache."""
    model, golden, _ = storyteller
    cases = golden["causal_lm"]
    said = greedy(model, [case["input_ids"] for case in cases], max(len(case["greedy_ids"]) for case in cases))
    for case, ids in zip(cases, said):
        assert ids[: len(case["greedy_ids"])] == case["greedy_ids"], case["prompt"]


@torch.no_grad()
def test_tinystories_stream(storyteller):
    """Every hidden state and logit of a sentence."""
    model, _, folder = storyteller
    stored = load_file(folder / "attention.safetensors")
    seen = []
    model.blocks[0].register_forward_hook(lambda _, inputs, output: seen.extend((inputs[0], output)))
    hidden = model.hidden(stored["input_ids"][None].long())
    found = {"hidden.0": seen[0], "hidden.1": seen[1], "hidden.2": hidden, "logits": model.heads["lm"](hidden)}
    for name, value in found.items():
        torch.testing.assert_close(value[0], stored[name], rtol=1e-5, atol=3e-5)


def test_gpt_nano_sorts(sorter):
    """All golden inputs, in one batch."""
    model, golden, _ = sorter
    said = greedy(model, [case["input"] for case in golden["cases"]], 6)
    assert said == [case["output"] for case in golden["cases"]]


def plain(partials, name):
    """One activation of the original, from base64 of little-endian fp32 (int64 for idx)."""
    entry = partials[name]
    raw = base64.b64decode(entry["data"])
    kind = "f" if len(raw) == 4 * torch.Size(entry["shape"]).numel() else "q"
    values = struct.unpack(f"<{len(raw) // struct.calcsize(kind)}{kind}", raw)
    return torch.tensor(values).reshape(entry["shape"])


@torch.no_grad()
def test_gpt_nano_activations(sorter):
    """What flows through the first block, between the blocks and out, equals the original's."""
    model, _, partials = sorter
    block, seen = model.blocks[0], {}

    def watch(module, name):
        module.register_forward_hook(lambda _, inputs, output: seen.update({name: output, f"before {name}": inputs[0]}))

    for name, module in {
        "ln1": block.attention_norm, "q": block.attention.q, "k": block.attention.k, "v": block.attention.v,
        "yProj": block.attention.out, "ln2": block.feed_forward_norm, "fc": block.feed_forward.up,
        "mlp": block.feed_forward.down, "block0": block, "block1": model.blocks[1], "block2": model.blocks[2],
        "ln_f": model.norm, "lm_head": model.heads["lm"],
    }.items():  # fmt: skip
        watch(module, name)
    model(plain(partials, "idx").long())
    for name in "qkv":
        seen[name] = seen[name].unflatten(-1, (3, 16)).transpose(1, 2)
    seen |= {"x": seen["before block0"], "y": seen["before yProj"], "attnResid": seen["before ln2"]}
    seen |= {"gelu": seen["before mlp"], "probs": seen["lm_head"].softmax(-1)}
    for name in "x ln1 q k v y yProj attnResid ln2 fc gelu mlp block0 block1 block2 ln_f lm_head probs".split():
        torch.testing.assert_close(
            seen[name], plain(partials, name), rtol=1e-4, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}"
        )
