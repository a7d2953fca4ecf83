// Sines and cosines as hands of clocks: each pair of channels turns at its own speed, and together they tell the place.
import { h, s } from "../../core/h.js";
import { num } from "../../core/numbers.js";
import { id } from "../sides.js";

const SHOWN = 8;

/** @param {any} side @param {number} place @param {any} ctx */
export function dials(side, place, { t }) {
  const vectors = side.at("vectors");
  const { kind, tokens } = side.data;
  const halves = kind !== "sinusoidal";
  if (!vectors || !/^(rotary|sinusoidal)/.test(kind)) return null;
  const pairs = vectors[0].length >> 1;
  // of rotary the cosine comes first, of sinusoids the sine
  const angle = (row, pair) => (kind === "rotary" ? Math.atan2(row[pairs + pair], row[pair]) : halves ? Math.atan2(row[pair], row[pairs + pair]) : Math.atan2(row[2 * pair], row[2 * pair + 1]));
  const hand = (row, pair, name) => s("line", { class: name, x2: 30 * Math.sin(angle(row, pair)), y2: -30 * Math.cos(angle(row, pair)) });
  const shown = new Set(Array.from({ length: SHOWN }, (_, n) => Math.round((n * (pairs - 1)) / (SHOWN - 1))));
  return [h("h3", {}, t("position.dials")), h("p", { class: "quiet about" }, t("position.dials.about")),
    h("div", { class: "clocks" }, [...shown].map((pair) => {
      const turn = (2 * Math.PI) / Math.abs(angle(vectors[1], pair) - angle(vectors[0], pair));
      return h("figure", { tip: "position.tip.dial", dataset: id(`dial-${pair}`, turn) },
        s("svg", { viewBox: "-34 -34 68 68", aria: { hidden: "true" } }, s("circle", { r: 32 }), vectors.slice(0, Math.min(tokens.length, 64)).map((row) => hand(row, pair, "")), vectors[place] ? hand(vectors[place], pair, "hand") : null),
        h("figcaption", { class: "quiet" }, t("position.turn", { n: num(turn, 1) })));
    }))];
}
