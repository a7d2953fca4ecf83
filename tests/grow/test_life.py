"""What makes a stage run again."""

from pathlib import Path

import pytest

from instar.config import InputError, load_yaml
from instar.config.recipe import read_recipe
from instar.grow.life import Life
from instar.train.task import check_heeded, check_shape


def test_another_list_of_words_makes_another_tokenizer(tmp_path, monkeypatch):
    """The same recipe is skipped; a words file that changed is an input that changed, and the old folder is kept."""
    made = []
    monkeypatch.setattr("instar.grow.life.train_tokenizer", lambda options: made.append(options.words) or {})
    words = tmp_path / "words.txt"
    recipe = read_recipe({
        "name": "w", "tokenizer": {"data": ["world:stories?count=3"], "words": [str(words)]},
        "pretrain": {"data": ["world:stories?count=3"]}, "sft": {"data": ["world:dialogues?count=3"]},
    })  # fmt: skip
    for text, times in (("塔楼\n", 1), ("塔楼\n", 1), ("塔楼\n闹钟\n", 2)):
        words.write_text(text, encoding="utf-8")
        life = Life(recipe, tmp_path / "out", device="cpu", quiet=True, say=lambda text: None, counting=None)
        life._claim()
        life._tokenizer()
        assert len(made) == times
    assert (tmp_path / "out" / "tokenizer.1").is_dir()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tests": [{"of": "sft", "eval": {"data": ["x"]}}]}, r"unknown stage of tests\[0\] sft"),
        ({"tests": [{"of": "pretrain"}]}, r"tests\[0\].eval.data is missing"),
        ({"exam": {"data": ["x"]}}, "sft.data is missing, and the exam asks"),
        ({"lessons": {"data": ["x"]}}, "sft.data is missing, and lessons"),
    ],
)
def test_recipes_that_cannot_be_lived(changes, message):
    """A measurement of a stage that is not there, an exam without lessons: told before anything is made."""
    with pytest.raises(InputError, match=message):
        read_recipe({"tokenizer": {"data": ["x"]}, "pretrain": {"data": ["x"]}} | changes)


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_recipe_can_be_read(path):
    """No recipe names an option that does not exist, and each model can learn its objective."""
    recipe = read_recipe(load_yaml(path))
    check_shape(recipe.pretrain.objective, recipe.pretrain.model)
    check_heeded(recipe.pretrain)
