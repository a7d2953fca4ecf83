// Words of models and people for the eye: what cannot be seen is spelt out, what turns the line round is made harmless.
import { h } from "./h.js";

const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;

const SIGNS = { " ": "·", "\n": "↵", "\t": "⇥" };

/** Example: "a b\n" -> "a·b↵" @param {string} text @param {{spaces?: boolean}} [how] */
export function shown(text, { spaces = true } = {}) {
  const plain = text.replace(HIDDEN, (c) => `⟨U+${c.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`);
  // the blanks of bytes that are spelt out, such as <E4 B8>, are no part of the text
  return spaces ? plain.replace(/<[0-9A-F]{2}(?: [0-9A-F]{2})*>|[ \n\t]/g, (c) => SIGNS[c] ?? c) : plain;
}

/** The same as an element whose direction reaches nothing beside it. @param {string} text @param {Object} [props] */
export function word(text, props = {}, how = {}) {
  return h("bdi", { ...props, text: shown(text, how) });
}
