// The sampler as a pipeline: what each rule leaves of the distribution over the whole vocabulary, and the draw.
// data-testid: stage-NAME (data-value: tokens kept), stage-NAME-mass, stage-NAME-entropy, p-NAME-ID (data-value: p, data-q: p of
// the second model), u, draw, draw-many, drawn (data-value: id), drawn-low, drawn-high, seen-ID (data-value: share of many
// draws), pipeline-chips, beside, beside-ID (data-value: p of the second model), beside-kl
import { chips } from "../../core/chips.js";
import { h, put } from "../../core/h.js";
import { count, num, percent } from "../../core/numbers.js";
import { chance, NEUTRAL, pick, pipeline, placeOn, ruler } from "../../core/sampler.js";
import { word } from "../../core/shown.js";
import { called } from "../chat/saying.js";
import { query, RULES, sampling, seed, slider } from "../chat/settings.js";

const STAGES = ["model", "penalties", "temperature", "top_k", "top_p", "min_p"];
const LISTED = 10;
const SEGMENTS = 28;
const DRAWS = 1000;

/** Σ p ln (p / q) of two stages, in nats. */
function divergence(one, other) {
  let sum = 0;
  for (const id of one.line.order) {
    const p = chance(one, id);
    if (p) sum += p * Math.log(p / chance(other, id));
  }
  return Math.max(0, sum); // no rounding below 0
}

/** @param {any} ctx */
export function pipelineView(ctx) {
  const { store, t, button } = ctx;
  const about = h("p", { class: "quiet" });
  const columns = h("div", { class: "columns" });
  const aside = h("div", { class: "aside", dataset: { testid: "beside" } });
  const line = h("div", { class: "ruler", role: "img" });
  const own = (value) => { moved = true; drop(value); };
  const u = h("input", { type: "range", min: 0, max: 0.9999, step: 0.0001, value: 0.5, class: "u", dataset: { testid: "u" }, aria: { label: t("generation.u") }, on: { input: () => own(Number(u.value)) } });
  const result = h("p", { class: "result", aria: { live: "polite" } });
  const many = h("div", { class: "many" });
  const proof = h("div", { dataset: { testid: "pipeline-chips" } });
  const el = h("section", { class: "chapter pipeline", dataset: { testid: "panel-pipeline" } }, h("h2", {}, t("generation.pipeline")), about, columns, aside,
    h("h3", { tip: "glossary.draw" }, t("generation.draw")), line, u, h("div", { class: "row" },
      button(t("generation.draw.one"), () => own(Math.random()), { class: "primary", dataset: { testid: "draw" } }),
      button(t("generation.draw.many", { n: count(DRAWS) }), often, { dataset: { testid: "draw-many" } }), result), many, proof);

  let now = null; // {model, adapter, logits, order, place, memo, listed, prompt}
  let other = null; // the same of a second model, and same: it reads the same tokens; or why it says nothing
  let stages = [];
  let whole = null; // the line that a draw falls on
  let luck = 0.5;
  let moved = false; // u is the reader's own, no more the engine's
  let frame = 0;
  let timer = 0;
  let asking = null;
  const named = {}; // pieces by their ids, of each model
  const cells = STAGES.map(cell);
  const columned = () => put(columns, cells.map((one) => one.el));
  columned();

  function cell(name) {
    const key = RULES[name];
    const knob = key && slider(store, key);
    const facts = h("dl", { class: "tallies" });
    const rows = h("ol");
    return { name, knob, facts, rows, bars: new Map(), el: h("section", { class: "stage", dataset: { testid: `stage-${name}` }, aria: { label: t(`generation.stage.${name}`) } },
      h("h3", { tip: `glossary.stage.${name}` }, t(`generation.stage.${name}`)), h("div", { class: "knob" }, knob?.el ?? h("span", { class: "quiet" }, t("generation.stage.given"))), facts, rows) };
  }

  const pieces = (side) => (named[called(side)] ??= new Map());
  const piece = (id, side = now) => pieces(side).get(id) ?? `#${id}`;

  /** Names of tokens, asked for once; ids stand for those that do not come. @param {number[]} ids */
  async function name(ids, then, side = now) {
    const known = pieces(side);
    const fresh = ids.filter((id) => !known.has(id));
    if (!fresh.length) return;
    try {
      const found = await ctx.api.get(`vocabulary/${side.model}`, { ids: fresh.join(","), adapter: side.adapter });
      for (const id of fresh) known.set(id, found.pieces.find((one) => one.id === id)?.piece ?? `#${id}`);
    } catch {
      return;
    }
    if (side === now || side === other) then();
  }

  const sideOf = (found) => ({ ...found, memo: {}, listed: [...found.order.slice(0, LISTED)] });

  function load(found, trace) {
    const { tokens, model, adapter } = trace;
    now = { ...sideOf(found), model, adapter, prompt: tokens.slice(0, found.at + 1).map((token) => token.id) };
    put(about, t("generation.pipeline.about", { n: count(now.logits.length) }), " ", word(tokens[found.at].text, { class: "strong" }));
    moved = false;
    put(many);
    if (!columns.querySelector(".stage")) columned(); // an error stood there
    lay();
    name(now.listed, lay);
  }

  function lay() {
    for (const one of cells) {
      one.bars.clear();
      put(one.rows, now.listed.map((id) => {
        const p = h("span", { class: "mono" });
        const row = h("li", { dataset: { testid: `p-${one.name}-${id}` } }, word(piece(id), { class: "lex" }), p);
        one.bars.set(id, { row, p });
        return row;
      }));
    }
    draw();
  }

  /** What a second model says at the same place: logits as of `load`, or why there are none; null takes it away. */
  function beside(found) {
    other = found?.logits ? sideOf(found) : found;
    if (now) draw();
    lean();
    if (other?.logits) name(other.listed, lean, other);
  }

  const shares = () => Boolean(other?.same && other.logits.length === now?.logits.length);

  /** The second model's likeliest tokens, each beside what the first gives it. */
  function lean() {
    if (!other || !now) return put(aside);
    const title = h("h3", {}, t("generation.beside", { model: other.name }));
    if (!other.logits) return put(aside, title, h("p", { class: "quiet" }, other.why));
    const both = shares();
    const [mine, its] = [now, other].map((side) => pipeline(side.logits, NEUTRAL, { order: side.order })[0]);
    const most = Math.max(...[mine, its].map((one) => chance(one, one.line.order[0])));
    const kl = both && divergence(mine, its);
    put(aside, title, h("p", { class: "quiet" }, t(both ? "generation.beside.about" : "generation.beside.apart", { one: called(now), other: other.name })),
      both && h("p", { class: "mono quiet" }, h("span", { tip: "glossary.kl_models", dataset: { testid: "beside-kl", value: kl } }, `KL ${num(kl)} nat`), " · ",
        h("span", { tip: "glossary.entropy" }, `H ${num(mine.entropy, 2)} | ${num(its.entropy, 2)} nat`)),
      h("ol", {}, other.listed.map((id) => {
        const [p, q] = [both ? chance(mine, id) : 0, chance(its, id)];
        return h("li", { dataset: { testid: `beside-${id}`, value: q } }, word(piece(id, other), { class: "lex" }),
          h("span", { class: "twice", aria: { hidden: "true" }, style: { "--p": String(p / most), "--after": String(q / most) } }),
          h("span", { class: "mono" }, both ? `${percent(p)} | ${percent(q)}` : percent(q)));
      })));
    return undefined;
  }

  /** Once a frame, however often a slider says something. */
  function soon() {
    frame ||= requestAnimationFrame(() => { frame = 0; draw(); });
  }

  function draw() {
    if (!now) return;
    const state = store.get();
    const run = (side) => pipeline(side.logits, sampling(state), { order: side.order, prompt: now.prompt, memo: side.memo });
    stages = run(now);
    const second = shares() ? run(other) : null;
    const greedy = stages.at(-1).name === "greedy";
    const of = (all, name) => (greedy && STAGES.indexOf(name) > 1 ? all.at(-1) : all.find((one) => one.name === name));
    const most = Math.max(...STAGES.flatMap((name) => [stages, second ?? []].map((all) => of(all, name)).filter(Boolean).map((one) => chance(one, one.line.order[0]))));
    for (const one of cells) {
      const stage = of(stages, one.name);
      const its = second && of(second, one.name);
      one.knob?.draw(state);
      one.el.dataset.value = String(stage.kept);
      one.el.classList.toggle("idle", one.name !== "model" && (!stage.setting || (greedy && STAGES.indexOf(one.name) > 2)));
      put(one.facts, fact(one.name, "kept", stage.kept, count(stage.kept)), fact(one.name, "mass", stage.mass, percent(stage.mass)), fact(one.name, "entropy", stage.entropy, num(stage.entropy, 2)));
      for (const [id, { row, p }] of one.bars) {
        const share = chance(stage, id);
        const q = its ? chance(its, id) : 0;
        row.style.setProperty("--p", String(share / most));
        row.style.setProperty("--q", String(q / most));
        Object.assign(row.dataset, { value: share, q: its ? q : "" });
        row.classList.toggle("out", share === 0);
        p.textContent = share ? percent(share) : "×";
      }
    }
    whole = ruler(stages.at(-1));
    segments();
    drop(luck, false);
    clearTimeout(timer);
    timer = setTimeout(prove, 350);
  }

  const fact = (stage, name, value, text) => h("div", {}, h("dt", { tip: `glossary.${name === "mass" ? "mass_kept" : name}` }, t(`generation.fact.${name}`)),
    h("dd", { class: "mono", dataset: { testid: `stage-${stage}-${name}`, value } }, text));

  /** The unit line, tokens in the order of their ids; those too thin to be seen are one. */
  function segments() {
    const last = stages.at(-1);
    const { ids, ends } = whole;
    const seen = [...last.line.order.slice(0, Math.min(SEGMENTS, last.kept))].map((id) => placeOn(whole, id)).sort((x, y) => x - y);
    const parts = [];
    let end = 0;
    for (const n of seen) {
      const start = n ? ends[n - 1] : 0;
      if (ends[n] - start < 0.004) continue;
      if (start - end > 1e-9) parts.push({ id: -1, wide: start - end });
      parts.push({ id: ids[n], wide: ends[n] - start });
      end = ends[n];
    }
    if (1 - end > 1e-9) parts.push({ id: -1, wide: 1 - end });
    line.setAttribute("aria-label", t("generation.ruler", { n: ids.length }));
    put(line, parts.map(({ id, wide }) => h("span", { class: id < 0 ? "rest" : "", style: { flexGrow: String(wide) }, dataset: { id } }, id >= 0 && wide > 0.03 ? word(piece(id)) : null)), h("i", { class: "needle" }));
    name(parts.map((one) => one.id).filter((id) => id >= 0), () => !frame && segments());
    needle();
  }

  function needle() {
    line.querySelector(".needle").style.left = `${100 * luck}%`;
  }

  /** Let a number fall onto the line. @param {number} value */
  function drop(value, tell = true) {
    luck = value;
    u.value = String(value);
    if (!whole) return;
    const { id, low, high } = pick(whole, value);
    needle();
    const said = () => put(result, h("span", { class: "mono", tip: "glossary.u" }, `u = ${value.toFixed(4)}`), " ∈ [",
      h("span", { class: "mono", dataset: { testid: "drawn-low", value: low } }, low.toFixed(4)), ", ", h("span", { class: "mono", dataset: { testid: "drawn-high", value: high } }, high.toFixed(4)), ") → ",
      h("strong", { class: "lex", dataset: { testid: "drawn", value: id } }, word(piece(id))));
    said();
    line.querySelectorAll(".hit").forEach((one) => one.classList.remove("hit"));
    line.querySelector(`[data-id="${id}"]`)?.classList.add("hit");
    name([id], () => pick(whole, luck).id === id && said());
    if (tell) ctx.say(`u = ${value.toFixed(4)}: ${piece(id)}`);
  }

  /** How often each token comes in many draws, beside its probability. */
  function often() {
    if (!whole) return;
    const found = new Map();
    for (let n = 0; n < DRAWS; n++) {
      const { id } = pick(whole, Math.random());
      found.set(id, (found.get(id) ?? 0) + 1);
    }
    const last = stages.at(-1);
    const rows = now.listed.map((id) => ({ id, share: (found.get(id) ?? 0) / DRAWS, p: chance(last, id) })).filter(({ share, p }) => share || p);
    const most = Math.max(...rows.flatMap(({ share, p }) => [share, p]));
    const rest = DRAWS - Math.round(DRAWS * rows.reduce((sum, { share }) => sum + share, 0));
    put(many, h("h3", { tip: "glossary.many" }, t("generation.many", { n: count(DRAWS) })), h("ol", {}, rows.map(({ id, share, p }) =>
      h("li", { dataset: { testid: `seen-${id}`, value: share } }, word(piece(id), { class: "lex" }),
        h("span", { class: "freq", aria: { hidden: "true" }, style: { "--p": String(share / most), "--tick": String(p / most) } }),
        h("span", { class: "mono" }, `${percent(share)} · p ${percent(p)}`)))), rest ? h("p", { class: "quiet" }, t("generation.many.rest", { n: count(rest) })) : null);
  }

  /** What this page computed, against the engine itself; of both models where there are two. */
  async function prove() {
    asking?.abort();
    asking = new AbortController();
    const { signal } = asking;
    const state = store.get();
    const mine = stages;
    const { at } = now;
    const vs = shares() ? state.vs : "";
    const its = vs && pipeline(other.logits, sampling(state), { order: other.order, prompt: now.prompt, memo: other.memo });
    try {
      const record = await ctx.traced("next", { at, top: LISTED, vs, seed: seed(state), ...query(state, { max_new_tokens: 1 }) }, { signal });
      if (signal.aborted || !now || now.at !== at) return;
      const { data } = record;
      const told = vs ? data.one : data;
      let gap = 0;
      for (const [top, all] of [[told.top, mine], ...(vs ? [[data.other.top, its]] : [])]) {
        for (const one of top) for (const stage of all) if (stage.name in one) gap = Math.max(gap, Math.abs(one[stage.name] - chance(stage, one.id)));
      }
      const { u: engines, id } = told.chosen;
      if (engines !== null && !moved) drop(engines, false);
      const same = engines === null ? mine.at(-1).line.order[0] === id : pick(whole, engines).id === id;
      const check = (name, found, limit) => ({ name, gap: found, limit, green: found <= limit, about: t(`generation.proof.${name}`) });
      put(proof, chips([check("page", gap, 1e-5), check("page_draw", same ? 0 : 1, 0), ...record.checks]));
    } catch (error) {
      if (!signal.aborted) put(proof, h("p", { class: "quiet" }, error.detail || t("error.offline")));
    }
  }

  const off = store.on([...Object.values(RULES), "seed"], soon);
  return {
    el, load, beside,
    fail(error, retry) { now = null; ctx.fail(columns, error, retry); },
    end() { off(); asking?.abort(); clearTimeout(timer); cancelAnimationFrame(frame); },
  };
}
