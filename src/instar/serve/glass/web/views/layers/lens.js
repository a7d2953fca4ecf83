// The lens: what each layer would say at each place if the model ended there. A table of its own, so it needs no twin.
import { domain, look, shade } from "../../core/colour.js";
import { h, put } from "../../core/h.js";
import { num, percent } from "../../core/numbers.js";
import { shown, word } from "../../core/shown.js";
import { at } from "../../core/strip.js";
import { id, likely, sides } from "../sides.js";

const MOST = 32; // places that are drawn: those around the selected one
const MODES = ["p", "kl", "rank", "entropy"];

/** @param {any} record @param {any} ctx @returns {{root: HTMLElement, mark: () => void}} */
export function lens(record, ctx) {
  const { store, t } = ctx;
  look();
  const grids = sides(record).map((side) => grid(side, ctx));
  const modes = MODES.map((mode) => ctx.button(t(`layers.mode.${mode}`), () => store.set({ lens: mode }), { tip: `layers.tip.${mode}`, dataset: id(`lens-mode-${mode}`), disabled: !grids[0].has(mode) }));
  function mark() {
    modes.forEach((el, n) => el.setAttribute("aria-pressed", String(MODES[n] === (store.get().lens ?? "p"))));
    grids.forEach((one) => one.mark());
  }
  mark();
  requestAnimationFrame(() => grids.forEach((one) => one.mark())); // once it is on the page it can be scrolled to the selection
  return { mark, root: h("div", { class: "view" }, h("div", { class: "toolbar" }, h("div", { class: "segments", role: "group", aria: { label: t("layers.mode") } }, modes), h("span", { class: "quiet" }, t("layers.key"))), grids.map((one) => one.root)) };
}

function grid(side, { store, t, say }) {
  const { top, rows, places: [start, stop], settled, tokens } = side.data;
  const arrays = Object.fromEntries(["kl", "rank", "final", "entropy"].map((name) => [name, side.at(name)]));
  const last = rows.length - 1;
  const table = h("table", { class: "lens", dataset: id("lens") });
  const readout = h("div", { class: "readout", dataset: id("readout") });
  const has = (mode) => mode === "p" || Boolean(arrays[mode]);
  const exact = (mode, row, n) => (mode === "p" ? top[row][n][0].p : arrays[mode][row][n]);
  // of ranks the logarithm is coloured
  const value = (mode, row, n) => (mode === "rank" ? Math.log10(exact(mode, row, n)) : exact(mode, row, n));
  const name = (row) => (row ? String(row - 1) : t("layers.in"));
  let drawn = "";

  function draw(mode, from, to) {
    const ends = mode === "p" ? [0, 1] : domain(rows.flatMap((_, row) => settled.map((_, n) => value(mode, row, n))), "plain");
    const places = Array.from({ length: to - from }, (_, n) => from + n);
    put(table, h("tbody", {}, rows.map((_, n) => last - n).map((row) => h("tr", {}, h("th", { scope: "row", dataset: { row } }, name(row)), places.map((token) => {
      const n = token - start;
      return h("td", { class: row === settled[n] ? "settles stays" : row > settled[n] ? "stays" : "", text: shown(top[row][n][0].piece), dataset: { ...id(`cell-${row}-${token}`, exact(mode, row, n)), row, token },
        style: shade(value(mode, row, n), mode === "p" ? "share" : "plain", ends) });
    })))), h("tfoot", {}, h("tr", {}, h("th", {}, t("layers.reads")), places.map((token) => h("th", { scope: "col", dataset: { token } }, shown(tokens[token].piece))))));
  }

  function mark() {
    const state = store.get();
    const mode = MODES.includes(state.lens) && has(state.lens) ? state.lens : "p";
    const token = Math.max(start, Math.min(at(state), stop - 1));
    const row = state.layer < 0 || state.layer >= last ? last : state.layer + 1;
    const from = Math.max(start, Math.min(token - MOST / 2, stop - MOST));
    const to = Math.min(stop, from + MOST);
    if (drawn !== (drawn = `${mode}:${from}`)) draw(mode, from, to);
    table.querySelectorAll(".at").forEach((el) => el.classList.remove("at"));
    table.querySelectorAll(`th[data-token="${token}"], th[data-row="${row}"], td[data-row="${row}"][data-token="${token}"]`).forEach((el) => el.classList.add("at"));
    const box = table.parentElement;
    const cell = table.querySelector("td.at");
    if (box && (cell.offsetLeft < box.scrollLeft + 60 || cell.offsetLeft + cell.offsetWidth > box.scrollLeft + box.clientWidth)) box.scrollLeft = cell.offsetLeft - box.clientWidth / 2;
    read(row, token);
    const best = top[row][token - start][0];
    say(t("layers.say", { row: name(row), token: shown(tokens[token].piece), top: shown(best.piece), p: percent(best.p) }));
  }

  /** The five likeliest of a cell, and how it stands to the end. */
  function read(row, token) {
    const n = token - start;
    const answer = top[last][n][0];
    const fact = (key, text) => arrays[key] && h("div", { tip: `layers.tip.${key}` }, h("dt", {}, t(`layers.fact.${key}`)), h("dd", { class: "mono", dataset: id(`fact-${key}`, exact(key, row, n)) }, text(exact(key, row, n))));
    const nats = (x) => `${num(x)} nat`;
    put(readout, h("h3", {}, row ? t("layers.after", { n: row - 1 }) : t("layers.before"), " ", word(tokens[token].piece)),
      likely(top[row][n], "top", (one) => store.set({ token, explain: one.id === answer.id ? "" : store.get().trace.caps.text === false ? String(one.id) : one.piece })),
      h("dl", { class: "lens-facts" }, fact("kl", nats), fact("rank", num), fact("final", percent), fact("entropy", nats)),
      h("p", { class: "settled", dataset: id("settled", settled[n]) }, t(settled[n] ? "layers.settled" : "layers.settled.in", { n: settled[n] - 1 }), " ", word(answer.piece, { class: "strong" })));
  }

  table.addEventListener("pointerover", ({ target }) => target.matches("td") && read(Number(target.dataset.row), Number(target.dataset.token)));
  table.addEventListener("pointerleave", mark);
  table.addEventListener("click", ({ target: { dataset: { row, token } } }) => store.set({ ...(token && { token: Number(token) }), ...(row > 0 && { layer: row - 1 }) }));
  return { mark, has, root: h("div", { class: "lens-pair" }, h("div", {}, side.name ? h("h3", {}, side.name) : null,
    h("div", { class: "lens-scroll", role: "region", tabindex: "0", aria: { label: t("layers.lens") } }, table),
    stop - start > MOST ? h("p", { class: "quiet" }, t("layers.window", { n: MOST, all: stop - start })) : null), readout) };
}
