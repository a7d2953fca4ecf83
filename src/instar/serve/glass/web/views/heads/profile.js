// What the panel of heads says, as rows that can be sorted and points that can be drawn.
import { seen } from "../attention/source.js";

const SCORES = ["previous", "next", "offset", "positional", "duplicate", "induction", "copying", "rare", "sink", "entropy", "distance", "confidence"];

/** @typedef {{key: string, layer: number, head: number, idle: boolean, labels: any, scores: any, leading: any, evidence: any, offsets: any, lift: number | null}} Row
 * @typedef {{rows: Row[], where: string[], axes: string[]}} Profile where: what was measured on; axes: "score/where", or "lift" */

/** @param {any} panel as the API gives it @param {string} part of a compared one: one or other @returns {Profile} */
export function profileOf(panel, part = panel.data.one ? "one" : "") {
  const { heads } = part ? panel.data[part] : panel.data;
  const lift = panel.arrays[part ? `${part}/lift` : "lift"]?.values;
  const rows = heads.map((row) => ({ ...row, key: `${row.layer}.${row.head}`, lift: lift?.[row.layer][row.head] ?? null }));
  const where = Object.keys(rows[0].scores);
  const axes = where.flatMap((on) => SCORES.map((name) => `${name}/${on}`)).concat("lift").filter((axis) => rows.some((row) => valueOf(row, axis) !== null));
  return { rows, where, axes };
}

/** @param {Row} row @param {string} axis */
export function valueOf(row, axis) {
  if (axis === "lift") return row.lift;
  if (axis === "leading") return row.leading.above - (row.idle ? 9 : 0);
  if (axis === "place") return -row.layer - row.head / 4096;
  const [name, on] = axis.split("/");
  return row.scores[on]?.[name] ?? null;
}

/** Where an axis was measured, as a key of what people call it: `text` is what one chose to measure on, and copying needs
 * no text at all. @param {string} axis @param {string} set */
export function placeOf(axis, set) {
  const [name, on = "text"] = axis.split("/");
  return `heads.on.${name === "copying" ? "weights" : on === "text" ? set : on}`;
}

/** Two scores that tell heads apart: of decoders the two that make induction, of encoders both directions. @param {Profile} profile */
export function usualAxes({ axes, where }) {
  const pairs = [["previous", "induction"], ["previous", "next"], ["entropy", "sink"]].map((pair) => pair.map((name) => `${name}/${where[0]}`));
  return pairs.find((pair) => pair.every((one) => axes.includes(one))) ?? [axes[0], axes[1]];
}

/** @param {Row[]} rows @param {string} by an axis from the highest, with - before it from the lowest; unknown ones last */
export function sorted(rows, by) {
  const up = by.startsWith("-");
  const worth = (row) => valueOf(row, by.slice(up ? 1 : 0)) ?? (up ? Infinity : -Infinity);
  return [...rows].sort((a, b) => (up ? worth(a) - worth(b) : worth(b) - worth(a)) || 0);
}

let last = { key: "", panel: null };

/** The panel of heads on the text, asked once for all who want it. @param {any} ctx @param {any} state */
export async function onText(ctx, state, signal, vs = "") {
  const side = seen(state).asked;
  const key = [state.trace.trace, side, state.entities, vs].join("\n");
  if (last.key !== key) last = { key, panel: await ctx.traced("heads", { side, entities: state.entities, vs, parts: "data,arrays" }, { signal }) };
  return last.panel;
}
