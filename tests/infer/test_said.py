"""What rows were asked and have said: kept in order, in no more memory than they need."""

import random

import pytest
import torch

from instar.infer.said import Said

CPU = torch.device("cpu")


def rows_of(*rows):
    return torch.tensor(rows, dtype=torch.int64)


def kept(said, row):
    """Prompt and answer of a row, and what stands behind."""
    ids, lengths, asked = said.past(rows_of(row))
    return ids[0, : asked.item()].tolist(), ids[0, asked.item() : lengths.item()].tolist(), ids[0, lengths.item() :]


def test_rows_keep_what_they_said():
    """1,500 random steps over five rows that begin, speak, end and are taken again, against lists."""
    chance, said, lists = random.Random(0), Said(5, 64, 9, CPU), {}
    for _ in range(1500):
        row = chance.randrange(5)
        for ended in [own for own, (prompt, answer) in lists.items() if len(prompt) + len(answer) == 64]:
            said.end(ended)
            del lists[ended]
        if row in lists and chance.random() < 0.05:
            said.end(row)
            del lists[row]
        elif row not in lists and chance.random() < 0.3:
            lists[row] = [
                chance.choices(range(9), k=chance.randint(1, 8)),
                chance.choices(range(9), k=chance.choice((0, 3))),
            ]
            said.begin(row, *lists[row])
        spoken = chance.sample(range(5), chance.randint(1, 5))
        ids = chance.choices(range(9), k=len(spoken))
        said.add(rows_of(*spoken), torch.tensor(ids))  # rows that never began speak too
        for speaker, id in zip(spoken, ids):
            if speaker in lists:
                lists[speaker][1].append(id)
        looked = row if row in lists else next(iter(lists), None)
        if looked is not None:
            prompt, answer, rest = kept(said, looked)
            assert [prompt, answer] == lists[looked]
            assert all(id == prompt[0] for id in rest)
            counts = said.counts(rows_of(looked))[0]
            assert counts.tolist() == [answer.count(id) for id in range(9)]
    assert said.width <= 65


def test_memory_is_taken_by_need():
    """None before the first row begins; then as much as the longest row that still speaks, however long the engine has
    run, and never for the capacity."""
    said = Said(4, 100_000, 9, CPU)
    said.add(rows_of(0, 1), torch.tensor([1, 2]))
    assert said.width < 8
    for turn in range(300):
        said.begin(turn % 4, [1, 2, 3])
        for _ in range(20):
            said.add(rows_of(turn % 4), torch.tensor([turn % 9]))
        said.end(turn % 4)
    for _ in range(300):
        said.add(rows_of(0, 1), torch.tensor([1, 2]))  # rows that have ended keep nothing
    assert said.width <= 64
    said.begin(2, list(range(9)) * 30)
    assert 270 < said.width < 600
    assert kept(said, 2)[0] == list(range(9)) * 30


def test_a_row_taken_up_again_is_as_if_it_had_gone_on():
    """A preempted request begins with its prompt and what it said."""
    on, again = Said(1, 50, 9, CPU), Said(1, 50, 9, CPU)
    on.begin(0, [4, 4, 2])
    for id in (7, 4, 7):
        on.add(rows_of(0), torch.tensor([id]))
    again.begin(0, [1] * 40)
    again.begin(0, [4, 4, 2], [7, 4, 7])
    assert kept(on, 0)[:2] == kept(again, 0)[:2] == ([4, 4, 2], [7, 4, 7])
    assert torch.equal(on.counts(rows_of(0)), again.counts(rows_of(0)))


@pytest.mark.parametrize("inside", [True, False])
def test_within_inference_mode_or_without(inside):
    """Rows may begin where a request comes in, and speak in a step."""
    with torch.inference_mode(inside):
        said = Said(2, 50, 9, CPU)
        said.begin(0, [1, 2])
    said.begin(1, [3])
    with torch.inference_mode(not inside):
        said.add(rows_of(0, 1), torch.tensor([5, 6]))
    assert (kept(said, 0)[1], kept(said, 1)[1]) == ([5], [6])
