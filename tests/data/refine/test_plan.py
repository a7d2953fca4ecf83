"""Which task reads what, and which folder is of which plan."""

import os
from dataclasses import replace

import pytest

from instar.config import InputError
from instar.data.raw.piece import Piece
from instar.data.refine import plan


def test_a_plan_depends_on_the_data_alone(recipe_of):
    """Who works, and how often what was written is read, changes neither tasks nor key; the size of a task does."""
    first = plan.make(recipe_of())
    assert len(first.tasks) == 4
    assert all(len({piece.source for piece in task}) == 1 for task in first.tasks)
    recipe = recipe_of(executor={"workers": 7, "kind": "slurm"})
    weighed = replace(recipe, sources=tuple(replace(source, weight=2.0, epochs=3.0) for source in recipe.sources))
    assert plan.make(weighed) == first
    assert plan.make(recipe_of(task_mb=1.0)).key != first.key
    assert len(plan.make(recipe_of(task_mb=1.0)).tasks) == 2


def test_every_byte_is_read_once(raw, recipe_of):
    """The pieces of a source are its files, each whole or cut without a gap, and what has no reader is counted."""
    found = plan.make(recipe_of())
    for source in ("rows", "texts"):
        files = [path for path in (raw / source).iterdir() if path.suffix != ".pdf"]
        assert found.bytes(source) == sum(path.stat().st_size for path in files)
        assert found.files(source) == len(files)
    assert found.skipped == {"rows": {".pdf": 1}, "texts": {}}


def test_neighbours_share_a_task():
    """Small pieces go together up to the size of a task; a large one and a world are alone."""
    pieces = [Piece("s", "text", f"{number}", size) for number, size in enumerate([4, 4, 4, 30, 1])]
    worlds = [Piece("s", "text", "world:stories", 0), Piece("s", "text", "world:facts", 0)]
    sizes = [[piece.size for piece in task] for task in plan.divide([*pieces, *worlds], 10)]
    assert sizes == [[4, 4], [4], [30], [1], [0], [0]]


def test_tasks_come_back_as_they_were(recipe_of, tmp_path):
    """A worker reads its own pieces from a small file."""
    made = plan.make(recipe_of())
    made.spread(tmp_path)
    assert [tuple(plan.pieces_of(tmp_path, rank)) for rank in range(len(made.tasks))] == list(made.tasks)


def test_another_plan_is_refused_by_what_differs(raw, recipe_of, tmp_path):
    """Both keys are said, and the option or the file that is not as it was; the same plan passes."""
    held = plan.make(recipe_of())
    held.save(tmp_path)
    plan.refuse_other(tmp_path, plan.load(tmp_path), plan.make(recipe_of()))
    with pytest.raises(InputError, match=r"limits.depth was 512 and is 64; name another") as error:
        plan.refuse_other(tmp_path, plan.load(tmp_path), other := plan.make(recipe_of(limits={"depth": 64})))
    assert held.key[:12] in str(error.value)
    assert other.key[:12] in str(error.value)
    with pytest.raises(InputError, match=r"recipe.sources was .* and is"):
        plan.refuse_other(tmp_path, plan.load(tmp_path), plan.make(recipe_of(sources=[{"data": [str(raw / "rows")]}])))


def test_a_file_that_changed_is_noticed(raw, recipe_of, tmp_path):
    """Another size, the same size at another time, a new file, one that is gone."""
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "a.txt").write_text("one")
    recipe = recipe_of(sources=[{"data": [str(folder)]}])
    held = plan.make(recipe)
    held.save(tmp_path)

    def said():
        with pytest.raises(InputError) as error:
            plan.refuse_other(tmp_path, plan.load(tmp_path), plan.make(recipe))
        return str(error.value)

    os.utime(folder / "a.txt", ns=(1, 1))
    assert "a.txt was written anew" in said()
    (folder / "a.txt").write_text("three")
    assert "a.txt had 3 bytes and has 5" in said()
    (folder / "b.txt").write_text("two")
    assert "b.txt is new" in said()
    (folder / "a.txt").unlink()
    assert "a.txt is gone" in said()


def test_a_damaged_plan_is_named(tmp_path):
    """Half a plan.json is refused by name, and no plan is none."""
    assert plan.load(tmp_path) is None
    (tmp_path / plan.PLAN).write_text('{"key": "x", "fac')
    with pytest.raises(InputError, match=r"plan\.json: damaged"):
        plan.load(tmp_path)
