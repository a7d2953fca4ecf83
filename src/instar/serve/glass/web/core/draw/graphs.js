// Arcs between tokens and trees of a search, as SVG.
import { h, put, s } from "../h.js";
import { t, words } from "../i18n.js";
import { exact, fit, label, read, sized, wide, widest } from "./marks.js";

const MOST_ARCS = 160;
const MOST_TOKENS = 300;
const MOST_NODES = 300;
const LINE = 22;

/** Lines whose width is their weight. A short text stands on one line, a longer one upright with the arcs at its side;
 * two texts stand side by side. */
export function arcs(fig, ctx) {
  const fits = fig.arcs.filter(([from, to]) => from < MOST_TOKENS && to < MOST_TOKENS);
  const drawn = fits.sort((a, b) => Math.abs(b[2]) - Math.abs(a[2])).slice(0, MOST_ARCS);
  const most = Math.abs(drawn[0]?.[2] ?? 1) || 1;
  const tokens = fig.tokens.slice(0, MOST_TOKENS).map(label);
  const two = fig.sources.length > 0;
  const sources = two ? fig.sources.slice(0, MOST_TOKENS).map(label) : tokens;
  let outline = () => {};
  const box = sized((el, width) => {
    const root = s("svg", {});
    const curves = drawn.map(([from, to, weight]) => {
      const share = Math.min(1, Math.abs(weight) / most);
      const path = s("path", { class: `arc l${!two && to > from ? 1 : 0}`, "stroke-width": 0.8 + 4.2 * share, "stroke-opacity": 0.25 + 0.75 * Math.sqrt(share), dataset: { from, to } });
      root.append(path);
      return path;
    });
    const sizes = tokens.map((name) => wide(name, 12));
    const room = Math.min(30, (width - sizes.reduce((a, b) => a + b, 0)) / tokens.length);
    const texts = (!two && room >= 7 ? flat : upright)({ root, curves, width, sizes, room });
    const marks = texts.map((text, i) => {
      const mine = drawn.filter(([from]) => from === i).slice(0, 5);
      const say = [tokens[i], ...mine.map(([, to, weight]) => `→ ${sources[to]} ${exact(weight)}`)].join("\n");
      return { el: text, say, value: mine[0]?.[2] ?? "", pick: { token: i } };
    });
    drawn.forEach(([from, to, weight], i) => marks.push({ el: curves[i], value: weight, say: `${tokens[from]} → ${sources[to]}: ${exact(weight)}`, pick: { token: from, to } }));
    const host = h("div", {}, root);
    // a token that is read shows its own arcs alone
    const peek = (what) => {
      root.classList.toggle("some", Boolean(what) && what.to === undefined);
      curves.forEach((path, i) => path.classList.toggle("mine", what?.token === drawn[i][0]));
      ctx.peek?.(what);
    };
    outline = read(host, marks, { ...ctx, peek }, { stops: tokens.length, name: words(fig.title) });
    put(el, host, fig.arcs.length > drawn.length && h("p", { class: "quiet small" }, t("draw.strongest", { n: drawn.length, all: fig.arcs.length })));
  });

  function flat({ root, curves, width, sizes, room }) {
    let x = 0;
    const middles = sizes.map((size) => { const at = x + (size + room) / 2; x += size + room; return at; });
    const high = (from, to) => Math.min(120, Math.abs(middles[from] - middles[to]) * 0.5 + 12);
    const reach = (back) => Math.max(0, ...drawn.filter(([a, b]) => b <= a === back).map(([a, b]) => high(a, b)));
    const line = reach(true) + 22;
    drawn.forEach(([from, to], i) => {
      const back = to <= from;
      const [y, peak] = back ? [line - 15, line - 15 - high(from, to) * 1.33] : [line + 7, line + 7 + high(from, to) * 1.33];
      const spread = from === to ? 8 : 0;
      const [a, b] = [middles[from] - spread, middles[to] + spread];
      curves[i].setAttribute("d", `M${a} ${y}C${a} ${peak} ${b} ${peak} ${b} ${y}`);
    });
    root.setAttribute("width", width);
    root.setAttribute("height", line + 10 + (reach(false) ? reach(false) + 8 : 0));
    return tokens.map((name, i) => root.appendChild(s("text", { x: middles[i], y: line, "text-anchor": "middle" }, name)));
  }

  function upright({ root, curves, width }) {
    const left = widest(tokens, two ? width * 0.36 : 150, 12) + 4;
    const right = two ? width - widest(sources, width * 0.36, 12) - 4 : 0;
    const place = (i) => LINE * (i + 0.5) + 2;
    drawn.forEach(([from, to], i) => {
      const [a, b] = [place(from), place(to)];
      if (two) {
        const middle = (left + right) / 2;
        curves[i].setAttribute("d", `M${left + 6} ${a}C${middle} ${a} ${middle} ${b} ${right - 6} ${b}`);
        return;
      }
      const spread = from === to ? 4 : 0;
      const out = left + 8 + Math.min(width - left - 12, 12 + 20 * Math.log2(1 + Math.abs(to - from))) * 1.33;
      curves[i].setAttribute("d", `M${left + 8} ${a - spread}C${out} ${a - spread} ${out} ${b + spread} ${left + 8} ${b + spread}`);
    });
    root.setAttribute("width", width);
    root.setAttribute("height", LINE * Math.max(tokens.length, sources.length) + 4);
    if (two) sources.forEach((name, i) => root.append(s("text", { x: right, y: place(i) + 4 }, fit(name, width - right, 12))));
    return tokens.map((name, i) => root.appendChild(s("text", { x: left, y: place(i) + 4, "text-anchor": "end" }, fit(name, left, 12))));
  }
  return Object.assign(box, { select: (to) => outline(to) });
}

const ORDER = { best: 0, done: 1, kept: 2, pruned: 3 };

/** Each step of the search a column; the best way runs along the top, what was pruned is faint. */
export function tree(fig, ctx) {
  const all = fig.nodes.map(([parent, name, value, state], node) => ({ node, parent, name: fit(label(name), 120, 12), value, state, depth: 0, below: [] }));
  for (const one of all.filter((n) => n.state === "best")) for (let at = one; at && !at.best; at = all[at.parent]) at.best = true;
  const places = all.length > MOST_NODES ? all.filter((n) => n.state !== "pruned").slice(0, MOST_NODES) : all;
  const roots = [];
  for (const one of places) {
    const above = all[one.parent];
    one.depth = above ? above.depth + 1 : 0;
    (above ? above.below : roots).push(one);
  }
  const sort = (list) => list.sort((a, b) => Boolean(b.best) - Boolean(a.best) || (ORDER[a.state] ?? 4) - (ORDER[b.state] ?? 4) || b.value - a.value);
  const columns = [];
  for (const one of places) columns[one.depth] = Math.max(columns[one.depth] ?? 0, wide(one.name, 12) + 42);
  const starts = columns.map((_, i) => columns.slice(0, i).reduce((a, b) => a + b, 4));
  let used = 0;
  for (const stack = sort(roots).reverse(); stack.length;) {
    const one = stack.pop();
    one.row = used;
    if (!one.below.length) used += 1;
    stack.push(...sort(one.below).reverse());
  }
  for (const one of places) [one.x, one.y] = [starts[one.depth], 16 + 25 * one.row];
  const root = s("svg", { width: (starts.at(-1) ?? 0) + (columns.at(-1) ?? 0), height: 25 * used + 8 });
  for (const one of [...places].sort((a, b) => Boolean(a.best) - Boolean(b.best))) {
    const above = all[one.parent];
    if (!above) continue;
    const [x, turn] = [above.x + wide(above.name, 12) + 12, one.x - 16];
    const bend = Math.min(5, one.y - above.y);
    root.append(s("path", { class: `branch ${one.best ? "best" : one.state}`, d: `M${x} ${above.y}H${turn - 5}q5 0 5 ${bend}V${one.y - bend}q0 ${bend} 5 ${bend}H${one.x}` }));
  }
  const path = (one) => { const way = []; for (let at = one; at; at = all[at.parent]) way.unshift(at.node); return way; };
  const marks = places.map((one) => {
    const el = s("g", { class: `node ${one.best ? "best" : one.state}` }, s("rect", { x: one.x, y: one.y - 10, width: wide(one.name, 12) + 12, height: 20, rx: 5 }), s("text", { x: one.x + 6, y: one.y + 4 }, one.name));
    root.append(el);
    return { el, value: one.value, say: `${one.name}  ${exact(one.value)}\n${t(`draw.state.${one.state}`)}`, pick: { node: one.node, path: path(one), state: one.state } };
  });
  const order = [...places].sort((a, b) => a.row - b.row);
  function move(at, key) {
    const one = places[at];
    const near = key === "ArrowLeft" ? all[one.parent] : key === "ArrowRight" ? one.below[0]
      : key === "ArrowDown" ? order.find((n) => n.row > one.row && n.depth === one.depth) : order.findLast((n) => n.row < one.row && n.depth === one.depth);
    return near ? places.indexOf(near) : at;
  }
  const host = h("div", { class: "scroll" }, root);
  const outline = read(host, marks, ctx, { move, name: words(fig.title) });
  const el = h("div", {}, h("p", { class: "keys-of" }, Object.keys(ORDER).map((state) => h("span", {}, s("svg", { width: 14, height: 12 }, s("g", { class: `node ${state}` }, s("rect", { x: 1, y: 1, width: 12, height: 10, rx: 3 }))), t(`draw.state.${state}`)))),
    host, places.length < all.length && h("p", { class: "quiet small" }, t("draw.more", { n: all.length - places.length })));
  return Object.assign(el, { select: outline });
}
