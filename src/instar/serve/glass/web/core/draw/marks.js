// How every drawing is read: by pointing, by the keyboard, by ear. A mark is a thing with a value and a sentence.
import { hide, tipAt } from "../tip.js";
import { t, words } from "../i18n.js";
import { shown } from "../shown.js";
import { num } from "../numbers.js";

/** A label for the eye: words of ours as they are, a token with its blanks at the ends. @param {any} what */
export function label(what) {
  if (what === null || what === undefined) return "";
  const text = shown(words(what), { spaces: false }).replaceAll("\n", "↵").replaceAll("\t", "⇥");
  return text.replace(/^ +| +$/g, (blanks) => "·".repeat(blanks.length));
}

/** Six digits, and no more than there are. @param {number | null} x */
export const exact = (x) => (x === null || x === undefined || !Number.isFinite(x) ? t("draw.none") : String(Number(x.toPrecision(6))).replace("-", "−"));

/** A cell of a table. @param {any} value */
export function said(value) {
  if (value === null || value === undefined) return "–";
  if (value === true) return "✓";
  if (value === false) return "–";
  return typeof value === "number" ? num(value).replace(/^-/, "−") : label(value);
}

/** Whether a mark is (part of) what is selected: it shares a key with it, and no shared key differs. */
export function matches(pick, selected) {
  const keys = Object.keys(selected ?? {}).filter((key) => selected[key] !== null && selected[key] !== undefined && key in (pick ?? {}));
  return keys.length > 0 && keys.every((key) => pick[key] === selected[key]);
}

/** An element that has a cursor of its own: role, name, and its part of the keyboard.
 * @param {HTMLElement} host @param {string} name @param {{start: () => void, leave: () => void, key: (event: KeyboardEvent) => boolean}} does
 * key tells whether it took the key */
export function reader(host, name, { start, leave, key }) {
  host.tabIndex = 0;
  host.setAttribute("role", "application");
  host.setAttribute("aria-label", name);
  host.setAttribute("aria-roledescription", t("draw.reads"));
  // the page hides its tip when the focus moves, so ours comes after that
  host.addEventListener("focus", () => host.matches(":focus-visible") && requestAnimationFrame(start));
  host.addEventListener("blur", leave);
  host.addEventListener("keydown", (event) => {
    if (event.target === host && !event.ctrlKey && !event.metaKey && !event.altKey && key(event)) event.preventDefault();
  });
}

/** Make an element with marks readable. Arrows go from mark to mark, rows being `across` long, or as `move(at, key)`
 * says; the first `stops` marks are where they stop. Gives a function that outlines what is selected.
 * @param {HTMLElement} host @param {{el: Element, say: string, value?: any, pick?: any}[]} marks
 * @param {{pick?: Function, peek?: Function, say?: Function}} ctx */
export function read(host, marks, ctx, { across = 1, stops = marks.length, move = null, name = "" } = {}) {
  let at = -1;
  marks.forEach((mark, i) => {
    mark.el.dataset.m = String(i);
    if (mark.value !== undefined) mark.el.dataset.value = String(mark.value);
    if (ctx.pick && mark.pick) mark.el.classList.add("picks");
  });

  function point(i, aloud = false) {
    if (i === at && !aloud) return;
    marks[at]?.el.classList.remove("at");
    at = i;
    const mark = marks[i];
    if (!mark) {
      hide();
      ctx.peek?.(null);
      return;
    }
    mark.el.classList.add("at");
    if (aloud) {
      mark.el.scrollIntoView({ block: "nearest", inline: "nearest" });
      ctx.say?.(mark.say);
    }
    tipAt(mark.el, mark.say);
    ctx.peek?.(mark.pick ?? null);
  }
  const under = (event) => {
    const el = event.target instanceof Element ? event.target.closest("[data-m]") : null;
    return el && host.contains(el) ? Number(el.dataset.m) : -1;
  };
  const pick = (i) => marks[i]?.pick && ctx.pick?.(marks[i].pick);
  const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -across, ArrowDown: across };

  host.addEventListener("pointerover", (event) => point(under(event)));
  host.addEventListener("pointerleave", () => point(-1));
  host.addEventListener("click", (event) => pick(under(event)));
  reader(host, name, { start: () => point(Math.max(0, at), true), leave: () => point(-1), key({ key }) {
    let to;
    if (key === "Enter" || key === " ") {
      if (!ctx.pick) return false;
      pick(at);
      to = at;
    } else if (key === "Home" || key === "End") to = key === "Home" ? 0 : stops - 1;
    else if (key in steps) to = move ? move(Math.max(0, at), key) : at < 0 ? 0 : at + steps[key];
    else return false;
    if (to >= 0 && to < stops) point(to, true);
    return true;
  } });
  const select = (selected) => marks.forEach(({ el, pick: own }) => el.classList.toggle("chosen", matches(own, selected)));
  select(ctx.selected);
  return select;
}

const pen = new OffscreenCanvas(1, 1).getContext("2d");

/** How wide a text is, in pixels. @param {string} text @param {number} [size] */
export function wide(text, size = 11) {
  pen.font = `${size}px system-ui, sans-serif`;
  return pen.measureText(text).width;
}

/** A text cut to the room there is. @param {string} text @param {number} room in pixels */
export function fit(text, room, size = 11) {
  if (wide(text, size) <= room) return text;
  const signs = [...text];
  while (signs.length > 1 && wide(`${signs.join("")}…`, size) > room) signs.pop();
  return `${signs.join("")}…`;
}

/** The room that labels want, at most `most`. Long lists are sampled. */
export function widest(labels, most, size = 11) {
  let found = 0;
  const every = Math.ceil(labels.length / 200);
  for (let i = 0; i < labels.length && found < most; i += every) found = Math.max(found, wide(labels[i], size));
  return Math.min(most, Math.ceil(found));
}

/** A box that is drawn when its width is known, and again when it changes. @param {(el: HTMLElement, width: number) => void} paint */
export function sized(paint) {
  const el = document.createElement("div");
  el.className = "sized";
  let width = 0;
  new ResizeObserver(([entry]) => {
    const now = Math.floor(entry.contentRect.width);
    if (!now || Math.abs(now - width) < 2) return;
    width = now;
    requestAnimationFrame(() => paint(el, width));
  }).observe(el);
  return Object.assign(el, { again: () => width && paint(el, width) });
}
