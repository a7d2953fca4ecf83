// Every figure of a panel by its kind, in one frame: title, drawing, the table behind it, and a file to keep.
import { domain, look } from "../colour.js";
import { h, put } from "../h.js";
import { t, words } from "../i18n.js";
import { arcs, tree } from "./graphs.js";
import { atlasGrid } from "./atlasgrid.js";
import { bars, lines, scatter } from "./charts.js";
import { heat } from "./heat.js";
import { label } from "./marks.js";
import { saveDrawing } from "./save.js";
import { cells, flow, legend, MOST_CELLS, strip, table } from "./texts.js";
import { twin } from "./twin.js";

export { atlasGrid, heat, legend };

const flat = (values) => Float32Array.from(values.flat(Infinity), (v) => v ?? NaN);

function matrix(fig, ctx, text = null) {
  const values = flat(fig.values);
  const [rows, columns] = [fig.values.length, fig.values[0]?.length ?? 0];
  const ends = domain(values, fig.scale);
  const kinds = [fig.row_title?.en, fig.column_title?.en].map((name) => ({ layer: "layer", head: "head", token: "token", place: "token" })[name]);
  const grown = ({ row, col, value }) => ({ row, col, value, ...(kinds[0] ? { [kinds[0]]: row } : {}), ...(kinds[1] ? { [kinds[1]]: col } : {}) });
  const seen = (to) => (to && kinds.some(Boolean) ? { row: to[kinds[0]], col: to[kinds[1]], ...to } : to);
  const el = heat({ values, rows, columns, scale: fig.scale, ends, text, name: words(fig.title), labels: { rows: fig.rows, columns: fig.columns }, say: ctx.say,
    onHover: (cell) => ctx.peek?.(cell && grown(cell)), onPick: ctx.pick && ((cell) => ctx.pick(grown(cell))) });
  el.select(seen(ctx.selected));
  return Object.assign(h("div", {}, el, legend(fig.scale, ends)), { select: (to) => el.select(seen(to)), heat: el });
}

function atlas(fig, ctx) {
  const [layers, heads, px] = [fig.values.length, fig.values[0].length, fig.values[0][0].length];
  const grid = atlasGrid({ layers, heads, px, scale: fig.scale, name: words(fig.title), say: ctx.say, onHover: ctx.peek, onPick: ctx.pick });
  const high = domain(flat(fig.values), "share")[1];
  grid.put(0, Uint8Array.from(flat(fig.values), (v) => Math.round(255 * Math.sqrt(Math.max(0, v) / high))));
  grid.select(ctx.selected);
  return Object.assign(h("div", {}, grid, legend("share", [0, high])), { select: (to) => grid.select(to) });
}

const many = (fig, ctx) => (fig.values.length * (fig.values[0]?.length ?? 0) > MOST_CELLS ? matrix(fig, ctx, (r, c) => fig.texts[r][c]) : cells(fig, ctx));
const KINDS = { matrix, atlas, bars, lines, cells: many, arcs, strip, table, tree, flow, scatter };

/** A figure of a panel's record. ctx: pick(what), peek(what | null), selected, say(sentence); all may be missing. `what`
 * has row, col, layer, head, token, node, index or label, as the figure does.
 * @param {any} fig @param {any} [ctx] @returns {HTMLElement} with select(selected) and, for another of the same kind, update(fig) */
export function figure(fig, ctx = {}) {
  look();
  const plot = h("div", { class: "plot" });
  let drawn = null;
  function fill() {
    const values = fig.values;
    const none = values && !Array.isArray(values) ? t("draw.elsewhere", { shape: values.shape.join(" × ") })
      : (values ?? fig.rows ?? fig.nodes ?? fig.labels ?? fig.steps ?? fig.points ?? fig.x ?? fig.tokens)?.length === 0 ? t("draw.empty") : "";
    const own = { ...ctx, pick: ctx.pick && ((what) => ctx.pick(what, fig)), peek: ctx.peek && ((what) => ctx.peek(what, fig)) };
    drawn = none || !KINDS[fig.kind] ? h("p", { class: "quiet" }, none || t("draw.unknown", { kind: fig.kind })) : KINDS[fig.kind](fig, own);
    put(plot, drawn);
    return !none;
  }
  const whole = fill();
  const axes = [fig.row_title, fig.column_title].map((name, i) => words(name) && `${"↓→"[i]} ${words(name)}`).filter(Boolean).join("   ");
  const el = framed(words(fig.title), plot, { kind: fig.kind, axes, table: whole && fig.kind !== "table" ? () => twin(fig) : null });
  return Object.assign(el, {
    select(to) { ctx.selected = to; drawn.select?.(to); },
    update(next) {
      fig = next;
      if (drawn.update) drawn.update(next);
      else fill();
      el.stale();
    },
  });
}

/** A frame around any drawing, with the button of its table and of its file. table() makes the table when it is first asked for.
 * @param {string} title @param {HTMLElement} plot @param {{kind?: string, axes?: string, table?: (() => HTMLElement) | null, name?: string}} [how] */
export function framed(title, plot, { kind = "own", axes = "", table: make = null, name = "" } = {}) {
  const behind = h("div", { class: "twin", hidden: true, dataset: { testid: "twin" } });
  const shows = make && h("button", { type: "button", class: "tool", title: `${t("draw.table")} (d)`, aria: { label: t("draw.table"), pressed: "false" }, dataset: { testid: "table" }, on: { click: () => flip() } }, "▤");
  const keeps = h("button", { type: "button", class: "tool", title: t("draw.save"), aria: { label: t("draw.save") }, on: { click: () => saveDrawing(name || label(title).slice(0, 60) || kind, plot) } }, "↓");
  const tools = h("span", { class: "tools" }, shows, kind === "table" ? null : keeps);
  function flip(to = behind.hidden) {
    if (!make) return;
    behind.hidden = !to;
    plot.hidden = to;
    shows.setAttribute("aria-pressed", String(to));
    if (to && !behind.childNodes.length) put(behind, make());
  }
  const el = h("figure", { class: `fig fig-${kind}`, dataset: { testid: `figure-${kind}` }, on: { keydown: (event) => {
    if (event.key !== "d" || !make || event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    flip();
    (behind.hidden ? plot.querySelector("[tabindex]") : shows)?.focus();
  } } }, h("figcaption", {}, h("span", { class: "name" }, title), axes && h("span", { class: "quiet small" }, axes), tools), plot, behind);
  return Object.assign(el, { flip, keep: () => saveDrawing(name || title, plot), stale() { behind.replaceChildren(); if (!behind.hidden && make) put(behind, make()); } });
}

/** Show the tables of all figures in an element, or all drawings again where they are shown. @param {Element} root */
export function flipTables(root) {
  const all = [...root.querySelectorAll("figure.fig")].filter((el) => el.flip);
  const to = all.some((el) => el.querySelector(".twin").hidden && el.querySelector("[data-testid=table]"));
  for (const el of all) el.flip(to);
}

document.addEventListener("tables", (event) => flipTables(/** @type {Element} */ (event.target))); // the key d, anywhere on the page
export const draw = { figure, heat, atlasGrid, framed, legend, flipTables };
