// Words on their shades, steps in their order, and tables: what is text stays text.
import { domain, shade, STEPS } from "../colour.js";
import { h, put } from "../h.js";
import { t, words } from "../i18n.js";
import { exact, label, read, said } from "./marks.js";

export const MOST_CELLS = 700;
const MOST_TOKENS = 400;

const more = (n) => n > 0 && h("p", { class: "quiet small" }, t("draw.more", { n }));

/** What the colours mean. @param {string} scale @param {number[]} ends */
export function legend(scale, [low, high]) {
  const letter = scale === "signed" ? "d" : "s";
  const stops = Array.from({ length: STEPS + 1 }, (_, i) => `var(--${letter}${i})`);
  const at = scale === "share" ? [0, 0.05, 0.25, 1].map((share) => [Math.sqrt(share), share * high]) : [[0, low], [0.5, (low + high) / 2], [1, high]];
  return h("p", { class: "legend", aria: { hidden: "true" } }, h("i", { style: { background: `linear-gradient(90deg, ${stops})` } }),
    at.map(([place, v]) => h("span", { style: { left: `${100 * place}%` } }, String(Number(v.toPrecision(2))).replace(/^-/, "−"))));
}

/** A grid of words on their shades. */
export function cells(fig, ctx) {
  const ends = domain(fig.values.flat().filter((v) => v !== null), fig.scale);
  const rows = fig.values.map((_, r) => (fig.rows.length ? label(fig.rows[r]) : String(r)));
  const columns = (fig.values[0] ?? []).map((_, c) => (fig.columns.length ? label(fig.columns[c]) : String(c)));
  const marks = [];
  const body = fig.texts.map((line, r) => h("tr", {}, h("th", { scope: "row" }, rows[r]), line.map((text, c) => {
    const v = fig.values[r][c];
    const el = h("td", { style: shade(v, fig.scale, ends), class: v === null ? "gap" : null }, label(text));
    marks.push({ el, value: v, say: `${rows[r]}, ${columns[c]}: ${label(text)}  ${exact(v)}`, pick: { row: r, col: c, text: words(text) } });
    return el;
  })));
  const host = h("div", { class: "scroll" }, h("table", { class: "cells" }, h("thead", {}, h("tr", {}, h("td", {}), columns.map((name) => h("th", { scope: "col" }, name)))), h("tbody", {}, body)));
  const outline = read(host, marks, ctx, { across: columns.length, name: words(fig.title) });
  return Object.assign(h("div", {}, host, legend(fig.scale, ends)), { select: outline });
}

/** Tokens in reading order on their shades. */
export function strip(fig, ctx) {
  const ends = domain(fig.values.filter((v) => v !== null), fig.scale);
  const marks = fig.tokens.slice(0, MOST_TOKENS).map((token, i) => {
    const v = fig.values[i];
    const note = label(fig.notes[i]);
    return { el: h("bdi", { style: shade(v, fig.scale, ends) }, label(token) || "·"), value: v, say: `${i}: ${label(token)}  ${exact(v)}${note ? `\n${note}` : ""}`, pick: { token: i } };
  });
  const host = h("div", { class: "flowing" }, marks.map((mark) => mark.el));
  const outline = read(host, marks, ctx, { name: words(fig.title) });
  return Object.assign(h("div", {}, host, more(fig.tokens.length - marks.length), legend(fig.scale, ends)), { select: outline });
}

/** Steps in the order in which they happen. */
export function flow(fig, ctx) {
  const marks = fig.steps.map(([name, what], i) => ({
    el: h("li", {}, h("b", {}, label(name)), label(what) && h("span", { class: "mono" }, label(words(what)).replaceAll("↵", "\n"))),
    say: `${i + 1}. ${label(name)}: ${label(what)}`, pick: { row: i },
  }));
  return h("ol", { class: "steps", dataset: { testid: "steps" } }, marks.map(({ el }) => el));
}

/** A table that its heads sort; of many rows the first. @param {any} fig columns, rows, note */
export function table(fig, ctx = {}) {
  const wide = fig.columns.length || 1;
  const most = Math.max(1, Math.floor(MOST_CELLS / wide));
  const numeric = fig.columns.map((_, c) => fig.rows.length > 0 && fig.rows.every((row) => row[c] === null || typeof row[c] === "number"));
  let [by, down] = [-1, false];
  let outline = () => {};
  const body = h("tbody", {});
  const heads = fig.columns.map((name, c) => h("th", { scope: "col", class: numeric[c] ? "number" : null },
    h("button", { type: "button", class: "sorts", on: { click: () => sort(c) } }, words(name))));
  const host = h("div", { class: "scroll" }, h("table", { class: "data" }, h("thead", {}, h("tr", {}, heads)), body));
  const rest = h("div", {});

  function order() {
    const rows = fig.rows.map((row, i) => [row, i]);
    if (by < 0) return rows;
    const key = (row) => (typeof row[by] === "object" && row[by] ? words(row[by]) : row[by]);
    return rows.sort(([a], [b]) => {
      const [x, y] = [key(a), key(b)];
      if (x === null || y === null) return (x === null) - (y === null); // what is not known stands last both ways
      const way = typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y), undefined, { numeric: true });
      return down ? -way : way;
    });
  }
  function sort(c) {
    [by, down] = by === c ? [c, !down] : [c, numeric[c]]; // of numbers the largest first
    heads.forEach((head, i) => head.setAttribute("aria-sort", i === by ? (down ? "descending" : "ascending") : "none"));
    fill();
  }
  function fill() {
    const rows = order().slice(0, most);
    put(body, rows.map(([row, i]) => {
      const head = /^(\d+)\.(\d+)$/.exec(String(row[0]));
      const pick = { row: i, ...(head ? { layer: Number(head[1]), head: Number(head[2]) } : {}) };
      const choose = () => ctx.pick?.(pick);
      const el = h("tr", { dataset: { row: i }, tabindex: ctx.pick ? "0" : null, class: ctx.pick ? "picks" : null, on: ctx.pick ? { click: choose, keydown: (event) => {
        const next = { ArrowDown: el.nextElementSibling, ArrowUp: el.previousElementSibling }[event.key];
        if (event.key === "Enter" || event.key === " ") choose();
        else if (next) next.focus();
        else return;
        event.preventDefault();
      } } : {} }, row.map((value, c) => h(c ? "td" : "th", { scope: c ? null : "row", class: numeric[c] ? "number" : null,
        title: typeof value === "number" && !Number.isInteger(value) ? exact(value) : null, dataset: typeof value === "number" ? { value } : {} }, said(value))));
      return Object.assign(el, { pick });
    }));
    put(rest, more(fig.rows.length - rows.length));
    outline(ctx.selected);
  }
  outline = (selected) => {
    ctx.selected = selected;
    for (const el of body.children) el.classList.toggle("chosen", Object.keys(el.pick).some((key) => key !== "row") ? el.pick.layer === selected?.layer && el.pick.head === selected?.head : el.pick.row === selected?.row);
  };
  fill();
  return Object.assign(h("div", {}, host, rest, words(fig.note) && h("p", { class: "quiet small" }, words(fig.note))), { select: outline });
}
