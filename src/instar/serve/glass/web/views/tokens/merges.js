// How a word came together: its bytes above, each merge a block under what it joined, its tokens at the bottom.
import { h, put } from "../../core/h.js";
import { word as piece } from "../../core/shown.js";
import { id } from "../sides.js";
import { hex, octets, sizeOf } from "./octets.js";

/** @param {any} word of the panel @param {any[]} tokens @param {number} chosen @param {any} ctx */
export function merges(word, tokens, chosen, { t, say }) {
  const bytes = octets(word.bytes);
  const nodes = grown(word, bytes);
  if (!nodes) return h("p", { class: "quiet" }, t("tokens.unknown"));
  const count = word.merges.length;
  const deepest = Math.max(...nodes.map((node) => node.depth));
  const box = (from, to, rows, name, ...inside) => h("div", { class: `merge ${name}`, style: { gridColumn: `${from + 1} / ${to + 1}`, gridRow: rows } }, inside);
  const blocks = nodes.map((node) => box(node.from, node.to, `${node.depth + 1} / ${(node.parent?.depth ?? deepest + 1) + 1}`, node.step < 0 ? "byte mono" : "",
    node.step < 0 ? hex(bytes[node.from]) : piece(node.text)));
  let from = 0;
  const ends = word.places.map((i) => box(from, from += octets(tokens[i].bytes).length, String(deepest + 2), `end${i === chosen ? " chosen" : ""}`, piece(tokens[i].piece), h("small", { class: "mono" }, tokens[i].id)));
  const told = h("p", { class: "quiet" });
  const slider = h("input", { type: "range", min: 0, max: count, value: count, dataset: id("merge-step"), on: { input: () => { show(); say(told.textContent); } } });

  function show() {
    const step = Number(slider.value);
    nodes.forEach((node, n) => { blocks[n].classList.toggle("later", node.step >= step); blocks[n].classList.toggle("now", step > 0 && node.step === step - 1); });
    ends.forEach((el) => el.classList.toggle("later", step < count));
    const merge = word.merges[step - 1];
    put(told, merge ? [piece(merge.left, { class: "strong" }), " + ", piece(merge.right, { class: "strong" }), " · ", h("span", { tip: "tokens.tip.rank", dataset: id("merge-rank", merge.rank) }, t("tokens.rank", { rank: merge.rank }))]
      : t("tokens.merge.none", { n: bytes.length }));
  }
  show();
  return [h("div", { class: "tree-scroll", tabindex: "0", role: "group", aria: { label: t("tokens.merges") } }, h("div", { class: "merge-tree", dataset: id("merges", count), style: { "--bytes": String(bytes.length) } }, blocks, ends)),
    h("div", { class: "row" }, h("label", { class: "check" }, t("tokens.step"), slider), told)];
}

/** Bytes and merges as blocks, each with the one that took it in; null where pieces do not tell their bytes. */
function grown(word, bytes) {
  const nodes = bytes.map((_, i) => ({ from: i, to: i + 1, depth: 0, step: -1, text: "", parent: null }));
  let now = [...nodes];
  for (const [step, { pieces }] of word.merges.entries()) {
    let from = 0;
    const next = [];
    for (const text of pieces) {
      const to = from + sizeOf(text, bytes, from);
      const inside = now.filter((node) => node.from >= from && node.to <= to);
      if (!inside.length) return null;
      if (inside.length > 1) {
        const node = { from, to, depth: Math.max(...inside.map((one) => one.depth)) + 1, step, text, parent: null };
        inside.forEach((one) => { one.parent = node; });
        nodes.push(node);
        next.push(node);
      } else next.push(inside[0]);
      from = to;
    }
    now = next;
  }
  return nodes;
}
