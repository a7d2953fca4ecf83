// The keys, in a window of their own.
import { h, put } from "./h.js";
import { t } from "./i18n.js";

const KEYS = [
  ["1 – 8", "views"], ["← →", "token"], ["↑ ↓", "layer"], ["[ ]", "head"], ["Space", "step"], ["Enter", "run"], ["c", "compare"],
  ["d", "table"], ["/", "prompt"], ["Esc", "escape"], ["?", "help"],
];

/** @param {any} store */
export function mountHelp(store) {
  const dialog = /** @type {HTMLDialogElement} */ (h("dialog", { dataset: { testid: "help-dialog" }, aria: { labelledby: "help-title" } }));
  document.body.append(dialog);
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());

  function toggle() {
    if (dialog.open) return dialog.close();
    put(dialog, h("h2", { id: "help-title" }, t("help.title")),
      h("dl", { class: "keys" }, KEYS.map(([key, name]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, t(`help.${name}`))])),
      h("p", { class: "quiet" }, t("help.about")),
      h("p", { class: "actions" }, h("button", { type: "button", class: "primary", on: { click: () => { dialog.close(); store.set({ tour: 1 }); } } }, t("header.tour")),
        h("button", { type: "button", autofocus: true, on: { click: () => dialog.close() } }, t("help.close"))));
    return dialog.showModal();
  }

  return { toggle, close: () => { const was = dialog.open; if (was) dialog.close(); return was; } };
}
