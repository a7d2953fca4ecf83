"""What models are called."""

import pytest

from instar.config import InputError
from instar.config.options import ServeOptions
from instar.serve.naming import adapters_of, model_name, name_of


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("runs/demo", "demo"),
        ("runs/demo/", "demo"),
        ("hf:org/name@v2", "org/name"),
        ("hf:org/name", "org/name"),
        ("/", "model"),
    ],
)
def test_a_model_is_called_after_its_folder(folder, name):
    """Unless it is said otherwise."""
    assert name_of(folder) == name
    assert model_name(ServeOptions(model=folder)) == name
    assert model_name(ServeOptions(model=folder, name="mine")) == "mine"


def test_a_folder_with_a_point_is_called_after_where_it_is(tmp_path, monkeypatch):
    """Example: instar serve --model ."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert name_of(".") == "here"


@pytest.mark.parametrize("name", ["", " ", "a b", "a\nb", "\x1b[31m", "x" * 129, "é\u202e"])
def test_names_that_nobody_can_say_are_refused(name):
    """S23: a name stands in logs and in errors as it is."""
    with pytest.raises(InputError):
        adapters_of(ServeOptions(model="runs/demo", adapters=(f"{name}=runs/x",)))


@pytest.mark.parametrize("adapters", [("sft",), ("sft=",), ("a=x", "a=y"), ("demo=x",)])
def test_adapters_have_a_name_and_a_folder_each(adapters):
    """Without a folder, or twice the same name, they are refused."""
    assert adapters_of(ServeOptions(model="runs/demo", adapters=("sft=runs/sft", "b=c=d"))) == {
        "sft": "runs/sft",
        "b": "c=d",
    }
    with pytest.raises(InputError, match="adapters"):
        adapters_of(ServeOptions(model="runs/demo", adapters=adapters))
