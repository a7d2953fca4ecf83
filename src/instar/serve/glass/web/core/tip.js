// What a number means, said when one points at it or reaches it by keyboard.
import { has, t } from "./i18n.js";

let bubble = null;
let shownFor = null;

/** Explain an element by a key of the glossary. An element that has no other use for the keyboard can then be reached.
 * @param {Element} el @param {string} key */
export function explain(el, key) {
  el.dataset.tip = key;
  if (!el.matches("button, a, input, select, textarea, [tabindex]")) el.setAttribute("tabindex", "0");
}

/** Say a text at an element, as views do for what they draw. @param {Element} el @param {string} text */
export function tipAt(el, text) {
  if (!bubble) return;
  if (!text) return hide();
  bubble.textContent = text;
  bubble.hidden = false;
  shownFor = el;
  place(el.getBoundingClientRect());
}

export function hide() {
  if (!bubble || bubble.hidden) return;
  bubble.hidden = true;
  shownFor?.removeAttribute("aria-describedby");
  shownFor = null;
}

function place(box) {
  const wide = bubble.offsetWidth;
  const high = bubble.offsetHeight;
  const left = Math.max(8, Math.min(innerWidth - wide - 8, box.left + box.width / 2 - wide / 2));
  const above = box.top - high - 8;
  bubble.style.left = `${left}px`;
  bubble.style.top = `${above > 8 ? above : Math.min(innerHeight - high - 8, box.bottom + 8)}px`;
}

/** Once for the page. */
export function startTips() {
  bubble = document.createElement("div");
  bubble.className = "tip";
  bubble.id = "tip";
  bubble.setAttribute("role", "tooltip");
  bubble.hidden = true;
  document.body.append(bubble);
  const over = (event) => {
    const el = event.target instanceof Element ? event.target.closest("[data-tip]") : null;
    if (!el) return event.type === "focusin" ? hide() : undefined;
    if (el === shownFor || !has(el.dataset.tip)) return;
    hide();
    tipAt(el, t(el.dataset.tip));
    el.setAttribute("aria-describedby", "tip");
  };
  document.addEventListener("pointerover", over);
  document.addEventListener("focusin", over);
  document.addEventListener("pointerout", (event) => {
    if (shownFor?.dataset.tip && !shownFor.contains(event.relatedTarget)) hide();
  });
  document.addEventListener("focusout", hide);
  document.addEventListener("keydown", (event) => event.key === "Escape" && hide());
  addEventListener("scroll", hide, true);
}
