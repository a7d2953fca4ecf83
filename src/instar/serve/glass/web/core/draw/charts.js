// Bars, curves and points, as SVG of the width that there is.
import { h, put, s } from "../h.js";
import { t, words } from "../i18n.js";
import { num } from "../numbers.js";
import { hide, tipAt } from "../tip.js";
import { exact, fit, label, read, reader, sized, wide, widest } from "./marks.js";

const MOST_BARS = 60;
const MOST_POINTS = 400;
const MOST_NAMES = 40; // of points
const REACH = [8, 18, 30]; // pixels from a point to its name, with a line where that is far
const AROUND = [[1, 0], [-1, 0], [0, -1.4], [0, 1.4], [1, -1], [-1, -1], [1, 1], [-1, 1]];
const minus = (text) => text.replace(/^-/, "−");
const finite = (values) => values.filter((v) => v !== null && Number.isFinite(v));
// a shape for each series, so that colour is not all that tells it
const SHAPES = ["M-3 0a3 3 0 1 0 6 0a3 3 0 1 0 -6 0", "M-2.7 -2.7h5.4v5.4h-5.4z", "M0 -3.6l3.5 6.2h-7z", "M0 -4l4 4l-4 4l-4 -4z"];
const marker = (i, x, y) => s("path", { d: SHAPES[i % 4], transform: `translate(${x} ${y})`, class: `f${i % 6}` });

/** The names of series as people of the page's language say them. @param {any} fig */
export const names = (fig) => Object.keys(fig.series).map((name, i) => label(fig.names?.[i] ?? name));

/** What colours and shapes mean. @param {string[]} said @param {any} unit */
function keys(said, unit) {
  const all = said.length > 1 ? said : [];
  if (!all.length && !words(unit)) return null;
  return h("p", { class: "keys-of" }, words(unit) && h("span", { class: "quiet", text: words(unit) }),
    all.map((name, i) => h("span", {}, s("svg", { width: 12, height: 12, viewBox: "-6 -6 12 12" }, marker(i, 0, 0)), name)));
}

/** Round numbers from low to high, about `count`. */
export function ticks(low, high, count) {
  const rough = (high - low) / count;
  const ten = 10 ** Math.floor(Math.log10(rough));
  const step = ten * [1, 2, 5, 10].find((by) => by * ten >= rough * 0.999);
  const out = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) out.push(Number((i * step).toPrecision(12)));
  return out;
}

const brief = (x) => (Math.abs(x) >= 1e4 ? new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 }).format(x) : minus(String(Number(x.toPrecision(6)))));

function ends(values, zero = true) {
  let [low, high] = [Math.min(...finite(values), Infinity), Math.max(...finite(values), -Infinity)];
  if (low > high) [low, high] = [0, 1];
  if (zero && low >= 0 && low < high / 2) low = 0;
  if (zero && high <= 0 && high > low / 2) high = 0;
  if (low === high) [low, high] = low ? [Math.min(0, low), Math.max(0, high)] : [0, 1];
  const step = ticks(low, high, 4)[1] - ticks(low, high, 4)[0] || high - low;
  return [Math.floor(low / step + 1e-6) * step, Math.ceil(high / step - 1e-6) * step];
}

const onto = (low, high, from, to) => (v) => from + ((v - low) / (high - low)) * (to - from);

/** One bar a label and series, from zero; whiskers are the intervals. */
export function bars(fig, ctx) {
  const series = Object.values(fig.series);
  const said = names(fig);
  const labels = fig.labels.slice(0, MOST_BARS).map(label);
  const all = finite([...series.flat(), ...fig.low, ...fig.high]);
  const [low, high] = [Math.min(0, ...all), Math.max(0, ...all) || (Math.min(0, ...all) < 0 ? 0 : 1)];
  let outline = () => {};
  const box = sized((el, width) => {
    const left = widest(labels, Math.min(160, width * 0.36), 12) + 10;
    const room = 54;
    const x = onto(low, high, left + (low < 0 ? room : 0), width - (high > 0 ? room : 6));
    const thick = series.length > 1 ? 11 : 15;
    const row = thick * series.length + 8;
    const marks = [];
    const root = s("svg", { width, height: row * labels.length + 4 });
    labels.forEach((name, i) => {
      const y = i * row + 4;
      const lines = series.map((values, j) => {
        const v = values[i];
        const known = v !== null && Number.isFinite(v);
        const at = y + j * thick;
        const edge = known ? x(v) : x(0);
        const range = j === 0 && fig.low[i] !== undefined && fig.low[i] !== null && fig.high[i] !== null ? [x(fig.low[i]), x(fig.high[i])] : null;
        const after = v >= 0 ? Math.max(edge, range?.[1] ?? 0) + 5 : Math.min(edge, range?.[0] ?? width) - 5;
        return [
          known && s("rect", { x: Math.min(edge, x(0)), y: at + 1, width: Math.max(1, Math.abs(edge - x(0))), height: thick - 2, rx: 2, class: `f${v < 0 && series.length === 1 ? 4 : j % 6}` }),
          range && s("path", { class: "whisker", d: `M${range[0]} ${at + thick / 2}H${range[1]}M${range[0]} ${at + 3}v${thick - 6}M${range[1]} ${at + 3}v${thick - 6}` }),
          s("text", { x: after, y: at + thick / 2 + 4, class: "small", "text-anchor": v < 0 ? "end" : "start", dataset: { value: v } }, known ? minus(num(v)) : "–"),
        ];
      });
      const between = fig.low[i] !== undefined ? ` (${exact(fig.low[i])} … ${exact(fig.high[i])})` : "";
      const say = `${name}: ${series.map((values, j) => `${series.length > 1 ? `${said[j]} ` : ""}${exact(values[i])}`).join(", ")}${between}`;
      const group = s("g", {}, s("rect", { class: "hit", x: 0, y: y - 3, width, height: row - 1, rx: 4 }),
        s("text", { x: left - 8, y: y + (row - 8) / 2 + 4, "text-anchor": "end" }, fit(name, left - 8, 12)), lines);
      root.append(group);
      marks.push({ el: group, say, value: series.map((values) => values[i]).join(","), pick: { row: i, label: words(fig.labels[i]) } });
    });
    root.append(s("path", { class: "axis", d: `M${x(0)} 0V${row * labels.length + 4}` }));
    const host = h("div", {}, root);
    outline = read(host, marks, ctx, { name: words(fig.title) });
    put(el, keys(said, fig.unit), host, fig.labels.length > MOST_BARS && h("p", { class: "quiet small" }, t("draw.more", { n: fig.labels.length - MOST_BARS })));
  });
  return Object.assign(box, { select: (to) => outline(to) });
}

/** A place on the x axis; what layers are given stands before layer 0. @param {any} fig @param {number} v @param {(v: number) => string} spell */
const place = (fig, v, spell) => (v === -1 && /^(layer|层)/.test(words(fig.x_title)) ? t("layers.in") : spell(v));

function frame(root, [left, top, right, foot], x, y, [lows, highs], fig) {
  for (const v of ticks(lows[1], highs[1], 4)) root.append(s("path", { class: "grid", d: `M${left} ${y(v)}H${right}` }), s("text", { x: left - 6, y: y(v) + 4, class: "small", "text-anchor": "end" }, brief(v)));
  const whole = fig.x?.every(Number.isInteger);
  for (const v of ticks(lows[0], highs[0], Math.max(2, Math.min(8, right / 70)))) {
    if (!whole || Number.isInteger(v)) root.append(s("text", { x: x(v), y: foot + 16, class: "small", "text-anchor": "middle" }, place(fig, v, brief)));
  }
  root.append(s("path", { class: "axis", d: `M${left} ${foot}H${right}` }),
    s("text", { x: (left + right) / 2, y: foot + 33, class: "small", "text-anchor": "middle" }, fit(words(fig.x_title), right - left)));
}

/** The path of a curve; where there are more values than pixels, the lowest and the highest of each pixel. */
export function curve(xs, ys, x, y) {
  let path = "";
  let up = true; // the pen
  const at = (i) => {
    path += `${up ? "M" : "L"}${x(xs[i]).toFixed(1)} ${y(ys[i]).toFixed(1)}`;
    up = false;
  };
  const dense = xs.length > 1500;
  for (let i = 0; i < xs.length; i++) {
    if (ys[i] === null || !Number.isFinite(ys[i])) { up = true; continue; }
    if (!dense) { at(i); continue; }
    let [lowest, highest, end] = [i, i, i];
    for (; end < xs.length && Math.round(x(xs[end])) === Math.round(x(xs[i])) && Number.isFinite(ys[end] ?? NaN); end++) {
      if (ys[end] < ys[lowest]) lowest = end;
      if (ys[end] > ys[highest]) highest = end;
    }
    [...new Set([Math.min(lowest, highest), Math.max(lowest, highest)])].forEach(at);
    i = end - 1;
  }
  return path;
}

/** Curves; one line across all of them tells their numbers at a place. */
export function lines(fig, ctx) {
  let series, said, xs;
  let at = -1;
  let drawn = null;
  const take = (next) => { fig = next; [series, said, xs] = [Object.values(fig.series), names(fig), fig.x]; };
  take(fig);
  const host = h("div", {});
  const box = sized((el, width) => {
    const [top, foot, right] = [10, Math.round(Math.min(220, 90 + width / 4)), width - 12];
    const [low, high] = ends(series.flat());
    const left = Math.max(...ticks(low, high, 4).map((v) => wide(brief(v)))) + 12;
    let [first, last] = [Math.min(...xs), Math.max(...xs)];
    if (first === last) [first, last] = [first - 0.5, last + 0.5];
    const [x, y] = [onto(first, last, left, right), onto(low, high, foot, top)];
    const root = s("svg", { width, height: foot + (words(fig.x_title) ? 40 : 22) });
    frame(root, [left, top, right, foot], x, y, [[first, low], [last, high]], fig);
    if (low < 0 && high > 0) root.append(s("path", { class: "axis", d: `M${left} ${y(0)}H${right}` }));
    series.forEach((ys, i) => {
      root.append(s("path", { class: `curve l${i % 6}`, d: curve(xs, ys, x, y) }));
      if (fig.dots !== false && xs.length <= 64) ys.forEach((v, j) => v !== null && root.append(marker(i, x(xs[j]), y(v))));
    });
    const cross = s("g", { class: "cross", visibility: "hidden" }, s("path", { d: `M0 ${top}V${foot}` }), series.map((_, i) => s("circle", { r: 4.5, class: `f${i % 6}` })));
    root.append(cross);
    drawn = { x, y, cross, left, right, width };
    put(host, root);
    put(el, keys(said, fig.y_title), host);
    if (at >= 0) point(Math.min(at, xs.length - 1));
  });

  function point(i, aloud = false) {
    at = i;
    if (!drawn) return;
    drawn.cross.setAttribute("visibility", i < 0 ? "hidden" : "visible");
    if (i < 0) { hide(); ctx.peek?.(null); return; }
    drawn.cross.setAttribute("transform", `translate(${drawn.x(xs[i])} 0)`);
    series.forEach((ys, j) => {
      const dot = drawn.cross.children[j + 1];
      dot.setAttribute("visibility", ys[i] === null ? "hidden" : "inherit");
      if (ys[i] !== null) dot.setAttribute("cy", drawn.y(ys[i]));
    });
    const here = [`${words(fig.x_title) || "x"} ${place(fig, xs[i], exact)}`, ...series.map((ys, j) => `${said[j]}: ${exact(ys[i])}`)];
    host.dataset.value = series.map((ys) => ys[i]).join(",");
    host.dataset.x = String(xs[i]);
    tipAt(drawn.cross, here.join("\n"));
    ctx.peek?.({ index: i, x: xs[i] });
    if (aloud) ctx.say?.(here.join(", "));
  }
  const nearest = (event) => {
    if (!drawn || !xs.length) return -1;
    const px = event.clientX - host.getBoundingClientRect().left;
    let best = 0;
    xs.forEach((v, i) => { if (Math.abs(drawn.x(v) - px) < Math.abs(drawn.x(xs[best]) - px)) best = i; });
    return best;
  };
  host.addEventListener("pointermove", (event) => { const i = nearest(event); if (i !== at) point(i); });
  host.addEventListener("pointerleave", () => point(-1));
  host.addEventListener("click", (event) => ctx.pick?.({ index: nearest(event), x: xs[nearest(event)] }));
  reader(host, words(fig.title), { start: () => xs.length && point(Math.max(0, at), true), leave: () => point(-1), key({ key }) {
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: xs.length - 1, Enter: at }[key];
    if (key === "Enter") ctx.pick?.({ index: at, x: xs[at] });
    else if (to >= 0 && to < xs.length) point(to, true);
    return to !== undefined;
  } });
  return Object.assign(box, { update(next) { take(next); box.again(); } });
}

/** Points; where they are few, or stand apart, they bear their names. */
export function scatter(fig, ctx) {
  const known = fig.points.map(([name, x, y, kind = ""], row) => ({ row, name: label(name), raw: words(name), x, y, kind })).filter((p) => p.x !== null && p.y !== null).slice(0, MOST_POINTS);
  const missing = fig.points.length - known.length;
  let outline = () => {};
  const box = sized((el, width) => {
    const [top, foot, right] = [10, Math.round(Math.min(300, 120 + width / 3)), width - 16];
    const [across, up] = [ends(known.map((p) => p.x)), ends(known.map((p) => p.y))];
    const left = Math.max(...ticks(...up, 4).map((v) => wide(brief(v)))) + 12;
    const [x, y] = [onto(...across, left + 6, right), onto(...up, foot - 6, top)];
    const root = s("svg", { width, height: foot + 40 });
    frame(root, [left, top, right, foot], x, y, [[across[0], up[0]], [across[1], up[1]]], fig);
    const marks = known.map((p) => {
      const head = /^(\d+)\.(\d+)$/.exec(p.raw);
      const dot = s("circle", { cx: x(p.x), cy: y(p.y), r: 4.5, class: `f0 dot ${p.kind}` });
      root.append(dot);
      return { el: dot, value: `${p.x},${p.y}`, say: `${p.name}\n${words(fig.x_title) || "x"}: ${exact(p.x)}\n${words(fig.y_title) || "y"}: ${exact(p.y)}`,
        pick: { row: p.row, label: p.raw, ...(head ? { layer: Number(head[1]), head: Number(head[2]) } : {}) } };
    });
    const taken = known.map((p) => [x(p.x) - 5, y(p.y) - 5, x(p.x) + 5, y(p.y) + 5]);
    const free = (a) => a[0] > left && a[2] < width && a[1] > 0 && a[3] < foot + 4 && taken.every((b) => a[2] < b[0] || b[2] < a[0] || a[3] < b[1] || b[3] < a[1]);
    const middle = ["x", "y"].map((axis) => known.map((p) => p[axis]).sort((a, b) => a - b)[known.length >> 1]);
    const off = (p) => Math.hypot(x(p.x) - x(middle[0]), y(p.y) - y(middle[1]));
    for (const p of [...known].sort((a, b) => off(b) - off(a)).slice(0, MOST_NAMES)) { // the farthest first; of a crowd hovering tells the names
      const [size, a, b] = [wide(p.name, 12), x(p.x), y(p.y)];
      const place = REACH.flatMap((r) => AROUND.map(([u, v]) => [a + r * u - (size * (1 - u)) / 2, b + r * v - 6])).map(([u, v]) => [u, v, u + size, v + 12]).find(free);
      if (!place) continue;
      taken.push(place);
      const [u, v] = [Math.max(place[0], Math.min(a, place[2])), Math.max(place[1], Math.min(b, place[3]))];
      if (Math.hypot(u - a, v - b) > 10) root.prepend(s("path", { class: "axis", d: `M${a} ${b}L${u} ${v}` }));
      root.append(s("text", { x: place[0], y: place[1] + 10, class: "small" }, p.name));
    }
    const host = h("div", {}, root);
    outline = read(host, marks, ctx, { name: words(fig.title) });
    put(el, keys([], fig.y_title), host, missing > 0 && h("p", { class: "quiet small" }, t("draw.missing", { n: missing })));
  });
  return Object.assign(box, { select: (to) => outline(to) });
}
