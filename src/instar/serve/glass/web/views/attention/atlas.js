// All layers and heads at a glance, of one of two models, drawn as they come; heads that rest are pale.
// data-testid: atlas, idle, atlas-0 and atlas-1 (whose).
import { atlasGrid } from "../../core/draw/atlasgrid.js";
import { h, put } from "../../core/h.js";
import { onText, profileOf } from "../heads/profile.js";
import { segments } from "./controls.js";
import { seen, tensorsOf } from "./source.js";

const LONG = 1024; // tokens; of longer texts measuring all heads would hold up all else
const PALE = 0.4;
const AT_ONCE = 48; // heads, so that the first layers of a large model appear soon

/** Pictures of as many rows as columns, which those of attention to a source have not. */
function square(data, [layers, heads, rows, columns]) {
  if (rows === columns) return data;
  const px = Math.max(rows, columns);
  const out = new Uint8Array(layers * heads * px * px);
  for (let i = 0; i < out.length; i++) {
    const [picture, r, c] = [Math.floor(i / px / px), Math.floor(((Math.floor(i / px) % px) * rows) / px), Math.floor(((i % px) * columns) / px)];
    out[i] = data[(picture * rows + r) * columns + c];
  }
  return out;
}

/** @param {any} ctx @param {(row: any) => string} saying what a head does */
export function createAtlas(ctx, saying) {
  const { store, t } = ctx;
  const place = h("div");
  const note = h("p", { class: "quiet fine", dataset: { testid: "idle" } });
  const whom = h("div", { class: "row fine" });
  const el = h("section", {}, h("h3", { tip: "attention.tip.atlas" }, t("attention.atlas")), whom, place, note);
  let beside = null; // the other model, as `other` of the source gives it
  let other = false; // whether its heads are shown
  let grid = null;
  let key = "";
  let asking = null;
  let told = new Map();
  let pictures = new Uint8Array();

  /** @param {any} state @param {any} [theirs] the other model, null where there is none */
  function draw(state, theirs = beside) {
    beside = theirs;
    other &&= Boolean(theirs);
    put(whom, theirs && segments(t("attention.atlas"), String(Number(other)), [["0", state.trace.model], ["1", state.vs]], (to) => { other = to === "1"; draw(store.get()); }, "atlas"));
    const shown = other ? theirs.trace : state.trace;
    const is = seen({ ...state, trace: shown });
    const kind = state.kind === "sinkless" ? "sinkless" : "raw";
    const now = [shown.trace, is.asked, kind].join();
    if (now !== key) { key = now; load(is, kind); }
    grid?.select({ layer: is.layer, head: state.kind === "rollout" ? -1 : is.head });
  }

  async function load(is, kind) {
    asking?.abort();
    asking = new AbortController();
    const { signal } = asking;
    grid = null;
    told = new Map();
    note.dataset.value = "";
    const get = tensorsOf(ctx, other && beside, signal);
    put(note, t(`attention.atlas.${kind === store.get().kind ? "note" : "raw"}`));
    const per = Math.max(1, Math.floor(AT_ONCE / is.heads));
    try {
      for (let from = 0; from < is.layers; from += per) {
        const { tensors: { atlas: { shape, data } } } = await get("atlas", { layers: `${from}:${Math.min(is.layers, from + per)}`, kind, side: is.asked });
        if (signal.aborted) return;
        if (!grid) {
          grid = atlasGrid({ layers: is.layers, heads: shape[1], px: Math.max(shape[2], shape[3]), name: t("attention.atlas"), note: (l, n) => told.get(`${l}.${n}`)?.said, say: ctx.say,
            onPick: ({ layer, head }) => store.set({ layer, head }) });
          put(place, grid);
          draw(store.get());
          pictures = new Uint8Array((is.layers * square(data, shape).length) / shape[0]);
        }
        const own = square(data, shape);
        pictures.set(own, from * (pictures.length / is.layers));
        grid.put(from, own);
      }
    } catch (error) {
      if (!signal.aborted) { ctx.fail(place, error, () => { key = ""; draw(store.get()); }); }
      return;
    }
    if (other || is.queries.length > LONG) return;
    try { // what each head is for takes longest, and nothing waits for it
      await new Promise((done) => setTimeout(done, 400));
      if (!signal.aborted) mark(profileOf(await onText(ctx, store.get(), signal)).rows, is);
    } catch {
      // the atlas stands without it; the view of heads says what is wrong
    }
  }

  function mark(rows, is) {
    for (const row of rows) told.set(row.key, { row, said: saying(row) });
    const idle = rows.filter((row) => row.idle);
    if (!idle.length) return;
    const size = pictures.length / is.layers / is.heads;
    for (const { layer, head } of idle) for (let i = (layer * is.heads + head) * size, end = i + size; i < end; i++) pictures[i] *= PALE;
    grid.put(0, pictures);
    note.dataset.value = idle.map((row) => row.key).join();
    put(note, t("attention.atlas.idle", { n: idle.length }));
  }

  return { el, draw, stop: () => asking?.abort(), of: (layer, head) => told.get(`${layer}.${head}`)?.row };
}
