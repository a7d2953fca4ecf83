// Numbers as people read them; the exact ones stand in data-value.

/** Example: 0.7123 -> "0.712", 12345.6 -> "12,346", 1.2e-7 -> "1.2e-7" @param {number | null} x @param {number} [digits] */
export function num(x, digits = 3) {
  if (x === null || x === undefined || !Number.isFinite(x)) return "–";
  const size = Math.abs(x);
  if (size !== 0 && (size < 10 ** -digits || size >= 1e9)) return sci(x);
  if (size >= 1000) return Math.round(x).toLocaleString("en-US");
  return Number.isInteger(x) ? String(x) : x.toFixed(size >= 100 ? Math.min(1, digits) : size >= 10 ? Math.min(2, digits) : digits);
}

/** @param {number} x */
export const sci = (x) => (x === 0 ? "0" : x.toExponential(1).replace("e+", "e"));

/** @param {number | null} p from 0 to 1 */
export function percent(p) {
  if (p === null || p === undefined || !Number.isFinite(p)) return "–";
  const share = 100 * p;
  if (share !== 0 && share < 0.01) return "<0.01%";
  if (share !== 100 && share > 99.99) return ">99.99%";
  if (share !== 100 && share >= 99.5) return `${share.toFixed(2)}%`;
  return `${share.toFixed(share >= 10 || share === 0 ? 0 : share >= 1 ? 1 : 2)}%`;
}

/** @param {number} n */
export function bytes(n) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let at = 0;
  for (; n >= 1000 && at < units.length - 1; at++) n /= 1000;
  return `${at ? n.toFixed(n >= 100 ? 0 : 1) : n} ${units[at]}`;
}

/** @param {number} n */
export const count = (n) => Math.round(n).toLocaleString("en-US");
