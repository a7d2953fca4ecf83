"""Trap 6, huggingface/trl#805, hiyouga/LLaMA-Factory#4224, huggingface/nanoVLM#204: packed documents saw each
other, and the last token of one was taught to say the first of the next. Here packed rows teach exactly what unpacked
rows teach."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from instar.batch import IGNORE
from instar.config import ModelConfig
from instar.data.collate import Collate
from instar.data.dialogues import load_dialogues
from instar.data.memory import store_in_memory
from instar.data.packing import best_fit, one_each, windows
from instar.data.shards import Section
from instar.data.sources import Document
from instar.model.transformer import Transformer
from instar.text.tokenizer import Tokenizer

CONTEXT = 24


@pytest.fixture(scope="module")
def store():
    """Documents of many lengths, none longer than a row, a third of whose tokens do not teach."""
    random = np.random.default_rng(0)
    ids = [random.integers(1, 60, length) for length in (3, 9, 1, 14, 24, 2, 7, 11, 20, 5)]
    return store_in_memory([Section(x, 0, 1, teaches=random.random(len(x)) > 0.3) for x in ids], 64)


@pytest.fixture(scope="module")
def model():
    config = ModelConfig(vocab_size=64, d_model=32, layers=2, heads=2, max_positions=32)
    return Transformer(config, seed=1).double()


def loss(model, batch):
    """The sum over targets, and its gradient."""
    model.zero_grad()
    logits = model(batch.tokens, view=batch.view)
    total = F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), ignore_index=IGNORE, reduction="sum")
    total.backward()
    return total.detach(), torch.cat(
        [weight.grad.flatten() for weight in model.parameters() if weight.grad is not None]
    )


def batch_of(store, packing):
    return Collate(store, CONTEXT)(list(packing(store.lengths, CONTEXT)))


def test_packed_rows_teach_what_unpacked_rows_teach(store, model):
    """Fewer rows, the same targets, the same loss and the same gradient in float64."""
    packed, alone = batch_of(store, best_fit), batch_of(store, one_each)
    assert len(packed.tokens) < len(alone.tokens)
    assert packed.count() == alone.count() > 0
    (loss_packed, gradient_packed), (loss_alone, gradient_alone) = loss(model, packed), loss(model, alone)
    torch.testing.assert_close(loss_packed, loss_alone, rtol=1e-12, atol=0)
    torch.testing.assert_close(gradient_packed, gradient_alone, rtol=0, atol=1e-10)


@pytest.mark.parametrize("packing", [best_fit, windows])
def test_the_last_token_of_a_document_predicts_nothing(store, packing):
    """Where the segment changes, and at the end of a document before padding, there is no target."""
    rows = packing(store.lengths, CONTEXT)
    batch = Collate(store, CONTEXT)(list(rows))
    boundaries = 0
    for row, targets in zip(rows, batch.targets.tolist()):
        place = 0
        for document, start, stop in row:
            place += stop - start
            if stop == store.lengths[document]:
                boundaries += 1
                assert targets[place - 1] == IGNORE
    assert boundaries == len(store)


@pytest.mark.parametrize("packing", [best_fit, windows])
def test_another_document_in_the_row_changes_no_bit(store, model, packing):
    """Edit every document but one: its logits stay bit for bit what they were."""
    rows = packing(store.lengths, CONTEXT)
    number = next(n for n, row in enumerate(rows) if len(row) > 1)
    batch = Collate(store, CONTEXT)([rows[number]])
    segments = batch.view.segments[0]
    with torch.no_grad():
        before = model(batch.tokens, view=batch.view)[0]
        for segment in range(len(rows[number])):
            own = segments == segment
            edited = torch.where(own, batch.tokens, (batch.tokens + 17) % 60)
            after = model(edited, view=batch.view)[0]
            assert torch.equal(before[own], after[own])
            assert not torch.equal(before[~own], after[~own])


def test_packed_dialogues_teach_what_unpacked_ones_teach(model):
    """Of completions, several turns, marked replies and tools, under both ways to teach: the same targets, the same
    loss and the same gradient."""
    tokenizer = Tokenizer.train([], 320)
    asked, said = {"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Anna."}
    call = {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {}}}],
    }
    records = [
        {"prompt": "Who?", "completion": "Anna."}, {"messages": [asked, said, asked, said]},
        {"messages": [asked, said | {"weight": 0}, asked, said]},
        {"messages": [asked, call, {"role": "tool", "content": "3"}, said]},
    ]  # fmt: skip
    documents = [Document(record, "here", number) for number, record in enumerate(records, 1)]
    config = replace(model.config, vocab_size=320, max_positions=512)
    large = Transformer(config, seed=1).double()
    for teach in ("assistant", "all"):
        store, _ = load_dialogues(documents, tokenizer, context=512, teach=teach)
        batches = [Collate(store, 512)(list(packing(store.lengths, 512))) for packing in (best_fit, one_each)]
        assert len(batches[0].tokens) < len(batches[1].tokens) == 4
        assert batches[0].count() == batches[1].count()
        (loss_packed, packed), (loss_alone, alone) = (loss(large, batch) for batch in batches)
        torch.testing.assert_close(loss_packed, loss_alone, rtol=1e-12, atol=0)
        torch.testing.assert_close(packed, alone, rtol=0, atol=1e-10)
