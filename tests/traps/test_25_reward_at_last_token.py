"""Trap 25: a reward that is read at the wrong token. huggingface/transformers#35352 (at the first end token, where
texts are padded with it), huggingface/trl#2778 (padding on the left taken for padding on the right), #6952.

Guard: the reward stands at the last token that is real, and what is real is told by place, never by the token's id.
"""

import json

import pytest
import torch

from instar.batch import View
from instar.config import ModelConfig
from instar.hub.files import load_model, save_model
from instar.infer.scoring import Scorer, rewards_at
from instar.model.transformer import Transformer

END, PAD = 1, 0
TEXTS = [[5, 9, 11, 20, END], [7, END, 3, END, 22, 23, END], [2, END], [8, PAD, 8, 12, 13, END], [END, END, END, 4]]
CONFIG = ModelConfig(
    vocab_size=31, d_model=16, layers=2, heads=2, max_positions=32, qk_norm=True, heads_of=("classify",), labels=1,
    pooling="last", tied=False,
)  # fmt: skip


@pytest.fixture(scope="module")
def model():
    """A reward model whose rewards lie far apart."""
    model = Transformer(CONFIG, seed=3).double().eval()
    with torch.no_grad():
        model.heads["classify"].out.weight.mul_(50)
    return model


def alone(model):
    """The reward of each text by itself."""
    with torch.no_grad():
        return torch.cat([model(torch.tensor([text]))[:, 0] for text in TEXTS])


def padded(side, more, fill):
    """All texts in one batch, padded on a side with some token, `more` columns wider than the longest."""
    width = max(map(len, TEXTS)) + more
    tokens = torch.full((len(TEXTS), width), fill)
    keep, positions = torch.zeros(tokens.shape, dtype=torch.bool), torch.zeros_like(tokens)
    for number, text in enumerate(TEXTS):
        place = slice(width - len(text), width) if side == "left" else slice(len(text))
        tokens[number, place], keep[number, place] = torch.tensor(text), True
        positions[number, place] = torch.arange(len(text))
    return tokens, View(positions=positions, keep=keep)


@pytest.mark.parametrize("fill", [PAD, END, 17])
@pytest.mark.parametrize("more", [0, 1, 9])
@pytest.mark.parametrize("side", ["left", "right"])
@torch.no_grad()
def test_padding_changes_no_reward(model, side, more, fill):
    """Whichever side, however much and with whatever token: each text has the reward that it has by itself."""
    tokens, view = padded(side, more, fill)
    torch.testing.assert_close(model(tokens, view=view)[:, 0], alone(model), rtol=1e-10, atol=1e-10)


@torch.no_grad()
def test_an_end_inside_is_a_token_like_others(model):
    """Read at the first end, or before the last tokens that look like padding, a reward would be another one."""
    right = alone(model)
    for number, text in enumerate(TEXTS):
        hidden = model.hidden(torch.tensor([text]))
        everywhere = rewards_at(model, hidden, torch.arange(len(text)))
        assert everywhere[-1] == pytest.approx(right[number].item())
        assert all((everywhere[place] - right[number]).abs() > 0.01 for place in range(len(text) - 1))


def test_a_scorer_reads_there_in_any_batch(model):
    """Ragged texts, whatever their order and how many at a time, in either precision."""
    wanted = alone(model).tolist()
    for batch in (1, 2, 5):
        scorer = Scorer(model, None, batch=batch)
        assert scorer.ids(TEXTS) == pytest.approx(wanted, abs=1e-9)
        assert scorer.ids(TEXTS[::-1]) == pytest.approx(wanted[::-1], abs=1e-9)


@torch.no_grad()
def test_pairs_that_share_a_row_are_read_at_their_own_last_tokens(pairs):
    """Two answers behind one prompt, several pairs in a row: the rewards of training are those of texts alone."""
    model = Transformer(CONFIG, seed=4).double().eval()
    batch, order = pairs.packed(True)
    found = rewards_at(model, model.hidden(batch.tokens, view=batch.view), batch.last).view(-1, 2)
    for pair, rewards in zip(order, found):
        prompt, *answers = pairs.triples[pair]
        wanted = [model(torch.tensor([[*prompt, *said]]))[0, 0].item() for said in answers]
        assert rewards.tolist() == pytest.approx(wanted, abs=1e-10)


@torch.no_grad()
def test_transformers_reads_there_too(model, tmp_path):
    """The folder is a stock one: with its padding token set, transformers gives the same rewards, padded on either
    side; where texts end with the token that pads, it is told of no padding rather than look one token too early."""
    transformers = pytest.importorskip("transformers")
    texts = [text for text in TEXTS if text[-1] == END]
    ours = model.float()
    save_model(ours, tmp_path, tokens={"bos_token_id": None, "eos_token_id": END, "pad_token_id": PAD})
    theirs, told = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(told[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    wanted = torch.tensor(Scorer(ours, None).ids(texts))
    width = max(map(len, texts))
    for side in ("left", "right"):
        missing = [width - len(text) for text in texts]
        ends = [(more, 0) if side == "left" else (0, more) for more in missing]
        rows = torch.tensor([[PAD] * left + text + [PAD] * right for text, (left, right) in zip(texts, ends)])
        real = torch.tensor([[0] * left + [1] * len(text) + [0] * right for text, (left, right) in zip(texts, ends)])
        found = theirs.eval()(rows, attention_mask=real).logits[:, 0]
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    assert Scorer(load_model(tmp_path), None).ids(texts) == pytest.approx(wanted.tolist(), abs=1e-6)
    save_model(ours, tmp_path, tokens={"eos_token_id": [3, END], "pad_token_id": END})
    assert "pad_token_id" not in json.loads((tmp_path / "config.json").read_text())
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    found = torch.cat([theirs(torch.tensor([text])).logits[:, 0] for text in TEXTS])
    torch.testing.assert_close(found, torch.tensor(Scorer(ours, None).ids(TEXTS)), rtol=1e-5, atol=1e-5)
    model.double()
