// How tokens are chosen: one set of figures for chat and generation, kept in the link.
// data-testid: settings, set-NAME (its input)
import { h, put } from "../../core/h.js";
import { t } from "../../core/i18n.js";
import { button } from "../../core/states.js";
import { declare, read } from "../../core/url.js";

// name in the link -> the option's name, usual value, least, most, step
const FIGURES = {
  temp: ["temperature", 0.8, 0, 2, 0.05], topk: ["top_k", 0, 0, 200, 1], topp: ["top_p", 0.95, 0, 1, 0.01],
  minp: ["min_p", 0, 0, 1, 0.01], rep: ["repetition_penalty", 1, 0.5, 2, 0.05], most: ["max_new_tokens", 128, 1, 512, 1],
  seed: ["seed", 0, 0, 2 ** 31, 1],
};
export const RULES = { temperature: "temp", top_k: "topk", top_p: "topp", min_p: "minp", penalties: "rep" };

const usual = Object.fromEntries(Object.entries(FIGURES).map(([key, [, value]]) => [key, value]));
declare(usual);

/** What the link says of them, where the page was opened before they were known. @param {any} store */
export function adopt(store) {
  const said = read(location.hash);
  const fresh = Object.keys(usual).filter((key) => store.get()[key] === undefined);
  store.set(Object.fromEntries(fresh.map((key) => [key, said[key]])));
  return store.on(Object.keys(usual), () => {}); // so that a view that is left leaves nothing behind
}

const clamp = (key, value) => Math.max(FIGURES[key][2], Math.min(FIGURES[key][3], value));
const figure = (state, key) => clamp(key, Number(state[key] ?? usual[key]));

/** As the API is asked. @param {any} state of the store @param {Object<string, number>} [instead] */
export function sampling(state, instead = {}) {
  const asked = {};
  for (const [key, [name]] of Object.entries(FIGURES)) if (key !== "seed") asked[name] = figure(state, key);
  return { ...asked, ...instead };
}

export const seed = (state) => figure(state, "seed");

/** The same as a query of a panel. @param {any} state @param {Object<string, any>} [instead] */
export const query = (state, instead) =>
  Object.fromEntries(Object.entries(sampling(state, instead)).map(([name, value]) => [`sampling.${name}`, value]));

/** One figure as a slider and a field. @param {any} store @param {string} key of the link @param {boolean} [slides] */
export function slider(store, key, slides = true) {
  const [name, , least, most, step] = FIGURES[key];
  const set = (event) => event.target.value !== "" && store.set({ [key]: clamp(key, Number(event.target.value)) });
  const shared = { min: least, max: most, step, value: figure(store.get(), key), aria: { label: t(`sampling.${name}`) }, on: { input: set } };
  const range = slides && h("input", { type: "range", ...shared });
  const field = h("input", { type: "number", ...shared, dataset: { testid: `set-${key}` } });
  const el = h("label", { class: `figure${slides ? "" : " bare"}` }, h("span", { tip: `glossary.${name}` }, t(`sampling.${name}`)), range, field);
  return { el, draw(state) {
    const value = String(figure(state, key));
    if (range && range.value !== value) range.value = value;
    if (field !== document.activeElement && field.value !== value) field.value = value;
  } };
}

/** All of them, folded away. @param {any} store @returns {{el: HTMLElement, off: Function}} */
export function settings(store, { open = false } = {}) {
  const all = Object.keys(FIGURES).map((key) => slider(store, key, !["most", "seed"].includes(key)));
  const said = h("span", { class: "quiet mono" });
  const el = h("details", { class: "settings", open, dataset: { testid: "settings" } },
    h("summary", {}, h("span", {}, t("sampling.title")), said), all.map((one) => one.el),
    button(t("sampling.usual"), () => store.set(usual), { class: "plain" }));
  const draw = (state) => {
    all.forEach((one) => one.draw(state));
    const changed = Object.entries(FIGURES).filter(([key, [name]]) => name !== "seed" && (figure(state, key) !== usual[key] || key === "temp"));
    put(said, changed.map(([key, [name]]) => `${t(`sampling.short.${name}`)} ${figure(state, key)}`).join(" · "));
  };
  draw(store.get());
  return { el, off: store.on(Object.keys(usual), draw) };
}
