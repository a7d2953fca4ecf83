"""The application of Ray Serve: its options, and two replicas on a cluster of this machine."""

import os
import signal
import socket
import time
from pathlib import Path

import pytest

from instar.config import InputError
from instar.serve.cluster import application, flags


def test_flags():
    """Texts of a command line and values of YAML say the same."""
    said = {"model": "runs/demo", "insecure": "true", "adapters": ["a=x", "b=y"], "slots": 8, "deterministic": False}
    assert list(flags(said)) == [
        "--model", "runs/demo", "--insecure", "--adapters", "a=x", "b=y", "--slots", "8", "--no-deterministic"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"model": "x", "port": "80"}, "port=80 is not ours to decide"),
        ({"model": "x", "insecure": "true", "cpus": "many"}, "cpus=many, wanted a number"),
        ({"model": "x", "insecure": "true", "replica": "2"}, "did you mean --replicas"),
        ({"insecure": "true"}, "model"),
        ({"model": "x"}, "there is no key"),
    ],
)
def test_wrong(arguments, said, monkeypatch):
    """Options that there are not, that are Ray's, and a cluster open to all are refused before anything starts."""
    monkeypatch.delenv("INSTAR_API_KEY", raising=False)
    with pytest.raises(InputError, match=said):
        application(arguments)


@pytest.fixture
def cluster(monkeypatch):
    """Ray on this machine; gives the port at which its proxy listens."""
    ray = pytest.importorskip("ray")
    serve = pytest.importorskip("ray.serve")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    yield port
    serve.shutdown()
    ray.shutdown()


def engines():
    """The engines of replicas of Ray: their pids."""
    found = set()
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = (path / "stat").read_text().rpartition(")")[2].split()[1]
            is_engine = "instar.serve.worker" in (path / "cmdline").read_text()
            if is_engine and "ray::" in Path(f"/proc/{parent}/cmdline").read_text():
                found.add(int(path.name))
        except OSError:
            pass  # it has ended
    return found


@pytest.mark.slow
def test_two_replicas(cluster, folder, sdk):
    """Two replicas answer behind one address; where the engine of one is killed, the other answers, and after a while
    there are two again."""
    import openai
    from ray import serve

    serve.run(
        application({"model": str(folder), "name": "tiny", "replicas": "2", "api_key": "secret", "cpus": "1"}),
        name="instar",
    )
    client = sdk(f"http://127.0.0.1:{cluster}", api_key="secret")
    assert [model.id for model in client.models.list()] == ["tiny"]
    ours = engines()
    assert len(ours) == 2
    ask = dict(model="tiny", messages=[{"role": "user", "content": "Where is the ball?"}], max_tokens=8, temperature=0)
    whole = client.chat.completions.create(**ask).choices[0].message.content
    streamed = client.chat.completions.create(**ask, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in streamed) == whole

    os.kill(min(ours), signal.SIGKILL)
    until = time.monotonic() + 90
    answered = 0
    while time.monotonic() < until and not (answered and len(engines()) == 2):
        try:
            client.chat.completions.create(**ask)
            answered += 1
        except openai.InternalServerError:  # of the replica that died, until Ray has seen it
            time.sleep(0.2)
    assert answered
    assert len(engines()) == 2
