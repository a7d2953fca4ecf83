// A run while it trains, and after: curves over one axis, what it said, the birth of its heads, what was decided.
// Test ids: run, beside, state (value = live|finished|stopped), progress (value = share), left, chart-ID,
// value-CHART-COLUMN (value), unborn, smoothing, log, samples, sample-N (value = its step), decisions, open-model, chips.
import { chips } from "../core/chips.js";
import { look } from "../core/colour.js";
import { table } from "../core/draw/texts.js";
import { h, put } from "../core/h.js";
import { count, num, percent } from "../core/numbers.js";
import { word } from "../core/shown.js";
import { declare } from "../core/url.js";
import { check } from "./sides.js";
import { createChart, valueAt } from "./training/chart.js";
import { curvesOf, IDS } from "./training/curves.js";
import { follow, placeOf } from "./training/run.js";

declare({ run: "", beside: "", step: -1, smooth: 2, logy: 0 });

export const view = { id: "training", key: "8", icon: "∕", needs: [] };
const PROMPTS = 4;

/** @param {Element} root @param {any} ctx */
export function mount(root, ctx) {
  const { store, t } = ctx;
  look();
  /** @type {any} */
  const data = { run: null, beside: null };
  const leave = { run: () => {}, beside: () => {} };
  const open = { run: "", beside: "" };
  let [runs, shown, peek, waits, gone] = [/** @type {any[]} */ ([]), /** @type {any[]} */ ([]), -1, 0, false];

  const charts = Object.fromEntries(IDS.map((id) => [id, createChart({ id, title: t(`training.chart.${id}`), tip: `training.tip.${id}` }, point)]));
  const [top, bar, grid] = ["run-top", "toolbar", "run-charts"].map((name) => h("div", { class: name }));
  const said = h("section", { class: "run-said", hidden: true, dataset: { testid: "samples" } });
  const decided = h("details", { hidden: true, dataset: { testid: "decisions" } });
  const proof = h("div");
  const [lists, facts] = [h("div", { class: "row" }), h("div", { class: "run-top" })];
  top.append(lists, facts);
  const whole = () => put(root, top, bar, grid, said, decided, proof);
  whole();

  const chosen = () => store.get().run || runs[0]?.id || "";
  // what the whole page is compared with, where it is a run, and else one that was chosen here
  const second = () => {
    const { beside, vs } = store.get();
    const id = beside || (runs.some((one) => one.id === vs) ? vs : "");
    return id === chosen() ? "" : id;
  };
  const compare = (id) => {
    const { models, model } = store.get();
    const known = !id || models?.models.some((one) => one.id === id && id !== (model || models.served) && !one.why);
    return known ? { beside: "", vs: id } : { beside: id };
  };
  const step = () => (peek >= 0 ? peek : store.get().step);

  async function list() {
    try {
      ({ runs } = await ctx.api.get("runs"));
    } catch (error) {
      if (!runs.length && !gone) ctx.fail(root, error, list);
      return;
    }
    if (gone) return;
    if (!runs.length) return void put(root, ctx.card({ icon: "∕", title: t("training.none"), text: t("training.none.do"), id: "no-runs" }));
    if (!top.isConnected) whole();
    if (data.run?.state === "stopped" && runs.find((one) => one.id === open.run)?.live) open.run = ""; // it goes on
    choose();
  }

  function choose() {
    for (const [name, id] of [["run", chosen()], ["beside", second()]]) {
      if (open[name] === id) continue;
      leave[name]();
      [open[name], data[name]] = [id, null];
      leave[name] = id ? follow(ctx, id, (run) => { data[name] = run; later(); }, (error) => {
        if (name === "run") ctx.fail(grid, error, () => { open.run = ""; choose(); });
      }) : () => {};
      later();
    }
    head();
    tools();
  }

  // a run that trains fast tells more often than anybody can see
  function later() {
    waits ||= requestAnimationFrame(() => { waits = 0; if (!gone && data.run?.steps) draw(); });
  }

  function picker(name, options, value, patch) {
    return h("label", { class: "choice" }, h("span", { tip: `training.tip.${name}` }, t(`training.${name}`)),
      h("select", { dataset: { testid: name }, aria: { label: t(`training.${name}`) }, on: { change: (event) => store.set({ ...patch(event.target.value), step: -1 }) } },
        options.map(([id, text]) => h("option", { value: id, selected: id === value }, text))));
  }

  function head() {
    const { run } = data;
    const all = runs.map((one) => [one.id, `${one.id}${one.live ? " ●" : ""}`]);
    const told = run?.steps && [
      h("span", { class: `state ${run.state}`, dataset: { testid: "state", value: run.state } }, t(`training.state.${run.state}`)),
      h("span", { tip: "training.tip.step" }, t("training.step", { step: count(run.last), of: run.of ? count(run.of) : "?" })),
      run.state === "live" && run.left_s !== null && h("span", { tip: "training.tip.left", dataset: { testid: "left", value: run.left_s } }, t("training.left", { time: time(run.left_s) })),
      run.decisions.parameters && h("span", {}, t("training.weights", { n: count(run.decisions.parameters) })),
      run.decisions.parent && h("span", {}, t("training.parent"), " ", runs.some((one) => one.id === run.decisions.parent)
        ? ctx.button(run.decisions.parent, () => store.set({ run: run.decisions.parent, step: -1 }), { class: "plain" }) : run.decisions.parent)];
    const share = run?.of ? Math.min(1, run.last / run.of) : Number(run?.state === "finished");
    if (!lists.contains(document.activeElement)) { // nobody's list is closed
      put(lists, picker("run", all, chosen(), (id) => ({ run: id })), all.length > 1 && picker("beside", [["", "–"], ...all.filter(([id]) => id !== chosen())], second(), compare));
    }
    put(facts, told && h("p", { class: "run-facts" }, told),
      told && h("div", { class: "run-bar", role: "progressbar", aria: { valuenow: Math.round(100 * share), label: t("training.progress") }, dataset: { testid: "progress", value: share.toFixed(4) }, style: { "--share": String(share) } }));
  }

  const time = (s) => (s < 90 ? `${Math.round(s)} s` : s < 5400 ? `${Math.round(s / 60)} min` : `${(s / 3600).toFixed(1)} h`);

  function tools() {
    const { smooth, logy, models } = store.get();
    if (bar.contains(document.activeElement) && document.activeElement?.matches("input")) return void (bar.querySelector("output").textContent = percent(smooth / 100));
    const mine = models?.models.find((one) => one.id === chosen() && !one.why);
    put(bar,
      h("label", { class: "row" }, h("span", { tip: "training.tip.smoothing" }, t("training.smoothing")),
        h("input", { type: "range", min: 0, max: 20, value: smooth, dataset: { testid: "smoothing" }, on: { input: (event) => store.set({ smooth: Number(event.target.value) }) } }), h("output", { class: "mono" }, percent(smooth / 100))),
      h("button", { type: "button", tip: "training.tip.log", aria: { pressed: String(Boolean(logy)) }, dataset: { testid: "log" }, on: { click: () => store.set({ logy: 1 - store.get().logy }) } }, t("training.log")),
      mine && h("button", { type: "button", dataset: { testid: "open-model" }, on: { click: () => store.set({ model: mine.id, view: "attention" }) } }, t("training.open")));
  }

  function draw() {
    const { run, beside } = data;
    const { smooth, logy } = store.get();
    run.last = run.steps.at(-1) ?? 0;
    head();
    shown = curvesOf(run, beside?.columns ? beside : null, { share: smooth / 100, log: Boolean(logy), t });
    const ends = shown.flatMap((chart) => chart.curves.map((curve) => [curve.steps[0] ?? 1, curve.steps.at(-1) ?? 1]));
    const first = Math.min(...ends.map(([from]) => from));
    const last = Math.max(first + 1, run.state === "live" ? run.of : 0, ...ends.map(([, to]) => to));
    const unborn = run.inside?.steps.length === 0;
    const ids = [...shown.map((chart) => chart.id), unborn].join();
    if (grid.dataset.ids !== ids || !grid.contains(charts[shown[0]?.id]?.el ?? null)) { grid.dataset.ids = ids; put(grid, shown.map((chart, i) => [charts[chart.id].el,
      !i && unborn && h("p", { class: "note quiet", dataset: { testid: "unborn" } }, h("b", {}, t("training.unborn")), " ", t("training.unborn.do"))])); }
    // one chart a frame, so that none keeps the page waiting
    const jobs = shown.map((chart) => () => {
      const one = charts[chart.id];
      one.draw(chart, { first, last, width: Math.max(240, one.el.clientWidth), height: chart.id === "loss" ? 250 : chart.id === "birth" ? 190 : 150 });
      one.at(step());
    });
    const next = () => { if (!gone) { jobs.shift()?.(); if (jobs.length) requestAnimationFrame(next); } };
    next();
    samples();
    decisions();
    prove();
  }

  /** That what is drawn is all that the run wrote, and what it said of itself. */
  function prove() {
    const { steps, columns, rows, last, broken, report, state } = data.run;
    const checks = [check("training", "lines", broken)];
    if (steps.length) checks.unshift(check("training", "steps", Math.abs(last - steps[0] + 1 - rows)));
    if (state === "finished" && report.steps) {
      const gaps = Object.entries(report).map(([name, said]) => (name === "steps" ? last : name.startsWith("held_out_") ? columns[name]?.at(-1) ?? said : said) - said);
      checks.push(check("training", "report", Math.max(...gaps.map(Math.abs))));
    }
    const key = JSON.stringify(checks);
    if (proof.dataset.key !== key) put(proof, chips(checks)).dataset.key = key;
  }

  function point(to, pinned) {
    if (pinned) return store.set({ step: store.get().step === to ? -1 : to });
    peek = to;
    return cross();
  }

  function cross() {
    for (const chart of shown) charts[chart.id].at(step());
    samples();
  }

  function samples() {
    const prompts = (data.run?.prompts ?? []).slice(0, PROMPTS);
    said.hidden = !prompts.length;
    const steps = [...new Set(prompts.flatMap((one) => one.said.map((row) => row.step)))].sort((a, b) => a - b);
    const at = steps[step() < 0 ? steps.length - 1 : Math.max(0, placeOf(steps, step()))];
    const key = [data.run?.id, at].join();
    if (said.hidden || said.dataset.key === key) return;
    said.dataset.key = key;
    put(said, h("h3", { tip: "training.tip.samples" }, t("training.samples", { step: count(at) })), h("ol", {}, prompts.map((one, i) => {
      const row = one.said.findLast((each) => each.step <= at) ?? one.said[0];
      return h("li", {}, word(one.prompt, { class: "quiet" }, { spaces: false }), " ", word(row.text, { class: "strong", dataset: { testid: `sample-${i}`, value: row.step } }, { spaces: false }));
    })));
  }

  function decisions() {
    const { decisions: made, skips, id } = data.run;
    if (decided.dataset.key === id + skips.length) return;
    decided.dataset.key = id + skips.length;
    decided.hidden = false;
    put(decided, h("summary", {}, t("training.decisions", { n: made.options.length })),
      skips.length ? h("p", { class: "note warm" }, t("training.skips", { n: skips.length, steps: skips.slice(0, 8).map((one) => one.step).join(", ") })) : null,
      table({ note: "", columns: ["option", "value", "usual"].map((name) => t(`training.${name}`)), rows: made.options.map((one) => [one.name, one.value, one.usual]) }));
  }

  function move(by) {
    const steps = data.run?.steps ?? [];
    if (!steps.length) return;
    const now = step() < 0 ? steps.length - 1 : placeOf(steps, step());
    const to = steps[Math.max(0, Math.min(steps.length - 1, now + by))];
    peek = -1;
    store.set({ step: to });
    ctx.say(`${t("training.steps")} ${count(to)}: ${(shown[0]?.curves ?? []).map((curve) => `${curve.label} ${num(valueAt(curve, to))}`).join(", ")}`);
  }

  const watch = new ResizeObserver(later);
  watch.observe(grid);
  const off = [
    store.on(["run", "beside", "vs"], choose), store.on(["step"], cross),
    store.on(["smooth", "logy"], () => { tools(); later(); }), store.on(["models"], tools),
  ];
  const timer = setInterval(() => document.hidden || list(), 4000);
  list();
  return {
    keys: { ArrowLeft: () => move(-1), ArrowRight: () => move(1), Home: () => move(-1e9), End: () => move(1e9) },
    unmount() {
      gone = true;
      clearInterval(timer);
      watch.disconnect();
      off.forEach((stop) => stop());
      leave.run();
      leave.beside();
    },
  };
}
