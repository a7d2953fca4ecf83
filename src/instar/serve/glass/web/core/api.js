// What the server is asked. Every failure is an ApiError with a code that states.js has words for.
import { decode } from "./tensors.js";

const ROOT = new URL("api/", document.baseURI).pathname;
const KEY = "instar.key";

export class ApiError extends Error {
  /** @param {number} status 0 where no answer came @param {string} code @param {string} detail
   * @param {Object<string, any>} more */
  constructor(status, code, detail, more = {}) {
    super(detail || code);
    Object.assign(this, { status, code, detail, more });
  }
}

/** The key that a guarded server wants; kept until the tab is closed. @param {string} key */
export function keep(key) {
  sessionStorage.setItem(KEY, key);
}

/** @param {string} path @param {Object<string, any>} [params] those that are "" or null are left out */
export function address(path, params = {}) {
  const said = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) {
    if (value !== null && value !== undefined && value !== "") said.set(name, String(value));
  }
  const query = String(said);
  return ROOT + path.replace(/^\//, "") + (query ? `?${query}` : "");
}

async function ask(path, params, init) {
  const key = sessionStorage.getItem(KEY);
  const headers = { ...(init.headers ?? {}), ...(key ? { Authorization: `Bearer ${key}` } : {}) };
  let answer;
  try {
    answer = await fetch(address(path, params), { ...init, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "offline", String(error.message));
  }
  if (!answer.ok) throw await refusal(answer);
  return answer;
}

async function refusal(answer) {
  let error = {};
  try {
    error = (await answer.json()).error ?? {};
  } catch {
    // whatever stands between us and the server may answer with a page of its own
  }
  const { code, detail, message, ...more } = error;
  return new ApiError(answer.status, code ?? `http_${answer.status}`, detail ?? message ?? answer.statusText, more);
}

/** A body that breaks off is a lost connection too. */
async function whole(reading) {
  try {
    return await reading;
  } catch (error) {
    if (error.name === "AbortError" || error instanceof ApiError) throw error;
    throw new ApiError(0, "offline", String(error.message));
  }
}

const posted = (body, signal) => ({
  method: "POST", body: JSON.stringify(body), signal, headers: { "Content-Type": "application/json" },
});

export const api = {
  /** @param {string} path @param {Object<string, any>} [params] @param {{signal?: AbortSignal}} [how] */
  async get(path, params, { signal } = {}) {
    const answer = await ask(path, params, { signal });
    return whole(answer.json());
  },
  async post(path, body, { signal } = {}) {
    const answer = await ask(path, {}, posted(body, signal));
    return whole(answer.json());
  },
  /** Tensors. */
  async binary(path, params, { signal } = {}) {
    const answer = await ask(path, params, { signal });
    return decode(await whole(answer.arrayBuffer()));
  },
  /** Server-sent events as they come: onEvent(name, data, id). body null asks by GET. Resolves at the end of the stream.
   * @param {string} path @param {any} body @param {(name: string, data: any, id: string) => void} onEvent */
  async stream(path, body, onEvent, { signal, params, last } = {}) {
    const init = body === null ? { signal, headers: {} } : posted(body, signal);
    init.headers.Accept = "text/event-stream";
    if (last) init.headers["Last-Event-ID"] = last;
    const answer = await ask(path, params, init);
    const reader = answer.body.getReader();
    const feed = events(onEvent);
    const decoder = new TextDecoder();
    for (;;) {
      const { done, value } = await whole(reader.read());
      // a chunk may end within a line, and within a character
      feed(decoder.decode(value ?? new Uint8Array(), { stream: !done }));
      if (done) return;
    }
  },
};

/** Events out of pieces of text (WHATWG HTML, 9.2.6). @param {(name: string, data: any, id: string) => void} onEvent
 * @returns {(piece: string) => void} */
export function events(onEvent) {
  let left = "";
  let name = "";
  let id = "";
  let data = [];
  function line(text) {
    if (text === "") {
      if (data.length) onEvent(name || "message", JSON.parse(data.join("\n")), id);
      name = "";
      data = [];
      return;
    }
    const colon = text.indexOf(":");
    const field = colon < 0 ? text : text.slice(0, colon);
    const value = colon < 0 ? "" : text.slice(colon + 1).replace(/^ /, "");
    if (field === "event") name = value;
    else if (field === "data") data.push(value);
    else if (field === "id") id = value;
  }
  return (piece) => {
    const lines = (left + piece).split(/\r\n|\n|\r(?!$)/);
    left = lines.pop();
    lines.forEach(line);
  };
}
