// The textbook's claim on the depth of syntax, logic and intent, held against the probes of this model.
import { h } from "../../core/h.js";
import { num } from "../../core/numbers.js";
import { id } from "../sides.js";

const DEEP = 12; // layers, below which depth tells little (the rule of `instar eval --claims`)
const LEVELS = [["entity", "role"], ["relation"], ["intent"]];
const weak = (task) => Math.max(...task.low) <= task.majority || task.centre.includes(null);

/** By the intervals of the tasks: the order is the textbook's, or surely another, or neither. @param {any[][]} levels
 * @param {number} blocks @returns {"holds" | "fails" | "unclear"} */
export function verdict(levels, blocks) {
  if (blocks < DEEP || levels.flat().some(weak)) return "unclear";
  const pairs = [0, 1].flatMap((n) => levels[n].flatMap((low) => levels[n + 1].map((high) => [low.centre, high.centre])));
  if (pairs.every(([low, high]) => low[2] < high[1])) return "holds";
  return pairs.some(([low, high]) => low[1] > high[2]) ? "fails" : "unclear";
}

/** @param {any} side @param {any} ctx */
export function claim({ name, data }, { t, words }) {
  const blocks = data.rows.length - 1;
  const levels = LEVELS.map((names) => names.map((task) => data.tasks.find((one) => one.name === task)));
  const outcome = verdict(levels, blocks);
  const vague = levels.flat().filter(weak);
  const why = outcome !== "unclear" ? "" : blocks < DEEP ? t("layers.claim.shallow", { n: blocks, deep: DEEP })
    : vague.length ? t("layers.claim.weak", { tasks: vague.map((task) => words(task.title)).join(", ") }) : t("layers.claim.overlap");
  const x = (row) => `${(100 * row) / blocks}%`;
  return h("div", { class: `claim ${outcome}`, dataset: id("claim", outcome) }, h("h3", {}, name && `${name} · `, t("layers.claim")), h("p", { class: "quiet" }, t("layers.claim.about")),
    levels.flatMap((tasks, level) => tasks.map(({ name: task, title, centre: [centre, low, high] }) => h("div", { class: "depth" },
      h("span", {}, h("small", { class: "quiet" }, t(`layers.level.${level}`)), " ", words(title)),
      h("span", { class: "track", tip: "layers.tip.centre" }, centre === null ? null : [h("i", { style: { left: x(low), right: x(blocks - high) } }), h("b", { style: { left: x(centre) } })]),
      h("span", { class: "mono", dataset: id(`centre-${task}`, centre) }, centre === null ? "–" : num(centre - 1, 2).replace("-", "−"))))),
    h("div", { class: "depth quiet small" }, h("span"), h("span", { class: "row ends" }, h("span", {}, t("layers.in")), h("span", { class: "spring" }), blocks - 1)),
    h("p", {}, h("b", {}, t(`layers.verdict.${outcome}`)), " ", why));
}
