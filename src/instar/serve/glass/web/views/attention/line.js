// The tokens in their order and arcs between them: above what the selected one takes, below who takes from it; of two texts
// two lines and what crosses between them.
import { framed } from "../../core/draw/index.js";
import { twin } from "../../core/draw/twin.js";
import { h, put, s } from "../../core/h.js";
import { t } from "../../core/i18n.js";
import { num } from "../../core/numbers.js";
import { word } from "../../core/shown.js";

const NEAR = 16; // tokens shown to each side of the selected one
const FAR = 6; // and of those farther away the strongest
const MOST = 24; // arcs of a side
const FAINT = 0.03; // of the strongest, is not drawn
const GAP = 110; // pixels between two lines

/** row: what the selected query takes; column: what others take from it, or of two texts from the key that was clicked.
 * @typedef {{queries: string[], keys: string[], at: number, key: number, row: Float32Array, column: Float32Array | null,
 * cross: boolean, causal: boolean, most: number, name: string, also: {name: string, row: Float32Array} | null}} Seen of two models
 * their names, and the row of the other one where it reads the same tokens
 * @param {{pick: (i: number) => void, key: (j: number) => void, peek: (j: number) => void, span: (from: number, to: number) => void}} does */
export function createLine(does) {
  const root = h("div", { class: "attention-line" });
  /** @type {Seen} */
  let now;
  let from = -1; // where a drag over keys began
  const el = framed("", root, { kind: "line", table: () => twin({ kind: "strip", tokens: now.keys, values: [...now.row] }) });

  /** A line of tokens, dots where some are left out -> the element, and the middle of each token once it is on the page. */
  function tokens(role, names, shown, chosen, value, also = () => null) {
    const said = (x) => (x === null ? "\u00a0" : now.most === 1 ? (x < 0.005 ? "·" : x.toFixed(2)) : num(x, 2));
    return h("div", { class: "line-tokens" }, shown.flatMap((i, n) => {
      const x = value(i);
      return [n > 0 && i > shown[n - 1] + 1 && h("span", { class: "quiet" }, "…"), h("button", {
        type: "button", class: "line-token", dataset: { testid: `${role === "key" ? "line-source" : "line"}-${i}`, value: x ?? "", role, i }, aria: { pressed: String(i === chosen) },
        style: { "--share": String(x === null ? 0 : Math.sqrt(Math.min(1, x / now.most))) },
      }, word(names[i]), h("small", { class: "mono" }, said(x)), now.also && h("small", { class: "mono theirs", dataset: { value: also(i) ?? "" } }, said(also(i))))];
    }));
  }
  const middles = (line) => new Map([...line.querySelectorAll("[data-i]")].map((one) => [Number(one.dataset.i), one.offsetLeft + one.offsetWidth / 2]));

  function path(d, value) {
    const share = Math.min(1, value / now.most);
    return s("path", { d, "stroke-width": (0.75 + 5 * share).toFixed(2), "stroke-opacity": (0.2 + 0.8 * Math.sqrt(share)).toFixed(2) });
  }

  /** @param {Seen} seen */
  function draw(seen) {
    now = seen;
    el.stale();
    put(el.querySelector(".name"), t(seen.cross ? "attention.line.cross" : seen.column ? "attention.line.both" : "attention.line.out"),
      seen.name && ` · ${seen.name}`, seen.also && h("span", { class: "theirs" }, ` · ${seen.also.name}`));
    const { at, row, column, key, cross } = seen;
    const wide = (svg, line) => svg.setAttribute("width", String(line.scrollWidth));
    if (cross) {
      const keys = nearby(seen.keys.length, key < 0 ? row.indexOf(Math.max(...row)) : key, row);
      const own = nearby(seen.queries.length, at, column);
      const [upper, lower] = [tokens("key", seen.keys, keys, key, (j) => row[j], (j) => seen.also.row[j]), tokens("own", seen.queries, own, at, (i) => column?.[i] ?? null)];
      const svg = s("svg", { height: GAP, "aria-hidden": "true" });
      put(root, upper, svg, lower);
      const [a, b] = [middles(upper), middles(lower)];
      const curve = (j, i, value, kind) => { const one = path(`M${a.get(j)} 0C${a.get(j)} ${GAP / 2} ${b.get(i)} ${GAP / 2} ${b.get(i)} ${GAP}`, value); one.setAttribute("class", kind); svg.append(one); };
      if (column) for (const [i, value] of strongest(column, own, at)) curve(key, i, value, "in");
      for (const [j, value] of strongest(row, keys, -1)) curve(j, at, value, "out");
      return wide(svg, upper.scrollWidth > lower.scrollWidth ? upper : lower);
    }
    const shown = nearby(seen.keys.length, at, row, column);
    const line = tokens("own", seen.keys, shown, at, (i) => (seen.causal && i > at ? null : row[i]), (i) => (seen.causal && i > at ? null : seen.also.row[i]));
    const [out, into] = ["out", "in"].map((kind) => s("svg", { class: kind, "aria-hidden": "true" }));
    put(root, out, line, into);
    const x = middles(line);
    for (const [svg, values] of [[out, row], [into, column ?? []]]) {
      const pairs = strongest(values, shown, at);
      const reach = (i) => Math.min(96, 10 + 0.34 * Math.abs(x.get(i) - x.get(at)));
      const high = Math.max(4, ...pairs.map(([i]) => reach(i) + 4));
      svg.setAttribute("height", String(high));
      wide(svg, line);
      for (const [i, value] of pairs.reverse()) { // a cubic curve reaches three quarters of its handles
        const [base, tip] = svg === out ? [high, high - reach(i) / 0.75] : [0, reach(i) / 0.75];
        svg.append(path(`M${x.get(at)} ${base}C${x.get(at)} ${tip} ${x.get(i)} ${tip} ${x.get(i)} ${base}`, value));
      }
    }
    root.scrollLeft = x.get(at) - root.clientWidth / 2;
    return undefined;
  }

  const of = (event) => { const on = event.target.closest?.("[data-i]"); return on && { i: Number(on.dataset.i), own: on.dataset.role === "own", keys: on.dataset.role === "key" || !now.cross }; };
  root.addEventListener("click", (event) => { const on = of(event); if (on) (on.own ? does.pick : does.key)(on.i); });
  root.addEventListener("pointerover", (event) => { const on = of(event); if (on?.keys) does.peek(on.i); });
  root.addEventListener("pointerdown", (event) => { const on = of(event); from = on?.keys && event.pointerType === "mouse" ? on.i : -1; });
  root.addEventListener("pointerup", (event) => {
    const on = of(event);
    if (from >= 0 && on?.keys && on.i !== from) does.span(Math.min(from, on.i), Math.max(from, on.i));
    from = -1;
  });
  return { el, draw, peek: (j) => root.querySelectorAll(".line-token").forEach((one) => one.classList.toggle("peek", one.dataset.i === String(j) && (one.dataset.role === "key" || !now.cross))) };
}

/** Which tokens stand on the page: those near one, and the strongest far away. */
function nearby(size, at, ...rows) {
  const first = Math.max(0, Math.min(at - NEAR, size - 2 * NEAR - 1));
  const shown = new Set(Array.from({ length: Math.min(size, 2 * NEAR + 1) }, (_, n) => first + n));
  for (const row of rows) {
    if (row) [...row.keys()].filter((i) => !shown.has(i) && row[i] > 0.02).sort((a, b) => row[b] - row[a]).slice(0, FAR).forEach((i) => shown.add(i));
  }
  return [...shown].sort((a, b) => a - b);
}

function strongest(values, shown, but) {
  const found = shown.filter((i) => i !== but && values[i] > 0).map((i) => [i, values[i]]).sort((a, b) => b[1] - a[1]).slice(0, MOST);
  return found.filter(([, value]) => value >= FAINT * found[0][1]);
}
