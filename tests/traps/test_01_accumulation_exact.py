"""Trap 1: the mean of means. huggingface/transformers#34191, #35203, #35438, #37766; pytorch/torchtune#1875, #2334;
modelscope/ms-swift#10084; huggingface/trl#6024.

Several trainers divided the loss of each micro-batch by its own number of targets and averaged the results, so a step
in four uneven parts gave another gradient than the step in one. Some repairs forgot the last, partial window, others
the ranks. Here a step is compared with one big batch whose loss is written down in plain torch.
"""

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from instar.batch import IGNORE, Batch, PreferencePairs, View
from instar.config import ModelConfig
from instar.config.options import TrainOptions
from instar.data.loader import Loader
from instar.model.transformer import Transformer
from instar.train.dist import join
from instar.train.objectives import cross_entropy
from instar.train.preferences import bradley_terry, direct_preference
from instar.train.trainer import Trainer

VOCAB, ROWS = 37, 8
CONFIG = ModelConfig(vocab_size=VOCAB, d_model=16, layers=2, heads=2, max_positions=32, qk_norm=True)


def make_rows(share):
    """Rows of 3 to 21 tokens, of whose targets about `share` teach; the first row teaches nothing below 1."""
    generator = torch.Generator().manual_seed(11)
    rows = []
    for number in range(3 * ROWS):
        tokens = torch.randint(0, VOCAB, (4 + (7 * number) % 19,), generator=generator)
        targets = tokens[1:].clone()
        targets[torch.rand(len(targets), generator=generator) >= share * (number > 0 or share == 1)] = IGNORE
        rows.append((tokens[:-1], targets))
    return rows


def pad(rows):
    shape = (len(rows), max(len(tokens) for tokens, _ in rows))
    tokens, targets = torch.zeros(shape, dtype=torch.int64), torch.full(shape, IGNORE)
    keep = torch.zeros(shape, dtype=torch.bool)
    for number, (ids, wanted) in enumerate(rows):
        tokens[number, : len(ids)], targets[number, : len(ids)], keep[number, : len(ids)] = ids, wanted, True
    return Batch(tokens, targets, View(keep=keep))


def pad_pairs(rows):
    """The same rows as what an encoder reads, too."""
    batch = pad(rows)
    return replace(batch, source=batch.tokens, source_view=batch.view)


def make_pairs():
    """(prompt, chosen, rejected) of unequal lengths, with a margin and the log-probabilities of a reference."""
    generator = torch.Generator().manual_seed(12)

    def text(number, most):
        return torch.randint(0, VOCAB, (1 + number % most,), generator=generator)

    return [
        (text(n, 5), text(3 * n, 7), text(5 * n, 11), n % 4 / 4, -torch.rand(2, generator=generator).double() * 20)
        for n in range(3 * ROWS)
    ]


def pad_answers(rows):
    """Two answers a pair, each in a line of its own behind its prompt."""
    texts = [(prompt, said) for prompt, chosen, rejected, *_ in rows for said in (chosen, rejected)]
    shape = (len(texts), max(len(prompt) + len(said) for prompt, said in texts))
    tokens, targets, answer = (torch.full(shape, value) for value in (0, IGNORE, -1))
    for number, (prompt, said) in enumerate(texts):
        tokens[number, : len(prompt) + len(said)] = torch.cat((prompt, said))
        places = slice(len(prompt) - 1, len(prompt) + len(said) - 1)
        targets[number, places], answer[number, places] = said, number
    ends = torch.tensor([len(prompt) + len(said) for prompt, said in texts])
    return PreferencePairs(
        tokens, targets, View(keep=torch.arange(shape[1]) < ends[:, None]), answer=answer,
        last=torch.arange(len(texts)) * shape[1] + ends - 1, margin=torch.tensor([row[3] for row in rows]),
        reference=torch.cat([row[4] for row in rows]),
    )  # fmt: skip


def collate(name):
    return {"seq2seq": pad_pairs, "reward": pad_answers, "dpo": pad_answers}.get(name, pad)


def rewards_by_definition(model, batch):
    """The mean over pairs of -log sigmoid(r_c - r_r - margin) + 0.1 (r_c + r_r)^2."""
    said = model.heads["classify"](model.hidden(batch.tokens, view=batch.view).flatten(0, 1)[batch.last])
    chosen, rejected = said.view(-1, 2).unbind(1)
    return (-F.logsigmoid(chosen - rejected - batch.margin) + 0.1 * (chosen + rejected) ** 2).mean()


def preferences_by_definition(model, batch):
    """The mean over pairs of -log sigmoid(0.3 h) - 0.2 log p_c / tokens, log p added up answer by answer."""
    logprobs = model(batch.tokens, view=batch.view).log_softmax(-1)
    said = logprobs.gather(-1, batch.targets.clamp(min=0)[..., None]).squeeze(-1)
    sums = torch.stack([said[batch.answer == number].sum() for number in range(batch.answers)])
    lengths = torch.stack([(batch.answer == number).sum() for number in range(batch.answers)])
    gained = (sums - batch.reference).view(-1, 2)
    return (-F.logsigmoid(0.3 * (gained[:, 0] - gained[:, 1])) - 0.2 * (sums / lengths)[0::2]).mean()


def by_definition(model, batch, smoothing=0.0):
    """The loss of one batch."""
    logits = model(batch.tokens, view=batch.view, source=batch.source, source_view=batch.source_view)
    return F.cross_entropy(
        logits.flatten(0, 1), batch.targets.flatten(), ignore_index=IGNORE, label_smoothing=smoothing
    )


# name -> (objective, rows, the mean loss by definition). A later objective adds a row.
OBJECTIVES = {
    "causal": (cross_entropy, make_rows(1.0), by_definition),
    "sft": (cross_entropy, make_rows(0.3), by_definition),
    "experts": (cross_entropy, make_rows(1.0), by_definition),
    "masked": (partial(cross_entropy, head="masked"), make_rows(0.3), by_definition),
    "seq2seq": (
        partial(cross_entropy, smoothing=0.1), make_rows(1.0), partial(by_definition, smoothing=0.1),
    ),
    "reward": (bradley_terry(centering=0.1), make_pairs(), rewards_by_definition),
    "dpo": (direct_preference(None, beta=0.3, nll=0.2), make_pairs(), preferences_by_definition),
}  # fmt: skip


# name -> the shape of its model, where it is another. What balances experts is of each part alone, and left out.
SHAPES = {
    "experts": replace(CONFIG, experts=8, d_expert=16, balance=0.0),
    "masked": replace(CONFIG, causal=False, heads_of=("masked",), head_bias=True),
    "seq2seq": replace(CONFIG, encoder_layers=1, start=0),
    "reward": replace(CONFIG, heads_of=("classify",), labels=1, pooling="last"),
}


def make_model(name):
    return Transformer(SHAPES.get(name, CONFIG), seed=3).double()


def make_trainer(name, micro_rows, ranks=None):
    objective, rows, _ = OBJECTIVES[name]
    rank, world = (ranks.rank, ranks.world) if ranks else (0, 1)
    source = Loader(rows, collate(name), batch_rows=ROWS, micro_rows=micro_rows, seed=5, rank=rank, world=world)
    return Trainer(make_model(name), objective, source, TrainOptions(steps=3, clip=0.0), ranks=ranks)


def gradients(model):
    """An expert that no token was given has none, which is nothing."""
    return {
        name: torch.zeros_like(weight) if weight.grad is None else weight.grad.clone()
        for name, weight in model.named_parameters()
    }


def one_big_batch(name):
    """Loss and gradients of the first step, taken whole."""
    _, rows, loss_of = OBJECTIVES[name]
    source = Loader(rows, collate(name), batch_rows=ROWS, seed=5)
    model = make_model(name)
    loss = loss_of(model, next(source))
    loss.backward()
    return loss.item(), gradients(model)


@pytest.mark.parametrize("parts", [1, 2, 4, 8, "3+3+2"])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_step_in_parts_is_the_step_in_one(name, parts):
    """Loss and every gradient equal those of one big batch, for even parts and for a partial last window."""
    trainer = make_trainer(name, 3 if parts == "3+3+2" else ROWS // parts)
    record = trainer.advance()
    loss, wanted = one_big_batch(name)
    assert record["loss"] == pytest.approx(loss, abs=1e-10)
    torch.testing.assert_close(gradients(trainer.model), wanted, rtol=1e-10, atol=1e-10)


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory):
    """What two processes over gloo came to, by objective: loss and gradients of one step, weights after three."""
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "test"}
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, str(folder)],
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"},
        )
        for rank in range(2)
    ]
    assert [process.wait(timeout=240) for process in processes] == [0, 0]
    return folder


def run_rank(folder):
    """One of the two processes."""
    ranks = join(torch.device("cpu"))
    for name in OBJECTIVES:
        trainer = make_trainer(name, 3, ranks)
        record = trainer.advance()
        found = gradients(trainer.model)
        for _ in range(2):
            trainer.advance()
        stem = folder / f"{name}-{ranks.rank}"
        save_file(found, f"{stem}.grads.safetensors")
        save_file({n: w.detach() for n, w in trainer.model.named_parameters()}, f"{stem}.weights.safetensors")
        Path(f"{stem}.json").write_text(json.dumps(record))
    ranks.wait()
    ranks.close()


@pytest.mark.parametrize("name", OBJECTIVES)
def test_two_ranks_are_one(two_ranks, name):
    """Two gloo processes, in partial windows, have the loss and gradients of one big batch, and stay alike."""
    loss, wanted = one_big_batch(name)
    alone = make_trainer(name, 0)
    for _ in range(3):
        alone.advance()
    end = {name: weight.detach() for name, weight in alone.model.named_parameters()}
    for rank in range(2):
        stem = two_ranks / f"{name}-{rank}"
        assert json.loads(Path(f"{stem}.json").read_text())["loss"] == pytest.approx(loss, abs=1e-10)
        torch.testing.assert_close(load_file(f"{stem}.grads.safetensors"), wanted, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(load_file(f"{stem}.weights.safetensors"), end, rtol=1e-9, atol=1e-9)


def without_targets(batch):
    return Batch(batch.tokens, torch.full_like(batch.targets, IGNORE), batch.view)


def test_a_micro_batch_that_teaches_nothing_is_a_finite_no_op():
    """Story: karpathy/nanochat#590, #834; huggingface/trl#6668: NaN at step 4, shown as 0.0. A fully masked micro-batch
    adds nothing to loss and gradient."""
    plain, mixed = make_trainer("sft", 4), make_trainer("sft", 4)
    half = [next(plain.source) for _ in range(2)]
    record = _learn(plain, half[:1])
    with_masked = _learn(mixed, [half[0], without_targets(half[1])])
    assert with_masked == pytest.approx(record, abs=1e-12)
    torch.testing.assert_close(gradients(mixed.model), gradients(plain.model), rtol=1e-12, atol=1e-14)


def _learn(trainer, batches):
    """One step over given micro-batches; its loss."""
    given = iter(batches)
    trainer.source = _Given(given, len(batches))
    return trainer.advance()["loss"]


class _Given:
    epoch = 0

    def __init__(self, batches, micro_batches):
        self.batches, self.micro_batches = batches, micro_batches

    def __next__(self):
        return next(self.batches)


def test_a_step_that_teaches_nothing_moves_nothing():
    """A whole step without targets has no loss (not 0.0), and leaves weights, moments and schedule alone."""
    trainer = make_trainer("sft", 0)
    trainer.advance()
    before = {name: weight.detach().clone() for name, weight in trainer.model.named_parameters()}
    moments = {name: value.clone() for name, value in trainer.optimizer.state().items()}
    batch = without_targets(next(trainer.source))
    assert _learn(trainer, [batch]) is None
    assert (trainer.step, trainer.updates) == (2, 1)
    assert all(torch.equal(before[name], weight) for name, weight in trainer.model.named_parameters())
    assert all(torch.equal(moments[name], value) for name, value in trainer.optimizer.state().items())


if __name__ == "__main__":
    run_rank(Path(sys.argv[1]))
