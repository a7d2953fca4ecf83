"""Trap X3: opening a file ran its author's code (huggingface/transformers#43140 and CVE-2026-1839: a random-state file;
CVE-2026-24747: weights_only=True itself).

Guard: the package reads tensors as safetensors and everything else as JSON or YAML, and this lint keeps it so.
"""

import ast
import os
import pickle
from pathlib import Path

import pytest

import instar
from instar.config import InputError, ModelConfig
from instar.hub.files import load_model, save_model
from instar.model.transformer import Transformer

ROOT = Path(instar.__file__).parent
MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "jsonpickle", "runpy"}
CALLS = {
    "eval", "exec", "compile", "__import__", "torch.load", "torch.save", "torch.hub.load", "torch.jit.load",
    "torch.package", "np.load", "numpy.load", "np.save", "pandas.read_pickle", "pd.read_pickle", "yaml.unsafe_load",
    "yaml.full_load", "importlib.util.spec_from_file_location", "importlib.util.module_from_spec",
}  # fmt: skip
KEYWORDS = {"allow_pickle": True, "trust_remote_code": True, "weights_only": False, "shell": True}
# What imports by name: the tables of public names and of commands, which nothing from outside can extend; and rewards,
# whose module a person names on the command line, never a file (tests/train/test_rewards.py). The process beside
# readers is told by its parent, which names a module of this package.
DYNAMIC = {"__init__.py", "cli/__init__.py", "train/rewards.py", "data/raw/sandbox.py"}


def dotted(node):
    """The name of what is called: `a.b.c` of a.b.c(...), nothing where it is no plain name."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else ""


def faults(source, name="x.py"):
    """What a source file does that could run code of a file it reads."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] in MODULES]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
            found += [n for n in names if (n.split(".")[0] in MODULES and not node.level) or n in CALLS]
        elif isinstance(node, ast.Call):
            called = dotted(node.func)
            found += [called] if called in CALLS else []
            if called.endswith("import_module") and name not in DYNAMIC:
                arguments = [argument for argument in node.args if not isinstance(argument, ast.Constant)]
                found += [called] if arguments else []
            for keyword in node.keywords:
                value = getattr(keyword.value, "value", True)
                if keyword.arg in KEYWORDS and value == KEYWORDS[keyword.arg]:
                    found.append(f"{keyword.arg}={value}")
    return found


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_source_file_can_run_what_it_reads(path):
    """No pickle, torch.load, np.load, eval, exec or import of a computed name anywhere in the package."""
    assert faults(path.read_text(encoding="utf-8"), str(path.relative_to(ROOT))) == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle", "from pickle import loads", "import joblib", "import torch\ntorch.load('x')",
        "from torch import load", "np.load(path, allow_pickle=True)", "eval(text)", "exec(text)", "__import__(name)",
        "importlib.import_module(name)", "model(trust_remote_code=True)", "f(allow_pickle=flag)",
        "importlib.util.spec_from_file_location('m', path)", "subprocess.run(text, shell=True)",
    ],
)  # fmt: skip
def test_the_lint_can_fail(line):
    """Each way in is seen."""
    assert faults(line)


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors", "config.json", "generation_config.json"])
def test_a_bomb_does_not_go_off(tmp_path, name):
    """A pickle under any name a checkpoint may hold is refused or ignored, never opened as one."""
    folder, crater = tmp_path / "model", tmp_path / "crater"
    save_model(Transformer(ModelConfig(vocab_size=8, d_model=8, layers=1, heads=1)), folder)
    if name == "pytorch_model.bin":
        (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(pickle.dumps(Bomb(crater)))
    if name == "generation_config.json":
        load_model(folder)
    else:
        with pytest.raises(InputError):
            load_model(folder)
    assert not crater.exists()
    pickle.loads((folder / name).read_bytes())  # noqa: S301 - our own
    assert crater.exists(), "the bomb was none"
