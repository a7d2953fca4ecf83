// Elements by name, properties and children. Texts go in as text nodes alone, so that no word of a model becomes markup.
import { explain } from "./tip.js";

const SVG = "http://www.w3.org/2000/svg";

/** An HTML element. Properties: class, text, title, dataset, style (through the CSSOM), on, aria, tip (a glossary key);
 * all others are attributes, true being an empty one, null and false none.
 * @param {string} tag @param {Object<string, any>} [props] @param {...any} children @returns {HTMLElement} */
export function h(tag, props, ...children) {
  return fill(document.createElement(tag), props, children);
}

/** The same of SVG. @param {string} tag @param {Object<string, any>} [props] @param {...any} children
 * @returns {SVGElement} */
export function s(tag, props, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

/** Replace what is in an element. @param {Element} el @param {...any} children */
export function put(el, ...children) {
  clear(el);
  add(el, children);
  return el;
}

/** @param {Element} el */
export function clear(el) {
  el.replaceChildren();
  return el;
}

function fill(el, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) set(el, name, value);
  add(el, children);
  return el;
}

function set(el, name, value) {
  if (value === null || value === undefined || value === false) return;
  if (name === "class") el.setAttribute("class", value);
  else if (name === "text") el.textContent = value;
  else if (name === "dataset") Object.assign(el.dataset, value);
  else if (name === "on") for (const [event, heard] of Object.entries(value)) el.addEventListener(event, heard);
  else if (name === "aria") for (const [key, said] of Object.entries(value)) el.setAttribute(`aria-${key}`, said);
  else if (name === "tip") explain(el, value);
  else if (name === "value" && "value" in el) el.value = value;
  else if (name === "checked") el.checked = Boolean(value);
  else if (name === "style") {
    for (const [key, said] of Object.entries(value)) {
      if (key.startsWith("--")) el.style.setProperty(key, said);
      else el.style[key] = said;
    }
  } else el.setAttribute(name, value === true ? "" : value);
}

function add(el, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    el.append(child instanceof Node ? child : String(child));
  }
}
