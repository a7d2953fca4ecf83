// All heads at a glance: a matrix whose cells are pictures, a layer a row. Layers may come one after the other.
import { look, themed } from "../colour.js";
import { t } from "../i18n.js";
import { heat } from "./heat.js";

/** @param {any} options layers, heads, px (rows and columns of a picture), scale, most (pixels of a side), note(layer,
 * head): what is said beside the place; onHover({layer, head} | null), onPick({layer, head}), say(sentence), name
 * @returns {HTMLElement} with put(first, bytes): layers of map places (the codec "sqrt" of the API is one), select({layer,
 * head}), filled(): how many layers have come, and canvas */
export function atlasGrid(options) {
  const { layers, heads, px, scale = "share", most = 104, note, onHover, onPick, say, name = "" } = options;
  const picture = new OffscreenCanvas(heads * px, layers * px);
  const parts = new Map(); // of each layer its bytes, for another theme
  const place = (cell) => cell && { layer: cell.row, head: cell.col };
  const tell = (layer, head) => [t("draw.head", { layer, head }), note?.(layer, head)].filter(Boolean).join("\n");

  function fill(layer) {
    const { words } = look().maps[scale];
    const bytes = parts.get(layer);
    const pixels = new Uint32Array(heads * px * px);
    for (let i = 0; i < pixels.length; i += px) {
      const [head, row] = [Math.floor(i / (px * px)), (i / px) % px];
      for (let col = 0; col < px; col++) pixels[(row * heads + head) * px + col] = words[bytes[i + col]];
    }
    picture.getContext("2d").putImageData(new ImageData(new Uint8ClampedArray(pixels.buffer), heads * px, px), 0, layer * px);
  }
  const frame = heat({ rows: layers, columns: heads, picture, px, most, least: 14, tell, say, name, testid: "atlas",
    onHover: (cell) => onHover?.(place(cell)), onPick: onPick && ((cell) => cell.zone === "body" && onPick(place(cell))) });
  let asked = 0;
  const draw = () => { asked ||= requestAnimationFrame(() => { asked = 0; frame.update({}); }); };
  themed(frame, () => {
    for (const layer of parts.keys()) fill(layer);
    draw();
  });
  const { select } = frame;
  return Object.assign(frame, {
    put(first, bytes) {
      const size = heads * px * px;
      for (let i = 0; i * size < bytes.length; i++) {
        parts.set(first + i, bytes.subarray(i * size, (i + 1) * size));
        fill(first + i);
      }
      frame.dataset.layers = String(parts.size);
      draw();
    },
    select: (to) => select(to && to.layer >= 0 && to.head >= 0 ? { row: to.layer, col: to.head } : null),
    filled: () => parts.size,
  });
}
