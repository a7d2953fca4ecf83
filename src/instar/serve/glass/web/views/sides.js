// What views of a text have in common: panels of one model or two, asking anew when it is time, and lists of tokens.
import { h, put } from "../core/h.js";
import { t } from "../core/i18n.js";
import { percent } from "../core/numbers.js";
import { word } from "../core/shown.js";

/** The models that a panel tells of: one without a name, or with `vs` two. at(name): the numbers of an array.
 * @param {any} record @returns {{name: string, data: any, at: (name: string) => any}[]} */
export function sides({ data, arrays }) {
  const side = (name, own, before) => ({ name, data: own, at: (array) => arrays[before + array]?.values ?? null });
  return data.one ? [side(data.names[0], data.one, "one/"), side(data.names[1], data.other, "other/")] : [side("", data, "")];
}

/** A box that asks for what it shows. On load() what was asked before is called off, and old numbers stay, pale, until
 * new ones are there. @param {any} ctx @param {any} how what: is said meanwhile; again: a button that asks anew;
 * ask(signal); draw(box, found); anything else goes to the box */
export function asking(ctx, { what, ask, draw, again = what, ...props }) {
  const box = h("div", { class: "view", ...props });
  let running = new AbortController();
  let full = false;
  async function load() {
    running.abort();
    running = new AbortController();
    const { signal } = running;
    const end = full ? null : ctx.wait(box, what, () => { running.abort(); put(box, ctx.button(again, load)); });
    box.setAttribute("aria-busy", String(full));
    try {
      // a token that is passed by in a hurry is not asked about
      if (full) await new Promise((go) => setTimeout(go, 120));
      const found = signal.aborted ? null : await ask(signal);
      if (signal.aborted) return;
      full = true;
      draw(put(box), found);
    } catch (error) {
      if (signal.aborted) return;
      full = false;
      ctx.fail(box, error, load);
    } finally {
      end?.();
      if (!signal.aborted) box.setAttribute("aria-busy", "false");
    }
  }
  return { box, load, stop: () => running.abort() };
}

/** A part of a view under a heading. */
export const section = (title, about, ...children) => h("section", { class: "part" },
  h("h2", {}, title), h("p", { class: "quiet about" }, about), children);

/** What a test reads of an element. */
export const id = (testid, value) => (value === undefined ? { testid } : { testid, value });

/** A check of the page's own; its words are VIEW.check.NAME. @param {string} view @param {string} name @param {number} gap @param {number} limit */
export const check = (view, name, gap, limit = 0) => ({ name, gap, limit, green: gap <= limit, about: t(`${view}.check.${name}`) });

const SPELT = /^<[0-9A-F]{2}( [0-9A-F]{2})*>$/; // bytes that no text stands for

/** Tokens with their probability; those that a text can name may be picked. @param {any[]} list @param {string} before of the testid @param {Function} [pick] */
export const likely = (list, before, pick) => h("ol", { class: "nexts" }, list.map((one) => h("li", { dataset: id(`${before}-${one.id}`, one.p) },
  pick && !SPELT.test(one.piece) ? h("button", { type: "button", class: "plain piece", on: { click: () => pick(one) } }, word(one.piece)) : word(one.piece, { class: "piece" }),
  h("span", { class: "bar", style: { "--share": String(one.p) } }), h("span", { class: "mono" }, percent(one.p)))));
