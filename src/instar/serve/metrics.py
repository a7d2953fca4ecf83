"""What happens in a server, counted for Prometheus.

Every request to an engine is started once and ends once, so that at any time started = ended + waiting + running, to
the one; of a request for n answers each answer is one. Labels come from fixed lists: nothing that a client writes makes
a new series.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

if TYPE_CHECKING:
    from .desk import Desk

KINDS = ("chat", "completion", "embedding", "score")
OUTCOMES = ("finished", "failed", "aborted")
ROUTES = frozenset((
    "/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/models", "/v1/models/{id}", "/v1/tokenize",
    "/health", "/ready", "/metrics", "/openapi.json",
))  # fmt: skip
ELSE = "other"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 60.0, 120.0, 300.0, 600.0)
GAPS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Metrics:
    """Its own registry; labels come from fixed lists. The desk counts requests and tokens, the gate HTTP."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)

        def counter(name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
            return Counter(f"instar_{name}", text, labels, registry=registry)

        def seconds(name: str, text: str, buckets: tuple[float, ...] = SECONDS) -> Histogram:
            return Histogram(f"instar_{name}_seconds", text, buckets=buckets, registry=registry)

        def gauge(name: str, text: str, labels: tuple[str, ...] = ()) -> Gauge:
            return Gauge(f"instar_{name}", text, labels, registry=registry)

        started = counter("requests_started", "Requests taken, each answer of n as one", ("kind",))
        ended = counter("requests_ended", "Requests that ended: finished, failed or aborted", ("kind", "outcome"))
        # every series stands at 0 from the start: what appears only with its first event has no rate
        self._started = {kind: started.labels(kind) for kind in KINDS}
        self._ended = {(kind, how): ended.labels(kind, how) for kind in KINDS for how in OUTCOMES}
        self._queue_time = seconds("request_queue_time", "From a request's coming to its turn")
        self._first = seconds("time_to_first_token", "From a request's coming to its first token")
        self._gap = seconds("inter_token_latency", "Between two tokens of an answer", GAPS)
        self._total = seconds("request_latency", "From a request's coming to its last token, of those that finished")
        self._prompt = counter("prompt_tokens", "Tokens of prompts that were read, known ones counted")
        self._cached = counter("cached_prompt_tokens", "Tokens of prompts whose keys were known")
        self._answer = counter("generated_tokens", "Tokens that were said")
        self._http = counter("http_requests", "Answers by HTTP status", ("route", "status"))
        self._waiting = gauge("requests_waiting", "Requests that wait for their turn")
        self._running = gauge("requests_running", "Requests that engines work at")
        self._ready = gauge("ready", "1 where a request would be taken")
        self._engines = gauge("engines_living", "Engines that live")
        self._by_engine = {
            field: gauge(f"engine_{name}", text, ("engine",))
            for field, name, text in (
                ("running", "requests_running", "Requests that have a row"),
                ("waiting", "requests_waiting", "Requests that wait for a row inside the engine"),
                ("kv_free", "kv_blocks_free", "Free blocks of the memory for keys and values"),
                ("kv_total", "kv_blocks", "Blocks of the memory for keys and values"),
                ("rss", "resident_memory_bytes", "Memory of the engine's process"),
                ("steps", "steps", "Forward passes since the engine's start"),
            )
        }

    def started(self, kind: str) -> None:
        """A request was taken. kind: one of KINDS."""
        self._started[kind].inc()

    def ended(self, kind: str, how: str) -> None:
        """A request ended. how: one of OUTCOMES."""
        self._ended[kind, how].inc()

    def waited(self, seconds: float) -> None:
        """A request had its turn."""
        self._queue_time.observe(seconds)

    def first(self, seconds: float) -> None:
        """An answer's first token has come."""
        self._first.observe(seconds)

    def gap(self, seconds: float) -> None:
        """A further token has come, so long after the one before."""
        self._gap.observe(seconds)

    def total(self, seconds: float) -> None:
        """A request finished."""
        self._total.observe(seconds)

    def tokens(self, prompt: int, cached: int, answer: int) -> None:
        """What a request was made of. cached: of the prompt's tokens those whose keys were known."""
        self._prompt.inc(prompt)
        self._cached.inc(cached)
        self._answer.inc(answer)

    def http(self, route: str, status: int) -> None:
        """A response was sent. route: the template that matched; any other than ours counts as other."""
        if route.startswith("/v1/models/"):
            route = "/v1/models/{id}"
        told = str(status) if 100 <= status <= 599 else ELSE
        self._http.labels(route if route in ROUTES else ELSE, told).inc()

    def render(self, desk: Desk, *, draining: bool = False) -> bytes:
        """Everything as Prometheus reads it, with how the desk and its engines stand now."""
        self._waiting.set(desk.waiting)
        self._running.set(desk.running)
        self._ready.set(desk.ready and not draining)
        living = desk.fleet.living()
        self._engines.set(len(living))
        for field, gauge in self._by_engine.items():
            gauge.clear()  # an engine that died has no figures
            for engine in living:
                if (beat := desk.fleet.beats.get(engine)) is not None:
                    gauge.labels(str(engine)).set(getattr(beat, field))
        return generate_latest(self._registry)
