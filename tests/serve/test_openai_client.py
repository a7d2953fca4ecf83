"""Programs that speak OpenAI's API work with ours: the official client, newest and oldest, and two more."""

import ast
import os
import runpy
import subprocess
from pathlib import Path

import pytest

CLIENTS = Path(__file__).parent / "clients"
# the functions of the script that take a client and a model; the script itself imports openai, which takes a while
SURFACE = ast.parse((CLIENTS / "openai_surface.py").read_text(encoding="utf-8"))
CHECKS = [
    node.name
    for node in SURFACE.body
    if isinstance(node, ast.FunctionDef) and [each.arg for each in node.args.args] == ["client", "model"]
]


@pytest.fixture(scope="module")
def surface():
    return runpy.run_path(str(CLIENTS / "openai_surface.py"))


@pytest.fixture
def says(tokenizer):
    """As a model would that keeps to its constraint: an object, a call of a tool, else something by the seed."""

    def answer(ask):
        if ask.options.grammar:
            name = "FindBall" if "FindBall" in ask.options.grammar else "find_ball"
            return tokenizer.encode(
                f'<tool_call>\n{{"name": "{name}", "arguments": {{"colour": "red"}}}}\n</tool_call>'
            )
        if ask.options.json_schema:
            return tokenizer.encode('{"name": "red", "bright": true}')
        if ask.options.choice:
            return tokenizer.encode(ask.options.choice[0])
        return [(ask.seed * 31 + 7 * n) % 250 for n in range(24)]

    return answer


@pytest.mark.parametrize("name", CHECKS)
def test_the_newest_client(name, surface, says, make_service, serve_here):
    """Section 5: each endpoint, with the client's strict validation of every answer; sync, async, .stream(), .parse(),
    with_raw_response."""
    assert [check.__name__ for check in surface["CHECKS"]] == CHECKS
    url = serve_here(make_service(says)).url
    with surface["client_of"](f"{url}/v1") as client:
        surface[name](client, "tiny")


def test_the_newest_client_and_a_real_engine(surface, server, capsys):
    """The same with everything real behind it: a process of its own, an engine, grammars."""
    surface["main"](f"{server.url}/v1", "tiny")
    assert capsys.readouterr().out.split() == CHECKS


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variable", "script", "checks"),
    [
        ("INSTAR_OLD_OPENAI", "openai_surface.py", CHECKS),
        ("INSTAR_OTHER_CLIENTS", "langchain_surface.py", ["chat", "structured", "tools", "texts", "embeddings"]),
        ("INSTAR_OTHER_CLIENTS", "llm_surface.py", ["chat", "goes_on", "schema"]),
    ],
)
def test_other_clients(variable, script, checks, server):
    """openai 1.40, the oldest with .parse(); LangChain; and the `llm` command: each unchanged, from its own Python,
    whose path an environment variable gives."""
    if variable not in os.environ:
        pytest.skip(f"wants {variable}, the path of a Python that has the client")
    done = subprocess.run(
        [os.environ[variable], str(CLIENTS / script), f"{server.url}/v1", "tiny"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split() == checks
