// What the model says without some heads: the distribution of the next token before and after, and that all is true of it.
import { chips } from "../../core/chips.js";
import { h, put } from "../../core/h.js";
import { num, percent } from "../../core/numbers.js";
import { word } from "../../core/shown.js";
import { segments } from "../attention/controls.js";
import { seen } from "../attention/source.js";
import { asking } from "../sides.js";

/** @param {any} ctx */
export function createWithout(ctx) {
  const { store, t } = ctx;
  const chosen = () => store.get().cut.split(",").filter(Boolean);
  const bar = h("div", { class: "row" });
  const { box, load, stop } = asking(ctx, { what: t("heads.without.wait"), again: t("heads.without.run"), aria: { live: "polite" }, ask, draw: tell });
  const el = h("section", { class: "without", dataset: { testid: "without" } }, h("h3", { tip: "heads.tip.without" }, t("heads.without.title")), bar, box);
  let shownFor = "";

  async function ask(signal) {
    const state = store.get();
    const post = () => ctx.api.post("intervene", { trace: store.get().trace.trace, heads: chosen().map((name) => name.split(".").map(Number)), ablation: state.ablation, at: state.token, side: seen(state).asked || "auto" }, { signal });
    const made = () => post().catch(async (error) => {
      if (error.code !== "trace_expired") throw error;
      await ctx.traced("next", { vs: "" }, { signal }); // which makes the trace anew, in silence
      return post();
    });
    return { ...await made(), signal };
  }

  /** What was proven of the pass without them, and what the page finds itself: the numbers from all logits, and that the
   * model is whole again, which a pass in which a token changes places with itself tells. */
  async function proven({ trace, checks, diff, signal }, place) {
    const own = store.get().trace.trace;
    const checked = (name, about, limit, gap) => ({ name, gap, limit, green: gap <= limit, about: { en: about, zh: about } });
    try {
      const [before, after] = await Promise.all([own, trace].map(async (of) => Object.values((await ctx.api.binary(`trace/${of}/logits/${diff.at}`, {}, { signal })).tensors)[0].data));
      const again = (await ctx.api.post("intervene", { trace: own, swap: [0, 0], at: diff.at }, { signal })).diff;
      const [p, q] = [before, after].map(softmax);
      const kl = p.reduce((sum, x, id) => (x ? sum + x * Math.log(x / q[id]) : sum), 0);
      const off = Math.max(Math.abs(kl - diff.kl), ...diff.top.flatMap((one) => [one.p0 - p[one.id], one.p - q[one.id]].map(Math.abs)));
      put(place, chips([...checks, checked("effect_recomputed", t("heads.without.recomputed", { n: p.length }), 1e-6, off),
        checked("nothing_silenced", t("heads.without.undone"), 0, Math.max(again.kl, ...again.top.map((one) => Math.abs(one.dlogit))))], { open: false }));
    } catch (error) {
      if (!signal.aborted) put(place, chips(checks), h("p", { class: "note" }, error.detail || String(error)));
    }
  }

  function draw(state) {
    const now = [state.trace.trace, state.cut, state.ablation, state.side, state.token].join();
    if (now !== shownFor) { stop(); put(box); }
    shownFor = now;
    const heads = chosen();
    put(bar, heads.length ? [
      heads.map((name) => h("button", { type: "button", aria: { label: t("heads.without.keep", { name }) }, dataset: { testid: `cut-${name}` }, on: { click: () => store.set({ cut: heads.filter((one) => one !== name).join() }) } }, `${name} ×`)),
      segments(t("heads.without.how"), state.ablation, ["zero", "mean"].map((one) => [one, t(`heads.without.${one}`), `heads.tip.${one}`]), (ablation) => store.set({ ablation }), "ablation"),
      h("button", { type: "button", class: "primary", dataset: { testid: "ablate" }, on: { click: load } }, t("heads.without.run")),
      h("button", { type: "button", dataset: { testid: "reset" }, on: { click: () => store.set({ cut: "" }) } }, t("heads.without.reset")),
    ] : h("p", { class: "quiet fine" }, t("heads.without.none")));
  }

  function tell(place, found) {
    const { diff } = found;
    if (!diff) return put(place, h("p", { class: "note" }, t("heads.without.nothing")));
    const { kl, dlogit_of_best: best } = diff;
    const top = [...diff.top].sort((a, b) => Math.max(b.p, b.p0) - Math.max(a.p, a.p0)).slice(0, 10);
    const most = Math.max(...top.flatMap((one) => [one.p, one.p0]), 1e-9);
    const bars = (one) => h("span", { class: "head-two", aria: { hidden: "true" } }, [one.p0, one.p].map((p) => h("i", { style: { "--share": String(p / most) } })));
    const { tokens, caps } = store.get().trace;
    const proof = h("div", { dataset: { testid: "diff-proof" } });
    put(place,
      h("p", { class: "quiet fine", dataset: { testid: "diff-at", value: diff.at } }, t(caps.generate ? "inspector.after" : "inspector.at"), " ", word(tokens[diff.at].text, { class: "mono" })),
      h("p", { class: "row" }, h("span", { tip: "heads.tip.kl", dataset: { testid: "diff-kl", value: kl } }, h("b", { class: "figure-of" }, num(kl)), ` ${t("heads.without.kl")}`),
        h("span", { tip: "heads.tip.dlogit", dataset: { testid: "diff-dlogit", value: best } }, h("b", { class: "figure-of" }, signed(best)), ` ${t("heads.without.dlogit")}`)),
      h("p", { class: "head-two-keys quiet fine" }, h("i"), t("heads.without.before"), h("i"), t("heads.without.after")),
      h("ol", { class: "befores" }, top.map((one) => h("li", { dataset: { testid: `diff-${one.id}`, value: one.p } }, word(one.text, { class: "mono" }), bars(one),
        h("span", { class: "mono" }, `${percent(one.p0)} → ${percent(one.p)}`), h("span", { class: "mono quiet", tip: "heads.tip.dlogit" }, signed(one.dlogit))))), proof);
    proven(found, proof);
    return ctx.say(t("heads.without.said", { kl: num(kl), token: top[0]?.text ?? "" }));
  }

  return { el, draw, stop };
}

/** Probabilities of logits. @param {Float32Array} logits */
function softmax(logits) {
  const most = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  const raised = Float64Array.from(logits, (x) => Math.exp(x - most));
  const sum = raised.reduce((a, b) => a + b, 0);
  return raised.map((x) => x / sum);
}

const signed = (x) => `${x < 0 ? "−" : "+"}${num(Math.abs(x), 2)}`;
