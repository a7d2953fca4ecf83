"""What a config.json asks for and we do not compute, or could not build, is told before anything is allocated."""

import json
import subprocess
import sys

import pytest
import torch

from instar.config import InputError, ModelConfig, from_dict
from instar.config.shape import MOST
from instar.hub import files, memory
from instar.hub.configs import LIMIT, SIZES, read_config
from instar.hub.families import config_from_hf, config_to_hf
from instar.hub.files import load_model, save_model
from instar.model.transformer import Transformer

CONFIG = ModelConfig(vocab_size=64, d_model=32, layers=2, heads=4, qk_norm=True)
# 1.4e12 weights, each figure within its bounds
HUGE = {
    "hidden_size": 32_768, "num_hidden_layers": 80, "intermediate_size": 131_072, "num_attention_heads": 256,
    "num_key_value_heads": 256, "head_dim": 128, "layer_types": None, "max_window_layers": 80,
}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    save_model(Transformer(CONFIG), tmp_path)
    return tmp_path


def change(folder, **values):
    """Change the config.json of a folder."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize("kinds", [["full_attention", "strange_attention"], 5])
def test_layers_of_another_kind_are_refused(kinds):
    """layer_types that are not computed are named."""
    with pytest.raises(InputError, match="layer_types="):
        config_from_hf(config_to_hf(CONFIG) | {"layer_types": kinds})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *[(key, value) for key in SIZES for value in (MOST[SIZES[key]] + 1, 10**12, -1, True, 2.5, "8", [8], 10**50)],
        ("sliding_window", 1 << 40), ("strange", -(1 << 40)),
    ],
)  # fmt: skip
def test_figures_out_of_bounds(folder, key, value):
    """Each size of a config.json has a bound, in every family's spelling; what is no whole number is none."""
    change(folder, **{key: value})
    with pytest.raises(InputError, match=rf"config\.json: {key}="):
        read_config(folder)


@pytest.mark.parametrize("name", MOST)
@pytest.mark.parametrize("past", [1, -2])
def test_shapes_out_of_bounds(name, past):
    """The same bounds hold for the shape of a recipe."""
    value = MOST[name] + 1 if past > 0 else past
    with pytest.raises(InputError, match=rf"{name}={value}"):
        ModelConfig(**{"vocab_size": 64, "d_model": 32, "layers": 2, "heads": 4} | {name: value})


@pytest.mark.parametrize("value", [10**400, float("nan"), float("inf"), -1.0])
def test_numbers_that_are_none(value):
    """A whole number of hundreds of digits is no float, and its error quotes only the beginning."""
    with pytest.raises(InputError, match="norm_eps") as caught:
        from_dict(ModelConfig, {"norm_eps": value})
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"rms_norm_eps": -1.0}, "norm_eps"), ({"rms_norm_eps": 10**400}, "norm_eps"),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 0.0}}, "rope_theta=0.0"),
        ({"rope_parameters": {"rope_type": "linear", "factor": 0.0}}, "rope_scaling.factor=0.0"),
        ({"rope_parameters": {"rope_type": "llama3", "low_freq_factor": 4.0}}, "is not below"),
        ({"rope_parameters": {"rope_type": "llama3", "original_max_position_embeddings": 1 << 40}}, "original_pos"),
        ({"rope_parameters": {"rope_type": []}}, "another kind"), ({"rope_parameters": 3}, "another kind"),
        ({"hidden_act": {"a": 1}}, "another kind"), ({"architectures": 3}, "another kind"),
        ({"architectures": [[]]}, "another kind"), ({"head_dim": 7}, "head_size=7 is odd"),
        ({"num_key_value_heads": 3}, "not a multiple of kv_heads=3"), ({"hidden_size": None}, "config.json"),
        ({"strange": "x" * 5000}, "strange"),
    ],
)  # fmt: skip
def test_values_that_make_no_model(folder, values, words):
    """Each is one short sentence that names the file."""
    change(folder, **values)
    with pytest.raises(InputError, match=words) as caught:
        read_config(folder)
    assert "config.json" in str(caught.value)
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a": 1, "a": 2}', "'a' stands twice"), ('{"b": {"a": 1, "a": 2}}', "'a' stands twice"),
        ('{"a": NaN}', "NaN, wanted a finite"), ('{"a": 1e999}', "1e999, wanted a finite"),
        ('{"a": -Infinity}', "-Infinity, wanted a finite"), ('{"a": ' + "9" * 5000 + "}", "not JSON"),
        ('{"a": "\\ud800"}', "holds U\\+D800"),
        ("{", "not JSON"), ("[" * 100_000, "nested too deeply"), ("[]", "wanted a JSON object"),
    ],
)  # fmt: skip
def test_json_with_two_meanings(folder, text, words):
    """A key that stands twice, or a number that is none, is refused."""
    (folder / "config.json").write_text(text)
    with pytest.raises(InputError, match=words):
        read_config(folder)


def test_a_large_config_is_not_read(folder):
    """A megabyte is far more than any config.json."""
    (folder / "config.json").write_text("{" + " " * LIMIT + "}")
    with pytest.raises(InputError, match=f"wanted at most {LIMIT:,}"):
        read_config(folder)


def test_what_does_not_fit_is_not_loaded(folder, monkeypatch):
    """The error names the bytes that are wanted, those that are free, and those that the files hold."""
    model = load_model(folder)
    size = model.size()
    monkeypatch.setattr(files, "free_bytes", lambda device: 4 * size)
    load_model(folder)
    monkeypatch.setattr(files, "free_bytes", lambda device: 4 * size - 1)
    load_model(folder, dtype=torch.bfloat16)
    monkeypatch.setattr(files, "safe_open", lambda *_, **__: pytest.fail("a tensor was read"))
    with pytest.raises(
        InputError, match=f"{size:,} weights, {4 * size:,} bytes as float32; {4 * size - 1:,} bytes are"
    ):
        load_model(folder)


def test_config_and_files_of_two_sizes(folder):
    """What the config asks for and what the files hold stand side by side."""
    held = load_model(folder).size()
    change(folder, intermediate_size=64)
    with pytest.raises(InputError, match=rf"asks for [\d,]+ weights and the files hold {held:,}: take both from one"):
        load_model(folder)


MEASURED = """
import resource, sys
from instar.config import InputError
from instar.hub.files import load_model
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
before = peak()
try:
    load_model(sys.argv[1])
except InputError as error:
    sys.exit(f"{peak() - before} MB for {error}")
"""


def test_a_trillion_weights_cost_nothing(folder):
    """A config.json of 10^12 weights ends at once in an error, and the check itself takes less than 300 MB."""
    pytest.importorskip("resource")
    change(folder, **HUGE)
    done = subprocess.run([sys.executable, "-c", MEASURED, str(folder)], capture_output=True, text=True, timeout=60)
    grown, _, said = done.stderr.partition(" MB for ")
    assert done.returncode == 1, done.stderr
    assert "asks for 1,374," in said
    assert int(grown) < 300


def test_free_memory_is_known(monkeypatch, tmp_path):
    """The kernel's figure, or what is left to the container, whichever is less; None where nobody tells."""
    cpu = torch.device("cpu")
    assert memory.free_bytes(cpu) > 1 << 20
    (tmp_path / "meminfo").write_text("MemTotal: 100 kB\nMemAvailable:   80 kB\n")
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "GROUP", tmp_path)
    assert memory.free_bytes(cpu) == 80 * 1024
    for name, text in (
        ("max", "50000"), ("current", "40000"), ("stat", "anon 1\ninactive_file 5000\nactive_file 1000\n"),
    ):  # fmt: skip
        (tmp_path / f"memory.{name}").write_text(text)
    assert memory.free_bytes(cpu) == 16_000
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.free_bytes(cpu) == 80 * 1024
    (tmp_path / "meminfo").unlink()
    monkeypatch.setattr(memory, "_installed", lambda: None)
    assert memory.free_bytes(cpu) is None
