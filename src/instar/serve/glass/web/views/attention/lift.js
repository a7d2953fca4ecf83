// Words that are marked as one entity, and how many times the share of chance each head gives them.
import { h, put } from "../../core/h.js";
import { num } from "../../core/numbers.js";
import { shown } from "../../core/shown.js";
import { onText } from "../heads/profile.js";
import { asking } from "../sides.js";
import { entities } from "./controls.js";
import { seen } from "./source.js";

/** @param {any} ctx */
export function createLift(ctx) {
  const { store, t } = ctx;
  const words = entities(ctx, "lift-words");
  const told = h("div");
  const { box, load, stop } = asking(ctx, {
    what: t("attention.lift.wait"), aria: { live: "polite" },
    ask: (signal) => onText(ctx, store.get(), signal),
    draw: (el, panel) => { el.append(told); known = panel; tell(); },
  });
  const el = h("section", { class: "lift", dataset: { testid: "lift" } }, words.el, box);
  let known = null;
  let key = "";

  function tell() {
    const { entities: found } = known.data;
    const lifts = known.arrays.lift?.values;
    if (!found || !lifts) return put(told, h("p", {}, t("attention.lift.none")));
    const { layer, head } = seen(store.get());
    const here = head < 0 ? found.lift[layer] : lifts[layer]?.[head];
    const best = lifts.flatMap((row, l) => row.map((x, n) => [l, n, x])).filter((one) => one[2] !== null).sort((a, b) => b[2] - a[2]).slice(0, 6);
    const names = [...new Set(found.spans.map((one) => one.text))].map((one) => shown(one, { spaces: false })).join(", ");
    return put(told,
      h("p", { dataset: { testid: "lift-here", value: here } }, h("b", { class: "figure-of" }, `${num(here, 2)}×`), " ", t("attention.lift.here", { names, head: head < 0 ? layer : `${layer}.${head}` })),
      h("p", { class: "quiet fine" }, t("attention.lift.chance", { layer, mean: num(found.lift[layer], 2), random: num(found.random[layer], 2), p: num(found.p[layer], 3), draws: found.draws })),
      h("p", { class: "row fine" }, h("span", { class: "quiet" }, t("attention.lift.best")), best.map(([l, n, x]) => h("button", {
        type: "button", dataset: { testid: `lift-${l}-${n}`, value: x }, on: { click: () => store.set({ layer: l, head: n }) } }, `${l}.${n} · ${num(x, 2)}×`))));
  }

  function draw(state) {
    words.draw();
    const now = state.entities && [state.trace.trace, seen(state).asked, state.entities].join();
    if (!now) put(box, h("p", { class: "quiet fine" }, t("attention.lift.how")));
    else if (now !== key) load();
    else if (known) tell();
    key = now;
  }
  return { el, draw, stop };
}
