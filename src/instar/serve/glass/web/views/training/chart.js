// One chart of curves over the steps; all charts of the view share their steps and their crosshair.
import { curve, ticks } from "../../core/draw/charts.js";
import { framed } from "../../core/draw/index.js";
import { table } from "../../core/draw/texts.js";
import { h, put, s } from "../../core/h.js";
import { t } from "../../core/i18n.js";
import { num, sci } from "../../core/numbers.js";
import { placeOf } from "./run.js";

const [LEFT, RIGHT, TOP, BOTTOM, ROWS] = [46, 10, 8, 20, 60];
const brief = (v) => (v !== 0 && Math.abs(v) < 1e-3 ? sci(v) : Math.abs(v) >= 1e4 ? num(v) : String(Number(v.toPrecision(3))));

function decades(low, high) {
  const found = [];
  for (let power = Math.floor(Math.log10(low)); 10 ** power <= high; power++) {
    found.push(...(high / low > 50 ? [1] : [1, 2, 5]).map((one) => one * 10 ** power));
  }
  return found.filter((one) => one >= low && one <= high);
}

/** @param {{id: string, title: string, tip: string}} what
 * @param {(step: number, pinned: boolean) => void} point hears where the hand is, -1 where it has left */
export function createChart({ id, title, tip }, point) {
  const keys = h("p", { class: "run-keys" });
  const paper = s("svg", { role: "img" });
  const plot = h("div", {}, keys, paper);
  const el = framed(title, plot, { kind: "run", table: () => table({ note: "", ...rows() }) });
  el.classList.add("run-chart", id);
  el.dataset.testid = `chart-${id}`;
  const name = el.querySelector(".name");
  put(name, h("span", { tip }, title));
  /** @type {any} */
  let drawn = null;

  const hear = (event, pinned) => {
    const share = (event.clientX - paper.getBoundingClientRect().left - LEFT) / (drawn.width - LEFT - RIGHT);
    point(Math.round(drawn.first + Math.min(1, Math.max(0, share)) * (drawn.last - drawn.first)), pinned);
  };
  paper.addEventListener("pointermove", (event) => hear(event, false));
  paper.addEventListener("pointerleave", () => point(-1, false));
  paper.addEventListener("click", (event) => hear(event, true));

  /** @param {any} what as curvesOf makes it @param {{first: number, last: number, width: number, height: number}} size */
  function draw(what, { first, last, width, height }) {
    const log = what.log;
    const usable = (v) => v !== null && v !== undefined && !(log && v <= 0);
    let [low, high] = [Infinity, -Infinity];
    for (const curve of what.curves) {
      for (const list of [curve.raw ?? [], curve.values]) for (const v of list) if (usable(v)) { low = Math.min(low, v); high = Math.max(high, v); }
    }
    if (low > high) [low, high] = [log ? 0.1 : 0, 1];
    if (!log && (what.zero || (low >= 0 && low < high / 2))) low = Math.min(0, low);
    if (low === high) [low, high] = [low - Math.abs(low) / 10 - (log ? 0 : 1e-9), high + Math.abs(high) / 10 + 1e-9];
    const room = height - TOP - BOTTOM;
    const x = (step) => LEFT + ((step - first) / (last - first)) * (width - LEFT - RIGHT);
    const y = (v) => TOP + room * (1 - (log ? Math.log(v / low) / Math.log(high / low) : (v - low) / (high - low)));
    const cross = s("line", { class: "cross", y1: TOP, y2: height - BOTTOM });
    drawn = { what, first, last, width, x, y, cross, usable };
    paper.setAttribute("viewBox", `0 0 ${width} ${height}`);
    paper.setAttribute("aria-label", `${title}: ${what.curves.map((curve) => curve.label).join(", ")}`);
    put(paper,
      (log ? decades(low, high) : ticks(low, high, height / 46)).map((v) => [
        s("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y(v), y2: y(v) }),
        s("text", { x: LEFT - 6, y: y(v) + 4, "text-anchor": "end" }, brief(v))]),
      ticks(first, last, width / 110).filter(Number.isInteger).map((v) => s("text", { x: x(v), y: height - 4, "text-anchor": "middle" }, num(v))),
      what.marks.map((step) => s("line", { class: "skip", x1: x(step), x2: x(step), y1: height - BOTTOM - 8, y2: height - BOTTOM })),
      what.curves.map((one) => [
        one.raw && s("path", { class: "raw", d: line(one.steps, one.raw), style: { stroke: one.colour } }),
        s("path", { class: one.dash ? "dash" : "", d: line(one.steps, one.values, one.dots), style: { stroke: one.colour } }),
        one.dots && dots(one)]), cross);
    el.stale();
  }

  /** joined: over the gaps */
  function line(steps, values, joined = false) {
    const { x, y, usable } = drawn;
    const known = values.map((v) => (usable(v) ? v : null));
    const kept = (list) => (joined ? list.filter((_, i) => known[i] !== null) : list);
    return curve(kept(steps), kept(known), x, y);
  }

  function dots({ steps, values, colour }) {
    const known = steps.map((_, i) => i).filter((i) => drawn.usable(values[i]));
    return known.length > 120 ? null : known.map((i) => s("circle", { cx: drawn.x(steps[i]), cy: drawn.y(values[i]), r: 3, style: { fill: colour } }));
  }

  /** The crosshair at a step, and what the curves are there; -1 says what they are at the end. */
  function at(step) {
    if (!drawn) return;
    const { x, what, cross, first, last } = drawn;
    const seen = step >= first && step <= last;
    cross.setAttribute("visibility", seen ? "visible" : "hidden");
    if (seen) for (const side of ["x1", "x2"]) cross.setAttribute(side, String(x(step)));
    put(keys, what.curves.map((curve) => {
      const value = valueAt(curve, seen ? step : last);
      return value !== null && h("span", { class: curve.dash ? "dashed" : "", style: { "--key": curve.colour } }, curve.label, " ",
        h("b", { class: "mono", dataset: { testid: `value-${id}-${curve.key}`, value: value ?? "" } }, num(value)));
    }));
  }

  function rows() {
    const { curves } = drawn.what;
    const steps = [...new Set(curves.flatMap((curve) => curve.steps))].sort((a, b) => a - b);
    const some = steps.length <= ROWS ? steps : Array.from({ length: ROWS }, (_, i) => steps[Math.round(i * (steps.length - 1) / (ROWS - 1))]);
    return { columns: [t("training.steps"), ...curves.map((curve) => curve.label)], rows: some.map((step) => [step, ...curves.map((curve) => valueAt(curve, step))]) };
  }

  return { el, draw, at };
}

/** The last value that is known at a step. */
export function valueAt(curve, step) {
  const list = curve.raw ?? curve.values;
  let i = placeOf(curve.steps, step);
  if (curve.dots) while (i >= 0 && list[i] === null) i--;
  return list[i] ?? null;
}
