"""schemathesis explores /openapi.json: data that fit it and data that do not, each edge of each field, and methods that
there are not. No answer is a fault of the server's, and none has a status or a shape that the schema does not tell.

What fits the schema may still be refused (400): an id above the vocabulary, a text that is longer than the context,
U+0000; so the check that all of it is accepted is off. All others are on.
"""

import os
import time

import httpx
import pytest

BODIES = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/tokenize")
# of POST, PUT and PATCH the gate wants JSON before a route is looked for, so that without it they are 415 everywhere
METHODS = ["get", "delete", "trace", "query"]


def schema_of(url, brief, headers):
    """The schema, where the name of the model is known, so that data that fit get beyond it. brief: without the largest
    route, and of the next the fields that hold no others."""
    schema = httpx.get(f"{url}/openapi.json", headers=headers).json()
    for path in BODIES:
        content = schema["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
        fields = schema["components"]["schemas"][content["$ref"].rpartition("/")[2]]["properties"]
        fields["model"] = {"type": "string", "enum": ["tiny"]}
        if brief and path == "/v1/completions":
            for name in set(fields) - {"model", "prompt", "echo", "max_tokens", "temperature", "n"}:
                del fields[name]
    if brief:
        del schema["paths"]["/v1/chat/completions"]
    return schema


def explored(url, *, examples, seed, brief=False, key=None):
    """(number of requests, what was wrong)."""
    import schemathesis
    from schemathesis.config import SchemathesisConfig
    from schemathesis.engine import from_schema

    headers = {"Authorization": f"Bearer {key}"} if key else {}
    config = SchemathesisConfig.from_dict(
        {
            "seed": seed,
            "base-url": url,
            "headers": headers,
            "continue-on-failure": True,
            "generation": {"mode": "all", "max-examples": examples, "database": "none", "no-shrink": True},
            "checks": {"positive_data_acceptance": {"enabled": False}},
            "phases": {"stateful": {"enabled": False}, "coverage": {"unexpected-methods": METHODS}},
        }
    )
    schema = schemathesis.openapi.from_dict(schema_of(url, brief, headers), config=config)
    count, wrong = 0, []
    for event in from_schema(schema).execute():
        recorder = getattr(event, "recorder", None)
        if type(event).__name__ == "ScenarioFinished":
            count += len(recorder.cases)
            for checks in recorder.checks.values():
                wrong += [f"{check.name}: {check.failure_info.failure}" for check in checks if check.failure_info]
        elif type(event).__name__ in ("NonFatalError", "FatalError"):
            wrong.append(str(getattr(event, "value", None) or event.exception))
    return count, wrong


def test_the_schema_holds(make_service, serve_here, tokenizer):
    """Section 3's fuzzers, briefly: positive and negative data, the coverage phase."""
    url = serve_here(make_service(tokenizer.encode("a"))).url
    count, wrong = explored(url, examples=1, seed=8, brief=True)
    assert not wrong, "\n\n".join(dict.fromkeys(wrong))
    assert count > 200
    assert httpx.get(f"{url}/health").status_code == 200


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_schema_holds_for_long(start_server):
    """The same on a real server that wants a key, with new data for INSTAR_FUZZ_SECONDS, or ten minutes."""
    url = start_server("--name", "tiny", "--api-key", "letmein").url
    end = time.monotonic() + float(os.environ.get("INSTAR_FUZZ_SECONDS", "600"))
    while time.monotonic() < end:
        seed = time.time_ns() % 2**31
        print(f"seed {seed}")  # shown where it fails
        count, wrong = explored(url, examples=20, seed=seed, key="letmein")
        assert not wrong, "\n\n".join(dict.fromkeys(wrong))
        assert count > 1000
    assert httpx.get(f"{url}/health").status_code == 200
