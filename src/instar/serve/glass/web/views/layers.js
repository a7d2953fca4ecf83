// Layers: what each would say, what each adds, why it was said, what can be read off each. data-testid: lens, lens-mode-M,
// cell-ROW-TOKEN (data-value: of the mode), readout, top-ID, fact-kl and so on, settled; method-M and meter (ρ), share-I,
// referee-I, gap, explain; effects-run, ablation, probes-run, claim (the verdict), centre-TASK; panel-VIEW.
import { h, put } from "../core/h.js";
import { at } from "../core/strip.js";
import { declare } from "../core/url.js";
import { claim } from "./layers/claim.js";
import { lens } from "./layers/lens.js";
import { why } from "./layers/why.js";
import { asking, id, section, sides } from "./sides.js";

declare({ lens: "p" });
export const view = { id: "layers", needs: ["trace"] };

/** @param {HTMLElement} root @param {any} ctx */
export function mount(root, ctx) {
  const { store, t } = ctx;
  const asks = (view_, more) => (signal) => ctx.traced(view_, { at: at(store.get()), explain: store.get().explain, ...more() }, { signal });
  const plain = (record, figures) => ctx.panel(record, ctx, { figures, title: null });
  let grid = null;
  let kept = null;
  const said = asking(ctx, {
    what: t("status.loading"), ask: (signal) => ctx.traced("lens", {}, { signal }),
    draw(box, record) { grid = lens(record, ctx); box.append(grid.root, plain(record, [])); },
  });
  const credit = asking(ctx, {
    what: t("layers.asking"),
    async ask(signal) {
      const { method, trace, explain, vs } = store.get();
      const key = [trace.trace, at(store.get()), explain, vs].join();
      // another method of the same place leaves what the parts did as it is
      const direct = kept?.key === key ? kept.direct : await asks("attribution", () => ({ method: "direct" }))(signal);
      kept = { key, direct };
      return [direct, method === "direct" ? direct : await asks("attribution", () => ({ method }))(signal)];
    },
    draw(box, [direct, chosen]) {
      box.append(section(t("layers.parts"), t("layers.parts.about"), plain(direct, (fig) => fig.kind === "bars" && !("ρ" in fig.series))),
        why(direct, chosen, ctx), chosen === direct ? "" : plain(chosen, []));
    },
  });

  /** What may take long waits for a click, and again when what it was asked of has changed. */
  function onDemand(name, ask, draw, ...more) {
    const made = asking(ctx, { what: t(`layers.${name}.doing`), again: t(`layers.${name}.do`), ask, draw });
    const offer = () => { made.stop(); put(made.box, h("p", {}, ctx.button(t(`layers.${name}.do`), made.load, { class: "primary", dataset: id(`${name}-run`) }))); };
    offer();
    root.append(section(t(`layers.${name}`), t(`layers.${name}.about`), more, made.box));
    return { stop: made.stop, offer };
  }
  root.append(section(t("layers.lens"), t("layers.lens.about"), said.box), credit.box);
  const ablation = h("select", { dataset: id("ablation"), on: { change: () => effects.offer() } }, ["zero", "mean"].map((name) => h("option", { value: name }, t(`layers.ablation.${name}`))));
  const effects = onDemand("effects", asks("effects", () => ({ ablation: ablation.value })), (box, record) => box.append(plain(record)),
    h("label", { class: "choice" }, h("span", { tip: "layers.tip.ablation" }, t("layers.ablation")), ablation));
  const depth = onDemand("probes", (signal) => ctx.traced("probes", {}, { signal }),
    (box, record) => box.append(...sides(record).map((side) => claim(side, ctx)), plain(record, (fig) => fig.kind === "lines" || fig.kind === "table")));
  said.load();
  credit.load();
  const off = [
    store.on(["trace", "vs"], (state) => { if (state.trace) { said.load(); depth.offer(); } }),
    store.on(["trace", "vs", "token", "explain", "method"], (state) => { if (state.trace) { credit.load(); effects.offer(); } }),
    store.on(["token", "layer", "lens"], () => grid?.mark()),
  ];
  return { unmount() { off.forEach((stop) => stop()); [said, credit, effects, depth].forEach((one) => one.stop()); } };
}
