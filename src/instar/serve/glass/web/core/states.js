// What is shown in the place of a view that has nothing to show: why, and what can be done.
import { ApiError, keep } from "./api.js";
import { h, put } from "./h.js";
import { bytes, count } from "./numbers.js";
import { has, t, words } from "./i18n.js";

/** A calm card. @param {{icon?: string, title: string, text?: string, more?: any, actions?: HTMLElement[], id?: string}} said */
export function card({ icon = "◇", title, text = "", more = null, actions = [], id = "state" }) {
  return h("section", { class: "card", dataset: { testid: id }, role: "note" },
    h("p", { class: "card-icon", aria: { hidden: "true" } }, icon), h("h2", {}, title), text && h("p", {}, text), more,
    actions.length ? h("p", { class: "actions" }, actions) : null);
}

export const button = (text, click, props = {}) => h("button", { type: "button", ...props, on: { click } }, text);

/** The state of an error, by its code. @param {Element} root @param {any} error @param {Function} [retry] */
export function fail(root, error, retry = null) {
  if (error?.name === "AbortError") return;
  const known = error instanceof ApiError;
  if (!known) console.error(error);
  const code = known ? error.code : "page";
  const key = has(`error.${code}`) ? code : known && error.status >= 500 ? "server" : known ? "bad_input" : "page";
  const more = known ? error.more : {};
  const gaps = {
    limit: count(more.limit ?? 0), got: count(more.got ?? 0), need: bytes(more.need ?? 0), budget: bytes(more.budget ?? 0),
    status: known ? error.status : "",
  };
  // the page's own words tell all of these
  const plain = ["offline", "too_long", "memory", "busy", "loading", "no_such_model", "no_such_run", "trace_expired", "worker_died"].includes(key);
  const said = plain ? "" : more.why ? words(more.why) : more.zh ? words({ en: error.detail, zh: more.zh }) : String(error?.detail ?? error?.message ?? "");
  const actions = retry ? [button(t("state.retry"), () => retry(), { class: "primary" })] : [];
  put(root, card({
    icon: code === "offline" ? "⌁" : "△", title: t(`error.${key}`), text: t(`error.${key}.do`, gaps), id: `error-${code}`,
    more: [said ? h("p", { class: "quiet", text: said }) : null, code === "invalid_api_key" ? unlock(retry) : null],
    actions,
  }));
}

function unlock(retry) {
  const field = h("input", { type: "password", autocomplete: "off", aria: { label: t("state.key") } });
  return h("form", { class: "row", on: { submit: (event) => {
    event.preventDefault();
    keep(field.value.trim());
    retry?.();
  } } }, field, h("button", { class: "primary" }, t("state.unlock")));
}

/** Something takes its time: seconds, and a way to stop it. @param {Element} root @param {string} what
 * @param {Function | null} cancel @returns {() => void} ends it */
export function wait(root, what, cancel = null) {
  const began = performance.now();
  const clock = h("span", { class: "mono" }, "0.0 s");
  put(root, h("div", { class: "waiting", dataset: { testid: "waiting" }, role: "status" },
    h("span", { class: "pulse", aria: { hidden: "true" } }), h("span", {}, what), clock,
    cancel && button(t("state.cancel"), () => cancel(), { class: "plain" })));
  const timer = setInterval(() => { clock.textContent = `${((performance.now() - began) / 1000).toFixed(1)} s`; }, 100);
  return () => clearInterval(timer);
}
