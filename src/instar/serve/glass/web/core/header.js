// Which model is looked at, and beside which; language, light and help.
import { h, put } from "./h.js";
import { t } from "./i18n.js";

/** @param {Element} root @param {any} store @param {Object<string, Function>} does */
export function mountHeader(root, store, does) {
  function draw(state) {
    const models = state.models?.models ?? [];
    const served = state.models?.served ?? "";
    const model = models.find((one) => one.id === (state.model || served));
    const choice = (testid, label, tip, value, options, changed) => h("label", { class: "choice" }, h("span", {}, label),
      h("select", { dataset: { testid }, tip, aria: { label }, on: { change: (event) => changed(event.target.value) } },
        options.map(([id, text, off]) => h("option", { value: id, selected: id === value, disabled: off }, text))));
    const asked = state.model || served;
    const named = (model || !asked ? [] : [[asked, `${asked} ?`]]).concat(models.map((one) => [one.id, one.loaded ? `${one.id} ●` : one.id, Boolean(one.why)]));
    const focused = document.activeElement?.dataset?.testid;
    put(root,
      h("span", { class: "brand" }, h("span", { class: "mark", aria: { hidden: "true" } }, "◇"), " Instar"),
      h("h1", { class: "unseen" }, t("page.title")),
      models.length ? choice("model", t("header.model"), "glossary.model", state.model || served, named,
        (id) => store.set({ model: id === served ? "" : id, adapter: "", layer: -1, head: -1 })) : null,
      model?.adapters?.length ? choice("adapter", t("header.adapter"), "glossary.adapter", state.adapter,
        [["", "–"], ...model.adapters.map((one) => [one, one])], (id) => store.set({ adapter: id })) : null,
      models.length > 1 || state.adapter ? choice("vs", t("header.vs"), "glossary.vs", state.vs,
        [["", t("header.alone")], ...(state.adapter ? [["base", t("header.base")]] : []), ...named.filter(([id]) => id !== (state.model || served))],
        (id) => store.set({ vs: id })) : null,
      h("span", { class: "spring" }),
      h("button", { type: "button", dataset: { testid: "tour" }, on: { click: () => store.set({ tour: 1 }) } }, t("header.tour")),
      h("button", { type: "button", class: "icon", dataset: { testid: "lang" }, lang: state.lang === "zh" ? "en" : "zh-Hans", aria: { label: t("header.lang") }, on: { click: does.language } }, state.lang === "zh" ? "EN" : "中"),
      h("button", { type: "button", class: "icon", dataset: { testid: "theme" }, aria: { label: t("header.theme") }, on: { click: does.theme } }, "◐"),
      h("button", { type: "button", class: "icon", dataset: { testid: "help" }, aria: { label: t("header.help") }, on: { click: does.help } }, "?"));
    if (focused) /** @type {HTMLElement | null} */ (root.querySelector(`[data-testid="${focused}"]`))?.focus();
  }
  store.on(["models", "model", "adapter", "vs", "spoken", "theme"], draw);
  return { draw };
}
