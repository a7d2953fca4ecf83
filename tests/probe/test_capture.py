"""What a forward pass computed, seen by hooks: the numbers of real checkpoints, and nothing left behind."""

import base64
import json
import math
import struct

import pytest
import torch
from safetensors.torch import load_file
from torch.utils._python_dispatch import TorchDispatchMode

from instar.config import InputError, ModelConfig
from instar.hub.files import load_model
from instar.model.transformer import Transformer
from instar.probe.capture import attention_of, capture, watching, words_of

# LayerNorm: under a mode that writes down operators RMSNorm takes 50 times as long
SHAPE = dict(vocab_size=31, d_model=16, layers=2, heads=4, kv_heads=2, max_positions=32, norm="layer")
SHAPES = {
    "decoder": ModelConfig(**SHAPE),
    "encoder": ModelConfig(**SHAPE, causal=False, heads_of=("masked",)),
    "encoder-decoder": ModelConfig(**SHAPE, encoder_layers=2, start=1),
    "windows and experts": ModelConfig(**SHAPE, windows=(3, 0), experts=3, score_cap=5.0),
    "parallel": ModelConfig(**SHAPE, residual="parallel", positions="alibi"),
}
TOKENS = torch.randint(0, 31, (1, 9), generator=torch.Generator().manual_seed(4))
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class Operators(TorchDispatchMode):
    """Writes down every operator that torch is asked for."""

    def __enter__(self):
        self.names = []
        return super().__enter__()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append((str(function), [tuple(x.shape) for x in args if isinstance(x, torch.Tensor)]))
        return function(*args, **(kwargs or {}))


def sources(model):
    return {"source": TOKENS[:, :7]} if model.encoder is not None else {}


def operators(model):
    """What one forward pass asks torch for."""
    with torch.no_grad(), Operators() as seen:
        model(TOKENS, **sources(model))
    return seen.names


def hooks(model):
    return sum(len(getattr(module, kind)) for module in model.modules() for kind in HOOKS)


def fail_while_watched(model):
    with watching(model):
        assert hooks(model) > 0
        raise ZeroDivisionError


@pytest.fixture(params=SHAPES)
def model(request):
    return Transformer(SHAPES[request.param]).eval()


def test_a_pass_that_nobody_watches_is_what_it_was(model):
    """No hook, and the identical operators in the identical order before any watching, after it, and after a pass that
    failed while it was watched."""
    before = operators(model)
    assert len(before) > 50
    capture(model, TOKENS, **sources(model))
    assert hooks(model) == 0
    with pytest.raises(IndexError):
        capture(model, TOKENS + 31, **sources(model))
    with pytest.raises(ZeroDivisionError):
        fail_while_watched(model)
    assert hooks(model) == 0
    assert operators(model) == before


def test_the_operators_would_tell(model):
    """A pass that keeps its weights apart asks for other operators: the comparison can fail."""
    before = operators(model)
    model.blocks[0].attention.attend.register_forward_hook(lambda part, given, y: y.clone())
    assert operators(model) != before


def test_a_watched_pass_asks_for_nothing_more(model):
    """Hooks keep what there is; watching itself computes nothing."""
    before = operators(model)
    with watching(model):
        assert operators(model) == before


def test_what_is_kept_is_one_text_through_all_layers(model):
    """Each side has its stream, its seams and its updates, and what attention gave is what went into the stream."""
    trace = capture(model, TOKENS, **sources(model))
    for side in trace.sides:
        assert (len(side.stream), len(side.attended), len(side.updates)) == (3, 2, 2)
        assert len(side.crossed) == (2 if model.encoder is not None and side is trace.own else 0)
        if side.stack.config.residual == "pre":
            wanted = side.inputs[0] + sum(side.updates[0].values())
            torch.testing.assert_close(side.stream[1], wanted, rtol=0, atol=1e-6)
    assert torch.equal(trace.logits(), model(TOKENS, **sources(model)))
    torch.testing.assert_close(trace.logits(slice(-1, None)), trace.logits()[:, -1:], rtol=0, atol=1e-6)


def test_watching_twice_keeps_the_last(model):
    """A second pass under the same hooks begins anew, so nothing of the first is mixed in."""
    with torch.no_grad(), watching(model) as sides:
        model.hidden(TOKENS, **sources(model))
        model.hidden(TOKENS[:, :4], **sources(model))
    assert [x.shape[1] for x in sides[-1].stream] == [4, 4, 4]


def test_gradients_are_kept_where_they_are_asked_for():
    """Without, no graph is built; with, every weight is reached. A model in training rests meanwhile, and trains on."""
    model = Transformer(SHAPES["decoder"]).train()
    assert not capture(model, TOKENS).hidden.requires_grad
    trace = capture(model, TOKENS, grad=True)
    trace.logits().sum().backward()
    assert all(weight.grad is not None for weight in model.parameters())
    assert model.training


def test_what_a_model_does_not_have():
    """An encoder has no source, a classifier no words, and there is no layer 2 of two: each says so."""
    model = Transformer(ModelConfig(**SHAPE, causal=False, heads_of=("classify",), labels=2, head_bias=False)).eval()
    trace = capture(model, TOKENS)
    with pytest.raises(InputError, match="no attention to a source in the encoder"):
        trace.own.seams("cross")
    with pytest.raises(InputError, match="no attention to a source"):
        attention_of(trace.own, 0, "cross")
    with pytest.raises(InputError, match="layer=2, wanted 0 to 1"):
        attention_of(trace.own, 2)
    with pytest.raises(InputError, match="no head says tokens"):
        words_of(model)


def test_tinystories_golden_attention(shared):
    """Both layers of TinyStories-656K as transformers computed them: every share within 1e-5, and the stream."""
    folder = shared / "weights" / "TinyStories-656K"
    stored = load_file(folder / "attention.safetensors")
    trace = capture(load_model(folder), stored["input_ids"][None].long())
    for layer, seam in enumerate(trace.own.attended):
        torch.testing.assert_close(seam.weights()[0], stored[f"attention.{layer}"], rtol=0, atol=1e-5)
    found = {"hidden.0": trace.own.inputs[0], "hidden.1": trace.own.inputs[1], "hidden.2": trace.hidden}
    for name, value in {**found, "logits": trace.logits()}.items():
        torch.testing.assert_close(value[0], stored[name], rtol=1e-5, atol=3e-5)


def activation(partials, name):
    """One activation of the original, from base64 of little-endian fp32 (int64 for idx)."""
    raw, shape = base64.b64decode(partials[name]["data"]), partials[name]["shape"]
    kind = "f" if len(raw) == 4 * math.prod(shape) else "q"
    return torch.tensor(struct.unpack(f"<{len(raw) // struct.calcsize(kind)}{kind}", raw)).reshape(shape)


def test_gpt_nano_every_activation(shared):
    """All intermediate numbers of minGPT's gpt-nano on its golden batch, read off one trace: embeddings, norms, q, k,
    v, scores, attention, what it gives, the feed-forward layer, each block, logits and probabilities."""
    folder = shared / "weights" / "gpt-nano-sort"
    partials = json.loads((folder / "gpt-nano-sort-t0-partials.json").read_text())
    model = load_model(folder / "hf")
    ids = activation(partials, "idx").long()
    trace = capture(model, ids)
    side, block, seam = trace.own, trace.own.blocks[0], trace.own.attended[0]
    with torch.no_grad():
        embedded = model.embed(ids)
        ln1, residual = block.attention_norm(side.inputs[0]), side.inputs[0] + side.updates[0]["attention"]
        ln2 = block.feed_forward_norm(residual)
        fc = block.feed_forward.up(ln2)
        found = {
            "tok_emb": embedded, "pos_emb": (side.inputs[0] - embedded)[:1], "x": side.inputs[0], "ln1": ln1,
            "q": seam.q, "k": seam.k, "v": seam.v,
            "qkv": torch.cat([x.transpose(1, 2).flatten(2) for x in (seam.q, seam.k, seam.v)], -1),
            "att": seam.q @ seam.k.mT * seam.scale, "attSm": seam.weights(), "y": seam.y.transpose(1, 2).flatten(2),
            "yProj": side.updates[0]["attention"], "attnResid": residual, "ln2": ln2, "fc": fc,
            "gelu": block.feed_forward.act(fc), "mlp": side.updates[0]["feed_forward"],
            "mlpResid": side.stream[1], "block0": side.stream[1], "block1": side.stream[2], "block2": side.stream[3],
            "ln_f": trace.hidden, "lm_head": trace.logits(), "probs": trace.logits().softmax(-1),
        }  # fmt: skip
    assert set(found) == set(partials) - {"config", "idx"}
    for name, value in found.items():
        wanted = activation(partials, name)
        kept = wanted.isfinite() & (wanted > -1e9)  # where the original masked its scores
        torch.testing.assert_close(
            value[kept], wanted[kept], rtol=1e-4, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}"
        )
    torch.testing.assert_close(seam.weights(), activation(partials, "attSm"), rtol=0, atol=1e-5)
