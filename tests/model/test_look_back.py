"""How heads begin that look back: where they look, and that nothing else about the model changes."""

import pytest
import torch

from instar.config import InputError
from instar.config.presets import preset
from instar.model.attention import Attend
from instar.model.transformer import BROAD, LOOK_BACK, LOOK_BOTH_WAYS, SHARP, Transformer

SHAPE = dict(vocab_size=320, max_positions=64)


class Watching(Attend):
    """Attend, keeping what each head looked at: (B, H, T, S)."""

    def forward(self, q, k, v, mask, causal):
        groups = q.shape[1] // k.shape[1]
        scores = (q @ k.repeat_interleave(groups, 1).mT) * q.shape[-1] ** -0.5
        ahead = torch.ones_like(scores, dtype=torch.bool).triu(1) & causal
        self.looked = scores.masked_fill(ahead, -torch.inf).softmax(-1)
        return super().forward(q, k, v, mask, causal)


def looked_at(**changes):
    """The mean weight that each head of each block gives to each offset (blocks, H, offsets), from 24 tokens on."""
    model = Transformer(preset("nano", **SHAPE, **changes))
    model.look_back()
    for block in model.blocks:
        block.attention.attend = Watching()
    tokens = torch.randint(0, 320, (8, 48), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        model(tokens)
    weights = [block.attention.attend.looked.mean(0) for block in model.blocks]
    return torch.stack([torch.stack([w[:, t, t - torch.arange(24)] for t in range(24, 48)]).mean(0) for w in weights])


@pytest.mark.parametrize("changes", [{}, {"qk_norm": False}, {"heads": 8, "kv_heads": 4, "head_size": 32}])
def test_heads_look_where_the_table_says(changes):
    """A sharp head gives its offset more than any other, a broad one gives the tokens round its offset the most; a
    head that is not in the table looks anywhere."""
    weights = looked_at(**changes)
    groups = weights.shape[1] // (4 if changes.get("heads") == 8 else weights.shape[1])
    for block, kinds in enumerate(LOOK_BACK):
        for head, (offset, kind) in enumerate(kinds):
            for query in range(head * groups, (head + 1) * groups):
                seen = weights[block, query]
                if kind is SHARP:
                    assert seen.argmax() == offset
                    assert seen[offset] > 0.15
                else:
                    assert kind is BROAD
                    assert abs(int(seen.argmax()) - offset) <= 2
                    assert seen[:12].sum() > 0.6
    assert weights[3].max() < 0.25


def test_an_encoder_looks_both_ways():
    """Its heads begin by attending to the tokens just before and just after theirs."""
    model = Transformer(preset("nano", **SHAPE, causal=False, heads_of=("masked",)))
    model.look_back()
    for block in model.blocks:
        block.attention.attend = Watching()
    tokens = torch.randint(0, 320, (8, 48), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        model.hidden(tokens)
    for block, kinds in zip(model.blocks, LOOK_BOTH_WAYS):
        for head, (offset, kind) in enumerate(kinds):
            looked = block.attention.attend.looked.mean(0)[head]
            seen = torch.stack([looked[t, t - 12 : t + 13] for t in range(12, 36)]).mean(0)
            assert abs(int(seen.argmax()) - 12 + offset) <= (0 if kind is SHARP else 2)


def test_only_positions_that_tell_offsets():
    """Learned positions are refused by name."""
    with pytest.raises(InputError, match=r"needs model.positions=rotary, .*; found learned"):
        Transformer(preset("nano", **SHAPE, positions="learned")).look_back()


def test_the_first_loss_is_still_that_of_guessing():
    """The sign in each embedding says nothing about the next token."""
    model = Transformer(preset("nano", **SHAPE))
    model.look_back()
    tokens = torch.randint(0, 320, (8, 48), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = model(tokens)
    loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
    assert abs(float(loss) - torch.log(torch.tensor(320.0))) < 0.3
