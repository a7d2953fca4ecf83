"""What models there are: those that are served and those under the roots, by names that are never opened as paths.

Read from configs and headers alone, which cost no weights; a folder that cannot be used is listed with the reason.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

from safetensors import SafetensorError, safe_open

from ...config import InputError, ModelConfig, read_object
from ...config.options import ServeOptions
from ...hub.configs import CONFIG, read_config
from ...hub.families import Family
from ...hub.headers import BUFFERS, Header, read_headers
from ...hub.places import ADAPTER, INDEX, LIFE, WEIGHTS, holds_adapter, resolve
from ..naming import adapters_of, model_name
from .trouble import no_such_model

DEEP = 4  # folders within each other that are searched under a root
MOST = 400  # folders with a model that are listed
SKIPPED = ("checkpoints", "tokenizer", "node_modules", "__pycache__")
LIMIT = 4 << 20  # bytes of a file of JSON that is read here
METRICS = "metrics.jsonl"
TIED = ("heads.lm.weight", "heads.masked.out.weight")  # ours that are the embedding where a config says so
PACKAGE = "instar"  # what is ours in the metadata of an adapter's file
# the names that safetensors has for numbers -> those that people know
KINDS = {"F64": "fp64", "F32": "fp32", "F16": "fp16", "BF16": "bf16"}


@dataclass
class Listed:
    """A model. folder: of its weights; facts: as GET /models says them; adapters: their ids -> folders; why: it cannot
    be used, where it cannot."""

    id: str
    folder: Path
    facts: dict[str, Any] = field(default_factory=dict)
    adapters: dict[str, Path] = field(default_factory=dict)
    why: str = ""
    served: bool = False

    def record(self, loaded: Iterable[str] = ()) -> dict[str, Any]:
        return {
            "id": self.id, **self.facts, "adapters": list(self.adapters), "served": self.served,
            "loaded": self.id in loaded, "why": self.why,
        }  # fmt: skip


class Index:
    """models: by their ids; runs: folders with the metrics of a training, by their ids; both empty until `refresh`.
    served: the id of the model that the server answers with."""

    def __init__(self, options: ServeOptions) -> None:
        self.options = options
        self.models: dict[str, Listed] = {}
        self.runs: dict[str, Path] = {}
        self.served = model_name(options)
        self._facts: dict[Path, tuple[float, dict[str, Any]]] = {}
        self._looking = Lock()

    def refresh(self) -> None:
        """Look again, from any thread. Costs a look at each folder, and the reading of those that have changed."""
        with self._looking:
            self._refresh()

    def _refresh(self) -> None:
        adapters: dict[str, Path] = {}
        models, runs = self._serving(adapters), dict[str, Path]()
        seen = _places(one.folder for one in models.values())
        for root, begin, deep in self._roots():
            for folder in _searched(begin, deep):
                name = _name(root, folder)
                if (folder / METRICS).is_file():
                    _put(runs, name, root, folder)
                if holds_adapter(folder):
                    if folder.resolve() not in _places(adapters.values()):
                        _put(adapters, name, root, folder)
                elif (folder / CONFIG).is_file() and len(models) < MOST and folder.resolve() not in seen:
                    seen.add(folder.resolve())
                    name = _put({id: one.folder for id, one in models.items()}, name, root, folder)
                    models[name] = Listed(name, folder)
        _hang(models, adapters)
        for one in models.values():
            self._fill(one)
        self.models, self.runs = models, runs

    def find(self, model: str) -> Listed:
        """Raises Trouble (404) where there is none of this id, InputError where it cannot be used."""
        known = self.models.get(model)
        if known is None or known.why or self._stale(known):
            self.refresh()  # it may have been trained, mended or damaged meanwhile
        if model not in self.models:
            raise no_such_model(", ".join(sorted(self.models)[:20]) or "none")
        found = self.models[model]
        if found.why:
            raise InputError(f"{model} cannot be used: {found.why}")
        return found

    def adapter(self, model: str, adapter: str) -> Path | None:
        """The folder of an adapter of a model; None for "", which is the bare model. Raises Trouble (404)."""
        found = self.find(model).adapters
        if adapter and adapter not in found:
            self.refresh()  # it may have been trained meanwhile
            found = self.find(model).adapters
        if adapter and adapter not in found:
            raise no_such_model(", ".join(found) or f"{model} has no adapters")
        return found[adapter] if adapter else None

    def _stale(self, one: Listed) -> bool:
        """Whether its folder is not what was read of it."""
        try:
            return self._facts.get(one.folder, (0.0, {}))[0] != changed_at(one.folder)
        except OSError:  # it has just gone
            return True

    def hidden(self, words: str, *more: Listed) -> str:
        """The same without the paths of models, adapters and runs, whose ids stand there."""
        found = [(one.folder, one.id) for one in (*self.models.values(), *more)]
        found += [(folder, name) for one in self.models.values() for name, folder in one.adapters.items()]
        found += [(folder, run) for run, folder in self.runs.items()]
        found += [(Path(place), name) for name, _, place in (one.partition("=") for one in self.options.adapters)]
        places = {place: id for folder, id in reversed(found) for place in (folder, folder.resolve())}
        for place in sorted(places, key=lambda place: len(str(place)), reverse=True):
            words = words.replace(str(place), places[place]) if len(place.parts) > 1 else words
        return words

    def _roots(self) -> list[tuple[Path, Path, int]]:
        """What names begin behind, where is searched, and how deep: the roots, and what lies beside the served model
        where that is a stage of a life."""
        found = [(Path(root), Path(root), DEEP) for root in self.options.glass.roots if Path(root).is_dir()]
        if not self.options.model.startswith("hf:"):
            folder = Path(self.options.model)
            home = folder if (folder / LIFE).is_file() and not (folder / CONFIG).is_file() else folder.resolve().parent
            if "recipe" in (read_object(home / LIFE, LIMIT) or {}):
                found.append((home.resolve().parent, home.resolve(), 1))
        return found

    def _serving(self, adapters: dict[str, Path]) -> dict[str, Listed]:
        """The model that is served, of an adapter its base, and into `adapters` those that are served."""
        try:
            folder = resolve(self.options.model)
            adapters |= {name: resolve(place) for name, place in adapters_of(self.options).items()}
            if holds_adapter(folder):
                adapters[self.served] = folder
                home = _base(folder)
                return {} if home is None else {f"{self.served}-base": Listed(f"{self.served}-base", home, served=True)}
            return {self.served: Listed(self.served, folder, served=True)}
        except InputError as error:
            found = Listed(self.served, Path(self.options.model), served=True)
            found.why = self.hidden(str(error), found)
            return {self.served: found}

    def _fill(self, one: Listed) -> None:
        """Its facts, or why there are none. What was read is read again only where the folder has changed."""
        if one.why:
            return
        try:
            changed = changed_at(one.folder)
            if self._facts.get(one.folder, (0.0, {}))[0] != changed:
                self._facts[one.folder] = changed, facts_of(one.folder)
            one.facts = self._facts[one.folder][1]
        except (InputError, OSError, ValueError) as error:  # a folder that is being written, or is no model of ours
            one.why = self.hidden(str(error), one)


def changed_at(folder: Path) -> float:
    """When the model of a folder was written, in seconds since 1970; 0 where there is none."""
    files = [folder / name for name in (CONFIG, WEIGHTS, ADAPTER[1])]
    return max((file.stat().st_mtime for file in files if file.is_file()), default=0.0)


def facts_of(folder: Path) -> dict[str, Any]:
    """What GET /models says of a folder. Raises InputError where it holds no model that can be loaded."""
    family, config = read_config(folder)
    headers = read_headers(weights_of(folder))
    if not headers:
        raise InputError(f"{folder} has no weights in safetensors; save it again")
    kinds = [header.kind for header in headers.values()]
    return {
        "kind": kind_of(config), "n_layer": config.layers, "n_encoder_layer": config.encoder_layers,
        "n_head": config.heads, "n_kv_head": config.kv_heads, "d_model": config.d_model, "vocab": config.vocab_size,
        "ctx": config.max_positions, "dtype": KINDS.get(max(kinds, key=kinds.count), "other"),
        "parameters": parameters_of(headers, family, config), "stage": stage_of(folder),
        "mask": mask_of(folder), "caps": caps_of(folder, config),
    }  # fmt: skip


def weights_of(folder: Path) -> list[Path]:
    """The files that a model is loaded from; whatever else lies beside them is none of its weights."""
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    named = (read_object(folder / INDEX, LIMIT) or {}).get("weight_map")
    names = sorted({str(name) for name in named.values()}) if isinstance(named, dict) else []
    return [folder / name for name in names if Path(name).name == name]


def parameters_of(headers: Mapping[str, Header], family: Family, config: ModelConfig) -> int:
    """How many weights a model has, as `Transformer.size` counts them: what is stored twice once, and nothing of what
    files carry along unused. Of a quantised model, the numbers that are stored."""
    double = dict(family.twins)
    if config.tied:
        heads = [name for name in TIED if name.split(".")[1] in config.heads_of]
        double |= {family.names[name]: family.names["embed.weight"] for name in heads}
    idle = (*BUFFERS, *family.idle)
    return sum(
        header.numel for name, header in headers.items()
        if not name.endswith(idle)
        and not any(re.fullmatch(pattern, name) for pattern in family.spare)
        and not {double.get(name, ""), double.get(name, "").removeprefix(family.prefix)} & headers.keys()
    )  # fmt: skip


def kind_of(config: ModelConfig) -> str:
    if config.encoder_layers:
        return "encoder-decoder"
    return "decoder" if config.causal else "encoder"


def caps_of(folder: Path, config: ModelConfig) -> dict[str, bool]:
    """What can be asked of a model, as far as its configs tell."""
    words = (folder / "tokenizer.json").is_file()
    speaks = config.causal and "lm" in config.heads_of
    said = speaks or "masked" in config.heads_of
    return {
        "chat": speaks and words and not config.encoder_layers and _template(folder), "text": words, "generate": speaks,
        "attention": True, "lens": said, "probes": words, "beam": speaks, "mask": "masked" in config.heads_of,
        "position": True,
    }  # fmt: skip


def mask_of(folder: Path) -> str:
    """How a hole is spelt in a text; empty where the tokenizer has none."""
    said = (read_object(folder / "tokenizer_config.json", LIMIT) or {}).get("mask_token")
    said = said.get("content") if isinstance(said, dict) else said
    return said if isinstance(said, str) else ""


def _template(folder: Path) -> bool:
    if (folder / "chat_template.jinja").is_file():
        return True
    return bool((read_object(folder / "tokenizer_config.json", LIMIT) or {}).get("chat_template"))


def stage_of(folder: Path) -> str:
    """What the folder's own report says that it was trained by; empty where there is none."""
    said = (read_object(folder / "report.json", LIMIT) or {}).get("stage")
    return said if isinstance(said, str) else ""


def _searched(root: Path, deep: int) -> Iterator[Path]:
    """The folders under a root, itself first, by name; links that lead out of it are not followed."""
    yield root
    if not deep:
        return
    try:
        inner = sorted(path for path in root.iterdir() if path.is_dir() and not path.is_symlink())
    except OSError:  # a folder that may not be read, or has just gone
        return
    for path in inner:
        if not path.name.startswith(".") and path.name not in SKIPPED:
            yield from _searched(path, deep - 1)


def _name(root: Path, folder: Path) -> str:
    """Example: runs, runs/demo/sft -> demo/sft"""
    return folder.relative_to(root).as_posix() if folder != root else root.resolve().name or "root"


def _put(found: dict[str, Path], name: str, root: Path, folder: Path) -> str:
    """Under its name, with the root's before it where another folder has that."""
    if name in found and found[name].resolve() == folder.resolve():
        return name
    if name in found:
        name = f"{root.resolve().name}/{name}"
    number = 2
    plain = name
    while name in found:
        name, number = f"{plain}-{number}", number + 1
    found[name] = folder
    return name


def _places(folders: Iterable[Path]) -> set[Path]:
    return {folder.resolve() for folder in folders}


def _base(folder: Path) -> Path | None:
    """Where the base of an adapter lies, as far as its files tell; None where it is not there."""
    said = (read_object(folder / ADAPTER[0], LIMIT) or {}).get("base_model_name_or_path")
    places = [Path(said)] if isinstance(said, str) and said else []
    try:
        with safe_open(folder / ADAPTER[1], framework="np") as file:
            ours = json.loads((file.metadata() or {}).get(PACKAGE, "{}"))
            beside = ours.get("beside") if isinstance(ours, dict) else None
    except (SafetensorError, OSError, ValueError):  # of a stranger's, or damaged: loading it tells which
        beside = None
    places += [folder / beside] if isinstance(beside, str) else []
    return next((place for place in places if place.is_dir()), None)


def _hang(models: dict[str, Listed], adapters: dict[str, Path]) -> None:
    """Each adapter under its base; one whose base is not among the models brings it along."""
    for name, folder in adapters.items():
        home = _base(folder)
        if home is None:
            models[name] = Listed(name, folder, why="it is an adapter, and the model that it was made for is not there")
            continue
        for one in models.values():
            if one.folder.resolve() == home.resolve():
                one.adapters[name] = folder
                break
        else:
            base = f"{name}-base"
            models[base] = Listed(base, home, adapters={name: folder})
