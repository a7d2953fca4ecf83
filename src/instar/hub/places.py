"""What a model is called by: a folder, the folder of a whole life, a repository of the hub; and what a folder holds."""

from __future__ import annotations

from pathlib import Path

from ..config import InputError, read_object

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
ADAPTER = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")
LIFE = "grow.json"  # the record of a whole life, which holds its recipe, and of each of its stages
LIMIT = 4 << 20  # bytes of the report of a life


def resolve(name: str | Path) -> Path:
    """A folder, of a life that `instar grow` raised the folder of its last stage, or hf:org/name[@revision], which is
    downloaded. Raises InputError where there is no such folder."""
    text = str(name)
    if text.startswith("hf:"):
        from huggingface_hub import snapshot_download

        repository, _, revision = text[3:].partition("@")
        patterns = ["*.json", "*.safetensors", "*.jinja", "*.txt", "*.bpe"]
        return Path(snapshot_download(repository, revision=revision or None, allow_patterns=patterns))
    if not Path(name).is_dir():
        raise InputError(f"no such folder: {name}; name a run folder, a Hugging Face folder or hf:org/name")
    return _grown(Path(name))


def _grown(folder: Path) -> Path:
    """The folder that a life ended with, where this is the folder of a whole life; else the same. Raises InputError
    for a life that has not ended."""
    record = read_object(folder / LIFE, LIMIT) or {}
    if "recipe" not in record or (folder / CONFIG).is_file() or holds_adapter(folder):
        return folder
    last = (read_object(folder / "report.json", LIMIT) or {}).get("finished")
    if isinstance(last, str) and Path(last).name == last and (folder / last).is_dir():
        return folder / last
    stages = sorted(path.parent.name for path in folder.glob(f"*/{CONFIG}"))
    raise InputError(
        f"{folder} is a life whose end is not written down; run `instar grow` again, or name one of its stages"
        + (f": {', '.join(stages)}" if stages else "")
    )


def holds_adapter(folder: Path) -> bool:
    """Whether a folder changes a model and holds none."""
    found = any((folder / name).is_file() for name in ADAPTER)
    return found and not any((folder / name).is_file() for name in (WEIGHTS, INDEX))
