"""`instar serve`."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from ..config import InputError
from ..config.flags import parse
from ..config.options import ServeOptions
from .screen import Screen

if TYPE_CHECKING:
    from ..serve.log import Writer
    from ..serve.service import Service

KEYS = "INSTAR_API_KEY"
LEAST: dict[str, float] = {
    "replicas": 1, "queue": 1, "queue_seconds": 0.1, "first_seconds": 0.1, "total_seconds": 0.1, "drain_seconds": 0,
    "temperature": 0, "top_k": 0, "top_p": 0, "min_p": 0,
}  # fmt: skip
MOST: dict[str, float] = {"temperature": 2, "top_p": 1, "min_p": 1}


def serve(arguments: list[str]) -> int:
    """Serve a model until a signal -> the exit status."""
    options = parse(ServeOptions, arguments, program="instar serve")
    _check(options)
    try:
        from ..serve import server
        from ..serve.gate import GateRules
        from ..serve.glass.front import check as check_glass
        from ..serve.log import logging_to, say
        from ..serve.naming import model_name
    except ModuleNotFoundError as missing:
        if (missing.name or "").startswith("instar"):
            raise
        raise InputError(f'serve needs {missing.name}: pip install "instar[serve]"') from None
    rules = GateRules.of(options, [*options.api_key, *os.environ.pop(KEYS, "").split()])
    name = model_name(options)
    check_glass(options)
    listener = server.bind(options.host, options.port)
    url, began = server.address(listener), time.monotonic()

    def ready(service: Service) -> None:
        for line in greeting(service, url, guarded=bool(rules.digests)):
            say(line)
        if options.json:
            sys.stdout.write(json.dumps({"url": url, "pid": os.getpid()}) + "\n")
            sys.stdout.flush()

    with logging_to(sys.stderr, json=options.json, quiet=options.quiet) as writer:
        say(f"{url} loads {name}")
        status = server.run(options, rules, listener, ready)
        report = _report(writer, time.monotonic() - began, status)
        say(_ending(report))
    _flush()
    Screen(options).finish(report)
    return status


def greeting(service: Service, url: str, *, guarded: bool) -> list[str]:
    """What a server says of itself once it answers; the last line can be run as it stands."""
    from ..serve.gate import shows_page

    facts, options = service.facts, service.options
    names = list(service.models)
    lines = [
        f"{url}/v1 answers as {', '.join(names)}",
        f"weights   {facts.weights:,} in {_size(facts.weight_bytes)} of {facts.dtype} on {facts.device}"
        + (f", {options.replicas} times" if options.replicas > 1 else ""),
    ]
    if facts.speaks:
        lines += [
            f"keys      {_size(facts.kv_bytes)}, of {facts.slots} answers at a time",
            f"context   {facts.context:,} tokens of prompt and answer",
            f"sampling  {_sampling(options)}, where a request does not say",
        ]
    elif facts.embeds:
        lines.append(f"vectors   {facts.width:,} wide, of texts of {facts.longest:,} tokens at most")
    if shows_page(options):
        lines.append(f"page      {url}/glass/ shows what the model computes")
    return [*lines, f"try       {curl(service, url, guarded=guarded)}"]


def curl(service: Service, url: str, *, guarded: bool) -> str:
    """A request that works; the key is taken from the environment, for it belongs on no screen."""
    body: dict[str, Any] = {"model": next(iter(service.models))}
    if not service.facts.speaks:
        path, body["input"] = "embeddings", "Hello"
    elif service.renderer.template is None:
        path, body["prompt"] = "completions", "Hello"
    else:
        path, body["messages"] = "chat/completions", [{"role": "user", "content": "Hello"}]
    key = f' -H "Authorization: Bearer ${KEYS}"' if guarded else ""
    return f"curl {url}/v1/{path}{key} -H 'Content-Type: application/json' -d '{json.dumps(body)}'"


def _sampling(options: ServeOptions) -> str:
    if options.temperature == 0:
        return "the likeliest token"
    names = [("top_p", 1.0), ("top_k", 0), ("min_p", 0.0)]
    kept = [f"{name} {getattr(options, name):g}" for name, off in names if getattr(options, name) != off]
    return ", ".join([f"temperature {options.temperature:g}", *kept])


def _size(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"


def _report(writer: Writer, seconds: float, status: int) -> dict[str, Any]:
    """What was done."""
    tally = writer.tally
    return {
        "seconds": round(seconds, 1), "requests": tally.statuses.total(),
        "statuses": {str(code): count for code, count in sorted(tally.statuses.items())},
        "prompt_tokens": tally.prompt, "answer_tokens": tally.answer, "left": tally.left, "lines_lost": writer.lost,
        "status": status,
    }  # fmt: skip


def _ending(report: dict[str, Any]) -> str:
    """The same in a line."""
    counts = ", ".join(f"{count:,} x {code}" for code, count in report["statuses"].items()) or "none"
    tokens = f"tokens read {report['prompt_tokens']:,}, said {report['answer_tokens']:,}"
    lost = f"; {report['lines_lost']:,} lines of the log were lost" if report["lines_lost"] else ""
    return f"ended after {report['seconds']:,.0f} s; requests: {counts}; {tokens}{lost}"


def _flush() -> None:
    """A full disk costs the log's last lines. It is no reason to say by the exit status that the server failed, as
    Python would when it flushes them."""
    try:
        sys.stderr.flush()
    except OSError:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115  for as long as the process lives


def _check(options: ServeOptions) -> None:
    """Raise InputError where an option is out of its range."""
    for name, least in LEAST.items():
        value, most = getattr(options, name), MOST.get(name)
        if not (value >= least and (most is None or value <= most)):  # NaN is in no range
            wanted = f"at least {least:g}" if most is None else f"from {least:g} to {most:g}"
            raise InputError(f"{name}={value:g}, wanted {wanted}")
