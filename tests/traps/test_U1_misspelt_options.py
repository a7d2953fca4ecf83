"""U1: misspelt or misplaced options are errors, at every level, from the command line and from YAML."""

import pytest

from instar.cli import run
from instar.config import InputError
from instar.config.recipe import read_recipe


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pretran"], "unknown command pretran; did you mean pretrain?"),
        (["tokenizer", "trian"], "unknown command tokenizer trian; did you mean tokenizer train?"),
        (["pretrain", "--dta", "x"], "unknown option --dta; did you mean --data?"),
        (["pretrain", "--train.lrr", "1"], "unknown option --train.lrr; did you mean --train.lr?"),
        (["pretrain", "--model.layrs", "2"], "unknown option --model.layrs; did you mean --model.layers?"),
        (["sft", "--lr", "1"], "unknown option --lr"),
        (["pretrain", "--preset", "nanoo"], "unknown preset nanoo; did you mean nano?"),
    ],
)
def test_a_misspelt_word_stops_the_command(words, message, capsys):
    """unslothai/unsloth#10452: a misspelt option was ignored and found hours later. Exit 2 and the nearest match."""
    assert run(words) == 2
    told = capsys.readouterr()
    assert message in told.err
    assert not told.out
    assert "Traceback" not in told.err


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"pretrian": {}}, "unknown option pretrian; did you mean pretrain?"),
        (
            {"pretrain": {"train": {"stpes": 3}}},
            "unknown option pretrain.train.stpes; did you mean pretrain.train.steps?",
        ),
        ({"sft": {"train": 3}}, "sft.train: found 3 (int), wanted a mapping of options"),
        ({"pretrain": {"model": {"rope_scaling": {"knd": "linear"}}}}, "rope_scaling.knd; did you mean"),
    ],
)
def test_a_misspelt_key_of_a_recipe_is_named_with_its_path(recipe, message):
    """The same rule for a recipe, however deep the key stands."""
    with pytest.raises(InputError) as error:
        read_recipe(recipe)
    assert message in str(error.value)
