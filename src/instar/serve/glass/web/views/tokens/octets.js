// Bytes as characters (UTF-8, RFC 3629), also where a token ends inside one.

/** Example: "E7 8B" -> [231, 139] @param {string} hex @returns {number[]} */
export const octets = (hex) => (hex ? hex.split(" ").map((pair) => parseInt(pair, 16)) : []);

export const hex = (byte) => byte.toString(16).toUpperCase().padStart(2, "0");

const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Characters and how many bytes each takes, "" for a byte that is no whole character.
 * Example: [65, 231, 139, 151] -> [{text: "A", size: 1}, {text: "狗", size: 3}] @param {number[]} bytes */
export function letters(bytes) {
  const found = [];
  for (let i = 0; i < bytes.length; i += found.at(-1).size) {
    const lead = bytes[i];
    let size = lead < 0x80 ? 1 : lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    let text = "";
    try {
      text = strict.decode(new Uint8Array(bytes.slice(i, i + size)));
    } catch {
      size = 1; // no character: its bytes stand alone
    }
    found.push({ text, size });
  }
  return found;
}

/** How many bytes of a word a piece takes from a place on, 0 where it does not fit; pieces that are no whole characters
 * are spelt <E7 8B>. @param {string} piece @param {number[]} bytes @param {number} from */
export function sizeOf(piece, bytes, from) {
  const spelt = /^<([0-9A-F]{2}(?: [0-9A-F]{2})*)>$/.exec(piece);
  const fits = [[...new TextEncoder().encode(piece)], spelt ? octets(spelt[1]) : []].find((own) => own.length && own.every((byte, i) => bytes[from + i] === byte));
  return fits?.length ?? 0;
}
