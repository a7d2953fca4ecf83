"""The `llm` command, told of a server by its own file of models: `python llm_surface.py URL MODEL`. Prints the names of
the checks that passed."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path


def main(url, model):
    with tempfile.TemporaryDirectory() as folder:
        told = {"model_id": "ours", "model_name": model, "api_base": url, "supports_schema": True}
        told |= {"supports_tools": True}
        Path(folder, "extra-openai-models.yaml").write_text(json.dumps([told]))
        command = str(Path(sys.executable).with_name("llm"))
        env = {**os.environ, "LLM_USER_PATH": folder, "OPENAI_API_KEY": "none"}

        def said(*words):
            done = subprocess.run([command, *words], env=env, capture_output=True, text=True, timeout=120)
            assert done.returncode == 0, done.stderr
            return done.stdout

        rules = ("-m", "ours", "-o", "max_tokens", "12", "-o", "seed", "1")
        streamed = said(*rules, "-s", "Be short.", "Who had a ball?")
        assert streamed == said(*rules, "--no-stream", "-s", "Be short.", "Who had a ball?")
        print("chat")
        said(*rules, "-c", "And now?")
        print("goes_on")
        schema = {
            "type": "object", "properties": {"name": {"type": "string", "enum": ["red", "blue"]}}, "required": ["name"],
            "additionalProperties": False,
        }  # fmt: skip
        answer = said("-m", "ours", "-o", "max_tokens", "100", "--schema", json.dumps(schema), "A colour.")
        assert json.loads(answer)["name"] in ("red", "blue")
        print("schema")


if __name__ == "__main__":
    main(*sys.argv[1:])
