"""What Prometheus reads."""

import re
from types import SimpleNamespace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from instar.serve.metrics import KINDS, OUTCOMES, Metrics
from instar.serve.wire import Beat

BEATS = {0: Beat(3, 1, 10, 64, 2**20, 77), 1: Beat(9, 9, 9, 9, 9, 9)}
# two engines, one of which has died
DESK = SimpleNamespace(waiting=4, running=2, ready=True, fleet=SimpleNamespace(living=lambda: [0], beats=BEATS))


def read(metrics, desk=DESK):
    """Every sample: (name, labels) -> value."""
    families = text_string_to_metric_families(metrics.render(desk).decode())
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value for family in families for sample in family.samples
    }


def test_every_series_of_requests_stands_at_zero_from_the_start():
    """S24: what could be counted is there before it happens, so that a rate sees the first of it."""
    samples = read(Metrics())
    for kind in KINDS:
        assert samples["instar_requests_started_total", ("kind", kind)] == 0
        for how in OUTCOMES:
            assert samples["instar_requests_ended_total", ("kind", kind), ("outcome", how)] == 0


def test_counts_and_times_are_told():
    """S24: each event is counted once under its own name, times in seconds."""
    metrics = Metrics()
    metrics.started("chat")
    metrics.started("chat")
    metrics.ended("chat", "aborted")
    metrics.tokens(10, 4, 3)
    metrics.waited(0.25)
    metrics.first(0.5)
    metrics.gap(0.125)
    metrics.total(2.0)
    samples = read(metrics)
    assert samples["instar_requests_started_total", ("kind", "chat")] == 2
    assert samples["instar_requests_ended_total", ("kind", "chat"), ("outcome", "aborted")] == 1
    assert [samples[f"instar_{name}_tokens_total",] for name in ("prompt", "cached_prompt", "generated")] == [10, 4, 3]
    sums = ("request_queue_time", "time_to_first_token", "inter_token_latency", "request_latency")
    assert [samples[f"instar_{name}_seconds_sum",] for name in sums] == [0.25, 0.5, 0.125, 2.0]


def test_the_state_of_desk_and_engines_is_that_of_the_moment():
    """Gauges tell what is now; of an engine that has died there are no figures, not even old ones."""
    metrics = Metrics()
    samples = read(metrics)
    assert samples["instar_requests_waiting",] == 4
    assert samples["instar_requests_running",] == 2
    assert samples["instar_ready",] == 1
    assert samples["instar_engine_kv_blocks_free", ("engine", "0")] == 10
    assert samples["instar_engine_kv_blocks", ("engine", "0")] == 64
    assert not [name for name in samples if ("engine", "1") in name]
    none = SimpleNamespace(waiting=0, running=0, ready=False, fleet=SimpleNamespace(living=list, beats=BEATS))
    after = read(metrics, none)
    assert after["instar_engines_living",] == 0
    assert not [name for name in after if name[0].startswith("instar_engine_")]


def test_no_label_comes_from_a_client():
    """S24: whatever addresses and statuses are counted, the series are those of a fixed list."""
    metrics = Metrics()
    for number in range(300):
        metrics.http(f"/v1/{number}", 404)
        metrics.http(f"/v1/models/{number}", 200 + number % 2)
        metrics.http("/v1/chat/completions", 10**6 + number)
    metrics.http("/v1/models/{id:path}", 200)
    http = {labels: value for labels, value in read(metrics).items() if labels[0] == "instar_http_requests_total"}
    assert {tuple(value for _, value in labels[1:]) for labels in http} == {
        ("other", "404"), ("/v1/models/{id}", "200"), ("/v1/models/{id}", "201"), ("/v1/chat/completions", "other"),
    }  # fmt: skip
    assert sum(http.values()) == 901
    with pytest.raises(KeyError):
        metrics.started("anything")
    with pytest.raises(KeyError):
        metrics.ended("chat", "anyhow")


def test_names_are_as_prometheus_wants_them():
    """Every name of ours begins with instar_, counts end with _total, times are in seconds."""
    text = Metrics().render(DESK).decode()
    names = re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M)
    ours = [(name, kind) for name, kind in names if not name.startswith("process_")]
    assert len(ours) > 15
    assert all(name.startswith("instar_") for name, _ in ours)
    assert all(kind != "histogram" or name.endswith("_seconds") for name, kind in ours)
    assert all(kind != "counter" or name.endswith("_total") for name, kind in ours)
