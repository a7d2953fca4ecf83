"""Looking inside: seconds and memory of a trace and of an atlas of all heads.

    python benchmarks/inside.py [--tokens 512] [--layers 12] [--heads 12] [--d-model 768] [--rounds 5] [--json FILE]

A decoder of GPT-2's shape with new weights reads a row of ids: once as it is, once watched, and then the shares of all
heads of all layers are made and drawn small, layer by layer. Each round is a process of its own, so that its peak of
memory is its own: what is told is by how much the process grew over what it held with its model loaded. Wanted, on two
cores: at most 2 seconds and 1 GiB.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from instar.cli.screen import table

SECONDS, BYTES = 2.0, 1 << 30  # that trace and atlas may take together
PARTS = {"forward": "a pass that nobody watches", "trace": "a trace", "atlas": "an atlas, 32 x 32 a head"}


def memory(name: str) -> int:
    """VmRSS, what a process holds, or VmHWM, its peak: of ru_maxrss a child inherits its parent's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def child(tokens: int, layers: int, heads: int, width: int, threads: int) -> None:
    """One round: prints seconds of each part, and bytes."""
    import torch

    from instar.config.presets import preset
    from instar.model.transformer import Transformer
    from instar.probe.capture import capture
    from instar.probe.routing import atlas

    if threads:
        torch.set_num_threads(threads)
    shape: dict[str, Any] = {"layers": layers, "heads": heads, "d_model": width, "max_positions": tokens}
    model = Transformer(preset("gpt2", vocab_size=50257, **shape)).eval()
    ids = torch.randint(0, 50257, (1, tokens), generator=torch.Generator().manual_seed(0))
    found: dict[str, float] = {}

    def timed(name: str, f: Callable[[], Any]) -> Any:
        begin = time.perf_counter()
        result = f()
        found[name] = time.perf_counter() - begin
        return result

    with torch.no_grad():
        model.hidden(ids[:, :16])  # what is made at the first products is no part of it
        held = memory("VmRSS")
        trace = timed("trace", lambda: capture(model, ids))
        timed("atlas", lambda: atlas(trace))
        found["peak"] = memory("VmHWM") - held
        found["kept"] = trace.bytes
        timed("forward", lambda: model.hidden(ids))
    print(json.dumps(found))


def round_of(options: argparse.Namespace) -> dict[str, float]:
    shape = [options.tokens, options.layers, options.heads, options.d_model, options.threads]
    done = subprocess.run(
        [sys.executable, __file__, "--child", *map(str, shape)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"a round failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    if "--child" in sys.argv:
        tokens, layers, heads, width, threads = map(int, sys.argv[sys.argv.index("--child") + 1 :])
        return child(tokens, layers, heads, width, threads)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--heads", type=int, default=12)
    parser.add_argument("--d-model", type=int, default=768)
    parser.add_argument("--threads", type=int, default=0, help="0: as many as torch takes")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rounds = [round_of(options) for _ in range(options.rounds)]
    middle = {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}
    seconds, peak = middle["trace"] + middle["atlas"], middle["peak"]
    rows: list[list[Any]] = [
        [told, middle[name], min(one[name] for one in rounds), max(one[name] for one in rounds)]
        for name, told in PARTS.items()
    ]
    title = f"{options.tokens} tokens, {options.layers} layers of {options.heads} heads, d={options.d_model}"
    note = (
        f"trace and atlas: {seconds:.2f} s of {SECONDS:g}, {peak / (1 << 20):,.0f} MiB of {BYTES >> 20:,} at the peak, "
        f"of which the trace keeps {middle['kept'] / (1 << 20):,.0f}; medians of {options.rounds} rounds"
    )
    Console().print(table(title, ["seconds of", "median", "least", "most"], rows, note=note))
    if options.json:
        record = {"rounds": rounds, "seconds": seconds, "peak": peak}
        options.json.write_text(json.dumps(record, indent=1) + "\n")
    return None


if __name__ == "__main__":
    main()
