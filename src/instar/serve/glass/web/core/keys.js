// The keyboard of the whole page. What is typed into a field, and what an input method composes, is nobody else's.
import { VIEWS } from "./registry.js";

/** Whether an event is typing. @param {KeyboardEvent} event */
export function typing(event) {
  const el = event.target instanceof Element ? event.target : null;
  return event.isComposing || event.keyCode === 229
    || Boolean(el?.closest("input:not([type=checkbox]):not([type=radio]):not([type=range]), textarea, select, [contenteditable]"));
}

/** @param {ReturnType<import("./store.js").createStore>} store
 * @param {Object<string, Function>} does focusPrompt, run, help, escape, and own(): the keys of the view that is open */
export function startKeys(store, does) {
  const counts = (state) => {
    const trace = state.trace;
    const layers = state.side === "encoder" ? trace?.shape.encoder_layers : trace?.shape.layers;
    return { tokens: trace?.tokens.length ?? 0, layers: layers ?? 0, heads: trace?.shape.heads ?? 0 };
  };
  const step = (key, by, least, size) => {
    const now = store.get()[key];
    const from = now < 0 && key !== "head" ? size - 1 : now;
    store.set({ [key]: Math.max(least, Math.min(size - 1, from + by)) });
  };
  const moves = {
    ArrowLeft: (n) => n.tokens && step("token", -1, 0, n.tokens),
    ArrowRight: (n) => n.tokens && step("token", 1, 0, n.tokens),
    ArrowUp: (n) => n.layers && step("layer", 1, 0, n.layers),
    ArrowDown: (n) => n.layers && step("layer", -1, 0, n.layers),
    "[": (n) => n.heads && step("head", -1, -1, n.heads),
    "]": (n) => n.heads && step("head", 1, -1, n.heads),
  };
  const plain = { "/": does.focusPrompt, "?": does.help, c: does.compare, d: does.table };

  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape" && !event.isComposing) return does.escape(event, typing(event));
    if (typing(event) || document.querySelector("dialog[open]")) return;
    const own = does.own()?.[event.key];
    const on = event.target instanceof Element ? event.target : document.body;
    const presses = (event.key === " " || event.key === "Enter") && on.closest("button, a, summary, [role=button], [role=tab], input");
    if (presses) return;
    const view = VIEWS.find((one) => one.key === event.key);
    const act = own ?? (view && (() => store.set({ view: view.id })))
      ?? (on.closest("[role=slider], input") ? undefined : moves[event.key] && (() => moves[event.key](counts(store.get()))))
      ?? plain[event.key] ?? (event.key === "Enter" ? does.run : undefined);
    if (!act) return;
    event.preventDefault();
    act(event);
  });
}
