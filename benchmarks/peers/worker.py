"""The measuring side of a system: its process, and the files that it reads."""

from __future__ import annotations

import json
import os
import select
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SCRIPTS = {"instar": "with_instar", "transformers": "with_transformers", "ctranslate2": "with_ctranslate2"}
SCRIPTS |= {"llama.cpp": "with_llama"}
SOURCES = ("hf", "int8", "int4", "bf16.gguf")  # what make.py makes, in this order
LOAD_SECONDS, STEP_SECONDS = 600.0, 3600.0


@dataclass(frozen=True)
class Contender:
    """A system at one precision."""

    system: str
    precision: str

    def __str__(self) -> str:
        return f"{self.system} {self.precision}"


@dataclass(frozen=True)
class Place:
    """Where models and interpreters lie, and what all processes are told. python: ours; peers: that of the venv of the
    peers; flow: the precision of what flows between our quantised weights."""

    folder: Path
    python: str
    peers: Path
    threads: int
    flow: str = "fp32"

    def interpreter(self, contender: Contender) -> str:
        return self.python if contender.system == "instar" else str(self.peers)

    def path(self, contender: Contender) -> Path:
        """What a contender reads."""
        names = {
            "instar": contender.precision if contender.precision in ("int8", "int4") else "hf",
            "transformers": "hf",
            "ctranslate2": f"ct2-{contender.precision}",
            "llama.cpp": f"{contender.precision}.gguf",
        }
        return self.folder / names[contender.system]

    def environment(self) -> dict[str, str]:
        wanted = {"OMP_NUM_THREADS": str(self.threads), "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
        return dict(os.environ) | wanted

    def make(self, shape: dict[str, Any], wanted: Sequence[Contender]) -> dict[Contender, str]:
        """Make what everybody reads, where it is not there already -> who cannot be measured, and why."""
        absent = {c: why for c in wanted if (why := self._absent(c))}
        sources = {self._source(contender) for contender in wanted if contender not in absent} | {"hf"}
        names = [name for name in SOURCES if name in sources and not (self.folder / name).exists()]
        missing = {}
        if names:
            self.folder.mkdir(parents=True, exist_ok=True)
            words = [self.python, str(HERE / "make.py"), str(self.folder), json.dumps(shape), *names]
            ran = subprocess.run(words, check=True, text=True, stdout=subprocess.PIPE, env=self.environment())
            missing = json.loads(ran.stdout.splitlines()[-1])
        for contender in wanted:
            why = absent.get(contender) or missing.get(self._source(contender)) or self._convert(contender)
            absent |= {contender: why} if why else {}
        return absent

    def _absent(self, contender: Contender) -> str:
        ours = contender.system == "instar" or self.peers.is_file()
        return "" if ours else f"{self.peers} is missing; make bench-decode builds it"

    def _source(self, contender: Contender) -> str:
        """Which of our own files it reads, or is converted from."""
        if contender.system == "llama.cpp":
            return "bf16.gguf"
        return self.path(contender).name if contender.system == "instar" else "hf"

    def _convert(self, contender: Contender) -> str:
        """Make what a peer reads -> why that is not possible, or nothing."""
        path, source = self.path(contender), self.folder / self._source(contender)
        if path.exists():
            return ""
        script = HERE / f"{SCRIPTS[contender.system]}.py"
        draft = path.with_name(f"draft-{path.name}")
        words = [str(self.peers), str(script), str(source), str(draft), contender.precision]
        ran = subprocess.run(words, text=True, capture_output=True, env=self.environment(), check=False)
        if ran.returncode:
            return _last_line(ran.stderr) or f"conversion failed with {ran.returncode}"
        draft.rename(path)
        return ""


class Process:
    """A program in a process of its own, which answers one JSON line with another. loaded: its answer to the first."""

    def __init__(self, words: Sequence[str], environment: dict[str, str]) -> None:
        self.errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 - close() does
        self.process = subprocess.Popen(
            words, text=True, encoding="utf-8", env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=self.errors,
        )  # fmt: skip
        self.loaded: dict[str, Any] = {}

    @property
    def why_not(self) -> str:
        """Why it is of no use, or nothing."""
        return self.loaded.get("skipped") or self.loaded.get("failed") or ""

    def ask(self, request: dict[str, Any], seconds: float = STEP_SECONDS) -> dict[str, Any]:
        """The answer; {"failed": why} where the process died, or took too long and was ended."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return {"failed": self._last_words()}
        ready, _, _ = select.select([self.process.stdout], [], [], seconds)
        if not ready:
            self.process.kill()
            return {"failed": f"no answer in {seconds:.0f} s"}
        line = self.process.stdout.readline()
        return json.loads(line) if line else {"failed": self._last_words()}

    def close(self) -> None:
        """End the process; its memory is free then."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # of one that is dead already
            self.process.stdin.close()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.errors.close()

    def _last_words(self) -> str:
        self.process.wait(30)
        self.errors.seek(0)
        return _last_line(self.errors.read()) or f"ended with {self.process.returncode}"


class Worker(Process):
    """A system that decodes."""

    def __init__(self, contender: Contender, place: Place) -> None:
        self.contender = contender
        script = str(HERE / f"{SCRIPTS[contender.system]}.py")
        super().__init__([place.interpreter(contender), script], place.environment())
        self.loaded = self.ask(
            {"do": "load", "path": str(place.path(contender)), "precision": contender.precision, "flow": place.flow},
            LOAD_SECONDS,
        )


def _last_line(text: str) -> str:
    return next((line.strip()[:200] for line in reversed(text.splitlines()) if line.strip()), "")
