// The order lab: the same words in two orders, with positions told and untold.
import { h } from "../../core/h.js";
import { num } from "../../core/numbers.js";
import { word } from "../../core/shown.js";
import { read } from "../../core/url.js";
import { chips } from "../../core/chips.js";
import { asking, check, id, likely, section } from "../sides.js";

const PRESETS = [["狗咬人。", "人咬狗。"], ["The dog bites the man.", "The man bites the dog."], ["安娜给本一个球。", "本给安娜一个球。"]];
const LIMITS = { fp16: 5e-3, bf16: 2e-2 }; // by how much sums may differ

/** @param {any} ctx @returns {{box: HTMLElement, load: () => any, stop: () => void}} */
export function lab(ctx) {
  const { store, api, t, button } = ctx;
  const saved = { ...read(location.hash), ...store.get() }; // the keys are known only since this view was loaded
  const usual = PRESETS[store.get().lang === "zh" ? 0 : 1];
  const fields = ["one", "other"].map((name, n) => h("input", {
    type: "text", value: saved[`order${n + 1}`] || usual[n], dataset: id(`order-${name}`), aria: { label: t(`position.${name}`) }, on: { change: () => take() } }));
  const found = asking(ctx, {
    what: t("position.running"), again: t("position.run"),
    ask(signal) {
      const { model, models, adapter, vs } = store.get();
      const own = model || models.served;
      const those = [[own, adapter], ...(vs ? [[vs === "base" ? own : vs, ""]] : [])];
      return Promise.all(those.map(async ([name, with_]) => [name, await api.post("order", { model: name, ...(with_ && { adapter: with_ }), one: fields[0].value, other: fields[1].value }, { signal })]));
    },
    draw: (box, labs) => box.append(...labs.flatMap(([name, one]) => result(one, labs[1] && name, ctx, name))),
  });
  function take(...texts) {
    texts.forEach((text, n) => { fields[n].value = text; });
    store.set({ order1: fields[0].value, order2: fields[1].value });
    found.load();
  }
  const box = section(t("position.lab"), t("position.lab.about"),
    h("div", { class: "row lab-fields" }, fields[0], button("⇄", () => take(fields[1].value, fields[0].value), { class: "icon", dataset: id("order-swap"), aria: { label: t("position.swap") } }),
      fields[1], button(t("position.run"), () => take(), { class: "primary", dataset: id("order-run") })),
    h("div", { class: "row" }, PRESETS.map((pair, n) => button(pair.join(" / "), () => take(...pair), { class: "plain", dataset: id(`order-preset-${n}`) }))), found.box);
  found.load();
  return { box, load: found.load, stop: found.stop };
}

/** What two orders give. @param {any} lab of the API, or `order` of a panel @param {string} name of the model, where there are two
 * @param {any} ctx @param {string} [model] */
export function result(lab, name, ctx, model = name || ctx.store.get().trace.model) {
  const { t, draw } = ctx;
  const side = (key) => {
    const told = lab[key];
    return h("div", { class: "order", dataset: id(`order-${key}`, told.apart) }, h("h3", {}, t(`position.${key}`)),
      [lab.one, lab.other].map((tokens, n) => h("div", {}, h("p", { class: "line" }, tokens.map((token) => word(token.piece ?? token.text ?? token))), likely((told.top[n] ?? []).slice(0, 4), `${key}-${n}`))),
      h("p", { class: "facts" }, h("span", { tip: "position.tip.apart" }, t("position.apart"), " ", h("b", { class: "mono" }, num(told.apart))),
        told.kl === null ? null : h("span", { tip: "position.tip.kl", dataset: id(`order-kl-${key}`, told.kl) }, "KL ", h("b", { class: "mono" }, num(told.kl))),
        told.top[0]?.length ? t(told.same_answer ? "position.same" : "position.differ") : null));
  };
  return [name && h("h3", {}, name), h("div", { class: "pair" }, side("told"), side("untold")), h("p", { class: "note", dataset: id("order-why") }, why(lab, t)),
    draw.figure({ kind: "lines", title: t("position.layers"), x: lab.told.by_layer.map((_, i) => i - 1), x_title: t("position.layer"), y_title: t("position.stream"),
      series: { [t("position.told")]: lab.told.by_layer, [t("position.untold")]: lab.untold.by_layer } }, ctx), chips(proofs(lab, LIMITS[ctx.store.get().models.models.find((one) => one.id === model)?.dtype] ?? 1e-4))].filter(Boolean);
}

/** That nothing but order tells the two apart, and that without positions the first layer does not see it. */
function proofs({ one, other, reordered, untold }, limit) {
  const ids = (tokens) => tokens.map((token) => token.id);
  const left = ids(other);
  const odd = ids(one).filter((each) => { const at = left.indexOf(each); if (at >= 0) left.splice(at, 1); return at < 0; }).length + left.length;
  const same = check("position", "same_tokens", reordered ? odd : odd || 1); // 1: the same, and yet they end in different ones
  return reordered ? [same, check("position", "first_layer", untold.by_layer[1], limit)] : [same];
}

/** In a sentence what one sees. */
function why({ reordered, told, untold }, t) {
  const [on, last, first, then] = [told.apart, untold.apart, untold.by_layer[1], untold.by_layer[2]].map((x) => num(x));
  const leaks = untold.by_layer[1] < 1e-3 && untold.by_layer[2] > 1e-3;
  return t(`position.why.${!reordered ? "other" : untold.apart < 1e-3 ? "set" : leaks ? "leak" : "else"}`, { on, last, first, then });
}
