// What each head is for: a table and a map of all, their scores beside chance, and what is lost without some of them.
// data-testid: heads-set-S, side-S, entity-words, heads-table, row-L.H, head-L.H, score-L.H, above-L.H, sort-AXIS, cut-box-L.H,
// axis-x, axis-y, figure-scatter, ablation-A, ablate, reset, diff-kl, diff-dlogit, diff-ID (p after), diff-proof, corpus, panel-heads.
import { h, put } from "../core/h.js";
import { num } from "../core/numbers.js";
import { declare } from "../core/url.js";
import { entities, segments, stacks } from "./attention/controls.js";
import { seen } from "./attention/source.js";
import { onText, placeOf, profileOf, usualAxes, valueOf } from "./heads/profile.js";
import { createTable } from "./heads/table.js";
import { createWithout } from "./heads/without.js";
import { asking } from "./sides.js";

declare({ entities: "", set: "text", hx: "", hy: "", sort: "leading", cut: "", ablation: "zero" });
export const view = { id: "heads", needs: ["trace"] };

/** @param {HTMLElement} root @param {any} ctx */
export function mount(root, ctx) {
  const { store, t } = ctx;
  if (!store.get().trace.caps.attention) {
    root.append(ctx.card({ icon: "◉", title: t("attention.none"), text: t("attention.none.do"), id: "no-attention" }));
    return {};
  }
  const named = (name, k = 0) => t(name !== "offset" ? `heads.score.${name}` : k ? `heads.${k > 0 ? "back" : "ahead"}` : "heads.itself", { k: Math.abs(k) });
  const titled = (axis) => `${t(`heads.score.${axis.split("/")[0]}`)} · ${t(placeOf(axis, store.get().set))}`;
  const bar = h("div", { class: "toolbar" });
  const axesBar = h("div", { class: "row" });
  const map = h("div", {});
  const words = entities(ctx, "entity-words");
  const corpus = /** @type {HTMLTextAreaElement} */ (h("textarea", { rows: 3, placeholder: t("heads.corpus"), aria: { label: t("heads.corpus") }, dataset: { testid: "corpus" } }));
  const paste = h("div", { class: "row" }, corpus, ctx.button(t("heads.corpus.run"), () => load(), { class: "primary" }));
  const table = createTable(ctx, named);
  const without = createWithout(ctx);
  let known = null; // {profile, other, pair}
  let asked = "";

  const { box, load, stop } = asking(ctx, {
    what: t("heads.wait"), class: "view",
    ask(signal) {
      const state = store.get();
      if (state.set === "text") return onText(ctx, state, signal, state.vs);
      return ctx.api.get(`heads/${state.trace.model}`, { set: state.set, adapter: state.trace.adapter, ...(state.set === "corpus" ? { text: corpus.value } : {}) }, { signal });
    },
    draw(el, panel) {
      known = { profile: profileOf(panel), other: panel.data.other ? profileOf(panel, "other") : null, drawn: "" };
      const mine = known;
      el.append(h("div", { class: "heads-grid" }, h("section", {}, axesBar, map), without.el), table.el);
      requestAnimationFrame(async () => { // what stands below comes when the rest stands
        await show(store.get());
        if (mine === known) el.append(ctx.panel(panel, ctx, { figures: [], title: t("heads.proof") }));
      });
    },
  });
  root.append(h("header", {}, h("h2", {}, t("heads.title")), h("p", { class: "quiet" }, t("heads.about"))), bar, paste, box);

  function controls(state) {
    words.draw();
    put(bar, segments(t("heads.set"), state.set, ["text", "probe", "corpus"].map((one) => [one, t(`heads.set.${one}`), `heads.tip.set.${one}`]), (set) => store.set({ set }), "heads-set"),
      stacks(ctx, seen(state)), state.set === "text" && words.el);
    paste.hidden = state.set !== "corpus";
  }

  function refresh(state) {
    controls(state);
    const now = [state.set === "text" ? [state.trace.trace, state.entities, state.vs] : state.trace.model, state.set, seen(state).asked].join("\n");
    if (now === asked) return show(state);
    asked = now;
    known = null;
    if (state.set !== "corpus" || corpus.value) load();
    else put(box);
    return undefined;
  }

  function show(state) {
    if (!known) return undefined;
    const { profile, other } = known;
    const { layer, head } = seen(state);
    const chosen = head < 0 ? "" : `${layer}.${head}`;
    scatter(state, chosen);
    const on = profile.where.at(-1);
    without.draw(state);
    return table.draw(state, profile, other, chosen, [...(profile.axes.includes("lift") ? ["lift"] : []), `sink/${on}`, `entropy/${on}`, `distance/${on}`].slice(0, 3));
  }

  /** All heads by two scores that one chooses; those of the model beside carry a stroke. */
  function scatter(state, chosen) {
    const { profile, other } = known;
    const pair = [state.hx, state.hy].map((axis, n) => (profile.axes.includes(axis) ? axis : usualAxes(profile)[n]));
    const now = pair.join();
    if (known.drawn !== now) {
      known.drawn = now;
      const choice = (key, n) => h("label", { class: "choice" }, h("span", {}, t(`heads.axis.${key}`)), h("select", { dataset: { testid: `axis-${key}` }, aria: { label: t(`heads.axis.${key}`) }, on: { change: (event) => store.set({ [`h${key}`]: event.target.value }) } },
        profile.axes.map((axis) => h("option", { value: axis, selected: axis === pair[n] }, titled(axis)))));
      put(axesBar, choice("x", 0), choice("y", 1));
      const points = (rows, mark, kind) => rows.map((row) => [`${row.key}${mark}`, ...pair.map((axis) => valueOf(row, axis)), row.idle ? `${kind} idle` : kind]);
      const all = [...(other ? points(other.rows, "′", "beside") : []), ...points(profile.rows, "", "")];
      known.map = ctx.draw.figure({ kind: "scatter", title: other ? t("heads.map.beside", { name: state.vs }) : t("heads.map"), points: all, x_title: titled(pair[0]), y_title: titled(pair[1]) },
        { say: ctx.say, selected: chosen ? { label: chosen } : {}, pick: ({ label }) => { const [l, n] = label.replace("′", "").split(".").map(Number); store.set({ layer: l, head: n }); } });
      put(map, known.map);
    }
    known.map.select(chosen ? { label: chosen } : {});
  }

  function say(state) {
    const { layer, head } = seen(state);
    const row = known?.profile.rows.find((one) => one.layer === layer && one.head === head);
    if (row) ctx.say(t("heads.said", { head: row.key, name: named(row.leading.name, row.offsets[row.leading.on]), score: num(row.scores[row.leading.on][row.leading.name], 2), chance: num(row.leading.chance, 2) }));
  }

  refresh(store.get());
  const off = store.on(["trace", "side", "set", "entities", "vs", "layer", "head", "hx", "hy", "sort", "cut", "ablation", "token"], (state, changed) => {
    if (!state.trace || state.view !== "heads") return;
    refresh(state);
    if (changed.has("layer") || changed.has("head")) say(state);
  });
  return { unmount() { off(); stop(); known = null; table.stop(); without.stop(); } };
}
