// The page: one state, and the parts that show it.
import { api, ApiError } from "./core/api.js";
import { figure } from "./core/draw/index.js";
import { h, put } from "./core/h.js";
import { mountHeader } from "./core/header.js";
import { mountHelp } from "./core/help.js";
import { preferred, speak, t, words } from "./core/i18n.js";
import { mountInspector } from "./core/inspector.js";
import { startKeys } from "./core/keys.js";
import { panel } from "./core/panel.js";
import { mountPrompt } from "./core/prompt.js";
import { VIEWS } from "./core/registry.js";
import { button, card, fail, wait } from "./core/states.js";
import { createStore } from "./core/store.js";
import { mountStrip } from "./core/strip.js";
import { startTips } from "./core/tip.js";
import { mountTour } from "./core/tour.js";
import { createTracing } from "./core/tracing.js";
import { bind, read } from "./core/url.js";

const place = (id) => /** @type {any} */ (document.getElementById(id));
const store = createStore({ trace: null, status: { state: "idle" }, models: null, ...read(location.hash) });
const tracing = createTracing(store);
const ctx = {
  store, api, traced: tracing.traced, trace: tracing.run, t, words, draw: { figure }, panel, fail, wait, card, button, say,
};

let open = null; // {id, own} of the view that is mounted
let opening = 0;

/** A sentence for those who listen. @param {string} sentence */
function say(sentence) {
  place("live").textContent = sentence;
}

function theme(state) {
  const dark = state.theme ? state.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = dark ? "dark" : "light";
}

/** The tabs: made once, so that none loses the keyboard's focus. */
function rail(state) {
  const root = place("rail");
  if (!root.children.length) {
    put(root, VIEWS.map((one) => h("button", {
      type: "button", class: "tab", dataset: { testid: `view-tab-${one.id}`, view: one.id }, on: { click: () => store.set({ view: one.id }) },
    }, h("kbd", { aria: { hidden: "true" } }, one.key), h("span", {}))));
  }
  for (const tab of root.children) {
    tab.lastChild.textContent = t(`view.${tab.dataset.view}`);
    if (tab.dataset.view === state.view) tab.setAttribute("aria-current", "page");
    else tab.removeAttribute("aria-current");
  }
}

/** What the page says of itself. */
function shell(state) {
  document.title = `${t(`view.${state.view}`)} · Instar`;
  place("skip").textContent = t("page.skip");
  for (const [id, key] of [["rail", "page.views"], ["strip", "strip.tokens"], ["inspector", "page.inspector"], ["prompt", "prompt.text"]]) place(id).setAttribute("aria-label", t(key));
  rail(state);
}

/** Mount the view of the state, or say why there is none to show. */
async function show(state) {
  const turn = ++opening;
  const stage = place("stage");
  const entry = VIEWS.find((one) => one.id === state.view) ?? VIEWS[0];
  close();
  if (!state.models) return state.status.state === "error" ? fail(stage, state.status.error, start) : undefined;
  let loaded;
  try {
    loaded = await entry.load();
  } catch (error) {
    return turn === opening ? fail(stage, new ApiError(0, "offline", String(error.message)), () => show(store.get())) : undefined;
  }
  if (turn !== opening) return undefined;
  const now = store.get();
  if ((loaded.view.needs ?? []).includes("trace") && !now.trace) return instead(stage, now);
  put(stage);
  const root = h("div", { class: `view ${entry.id}`, dataset: { testid: `view-${entry.id}` } });
  stage.append(root);
  try {
    open = { id: entry.id, own: loaded.mount(root, ctx) ?? {} };
  } catch (error) {
    fail(root, error, () => show(store.get()));
  }
  return undefined;
}

/** Without a trace: what is being done, what went wrong, or how to begin. */
function instead(stage, state) {
  const { status } = state;
  if (status.state === "loading") { open = { id: "waiting", own: { unmount: wait(stage, t("status.loading"), tracing.stop) } }; return undefined; }
  if (status.state === "error") return fail(stage, status.error, tracing.run);
  const examples = [1, 2, 3].map((n) => button(t(`example.${n}`), () => store.set({ text: t(`example.${n}`), token: -1 }), { dataset: { testid: `example-${n}` } }));
  put(stage, card({ title: t("empty.title"), text: t("empty.text"), actions: examples, id: "empty" }));
  return undefined;
}

function close() {
  open?.own.unmount?.();
  open = null;
}

/** The models, again and again until there are some. */
async function start() {
  try {
    const models = await api.get("models");
    store.set({ models, status: { state: "idle" } });
  } catch (error) {
    store.set({ status: { state: "error", error } });
    if (error.code === "loading" || error.code === "offline") setTimeout(start, 2000);
  }
}

/** Say that the server has gone, until it is back. */
function watch() {
  const banner = h("p", { class: "banner", role: "alert", hidden: true, dataset: { testid: "offline" } });
  place("top").before(banner);
  let lost = false;
  setInterval(async () => {
    if (document.hidden) return;
    let gone = false;
    try {
      await fetch(new URL("../health", document.baseURI), { cache: "no-store", signal: AbortSignal.timeout(8000) });
    } catch {
      gone = true;
    }
    if (gone === lost) return;
    lost = gone;
    banner.hidden = !gone;
    put(banner, t("banner.offline"), " ", button(t("state.retry"), () => location.reload()));
    if (!gone && store.get().status.state === "error") store.get().models ? tracing.run() : start();
  }, 5000);
}

async function main() {
  theme(store.get());
  startTips();
  const state = store.get();
  if (!state.lang) store.set({ lang: localStorage.getItem("instar.lang") || preferred() });
  if (!state.theme) store.set({ theme: localStorage.getItem("instar.theme") || "" });
  await speak(store.get().lang === "zh" ? "zh" : "en");
  bind(store);
  const header = mountHeader(place("top"), store, {
    language: () => { const lang = store.get().lang === "zh" ? "en" : "zh"; localStorage.setItem("instar.lang", lang); store.set({ lang }); },
    theme: () => { const said = document.documentElement.dataset.theme === "dark" ? "light" : "dark"; localStorage.setItem("instar.theme", said); store.set({ theme: said }); },
    help: () => help.toggle(),
  });
  const help = mountHelp(store);
  const prompt = mountPrompt(place("prompt"), store, tracing);
  const strip = mountStrip(place("strip"), store);
  const inspector = mountInspector(place("inspector"), ctx);
  mountTour(document.body, ctx);
  startKeys(store, {
    own: () => open?.own.keys, focusPrompt: prompt.focus, run: tracing.run, help: () => help.toggle(),
    compare: () => place("top").querySelector("[data-testid=vs]")?.focus(),
    table: () => place("stage").dispatchEvent(new CustomEvent("tables", { bubbles: true })),
    escape: (event, typed) => help.close() || (typed ? place("stage").focus() : undefined) || place("stage").dispatchEvent(new CustomEvent("leave", { detail: event })),
  });
  place("skip").addEventListener("click", (event) => { event.preventDefault(); place("stage").focus(); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => theme(store.get()));
  // the texts of a language come first, then all that is said in it: `spoken` is what the parts of the page hear of
  store.set({ spoken: store.get().lang });
  const all = (now) => [shell, header.draw, prompt.draw, strip.draw, inspector.draw].forEach((draw) => draw(now));
  store.on(["theme"], (now) => { theme(now); document.dispatchEvent(new CustomEvent("theme")); });
  store.on(["lang"], async (now) => { await speak(now.lang === "zh" ? "zh" : "en"); store.set({ spoken: now.lang }); });
  store.on(["spoken"], (now) => { all(now); show(now); });
  store.on(["view"], shell);
  store.on(["view", "models"], show);
  store.on(["trace", "status"], (now, changed) => {
    const entry = open?.id;
    if (entry === "chat" || entry === "training") return;
    // a view that is open hears of a new trace itself
    if (!open || entry === "waiting" || (changed.has("trace") && !now.trace)) show(now);
  });
  all(store.get());
  await start();
  show(store.get());
  watch();
}

main();
