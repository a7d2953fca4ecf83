// The state that a link holds: everything that was chosen, and nothing that was computed. What is usual is left out.

/** @type {Object<string, string | number>} */
const USUAL = {
  view: "chat", model: "", adapter: "", vs: "", text: "", ids: "", chat: 0, target: "", token: -1, layer: -1, head: -1,
  kind: "raw", level: "token", side: "auto", explain: "", method: "direct", lang: "", theme: "", tour: 0,
};

let home = null; // the store, once it is bound

/** A view's own keys with their usual values; numbers stay numbers. A view comes later than the address does, which may
 * hold them already. @param {Object<string, string | number>} keys */
export function declare(keys) {
  Object.assign(USUAL, keys);
  if (!home) return;
  const [now, said] = [home.get(), read(location.hash)];
  home.set(Object.fromEntries(Object.keys(keys).filter((key) => now[key] === undefined).map((key) => [key, said[key]])));
}

/** @param {string} hash @returns {Object<string, string | number>} every declared key */
export function read(hash) {
  const said = new URLSearchParams(hash.replace(/^#/, ""));
  const state = { ...USUAL };
  for (const [key, value] of said) {
    if (!Object.hasOwn(USUAL, key)) continue;
    if (typeof USUAL[key] !== "number") state[key] = value;
    else if (value !== "" && Number.isFinite(Number(value))) state[key] = Number(value);
  }
  return state;
}

/** @param {Object<string, any>} state @param {string} [before] the hash that it takes the place of @returns {string} */
export function write(state, before = "") {
  const said = new URLSearchParams();
  for (const [key, usual] of Object.entries(USUAL)) {
    if (state[key] !== undefined && state[key] !== usual) said.set(key, String(state[key]));
  }
  // what a view that has not been opened yet will declare
  for (const [key, value] of new URLSearchParams(before.replace(/^#/, ""))) if (!Object.hasOwn(USUAL, key)) said.set(key, value);
  return String(said);
}

/** Keep the store and the address the same, both ways. A change of view or text is a step that "back" undoes; all others
 * replace the step before. */
export function bind(store) {
  home = store;
  let said = location.hash.replace(/^#/, "");
  let timer = 0;
  let step = false;
  function save() {
    timer = 0;
    const now = write(store.get(), said);
    if (now === said) return;
    said = now;
    history[step ? "pushState" : "replaceState"](null, "", `#${now}`);
    step = false;
  }
  store.on(null, (state, changed) => {
    if (["view", "text", "ids"].some((key) => changed.has(key))) step = true;
    // browsers allow some hundred changes of the address in half a minute, and a slider makes more
    timer ||= setTimeout(save, 150);
  });
  const back = () => {
    said = location.hash.replace(/^#/, "");
    step = false;
    store.set(read(location.hash));
  };
  addEventListener("popstate", back);
  addEventListener("hashchange", back);
}
