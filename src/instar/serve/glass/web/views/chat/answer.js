// An answer on the page, token by token: how surprised the model was is how thick and how warm the line below is.
// data-testid: said-I, data-value: log p in nats
import { h, put } from "../../core/h.js";
import { shown } from "../../core/shown.js";
import { raw } from "../../core/strip.js";
import { plain } from "./tree.js";

const NATS = 6; // surprise that is drawn in full

const hex = (token) => [...raw(token.b64)].map((byte) => byte.toString(16).toUpperCase().padStart(2, "0")).join(" ");

/** @param {any} said @param {{label: string, pick: (i: number) => void, peek: (i: number) => void}} does
 * @param {number} [first] tokens before it are drawn as plain text */
export function drawn(said, does, first = 0) {
  const el = h("div", { class: "said", role: "group", aria: { label: does.label } });
  const marks = []; // the element of each token
  let open = []; // tokens, drawn as bytes, whose character is not whole yet
  let waiting = [];
  let frame = 0;
  let current = -1;

  function mark(token, i, props) {
    return (marks[i] = h("bdi", {
      role: "button", tabindex: -1, dataset: { testid: `said-${i}`, value: token.logprob, i }, ...props,
      style: { "--s": String(Math.min(1, -token.logprob / NATS)), ...props.style },
    }));
  }

  /** One token more: words as they are, a character's bytes until it is whole, then the character once. */
  function add(token, i) {
    if (token.broken) open = []; // what was begun never became a character
    if (!token.text && token.b64) {
      if (!token.broken) open.push(i);
      el.append(mark(token, i, { class: "tk bytes", text: hex(token) }));
      return;
    }
    if (!open.length) {
      const blank = /^\s*\n\s*$/.test(token.text);
      el.append(mark(token, i, { class: `tk${blank ? " nl" : ""}`, text: shown(token.text, { spaces: false }) }));
      return;
    }
    const parts = [...open, i];
    open = [];
    const whole = h("span", { class: "chara" }, h("bdi", { text: shown(token.text, { spaces: false }) }));
    const focused = parts.some((n) => marks[n] === document.activeElement);
    marks[parts[0]].before(whole);
    parts.forEach((n, k) => {
      marks[n]?.remove();
      whole.append(mark(said.tokens[n], n, {
        class: "tk seg", aria: { label: `${shown(token.text)} ${k + 1}/${parts.length}` },
        style: { left: `${(100 * k) / parts.length}%`, width: `${100 / parts.length}%` },
      }));
    });
    if (focused || parts.includes(current)) focus(current, focused);
  }

  function flush() {
    frame = 0;
    const fresh = waiting;
    waiting = [];
    fresh.forEach(([token, i]) => add(token, i));
    if (current < 0 && marks[first]) marks[first].tabIndex = 0;
    does.grown?.();
  }

  /** Make a token the one that the keyboard stands on. @param {number} i */
  function focus(i, really = true) {
    marks[current]?.setAttribute("tabindex", "-1");
    marks[first]?.setAttribute("tabindex", "-1");
    current = i;
    if (!marks[i]) return;
    marks[i].tabIndex = 0;
    if (really) marks[i].focus();
  }

  function choose(i) {
    el.querySelector(".chosen")?.classList.remove("chosen");
    marks[i]?.classList.add("chosen");
  }

  const at = (event) => {
    const mark = event.target instanceof Element ? event.target.closest(".tk") : null;
    return mark ? Number(mark.dataset.i) : -1;
  };
  el.addEventListener("pointerover", (event) => does.peek(at(event)));
  el.addEventListener("pointerleave", () => does.peek(-1));
  el.addEventListener("focusin", (event) => at(event) >= 0 && does.peek(at(event)));
  el.addEventListener("click", (event) => {
    const i = at(event);
    if (i < 0 || String(getSelection()).length) return;
    focus(i, false);
    does.pick(i);
  });
  el.addEventListener("keydown", (event) => {
    const i = at(event);
    if (i < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
    const to = { ArrowLeft: i - 1, ArrowRight: i + 1, Home: first, End: said.tokens.length - 1 }[event.key];
    if (to === undefined && event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    if (to === undefined) does.pick(i);
    else focus(Math.max(first, Math.min(said.tokens.length - 1, to)));
  });

  if (first) el.append(h("bdi", { text: shown(said.tokens.slice(0, first).map((token) => token.text).join(""), { spaces: false }) }));
  said.tokens.slice(first).forEach((token, n) => add(token, first + n));
  if (marks[first]) marks[first].tabIndex = 0;

  return {
    el, choose, focus,
    /** A token that was just said; all of a frame are drawn together. */
    push(token) {
      waiting.push([token, said.tokens.length - 1]);
      frame ||= requestAnimationFrame(flush);
    },
    /** Nothing more comes. */
    settle() {
      cancelAnimationFrame(frame);
      if (waiting.length) flush();
    },
  };
}

/** An answer as text alone, as long conversations show what was said long ago. */
export function undrawn(said) {
  return put(h("div", { class: "said" }), h("bdi", { text: shown(plain(said), { spaces: false }) }));
}
