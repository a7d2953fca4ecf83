// The text byte by byte, and over which bytes each character and token reaches, in blocks that wrap.
import { h } from "../../core/h.js";
import { shown, word } from "../../core/shown.js";
import { id } from "../sides.js";
import { hex, letters, octets } from "./octets.js";

const MOST = 80; // tokens that are drawn: those around the selected one

/** @param {any} one @param {any} other the compared model's side, or none @param {any[]} words @param {number} chosen
 * @param {any} ctx */
export function cut(one, other, words, chosen, { store, t }) {
  const { tokens } = one.data;
  const joined = (side) => side.data.tokens.map((token) => token.bytes).filter(Boolean).join(" ");
  const aligned = other && joined(one) === joined(other);
  const theirs = other?.data.tokens ?? [];
  const blocks = split(tokens, words, aligned ? theirs : null);
  const here = blocks.findIndex((block) => block.own.includes(chosen));
  const near = blocks.slice(Math.max(0, here - MOST / 2), here + MOST / 2);
  const place = (row, column, size) => ({ gridRow: String(row), gridColumn: `${column} / span ${size}` });

  function row(line, places, list, made) {
    let column = 1;
    return places.map((i) => {
      const size = Math.max(1, octets(list[i].bytes).length);
      const [tag, props] = made(list[i], i);
      column += size;
      return h(tag, { ...props, class: `piece ${props.class}${list[i].control ? " control" : ""}`, style: place(line, column - size, size) }, word(list[i].piece), h("small", { class: "mono" }, list[i].id));
    });
  }
  function drawn({ own, their }) {
    const bytes = own.flatMap((i) => octets(tokens[i].bytes).map((byte) => ({ byte, i })));
    let column = 1;
    return h("div", { class: "block" },
      letters(bytes.map((each) => each.byte)).map(({ text, size }) => h("bdi", { class: "letter", style: place(1, column, size),
        dataset: { testid: "letter", at: [...new Set(bytes.slice(column - 1, (column += size) - 1).map((each) => each.i))].join(" ") } }, text ? shown(text) : "⋯")),
      bytes.map(({ byte, i }, n) => h("span", { class: "octet mono", dataset: { testid: "octet", at: i }, style: place(2, n + 1, 1) }, hex(byte))),
      row(3, own, tokens, (token, i) => ["button", { type: "button", class: i === chosen ? "chosen" : "", tabindex: i === chosen ? 0 : -1, aria: { pressed: String(i === chosen) }, dataset: { ...id(`piece-${i}`, token.id), at: i } }]),
      row(4, their, theirs, (token, i) => ["span", { class: "theirs", dataset: id(`other-${i}`, token.id) }]));
  }

  const under = (event) => event.target.closest("[data-at]")?.dataset.at.split(" ") ?? [];
  const mark = (lit) => root.querySelectorAll("[data-at]").forEach((el) => el.classList.toggle("lit", el.dataset.at.split(" ").some((i) => lit.includes(i))));
  const root = h("div", { class: "cut", dataset: id("cut"), on: {
    pointerover: (event) => mark(under(event)), pointerleave: () => mark([]), click: (event) => under(event)[0] && store.set({ token: Number(under(event)[0]) }),
  } }, h("div", { class: "block heads" }, [t("tokens.characters"), t("tokens.octets"), t("tokens.tokens"), aligned && other.name].map((name, n) => name && h("span", { style: { gridRow: String(n + 1) } }, name))), near.map(drawn));
  return [root, near.length < blocks.length ? h("p", { class: "quiet" }, t("tokens.window", { n: near.length, all: blocks.length })) : null,
    other && !aligned ? [h("p", { class: "note" }, t("tokens.apart")), h("div", { class: "cut", tabindex: "0", role: "group", aria: { label: other.name } }, theirs.slice(0, MOST).map((_, j) => drawn({ own: [], their: [j] })))] : null,
    h("p", { class: "quiet" }, [one, other].map((side, n) => side && [n ? " · " : "", side.name ? `${side.name}: ` : "", h("span", { tip: "tokens.tip.rate", dataset: id(n ? "other-rate" : "rate", side.data.bytes_per_token) },
      t("tokens.rate", { n: side.data.tokens.length, rate: (side.data.bytes_per_token ?? 0).toFixed(2) }))]))];
}

/** Blocks of tokens that end where a word ends, and where a token of the other model ends too; what has no bytes there
 * stands alone. @returns {{own: number[], their: number[]}[]} */
function split(tokens, words, theirs) {
  const word = new Map(words.flatMap((each, n) => each.places.map((i) => [i, n])));
  const starts = (list) => { let sum = 0; return list.map((token) => (sum += octets(token.bytes).length) - octets(token.bytes).length); };
  const [from, other] = [starts(tokens), starts(theirs ?? [])];
  const joins = (i) => i > 0 && (tokens[i].part[0] > 1 || (word.has(i) && word.get(i) === word.get(i - 1)) || (theirs && tokens[i].bytes && tokens[i - 1].bytes && !other.includes(from[i])));
  const own = [];
  tokens.forEach((_, i) => (joins(i) ? own.at(-1).push(i) : own.push([i])));
  let j = 0;
  const blocks = own.flatMap((places, n) => {
    const until = n + 1 < own.length ? from[own[n + 1][0]] : Infinity;
    const alone = [];
    const their = [];
    for (; j < other.length && (other[j] < until || (!theirs[j].bytes && !tokens[places[0]].bytes && !their.length)); j++) {
      if (theirs[j].bytes || !tokens[places[0]].bytes) their.push(j);
      else alone.push({ own: [], their: [j], last: other[j] > from[places[0]] });
    }
    return [...alone.filter((one) => !one.last), { own: places, their }, ...alone.filter((one) => one.last)];
  });
  return blocks;
}
