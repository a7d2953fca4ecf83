"""Answering others: a server, and measuring one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from .asking import EngineOptions
from .screen import REQUIRED, SHORT, Machine, Screen


@dataclass(frozen=True)
class GlassOptions:
    """The page that shows what a model computes."""

    # on, off, or auto: on where only this machine can call
    mode: Literal["auto", "on", "off"] = "auto"
    # folders whose models and runs it shows, beside the model that is served and the stages beside that
    roots: tuple[str, ...] = ()
    # bytes of what it keeps of the texts that are looked at
    budget: int = 2**30
    # seconds that it keeps a text after it was looked at last
    seconds: float = 900.0
    # seconds without a request after which its process ends, to start anew with the next
    idle: float = 1800.0


@dataclass(frozen=True)
class ServeOptions(Machine):
    """Answer programs that speak OpenAI's API. --engine.x may be said as --x."""

    # run folder, Hugging Face folder or hf:org/name
    model: str = field(default="", metadata=REQUIRED)
    # by what name requests ask for it; empty takes the folder's
    name: str = ""
    # adapters of the model, each a name and a folder: sft=runs/sft dpo=runs/dpo
    adapters: tuple[str, ...] = ()
    # address to listen at; any but this machine's own wants a key
    host: str = "127.0.0.1"
    # port to listen at; 0 takes a free one
    port: int = 8000
    # keys, one of which every request must bring; INSTAR_API_KEY gives them too, apart by blanks, unseen by `ps`
    api_key: tuple[str, ...] = ()
    # listen at a public address without a key
    insecure: bool = False
    # names by which this server may be called, beside those of this machine; * takes any
    allowed_hosts: tuple[str, ...] = ()
    # web pages that may call it, each exactly: https://chat.example.org
    origins: tuple[str, ...] = ()
    # engines, each a process with the whole model
    replicas: int = 1
    # requests that wait at most; more are told to come again
    queue: int = 256
    # seconds that a request waits for its turn, then to its first token, then for all of it
    queue_seconds: float = 60.0
    # seconds from a request's turn to its first token
    first_seconds: float = 120.0
    # seconds from a request's turn to its last token
    total_seconds: float = 600.0
    # seconds that answers have to end when the server is to stop
    drain_seconds: float = 30.0
    # what a request draws with that does not say: temperature, 0 takes the likeliest token
    temperature: float = 1.0
    # of a request that does not say: keep the smallest set of tokens with at least this probability
    top_p: float = 1.0
    # of a request that does not say: keep the k likeliest tokens; 0 keeps all
    top_k: int = 0
    # of a request that does not say: drop tokens less likely than this share of the likeliest
    min_p: float = 0.0
    # how vectors of texts are read off a decoder: the mean of all tokens, or the last one; an encoder's own config says
    # how its are
    pooling: Literal["mean", "last"] = "mean"

    engine: EngineOptions = field(default_factory=lambda: EngineOptions(tune=True), metadata=SHORT)
    glass: GlassOptions = field(default_factory=GlassOptions)


@dataclass(frozen=True)
class BenchServeOptions(Screen):
    """How fast a server of OpenAI's API answers: tokens per second, and percentiles of waiting. Any server will do."""

    # address of the server
    url: str = "http://127.0.0.1:8000/v1"
    # name of the model; empty asks the server for its first
    model: str = ""
    # key of the server; INSTAR_API_KEY gives it too
    api_key: str = ""
    # requests that are open at a time; one row of the table each
    streams: tuple[int, ...] = (1, 16)
    # requests of each row; 0 takes four for each stream
    requests: int = 0
    # tokens of each prompt, roughly: a server alone knows its tokens
    prompt: int = 128
    # tokens of each answer at most
    new: int = 128
    # chat asks for chat completions, text for completions
    kind: Literal["chat", "text"] = "chat"
    # ask that answers go on to their longest, which not every server heeds
    ignore_end: bool = True
    # seconds that one request may take
    timeout: float = 600.0
    # seed of the prompts
    seed: int = 0
