// How the next token comes about: the sampler as a pipeline over the whole vocabulary, the loop, the cache, the beams.
// data-testid: view-generation, settings; those of its parts stand at the top of their files
import { ApiError } from "../core/api.js";
import { h, put } from "../core/h.js";
import { at } from "../core/strip.js";
import { rankGently } from "../core/sampler.js";
import { declare } from "../core/url.js";
import { called } from "./chat/saying.js";
import { adopt } from "./chat/settings.js";
import { beamView, USUAL } from "./generation/beam.js";
import { loopView } from "./generation/loop.js";
import { pipelineView } from "./generation/pipeline.js";

export const view = { id: "generation", key: "7", icon: "⌥", needs: ["trace"] };

declare(USUAL);

/** @param {HTMLElement} root @param {any} ctx */
export function mount(root, ctx) {
  const { store, t } = ctx;
  const off = [adopt(store)];
  let asking = new AbortController();
  let other = new AbortController();
  let shown = "";

  const parts = { pipeline: pipelineView(ctx), loop: loopView(ctx), beam: beamView(ctx) };
  const more = h("section", { class: "chapter" });

  /** Logits behind the selected token, and their order. */
  async function ranked(params, signal) {
    const { tensors, glass } = await ctx.traced(`logits/${at(store.get())}`, params, { signal, binary: true });
    const logits = tensors.logits.data;
    return { ...glass, logits, order: await rankGently(logits, () => new Promise((done) => setTimeout(done))) };
  }

  async function load(state) {
    const { trace } = state;
    if (!trace) return;
    const key = `${trace.trace}:${at(state)}`;
    if (key === shown) return;
    shown = key;
    asking.abort();
    asking = new AbortController();
    const { signal } = asking;
    if (!trace.caps.generate) return void encoder(signal);
    if (!root.contains(more)) put(root, Object.values(parts).map((one) => one.el), more);
    parts.pipeline.beside(null);
    parts.loop.fresh(trace, at(state));
    parts.beam.fresh(trace);
    panels();
    try {
      const found = await ranked({}, signal);
      if (signal.aborted) return;
      parts.pipeline.load(found, trace);
      beside(store.get());
    } catch (error) {
      if (!signal.aborted) parts.pipeline.fail(error, () => { shown = ""; load(store.get()); });
    }
  }

  /** What the second model says at the same place. */
  async function beside({ vs, trace, models }) {
    other.abort();
    other = new AbortController();
    const { signal } = other;
    parts.pipeline.beside(null);
    if (!trace?.caps.generate) return void (trace && encoder(asking.signal));
    if (!vs) return;
    const listed = models.models.find((one) => one.id === vs);
    const who = listed ? { model: vs, adapter: "" } : { model: trace.model, adapter: vs === "base" ? "" : vs };
    const name = vs === "base" ? `${trace.model} (${t("header.base")})` : called(who);
    let found = { why: t("generation.beside.cannot") };
    try {
      if (listed?.caps.generate ?? true) found = await ranked({ vs }, signal);
    } catch (error) {
      found = { why: error.detail || t("error.offline") };
    }
    if (!signal.aborted) parts.pipeline.beside({ ...who, ...found, name });
  }

  /** A model that says no next token: why, and what it says at its masks. */
  async function encoder(signal) {
    const room = h("div");
    put(root, ctx.card({ icon: "⌥", title: t("chat.cannot.title"), text: t("generation.cannot"), id: "cannot-generate" }), room);
    if (!store.get().trace.caps.mask) return;
    try {
      const record = await ctx.traced("next", { top: 8 }, { signal });
      if (!signal.aborted) put(room, ctx.panel(record, ctx));
    } catch (error) {
      if (!signal.aborted && error instanceof ApiError) ctx.fail(room, error, () => encoder(signal));
    }
  }

  /** The panels of the API, each with its proofs, drawn when they are asked for. */
  function panels() {
    const room = h("div", { dataset: { testid: "panel-room" } });
    const tabs = ["next", "generation", "kv", "beam"].map((name) => ctx.button(t(`generation.panel.${name}`), (event) => open(name, event.currentTarget),
      { aria: { pressed: "false" }, dataset: { testid: `panel-tab-${name}` } }));
    async function open(name, tab) {
      tabs.forEach((one) => one.setAttribute("aria-pressed", String(one === tab)));
      const { signal } = asking;
      const done = ctx.wait(room, t("generation.asking"));
      try {
        const record = await ctx.traced(name, { ...(name === "next" ? { at: at(store.get()) } : {}), ...(name === "beam" ? parts.beam.query() : parts.loop.query()) }, { signal });
        if (!signal.aborted) put(room, ctx.panel(record, ctx));
      } catch (error) {
        if (!signal.aborted) ctx.fail(room, error, () => open(name, tab));
      } finally {
        done();
      }
    }
    put(more, h("h2", {}, t("generation.panels")), h("p", { class: "quiet" }, t("generation.panels.about")),
      h("div", { class: "segments", role: "group", aria: { label: t("generation.panels") } }, tabs), room);
  }

  off.push(store.on(["trace", "token"], load), store.on(["vs"], beside));
  load(store.get());
  return {
    unmount() {
      asking.abort();
      other.abort();
      off.forEach((end) => end());
      Object.values(parts).forEach((one) => one.end?.());
    },
    keys: { " ": () => parts.loop.step(), Enter: () => parts.loop.run() },
  };
}
