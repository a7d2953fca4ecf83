// One state for the whole page; whoever asked hears what changed, once for all changes of a moment.

/** @param {Object<string, any>} first */
export function createStore(first) {
  let state = { ...first };
  let changed = new Set();
  /** @type {Set<{keys: Set<string> | null, heard: Function}>} */
  const listeners = new Set();

  function tell() {
    const now = changed;
    changed = new Set();
    for (const one of [...listeners]) {
      if (!listeners.has(one)) continue; // it left while the others were told
      if (!one.keys || [...now].some((key) => one.keys.has(key))) one.heard(state, now);
    }
  }

  return {
    get: () => state,
    /** @param {Object<string, any>} patch */
    set(patch) {
      const fresh = Object.entries(patch).filter(([key, value]) => state[key] !== value);
      if (!fresh.length) return;
      if (!changed.size) queueMicrotask(tell);
      state = { ...state, ...Object.fromEntries(fresh) };
      for (const [key] of fresh) changed.add(key);
    },
    /** Hear of some keys, or of all (null) -> how to stop. @param {string[] | null} keys @param {Function} heard */
    on(keys, heard) {
      const one = { keys: keys && new Set(keys), heard };
      listeners.add(one);
      return () => listeners.delete(one);
    },
  };
}
