// Positions: how the model tells which token stands where, and what it makes of the same words in another order.
// data-testid: map, offset-I (how alike place I is), dial-N, order-one, order-other, order-swap, order-preset-N, order-run,
// order-told and order-untold (distance of the last states), order-kl-told, order-kl-untold, order-why, panel-position.
import { heat } from "../core/draw/heat.js";
import { h, put } from "../core/h.js";
import { shown } from "../core/shown.js";
import { at } from "../core/strip.js";
import { declare } from "../core/url.js";
import { dials } from "./position/dials.js";
import { lab, result } from "./position/lab.js";
import { offsets } from "./position/offsets.js";
import { asking, id, section, sides } from "./sides.js";

declare({ order1: "", order2: "" });
export const view = { id: "position", needs: ["trace"] };

/** @param {HTMLElement} root @param {any} ctx */
export function mount(root, ctx) {
  const { store, t } = ctx;
  let follow = [];
  const above = asking(ctx, {
    what: t("status.loading"),
    ask: (signal) => ctx.traced("position", { layer: store.get().layer, side: store.get().side === "encoder" ? "encoder" : "" }, { signal }),
    draw(box, record) {
      follow = [];
      box.append(...sides(record).map(drawn), ctx.panel(record, ctx, { figures: [], title: null }));
      if (spells) return;
      const orders = sides(record).filter((side) => side.data.order).flatMap((side) => result(side.data.order, side.name, ctx));
      box.append(orders.length ? section(t("position.lab"), t("position.lab.ids"), orders) : "");
    },
  });
  const spells = store.get().trace.caps.text !== false; // without a tokenizer the ids themselves are turned round
  const order = spells ? lab(ctx) : { box: "", load() {}, stop() {} };

  function drawn(side) {
    const { kind, places, tokens, what } = side.data;
    const maps = side.at("map");
    const title = [side.name, t(`position.kind.${kind}`)].filter(Boolean).join(" · ");
    if (!maps) return h("section", {}, h("h2", {}, title), h("p", { class: "note" }, t("position.none")));
    const names = Array.from({ length: places }, (_, i) => (tokens[i] ? `${i} ${shown(tokens[i].piece)}` : String(i)));
    const map = heat({
      values: Float32Array.from(one(maps, store.get().head).flat()), rows: places, columns: places, scale: what === "products" ? "plain" : "signed",
      labels: { rows: names, columns: names.map((_, i) => String(i)) }, name: t("position.map"), tall: 360, say: ctx.say, onPick: ({ row }) => tokens[row] && store.set({ token: row }),
    });
    const curve = h("div");
    const hands = h("div", { class: "part" });
    const moved = () => {
      const place = at(store.get());
      map.select({ row: place < places ? place : -1, col: -1 });
      put(curve, offsets(side, one(maps, store.get().head), place, ctx));
      put(hands, dials(side, place, ctx));
    };
    moved();
    follow.push(moved);
    return h("section", { class: "part" }, h("h2", {}, title), h("p", { class: "quiet about" }, t(`position.what.${what}`)),
      h("div", { class: "pair" }, h("figure", { dataset: id("map", kind) }, h("figcaption", {}, t("position.map")), map),
        h("figure", {}, h("figcaption", {}, t("position.offsets")), curve)), hands);
  }

  root.append(above.box, order.box);
  above.load();
  const off = [
    store.on(["token"], () => follow.forEach((moved) => moved())),
    store.on(["trace", "vs", "layer", "head", "side"], (state) => state.trace && above.load()),
    store.on(["model", "adapter", "vs"], order.load),
  ];
  return { unmount() { off.forEach((stop) => stop()); above.stop(); order.stop(); } };
}

/** One head's map, or the mean of all. @param {number[][][]} maps @param {number} head */
const one = (maps, head) => maps[head] ?? (maps.length === 1 ? maps[0] : maps[0].map((row, i) => row.map((_, j) => maps.reduce((sum, map) => sum + map[i][j], 0) / maps.length)));
