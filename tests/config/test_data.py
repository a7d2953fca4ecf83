"""A data recipe, read before any file is looked at: what means nothing is refused by its path."""

import pytest

from instar.config import InputError, to_dict
from instar.config.data import read_data_recipe

SOURCE = {"data": ["x.jsonl"]}


def test_sources_get_names():
    """By their kind, with a number where there are several; a name that is said stays; and it reads back equal."""
    recipe = read_data_recipe({"sources": [SOURCE, SOURCE | {"kind": "web"}, SOURCE, SOURCE | {"name": "mine"}]})
    assert [source.name for source in recipe.sources] == ["text-1", "web", "text-2", "mine"]
    assert read_data_recipe(to_dict(recipe)) == recipe


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({}, "sources is missing"),
        ({"sources": [{}]}, r"sources\[0\]\.data is missing"),
        ({"sources": [SOURCE | {"kind": "wbe"}]}, r"sources\[0\]\.kind: wbe; did you mean web"),
        (
            {"sources": [SOURCE | {"name": "a"}, SOURCE | {"name": "a"}]},
            r"sources\[1\]\.name is 'a', as of sources\[0\]",
        ),
        ({"sources": [SOURCE | {"languages": ["en", "zz"]}]}, r"unknown language of sources\[0\] zz"),
        ({"sources": [SOURCE | {"languages": ["english"]}]}, r"unknown language of sources\[0\] english"),
        ({"sources": [SOURCE | {"epochs": 0}]}, "weight 0 and epochs 0, and nothing would be written"),
        ({"sources": [SOURCE | {"epochs": -1}]}, r"sources\[0\]\.epochs=-1.0, wanted 0 or more"),
        ({"sources": [SOURCE | {"rules": ["none", "c4"]}]}, "none stands alone"),
        ({"sources": [SOURCE], "tokens": 5}, "tokens=5 is shared out by weights, and no source has a weight"),
        ({"sources": [SOURCE], "task_mb": 0}, r"task_mb=0.0, wanted more than 0"),
        ({"sources": [SOURCE], "limits": {"depth": 0}}, r"limits\.depth=0, wanted more than 0"),
        ({"sources": [SOURCE], "executor": {"workers": -2}}, r"executor\.workers=-2"),
        ({"sources": [SOURCE], "executor": {"memory_gb": 0}}, r"executor\.memory_gb=0.0"),
        ({"sources": [SOURCE], "sorces": []}, "did you mean sources"),
    ],
)
def test_what_cannot_be_meant_is_refused(data, said):
    """The full path, what was found and what was wanted."""
    with pytest.raises(InputError, match=said):
        read_data_recipe(data)
