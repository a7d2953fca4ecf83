// One token of an answer: how likely it was, what else there might have stood, and the way on from there.
// data-testid: token-card, token-p, token-rank, token-entropy, token-after, alternative-ID (data-value: p of the model)
import { h, put } from "../../core/h.js";
import { t } from "../../core/i18n.js";
import { num, percent, count } from "../../core/numbers.js";
import { word } from "../../core/shown.js";
import { alternatives } from "./saying.js";

/** @param {any} ctx @param {{fork: Function, inside: Function, closed: Function}} does */
export function tokenCard(ctx, does) {
  const el = h("section", { class: "token-card", dataset: { testid: "token-card" }, aria: { label: t("chat.token") } });
  let pinned = null; // {said, i}
  let asking = null;

  const fact = (name, value, text, tip) => h("div", {}, h("dt", { tip }, t(`chat.fact.${name}`)),
    h("dd", { class: "mono", dataset: { testid: `token-${name}`, value } }, text));

  function facts(said, i) {
    const token = said.tokens[i];
    return [
      h("h2", { class: "lex" }, word(token.piece), h("small", { class: "quiet mono" }, `#${i} · id ${token.id}`)),
      h("dl", { class: "tallies" },
        fact("p", token.p, percent(token.p), "glossary.p"),
        fact("after", token.p_after, percent(token.p_after), "glossary.p_after"),
        fact("rank", token.rank, count(token.rank), "glossary.rank"),
        fact("surprise", -token.logprob, `${num(-token.logprob, 2)} nat`, "glossary.surprise"),
        fact("entropy", token.entropy, `${num(token.entropy, 2)} nat`, "glossary.entropy"),
        fact("kept", token.kept, count(token.kept), "glossary.kept")),
    ];
  }

  function rows(said, i, top) {
    const own = said.tokens[i];
    const most = Math.max(...top.map(([, , , p, after]) => Math.max(p, after)), 1e-9);
    return top.map(([id, piece, , p, after]) => h("li", {}, h("button", {
      type: "button", class: `other${id === own.id ? " is" : ""}${after > 0 ? "" : " out"}`, dataset: { testid: `alternative-${id}`, value: p },
      aria: { label: t("chat.fork.aria", { piece, p: percent(p), after: percent(after) }) }, on: { click: () => does.fork(said, i, id, top) },
    }, word(piece, { class: "lex" }), h("span", { class: "twice", aria: { hidden: "true" }, style: { "--p": String(p / most), "--after": String(after / most) } }),
    h("span", { class: "mono" }, percent(p)))));
  }

  /** Only look. @param {any} said @param {number} i */
  function peek(said, i) {
    if (pinned) return;
    if (i < 0) return rest();
    el.classList.remove("pinned");
    put(el, facts(said, i), h("p", { class: "quiet" }, t("chat.token.click")));
  }

  function rest() {
    put(el, h("h2", {}, t("chat.token")), h("p", { class: "quiet" }, t("chat.token.none")),
      h("p", { class: "scalekey", aria: { hidden: "true" } }, [0.05, 0.3, 0.6, 1].map((s) => h("span", { class: "tk", style: { "--s": String(s) } },
        t("chat.legend", { p: percent(Math.exp(-6 * s)) })))));
  }

  /** Stay with it, and show what else there might have stood. */
  async function pin(said, i) {
    asking?.abort();
    asking = new AbortController();
    const { signal } = asking;
    pinned = { said, i };
    el.classList.add("pinned");
    const list = h("ol", { class: "others" }, h("li", { class: "quiet" }, "…"));
    put(el, ctx.button("×", () => does.closed(), { class: "icon plain close", aria: { label: t("chat.close") } }),
      facts(said, i),
      h("p", { class: "row" }, ctx.button(t("chat.inside"), () => does.inside(said, i), { class: "primary", dataset: { testid: "inside" } })),
      h("h3", { tip: "glossary.alternatives" }, t("chat.others")), list);
    try {
      const top = await alternatives(ctx, said, i, signal);
      if (!signal.aborted) put(list, rows(said, i, top));
    } catch (error) {
      if (!signal.aborted) put(list, h("li", { class: "quiet" }, error.detail || t("error.offline")));
    }
  }

  rest();
  return {
    el, peek, pin,
    /** Let it go. @returns {boolean} whether there was one */
    leave() {
      asking?.abort();
      const was = pinned !== null;
      pinned = null;
      el.classList.remove("pinned");
      rest();
      return was;
    },
    pinned: () => pinned,
  };
}
