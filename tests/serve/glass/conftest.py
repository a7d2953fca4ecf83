"""The page in a real browser: a server with tiny models of every kind and runs to look at, and Chromium."""

import asyncio
import json
import os
import re
import signal
from pathlib import Path
from urllib.parse import quote, urlencode, urlsplit

import pytest

from instar.config import dump_yaml
from instar.text.tokenizer import Tokenizer

CHROMIUM = os.environ.get("INSTAR_CHROMIUM", "/usr/bin/chromium")
TEXTS = [
    "Anna had a red ball. She gave the ball to Tom. Tom said thank you and ran home with the ball.\n" * 4,
    'The quick brown fox jumps over the lazy dog; 0123456789 times?! {"name": [1, 2.5, true, null]}\n' * 2,
    "王明有一个红色的球。球在花园里。\n" * 2,
]
SHAPE = dict(layers=3, heads=4, d_model=32)
PAIR = dict(SHAPE, layers=2, encoder_layers=2, positions="sinusoidal_halves")
DONE = "performance.getEntriesByType('resource').length"  # answers that have come
STEPS = 40  # of the runs that are written by hand


def metrics(steps, **more):
    """Rows of a metrics.jsonl whose loss falls as 1 / step; each tenth step is measured on held-out rows too."""
    rows = []
    for step in range(1, steps + 1):
        row = {
            "step": step, "tokens": 512 * step, "loss": 2 + 4 / step, "grad_norm": 1 / step, "lr": 1e-3 * step / steps,
            "tokens_per_second": 900.0 + step, "seconds": 0.5 * step, "skipped": 0,
        }  # fmt: skip
        row |= {name: value(step) for name, value in more.items()}
        if step % 10 == 0:
            row["held_out_loss"] = 2.5 + 4 / step
        rows.append(row)
    return rows


def looks(steps, heads):
    """Rows of an inside.jsonl in which an induction head is born half way."""
    rows = []
    for step in range(0, steps + 1, 10):
        score = 0.05 if step < steps / 2 else 0.8
        best = {"previous": [0.1 + 0.02 * step, 0, 1], "induction": [score, 1, heads - 1]}
        rows.append({"step": step, "best": best, "lens": {"settled": 1.5, "kl": [3.0, 1.0, 0.5, 0.0]}})
    return rows


def lines(rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def write_run(folder, stage, rows, *, steps=STEPS, report=True, samples=(), inside=(), **recipe):
    """What a run leaves in its folder, without weights."""
    folder.mkdir(parents=True, exist_ok=True)
    said = {"stage": stage, "steps": steps, "parameters": 12345, "options": {"out": str(folder)}, **recipe}
    (folder / "instar.yaml").write_text(dump_yaml(said), encoding="utf-8")
    for name, found in (("metrics", rows), ("samples", samples), ("inside", inside)):
        if found:
            (folder / f"{name}.jsonl").write_text(lines(found), encoding="utf-8")
    if report:
        told = {"stage": stage, "steps": steps, "held_out_loss": 2.6, "seconds": 20.0}
        (folder / "report.json").write_text(json.dumps(told), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def run_of():
    """run_of(folder, stage, rows, steps=, report=, samples=, inside=): a run's folder; run_of.metrics and run_of.looks
    make rows."""
    write_run.metrics, write_run.looks, write_run.lines = metrics, looks, lines
    return write_run


def faint(folder):
    """Make the weights of its head so small that it predicts all tokens alike, as if it had learned nothing."""
    from safetensors.numpy import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    last = [name for name in tensors if "head" in name and tensors[name].ndim == 2]
    assert len(last) == 1, sorted(tensors)
    save_file(tensors | {last[0]: tensors[last[0]] * 1e-3}, folder / "model.safetensors")


@pytest.fixture(scope="session")
def glass_roots(build, tmp_path_factory):
    """A folder with a small life (pretrain, sft, dpo), an encoder, an encoder-decoder, a model that has learned nothing
    and a run that was stopped."""
    root = tmp_path_factory.mktemp("glass") / "runs"
    plain = Tokenizer.train(TEXTS, 384)
    masks = Tokenizer.train(TEXTS, 384, masks=True)
    samples = [{"step": step, "prompt": "Anna had", "text": f" a ball {step}."} for step in (20, STEPS)]
    for seed, stage in enumerate(("pretrain", "sft", "dpo")):
        path = build(plain, root / "tiny" / stage, seed=seed + 3, qk_norm=True, **SHAPE)
        paired = {"margin": lambda step: step / 100, "drift": lambda step: step / 50} if stage == "dpo" else {}
        inside = looks(STEPS, SHAPE["heads"]) if stage == "pretrain" else ()
        write_run(path, stage, metrics(STEPS, **paired), samples=samples, inside=inside)
    faint(build(plain, root / "fresh", **SHAPE))
    build(masks, root / "bert", causal=False, heads_of=("masked",), **SHAPE)
    build(masks, root / "pair", start=0, **PAIR)
    write_run(root / "stopped", "pretrain", metrics(15), report=False)
    return root


@pytest.fixture(scope="session")
def glass_server(launch, glass_roots, tmp_path_factory):
    """A real server of the sft stage of the small life, with all else beside it."""
    log = tmp_path_factory.mktemp("glass-log") / "server.log"
    flags = ["--name", "tiny", "--glass.mode", "on", "--glass.roots", str(glass_roots)]
    started = launch(glass_roots / "tiny" / "sft", flags, log)
    yield started
    started.stop(signal.SIGKILL)


@pytest.fixture(scope="session")
def glass_url(glass_server):
    """Where its page is, with a slash at the end."""
    return f"{glass_server.url}/glass/"


@pytest.fixture(scope="session")
def playing():
    """Playwright, which marks the main thread as one whose loop runs; between the tests that use it the mark is
    taken off, so that others may use asyncio.run."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install -e .[test]")
    if not Path(CHROMIUM).is_file():
        pytest.skip(f"no browser at {CHROMIUM}: apt-get install chromium, or INSTAR_CHROMIUM=PATH")
    with sync_api.sync_playwright() as playwright:
        loop = asyncio.get_running_loop()
        asyncio._set_running_loop(None)
        yield playwright, loop
        asyncio._set_running_loop(loop)


@pytest.fixture(scope="session")
def launched(playing):
    playwright, loop = playing
    asyncio._set_running_loop(loop)
    # one process for all pages of a site is enough here, and /dev/shm is small in containers
    browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"])
    asyncio._set_running_loop(None)
    yield browser
    asyncio._set_running_loop(loop)
    browser.close()
    asyncio._set_running_loop(None)


@pytest.fixture
def browser(playing, launched):
    """Chromium, in which a test may open contexts of its own."""
    asyncio._set_running_loop(playing[1])
    yield launched
    asyncio._set_running_loop(None)


class Troubles(list):
    """What went wrong in a page: texts. A test that provokes some says so before: expect(part of the text)."""

    def __init__(self, origin):
        super().__init__()
        self.origin, self.expected, self.asked = origin, [], []

    def expect(self, pattern):
        self.expected.append(re.compile(pattern))

    def watch(self, page):
        """Hear all that this page reports and asks for."""
        page.on("console", lambda said: said.type == "error" and self.append(f"console: {said.text}"))
        page.on("pageerror", lambda error: self.append(f"error: {error}"))
        page.on("request", self._request)
        return page

    def _request(self, request):
        self.asked.append(request.url)
        parts = urlsplit(request.url)
        if parts.scheme not in ("data", "blob") and f"{parts.scheme}://{parts.netloc}" != self.origin:
            self.append(f"off-origin: {request.url}")

    def left(self):
        return [said for said in self if not any(pattern.search(said) for pattern in self.expected)]


@pytest.fixture
def troubles(glass_server):
    return Troubles(glass_server.url)


@pytest.fixture
def page(browser, glass_url, troubles):
    """A page in a fresh context, English and light; page.goto(glass_url + "#view=attention"). The test fails at its end
    where the page wrote an error, raised one, or asked another origin for anything."""
    context = browser.new_context(viewport={"width": 1440, "height": 900}, locale="en-US", color_scheme="light")
    context.set_default_timeout(30_000)
    opened = troubles.watch(context.new_page())
    yield opened
    context.close()
    assert not troubles.left(), "\n".join(troubles.left())


@pytest.fixture
def modules(page, glass_url, troubles):
    """modules(body, argument): runs JavaScript in the page with its modules at hand, in an empty element `root`."""
    troubles.expect("404")  # of the icon that a browser looks for beside a document that names none
    page.goto(f"{glass_url}core/h.js")  # a document of the page's origin and policy in which the page does not run
    page.evaluate(
        """async (base) => {
          const at = (name) => import(`${base}core/${name}.js`);
          await Promise.all(["app", "draw"].map((name) => new Promise((done) => {
            const link = Object.assign(document.createElement("link"), { rel: "stylesheet" });
            Object.assign(link, { href: `${base}${name}.css`, onload: done });
            document.head.append(link);
          })));
          const [i18n, tip, colour, draw, heat, save, panel] = await Promise.all(
            ["i18n", "tip", "colour", "draw/index", "draw/heat", "draw/save", "panel"].map(at));
          await i18n.speak("en");
          document.body.replaceChildren();
          tip.startTips();
          const root = document.createElement("div");
          root.style.cssText = "position: fixed; inset: 0; overflow: auto; background: var(--ground)";
          root.id = "root";
          document.body.append(root);
          const said = [], picked = [], spans = [];
          window.box = { colour, draw, heat, save, panel, i18n, root, said, picked, spans,
            ctx: { say: (text) => said.push(text), pick: (what) => picked.push(what) },
            rest: () => new Promise((done) => setTimeout(() => requestAnimationFrame(() => setTimeout(done, 0)), 60)),
            at };
        }""",
        glass_url,
    )

    def run(body, argument=None):
        return page.evaluate(f"async (given) => {{ {body} }}", argument)

    return run


@pytest.fixture(scope="session")
def settled():
    """settled(page, view): wait until that view is open and has got all that it asked the server for."""

    def wait(page, view):
        page.get_by_test_id(f"view-{view}").wait_for(state="visible")
        before, now = -1, page.evaluate(DONE)
        while now != before:
            page.wait_for_timeout(300)
            before, now = now, page.evaluate(DONE)

    return wait


@pytest.fixture
def shown(page, glass_url):
    """shown(view, text, *drawn, **state): the view of a text, once those parts of it are drawn."""

    def show(view, text, *drawn, **state):
        said = urlencode({"view": view, "text": text} | state, quote_via=quote)
        page.goto("about:blank")  # a change of the hash alone would leave what is drawn
        page.goto(f"{glass_url}#{said}")
        for name in drawn:
            page.wait_for_selector(f"[data-testid={name}]", timeout=60_000)
        return page

    return show
