// Why this token: the share of each token that was read against what occlusion says, and how far the two agree.
import { look } from "../../core/colour.js";
import { h } from "../../core/h.js";
import { num } from "../../core/numbers.js";
import { shown, word } from "../../core/shown.js";
import { id, section, sides } from "../sides.js";

const METHODS = ["direct", "gradient-attention", "gradient-input", "integrated", "occlusion"];
const MOST = 120; // tokens that are drawn

/** @param {any} direct the panel of method direct, which judges all others @param {any} record that of the chosen method
 * @param {any} ctx */
export function why(direct, record, ctx) {
  const { store, t, button } = ctx;
  const { method, explain } = store.get();
  look();
  const rho = sides(direct)[0].data.faithfulness ?? {};
  const field = h("input", { type: "text", value: explain, size: 10, placeholder: shown(sides(record)[0].data.target.piece), dataset: id("explain"), aria: { label: t("layers.explain") },
    on: { change: () => store.set({ explain: field.value }) } });
  const methods = METHODS.map((name) => button(t(`layers.method.${name}`) + (Number.isFinite(rho[name]) ? `  ρ ${num(rho[name], 2)}` : ""), () => store.set({ method: name }),
    { tip: `layers.tip.${name}`, aria: { pressed: String(name === method) }, dataset: id(`method-${name}`, rho[name] ?? null) }));
  return section(t("layers.why"), t("layers.why.about"),
    h("div", { class: "toolbar" }, h("div", { class: "segments", role: "group", aria: { label: t("layers.method") } }, methods), h("label", { class: "choice" }, t("layers.explain"), field),
      explain ? button(t("layers.likeliest"), () => store.set({ explain: "" }), { class: "plain" }) : null),
    sides(record).map((side) => shares(side, method, ctx)));
}

function shares({ name, data, at }, method, { store, t }) {
  const judged = method !== "direct" && method !== "occlusion";
  const above = judged ? [data.source_shares, data.shares] : [];
  const below = method === "occlusion" ? [data.source_shares, data.shares] : [at("source_occlusion"), at("occlusion")];
  const size = (lists) => Math.max(1e-12, ...lists.flatMap((list) => list ?? []).map(Math.abs));
  const half = (value, most, cls, testid) => h("span", { class: `half ${cls}${value < 0 ? " less" : ""}`, dataset: id(testid, value), style: { "--size": String(Math.abs(value) / most) } });
  const column = (token, i, own) => {
    const both = [above[own]?.[i], below[own]?.[i]];
    const said = both.map((value, n) => (value === undefined ? "" : `${t(`layers.method.${n ? "occlusion" : method}`)} ${num(value)}`)).filter(Boolean).join(" · ");
    const here = own && i === data.at;
    const before = own ? "" : "source-";
    const referee = (cls) => (both[1] === undefined ? null : half(both[1], size(below), cls, `${before}referee-${i}`));
    return h(own ? "button" : "span", { class: `share${here ? " here" : ""}`, title: said, ...(own && { type: "button", tabindex: here ? 0 : -1, aria: { label: `${shown(token.piece)} ${said}` }, on: { click: () => store.set({ token: i }) } }) },
      !judged ? referee("") : both[0] === undefined ? h("span") : half(both[0], size(above), "", `${before}share-${i}`), word(token.piece), judged ? referee("down") : null);
  };
  const first = Math.max(0, data.at + 1 - MOST);
  return h("div", {}, name ? h("h3", {}, name) : null,
    above[1] || below[1] ? h("div", { class: `shares${judged ? "" : " single"}` }, (data.source ?? []).slice(0, MOST).map((token, i) => column(token, i, 0)), data.source?.length ? h("span", { class: "then" }, "→") : null,
      data.tokens.slice(first, first + MOST).map((token, n) => column(token, first + n, 1))) : h("p", { class: "note" }, t("layers.long")),
    h("p", { class: "quiet" }, t(judged ? "layers.mirror" : `layers.only.${method}`)),
    h("div", { class: "row" }, judged ? meter(data.faithfulness?.[method] ?? null, t) : null,
      data.completeness ? h("span", { class: "quiet", tip: "layers.tip.gap", dataset: id("gap", data.completeness.gap) }, t("layers.gap", { gap: num(100 * data.completeness.gap, 2), steps: data.completeness.steps ?? "–" })) : null));
}

/** Spearman's ρ against occlusion, from opposed to alike. The words are a rule of thumb, and the tip says so. */
function meter(rho, t) {
  const trust = rho === null ? "unknown" : rho >= 0.7 ? "well" : rho >= 0.4 ? "partly" : "hardly";
  return h("div", { class: `meter ${trust}`, tip: "layers.tip.rho", dataset: id("meter", rho) },
    h("span", { class: "gauge" }, rho === null ? null : h("i", { style: { left: `${50 * (1 + rho)}%` } })), h("b", { class: "mono" }, `ρ ${num(rho, 2)}`), h("span", {}, t(`layers.trust.${trust}`)));
}
