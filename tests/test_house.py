"""The shape of the house: the one order of imports, every module importable, what must stay out stays out."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "src" / "instar"
# A folder imports only from folders that stand before it; two on one floor do not import each other.
FLOORS = [
    {"config"}, {"text", "batch"}, {"model"}, {"hub"}, {"adapt"}, {"data"}, {"infer"}, {"probe"}, {"eval"}, {"train"},
    {"serve"}, {"grow"}, {"cli"},
]  # fmt: skip
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}
FILES = sorted(ROOT.rglob("*.py"))


def room(path: Path) -> str:
    """The folder (or single file) of the house that a file belongs to."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    """Rooms that a file imports from, whether relatively or by full name, at the top or inside a function."""
    package = ["instar", *path.relative_to(ROOT).parent.parts]
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            stem = ".".join([*start, *([node.module] if node.module else [])])
            names = [f"{stem}.{alias.name}" for alias in node.names]
        else:
            continue
        rooms |= {name.split(".")[1] for name in names if name.startswith("instar.")}
    return rooms & set(FLOOR)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_follow_the_one_order(path):
    """A file imports only from rooms that stand before its own."""
    if path == ROOT / "__init__.py":
        return
    own = room(path)
    assert own in FLOOR, f"{own} has no floor in the house"
    wrong = {name for name in imported_rooms(path) - {own} if FLOOR[name] >= FLOOR[own]}
    assert not wrong, f"{path.name} in {own} imports {wrong}, which stand above it"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_are_read_in_one_sitting(path):
    """No file passes 400 lines, and none is named for being useful."""
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400
    assert path.stem not in {"utils", "helpers", "manager", "base", "common"}


def test_every_module_imports():
    """Each module can be imported by itself."""
    for path in FILES:
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        importlib.import_module(".".join(part for part in parts if part != "__init__"))


def test_public_names_exist():
    """Every name in instar.__all__ resolves, and a wrong one is an AttributeError."""
    import instar

    assert all(getattr(instar, name) is not None for name in instar.__all__)
    with pytest.raises(AttributeError, match="no name 'nothing'"):
        _ = instar.nothing


@pytest.mark.parametrize("word", ["transformers", "peft", "pickle"])
def test_never_imported(word):
    """The package imports neither transformers nor peft nor pickle."""
    for path in FILES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
        names += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level]
        assert word not in {name.split(".")[0] for name in names}, path


def test_only_one_file_knows_of_distribution():
    """Distribution is applied from outside: torch.distributed stands in train/dist.py alone."""
    users = [path for path in FILES if "torch.distributed" in path.read_text(encoding="utf-8")]
    assert {path.relative_to(ROOT).as_posix() for path in users} <= {"train/dist.py"}


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["tokenizer", "--help"], ["pretrain", "--help"]])
def test_looking_at_the_command_does_not_import_torch(arguments):
    """Story: vllm-project/vllm#14924, five seconds for --version (U10). Torch is not imported to answer."""
    code = (
        "import sys; from instar.cli import run\n"
        f"try: run({arguments!r})\nexcept SystemExit: pass\n"
        "assert 'torch' not in sys.modules, 'torch was imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
