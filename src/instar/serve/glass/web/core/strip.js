// The spine of the page: the tokens of the text, one of which is selected for all views.
import { h, put } from "./h.js";
import { t } from "./i18n.js";
import { num } from "./numbers.js";
import { word } from "./shown.js";

const MOST = 400; // tokens that stand on the page at a time: those around the selected one

/** @param {Element} root @param {any} store */
export function mountStrip(root, store) {
  let drawn = null; // what the row shows now
  let peeked = -1;

  function select(i) {
    store.set({ token: i });
  }

  function chip(token, state) {
    const chosen = token.i === at(state);
    const label = `${t("strip.token", { i: token.i })} ${token.text}`;
    return h("button", {
      type: "button", class: `token${token.special ? " special" : ""}${token.part[1] > 1 ? " part" : ""}`, role: "option",
      aria: { selected: String(chosen), label }, tabindex: chosen ? 0 : -1,
      dataset: { testid: `token-${token.i}`, value: token.id, i: token.i }, on: { click: () => select(token.i) },
      style: { "--surprise": String(Math.min(1, (token.surprise ?? 0) / 8)) },
    }, word(token.text), h("small", { class: "mono", aria: { hidden: "true" } }, token.id));
  }

  function draw(state) {
    const { trace } = state;
    root.hidden = !trace || state.view === "chat" || state.view === "training";
    if (!trace) { drawn = null; return put(root); }
    const chosen = at(state);
    const first = Math.max(0, Math.min(chosen - MOST / 2, trace.tokens.length - MOST));
    const key = `${trace.trace}:${first}`;
    if (drawn?.key === key && drawn.trace === trace) return mark(state);
    const source = trace.source?.length ? h("div", { class: "tokens source", aria: { label: t("strip.source") } },
      trace.source.slice(0, MOST).map((token) => h("span", { class: "token", dataset: { testid: `source-${token.i}`, value: token.id } }, word(token.text)))) : null;
    const row = h("div", { class: "tokens", role: "listbox", aria: { label: t("strip.tokens"), orientation: "horizontal" }, on: { keydown: keys } },
      trace.tokens.slice(first, first + MOST).map((token) => chip(token, state)));
    const more = trace.tokens.length > MOST ? h("p", { class: "quiet" }, t("strip.window", { first, last: Math.min(first + MOST, trace.tokens.length) - 1, all: trace.tokens.length })) : null;
    put(root, source, row, more, h("p", { class: "pinned", dataset: { testid: "pinned" } }));
    drawn = { key, trace, row };
    mark(state);
  }

  function mark(state) {
    const chosen = at(state);
    for (const el of drawn.row.children) {
      const is = Number(el.dataset.i) === chosen;
      if ((el.getAttribute("aria-selected") === "true") !== is) {
        el.setAttribute("aria-selected", String(is));
        el.tabIndex = is ? 0 : -1;
        if (is && drawn.row.contains(document.activeElement)) el.focus();
      }
      if (is && drawn.seen !== chosen) {
        drawn.seen = chosen;
        drawn.row.scrollTop = el.offsetTop - drawn.row.offsetTop - drawn.row.clientHeight / 2;
      }
    }
    const token = state.trace.tokens[peeked >= 0 ? peeked : chosen];
    if (token) put(root.querySelector(".pinned"), facts(token));
  }

  function keys(event) {
    const size = store.get().trace.tokens.length;
    const to = { Home: 0, End: size - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    select(to);
  }

  root.addEventListener("pointerover", (event) => {
    const el = event.target instanceof Element ? event.target.closest("[data-i]") : null;
    const now = el ? Number(el.dataset.i) : -1;
    if (now !== peeked && drawn) { peeked = now; mark(store.get()); }
  });
  root.addEventListener("pointerleave", () => { if (drawn && peeked >= 0) { peeked = -1; mark(store.get()); } });
  return { draw, off: store.on(["trace", "token", "view", "spoken"], (state, changed) => {
    if (changed.has("spoken")) drawn = null;
    draw(state);
  }) };
}

/** The place of the selected token; -1 stands for the last. @param {any} state */
export function at(state) {
  const size = state.trace?.tokens.length ?? 0;
  return state.token < 0 ? size - 1 : Math.min(state.token, size - 1);
}

/** @param {string} b64 @returns {Uint8Array} */
export const raw = (b64) => Uint8Array.from(atob(b64), (c) => c.charCodeAt(0));

function facts(token) {
  const bytes = token.b64 ? [...raw(token.b64)].map((b) => b.toString(16).toUpperCase().padStart(2, "0")).join(" ") : "";
  const said = [
    h("span", { tip: "glossary.place" }, `#${token.i}`), word(token.text, { class: "strong" }),
    h("span", { tip: "glossary.id", dataset: { testid: "pinned-id", value: token.id } }, `id ${token.id}`),
    bytes && h("span", { class: "mono", tip: "glossary.bytes" }, bytes),
    token.part[1] > 1 && h("span", { tip: "glossary.part" }, t("strip.part", { k: token.part[0], n: token.part[1] })),
    token.surprise !== null && token.surprise !== undefined
      && h("span", { tip: "glossary.surprise" }, t("strip.surprise", { nats: num(token.surprise, 2) })),
  ].filter(Boolean);
  return said.flatMap((one, i) => (i ? [" · ", one] : [one]));
}
