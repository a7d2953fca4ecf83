// The colours of drawings, made in OKLCH (Ottosson 2020), where equal steps look equal, for the ground that the page has.
// Shares go from the ground through yellow to blue on a light one and through blue to yellow on a dark one, their
// luminance only falling, or only rising; signed values go to blue and to orange, which every eye tells apart.

const [BLUE, YELLOW, ORANGE] = [262, 102, 55]; // hues
export const STEPS = 32; // of the maps that elements use, as custom properties: --s0 … --s32 and --d0 … --d32
// Okabe and Ito 2008, without black, which a dark ground swallows, and with yellow left to the maps
const OKABE = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9"];
const SERIES = { light: OKABE, dark: [OKABE[5], ...OKABE.slice(1, 5), OKABE[0]] };

const toLinear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
const toScreen = (v) => (v <= 0.0031308 ? 12.92 * v : 1.055 * v ** (1 / 2.4) - 0.055);

/** The relative luminance of WCAG 2, 0 to 1. @param {ArrayLike<number>} rgb of 0 to 255 */
export const luminance = ([r, g, b]) => 0.2126 * toLinear(r / 255) + 0.7152 * toLinear(g / 255) + 0.0722 * toLinear(b / 255);

/** The ratio of WCAG 2, 1 to 21; a text wants 4.5. */
export function contrast(one, other) {
  const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
}

/** Black or white, whichever is read better; one of them always has a contrast above 4.5. */
export const inkOn = (rgb) => (luminance(rgb) > 0.179 ? "#000000" : "#ffffff");

function linear(lightness, chroma, hue) {
  const a = chroma * Math.cos((hue * Math.PI) / 180);
  const b = chroma * Math.sin((hue * Math.PI) / 180);
  const l = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const m = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const s = (lightness - 0.0894841775 * a - 1.291485548 * b) ** 3;
  return [4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
    -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s, -0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s];
}

/** As bytes; a colour that a screen cannot show loses chroma until it can. @param {number} hue in degrees */
export function oklch(lightness, chroma, hue) {
  let shown = linear(lightness, chroma, hue);
  for (; chroma > 0.001 && !shown.every((x) => x >= -1e-4 && x <= 1 + 1e-4); shown = linear(lightness, chroma, hue)) chroma -= 0.002;
  return shown.map((x) => Math.round(255 * toScreen(Math.min(1, Math.max(0, x)))));
}

function lightnessOf(rgb) {
  const [r, g, b] = [...rgb].map((v) => toLinear(v / 255));
  return 0.2104542553 * Math.cbrt(0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b)
    + 0.793617785 * Math.cbrt(0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b)
    - 0.0040720468 * Math.cbrt(0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b);
}

/** A map of 256 colours, RGBA. share: 0 is the ground; signed: 128 is the ground, 1 the most negative, 255 the most
 * positive. @param {"share" | "plain" | "signed"} scale @param {number[]} ground rgb @returns {Uint8ClampedArray} */
export function make(scale, ground) {
  const dark = luminance(ground) < 0.18;
  const start = lightnessOf(ground);
  const map = new Uint8ClampedArray(1024);
  const set = (i, rgb) => map.set([...rgb, 255], 4 * i);
  if (scale === "signed") {
    const ends = dark ? [0.74, 0.8] : [0.42, 0.56];
    for (let i = 0; i < 256; i++) {
      const share = Math.min(1, Math.abs(i - 128) / 127);
      const side = i < 128 ? 0 : 1;
      set(i, share ? oklch(start + (ends[side] - start) * share, 0.16 * share, side ? ORANGE : BLUE) : ground);
    }
    return map;
  }
  const [end, from, to] = dark ? [0.93, BLUE, YELLOW] : [0.33, YELLOW, BLUE];
  set(0, ground);
  let last = luminance(ground);
  for (let i = 1; i < 256; i++) {
    const share = i / 255;
    let lightness = start + (end - start) * share ** 1.15; // what is small stays near the ground
    let rgb;
    do { // bytes are coarse: a step that does not show is taken a little further
      rgb = oklch(lightness, 0.145 * Math.min(1, 2.2 * share + 0.02), from + (to - from) * share);
      lightness += dark ? 5e-4 : -5e-4;
    } while (dark ? luminance(rgb) <= last : luminance(rgb) >= last);
    last = luminance(rgb);
    set(i, rgb);
  }
  return map;
}

/** The values at the ends of a map: of shares 0 and 1 or, where one is larger, the largest.
 * @param {ArrayLike<number>} values @returns {[number, number]} */
export function domain(values, scale) {
  let low = Infinity;
  let high = -Infinity;
  for (let i = 0; i < values.length; i++) {
    const v = values[i];
    if (v - v !== 0) continue; // neither NaN nor infinite
    if (v < low) low = v;
    if (v > high) high = v;
  }
  if (low > high) return [0, 1];
  if (scale === "share") return [0, Math.max(1, high)];
  const size = Math.max(Math.abs(low), Math.abs(high)) || 1;
  return scale === "signed" ? [-size, size] : [low, high > low ? high : low + 1];
}

/** The place of a value on a map, 0 to 255. Shares go by their square root, so that a row of 512 equal ones does not
 * vanish; what is above 0 never falls to place 0. */
export function level(value, scale, [low, high]) {
  const share = Math.min(1, Math.max(0, (value - low) / (high - low)));
  if (scale === "signed") return Math.round(128 + 127 * (2 * share - 1));
  if (scale === "share") return value > 0 ? Math.max(1, Math.round(255 * Math.sqrt(share))) : 0;
  return Math.round(255 * share);
}

let now = null;
const listeners = new Set();

function screen(name) {
  const probe = document.body.appendChild(document.createElement("i"));
  probe.style.color = `var(${name})`;
  const ink = new OffscreenCanvas(1, 1).getContext("2d");
  ink.fillStyle = getComputedStyle(probe).color;
  probe.remove();
  ink.fillRect(0, 0, 1, 1);
  return [...ink.getImageData(0, 0, 1, 1).data.slice(0, 3)];
}

/** What the page looks like now: dark, ground, ink, quiet, line as bytes, and maps by scale, each {bytes, words}.
 * @returns {any} */
export function look() {
  if (now) return now;
  const ground = screen("--ground");
  now = { dark: luminance(ground) < 0.18, ground, ink: screen("--ink"), quiet: screen("--quiet"), line: screen("--line"), maps: {} };
  for (const scale of ["share", "signed"]) {
    const bytes = make(scale, ground);
    now.maps[scale] = { bytes, words: new Uint32Array(bytes.buffer) };
  }
  now.maps.plain = now.maps.share;
  const root = document.documentElement.style;
  SERIES[now.dark ? "dark" : "light"].forEach((colour, i) => root.setProperty(`--c${i}`, colour));
  for (const [scale, letter] of [["share", "s"], ["signed", "d"]]) {
    for (let i = 0; i <= STEPS; i++) {
      const at = 4 * (scale === "signed" ? Math.max(1, 8 * i - (i === STEPS ? 1 : 0)) : Math.round((255 * i) / STEPS));
      const rgb = [...now.maps[scale].bytes.slice(at, at + 3)];
      root.setProperty(`--${letter}${i}`, css(rgb));
      root.setProperty(`--${letter}${i}-ink`, inkOn(rgb));
    }
  }
  return now;
}

/** @param {ArrayLike<number>} rgb */
export const css = ([r, g, b]) => `rgb(${r} ${g} ${b})`;

/** Background and ink of an element by its value, which follow the theme by themselves. */
export function shade(value, scale, ends) {
  if (value === null || !Number.isFinite(value)) return {};
  const name = `--${scale === "signed" ? "d" : "s"}${step(value, scale, ends)}`;
  return { background: `var(${name})`, color: `var(${name}-ink)` };
}

function step(value, scale, ends) {
  const at = level(value, scale, ends);
  if (scale === "signed") return Math.round(STEPS / 2 + (at - 128) * (STEPS / 2 / 127));
  return at ? Math.max(1, Math.round((STEPS * at) / 255)) : 0;
}

/** Draw now, and again whenever the theme changes, as long as the element is on the page. */
export function themed(el, draw) {
  listeners.add({ el, draw });
  draw();
}

function changed() {
  now = null;
  look();
  for (const one of listeners) {
    if (one.el.isConnected) one.draw();
    else listeners.delete(one);
  }
}
new MutationObserver(changed).observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", changed);
