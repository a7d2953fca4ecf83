// One head as a matrix, beside that of another model and their difference; a long text pooled, or a part of it.
import { framed, heat } from "../../core/draw/index.js";
import { twin } from "../../core/draw/twin.js";
import { h, put } from "../../core/h.js";
import { num } from "../../core/numbers.js";
import { shown } from "../../core/shown.js";

const LISTED = 200; // rows of the table twin

/** @typedef {import("./source.js").Field} Field
 * @param {any} ctx @param {{peek: Function, pick: Function, span: Function, zoom: Function}} does in places of the text */
export function createMatrix({ t, say }, does) {
  const maps = h("div", { class: "attention-maps" });
  const readout = h("p", { class: "attention-readout", dataset: { testid: "attention-readout" } });
  const part = h("p", { class: "row quiet fine", dataset: { testid: "attention-part" } });
  let drawn = []; // {name, field, queries, keys, map, el}
  let plain = false;
  let at = null; // [query, key] that is read out where nothing is pointed at

  const last = (names, from, pool) => Math.min(names.length, from + pool) - 1;
  const ranged = (names, first, count, pool) => Array.from({ length: count }, (_, n) => (pool === 1 ? names[first + n] ?? "" : `${first + n * pool}–${last(names, first + n * pool, pool)}`));
  const sides = ({ field, queries, keys }) => [ranged(queries, field.top, field.rows, field.pool), ranged(keys, field.left, field.columns, field.pool)];

  /** @param {{name: string, field: Field, queries: string[], keys: string[], signed?: boolean}[]} fields
   * @param {boolean} lengths whether the numbers are lengths and no shares */
  function draw(fields, lengths) {
    plain = lengths;
    const most = Math.max(...fields.map(({ field, signed }) => (signed ? 0 : largest(field.values))));
    const fits = drawn.length === fields.length;
    drawn = fields.map((given, n) => {
      const { name, field, signed } = given;
      const [rows, columns] = sides(given);
      const options = { values: field.values, rows: field.rows, columns: field.columns, layout: field.layout, labels: { rows, columns }, arrow: "←", name: `${t("attention.matrix")} ${name}`,
        scale: signed ? "signed" : plain ? "plain" : "share", ends: signed ? undefined : [0, plain ? most || 1 : Math.max(1, most)] };
      const one = fits ? drawn[n] : {};
      one.map?.update(options);
      one.map ??= heat({ ...options, say,
        onHover: (cell) => (cell ? does.peek(...read(placed(one.field, cell), n)) : (tell(), does.peek(-1, -1))),
        onPick: (cell) => (one.field.pool > 1 ? does.zoom(placed(one.field, cell)) : does.pick(...placed(one.field, cell))),
        onSpan: (span) => span?.columns && does.span(...span.columns.map((c, end) => one.field.left + (c + end) * one.field.pool - end)) });
      one.el ??= framed("", one.map, { table: () => twin({ kind: "matrix", rows: sides(one)[0].slice(0, LISTED), columns: sides(one)[1], values: Array.from({ length: Math.min(LISTED, one.field.rows) }, (_, r) => Array.from({ length: Math.min(64, one.field.columns) }, (_x, c) => one.map.cell(r, c).value)) }) });
      one.el.dataset.testid = `attention-map-${n}`;
      put(one.el.querySelector(".name"), name || t("attention.matrix"));
      one.el.stale();
      return Object.assign(one, given);
    });
    if (!fits) put(maps, drawn.map((one) => one.el));
    maps.classList.toggle("several", drawn.length > 1);
    const { top, left, rows, columns, pool, shape } = drawn[0].field;
    put(part, pool > 1 ? t("attention.pooled", { pool, n: Math.max(...shape) })
      : rows < shape[0] || columns < shape[1] ? [t("attention.window", { from: top, to: top + rows - 1, left, right: left + columns - 1 }), h("button", { type: "button", dataset: { testid: "overview" }, on: { click: () => does.zoom(null) } }, t("attention.overview"))]
        : t("attention.hint"));
  }

  const placed = ({ top, left, pool }, cell) => [top + cell.row * pool, left + cell.col * pool];
  function cellOf({ field, map }, [query, key]) {
    const [row, col] = [Math.floor((query - field.top) / field.pool), Math.floor((key - field.left) / field.pool)];
    return row >= 0 && row < field.rows && col < field.columns ? { row, col, value: col < 0 ? null : map.cell(row, col).value } : null;
  }

  /** "人 ← 咬 0.71": the query takes so much from the key. */
  function read(cell, over = 0) {
    const values = drawn.map((one) => cellOf(one, cell)?.value ?? null);
    const { queries, keys, field: { pool } } = drawn[over];
    const name = (names, i) => h("bdi", { class: "strong" }, pool > 1 ? `${i}–${last(names, i, pool)}` : shown(names[i] ?? ""));
    Object.assign(readout.dataset, { value: values[over] ?? "", row: cell[0], col: cell[1] });
    put(readout, name(queries, cell[0]), " ← ", name(keys, cell[1]), " ",
      values[over] === null ? h("span", { class: "quiet" }, t("attention.future")) : h("b", { class: "mono", tip: `attention.tip.${plain ? "norm" : "share"}` }, num(values[over], 3)),
      drawn.length > 2 && h("span", { class: "quiet mono" }, drawn.map((one, n) => ` · ${one.name} ${num(values[n], 3)}`)));
    return cell;
  }
  const tell = () => at && drawn.length && read(at);

  return { el: h("div", { class: "attention-matrix" }, maps, readout, part), draw,
    /** Outline a row or a cell. */
    select(query, key = -1) {
      for (const one of drawn) {
        const found = cellOf(one, [query, key]);
        one.map.select(found && { row: found.row, ...(key < 0 ? {} : { col: found.col }) });
      }
      at = key < 0 ? (at?.[0] === query ? at : null) : [query, key];
      tell();
    },
    tell: (query, key) => { at = [query, key]; tell(); },
    span: (from, to) => drawn.forEach(({ field, map }) => map.span({ rows: null, columns: [from, to].map((c) => Math.floor((c - field.left) / field.pool)) })) };
}

function largest(values) {
  let most = 0;
  for (let n = 0; n < values.length; n++) if (values[n] > most) most = values[n];
  return most;
}
