"""Our engine without a server, for benchmarks/serve.py: what a server of it can give at most. Runs in our own venv.

It answers one JSON line with another:

    {"do": "load", "path", "dtype"}                                  -> {}
    {"do": "loop", "texts", "streams", "new"}                        -> replies, as the generator of load gives them
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import asdict
from typing import Any

from instar.config.options import EngineOptions, SamplingOptions
from instar.hub.folders import load
from instar.infer.ready import ready
from instar.serve.load import Reply
from instar.train.machine import pick_device, weights_dtype


class Bare:
    """The engine as a server would have it."""

    def __init__(self, path: str, dtype: str) -> None:
        device = pick_device("auto")
        model, self.tokenizer = load(path, dtype=weights_dtype(dtype, device), device=device)
        self.engine = ready(model, self.tokenizer, EngineOptions(tune=True))

    def loop(self, texts: list[str], streams: int, new: int) -> list[Reply]:
        """Answer all texts, so many at a time: where one has ended, the next is asked."""
        prompts = [
            self.tokenizer.chat([{"role": "user", "content": text}], add_generation_prompt=True).ids for text in texts
        ]
        options = SamplingOptions(strategy="greedy", max_new_tokens=new)
        waiting = iter(prompts)
        asked: dict[Any, tuple[Reply, float]] = {}
        replies = []

        def ask() -> None:
            for prompt in waiting:
                request = self.engine.submit(prompt, options)
                reply = Reply(time.perf_counter(), prompt=len(prompt))
                asked[request] = reply, reply.began
                return

        for _ in range(streams):
            ask()
        while self.engine.busy:
            events = self.engine.step()
            now = time.perf_counter()
            for event in events:
                reply, last = asked[event.request]
                if event.id is not None:
                    reply.tokens += 1
                    if reply.first:
                        reply.gaps.append(now - last)
                    else:
                        reply.first = now - reply.began
                    asked[event.request] = reply, now
                if event.finish:
                    reply.total, reply.finish = now - reply.began, event.finish
                    replies.append(reply)
                    ask()
        return replies


def main() -> None:
    # what libraries print goes to stderr: stdout is for answers alone
    said = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    bare: list[Bare] = []
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "load":
            bare.append(Bare(request["path"], request["dtype"]))
            answer: dict[str, Any] = {}
        else:
            replies = bare[0].loop(request["texts"], request["streams"], request["new"])
            answer = {"replies": [asdict(reply) for reply in replies]}
        said.write(json.dumps(answer) + "\n")
        said.flush()


if __name__ == "__main__":
    main()
