// The heads in rows: what each is labelled, its clearest score beside chance, and the pair that shows it best. A row is
// made once, and a few of them a frame; where the columns have no room, each row is a card.
import { h, put } from "../../core/h.js";
import { num } from "../../core/numbers.js";
import { word } from "../../core/shown.js";
import { placeOf, sorted, valueOf } from "./profile.js";

const STEP = 24; // rows that are shown at first, and with each wish for more
const A_FRAME = 6; // rows

const minus = (x) => num(x, 2).replace(/^-/, "−");

/** @param {any} ctx @param {(name: string, offset?: number) => string} named */
export function createTable(ctx, named) {
  const { store, t } = ctx;
  const heading = h("tr");
  const body = h("tbody");
  const scroll = h("div", { class: "head-scroll", tabindex: 0, role: "region", aria: { label: t("heads.table") } }, h("table", { class: "heads-table" }, h("thead", {}, heading), body));
  const legend = h("p", { class: "quiet fine" });
  const more = h("p", { class: "actions" });
  const el = h("div", { dataset: { testid: "heads-table" } }, legend, scroll, more);
  let count = STEP;
  let need = 0; // pixels that the columns take
  let turn = 0;
  let standing = Promise.resolve();
  let made = { profile: null, rows: new Map() }; // heads by name -> row and what changes in it

  const room = new ResizeObserver(fit);
  room.observe(scroll);
  function fit() {
    if (!el.classList.contains("cards")) need = scroll.scrollWidth;
    el.classList.toggle("cards", scroll.clientWidth < need);
  }

  function chips(row, where) {
    const all = new Map(where.flatMap((on) => (row.labels[on] ?? []).map((label) => [label, on])).reverse());
    const found = [...all].reverse().map(([label, on]) => {
      const [name, offset = "0"] = label.split(" ");
      return h("span", { class: `head-label${on === where[0] ? "" : " here"}`, tip: `heads.tip.${name}` }, named(name, Number(offset)));
    });
    return [row.idle && h("span", { class: "head-label idle", tip: "heads.tip.idle" }, t("heads.idle")), found.length || row.idle ? found : h("span", { class: "quiet" }, t("heads.unlabelled"))];
  }

  function score({ key, leading: { name, on, chance, above }, scores, offsets }, set) {
    const value = scores[on][name];
    return h("span", { class: "head-score", tip: `heads.tip.${name}` }, h("i", { class: "head-gauge", style: { "--share": String(Math.max(0, value)), "--chance": String(chance) } }),
      h("b", { class: "mono", dataset: { testid: `score-${key}`, value } }, minus(value)), named(name, offsets[on]),
      h("small", { class: "quiet", dataset: { testid: `above-${key}`, value: above } }, `${t(placeOf(`${name}/${on}`, set))} · ${t("heads.chance", { above: minus(above), p: num(chance, 2) })}`));
  }

  const evidence = ({ key, layer, head, evidence: found }) => (found ? h("button", {
    type: "button", class: "head-pair", aria: { label: t("heads.open", { head: key }) }, on: { click: () => store.set({ layer, head, token: found.from, kind: "raw", level: "token", view: "attention" }) },
  }, word(found.pair[0]), " ← ", word(found.pair[1]), " ", h("b", { class: "mono" }, num(found.weight, 2))) : "–");

  const short = (axis) => t(`heads.score.${axis.split("/")[0]}`);

  function make(row, { profile, theirs, vs, extra, set }) {
    const { key, layer, head } = row;
    const select = () => store.set({ layer, head });
    const beside = theirs?.get(key);
    const tick = h("input", { type: "checkbox", aria: { label: t("heads.without.cut", { name: key }) }, dataset: { testid: `cut-box-${key}` }, on: { change: () => {
      const cut = new Set(store.get().cut.split(",").filter(Boolean));
      cut[tick.checked ? "add" : "delete"](key);
      store.set({ cut: [...cut].join() });
    } } });
    const name = h("button", { type: "button", class: "mono", dataset: { testid: `head-${key}` }, on: { click: select } }, key);
    const line = h("tr", { dataset: { testid: `row-${key}` }, on: { click: (event) => event.target.closest("button, input") || select() } },
      h("td", {}, tick), h("th", { scope: "row" }, name), h("td", {}, chips(row, profile.where)), h("td", {}, score(row, set)),
      theirs && h("td", { dataset: { label: t("heads.column.beside", { name: vs }) } }, beside ? [chips(beside, profile.where), h("span", { class: "quiet" }, " · ", h("span", { class: "mono" }, minus(beside.scores[row.leading.on]?.[row.leading.name] ?? null)))] : "–"),
      h("td", {}, evidence(row)),
      extra.map((axis) => h("td", { class: "mono", dataset: { label: short(axis), value: valueOf(row, axis) ?? "" } }, minus(valueOf(row, axis)))));
    return { line, name, tick, idle: row.idle };
  }

  function headings({ sort, set, vs }, two, extra) {
    const own = t(`heads.on.${set}`);
    const head = (axis, text, tip, on) => {
      const order = { [axis]: "descending", [`-${axis}`]: "ascending" }[sort] ?? "none";
      const place = on && [" ", h("small", { class: "quiet" }, on)];
      return h("th", { scope: "col", aria: axis ? { sort: order } : {} }, axis ? h("button", { type: "button", class: "plain", tip, dataset: { testid: `sort-${axis}` }, on: { click: () => store.set({ sort: order === "descending" ? `-${axis}` : axis }) } },
        text, { none: "", descending: " ▼", ascending: " ▲" }[order]) : h("span", { tip }, text), place);
    };
    put(heading, head("", t("heads.column.cut"), "heads.tip.without"), head("place", t("heads.column.head")), head("", t("heads.column.labels"), "heads.tip.labels"), head("leading", t("heads.column.score"), "heads.tip.leading"),
      two && head("", t("heads.column.beside", { name: vs })), head("", t("heads.column.pair"), "heads.tip.pair", own),
      extra.map((axis) => head(axis, short(axis), `heads.tip.${axis.split("/")[0]}`, t(placeOf(axis, set)))));
  }

  /** @param {any} state @param {import("./profile.js").Profile} profile @param {import("./profile.js").Profile | null} other of the model beside
   * @returns {Promise<void>} until all rows stand */
  const draw = (...given) => { turn++; return standing = rise(...given); };

  async function rise(state, profile, other, chosen, extra) {
    if (made.profile !== profile) {
      made = { profile, rows: new Map(), theirs: other && new Map(other.rows.map((row) => [row.key, row])), extra, set: state.set, vs: state.vs };
      put(body);
      put(legend, profile.where.length > 1 && t("heads.legend", { random: t("heads.on.random"), text: t(`heads.on.${state.set}`) }));
    }
    const [mine, own] = [made, turn];
    const all = sorted(profile.rows, state.sort);
    count = Math.max(count, Math.ceil((all.findIndex((row) => row.key === chosen) + 1) / STEP) * STEP);
    const rows = all.slice(0, count);
    const focus = el.contains(document.activeElement) && document.activeElement.dataset.testid;
    headings(state, other, extra);
    for (let n = 0; rows.some((row) => !mine.rows.has(row.key)); n++) {
      if (n) await new Promise(requestAnimationFrame);
      if (own !== turn) return standing; // another was asked for meanwhile
      for (const row of rows.filter((one) => !mine.rows.has(one.key)).slice(0, A_FRAME)) {
        mine.rows.set(row.key, make(row, mine));
        body.append(mine.rows.get(row.key).line);
      }
    }
    const cut = new Set(state.cut.split(","));
    const lines = rows.map(({ key }) => {
      const { line, name, tick, idle } = mine.rows.get(key);
      line.className = key === chosen ? "chosen" : idle ? "idle" : "";
      name.setAttribute("aria-pressed", String(key === chosen));
      tick.checked = cut.has(key);
      return line;
    });
    if (lines.length !== body.children.length || lines.some((line, n) => line !== body.children[n])) body.replaceChildren(...lines);
    put(more, all.length > count && ctx.button(t("heads.more", { shown: count, all: all.length }), () => { count += 2 * STEP; draw(store.get(), profile, other, chosen, extra); }, { dataset: { testid: "more-heads" } }));
    if (focus && !el.contains(document.activeElement)) /** @type {HTMLElement} */ (el.querySelector(`[data-testid="${focus}"]`))?.focus();
    return fit();
  }

  return { el, draw, stop: () => room.disconnect() };
}
