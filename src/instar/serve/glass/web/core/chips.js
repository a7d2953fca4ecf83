// Proofs: what was checked on this very text, how far off it was, and how far it may be.
import { h } from "./h.js";
import { has, t, words } from "./i18n.js";
import { sci } from "./numbers.js";
import { hide, tipAt } from "./tip.js";

const brief = (x) => (x === null ? "NaN" : x === 0 ? "0" : Math.abs(x) >= 0.01 && Math.abs(x) < 1e4 ? String(Number(x.toPrecision(3))) : sci(x).replace(".0e", "e"));

/** @param {{name: string, gap: number | null, limit: number, green: boolean, about: any}} check */
export function chip(check) {
  const name = has(`draw.check.${check.name}`) ? t(`draw.check.${check.name}`) : check.name.replaceAll("_", " ");
  const number = check.green && check.gap === 0 && check.limit === 0 ? "= 0" : `${brief(check.gap)} ${check.green ? "≤" : ">"} ${brief(check.limit)}`;
  const about = () => tipAt(el, `${words(check.about)}\n${check.gap ?? "NaN"} ${check.green ? "≤" : ">"} ${check.limit}`);
  const el = h("li", { class: `chip ${check.green ? "green" : "red"}`, tabindex: "0", dataset: { testid: `chip-${check.name}`, value: String(check.gap), limit: String(check.limit), green: String(check.green) },
    aria: { label: `${t(check.green ? "draw.green" : "draw.red")}: ${words(check.about)}, ${number}` },
    on: { pointerenter: about, pointerleave: hide, focus: () => requestAnimationFrame(about), blur: hide } },
  h("span", { aria: { hidden: "true" } }, check.green ? "✓" : "✗"), ` ${name} `, h("span", { class: "mono" }, number));
  return el;
}

/** All checks, red ones first, with one line that sums them up. @param {any[]} checks @param {{open?: boolean}} [how] */
export function chips(checks, { open = true } = {}) {
  if (!checks?.length) return null;
  const red = checks.filter((check) => !check.green);
  const said = red.length ? t("draw.reds", { n: red.length, all: checks.length }) : checks.length === 1 ? t("draw.one") : t("draw.greens", { n: checks.length });
  return h("details", { class: "proof", open: open || red.length > 0, dataset: { testid: "proof", value: String(red.length) } },
    h("summary", { class: red.length ? "red" : "green" }, h("span", { aria: { hidden: "true" } }, red.length ? "✗ " : "✓ "), said),
    h("ul", {}, [...red, ...checks.filter((check) => check.green)].map(chip)));
}
