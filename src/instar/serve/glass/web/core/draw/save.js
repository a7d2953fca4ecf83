// Drawings as files: a canvas as PNG, all else as SVG with its colours written in.
import { css, look } from "../colour.js";
import { s } from "../h.js";

const KEPT = ["fill", "stroke", "stroke-width", "stroke-opacity", "opacity", "visibility", "font-size", "font-weight", "font-family", "text-anchor"];

/** Hand a file to the person. @param {string} name @param {Blob} blob */
export function save(name, blob) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

/** @param {string} name without its ending @param {HTMLElement} plot what is drawn */
export async function saveDrawing(name, plot) {
  const canvas = plot.querySelector("canvas");
  if (!canvas) return save(`${name}.svg`, new Blob([new XMLSerializer().serializeToString(svgOf(plot))], { type: "image/svg+xml" }));
  const copy = new OffscreenCanvas(canvas.width, canvas.height);
  const ink = copy.getContext("2d");
  ink.fillStyle = css(look().ground);
  ink.fillRect(0, 0, canvas.width, canvas.height);
  ink.drawImage(canvas, 0, 0);
  return save(`${name}.png`, await copy.convertToBlob());
}

/** A drawing of SVG or HTML as one SVG: shapes as they are, boxes by their place and colour, texts by theirs.
 * @param {HTMLElement} plot */
export function svgOf(plot) {
  const box = plot.getBoundingClientRect();
  const [width, height] = [plot.scrollWidth, plot.scrollHeight];
  const root = s("svg", { xmlns: "http://www.w3.org/2000/svg", width, height, viewBox: `0 0 ${width} ${height}` }, s("rect", { width, height, fill: css(look().ground) }));
  const at = (rect) => ({ x: rect.left - box.left, y: rect.top - box.top });
  for (const el of plot.querySelectorAll("*")) {
    if (el.tagName === "svg") {
      const copy = /** @type {Element} */ (el.cloneNode(true));
      const [from, to] = [el.querySelectorAll("*"), copy.querySelectorAll("*")];
      from.forEach((one, i) => {
        const look_ = getComputedStyle(one);
        for (const key of KEPT) to[i].setAttribute(key, look_.getPropertyValue(key));
        to[i].removeAttribute("class");
      });
      const { x, y } = at(el.getBoundingClientRect());
      copy.setAttribute("x", String(x));
      copy.setAttribute("y", String(y));
      root.append(copy);
      continue;
    }
    if (el.closest("svg")) continue;
    const look_ = getComputedStyle(el);
    const rect = el.getBoundingClientRect();
    if (!/^rgba\(.*, 0\)$|transparent/.test(look_.backgroundColor)) root.append(s("rect", { ...at(rect), width: rect.width, height: rect.height, rx: parseFloat(look_.borderRadius) || 0, fill: look_.backgroundColor }));
    for (const child of el.childNodes) {
      if (child.nodeType !== Node.TEXT_NODE || !child.data.trim()) continue;
      const range = document.createRange();
      range.selectNodeContents(child);
      const place = range.getBoundingClientRect();
      root.append(s("text", { x: place.left - box.left, y: place.bottom - box.top - place.height * 0.24, fill: look_.color, "font-size": look_.fontSize, "font-weight": look_.fontWeight, "font-family": look_.fontFamily }, child.data));
    }
  }
  return root;
}
