// An answer as it is said: asked for, heard token by token, stopped, gone on with.
import { ApiError } from "../../core/api.js";
import { sampling, seed } from "./settings.js";

/** What went wrong, out of what is kept of it. */
export const trouble = ({ status, code, detail, more }) => new ApiError(status, code, detail, more);

/** How a model with its adapter is called. */
export const called = ({ model, adapter }) => (adapter ? `${model} + ${adapter}` : model);

/** An answer that says nothing yet. who: {model, adapter}; begins: what it is asked, as the API takes it; tokens: those it
 * starts with. @param {{model: string, adapter?: string}} who @param {any} begins @param {any[]} [tokens] */
export function answer(who, begins, tokens = []) {
  return { ...who, begins, prompt: null, tokens, finish: "", error: null, stop: null, checks: [], first: 0, rate: 0, bytes: 0, seed: 0 };
}

/** Let a model say more of an answer. Never throws: what went wrong stands in `said.error`.
 * @param {any} ctx @param {any} said of `answer` @param {{signal: AbortSignal, heard: (token: any) => void, seed?: number,
 * most?: number}} how */
export async function speak(ctx, said, { signal, heard, seed: luck, most }) {
  const state = ctx.store.get();
  const began = performance.now();
  Object.assign(said, { finish: "", error: null, stop: null, checks: [], first: 0, seed: luck ?? seed(state) });
  let ms = 0;
  let steps = 0;
  const body = {
    model: said.model, adapter: said.adapter || undefined, ...(said.prompt && !said.begins.trace ? { ids: said.prompt } : said.begins),
    prefix_ids: said.tokens.map((token) => token.id), seed: said.seed, sampling: sampling(state, most ? { max_new_tokens: most } : {}),
  };
  function event(name, data) {
    if (signal.aborted) return;
    if (name === "start") said.prompt = said.prompt ?? data.ids;
    else if (name === "token") {
      if (!said.first) said.first = performance.now() - began;
      else ms += data.ms;
      steps += 1;
      Object.assign(said, { bytes: data.kv_bytes, rate: ms ? (1000 * (steps - 1)) / ms : 0 });
      const { step, kv_bytes: held, block_bytes: blocks, ...token } = data;
      if (token.text.includes("\ufffd")) { // bytes that are no character: they are shown as they are
        token.broken = true;
        token.text = token.text.replaceAll("\ufffd", "");
      }
      if (!token.b64) token.text ||= `${token.piece} `; // without a tokenizer ids are all there is
      said.tokens.push(token);
      heard(token);
    } else if (name === "done") Object.assign(said, { finish: data.finish, stop: data.stop, checks: data.checks });
    else if (name === "error") throw new ApiError(0, data.code ?? data.error?.code, data.detail ?? data.error?.detail, data);
  }
  try {
    await ctx.api.stream("generate", body, event, { signal });
    if (!said.finish) throw new ApiError(0, "offline", "");
  } catch (error) {
    if (signal.aborted || error.name === "AbortError") said.finish = "stopped";
    else if (error instanceof ApiError) said.error = { status: error.status, code: error.code, detail: error.detail, more: error.more };
    else throw error;
  }
  return said;
}

/** The 20 likeliest tokens in the place of a token: kept, or asked for once more. @param {any} ctx @param {any} said
 * @param {number} i @param {AbortSignal} signal */
export async function alternatives(ctx, said, i, signal) {
  const token = said.tokens[i];
  if (token.top) return token.top;
  const again = { ...said, tokens: said.tokens.slice(0, i) };
  await speak(ctx, again, { signal, heard: () => {}, seed: said.seed, most: 1 });
  if (again.error) throw trouble(again.error);
  token.top = again.tokens[i]?.top ?? [];
  return token.top;
}
