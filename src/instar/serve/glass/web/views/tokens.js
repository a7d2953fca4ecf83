// Tokens: the selected one under the glass; text, bytes, merges, ids; embeddings. data-testid: specimen (data-value: id),
// glyph, cut, letter, octet, piece-I and other-I (id), rate, merges, merge-step, merge-rank, panel-tokens.
import { h, put } from "../core/h.js";
import { at } from "../core/strip.js";
import { asking, section, sides } from "./sides.js";
import { cut } from "./tokens/cut.js";
import { merges } from "./tokens/merges.js";
import { specimen } from "./tokens/specimen.js";

export const view = { id: "tokens", needs: ["trace"] };

/** @param {HTMLElement} root @param {any} ctx */
export function mount(root, ctx) {
  const { store, t } = ctx;
  const top = h("div", { class: "view" });
  let record = null;
  const below = asking(ctx, {
    what: t("status.loading"),
    ask: (signal) => ctx.traced("tokens", { at: at(store.get()) }, { signal }),
    draw(box, found) {
      record = found;
      paint();
      box.append(section(t("tokens.near"), t("tokens.near.about"),
        ctx.panel(record, ctx, { figures: ({ kind }) => kind === "bars" || kind === "scatter", title: null })));
    },
  });

  /** What needs no numbers of its own follows the selection at once. */
  function paint() {
    const [one, other] = sides(record);
    const { tokens, words, source } = one.data;
    const chosen = at(store.get());
    if (!tokens[chosen]) return;
    // of an encoder-decoder the words of the source come first, and count its own tokens
    let left = (source ?? []).filter((token) => token.bytes).length;
    const own = words?.filter((each) => { const ours = left <= 0; left -= each.places.length; return ours; });
    const word = own?.find((each) => each.places.includes(chosen));
    const within = top.contains(document.activeElement);
    put(top, specimen(tokens, chosen, ctx),
      own ? section(t("tokens.cut"), t("tokens.cut.about"), cut(one, other, own, chosen, ctx)) : h("p", { class: "note" }, t("tokens.ids")),
      word?.merges.length ? section(t("tokens.merges"), t("tokens.merges.about"), merges(word, tokens, chosen, ctx)) : null);
    if (within) top.querySelector("button.chosen")?.focus({ preventScroll: true });
  }

  root.append(top, below.box);
  below.load();
  const off = store.on(["trace", "token", "vs"], (state, changed) => {
    if (!state.trace) return;
    if (record && !changed.has("trace")) paint();
    below.load();
  });
  return { unmount() { off(); below.stop(); } };
}
