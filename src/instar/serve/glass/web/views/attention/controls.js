// Switches of Attention and Heads: one of several, one step more or less.
import { h } from "../../core/h.js";

/** @param {string} label @param {string} value @param {string[][]} options value, text, key of what it means
 * @param {(value: string) => void} pick @param {string} testid */
export const segments = (label, value, options, pick, testid) => h("span", { class: "segments", role: "group", aria: { label } },
  options.map(([is, text, tip]) => h("button", { type: "button", aria: { pressed: String(is === value) }, tip, dataset: { testid: `${testid}-${is}` }, on: { click: () => pick(is) } }, text)));

/** @param {string} label @param {number} value @param {[number, number]} ends @param {(value: number) => void} pick
 * @param {{testid: string, tip: string, shown?: string}} how */
export function stepper(label, value, [least, most], pick, { testid, tip, shown = String(value) }) {
  const step = (to, sign) => h("button", { type: "button", class: "icon", disabled: to < least || to > most, aria: { label: `${label} ${sign}` }, dataset: { testid: `${testid}${sign}` }, on: { click: () => pick(to) } }, sign);
  return h("span", { class: "stepper", role: "group", aria: { label } }, h("span", { class: "quiet", tip }, label),
    step(value - 1, "−"), h("output", { class: "mono", dataset: { testid, value } }, shown), step(value + 1, "+"));
}

/** The stacks of an encoder-decoder. @param {any} ctx @param {any} is what is seen */
export const stacks = ({ store, t }, is) => is.two && segments(t("attention.side"), is.side, ["encoder", "cross", "decoder"].map((one) => [one, t(`attention.side.${one}`)]),
  (side) => store.set({ side, layer: -1, zoom: "", ...(side === "cross" && store.get().kind === "rollout" ? { kind: "raw" } : {}) }), "side");

/** A field of words that are entities. @param {any} ctx @param {string} testid */
export function entities({ store, t }, testid) {
  const field = /** @type {HTMLInputElement} */ (h("input", { type: "text", placeholder: t("attention.lift.words"), aria: { label: t("attention.lift.title") }, dataset: { testid } }));
  const el = h("form", { class: "row", on: { submit: (event) => { event.preventDefault(); store.set({ entities: field.value.trim() }); } } },
    h("span", { class: "quiet", tip: "attention.tip.lift" }, t("attention.lift.title")), field, h("button", {}, t("attention.lift.mark")));
  return { el, draw: () => { if (document.activeElement !== field) field.value = store.get().entities; } };
}
