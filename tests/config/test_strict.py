"""Options, YAML and flags: one definition, no surprises."""

import dataclasses
from dataclasses import dataclass, field
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instar.config import InputError, ModelConfig, dump_yaml, from_dict, load_yaml, option_names, to_dict
from instar.config import options as all_options
from instar.config.flags import parse
from instar.config.presets import PRESETS, preset


@dataclass(frozen=True)
class Inner:
    """Inner options."""

    lr: float = 0.1
    steps: int = 3
    on: bool = False
    shape: tuple[int, ...] = (1, 2)
    bias: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Outer:
    """Outer options."""

    name: str = "x"
    kind: Literal["a", "b"] = "a"
    maybe: int | None = None
    inner: Inner = field(default_factory=Inner)


COMMANDS = [
    cls
    for cls in vars(all_options).values()
    if dataclasses.is_dataclass(cls) and cls.__module__.startswith(all_options.__name__)
]


@pytest.mark.parametrize("cls", COMMANDS, ids=lambda cls: cls.__name__)
def test_options_round_trip_through_yaml(cls, tmp_path):
    """to_dict -> YAML -> from_dict gives the same options for every command."""
    path = tmp_path / "o.yaml"
    path.write_text(dump_yaml(to_dict(cls())), encoding="utf-8")
    assert from_dict(cls, load_yaml(path)) == cls()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"nam": "y"}, "unknown option nam; did you mean name?"),
        ({"inner": {"lrr": 1}}, "unknown option inner.lrr; did you mean inner.lr?"),
        ({"inner": {"steps": 1.5}}, "inner.steps: found 1.5 (float), wanted int"),
        ({"inner": {"steps": True}}, "inner.steps: found True (bool), wanted int"),
        ({"inner": {"lr": "3"}}, "inner.lr: found '3' (str), wanted float"),
        ({"inner": 3}, "inner: found 3 (int), wanted a mapping of options"),
        ({"kind": "c"}, "unknown value for kind: c; known: a, b"),
        ({"inner": {"shape": [1, "2"]}}, "inner.shape[1]: found '2' (str), wanted int"),
        ({"inner": {"bias": [[1, 2], 3]}}, "inner.bias[1]: found 3 (int), wanted 2 values: int, float"),
        ({"inner": {"bias": [[1, 2, 3]]}}, "inner.bias[0]: found [1, 2, 3] (list), wanted 2 values: int, float"),
        ({"inner": {"bias": {"a": 2}}}, "inner.bias[0][0]: found 'a' (str), wanted int"),
        ({"inner": {"bias": {1: "b"}}}, "inner.bias[0][1]: found 'b' (str), wanted float"),
        ({"inner": {"shape": {1: 2}}}, "inner.shape: found {1: 2} (dict), wanted tuple[int, ...]"),
        ({"inner": {"lr": float("nan")}}, "inner.lr: found nan (float), wanted float"),
    ],
)
def test_wrong_data_is_named_with_its_path(data, message):
    """A misspelt key or a wrong type is an InputError that names the full path."""
    with pytest.raises(InputError) as error:
        from_dict(Outer, data)
    assert str(error.value) == message


def test_pairs_are_a_mapping_or_a_list(tmp_path):
    """What a token's bias is may be said as {17: -5}, and is written as a list that is read back equal."""
    path = tmp_path / "p.yaml"
    wanted = Outer(inner=Inner(bias=((17, -5.0), (3, 2.5))))
    for text in (
        "inner: {bias: {17: -5, 3: 2.5}}\n",
        "inner: {bias: [[17, -5], [3, 2.5]]}\n",
        dump_yaml(to_dict(wanted)),
    ):
        path.write_text(text, encoding="utf-8")
        assert from_dict(Outer, load_yaml(path)) == wanted
    path.write_text("inner: {bias: {17: -5, 17: 2}}\n", encoding="utf-8")
    with pytest.raises(InputError, match="key 17 stands twice"):
        load_yaml(path)


def test_yaml_reads_numbers_as_people_write_them(tmp_path):
    """3e-4 is a float, 012 is twelve, `no` is a word; PyYAML alone says otherwise."""
    path = tmp_path / "n.yaml"
    path.write_text("a: 3e-4\nb: 012\nc: no\nd: 1_000\ne: 1e6\nf: true\ng: 2020-01-01\nh:\n", encoding="utf-8")
    expected = {"a": 3e-4, "b": 12, "c": "no", "d": 1000, "e": 1e6, "f": True, "g": "2020-01-01", "h": None}
    assert load_yaml(path) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2\n", "key a stands twice, in lines 1 and 2"),
        ("- 1\n", "found list, wanted a mapping"),
        ("a: [1\n", r"n\.yaml"),
        ("a: !!python/object/apply:os.system ['x']\n", "could not determine a constructor"),
    ],
)
def test_bad_yaml_is_an_input_error(text, message, tmp_path):
    """Repeated keys, other shapes, broken syntax and code are refused by name."""
    path = tmp_path / "n.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        load_yaml(path)


def test_missing_file_is_named():
    """A YAML file that is not there is named."""
    with pytest.raises(InputError, match=r"no such file: nowhere\.yaml"):
        load_yaml("nowhere.yaml")


def read(*words, start=None):
    return parse(Outer, list(words), program="test", start=start)


def test_flags_win_over_the_file_and_the_file_over_defaults(tmp_path):
    """defaults < --config < flags, at every level."""
    path = tmp_path / "c.yaml"
    path.write_text("name: file\ninner: {lr: 3e-4, steps: 7}\n", encoding="utf-8")
    options = read("--config", str(path), "--inner.steps", "9", "--inner.on")
    assert options == Outer(name="file", inner=Inner(lr=3e-4, steps=9, on=True))


def test_flag_spellings():
    """--a=b, hyphens for underscores, --no-x, several values, none."""
    assert read("--inner.shape", "4", "5", "--name=n").inner.shape == (4, 5)
    assert read("--inner.on", "--inner.no-on").inner.on is False
    assert read("--inner.on=true").inner.on is True
    assert read("--inner.bias", "17=-5", "3=2.5").inner.bias == ((17, -5.0), (3, 2.5))
    assert read("--inner.bias", "17", "-5", "3", "2.5").inner.bias == ((17, -5.0), (3, 2.5))
    assert read("--inner.bias=17=-5").inner.bias == ((17, -5.0),)
    assert read("--maybe", "3").maybe == 3
    assert read("--maybe", "3", "--maybe", "none").maybe is None


def test_a_group_is_left_out_only_where_it_says_so():
    """How an answer is drawn may be said briefly, and misspelt names are near that too; other groups are named."""

    def say(*words):
        return parse(all_options.GenerateOptions, ["--model", "x", "--prompt", "y", *words], program="instar generate")

    assert say("--beams", "6", "--top-k", "3") == say("--sampling.beams", "6", "--sampling.top-k=3")
    with pytest.raises(InputError, match=r"unknown option --beems; did you mean --beams\?"):
        say("--beems", "6")
    with pytest.raises(InputError, match="unknown option --lr"):
        read("--lr", "3e-4")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--inner.lrr", "1"], "unknown option --inner.lrr; did you mean --inner.lr?"),
        (["--nam", "1"], "unknown option --nam; did you mean --name?"),
        (["--inner.steps", "1.5"], "--inner.steps: found '1.5', wanted a whole number"),
        (["--inner.lr", "fast"], "--inner.lr: found 'fast', wanted a number"),
        (["--inner.bias", "17"], "--inner.bias: found '17', wanted pairs such as 17=-5 18=2.5"),
        (["--inner.bias", "17=1", "18", "2"], "--inner.bias: found '17=1 18 2', wanted pairs such as 17=-5 18=2.5"),
        (["--inner.bias", "17=1=2"], "--inner.bias: found '17=1=2', wanted pairs such as 17=-5 18=2.5"),
        (["--inner.bias", "a=1"], "--inner.bias: found 'a', wanted a whole number"),
        (["--kind", "c"], "unknown value for --kind: c; known: a, b"),
        (["--name"], "--name wants a value; see --help"),
        (["--inner.on=yes"], "--inner.on: found 'yes', wanted true or false"),
        (["stray"], "found 'stray' where a --flag was wanted; see --help"),
        (["--config"], "--config wants a file: --config FILE.yaml"),
    ],
)
def test_wrong_flags_are_named(words, message):
    """Story: unslothai/unsloth#10452, a misspelt option ignored and found hours later (U1)."""
    with pytest.raises(InputError) as error:
        read(*words)
    assert str(error.value) == message


def test_missing_options_are_named_together():
    """All required options that are missing stand in one sentence."""
    with pytest.raises(InputError, match="missing --data, --tokenizer, --out"):
        parse(all_options.PretrainOptions, [], program="instar pretrain")


@given(st.dictionaries(st.sampled_from(["d_model", "heads", "layers", "kv_heads"]), st.integers(1, 64)))
def test_a_shape_is_derived_or_refused(changes):
    """Any change to a preset gives a consistent shape or an InputError, never another exception."""
    try:
        config = preset("nano", **changes)
    except InputError:
        return
    assert config.heads % config.kv_heads == 0
    assert config.head_size > 0


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_valid(name):
    """Every preset is a valid shape that survives the round trip."""
    config = preset(name)
    assert from_dict(ModelConfig, to_dict(config)) == config


def test_every_option_is_documented():
    """Each option has a comment right above it, which --help shows; a group of them has none of another's."""
    import inspect

    for cls in [*COMMANDS, ModelConfig]:
        lines = inspect.getsource(cls).splitlines()
        own = dict.fromkeys(name.split(".")[0] for name in option_names(cls))
        for name in own.keys() & cls.__annotations__.keys():
            kind = cls.__annotations__[name]
            number = next(i for i, line in enumerate(lines) if line.strip().startswith(f"{name}: "))
            before = lines[number - 1].strip()
            if "Options" in kind or kind == "ModelConfig":
                alone = not before or before.startswith(("#", ")")) or "default_factory" in before
                assert alone, f"{cls.__name__}.{name}: --help would tell of it what it tells of {before}"
                continue
            assert before.startswith("#"), f"{cls.__name__}.{name} is not documented"
