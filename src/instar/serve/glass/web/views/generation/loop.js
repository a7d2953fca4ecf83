// The loop, one token a step, and the cache that grows with it.
// data-testid: loop-model, loop-start, step, loop-run, loop-stop, loop-again, loop-text, said-I, cache (data-value: tokens kept,
// data-cross: those of the source), cache-bytes, loop-chips, prove-it
import { chips } from "../../core/chips.js";
import { framed } from "../../core/draw/index.js";
import { h, put } from "../../core/h.js";
import { bytes, count, num } from "../../core/numbers.js";
import { shown, word } from "../../core/shown.js";
import { tipAt, hide } from "../../core/tip.js";
import { drawn } from "../chat/answer.js";
import { answer, called, speak, trouble } from "../chat/saying.js";
import { query, sampling, seed } from "../chat/settings.js";

/** @param {any} ctx */
export function loopView(ctx) {
  const { store, t, button } = ctx;
  const whose = h("small", { class: "quiet", dataset: { testid: "loop-model" } });
  const start = h("p", { class: "quiet", dataset: { testid: "loop-start" } });
  const text = h("div", { class: "loop-text", dataset: { testid: "loop-text" } });
  const bar = h("div", { class: "row" });
  const fate = h("div");
  const canvas = h("canvas", { class: "cache", role: "img", dataset: { testid: "cache" } });
  const facts = h("p", { class: "speed mono quiet" });
  const proof = h("div", { dataset: { testid: "loop-chips" } });
  const grid = framed(t("generation.cache"), h("div", { class: "pan" }, canvas), { kind: "cache", table: steps });
  const el = h("section", { class: "chapter loop" }, h("h2", {}, t("generation.loop"), " ", whose), h("p", { class: "quiet" }, t("generation.loop.about")), start, text, bar, fate,
    grid, facts,
    h("p", { class: "row" }, button(t("generation.prove"), prove, { dataset: { testid: "prove-it" } })), proof);

  let source = []; // of an encoder-decoder: tokens whose keys and values each layer of the decoder keeps for its cross-attention
  let prompt = []; // the tokens that the loop begins with
  let said = null;
  let view = null;
  let control = null;
  let begins = null;

  function fresh(trace, place) {
    const pair = trace.kind === "encoder-decoder";
    source = pair ? trace.source ?? [] : [];
    const anew = pair && trace.tokens[0].special; // else the answer goes on behind all that was given of it
    prompt = trace.tokens.slice(0, anew ? 1 : pair ? undefined : place + 1);
    begins = pair ? { trace: trace.trace } : { ids: prompt.map((token) => token.id) };
    put(whose, called(trace));
    start.hidden = !anew;
    if (anew) put(start, t("generation.loop.anew", { n: source.length }), " ", word(prompt[0].text, { class: "strong" }));
    again();
  }

  function again() {
    control?.abort();
    const { trace } = store.get();
    said = answer({ model: trace.model, adapter: trace.adapter }, begins);
    view = drawn(said, { label: t("generation.loop"), peek: (i) => i >= 0 && ctx.say(`p ${num(said.tokens[i].p)}`), pick: look });
    put(text, [source, prompt.slice(-60)].map((tokens, n) => tokens.length ? [n && source.length ? h("span", { class: "quiet" }, " → ") : null,
      h("bdi", { class: "quiet", text: shown(tokens.map((token) => token.text).join(""), { spaces: false }) })] : null), view.el);
    put(fate);
    put(proof);
    drawBar();
    cache();
  }

  /** The distribution that a token of the answer was drawn from. */
  function look(i) {
    if (begins.trace) return;
    store.set({ text: "", chat: 0, ids: [...begins.ids, ...said.tokens.slice(0, i).map((token) => token.id)].join(","), token: -1 });
  }

  async function more(most) {
    if (control || !said || said.finish === "stop") return;
    control = new AbortController();
    const own = said;
    drawBar();
    put(fate);
    await speak(ctx, own, { signal: control.signal, most, seed: seed(store.get()), heard: (token) => { if (own === said) { view.push(token); cache(); } } });
    control = null;
    drawBar();
    if (own !== said) return;
    view.settle();
    cache();
    if (own.error) ctx.fail(fate, trouble(own.error), () => more(most));
    else if (own.finish === "stop") put(fate, h("p", { class: "quiet", dataset: { testid: "loop-end" } }, t("chat.finish.stop")));
    const last = own.tokens[own.tokens.length - 1];
    if (own.checks.length) put(proof, chips([...(last ? [counted(last)] : []), ...own.checks]));
    if (last) ctx.say(`${last.piece}: p ${num(last.p)}`);
  }

  /** The columns that are drawn against the tokens that the engine says it keeps. */
  function counted(last) {
    const gap = Math.abs(held() - last.kv_len);
    return { name: "cache_columns", gap, limit: 0, green: gap === 0, about: t("generation.proof.cache_columns") };
  }

  const key = (name) => h("kbd", { aria: { hidden: "true" } }, name);
  function drawBar() {
    const over = said.finish === "stop";
    const focused = document.activeElement?.dataset?.testid;
    const does = (text, click, testid, props) => button(t(text), click, { dataset: { testid }, ...props });
    put(bar, does("generation.step", () => more(1), "step", { class: "primary", disabled: Boolean(control) || over }), key("Space"),
      control ? does("chat.stop", () => control?.abort(), "loop-stop") : does("generation.run", () => more(0), "loop-run", { disabled: over }), key("Enter"),
      does("generation.again", again, "loop-again", { class: "plain", disabled: !said.tokens.length }));
    if (focused) /** @type {HTMLElement | null} */ (bar.querySelector(`[data-testid="${focused}"]`))?.focus();
  }

  /** How many tokens the cache of self-attention holds: the last one that was said is not read yet. */
  const held = () => prompt.length + Math.max(0, said.tokens.length - 1);

  function cache() {
    const { layers, kv_heads: heads } = store.get().trace.shape;
    // a column each: what was read of the source, a gap, what the decoder read
    const kept = [...source.map((token) => ["cross", token]), ...(source.length ? [null] : []), ...prompt.map((token) => ["prefill", token]),
      ...said.tokens.slice(0, -1).map((token) => ["decode", token])];
    const size = Math.max(3, Math.min(18, Math.floor(860 / Math.max(kept.length, 24))));
    const tall = Math.max(3, Math.min(14, Math.floor(220 / layers)));
    const ratio = devicePixelRatio || 1;
    const wide = Math.min(kept.length * size, 8000);
    Object.assign(canvas, { width: wide * ratio, height: layers * tall * ratio });
    Object.assign(canvas.style, { width: `${wide}px`, height: `${layers * tall}px` });
    const pen = canvas.getContext("2d");
    const style = getComputedStyle(document.documentElement);
    const inks = { cross: style.getPropertyValue("--quiet"), prefill: style.getPropertyValue("--accent"), decode: style.getPropertyValue("--warm") };
    pen.scale(ratio, ratio);
    kept.forEach((one, n) => {
      if (!one) return;
      pen.fillStyle = inks[one[0]];
      pen.globalAlpha = n === kept.length - 1 ? 1 : 0.62;
      for (let l = 0; l < layers; l++) pen.fillRect(n * size, l * tall, size - (size > 5 ? 2 : 0), tall - (tall > 5 ? 2 : 0));
    });
    const total = said.bytes || 0;
    const decoded = held() - prompt.length;
    Object.assign(canvas.dataset, { value: held(), cross: source.length });
    canvas.setAttribute("aria-label", t("generation.cache.aria", { layers, prefill: prompt.length, decode: decoded })
      + (source.length ? ` ${t("generation.cache.aria.cross", { n: source.length })}` : ""));
    canvas.onpointermove = (event) => {
      const n = Math.floor(event.offsetX / size);
      if (!kept[n]) return hide();
      const [phase, token] = kept[n];
      const i = n - (phase !== "cross" && source.length ? source.length + 1 : 0);
      tipAt(canvas, t("generation.cache.cell", { layer: Math.floor(event.offsetY / tall), token: shown(token.piece ?? token.text), n: i, heads, phase: t(`generation.${phase}`) }));
      return undefined;
    };
    canvas.onpointerleave = () => hide();
    const ink = (phase, n) => h("span", { class: `ink ${phase}`, tip: source.length ? `glossary.cache.${phase === "cross" ? "cross" : "self"}` : null }, t(`generation.${phase}`), ` ${count(n)}`);
    put(facts, source.length ? ink("cross", source.length) : null, ink("prefill", prompt.length), ink("decode", decoded),
      h("span", { tip: "glossary.kv", dataset: { testid: "cache-bytes", value: total } }, total ? t("generation.cache.bytes", { bytes: bytes(total), each: bytes(Math.round(total / (source.length + held()))) }) : t("generation.cache.none")),
      said.rate ? h("span", { tip: "glossary.tokens_per_second" }, t("chat.rate", { n: num(said.rate, 1) })) : null);
    grid.stale();
  }

  /** The same as a table. */
  function steps() {
    const names = ["step", "phase", "token", "p", "kv", "ms"];
    return h("table", {}, h("thead", {}, h("tr", {}, names.map((name) => h("th", { scope: "col" }, t(`generation.column.${name}`))))),
      h("tbody", {}, said.tokens.map((token, n) => [n, t(`generation.${token.phase}`), word(token.piece), num(token.p), count(token.kv_len), num(token.ms, 1)]).slice(-200)
        .map((row) => h("tr", {}, row.map((cell) => h("td", {}, cell))))));
  }

  /** The cache against none, by the engine's own words. */
  async function prove() {
    const done = ctx.wait(proof, t("generation.asking"));
    try {
      const record = await ctx.traced("kv", { vs: "" });
      put(proof, chips(record.checks));
    } catch (error) {
      ctx.fail(proof, error, prove);
    } finally {
      done();
    }
  }

  const theme = () => said && cache();
  document.addEventListener("theme", theme);
  return {
    el, fresh, step: () => more(1), run: () => more(0),
    query: () => query(store.get(), { max_new_tokens: Math.min(64, sampling(store.get()).max_new_tokens) }),
    end() {
      control?.abort();
      document.removeEventListener("theme", theme);
    },
  };
}
