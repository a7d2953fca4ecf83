// A guided tour: six steps that tell on one text how a language model works, each in the view that shows it. The step
// stands in the link (tour=3). data-testid: tour-card (data-value: the step), tour-next, tour-back, tour-leave, pointed.
import { h, put } from "./h.js";
import { t } from "./i18n.js";
import { typing } from "./keys.js";
import { declare } from "./url.js";

declare({ run: "", step: -1 });

// of each step the view, what is pointed at (the first that is there), and what else is chosen
const STEPS = [
  { view: "tokens", at: ["#strip"], also: (of) => ({ token: of.word }) },
  { view: "position", at: ["[data-testid=order-one]"], also: () => ({ token: -1 }) },
  { view: "attention", at: ["[data-testid^=attention-map]", "[data-testid=atlas]"], also: (of) => ({ token: -1, kind: "sinkless", ...of.head }) },
  { view: "layers", at: ["[data-testid=lens]"], also: () => ({ token: -1, layer: -1, head: -1 }) },
  { view: "generation", at: ["[data-testid=panel-pipeline]"], also: () => ({ token: -1, head: -1 }) },
  { view: "training", at: ["[data-testid=chart-loss]"], also: (of) => ({ run: of.run, step: -1 }) },
];

const SETTLES = 2500; // ms in which what a view draws late may move what is pointed at

/** @param {Element} body @param {any} ctx */
export function mountTour(body, ctx) {
  const { store } = ctx;
  const card = h("section", { class: "tour", role: "dialog", aria: { labelledby: "tour-title" }, hidden: true, dataset: { testid: "tour-card" } });
  body.append(card);
  let [shown, until, frame] = [0, 0, 0];
  /** @type {Element | null} */
  let marked = null;

  const go = (n) => store.set({ tour: n < 1 || n > STEPS.length ? 0 : n });

  /** Set what a step shows; again when the text has been read, for some of it is found in the text. */
  async function set(n) {
    const state = store.get();
    const { models, served } = state.models ?? { models: [] };
    const model = models.find((one) => one.id === served);
    const text = t("tour.text");
    const chat = model?.caps?.chat ? 1 : 0;
    const step = STEPS[n - 1];
    const runs = state.models?.runs ?? [];
    const of = { word: -1, head: {}, run: [`${served}/pretrain`, "pretrain"].find((id) => runs.includes(id)) ?? runs.find((id) => id.endsWith("/pretrain")) ?? "" };
    const same = state.trace && state.text === text && state.chat === chat && (state.model || served) === served;
    if (same) {
      const at = state.trace.text.indexOf(t("tour.word"));
      of.word = state.trace.tokens.findIndex((one) => one.start <= at && at < one.end);
      if (step.view === "attention") of.head = await headTo(state.trace, of.word);
    }
    if (store.get().tour === n) store.set({ view: step.view, model: "", adapter: "", ids: "", text, chat, ...step.also(of) });
  }

  /** The head that brings most from a word to the place where the answer is said. */
  async function headTo(trace, word) {
    const { layers, heads } = trace.shape;
    if (word < 0 || layers * heads > 256) return {};
    try {
      const { tensors: { atlas } } = await ctx.traced("atlas", { layers: `0:${layers}`, px: 64, kind: "sinkless" }, { binary: true });
      const size = atlas.shape.at(-1);
      if (size !== trace.tokens.length) return {};
      let best = 0;
      const weight = (i) => atlas.data[(i + 1) * size * size - size + word];
      for (let i = 0; i < layers * heads; i++) if (weight(i) > weight(best)) best = i;
      return { layer: Math.floor(best / heads), head: best % heads };
    } catch {
      return {}; // the step is told without it
    }
  }

  function draw(state) {
    const n = state.tour;
    card.hidden = !(n > 0 && state.models);
    document.documentElement.classList.toggle("touring", !card.hidden);
    if (card.hidden) return point(null);
    card.dataset.value = String(n);
    const last = n === STEPS.length;
    put(card,
      h("p", { class: "tour-of" }, t("tour.of", { n, all: STEPS.length })), h("h2", { id: "tour-title" }, t(`tour.${n}.title`)),
      [1, 2, 3].map((k) => t(`tour.${n}.${k}`)).filter((said) => said && !said.startsWith("tour.")).map((said) => h("p", {}, said)),
      h("p", { class: "actions" },
        h("button", { type: "button", class: "primary", dataset: { testid: "tour-next" }, on: { click: () => go(last ? 0 : n + 1) } }, t(last ? "tour.end" : "tour.next")),
        h("button", { type: "button", disabled: n === 1, dataset: { testid: "tour-back" }, on: { click: () => go(n - 1) } }, t("tour.back")),
        h("button", { type: "button", class: "plain", dataset: { testid: "tour-leave" }, on: { click: () => go(0) } }, t("tour.leave"))));
    if (shown !== n) {
      card.scrollTop = 0;
      /** @type {HTMLElement | null} */ (card.querySelector(".primary"))?.focus({ preventScroll: true });
      ctx.say(`${t(`tour.${n}.title`)}. ${t(`tour.${n}.1`)}`);
      until = performance.now() + SETTLES;
    }
    shown = n;
    seek();
    return undefined;
  }

  function point(el) {
    if (marked !== el) {
      marked?.classList.remove("pointed");
      el?.classList.add("pointed");
      marked = el;
    }
    if (!el) shown = 0;
    else if (performance.now() < until) {
      const box = el.getBoundingClientRect();
      card.classList.toggle("left", box.left + box.width / 2 > innerWidth / 2);
      el.scrollIntoView({ block: innerWidth > 820 && box.height < innerHeight / 2 ? "center" : "start", behavior: "instant" });
    }
  }

  // views come and draw when they can
  function seek() {
    frame ||= requestAnimationFrame(() => {
      frame = 0;
      const { tour, view } = store.get();
      if (tour < 1 || STEPS[tour - 1]?.view !== view) return;
      const found = STEPS[tour - 1].at.map((said) => document.querySelector(said)).find((el) => el?.getClientRects().length);
      if (found) point(found.closest("section, figure") ?? found);
    });
  }
  new MutationObserver(() => { if (!card.hidden) seek(); }).observe(document.getElementById("stage") ?? body, { childList: true, subtree: true });

  document.addEventListener("keydown", (event) => {
    if (card.hidden || typing(event) || event.ctrlKey || event.metaKey || event.altKey) return;
    const to = { n: 1, p: -1, Escape: -100 }[event.key];
    if (!to) return;
    event.preventDefault();
    event.stopPropagation();
    const at = store.get().tour;
    if (to !== -1 || at > 1) go(at + to);
  }, true);

  const tell = () => {
    draw(store.get());
    if (!card.hidden) set(store.get().tour);
  };
  store.on(["tour", "models"], tell);
  new MutationObserver(tell).observe(document.documentElement, { attributeFilter: ["lang"] }); // once its texts are there
  store.on(["trace"], (state) => { if (!card.hidden && state.trace) set(state.tour); });
  store.on(["view"], seek);
}
