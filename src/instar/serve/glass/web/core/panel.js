// A panel as the API records it: title, figures, what a reader must know, and the proofs.
import { chips } from "./chips.js";
import { figure, flipTables } from "./draw/index.js";
import { save } from "./draw/save.js";
import { h } from "./h.js";
import { t, words } from "./i18n.js";

const CHOSEN = ["layer", "head", "token"];
// they want the whole width; others share a line where there is room
const WIDE = new Set(["table", "cells", "tree", "arcs", "strip", "flow"]);

/** @param {any} record @param {any} ctx of the view: pick, peek, selected and say go to the figures; without them what is picked
 * becomes the selection of the page @param {{figures?: number[] | ((fig: any, i: number) => boolean), title?: string | null, chips?: boolean, notes?: boolean}} [how]
 * @returns {HTMLElement} with select(selected) */
export function panel(record, ctx = {}, { figures, title, chips: proofs = true, notes = true } = {}) {
  const { store } = ctx;
  const pick = ctx.pick ?? (store && ((what, fig) => {
    const own = Object.fromEntries(CHOSEN.filter((key) => what[key] >= 0).map((key) => [key, what[key]]));
    // places of another text than the one that is looked at select nothing
    if ("token" in own && [fig.tokens, fig.columns].every((list) => list?.length !== store.get().trace?.tokens?.length)) delete own.token;
    if (Object.keys(own).length) store.set(own);
  }));
  const chosen = (state) => Object.fromEntries(CHOSEN.filter((key) => state[key] >= 0).map((key) => [key, state[key]]));
  const own = { say: ctx.say, peek: ctx.peek, pick, selected: ctx.selected ?? (store && chosen(store.get())) };
  const wanted = record.figures.filter((fig, i) => (typeof figures === "function" ? figures(fig, i) : !figures || figures.includes(i)));
  const drawn = wanted.map((fig) => {
    const el = figure(fig, { ...own });
    if (WIDE.has(fig.kind) || (fig.kind === "matrix" && (fig.values?.[0]?.length ?? 0) > 24)) el.classList.add("wide");
    return el;
  });
  const act = (key, does) => h("button", { type: "button", on: { click: (event) => { event.target.closest("details").open = false; does(); } } }, t(key));
  const json = () => JSON.stringify(record, null, 1);
  const menu = h("details", { class: "menu", on: { keydown: (event) => { if (event.key === "Escape") { menu.open = false; menu.firstChild.focus(); } }, focusout: (event) => { if (!menu.contains(event.relatedTarget)) menu.open = false; } } },
    h("summary", { aria: { label: t("draw.menu") }, title: t("draw.menu") }, "⋯"),
    h("div", {}, act("draw.tables", () => flipTables(el)), act("draw.copy", () => navigator.clipboard?.writeText(json()).then(() => ctx.say?.(t("draw.copied")))),
      act("draw.json", () => save(`${record.view}.json`, new Blob([json()], { type: "application/json" }))), act("draw.pictures", () => drawn.forEach((one) => one.keep()))));
  const proof = proofs && chips(record.checks);
  // without a title the menu stands beside what comes first, so that it has no row of its own
  if (title === null && drawn.length) drawn[0].querySelector(".tools").append(menu);
  const beside = title === null && !drawn.length;
  const el = h("section", { class: "panel", dataset: { testid: `panel-${record.view}`, green: String(record.green) } },
    title === null ? null : h("header", {}, h("h2", {}, title ?? words(record.title)), menu),
    drawn.length ? h("div", { class: drawn.length === 1 ? "figures one" : "figures" }, drawn) : null,
    notes && record.notes.length ? h("ul", { class: "notes" }, record.notes.map((note) => h("li", {}, words(note)))) : null,
    beside ? h("header", {}, proof || h("span"), menu) : proof);
  const select = (to) => drawn.forEach((one) => one.select(to));
  if (store && !ctx.selected) {
    let met = false;
    const off = store.on(CHOSEN, (state) => {
      met ||= el.isConnected;
      if (met && !el.isConnected) off(); // the view has gone
      else select(chosen(state));
    });
  }
  return Object.assign(el, { select });
}
