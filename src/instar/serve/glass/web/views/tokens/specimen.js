// The selected token under the glass: its characters, each once, their bytes and bits.
import { h } from "../../core/h.js";
import { shown, word } from "../../core/shown.js";
import { id } from "../sides.js";
import { hex, letters, octets } from "./octets.js";

const MOST = 24; // bytes that are drawn

/** @param {any[]} tokens of the panel @param {number} chosen @param {any} ctx */
export function specimen(tokens, chosen, { t }) {
  const token = tokens[chosen];
  const [part, of] = token.part;
  const first = chosen - part + 1; // of the tokens that share a character
  const bytes = tokens.slice(first, first + of).flatMap((each, n) => octets(each.bytes).map((byte) => ({ byte, own: first + n === chosen }))).slice(0, MOST);
  let from = 0;
  const glyphs = letters(bytes.map((each) => each.byte)).map(({ text, size }) => h("div", { class: "under" },
    h("bdi", { class: "big", dataset: id("glyph"), title: text ? null : t("tokens.unfinished") }, text ? shown(text) : "⋯"),
    h("div", { class: "octets" }, bytes.slice(from, from += size).map(({ byte, own }, n) => h("span", { class: own ? "own" : "", tip: "tokens.tip.bits" }, h("b", { class: "mono" }, hex(byte)), bits(byte, n, size)))),
    text && size > 1 ? h("span", { class: "quiet mono" }, `U+${text.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`) : null));
  return h("section", { class: "specimen", dataset: id("specimen", token.id) },
    glyphs.length ? h("div", { class: "glyphs" }, glyphs) : word(token.piece, { class: "big control", dataset: id("glyph") }),
    h("p", { class: "facts" }, h("span", { tip: "glossary.id" }, "id ", h("b", { class: "mono" }, token.id)),
      token.bytes ? h("span", { tip: "glossary.bytes" }, t("tokens.bytes", { n: octets(token.bytes).length })) : null,
      token.control ? h("span", { tip: "tokens.tip.control" }, t("tokens.control")) : null,
      of > 1 ? h("span", { class: "warm", tip: "glossary.part" }, t("tokens.part", { k: part, n: of })) : null));
}

/** The bits that say how a byte is used, and those that say which character. */
function bits(byte, n, size) {
  const all = byte.toString(2).padStart(8, "0");
  const fixed = byte < 0x80 ? 1 : n || size === 1 ? 2 : size + 1;
  return h("small", { class: "mono" }, h("u", {}, all.slice(0, fixed)), all.slice(fixed));
}
