// The text that is looked at, read by the model once: the trace that all views ask their numbers of.
import { api, ApiError } from "./api.js";

const maskOf = (state) => modelOf(state)?.mask;

/** The model of the state, as the list of models tells it. */
export const modelOf = (state) => state.models?.models.find((one) => one.id === (state.model || state.models.served));

/** @param {ReturnType<import("./store.js").createStore>} store */
export function createTracing(store) {
  /** @type {AbortController | null} */
  let running = null;
  /** @type {Promise<any> | null} */
  let busy = null; // a trace that is being made

  /** What identifies a trace: state of the link that it is made from. */
  function wanted(state) {
    const body = { model: state.model || state.models?.served };
    if (state.adapter) body.adapter = state.adapter;
    if (state.ids) body.ids = state.ids.split(/[\s,]+/).filter(Boolean).map(Number);
    else body.text = state.text;
    if (state.chat && !state.ids) body.chat = true;
    if (state.target) body.target = state.target;
    return body;
  }

  async function make() {
    running?.abort();
    const state = store.get();
    if (!state.text && !state.ids) return forget();
    running = new AbortController();
    const { signal } = running;
    const began = performance.now();
    store.set({ status: { state: "loading", began } });
    try {
      const trace = await api.post("trace", wanted(state), { signal });
      if (signal.aborted) return null;
      const last = trace.tokens.length - 1;
      const asked = store.get().token > last ? -1 : store.get().token;
      // what fills holes is asked about the first of them
      const hole = trace.caps.generate ? -1 : trace.tokens.findIndex((one) => one.text === maskOf(state));
      const token = asked < 0 ? hole : asked;
      store.set({ trace, token, status: { state: "ready", seconds: (performance.now() - began) / 1000 } });
      return trace;
    } catch (error) {
      if (signal.aborted) return null;
      store.set({ trace: null, status: { state: "error", error } });
      throw error;
    }
  }

  function forget() {
    store.set({ trace: null, status: { state: "idle" } });
    return null;
  }

  function alone(work) {
    const mine = work();
    const done = () => { if (busy === mine) busy = null; };
    busy = mine;
    mine.then(done, done); // the status says what went wrong; whoever waits hears it too
    return mine;
  }

  const run = () => alone(make);

  /** Something of the trace, made again in silence where the server has forgotten it. `vs` goes along unless the
   * parameters say otherwise. @param {string} path @param {Object<string, any>} [params] */
  async function traced(path, params = {}, { signal, binary = false } = {}) {
    const state = store.get();
    if (!state.trace) throw new ApiError(0, "no_trace", "");
    let asked = "";
    const ask = () => api[binary ? "binary" : "get"](
      `trace/${asked = store.get().trace.trace}/${path}`, binary ? params : { vs: state.vs, ...params }, { signal });
    try {
      return await ask();
    } catch (error) {
      if (!(error instanceof ApiError) || error.code !== "trace_expired") throw error;
      // several panels find out at once, and one new trace serves them all
      if (store.get().trace?.trace === asked) await (busy ?? alone(again));
      if (!store.get().trace) throw error;
      return ask();
    }
  }

  /** A new trace of the same text, without anything on the page being told that the old one was gone. */
  async function again() {
    const old = store.get().trace;
    const fresh = await api.post("trace", wanted(store.get()));
    old.trace = fresh.trace; // the same text, tokens and numbers under another name
  }

  store.on(["model", "adapter", "text", "ids", "chat", "target", "models"], (state) => {
    if (state.models) run();
  });
  return { run, traced, stop: () => { running?.abort(); forget(); } };
}
