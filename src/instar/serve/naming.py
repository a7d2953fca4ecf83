"""What the models of a server are called."""

from __future__ import annotations

import re
from pathlib import Path

from ..config import InputError
from ..config.options import ServeOptions

NAME = re.compile(r"[\w.:@/+-]{1,128}")  # of a model, as requests say it


def name_of(folder: str) -> str:
    """What a model is called after its folder. Example: "runs/demo/" -> "demo", "hf:org/name@v2" -> "org/name"."""
    if folder.startswith("hf:"):
        return folder[3:].partition("@")[0]
    return Path(folder).name or Path(folder).resolve().name or "model"


def model_name(options: ServeOptions) -> str:
    """By what name requests ask for the model of the server. Raises InputError for one that nobody could say."""
    return check(options.name or name_of(options.model))


def adapters_of(options: ServeOptions) -> dict[str, str]:
    """The names of the adapters and their folders. Raises InputError for what is not NAME=FOLDER, and for a name that
    stands twice."""
    found: dict[str, str] = {}
    for said in options.adapters:
        name, equals, folder = said.partition("=")
        if not equals or not folder:
            raise InputError(f"adapters: found {said!r}, wanted a name and a folder, as sft=runs/sft")
        if check(name) in {*found, model_name(options)}:
            raise InputError(f"adapters: two models are called {name}; give one of them another name")
        found[name] = folder
    return found


def check(name: str) -> str:
    """The same name. Raises InputError for one that nobody could say in a request or read in a log."""
    if not NAME.fullmatch(name):
        raise InputError(f"a model cannot be called {name!r}; say --name with letters, digits and any of . _ - / : @ +")
    return name
