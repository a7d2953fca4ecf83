// Talk with a model and see how sure it was of each token: stream, stop, edit, branch, go on, fork at a token, two
// models side by side. A model without a template for chats completes a text instead.
// data-testid: view-chat, composer, send, stop-answer, message-N (data-value: its role), answer-N-a and -b, branch-N
// (data-value: "2/3"), edit-N, regenerate-N, continue-N, keep-N, retry, speed-N, mode-chat, mode-text, new-chat, say-N
import { chips } from "../core/chips.js";
import { h, put } from "../core/h.js";
import { bytes, num, percent } from "../core/numbers.js";
import { shown } from "../core/shown.js";
import { raw } from "../core/strip.js";
import { modelOf } from "../core/tracing.js";
import { declare } from "../core/url.js";
import { drawn, undrawn } from "./chat/answer.js";
import { answer, called, speak, trouble } from "./chat/saying.js";
import { adopt, seed, settings } from "./chat/settings.js";
import { tokenCard } from "./chat/token.js";
import { createTree, plain } from "./chat/tree.js";

export const view = { id: "chat", key: "1", icon: "◌", needs: [] };

const TOKENS = 1200; // drawn as tokens at a time, in the last answers and the one that is looked at
const MESSAGES = 80;

declare({ mode: "" });

// what outlives a change of view or language: the conversation, the answer that is being said, and what is being written
const kept = { tree: null, live: null, draft: "" };

/** @param {HTMLElement} root @param {any} ctx */
export function mount(root, ctx) {
  const { store, t, button } = ctx;
  const tree = (kept.tree ??= createTree());
  const left = new AbortController();
  const heard = new Map(); // an answer -> what draws it
  let shownLast = MESSAGES;
  let looked = null; // the answer whose tokens are drawn though it is long past
  let editing = 0;

  const card = tokenCard(ctx, { fork, inside, closed: release });
  const own = settings(store, { open: innerWidth > 1000 });
  const adopted = adopt(store);
  const talk = h("div", { class: "talk", role: "log", aria: { live: "off", label: t("view.chat") } });
  const field = h("textarea", { rows: 1, value: kept.draft, dataset: { testid: "composer" }, autocomplete: "off", on: { keydown: (event) => { if (sends(event)) { event.preventDefault(); send(); } }, input: grow } });
  const bar = h("div", { class: "row" });
  const composer = h("form", { class: "composer", on: { submit: (event) => { event.preventDefault(); send(); } } }, field, bar);
  const beside = h("div", { class: "beside" }, card.el, own.el);
  root.append(h("div", { class: "column" }, talk, composer), beside);

  const model = (state = store.get()) => modelOf(state);
  const chats = (state = store.get()) => Boolean(model(state)?.caps.chat) && state.mode !== "text";
  const ours = () => ({ model: model().id, adapter: store.get().adapter });
  const theirs = () => {
    const { vs } = store.get();
    return !vs ? null : vs === "base" ? { model: model().id, adapter: "" } : { model: vs, adapter: "" };
  };

  /** What a model is asked to answer: the line down to a message, as messages or as one text. */
  function begins(upto) {
    const line = tree.path();
    const before = line.slice(0, line.indexOf(upto) + 1);
    if (chats()) return { messages: before.map((node) => ({ role: node.role, content: node.role === "user" ? node.text : plain(node.said) })) };
    // an encoder-decoder reads a source and begins anew; a decoder goes on with all that was said
    const texts = (model().kind === "encoder-decoder" ? [upto] : before).map((node) => (node.role === "user" ? node.text : plain(node.said)));
    if (model().caps.text) return { prompt: texts.join("") };
    return { ids: texts.join(" ").split(/[\s,]+/).filter(Boolean).map(Number) };
  }

  function send() {
    const text = field.value;
    if (!text.trim() || kept.live) return;
    field.value = kept.draft = "";
    grow();
    const line = tree.path();
    ask(tree.add({ parent: line[line.length - 1]?.id ?? 0, role: "user", text }));
  }

  /** A new answer to a message. @param {any} question @param {any} [how] */
  function ask(question, { said = null, luck = seed(store.get()) } = {}) {
    const other = said ? null : theirs();
    const from = said ? null : begins(question);
    const node = tree.add({ parent: question.id, role: "assistant", said: said ?? answer(ours(), from), beside: other && answer(other, from) });
    say(node, luck);
  }

  /** Let what is unfinished of an answer be said. */
  async function say(node, luck) {
    const control = new AbortController();
    kept.live = { node, control };
    redraw();
    toEnd(true);
    const sides = [node.said, node.beside].filter((said) => said && (said.error || said.finish !== "stop"));
    try {
      await Promise.all(sides.map((said) => speak(ctx, said, { signal: control.signal, seed: luck, heard: (token) => kept.live?.heard?.(said, token) })));
    } finally {
      kept.live = null;
      tree.keep();
      kept.done?.(node);
    }
  }
  const hear = (said, token) => heard.get(said)?.push(token);
  const done = (node) => {
    for (const one of heard.values()) one.settle();
    redraw();
    toEnd();
    ctx.say(node.said.error ? t(`error.${node.said.error.code}`) : plain(node.said));
  };

  /** Another token in the place of one: what was said before it stays, and the answer goes on from there. */
  async function fork(said, i, id, top) {
    const node = tree.path().find((one) => one.said === said || one.beside === said);
    if (!node || kept.live) return;
    const { prompt, model: name, adapter } = said;
    const before = said.tokens.slice(0, i);
    const place = top.findIndex(([other]) => other === id);
    const [, piece, , p, after] = top[place];
    let [token, end] = [said.tokens[i], null];
    try {
      if (id !== token.id) {
        const { pieces: [one] } = await ctx.api.get(`vocabulary/${name}`, { ids: id, adapter });
        token = { ...token, id, piece, ...spelt(before, one), p, p_after: after, logprob: Math.log(p), rank: place + 1, top };
        if (one.special) end = { id, piece, logprob: token.logprob };
      }
    } catch (error) {
      return ctx.say(error.detail || t("error.offline"));
    }
    if (kept.live) return;
    release();
    const fresh = { ...answer({ model: name, adapter }, said.begins, end ? before : [...before, token]), prompt, seed: said.seed };
    if (end) { // the end was chosen: there is no more to say
      tree.add({ parent: node.parent, role: "assistant", said: { ...fresh, finish: "stop", stop: end }, beside: null });
      redraw();
    } else ask({ id: node.parent }, { said: fresh, luck: said.seed });
  }

  /** The second model's answer as one that the conversation goes on from. */
  function keep(node, said) {
    tree.add({ parent: node.parent, role: "assistant", said: { ...said, tokens: [...said.tokens] }, beside: null });
    redraw();
  }

  /** The answer, and what it answers, is what all other views look at. */
  function inside(said, i) {
    const pair = model().kind === "encoder-decoder";
    const { served } = store.get().models;
    store.set({
      model: said.model === served ? "" : said.model, adapter: said.adapter, chat: 0, view: "attention",
      ...(pair ? { text: said.begins.prompt, target: plain(said), ids: "", token: i }
        : { text: "", target: "", ids: [...(said.prompt ?? []), ...said.tokens.map((token) => token.id)].join(","), token: (said.prompt?.length ?? 0) + i }),
    });
  }

  function release() {
    const was = card.pinned();
    card.leave();
    if (!was) return false;
    heard.get(was.said)?.choose(-1);
    heard.get(was.said)?.focus(was.i);
    return true;
  }

  const small = (text, click, testid, props = {}) => button(text, click, { class: "small", dataset: { testid }, ...props });
  const idle = (off = false) => ({ disabled: off || Boolean(kept.live) }); // while an answer is said its like waits

  function branch(node, n) {
    const all = tree.siblings(node);
    if (all.length < 2) return null;
    const at = all.indexOf(node);
    const turn = (by) => { tree.turn(node, by); redraw(); };
    return h("span", { class: "branch", dataset: { testid: `branch-${n}`, value: `${at + 1}/${all.length}` } },
      small("‹", () => turn(-1), `before-${n}`, { ...idle(!at), aria: { label: t("chat.branch.before") } }), `${at + 1}/${all.length}`,
      small("›", () => turn(1), `after-${n}`, { ...idle(at === all.length - 1), aria: { label: t("chat.branch.after") } }));
  }

  function mine(node, n) {
    if (editing === node.id) return rewriting(node);
    return h("article", { class: "me", dataset: { testid: `message-${n}`, value: "user" } },
      h("div", { class: "bubble" }, h("bdi", { text: shown(node.text, { spaces: false }) })),
      h("p", { class: "does" }, branch(node, n), small(t("chat.edit"), () => { editing = node.id; redraw(); }, `edit-${n}`, idle())));
  }

  function rewriting(node) {
    const text = h("textarea", { rows: 3, value: node.text, dataset: { testid: "rewrite" }, aria: { label: t("chat.edit") } });
    const leave = () => { editing = 0; redraw(); field.focus(); };
    const save = () => {
      if (!text.value.trim()) return;
      editing = 0;
      ask(tree.add({ parent: node.parent, role: "user", text: text.value }));
    };
    text.addEventListener("keydown", (event) => {
      if (sends(event)) { event.preventDefault(); save(); }
      if (event.key === "Escape" && !event.isComposing) { event.stopPropagation(); leave(); }
    });
    queueMicrotask(() => text.focus());
    return h("article", { class: "me editing" }, text, h("p", { class: "does" },
      small(t("chat.cancel"), leave, "rewrite-cancel"), button(t("chat.ask"), save, { class: "primary", dataset: { testid: "rewrite-save" } })));
  }

  function its(node, n, budget) {
    const live = kept.live?.node === node;
    const sides = [node.said, node.beside].filter(Boolean);
    const open = sides.some((said) => !said.error && said.finish !== "stop" && said.tokens.length);
    return h("article", { class: `it${sides.length > 1 ? " two" : ""}`, dataset: { testid: `message-${n}`, value: "assistant" } },
      h("div", { class: "sides" }, sides.map((said, k) => side(node, said, n, k, live, budget))),
      live ? null : h("p", { class: "does" }, branch(node, n),
        small(t("chat.regenerate"), () => ask(question(node), { luck: seed(store.get()) + tree.siblings(node).length }), `regenerate-${n}`, idle()),
        open ? small(t("chat.continue"), () => say(node, node.said.seed), `continue-${n}`, idle()) : null));
  }

  const question = (node) => tree.path().find((one) => one.id === node.parent);

  function side(node, said, n, k, live, budget) {
    const size = said.tokens.length;
    let body;
    if (live || said === looked || budget.left >= size || (budget.first && budget.left > 0)) {
      const one = drawn(said, {
        label: t("chat.answer", { model: said.model }), grown: () => toEnd(),
        pick: (i) => { heard.forEach((each) => each.choose(-1)); one.choose(i); card.pin(said, i); },
        peek: (i) => card.peek(said, i),
      }, Math.max(0, size - TOKENS));
      heard.set(said, one);
      body = one.el;
    } else {
      body = undrawn(said);
      body.append(" ", small(t("chat.tokens"), () => { looked = said; redraw(); }, `tokens-${n}`));
    }
    budget.left -= Math.min(size, TOKENS);
    const fate = h("div");
    if (said.error) ctx.fail(fate, trouble(said.error), () => say(node, said.seed));
    return h("section", { class: live && !said.finish ? "live" : "", dataset: { testid: `answer-${n}-${"ab"[k]}`, value: said.finish } },
      h("h3", { class: "who" }, h("bdi", {}, called(said)), node.beside && k ? small(t("chat.keep"), () => keep(node, said), `keep-${n}`, idle()) : null),
      body, fate, speed(said, n), heard.has(said) && said.finish ? chips(said.checks, { open: false }) : null);
  }

  function speed(said, n) {
    const line = h("p", { class: "speed mono quiet", dataset: { testid: `speed-${n}`, value: said.rate } });
    if (!said.finish || !said.first) return line;
    return put(line, [
      h("span", { tip: "glossary.tokens_per_second" }, t("chat.rate", { n: num(said.rate, 1) })),
      h("span", { tip: "glossary.first_token" }, t("chat.first", { ms: num(said.first, 0) })),
      h("span", { tip: "glossary.kv" }, `KV ${bytes(said.bytes)}`), h("span", { tip: "glossary.finish" }, t(`chat.finish.${said.finish}`), said.stop ? [" ", h("bdi", { text: shown(said.stop.piece) }), ` p ${percent(Math.exp(said.stop.logprob))}`] : null),
      h("span", { tip: "glossary.seed" }, t("chat.seed", { n: said.seed })),
    ]);
  }

  /** The whole conversation. */
  function redraw() {
    const state = store.get();
    const one = model(state);
    heard.clear();
    composer.hidden = beside.hidden = !one?.caps.generate; // neither writing nor sampling is for an encoder
    if (composer.hidden) return cannot(one);
    root.classList.toggle("text", !chats(state));
    const line = tree.path();
    const from = Math.max(0, line.length - shownLast);
    const budget = { left: TOKENS, first: true };
    const rows = [];
    for (let n = line.length - 1; n >= from; n--) {
      rows.unshift(line[n].role === "user" ? mine(line[n], n) : its(line[n], n, budget));
      if (line[n].role !== "user") budget.first = false;
    }
    put(talk, from ? h("p", { class: "row" }, small(t("chat.earlier", { n: from }), () => { shownLast += MESSAGES; redraw(); }, "earlier")) : null,
      line.length ? rows : welcome(one));
    if (kept.live) kept.live.heard = hear;
    kept.done = done;
    const pinned = card.pinned();
    if (pinned && heard.has(pinned.said)) heard.get(pinned.said).choose(pinned.i);
    else if (pinned) card.leave();
    tools(state, one);
  }

  function welcome(one) {
    const kind = chats() ? "chat" : one.kind === "encoder-decoder" ? "source" : "text";
    return h("section", { class: "welcome" }, h("h2", {}, t(`chat.welcome.${kind}`, { model: one.id })), h("p", { class: "quiet" }, t("chat.welcome.about")),
      h("ul", { class: "sayings" }, [1, 2, 3].map((n) => h("li", {},
        button(t(`chat.${kind}.${n}`), () => { field.value = t(`chat.${kind}.${n}`); send(); }, { dataset: { testid: `say-${n}` } })))));
  }

  function cannot(one) {
    const others = store.get().models.models.filter((each) => each.caps.generate && !each.why).slice(0, 3);
    put(talk, ctx.card({
      icon: "⌥", title: t("chat.cannot.title"), text: t(one ? "chat.cannot.text" : "error.no_such_model.do"), id: "cannot-generate",
      actions: [...others.map((each) => ctx.button(each.id, () => store.set({ model: each.id === store.get().models.served ? "" : each.id }), { class: "primary" })),
        ctx.button(t("chat.cannot.inside"), () => store.set({ view: "tokens" }))],
    }));
  }

  function tools(state, one) {
    const chat = chats(state);
    field.placeholder = t(chat ? "chat.write" : "chat.write.text");
    field.setAttribute("aria-label", field.placeholder);
    const mode = (name, on) => button(t(`chat.mode.${name}`), () => store.set({ mode: name === "chat" ? "" : name }), { aria: { pressed: String(on) }, dataset: { testid: `mode-${name}` } });
    put(bar, one.caps.chat ? h("span", { class: "segments", role: "group", aria: { label: t("chat.mode") } }, mode("chat", chat), mode("text", !chat)) : null,
      tree.path().length ? button(t("chat.new"), () => { tree.leave(); redraw(); field.focus(); }, { class: "plain", dataset: { testid: "new-chat" }, ...idle() }) : null,
      h("span", { class: "spring" }), h("span", { class: "quiet hint" }, t("chat.hint")),
      kept.live ? button(t("chat.stop"), () => kept.live?.control.abort(), { dataset: { testid: "stop-answer" } })
        : h("button", { class: "primary", dataset: { testid: "send" } }, t(chat ? "chat.send" : "chat.complete")));
  }

  function grow() {
    kept.draft = field.value;
    field.style.height = "auto";
    field.style.height = `${Math.min(180, field.scrollHeight + 2)}px`;
  }

  /** Stay at the end of what is said, unless one reads further up. */
  function toEnd(always = false) {
    const stage = root.parentElement;
    const scroller = stage && getComputedStyle(stage).overflowY === "auto" ? stage : document.scrollingElement;
    if (scroller && (always || scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 260)) scroller.scrollTo({ top: scroller.scrollHeight, behavior: "instant" });
  }

  const off = store.on(["model", "adapter", "vs", "mode"], redraw);
  root.parentElement?.addEventListener("leave", () => release(), { signal: left.signal });
  addEventListener("pagehide", () => tree.flush(), { signal: left.signal });
  redraw();
  grow();
  toEnd(true);
  return {
    unmount() {
      [off, own.off, adopted, () => left.abort()].forEach((end) => end());
      if (kept.live) kept.live.heard = null;
      kept.done = null;
    },
    keys: { "/": () => field.focus() },
  };
}

/** Enter sends; not with Shift, and not where it chooses a word of an input method. @param {KeyboardEvent} event */
const sends = (event) => event.key === "Enter" && !event.shiftKey && !event.isComposing && event.keyCode !== 229;

/** The text of a piece behind tokens, the last of which may have begun a character; none while one is unfinished. */
function spelt(before, { piece, b64 }) {
  if (!b64) return { text: `${piece} `, b64 };
  let from = before.length;
  while (from && !before[from - 1].text) from -= 1;
  const all = [...before.slice(from).map((token) => token.b64), b64].flatMap((one) => [...raw(one)]);
  try {
    return { text: new TextDecoder("utf-8", { fatal: true }).decode(Uint8Array.from(all)), b64 };
  } catch {
    return { text: "", b64 };
  }
}
