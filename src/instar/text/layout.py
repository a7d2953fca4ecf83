"""The files of a tokenizer folder in the layout of Hugging Face: read without trust, written plainly."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import InputError, read_object, read_text

MAX_TOKENIZER_BYTES = 64 << 20
MAX_SIDE_BYTES = 4 << 20
ROLES = ("bos_token", "eos_token", "pad_token", "unk_token")
# what the tokenizers of encoders name besides, or instead
ENCODER_ROLES = ("cls_token", "sep_token", "mask_token")


@dataclass(frozen=True)
class Files:
    """spec: tokenizer.json; config: tokenizer_config.json with the special tokens of its neighbours filled in;
    template: the chat template; ends: ids that generation_config.json says end an answer."""

    spec: dict[str, Any]
    config: dict[str, Any]
    template: str | None
    ends: tuple[int, ...]


def read(folder: Path) -> Files:
    """Read a folder. Raises InputError where it is absent, holds no tokenizer or a file that is no JSON object."""
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; wanted one with tokenizer.json and tokenizer_config.json")
    config = read_object(folder / "tokenizer_config.json", MAX_SIDE_BYTES) or {}
    named = read_object(folder / "special_tokens_map.json", MAX_SIDE_BYTES) or {}
    generation = read_object(folder / "generation_config.json", MAX_SIDE_BYTES) or {}
    spec = read_object(folder / "tokenizer.json", MAX_TOKENIZER_BYTES)
    if spec is None:
        spec = _read_gpt2(folder)
        named = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", **named}
    config = {**{role: named[role] for role in (*ROLES, *ENCODER_ROLES) if role in named}, **config}
    config = {**_named_by_id(spec, generation, config), **config}
    return Files(spec, config, _read_template(folder, config), _whole_numbers(generation.get("eos_token_id")))


def write(folder: Path, spec: Mapping[str, Any], config: Mapping[str, Any], template: str | None) -> None:
    """Write the three files; a folder without a template loses an old one."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / "tokenizer.json", spec)
    _write_json(folder / "tokenizer_config.json", {k: v for k, v in config.items() if k != "chat_template"})
    path = folder / "chat_template.jinja"
    if template is None:
        path.unlink(missing_ok=True)
    else:
        path.write_bytes(template.encode())


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8", newline="\n")


def _read_template(folder: Path, config: Mapping[str, Any]) -> str | None:
    """chat_template.jinja, or the template inside tokenizer_config.json (of several, the one called default)."""
    path = folder / "chat_template.jinja"
    if path.is_file():
        return read_text(path, MAX_SIDE_BYTES)
    template = config.get("chat_template")
    if isinstance(template, list):
        named = [item for item in template if isinstance(item, Mapping) and item.get("name") == "default"]
        template = named[-1].get("template") if named else None
    if template is not None and not isinstance(template, str):
        raise InputError(f"{folder}: chat_template is {type(template).__name__}; wanted a string")
    return template


def _named_by_id(spec: Mapping[str, Any], generation: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, str]:
    """Special tokens that only generation_config.json knows, by their ids."""
    tokens = spec.get("added_tokens")
    known = [token for token in tokens if isinstance(token, Mapping)] if isinstance(tokens, list) else []
    added = {token["id"]: str(token.get("content")) for token in known if type(token.get("id")) is int}
    found = {role: _whole_numbers(generation.get(f"{role}_id")) for role in ROLES if role not in config}
    return {role: added[ids[0]] for role, ids in found.items() if ids and ids[0] in added}


def _whole_numbers(value: Any) -> tuple[int, ...]:
    values = value if isinstance(value, list) else [value]
    return tuple(number for number in values if type(number) is int)


def _read_gpt2(folder: Path) -> dict[str, Any]:
    """The original files of GPT-2, a vocabulary and a list of merges, as a tokenizer.json."""
    pairs = [("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe")]
    for vocabulary, merges in pairs:
        if (folder / vocabulary).is_file() and (folder / merges).is_file():
            break
    else:
        raise InputError(f"{folder} holds no tokenizer.json; wanted that, or vocab.json with merges.txt")
    ids = read_object(folder / vocabulary, MAX_TOKENIZER_BYTES) or {}
    lines = read_text(folder / merges, MAX_TOKENIZER_BYTES).split("\n")
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    end = "<|endoftext|>"
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {
        "version": "1.0",
        "added_tokens": [{"id": ids[end], "content": end, **flags, "special": True}] if end in ids else [],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "vocab": ids,
            "merges": [line.split(" ") for line in lines if line and not line.startswith("#version")],
        },
    }
