"""Every proof is green on what is right, for all kinds of models, and red on a kernel, norm, mask or cache that is
wrong."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from instar.batch import View
from instar.config import InputError, ModelConfig, RopeScaling
from instar.config.options.inspecting import InspectOptions
from instar.model import stack
from instar.model.attention import Attend
from instar.model.cache import KVCache
from instar.model.layers import LayerNorm, RMSNorm
from instar.model.ragged import Ragged
from instar.model.stack import Stack
from instar.model.transformer import Transformer
from instar.probe import checks
from instar.probe.capture import attention_of, capture
from instar.probe.look import Look
from instar.probe.panel import UNSAID, Check
from instar.probe.subject import read_ids

PLAIN = ModelConfig(vocab_size=31, d_model=16, layers=2, heads=4, kv_heads=2, max_positions=64, tied=False)
SHAPES = {
    "decoder": PLAIN,
    "windows and caps": replace(PLAIN, windows=(3, 0), score_cap=2.0, residual="both", norm="rms_one"),
    "alibi": replace(PLAIN, positions="alibi", norm="layer", residual="parallel"),
    "t5 with windows": replace(PLAIN, positions="t5", windows=(0, 4), norm="layer_plain", experts=3),
    "dynamic": replace(PLAIN, rope_scaling=RopeScaling("dynamic", 3.0, original_positions=16)),
    "sinusoidal, normed behind": replace(PLAIN, positions="sinusoidal", residual="post", norm="layer"),
    "encoder": replace(PLAIN, causal=False, heads_of=("masked",), windows=(0, 3)),
    "classifier": replace(PLAIN, causal=False, heads_of=("classify",), labels=2),
    "reward model": replace(PLAIN, heads_of=("classify",), labels=1, pooling="last"),
    "encoder-decoder": replace(PLAIN, encoder_layers=2, start=1, positions="t5"),
    "two vocabularies": replace(PLAIN, encoder_layers=1, source_vocab_size=17, positions="learned"),
}  # fmt: skip
IDS = torch.randint(0, 31, (40,), generator=torch.Generator().manual_seed(4)).tolist()
COUNT = 7  # tokens, of which the caches read SINGLE one by one
ALWAYS = {"attention_rows", "future", "weights_values", "watched", "hooks"}


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """Only the last tokens are read one by one, so that a pass of several stands before them."""
    monkeypatch.setattr(checks, "SINGLE", 3)


def made(shape, dtype=torch.float32):
    """A model whose queries and keys are long, so that its attention is sharp."""
    model = Transformer(shape).to(dtype).eval()
    with torch.no_grad():
        for block in model.all_blocks():
            for attention in (block.attention, block.cross):
                if attention is not None:
                    attention.q.weight *= 3
    return model


def looked(model, count=COUNT):
    source = [id % 17 for id in IDS[:9]] if model.encoder is not None else ()
    return Look(read_ids(model, IDS[:count], source), InspectOptions())


def gaps(look):
    return {check.name: check for check in checks.all_checks(look)}


def red(look):
    """The names of the proofs that fail."""
    return {check.name for check in checks.all_checks(look) if not check.green}


@pytest.mark.parametrize("name", SHAPES)
def test_all_are_green_on_what_is_right(name):
    """Every kind of model; those that do not apply are left out."""
    model = made(SHAPES[name])
    found = gaps(looked(model))
    assert {name for name, check in found.items() if not check.green} == set()
    more = {"lens"} if {"lm", "masked"} & set(model.heads) else set()
    more |= set() if model.config.residual == "post" else {"norm"}  # there is no last norm to keep a scale
    assert set(found) == ALWAYS | more | ({"cached"} if model.config.causal else set())


@pytest.mark.parametrize(("dtype", "count"), [(torch.bfloat16, 7), (torch.float64, 7), (torch.float32, 1)])
def test_all_are_green_in_every_precision_and_of_one_token(dtype, count):
    """In bf16 products are rounded to three digits and limits are as wide; in fp64 they are a million times as narrow
    as in fp32."""
    assert red(looked(made(PLAIN, dtype), count)) == set()


def test_a_kernel_with_another_scale_is_red(monkeypatch):
    """Trap 35: what is drawn would not be what the model computes with, and nothing else would tell."""

    def wrong(self, q, k, v, mask, causal):
        return F.scaled_dot_product_attention(q, k, v, mask, is_causal=causal, scale=1 / q.shape[-1], enable_gqa=True)

    monkeypatch.setattr(Attend, "forward", wrong)
    assert red(looked(made(PLAIN))) == {"weights_values"}


def test_a_kernel_with_a_finite_mask_is_red(monkeypatch):
    """A constant for minus infinity in the kernel itself, which is not small enough: the future comes through, there
    and not in what is drawn."""
    plain = Attend.forward

    def wrong(self, q, k, v, mask, causal):
        if not causal:
            return plain(self, q, k, v, mask, causal)
        scores = q @ k.repeat_interleave(2, 1).mT * q.shape[-1] ** -0.5
        scores = scores + torch.full(scores.shape[-2:], -10.0).triu(1)
        return scores.softmax(-1) @ v.repeat_interleave(2, 1)

    monkeypatch.setattr(Attend, "forward", wrong)
    assert "weights_values" in red(looked(made(PLAIN)))


def huge():
    """Scores below -1e5 where a query may look."""
    model = made(replace(PLAIN, positions="alibi"))
    with torch.no_grad():
        for block in model.all_blocks():
            block.attention.q.weight *= -1e6
            block.attention.k.weight.copy_(block.attention.q.weight[: len(block.attention.k.weight)] / -1e6)
    return model


def test_a_mask_with_a_finite_constant_is_red(monkeypatch):
    """Trap 34: the same in the model's mask."""

    def finite(sees, dtype):
        return torch.zeros(sees.shape, dtype=dtype).masked_fill_(~sees, -1e4)[:, None]

    assert "future" not in red(looked(huge()))
    monkeypatch.setattr(stack, "added", finite)
    assert {"future"} <= red(looked(huge()))


@pytest.mark.parametrize("fault", ["future", "window"])
def test_a_mask_that_leaks_is_red(monkeypatch, fault):
    """A mask that lets a query see one token ahead, or one further than its window."""
    sees = Stack._sees

    def leaking(self, tokens, view, positions, window, *, plain):
        if fault == "window":
            return sees(self, tokens, view, positions, window + 1, plain=plain)
        return torch.ones(1, COUNT, COUNT, dtype=torch.bool).tril(1), False

    monkeypatch.setattr(Stack, "_sees", leaking)
    shape = replace(PLAIN, windows=(3, 3)) if fault == "window" else PLAIN
    assert "future" in red(looked(made(shape)))


def test_padding_and_other_documents_count_as_future():
    """With a view, a share of padding or of another document is red too, and the model's own mask is green."""
    model = made(replace(PLAIN, causal=False))
    tokens, keep = torch.tensor([IDS[:8], IDS[8:16]]), torch.arange(8) < torch.tensor([[8], [5]])
    segments = (torch.arange(8) >= 3).long().expand(2, 8)
    for view in (View(keep=keep), View(segments=segments)):
        told = capture(model, tokens, view=view).own
        assert checks.future_is_zero(told.attended[0].weights(), told, 0, view).green
        untold = capture(model, tokens).own
        assert not checks.future_is_zero(untold.attended[0].weights(), untold, 0, view).green


def test_branches_and_positions_of_a_window_count_as_future():
    """Answers that share a prompt see nothing of each other, and a window is of positions, which go on from the
    prompt; the model's own masks are green, and red by what they are of."""
    model = made(replace(PLAIN, windows=(3, 0)))
    tokens = torch.tensor([IDS[:8]])
    branches = torch.tensor([[0, 0, 0, 1, 1, 2, 2, 2]])
    positions = torch.tensor([[0, 1, 2, 3, 4, 3, 4, 5]])
    for view, other in (
        (View(branches=branches, positions=positions), View(positions=positions)),
        (View(positions=2 * positions), View(positions=positions // 2)),
    ):
        told, layers = capture(model, tokens, view=view).own, 2 if view.branches is not None else 1
        for layer in range(layers):
            assert checks.future_is_zero(told.attended[layer].weights(), told, layer, view).green
            untold = capture(model, tokens, view=other).own.attended[layer].weights()
            assert not checks.future_is_zero(untold, told, layer, view).green


@pytest.mark.parametrize("kind", [RMSNorm, LayerNorm])
def test_a_norm_that_keeps_its_scale_is_red(kind):
    """The lens: a final norm that keeps the scale of the last layer for all of them says the right last row, so this
    alone tells it."""
    model = made(replace(PLAIN, norm="rms" if kind is RMSNorm else "layer"))

    class Keeps(kind):
        def forward(self, x):
            if x.shape[1] not in kept:
                kept[x.shape[1]] = super().forward(x) / x
            return kept[x.shape[1]] * x

    kept = {}  # by the length of a text
    assert red(looked(model)) == set()
    model.norm.__class__ = Keeps
    found = gaps(looked(model))
    assert not found["norm"].green
    assert found["lens"].green
    assert found["watched"].green


def test_a_lens_that_reads_something_else_is_red():
    """The stream before the last block, or a head without its norm, is not the output."""
    trace = looked(made(PLAIN)).trace
    assert checks.lens_is_output(trace).green
    trace.own.last = trace.own.inputs[-1]
    assert not checks.lens_is_output(trace).green


def test_what_changes_under_hooks_is_red(monkeypatch):
    """A layer that computes otherwise while somebody watches, by one part in a million."""
    plain = Attend.forward

    def shy(self, *given):
        return plain(self, *given) * (1 + 1e-6 * len(self._forward_hooks))

    monkeypatch.setattr(Attend, "forward", shy)
    assert {"watched", "lens"} <= red(looked(made(PLAIN)))


def test_a_trace_with_gradients_is_compared_with_its_like():
    """With gradients a CPU takes other kernels; the pass that is compared takes them as well."""
    trace = capture(made(PLAIN, torch.bfloat16), torch.tensor([IDS]), grad=True)
    assert checks.watched_is_unwatched(trace).green
    assert checks.lens_is_output(trace).green


@pytest.mark.parametrize("cache", [KVCache, Ragged])
def test_a_cache_that_counts_wrongly_is_red(monkeypatch, cache):
    """KV: positions that are twice what they should be, in either of the two caches."""
    plain = cache.positions
    monkeypatch.setattr(cache, "positions", lambda self, count: 2 * plain(self, count))
    assert red(looked(made(PLAIN))) == {"cached"}


def test_a_source_that_is_kept_wrongly_is_red(monkeypatch):
    """KV: the keys of the source are part of it."""
    model = made(SHAPES["encoder-decoder"])
    look = looked(model)
    assert look.trace.encoder is not None
    plain = KVCache.see_source
    monkeypatch.setattr(KVCache, "see_source", lambda self, dtype: torch.full((1, 1, 1, 9), -1.0).cumsum(-1))
    assert red(look) == {"cached"}
    monkeypatch.setattr(KVCache, "see_source", plain)
    assert red(look) == set()


def test_an_encoder_has_no_cache():
    """Asked for, it says so; so does a text with padding."""
    tokens = torch.tensor([IDS[:4]])
    with pytest.raises(InputError, match="causal=false"):
        checks.cached_is_uncached(capture(made(SHAPES["encoder"]), tokens))
    with pytest.raises(InputError, match="found a view"):
        checks.cached_is_uncached(capture(made(PLAIN), tokens, view=View(keep=tokens >= 0)))


def test_several_texts_are_compared_one_by_one():
    """Each row of a batch through the caches by itself."""
    tokens = torch.tensor([IDS[:6], IDS[6:12]])
    assert checks.cached_is_uncached(capture(made(PLAIN), tokens)).green


def test_a_hook_that_was_left_is_red():
    """Of any kind, anywhere."""
    model = made(PLAIN)
    assert checks.no_hooks(model).green
    handle = model.blocks[1].feed_forward.up.register_forward_pre_hook(lambda part, given: None)
    assert checks.no_hooks(model).gap == 1
    handle.remove()
    assert checks.no_hooks(model).green


@pytest.mark.parametrize("name", ["decoder", "encoder-decoder"])
def test_what_heads_carry_is_what_attention_gave(name):
    """Head by head through its slice of the output layer, summed; without one head it is red."""
    model = made(SHAPES[name])
    trace = looked(model).trace
    for which in ("self", "cross") if trace.own.crossed else ("self",):
        seam, attention = trace.own.seams(which)[1], attention_of(trace.own, 1, which)
        update = trace.own.updates[1]["attention" if which == "self" else "cross"]
        assert checks.moved_is_update(seam, attention, update).green
        less = replace(seam, v=torch.cat((seam.v[:, :1], 0 * seam.v[:, 1:]), 1))
        assert not checks.moved_is_update(less, attention, update).green


def test_what_stands_before_the_last_is_read_at_once(monkeypatch):
    """A long text costs few passes: one of all but the last tokens, and one of each of those."""
    monkeypatch.undo()
    assert checks._cut(40) == [40 - checks.SINGLE, *[1] * checks.SINGLE]
    assert checks._cut(3) == [1, 1, 1]


@pytest.mark.parametrize("wrong", [0.5, 1 + 3e-5, math.nan])
def test_rows_that_do_not_add_up_are_red(wrong):
    """By half, by little, and where they are no numbers."""
    weights = torch.full((2, 3, 4), 0.25)
    assert checks.rows_add_up(weights).green
    weights[1, 2] *= wrong
    assert not checks.rows_add_up(weights).green


def test_the_widest_gap_of_a_name_is_kept():
    """One check a name, and a gap that is no number is wider than any."""
    found = [Check(name, gap, 1.0, UNSAID) for name, gap in (("a", 0.1), ("b", 2.0), ("a", 0.5), ("a", 0.2))]
    assert [(check.name, check.gap) for check in checks.widest(found)] == [("a", 0.5), ("b", 2.0)]
    found.insert(1, Check("a", math.nan, 1.0, UNSAID))
    assert not checks.widest(found)[0].green
