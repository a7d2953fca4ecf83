// What comes after the selected token, and what was proven of this text.
import { chips } from "./chips.js";
import { h, put } from "./h.js";
import { t } from "./i18n.js";
import { num, percent } from "./numbers.js";
import { word } from "./shown.js";
import { at } from "./strip.js";

/** @param {Element} root @param {any} ctx */
export function mountInspector(root, ctx) {
  const { store } = ctx;
  const next = h("div", { dataset: { testid: "next" } });
  const proof = h("div", { class: "proof" });
  let asking = null;
  let shownFor = "";

  async function draw(state) {
    root.hidden = !state.trace || state.view === "chat" || state.view === "training";
    if (root.hidden) { shownFor = ""; return put(root); }
    const { trace } = state;
    const key = `${trace.trace}:${at(state)}:${state.vs}:${state.spoken}`;
    if (key === shownFor) return undefined;
    shownFor = key;
    if (!root.contains(next)) put(root, next, proof);
    put(proof, h("h2", {}, t("inspector.checks")), chips(trace.checks, ctx), untrained(trace));
    asking?.abort();
    asking = new AbortController();
    const { signal } = asking;
    if (!trace.caps.generate && !trace.caps.mask) return put(next, h("p", { class: "quiet" }, t("inspector.none")));
    try {
      // a token that is passed by in a hurry is not asked about
      await new Promise((done) => setTimeout(done, 120));
      if (signal.aborted) return undefined;
      const panel = await ctx.traced("next", { at: at(state), top: 10 }, { signal });
      if (!signal.aborted) put(next, following(panel.data, store, trace, state.vs));
    } catch (error) {
      if (error.name !== "AbortError" && !signal.aborted) put(next, h("p", { class: "quiet" }, error.detail || t("error.offline")));
    }
    return undefined;
  }

  root.append(next, proof);
  store.on(["trace", "token", "view", "vs", "spoken"], draw);
  return { draw };
}

/** Weights that learned nothing spread their chance over the whole vocabulary. */
function untrained(trace) {
  if (!trace.near_uniform) return null;
  return h("p", { class: "note warm", dataset: { testid: "near-uniform", value: trace.loss }, role: "note" },
    t("inspector.uniform", { loss: num(trace.loss, 2), ln: num(Math.log(trace.shape.vocab), 2) }));
}

function following(found, store, trace, vs) {
  const { one: data = found, other } = found;
  const place = at(store.get());
  const { likeliest, entropy } = top(data, place);
  if (!likeliest.length) return h("p", { class: "quiet", dataset: { testid: "no-hole" } }, t("inspector.hole"));
  const list = (tokens, before) => h("ol", { class: "nexts" }, tokens.map(({ id, piece, p }) => h("li", { dataset: { testid: `${before}-${id}`, value: p } },
    word(piece, { class: "what" }), h("span", { class: "bar", aria: { hidden: "true" }, style: { "--share": String(p) } }),
    h("span", { class: "mono" }, percent(p)))));
  return [
    h("h2", {}, t(trace.caps.generate ? "inspector.after" : "inspector.at"), " ", word(trace.tokens[place].text, { class: "strong" })),
    list(likeliest, "next"),
    other && [h("h3", {}, vs), list(top(other, place).likeliest, "next-vs")],
    h("p", { class: "quiet" }, h("span", { tip: "glossary.entropy", dataset: { testid: "next-entropy", value: entropy } },
      t("inspector.entropy", { nats: num(entropy) }))),
    h("p", { class: "actions" }, h("button", { type: "button", on: { click: () => store.set({ view: "layers" }) } }, t("inspector.why")),
      trace.caps.generate && h("button", { type: "button", on: { click: () => store.set({ view: "generation" }) } }, t("inspector.choose"))),
  ];
}

/** The likeliest tokens under the model's own distribution, out of the panel `next`: behind a token, or in a hole. */
function top(data, place) {
  const hole = data.masks?.find((one) => one.place === place);
  if (data.masks) return { likeliest: hole?.top ?? [], entropy: hole?.entropy ?? null };
  return { likeliest: data.top.map(({ id, piece, model }) => ({ id, piece, p: model })), entropy: data.stages[0].entropy };
}
