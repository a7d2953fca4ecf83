// Who looks at whom: all heads at a glance, one of them as a matrix, and what one token takes as arcs and numbers.
// data-testid: kind-K, level-L, side-S, attention-layer, attention-head, mean, atlas, attention-map-N (in it heat: row, col,
// value), attention-readout (row, col, value), line-I and line-source-J (share), pair-N (weight), lift-words, lift-here,
// idle (heads), attention-part, overview, pair-other-N, no-difference, panel-attention.
import { h, put } from "../core/h.js";
import { num } from "../core/numbers.js";
import { shown, word } from "../core/shown.js";
import { at } from "../core/strip.js";
import { declare } from "../core/url.js";
import { createAtlas } from "./attention/atlas.js";
import { segments, stacks, stepper } from "./attention/controls.js";
import { createLift } from "./attention/lift.js";
import { createLine } from "./attention/line.js";
import { createMatrix } from "./attention/matrix.js";
import { columnOf, createSource, less, rowOf, seen } from "./attention/source.js";

declare({ entities: "", zoom: "" });
export const view = { id: "attention", needs: ["trace"] };

/** @param {HTMLElement} root @param {any} ctx */
export function mount(root, ctx) {
  const { store, t } = ctx;
  if (!store.get().trace.caps.attention) {
    root.append(ctx.card({ icon: "◫", title: t("attention.none"), text: t("attention.none.do"), id: "no-attention" }));
    return {};
  }
  const source = createSource(ctx);
  const grid = h("div", { class: "attention-grid" });
  const bar = h("div", { class: "toolbar" });
  const problem = h("div");
  const proof = h("div");
  const pairs = h("section");
  const atlas = createAtlas(ctx, told);
  const lift = createLift(ctx);
  const matrix = createMatrix(ctx, {
    pick, span: mark, peek: (row, column) => line.peek(row < 0 ? -1 : column),
    zoom: (cell) => { if (cell) token(cell[0]); store.set({ zoom: cell ? cell.join(":") : "" }); },
  });
  const line = createLine({
    pick: (i) => pick(i, -1), span: mark, peek: (j) => now?.field.pool === 1 && matrix.tell(row(), j),
    key: (j) => { key = key === j ? -1 : j; follow(); },
  });
  root.append(h("header", {}, h("h2", {}, t("attention.title")), h("p", { class: "quiet" }, t("attention.routing"))), bar, problem,
    grid, line.el, lift.el, proof);
  grid.append(h("div", { class: "attention-side" }, atlas.el, pairs), matrix.el);

  let now = null; // {name, field, queries, keys}: what is drawn
  let also = null; // the same of the other model, where its tokens are these, and what the source says of it
  let asking = new AbortController();
  let own = -1; // the query of an encoder's text, which the strip does not hold
  let key = -1; // of two texts the key that was clicked
  let cell = null; // the cell that was clicked
  let speaking = 0;

  /** The row of the selected token; of words, the one that holds it. */
  function row() {
    const state = store.get();
    const is = seen(state);
    const i = !is.own ? at(state) : own < 0 ? is.queries.length - 1 : Math.min(own, is.queries.length - 1);
    return now?.field.words ? Math.max(0, now.field.words[0].findIndex(([from, to]) => from <= i && i < to)) : i;
  }

  /** Select the token of a row. */
  function token(i) {
    const first = now?.field.words ? now.field.words[0][i][0] : i;
    if (!seen(store.get()).own) store.set({ token: first });
    else { own = first; follow(); }
  }

  function pick(i, j) {
    cell = j < 0 ? null : [i, j];
    token(i);
    matrix.select(i, j);
  }

  /** Keys that were dragged over become an entity: the words that they stand for. */
  function mark(from, to) {
    const is = seen(store.get());
    const [first, behind] = now.field.words ? [now.field.words[1][from][0], now.field.words[1][to][1]] : [from, to + 1];
    const tokens = is.keys.slice(first, behind).filter((one) => one.start >= 0);
    const text = tokens.length ? [...is.text].slice(tokens[0].start, tokens.at(-1).end).join("").trim() : "";
    if (!text || text.includes(",")) ctx.say(t("attention.lift.cannot"));
    else store.set({ entities: text });
    matrix.span(from, to);
  }

  function controls(state) {
    const is = seen(state);
    const rolled = state.kind === "rollout";
    grid.classList.toggle("many", is.heads > 16);
    const kinds = ["raw", "sinkless", "norm", "rollout"].slice(0, is.cross ? 3 : 4);
    put(bar,
      segments(t("attention.kind"), state.kind, kinds.map((one) => [one, t(`attention.kind.${one}`), `attention.tip.${one}`]), (kind) => store.set({ kind }), "kind"),
      segments(t("attention.level"), state.level, ["token", "word"].map((one) => [one, t(`attention.level.${one}`), `attention.tip.${one}`]), (level) => store.set({ level, zoom: "" }), "level"), stacks(ctx, is),
      stepper(t("attention.layer"), is.layer, [0, is.layers - 1], (layer) => store.set({ layer }), { testid: "attention-layer", tip: "attention.tip.layer" }),
      !rolled && stepper(t("attention.head"), is.head, [-1, is.heads - 1], (head) => store.set({ head }), { testid: "attention-head", tip: "attention.tip.head", shown: is.head < 0 ? t("attention.mean") : String(is.head) }),
      !rolled && h("button", { type: "button", aria: { pressed: String(is.head < 0) }, dataset: { testid: "mean" }, on: { click: () => store.set({ head: -1 }) } }, t("attention.mean")));
  }

  /** The head, and beside it that of the other model; what was proven comes when it comes. */
  async function load() {
    const state = store.get();
    controls(state);
    asking.abort();
    asking = new AbortController();
    const { signal } = asking;
    const end = now ? () => {} : ctx.wait(problem, t("status.loading"));
    grid.setAttribute("aria-busy", "true");
    try {
      const zoom = state.zoom ? state.zoom.split(":").map(Number) : null;
      const [field, beside] = await Promise.all([source.field(state, signal, { zoom }), state.vs ? source.other(state, signal) : null]);
      const drawn = [{ name: state.vs && state.trace.model, ...named(field, state) }];
      if (beside && !beside.absent) {
        const theirs = named(await source.field(state, signal, { zoom, beside }), { ...state, trace: beside.trace });
        const gap = beside.same && less(field, theirs.field);
        drawn.push({ name: state.vs, ...theirs });
        if (gap) drawn.push({ ...drawn[0], name: t("attention.difference"), field: gap, signed: true });
      }
      if (signal.aborted) return;
      put(problem, beside && drawn.length < 3 && h("p", { class: "note", dataset: { testid: "no-difference" } }, t(beside.absent ? "attention.absent" : "attention.apart", { name: state.vs })));
      grid.setAttribute("aria-busy", "false");
      now = drawn[0];
      also = drawn.length > 2 ? { ...drawn[1], beside } : null;
      matrix.draw(drawn, state.kind === "norm");
      follow();
      atlas.draw(state, beside?.absent ? null : beside); // the worker does one thing after the other, and the head comes first
      lift.draw(state);
      await proven(state, seen(state), signal);
    } catch (error) {
      if (!signal.aborted) ctx.fail(problem, error, load);
    } finally { end(); }
  }

  /** A field with what its rows and columns are called. */
  function named(field, state) {
    const is = seen(state);
    const [queries, keys] = field.words?.map((line) => line.map((one) => one[2])) ?? [is.queries, is.keys].map((tokens) => tokens.map((one) => one.text));
    return { field, queries, keys };
  }

  /** What the API proves of this layer, its notes and its strongest pairs, without the numbers, which are here already. */
  async function proven(state, is, signal) {
    await new Promise((done) => setTimeout(done, 120)); // a head that is passed by in a hurry is not asked about
    if (signal.aborted) return;
    const panel = await ctx.traced("attention", { layer: is.layer, head: is.head, side: is.asked, kind: state.kind, level: state.level, parts: "data" }, { signal });
    if (signal.aborted) return;
    const { data } = panel;
    const heading = t(`attention.pairs.${state.kind === "rollout" ? "rollout" : is.head < 0 ? "mean" : "head"}`, { layer: is.layer, head: is.head });
    put(pairs, data.one ? data.names.map((name, n) => listed(`${heading} · ${name}`, n ? data.other : data.one, n ? "pair-other" : "pair", !n || also)) : listed(heading, data, "pair", true));
    put(proof, ctx.panel(panel, ctx, { figures: [] }));
  }

  /** Pairs under a heading; where both read the same tokens, or they are ours, each opens its cell. */
  function listed(heading, { strongest }, testid, opens) {
    const most = Math.max(1, strongest[0]?.weight ?? 1);
    return [h("h3", {}, heading), strongest.length ? h("ol", { class: "pairs" }, strongest.map(({ from, to, weight, pair }, n) => h("li", {}, h("button", {
      type: "button", disabled: !opens, dataset: { testid: `${testid}-${n}`, value: weight, from, to }, on: { click: () => pick(from, to) }, style: { "--share": String(weight / most) },
    }, h("span", {}, word(pair[0]), " ← ", word(pair[1])), h("b", { class: "mono" }, num(weight, 3)))))) : h("p", { class: "quiet" }, t("attention.pairs.none"))];
  }

  /** The selected token: its row in the matrix, its arcs, and a sentence. */
  async function follow() {
    if (!now) return;
    const { field, queries, keys } = now;
    const state = store.get();
    const is = seen(state);
    const i = row();
    matrix.select(i, cell?.[0] === i ? cell[1] : -1);
    try {
      // of a part, or a pooled picture, the row is asked for as it is
      const taken = async (one, beside) => rowOf(one, i) ?? (await source.field(state, asking.signal, { row: i, beside })).values;
      const shares = await taken(field);
      const theirs = also && { name: also.name, row: await taken(also.field, also.beside) };
      if (field !== now.field || i !== row()) return;
      const most = state.kind === "norm" ? shares.reduce((a, b) => Math.max(a, b), 0) || 1 : 1;
      line.draw({ name: now.name, also: theirs, queries, keys, at: i, key, row: shares, column: is.cross && key < 0 ? null : columnOf(field, is.cross ? key : i), cross: is.cross, causal: is.causal, most });
      clearTimeout(speaking);
      speaking = setTimeout(() => speak(is, shares, i), 500);
    } catch (error) {
      if (!asking.signal.aborted) ctx.fail(problem, error, load);
    }
  }

  /** For those who listen: "head 5.1, previous token 0.93; strongest 人 ← 咬 0.71". */
  function speak(is, shares, i) {
    const best = shares.indexOf(shares.reduce((a, b) => Math.max(a, b), 0));
    const known = is.head >= 0 && atlas.of(is.layer, is.head);
    const head = is.head < 0 || store.get().kind === "rollout" ? t("attention.said.mean", { layer: is.layer }) : `${is.layer}.${is.head}${known ? `, ${told(known)}` : ""}`;
    ctx.say(t("attention.said", { head, query: shown(now.queries[i] ?? ""), key: shown(now.keys[best] ?? ""), share: num(shares[best], 2) }));
  }

  function told({ idle, leading, scores }) {
    return `${idle ? `${t("heads.idle")} · ` : ""}${t(`heads.score.${leading.name}`)} ${num(scores[leading.on][leading.name], 2)}`;
  }

  load();
  const off = store.on(["trace", "layer", "head", "kind", "level", "side", "vs", "zoom", "token", "entities"], (state, changed) => {
    if (!state.trace || state.view !== "attention") return;
    if (changed.has("trace") || changed.has("side") || changed.has("level")) { own = key = -1; cell = now = also = null; }
    if (changed.has("trace")) { source.forget(); if (state.zoom) store.set({ zoom: "" }); }
    if ([...changed].some((one) => HEAD.has(one))) load();
    else if (changed.has("entities")) lift.draw(state);
    else follow();
  });
  return { unmount() { off(); asking.abort(); atlas.stop(); lift.stop(); clearTimeout(speaking); } };
}

const HEAD = new Set(["trace", "layer", "head", "kind", "level", "side", "vs", "zoom"]);
