// The tree of a beam search: what went on, what ended, and what was given up.
// data-testid: beam-width, beam-search, beam-tree, beam-said (data-value: number of the node), beam-answer-N
import { chips } from "../../core/chips.js";
import { h, put } from "../../core/h.js";
import { num } from "../../core/numbers.js";
import { shown } from "../../core/shown.js";
import { called } from "../chat/saying.js";

const GIVEN_UP = 3; // of those of a step that are drawn
const KNOBS = { beams: [1, 8, 1], penalty: [0, 2, 0.1], deep: [2, 32, 1] };
export const USUAL = { beams: 4, penalty: 1, deep: 12 };

/** @param {any} ctx */
export function beamView(ctx) {
  const { store, t } = ctx;
  const whose = h("small", { class: "quiet", dataset: { testid: "beam-model" } });
  const room = h("div");
  const told = h("p", { class: "verdict", aria: { live: "polite" }, dataset: { testid: "beam-said" } });
  const value = (key) => store.get()[key] ?? USUAL[key];
  const knobs = Object.entries(KNOBS).map(([key, [min, max, step]]) => {
    const output = h("output", { class: "mono" }, String(value(key)));
    const input = h("input", { type: "range", min, max, step, value: value(key), dataset: { testid: `beam-${key === "beams" ? "width" : key}` }, aria: { label: t(`generation.beam.${key}`) }, on: {
      input: () => { output.textContent = input.value; }, change: () => { store.set({ [key]: Number(input.value) }); if (found) search(); },
    } });
    return h("label", { class: "figure" }, h("span", { tip: `glossary.beam.${key}` }, t(`generation.beam.${key}`)), input, output);
  });
  const el = h("section", { class: "chapter beams" }, h("h2", {}, t("generation.beam"), " ", whose), h("p", { class: "quiet" }, t("generation.beam.about")), h("div", { class: "knobs" }, knobs),
    h("p", { class: "row" }, ctx.button(t("generation.beam.search"), search, { dataset: { testid: "beam-search" } })), room);
  let asking = null;
  let found = null;

  const query = () => ({ "sampling.beams": value("beams"), "sampling.length_penalty": value("penalty"), "sampling.max_new_tokens": value("deep") });

  async function search() {
    asking?.abort();
    asking = new AbortController();
    const { signal } = asking;
    const done = ctx.wait(room, t("generation.beam.searching"), () => { asking.abort(); put(room); });
    try {
      found = await ctx.traced("beam", { ...query(), vs: "" }, { signal });
      if (!signal.aborted) show(found);
    } catch (error) {
      if (!signal.aborted) ctx.fail(room, error, search);
    } finally {
      done();
    }
  }

  function show(record) {
    const { nodes, answers } = record.data;
    const given = {}; // how many of a step that were given up are drawn
    const drawn = nodes.map((node, n) => n).filter((n) => {
      const { state, depth } = nodes[n];
      return state !== "pruned" || (given[depth] = (given[depth] ?? 0) + 1) <= GIVEN_UP;
    });
    const place = new Map(drawn.map((n, i) => [n, i]));
    const path = (n) => (n < 0 ? [] : [...path(nodes[n].parent), n]);

    function tell(n) {
      const node = nodes[n];
      told.dataset.value = String(n);
      put(told, h("span", { class: `badge ${node.state}` }, t(`generation.state.${node.state}`)), " ", h("bdi", { class: "strong", text: shown(path(n).map((one) => nodes[one].piece).join(""), { spaces: false }) }),
        h("span", { class: "mono quiet" }, ` Σ ln p ${num(node.sum)} · ${t("generation.beam.length", { n: node.depth })} · `), h("span", { class: "mono", tip: "glossary.beam.score" }, t("generation.beam.score", { n: num(node.score) })));
      tree.select({ node: place.get(n) });
    }

    const tree = ctx.draw.figure({ kind: "tree", title: t("generation.beam.tree"), nodes: drawn.map((n) => [place.get(nodes[n].parent) ?? -1, nodes[n].piece, nodes[n].score, nodes[n].state]) },
      { ...ctx, pick: ({ node }) => tell(drawn[node]) });
    tree.dataset.testid = "beam-tree";
    const hidden = nodes.length - drawn.length;
    put(room, told, tree, hidden ? h("p", { class: "quiet" }, t("generation.beam.hidden", { n: hidden })) : null,
      h("ol", { class: "answers" }, answers.map((one, n) => h("li", {}, ctx.button(h("bdi", { text: shown(one.text || "∅", { spaces: false }) }), () => tell(one.node), { class: "plain", dataset: { testid: `beam-answer-${n}`, value: one.score } }), h("span", { class: "mono quiet" }, num(one.score))))), chips(record.checks));
    tell(answers[0]?.node ?? 0);
  }

  return {
    el, query,
    fresh(trace) {
      asking?.abort();
      found = null;
      put(room);
      put(whose, called(trace));
    },
    end: () => asking?.abort(),
  };
}
