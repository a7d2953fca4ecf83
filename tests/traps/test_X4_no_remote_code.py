"""Trap X4: a checkpoint brought its own code and it ran (hiyouga/LLaMA-Factory#5819, #5797: demanded even to train from
scratch; vllm-project/vllm#38319: it ran in spite of the switch).

Guard: there is no switch. A folder is data; a family we know is computed by our own class, any other is refused.
"""

import subprocess
import sys

import pytest

from instar.config import InputError, ModelConfig
from instar.hub.files import CONFIG, load_model, read_json, save_model, write_json
from instar.model.transformer import Transformer

CODE = "import pathlib\npathlib.Path(__file__).with_name('crater').mkdir()\nclass X: pass\n"


@pytest.fixture
def folder(tmp_path):
    """A Llama folder with code beside it that every name points to."""
    save_model(Transformer(ModelConfig(vocab_size=8, d_model=8, layers=1, heads=1)), tmp_path)
    for name in ("modeling_x.py", "configuration_x.py", "tokenization_x.py", "__init__.py", "torch.py", "config.py"):
        (tmp_path / name).write_text(CODE)
    data = read_json(tmp_path / CONFIG, "")
    data["auto_map"] = {"AutoConfig": "configuration_x.X", "AutoModelForCausalLM": "modeling_x.X"}
    write_json(tmp_path / CONFIG, data)
    return tmp_path


def test_known_family_is_computed_by_our_class(folder):
    """The folder loads as a Llama, and the code beside it did not run."""
    assert type(load_model(folder)) is Transformer
    assert not (folder / "crater").exists()


def test_unknown_family_is_refused(folder):
    """A class that only the folder knows is named and not looked for."""
    data = read_json(folder / CONFIG, "")
    write_json(folder / CONFIG, data | {"architectures": ["XForCausalLM"], "model_type": "x"})
    with pytest.raises(InputError, match="unknown architecture XForCausalLM"):
        load_model(folder)
    assert not (folder / "crater").exists()


WATCH = """
import sys
from instar.hub.files import load_model
seen = []
def watch(event, arguments):
    if event in ("import", "exec", "compile", "open", "subprocess.Popen", "os.exec", "os.posix_spawn", "os.system"):
        seen.append((event, " ".join(map(str, arguments))))
sys.addaudithook(watch)
load_model({folder!r})
code = [(event, what) for event, what in seen if {folder!r} in what and ".py" in what or "modeling_x" in what]
started = [event for event, _ in seen if event.startswith(("subprocess", "os."))]
sys.exit(repr(code + started) if code or started else 0)
"""


def test_python_is_never_opened_imported_or_run(folder):
    """The interpreter's own audit: loading, from inside the folder and with it on the path, opens no .py of it and
    starts no process."""
    done = subprocess.run(
        [sys.executable, "-c", WATCH.format(folder=str(folder))], cwd=folder.parent, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
