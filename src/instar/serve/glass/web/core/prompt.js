// The text that is looked at.
import { h, put } from "./h.js";
import { t } from "./i18n.js";
import { bytes, num } from "./numbers.js";
import { modelOf } from "./tracing.js";

/** @param {HTMLFormElement} root @param {any} store @param {{run: Function, stop: Function}} tracing */
export function mountPrompt(root, store, tracing) {
  const field = h("textarea", { rows: 1, dataset: { testid: "text" }, autocomplete: "off", spellcheck: "false", on: { keydown: enter, input: grow, focus: grow, blur: grow } });
  const target = h("input", { type: "text", dataset: { testid: "target" }, autocomplete: "off", on: { keydown: enter } });
  const chat = h("input", { type: "checkbox", dataset: { testid: "as-chat" }, on: { change: () => store.set({ chat: Number(chat.checked) }) } });
  const asChat = h("label", { class: "check", tip: "glossary.chat" }, chat, " ", h("span", { dataset: { text: "prompt.chat" } }));
  const stop = h("button", { type: "button", dataset: { testid: "stop", text: "state.cancel" }, on: { click: () => tracing.stop() } });
  const go = h("button", { class: "primary", dataset: { testid: "run", text: "prompt.run" } });
  const hole = h("button", { type: "button", dataset: { testid: "hole" }, on: { click: () => {
    field.setRangeText(modelOf(store.get()).mask, field.selectionStart, field.selectionEnd, "end");
    field.focus();
    grow();
  } } });
  const status = h("span", { class: "status quiet", dataset: { testid: "status" }, aria: { live: "polite" } });

  put(root, field, target, hole, asChat, stop, go, status);

  function enter(event) {
    // Enter that ends an input method's composition chooses a word and sends nothing
    if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
    event.preventDefault();
    submit();
  }

  function grow() {
    field.style.height = "auto";
    // a long text that nobody edits leaves its room to the view
    if (document.activeElement === field) field.style.height = `${Math.min(160, field.scrollHeight + 2)}px`;
  }

  function submit() {
    const same = store.get().text === field.value && store.get().target === target.value && !store.get().ids;
    store.set({ text: field.value, target: target.value, ids: "", ...(same ? {} : { token: -1 }) });
    if (same) tracing.run();
  }

  root.addEventListener("submit", (event) => { event.preventDefault(); submit(); });

  function draw(state) {
    root.hidden = state.view === "chat" || state.view === "training";
    const model = modelOf(state);
    const loading = state.status.state === "loading";
    // nothing is taken off the page while it may be composed in
    if (document.activeElement !== field) field.value = state.ids ? "" : state.text;
    if (document.activeElement !== target) target.value = state.target;
    chat.checked = Boolean(state.chat);
    field.placeholder = state.ids ? t("prompt.ids", { n: state.ids.split(/[\s,]+/).length }) : t("prompt.text");
    field.setAttribute("aria-label", t("prompt.text"));
    target.placeholder = t("prompt.target");
    target.setAttribute("aria-label", t("prompt.target"));
    for (const el of root.querySelectorAll("[data-text]")) el.textContent = t(el.dataset.text);
    target.hidden = model?.kind !== "encoder-decoder";
    asChat.hidden = !model?.caps?.chat;
    hole.hidden = !model?.caps.mask || !model.mask;
    hole.textContent = t("prompt.hole", { mask: model?.mask });
    stop.hidden = !loading;
    go.hidden = loading;
    status.textContent = said(state);
    grow();
  }

  function said({ status: now, trace }) {
    if (now.state === "loading") return t("status.loading");
    if (now.state === "error") return t("status.error");
    if (!trace) return "";
    return t("status.ready", { n: trace.n_tokens, bytes: bytes(trace.bytes), seconds: num(now.seconds ?? 0, 2) });
  }

  store.on(["view", "status", "trace", "models", "model", "spoken", "text", "target", "chat", "ids"], draw);
  return { draw, focus: () => { field.focus(); field.select(); } };
}
