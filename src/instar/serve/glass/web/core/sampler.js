// From logits to the next token by the engine's own rules (instar/infer/sampling.py), over the whole vocabulary:
// penalties, temperature, top-k, top-p, min-p, draw. Pure functions; logits and weights are fp32 as the engine's are,
// sums fp64. Every rule of drawing keeps all that is at least as likely as the least likely token that it keeps, so what
// is kept is always the beginning of the order, whole ties at a time: one sort serves all sliders.

const fround = Math.fround;
const RUN = 1 << 15; // ids that one task sorts

/** As they stand the values change nothing: the model's own distribution. */
export const NEUTRAL = {
  temperature: 1, top_k: 0, top_p: 1, min_p: 0, repetition_penalty: 1, presence_penalty: 0, frequency_penalty: 0,
  logit_bias: [],
};

/** A logit and its id as one double that sorts likeliest first, equals by id: 32 bits of order above 21 of the id. */
function keysOf(logits, from, to) {
  const bits = new Uint32Array(Float32Array.from(logits.subarray(from, to), (x) => x + 0).buffer); // + 0: -0 is 0
  const keys = new Float64Array(to - from);
  for (let i = 0; i < keys.length; i++) {
    const b = bits[i];
    keys[i] = (b & 0x80000000 ? b : 0x7fffffff - b) * 2097152 + from + i;
  }
  return keys.sort();
}

const idsOf = (keys) => Uint32Array.from(keys, (key) => key % 2097152);

/** Ids in the order of their logits, the likeliest first, equals by id. @param {Float32Array} logits (V,)
 * @returns {Uint32Array} */
export function rank(logits) {
  return idsOf(keysOf(logits, 0, logits.length));
}

function merge(a, b) {
  const both = new Float64Array(a.length + b.length);
  for (let i = 0, j = 0, n = 0; n < both.length; n++) {
    both[n] = j >= b.length || (i < a.length && a[i] <= b[j]) ? a[i++] : b[j++];
  }
  return both;
}

/** The same in tasks of at most 32,768 ids to sort, so that no vocabulary holds up the page. @param {Float32Array} logits
 * @param {() => Promise<any>} pause @returns {Promise<Uint32Array>} */
export async function rankGently(logits, pause) {
  let runs = [];
  for (let from = 0; from < logits.length; from += RUN) {
    runs.push(keysOf(logits, from, Math.min(logits.length, from + RUN)));
    await pause();
  }
  while (runs.length > 1) {
    const next = [];
    for (let i = 0; i < runs.length; i += 2) {
      next.push(i + 1 < runs.length ? merge(runs[i], runs[i + 1]) : runs[i]);
      await pause();
    }
    runs = next;
  }
  return idsOf(runs[0] ?? new Float64Array());
}

/** Logits after bias and penalties -> {logits, changed}: a copy, and the ids that it changed; the same where none is.
 * prompt, said: ids that stand in the prompt and in the answer; presence and frequency count the answer alone.
 * @param {Float32Array} logits @param {object} options as NEUTRAL @param {number[]} prompt @param {number[]} said */
export function penalise(logits, options, prompt = [], said = []) {
  const { repetition_penalty: repetition, presence_penalty: presence, frequency_penalty: frequency, logit_bias: bias } =
    { ...NEUTRAL, ...options };
  const changed = new Set(bias.map(([id]) => id));
  const looksBack = repetition !== 1 || presence !== 0 || frequency !== 0;
  const seen = new Set(looksBack ? [...prompt, ...said] : []);
  if (!changed.size && !seen.size) return { logits, changed: [] };
  const shaped = logits.slice();
  for (const [id, by] of bias) shaped[id] = fround(shaped[id] + fround(by));
  const counts = new Map();
  for (const id of said) counts.set(id, (counts.get(id) ?? 0) + 1);
  const [r, p, f] = [repetition, presence, frequency].map(fround);
  for (const id of seen) {
    if (id >= shaped.length) continue;
    let x = shaped[id];
    if (repetition !== 1) x = x > 0 ? fround(x / r) : fround(x * r);
    const n = counts.get(id) ?? 0;
    if (n) x = fround(fround(x - p) - fround(f * n));
    shaped[id] = x;
    changed.add(id);
  }
  return { logits: shaped, changed: [...changed].filter((id) => id < shaped.length) };
}

/** An order after a few logits changed: those are taken out and put back in their places, with no sort of the rest.
 * @param {Uint32Array} order of the logits before @param {Float32Array} logits after @param {number[]} changed */
export function reorder(order, logits, changed) {
  if (!changed.length) return order;
  const moved = new Uint8Array(logits.length);
  for (const id of changed) moved[id] = 1;
  const few = Uint32Array.from(new Set(changed)).sort((a, b) => logits[b] - logits[a] || a - b);
  const fresh = new Uint32Array(order.length);
  let at = 0;
  let n = 0;
  for (const id of order) {
    if (moved[id]) continue;
    while (at < few.length && (logits[few[at]] > logits[id] || (logits[few[at]] === logits[id] && few[at] < id))) {
      fresh[n++] = few[at++];
    }
    fresh[n++] = id;
  }
  while (at < few.length) fresh[n++] = few[at++];
  return fresh;
}

/** Weights in that order at a temperature, the likeliest token's being 1, with their sums: the one pass over the
 * vocabulary that a change of temperature costs. mass[n], surprise[n]: Σw and Σw·z of the n likeliest; alive: how many
 * have a weight at all.
 * @param {Float32Array} logits @param {Uint32Array} order @param {number} [heat] */
export function weigh(logits, order, heat = 1) {
  const size = order.length;
  const best = size ? logits[order[0]] : 0;
  const hot = fround(heat);
  const weights = new Float32Array(size);
  const mass = new Float64Array(size + 1);
  const surprise = new Float64Array(size + 1);
  let alive = 0;
  for (let n = 0; n < size; n++) {
    const z = fround(fround(logits[order[n]] - best) / hot);
    weights[n] = Math.exp(z);
    const w = weights[n];
    if (w > 0) alive = n + 1;
    mass[n + 1] = mass[n] + w;
    surprise[n + 1] = surprise[n] + (w > 0 ? w * z : 0);
  }
  return { logits, order, weights, mass, surprise, alive };
}

/** The end of the ties that stand at place n - 1: none is kept without its equals. */
function whole(line, n) {
  const { logits, order } = line;
  while (n > 0 && n < order.length && logits[order[n]] === logits[order[n - 1]]) n++;
  return n;
}

/** How many tokens top-k leaves of the first n. @param {object} line of `weigh` @param {number} k 0 keeps all */
const topK = (line, n, k) => (k ? Math.min(n, whole(line, Math.min(k, line.order.length))) : n);

/** The first of 0 to end of which this holds, as of all behind it; end where it holds of none. */
function first(end, holds) {
  let low = 0;
  while (low < end) {
    const mid = (low + end) >> 1;
    if (holds(mid)) end = mid;
    else low = mid + 1;
  }
  return low;
}

/** How many of the first n are the smallest set whose probability reaches p (Holtzman et al. 2020); 1 keeps all. */
function topP(line, n, p) {
  if (p >= 1) return n;
  const goal = p * line.mass[n]; // tokens that begin below it are kept
  return Math.min(n, whole(line, Math.max(1, first(n, (at) => line.mass[at + 1] - line.weights[at] >= goal))));
}

/** How many of the first n are at least this share as likely as the likeliest (Nguyen et al. 2024). */
function minP(line, n, share) {
  const least = fround(share);
  return first(n, (at) => !(line.weights[at] >= least));
}

/** A stage: of `line` the first `kept` tokens; mass: how much of the probability before it stands on them. */
function stage(name, setting, line, kept, mass = 1) {
  const sum = line.mass[kept];
  return { name, setting: String(setting), line, kept, mass, entropy: kept > 1 ? Math.log(sum) - line.surprise[kept] / sum : 0 };
}

/** The model's distribution and what each rule leaves of it, in the engine's order. A rule without a setting changes
 * nothing.
 * @param {Float32Array} logits (V,) @param {object} options as NEUTRAL, and strategy
 * @param {{order?: Uint32Array, prompt?: number[], said?: number[], memo?: object}} [how] order: `rank(logits)`; memo:
 * keeps, from one call to the next over the same logits and ids, what a slider did not touch
 * @returns {{name: string, setting: string, line: object, kept: number, mass: number, entropy: number}[]} */
export function pipeline(logits, options, { order, prompt = [], said = [], memo = {} } = {}) {
  const o = { ...NEUTRAL, ...options };
  if (memo.logits !== logits) Object.assign(memo, { logits, own: weigh(logits, order ?? rank(logits)), asked: "", heat: 1 });
  const { own } = memo;
  const put = (shaped) => (shaped.logits === logits ? own : weigh(shaped.logits, reorder(own.order, shaped.logits, shaped.changed)));
  const asked = JSON.stringify([o.logit_bias, o.repetition_penalty, o.presence_penalty, o.frequency_penalty]);
  if (memo.asked !== asked) Object.assign(memo, { asked, after: put(penalise(logits, o, prompt, said)), heat: NaN });
  const { after } = memo;
  const stages = [stage("model", "", own, own.alive)];
  const bias = o.logit_bias;
  if (bias.length) {
    const biased = put(penalise(logits, { logit_bias: bias }));
    stages.push(stage("logit_bias", bias.length, biased, biased.alive));
  }
  const penalties = [o.repetition_penalty, o.presence_penalty || 1, o.frequency_penalty || 1].filter((x) => x !== 1);
  stages.push(stage("penalties", penalties.join(" "), after, after.alive));
  if (o.strategy === "greedy" || o.temperature === 0) {
    return [...stages, stage("greedy", "argmax", after, 1, after.weights[0] / after.mass[after.alive])];
  }
  const heat = o.temperature;
  if (memo.heat !== heat) Object.assign(memo, { heat, hot: heat === 1 ? after : weigh(after.logits, after.order, heat) });
  const line = memo.hot;
  let n = line.alive;
  stages.push(stage("temperature", heat === 1 ? "" : heat, line, n));
  for (const [name, rule] of [["top_k", topK], ["top_p", topP], ["min_p", minP]]) {
    const off = o[name] === NEUTRAL[name];
    const left = off ? n : rule(line, n, o[name]);
    stages.push(stage(name, off ? "" : o[name], line, left, line.mass[left] / line.mass[n]));
    n = left;
  }
  return stages;
}

const standing = new WeakMap(); // where each id stands in an order; a change of temperature keeps the order

/** @param {object} line @returns {Uint32Array} the place of each id in its order */
function places({ order }) {
  let found = standing.get(order);
  if (!found) {
    standing.set(order, (found = new Uint32Array(order.length)));
    for (let n = 0; n < order.length; n++) found[order[n]] = n;
  }
  return found;
}

/** The probability of a token after a stage; 0 where it was struck out. @param {object} one a stage */
export function chance(one, id) {
  const n = places(one.line)[id];
  return n < one.kept ? one.line.weights[n] / one.line.mass[one.kept] : 0;
}

/** The line that a draw falls on: tokens that are left, in the order of their ids, and where each one ends.
 * @param {object} one the last stage @returns {{ids: Uint32Array, ends: Float64Array}} */
export function ruler(one) {
  const { kept, line: { order, weights } } = one;
  let ids;
  const found = places(one.line);
  if (kept * 8 < order.length) ids = order.slice(0, kept).sort();
  else { // to look at each id takes less than to sort most of them
    ids = new Uint32Array(kept);
    for (let id = 0, n = 0; n < kept; id++) if (found[id] < kept) ids[n++] = id;
  }
  const ends = new Float64Array(kept);
  let sum = 0;
  for (let n = 0; n < kept; n++) ends[n] = sum += weights[found[ids[n]]];
  for (let n = 0; n < kept; n++) ends[n] /= sum;
  return { ids, ends };
}

/** Where an id that is left stands on the line. @param {{ids: any}} line @param {number} id */
export const placeOn = ({ ids }, id) => first(ids.length - 1, (n) => ids[n] >= id);

/** The token in whose share u, uniform in [0, 1), falls -> {id, low, high}. @param {{ids: any, ends: any}} line
 * @param {number} u */
export function pick({ ids, ends }, u) {
  const n = first(ids.length - 1, (at) => ends[at] > u);
  return { id: ids[n], low: n ? ends[n - 1] : 0, high: ends[n] };
}
