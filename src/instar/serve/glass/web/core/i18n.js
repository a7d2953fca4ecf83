// The page's words in English and Chinese. Objects of the API bring both: {en, zh}.

let language = "en";
let texts = {};
const loaded = {};

/** What the browser prefers. */
export const preferred = () => (navigator.languages?.[0] ?? navigator.language ?? "en").toLowerCase().startsWith("zh") ? "zh" : "en";

/** @param {string} wanted en or zh */
export async function speak(wanted) {
  loaded[wanted] ??= load(wanted);
  texts = await loaded[wanted];
  language = wanted;
  document.documentElement.lang = wanted === "zh" ? "zh-Hans" : "en";
}

async function load(wanted) {
  const answer = await fetch(new URL(`../i18n/${wanted}.json`, import.meta.url));
  return answer.ok ? answer.json() : {};
}

export const spoken = () => language;

/** A text of the page with its {gaps} filled. An unknown key shows itself. @param {string} key
 * @param {Object<string, any>} [gaps] */
export function t(key, gaps = {}) {
  const text = texts[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (all, name) => (name in gaps ? String(gaps[name]) : all));
}

export const has = (key) => key in texts;

/** What the API says in both languages, or in one alone. @param {any} said */
export function words(said) {
  if (said === null || said === undefined) return "";
  return typeof said === "object" ? (said[language] || said.en) : String(said);
}
