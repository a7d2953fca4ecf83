// The numbers of a figure as a table: what it says to those who do not see it, or do not believe it.
import { t, words } from "../i18n.js";
import { names } from "./charts.js";
import { table } from "./texts.js";

const MOST_COLUMNS = 24;

/** @param {any} fig @returns {any} columns and rows, as a figure of the kind table */
export function numbers(fig) {
  const value = t("draw.value");
  const note = (n) => (n > 0 ? t("draw.columns", { n }) : "");
  if (fig.kind === "matrix" || fig.kind === "cells") {
    const columns = fig.values[0] ?? [];
    return { columns: ["", ...columns.slice(0, MOST_COLUMNS).map((_, c) => fig.columns[c] ?? String(c))],
      rows: fig.values.map((row, r) => [fig.rows[r] ?? String(r), ...row.slice(0, MOST_COLUMNS)]), note: note(columns.length - MOST_COLUMNS) };
  }
  if (fig.kind === "atlas") {
    const rows = fig.values.flatMap((heads, layer) => heads.map((rows_, head) => {
      let [best, at] = [-Infinity, [0, 0]];
      rows_.forEach((row, r) => row.forEach((v, c) => { if (v > best) [best, at] = [v, [r, c]]; }));
      return [`${layer}.${head}`, best, ...at];
    }));
    return { columns: [t("draw.head.short"), t("draw.strongest.one"), t("draw.row"), t("draw.column")], rows };
  }
  if (fig.kind === "bars") {
    const spans = fig.low.length > 0;
    return { columns: ["", ...names(fig), ...(spans ? [t("draw.low"), t("draw.high")] : [])],
      rows: fig.labels.map((name, i) => [name, ...Object.values(fig.series).map((values) => values[i]), ...(spans ? [fig.low[i], fig.high[i]] : [])]) };
  }
  if (fig.kind === "lines") return { columns: [words(fig.x_title) || "x", ...names(fig)], rows: fig.x.map((x, i) => [x, ...Object.values(fig.series).map((values) => values[i])]) };
  if (fig.kind === "arcs") {
    const to = fig.sources.length ? fig.sources : fig.tokens;
    return { columns: [t("draw.from"), t("draw.to"), value], rows: fig.arcs.map(([a, b, weight]) => [fig.tokens[a], to[b], weight]) };
  }
  if (fig.kind === "strip") return { columns: [t("draw.place"), t("draw.token"), value], rows: fig.tokens.map((token, i) => [i, token, fig.values[i]]) };
  if (fig.kind === "scatter") return { columns: ["", words(fig.x_title) || "x", words(fig.y_title) || "y"], rows: fig.points };
  if (fig.kind === "tree") return { columns: [t("draw.place"), t("draw.parent"), t("draw.token"), value, t("draw.state")], rows: fig.nodes.map(([parent, name, v, state], i) => [i, parent, name, v, t(`draw.state.${state}`)]) };
  if (fig.kind === "flow") return { columns: [t("draw.place"), t("draw.step"), ""], rows: fig.steps.map(([name, what], i) => [i + 1, name, what]) };
  return fig;
}

/** @param {any} fig @returns {HTMLElement} */
export const twin = (fig) => table({ note: "", ...numbers(fig) });
