"""What the glass box page costs: its source, its first paint, and the numbers of a model of 32 layers of 32 heads.

Usage: python benchmarks/glass.py [--tokens 512] [--width 512]. It makes a random model of that shape, starts a server,
asks its API as the page does, opens the page in the system's Chromium, and prints a table beside the budgets of the
design. Run it on an idle machine: times are of this machine, sizes of any.
"""

from __future__ import annotations

import argparse
import gzip
import json
import tempfile
import time
import urllib.request
from pathlib import Path

import torch

import instar.serve.glass
from instar.config import ModelConfig
from instar.hub.folders import save_model
from instar.model.transformer import Transformer
from shots import CHROMIUM, server

WEB = Path(instar.serve.glass.__file__).parent / "web"
VIEWS = ("tokens", "position", "attention", "heads", "layers", "generation", "training", "chat")
PAINT = """[performance.getEntriesByType('navigation')[0].responseEnd,
            performance.getEntriesByName('first-contentful-paint')[0].startTime]"""
Row = tuple[str, str, str]


def asked(url: str, path: str, body: dict | None = None) -> tuple[bytes, float]:
    """An answer, and how many seconds it took."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{url}api/{path}", data, {"content-type": "application/json"})
    began = time.perf_counter()
    with urllib.request.urlopen(request, timeout=600) as answer:
        content = answer.read()
    return content, time.perf_counter() - began


def source() -> list[Row]:
    files = [path for path in WEB.rglob("*") if path.suffix in (".js", ".css")]
    size = sum(path.stat().st_size for path in files)
    packed = sum(len(gzip.compress(path.read_bytes())) for path in files)
    return [
        ("JavaScript and CSS as written", f"{size:,} bytes in {len(files)} files", "200,000 bytes"),
        ("the same as it is sent (gzip)", f"{packed:,} bytes", "-"),
    ]


def numbers(url: str, model: str, tokens: int) -> list[Row]:
    ids = [10 + 37 * n % 200 for n in range(tokens)]
    asked(url, "trace", {"model": model, "ids": ids[:8]})  # the process starts, and the model is loaded
    trace, took = asked(url, "trace", {"model": model, "ids": ids})
    found = json.loads(trace)
    rows: list[Row] = [("a text is read", f"{took:.2f} s, {found['bytes']:,} bytes kept", "1 GiB kept in all")]
    layers, size, sofar = found["shape"]["layers"], 0, 0.0
    for layer in range(0, layers, 8):
        atlas, took = asked(url, f"trace/{found['trace']}/atlas?layers={layer}:{layer + 8}")
        size, sofar = size + len(atlas), sofar + took
    rows.append((f"atlas of {layers} x {found['shape']['heads']} heads", f"{size:,} bytes, {sofar:.2f} s", "1.05 MB"))
    for name, path, budget in (
        ("one head", f"attention/{layers // 2}/1", "263 KB"),
        ("mean of a layer's heads", f"attention/{layers // 2}/-1", "-"),
        ("logits at one place", f"logits/{tokens - 1}", "4 V bytes"),
    ):  # fmt: skip
        content, took = asked(url, f"trace/{found['trace']}/{path}")
        rows.append((name, f"{len(content):,} bytes, {took:.2f} s", budget))
    return rows


def drawn(url: str, text: str) -> list[Row]:
    """In the browser: the first paint, and what each view puts on the page."""
    from playwright.sync_api import sync_playwright

    rows: list[Row] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        paints = []
        for _ in range(5):
            page.goto("about:blank")
            page.goto(f"{url}#lang=en")
            page.wait_for_timeout(800)
            arrived, painted = page.evaluate(PAINT)
            paints.append(round(painted - arrived))
        rows.append(("first paint behind the page's arrival", f"{sorted(paints)} ms", "300 ms"))
        most = {}
        for view in VIEWS:
            page.goto(f"{url}#lang=en&view={view}&text={text}")
            page.wait_for_timeout(4000)
            most[view] = page.evaluate("document.querySelectorAll('*').length")
        rows.append(("elements of a view at most", f"{max(most.values()):,} ({max(most, key=most.get)})", "5,000"))
        browser.close()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--model", default="runs/demo", help="what is served and drawn")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        torch.manual_seed(0)
        shape = ModelConfig(
            vocab_size=512, d_model=options.width, layers=32, heads=32, kv_heads=32, d_ff=2 * options.width,
            max_positions=max(1024, options.tokens),
        )  # fmt: skip
        save_model(Transformer(shape), Path(root) / "wide")
        with server(options.model, root) as url:
            rows = source() + numbers(url, "wide", options.tokens) + drawn(url, "Anna%20has%20a%20red%20ball.")
    print(f"| {options.tokens} tokens, 32 layers, 32 heads, d={options.width} | measured | budget |\n|---|---|---|")
    print("\n".join(f"| {name} | {found} | {budget} |" for name, found, budget in rows))


if __name__ == "__main__":
    main()
