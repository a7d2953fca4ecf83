// The numbers of a head: exact shares in half precision, never a picture of them.
import { trilStart } from "../../core/tensors.js";

const WINDOW = 256; // rows and columns of a part of a long text

/** @typedef {{values: Float32Array, layout: string, rows: number, columns: number, top: number, left: number, pool: number,
 * shape: number[], words: [number, number, string][][] | null}} Field shares row by row, of "tril" on and below the diagonal alone; the cell (r, c) holds the largest of
 * pool x pool shares, the first being (top + r * pool, left + c * pool) of the whole, which is `shape` large; words: of the rows and of the columns
 * [first token, behind the last, label] */

/** The stack, layer and head that are looked at, and their tokens. @param {any} state */
export function seen({ trace, side: said, layer, head }) {
  const two = trace.kind === "encoder-decoder";
  const side = two ? (said === "auto" ? "decoder" : said) : trace.kind;
  const layers = (side === "encoder" && trace.shape.encoder_layers) || trace.shape.layers;
  const own = two && side === "encoder"; // the text that the strip does not hold
  const source = own || side === "cross";
  return {
    two, side, own, cross: side === "cross", asked: two ? side : "", layers, layer: layer < 0 ? layers - 1 : Math.min(layer, layers - 1),
    heads: trace.shape.heads, head: Math.min(head, trace.shape.heads - 1), causal: side === "decoder",
    queries: own ? trace.source : trace.tokens, keys: source ? trace.source : trace.tokens, text: source ? trace.source_text : trace.text,
  };
}

/** @returns {Field} */
function fieldOf({ tensors, glass }) {
  const tensor = Object.values(tensors)[0];
  const shape = String(glass.shape ?? tensor.shape).split(",").map(Number);
  const tril = glass.layout === "tril";
  const [rows, columns] = tril ? shape : tensor.shape;
  return { values: tensor.data, layout: tril ? "tril" : "full", rows, columns, top: Number.parseInt(glass.rows) || 0, left: 0, pool: Number(glass.pool ?? 1), shape, words: glass.words ?? null };
}

/** Some columns. @param {Field} field */
function cut(field, left) {
  const columns = Math.min(WINDOW, field.columns);
  left = Math.max(0, Math.min(left, field.columns - columns));
  const values = new Float32Array(field.rows * columns);
  for (let r = 0; r < field.rows; r++) values.set(field.values.subarray(r * field.columns + left, r * field.columns + left + columns), r * columns);
  return { ...field, values, columns, left };
}

/** one - other, or null where they are not of the same. @param {Field} one @param {Field} other */
export function less(one, other) {
  if (["layout", "rows", "columns", "pool"].some((key) => one[key] !== other[key])) return null;
  return { ...one, values: one.values.map((x, n) => x - other.values[n]) };
}

const valueAt = (field, r, c) => (field.layout === "full" ? field.values[r * field.columns + c] : c > r ? 0 : field.values[trilStart(r) + c]);
const whole = ({ pool, top, left, rows, columns, shape }) => pool === 1 && !top && !left && rows === shape[0] && columns === shape[1];

/** What query i takes from all keys, and what all queries take from key j; null where a part has it not. */
export const rowOf = (field, i) => (whole(field) ? Float32Array.from({ length: field.columns }, (_, c) => valueAt(field, i, c)) : null);
export const columnOf = (field, j) => (whole(field) ? Float32Array.from({ length: field.rows }, (_, r) => valueAt(field, r, j)) : null);

/** Asks for tensors of the trace of the page, or of the other model's. @param {any} ctx @param {any} of what `other` gave, or null */
export const tensorsOf = (ctx, of, signal) => (path, params) => (of ? ctx.api.binary(`trace/${of.trace.trace}/${path}`, params, { signal }) : ctx.traced(path, params, { signal, binary: true }));

/** Fields by what was asked, the few that were used last. @param {any} ctx */
export function createSource(ctx) {
  const kept = new Map();
  let beside = null;

  /** zoom: the cell that a part of a long text lies around; row: that row alone; beside: what `other` gave */
  async function field(state, signal, { zoom = null, row = -1, beside: of = null } = {}) {
    const { layer, head, asked: side } = seen(state);
    const { kind, level } = state;
    const from = zoom ? Math.max(0, Math.min(zoom[0] - WINDOW / 2, seen(state).queries.length - WINDOW)) : row;
    const rows = from < 0 ? "" : `${from}:${from + (zoom ? WINDOW : 1)}`;
    const key = [state.trace.trace, of?.trace.trace, layer, head, kind, level, side, rows, zoom?.[1]].join();
    if (!kept.has(key)) {
      const get = tensorsOf(ctx, of, signal);
      let made = fieldOf(await (kind === "rollout" ? get("rollout", { layer, side, level, rows }) : get(`attention/${layer}/${head}`, { kind, level, side, rows })));
      if (zoom) made = cut(made, zoom[1] - WINDOW / 2);
      kept.set(key, made);
      if (kept.size > 12) kept.delete(kept.keys().next().value);
    }
    return kept.get(key);
  }

  /** The model beside, at the same words. same: it reads the same tokens; absent: it has no such layer or head. */
  async function other(state, signal) {
    const key = [state.trace.trace, state.vs].join();
    if (beside?.key !== key) {
      const { trace } = state;
      const body = { model: state.vs === "base" ? trace.model : state.vs };
      if (state.ids) body.ids = state.ids.split(/[\s,]+/).filter(Boolean).map(Number);
      else body.text = state.text;
      if (state.chat && !state.ids) body.chat = true;
      if (trace.kind === "encoder-decoder" && !state.ids) body.target = trace.text;
      const theirs = await ctx.api.post("trace", body, { signal });
      const ids = (line) => String(line?.map((one) => one.id));
      beside = { key, trace: theirs, same: ids(theirs.tokens) === ids(trace.tokens) && ids(theirs.source) === ids(trace.source) };
    }
    const is = seen(state);
    return { ...beside, absent: is.layer >= seen({ ...state, trace: beside.trace }).layers || is.head >= beside.trace.shape.heads };
  }

  return { field, other, forget: () => { kept.clear(); beside = null; } };
}
