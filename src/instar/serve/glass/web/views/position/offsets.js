// How alike other places are to the selected one, by distance: the mean curve, and the tokens of the text upon it.
import { s } from "../../core/h.js";
import { num } from "../../core/numbers.js";
import { shown } from "../../core/shown.js";
import { id } from "../sides.js";

const [WIDE, HIGH, FOOT, LEFT] = [560, 340, 42, 34];

/** @param {any} side @param {number[][]} grid the map @param {number} place the selected one @param {any} ctx */
export function offsets(side, grid, place, { store, t, say }) {
  const { tokens } = side.data;
  const count = grid.length;
  const from = Math.max(1 - count, Math.min(-8, -place));
  const to = Math.min(count - 1, Math.max(8, tokens.length - 1 - place));
  const curve = Array.from({ length: to - from + 1 }, (_, n) => diagonal(grid, from + n));
  const known = tokens.map((token, i) => ({ text: shown(token.piece), i, far: i - place, value: grid[place]?.[i] ?? curve[i - place - from] }))
    .filter(({ far, value }) => far >= from && far <= to && value !== undefined);
  const all = [...curve, ...known.map((one) => one.value)];
  const [low, top] = [Math.min(...all), Math.max(...all)];
  const step = (WIDE - LEFT - 16) / (to - from);
  const x = (far) => LEFT + (far - from) * step;
  const y = (value) => 14 + (1 - (value - low) / (top - low || 1)) * (HIGH - FOOT - 26);
  const each = Math.ceil(24 / step);
  const text = (px, py, name, said) => s("text", { x: px, y: py, class: name }, said);
  return s("svg", { viewBox: `0 0 ${WIDE} ${HIGH}`, class: "offsets", role: "group", aria: { label: t("position.offsets") } },
    text(30, y(top) + 4, "end", num(top, 2)), text(30, y(low) + 4, "end", num(low, 2)),
    s("path", { d: `M${curve.map((value, n) => `${x(from + n).toFixed(1)} ${y(value).toFixed(1)}`).join("L")}` }),
    known.map(({ text: name, i, far, value }) => {
      const said = t("position.far", { token: name, far, value: num(value) });
      return s("g", { class: far ? "stop" : "stop chosen", role: "button", tabindex: far ? -1 : 0, aria: { label: said }, dataset: id(`offset-${i}`, value),
        on: { click: () => store.set({ token: i }), pointerenter: () => say(said) } }, s("title", {}, said),
      s("line", { x1: x(far), x2: x(far), y1: y(value), y2: HIGH - FOOT }), s("circle", { cx: x(far), cy: y(value), r: far ? 4 : 6 }),
      far % each ? null : text(x(far), HIGH - FOOT + 15, "name", name.slice(0, Math.max(2, Math.floor((step * each) / 8)))));
    }),
    text(LEFT, HIGH - 6, "", from), text(x(0), HIGH - 6, "mid", 0), text(WIDE - 16, HIGH - 6, "end", `+${to}`));
}

/** The mean of a map at one distance. */
function diagonal(grid, far) {
  const values = grid.map((row, i) => row[i + far]).filter((value) => value !== undefined);
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
