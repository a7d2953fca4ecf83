"""The pictures of the page in docs/glass: every view of a model at work, in two languages, two themes, three widths.

Usage: python benchmarks/shots.py [FOLDER of a life, runs/demo] [--out docs/glass] [--only VIEW ...]. It starts a
server, opens the page in the system's Chromium (INSTAR_CHROMIUM names another), waits until each view has drawn, and
writes a WebP for each: VIEW.LANGUAGE.webp, wide and light; VIEW.dark, VIEW.tablet and VIEW.phone beside. They may
take 3 MB together; it says how much they take.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

CHROMIUM = os.environ.get("INSTAR_CHROMIUM", "/usr/bin/chromium")
STORY = {"en": "Tom gave Anna a red ball.\nWho has the ball?", "zh": "汤姆把红色的球给了安娜。谁拿着球？"}
VIEWS: dict[str, dict[str, str | int]] = {
    "chat": {}, "tokens": {"token": 3}, "position": {}, "attention": {"kind": "sinkless"}, "heads": {}, "layers": {},
    "generation": {}, "training": {"run": "pretrain", "smooth": 4},
}  # fmt: skip
# name, width, height, theme: what is taken of each view
LOOKS = (
    ("", 1440, 900, "light"),
    ("dark", 1440, 900, "dark"),
    ("tablet", 1024, 768, "light"),
    ("phone", 390, 844, "dark"),
)
QUALITY = 70  # of WebP
LIMIT = 3_000_000  # bytes of all of them
READY = 120.0  # seconds that the server has to load
# how many answers have come; what is drawn stands still when it does
DONE = "performance.getEntriesByType('resource').length"


@contextmanager
def server(model: str, roots: str) -> Iterator[str]:
    """A server of that model -> the address of its page."""
    command = [
        sys.executable, "-c", "from instar.cli import main; main()", "serve", "--model", model, "--port", "0", "--json",
        "--engine.no-tune", "--quiet", "--glass.mode", "on", "--glass.roots", roots,
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    said: queue.Queue[str] = queue.Queue()
    assert process.stdout is not None
    threading.Thread(
        target=lambda lines: [said.put(line) for line in lines], args=(process.stdout,), daemon=True
    ).start()
    try:
        ready = json.loads(said.get(timeout=READY))
        yield f"{ready['url'].removesuffix('/v1').rstrip('/')}/glass/"
    finally:
        process.terminate()
        process.wait(30)


def take(page, url: str, view: str, language: str, theme: str, run: str) -> bytes:
    """The view as a WebP, when it has got and drawn all that it asks for."""
    state = {"view": view, "lang": language, "theme": theme, "text": STORY[language], "chat": 1} | VIEWS[view]
    if "run" in state:
        state["run"] = run
    page.goto(f"{url}#" + "&".join(f"{name}={quote(str(value))}" for name, value in state.items()))
    page.get_by_test_id(f"view-{view}").wait_for(state="visible", timeout=60_000)
    if view == "chat":
        page.get_by_test_id("composer").fill(STORY[language])
        page.get_by_test_id("send").click()
        page.wait_for_timeout(500)
        page.get_by_test_id("stop-answer").wait_for(state="hidden", timeout=60_000)
        page.get_by_test_id("said-0").first.click()  # what else it could have said
    before, now = -1, page.evaluate(DONE)
    while now != before:
        page.wait_for_timeout(1200)
        before, now = now, page.evaluate(DONE)
    return webp(page)


def webp(page) -> bytes:
    session = page.context.new_cdp_session(page)
    shot = session.send("Page.captureScreenshot", {"format": "webp", "quality": QUALITY})
    session.detach()
    return base64.b64decode(shot["data"])


def run_of(page, url: str, stage: str) -> str:
    """The id of the run of a stage, of the life that is served before all others."""
    ids = page.request.get(f"{url}api/models").json()
    runs = [run for run in ids["runs"] if run.split("/")[-1] == stage]
    return min(runs, key=lambda run: (ids["served"] not in run, len(run)), default="")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="runs/demo")
    parser.add_argument("--roots", default="runs")
    parser.add_argument("--out", type=Path, default=Path("docs/glass"))
    parser.add_argument("--only", nargs="*", choices=VIEWS, default=list(VIEWS))
    asked = parser.parse_args()
    from playwright.sync_api import sync_playwright

    asked.out.mkdir(parents=True, exist_ok=True)
    faults: list[str] = []
    with server(asked.model, asked.roots) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for kind, width, height, theme in LOOKS:
            for view in asked.only:
                for language in STORY:
                    context = browser.new_context(viewport={"width": width, "height": height}, reduced_motion="reduce")
                    page = context.new_page()
                    page.on("pageerror", lambda error: faults.append(str(error)))
                    picture = take(page, url, view, language, theme, run_of(page, url, "pretrain"))
                    path = asked.out / ".".join(part for part in (view, kind, language, "webp") if part)
                    path.write_bytes(picture)
                    print(f"{path}  {len(picture):,} bytes", flush=True)
                    context.close()
        browser.close()
    if faults:
        sys.exit(f"the page raised {faults[0]}")
    size = sum(path.stat().st_size for path in asked.out.glob("*.webp"))
    print(f"{size:,} bytes together")
    if size > LIMIT:
        sys.exit(f"found {size:,} bytes, wanted at most {LIMIT:,}: lower QUALITY")


if __name__ == "__main__":
    main()
