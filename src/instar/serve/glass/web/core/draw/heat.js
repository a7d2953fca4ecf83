// A matrix as a picture, up to 1024 x 1024: colours by table, pointing that moves a few boxes and redraws nothing, a
// window that zooms, spans that are dragged.
import { css, domain, inkOn, level, look, themed } from "../colour.js";
import { h } from "../h.js";
import { t } from "../i18n.js";
import { num } from "../numbers.js";
import { trilStart } from "../tensors.js";
import { hide, tipAt } from "../tip.js";
import { exact, fit, label, reader, sized, wide, widest } from "./marks.js";

const LINE = 13; // pixels that a label wants

/** Pixels (words of RGBA) of a matrix or a window of it, each the strongest of `every` rows and columns.
 * @param {ArrayLike<number>} values @param {{columns: number, tril: boolean, scale: string, ends: number[], from:
 * number[], size: number[], every: number[]}} how */
export function colours(values, { columns, tril, scale, ends: [low, high], from, size, every }) {
  const [rows, across] = [Math.ceil(size[0] / every[0]), Math.ceil(size[1] / every[1])];
  const { maps, ground, line } = look();
  const { words } = maps[scale];
  const [gap, empty] = [line, ground].map((rgb) => new Uint32Array(new Uint8ClampedArray([...rgb, 255]).buffer)[0]);
  const [root, per, half] = [255 / Math.sqrt(high), 255 / (high - low), 127 / high];
  // the same as level() of colour.js, without its calls
  const word = scale === "share" ? (v) => (v > 0 ? words[Math.min(255, (Math.sqrt(v) * root + 0.5) | 0) || 1] : v === v ? words[0] : gap)
    : scale === "signed" ? (v) => (v === v ? words[Math.max(1, Math.min(255, Math.round(128 + v * half)))] : gap)
      : (v) => (v === v ? words[Math.max(0, Math.min(255, Math.round((v - low) * per)))] : gap);
  const out = new Uint32Array(rows * across).fill(empty);
  const [foot, right] = [from[0] + size[0], from[1] + size[1]];
  for (let r = 0; r < rows; r++) {
    const first = from[0] + r * every[0];
    const start = tril ? trilStart(first) : first * columns;
    if (every[0] === 1 && every[1] === 1) {
      const last = tril ? Math.min(right, first + 1) : right;
      for (let c = from[1], at = r * across; c < last; c++) out[at++] = word(values[start + c]);
      continue;
    }
    const end = Math.min(foot, first + every[0]);
    for (let c = 0; c < across; c++) {
      const left = from[1] + c * every[1];
      let best = NaN;
      for (let row = first; row < end; row++) {
        const begin = tril ? trilStart(row) : row * columns;
        const last = Math.min(right, left + every[1], tril ? row + 1 : Infinity);
        for (let column = left; column < last; column++) {
          const v = values[begin + column];
          if (best !== best || (scale === "signed" ? Math.abs(v) > Math.abs(best) : v > best)) best = v;
        }
      }
      if (!tril || left < end) out[r * across + c] = word(best);
    }
  }
  return { words: out, wide: across, high: rows };
}

/** @param {any} options values (row by row; with layout "tril" only what is on and below the diagonal), rows, columns,
 * layout, scale, ends (of the map), labels {rows, columns}, arrow (between them in a sentence), name; onHover(cell | null),
 * onPick(cell), onSpan({rows: [a, b] | null, columns: [a, b] | null}); say(sentence); text(row, column): what stands in
 * a cell; tall: the most pixels. A cell is {row, col, value}. Or picture and px: cells that are pictures themselves, px pixels a side;
 * tell(row, col): what is said of a cell; most and least: pixels of its side.
 * @returns {HTMLElement} with update(options), select({row, col}), span({rows, columns} | null), cell(row, col), zoom(factor) and
 * canvas */
export function heat(...given) {
  let o = { layout: "full", scale: "share", labels: {}, tall: 620, ...given.at(-1) };
  let ends = o.ends ?? domain(o.values ?? [], o.scale);
  let win = whole();
  let geo = null;
  let at = null; // the cell that is read
  let chosen = null;
  let spanned = null;
  let drag = null;
  let kept = null; // the picture of all cells, where none is pooled
  const canvas = h("canvas", { aria: { hidden: "true" } });
  const box = (name) => h("i", { class: `heat-${name}`, aria: { hidden: "true" }, hidden: true });
  const boxes = Object.fromEntries(["rowband", "colband", "chosen", "span", "spot"].map((name) => [name, box(name)]));
  const tags = { row: box("tag"), column: box("tag") };
  const back = h("button", { type: "button", class: "heat-back", hidden: true, on: { click: () => zoom(0) } }, t("draw.all"));
  const el = h("div", { class: "heat", dataset: { testid: o.testid ?? "heat" } },
    canvas, Object.values(boxes), Object.values(tags), back);
  const frame = sized(() => paint());
  frame.append(el);

  function whole() { return { row: 0, col: 0, rows: o.rows, cols: o.columns }; }
  const named = (axis, i) => (o.labels?.[axis]?.[i] === undefined ? String(i) : label(o.labels[axis][i]));

  /** The value of a cell; undefined where there is none, NaN where it is not known. */
  function value(row, col) {
    if (!o.values) return undefined;
    if (o.layout === "tril") return col > row ? undefined : o.values[trilStart(row) + col];
    return o.values[row * o.columns + col];
  }

  function measure(width) {
    const rows = Array.from({ length: o.rows > 400 ? 2 : o.rows }, (_, i) => named("rows", o.rows > 400 ? i * (o.rows - 1) : i));
    const columns = Array.from({ length: Math.min(o.columns, 200) }, (_, i) => named("columns", i));
    const left = Math.max(widest(rows, Math.min(110, width * 0.24)), 14) + 13;
    const big = o.most ?? (o.rows * o.columns <= 64 ? 52 : 36);
    const fits = (pad) => Math.min(big, (width - left - pad - 2) / o.columns);
    const most = widest(columns, 84);
    const level_ = !o.labels?.columns?.length || most <= fits(0) - 3;
    const rise = level_ ? 0 : most * 0.77 + 4;
    let cell = Math.max(o.least ?? 0, fits(level_ ? 0 : rise * 0.8));
    let tall = o.rows === o.columns || o.picture ? cell : Math.max(cell, Math.min(20, 420 / o.rows));
    if (!o.picture) tall = Math.min(tall, big, o.tall / o.rows);
    if (o.rows === o.columns) cell = tall;
    const dpr = devicePixelRatio || 1;
    const round = (x) => (x * dpr >= 2 ? Math.floor(x * dpr) / dpr : x); // whole pixels, where cells have some
    [cell, tall] = [round(cell), round(tall)];
    return { left, top: level_ ? 18 : rise + 8, width: cell * o.columns, height: tall * o.rows, dpr, level: level_, full: Math.max(width, left + cell * o.columns + 2) };
  }

  function paint() {
    if (!frame.clientWidth || !o.rows || !o.columns) return;
    geo = measure(frame.clientWidth);
    const { left, top, width, height, dpr } = geo;
    [el.style.width, el.style.height] = [`${geo.full}px`, `${top + height + 2}px`];
    [canvas.width, canvas.height] = [Math.round(geo.full * dpr), Math.round((top + height + 2) * dpr)];
    const ink = canvas.getContext("2d");
    ink.scale(dpr, dpr);
    const [high, across] = [height / win.rows, width / win.cols];
    const every = [high, across].map((size) => Math.max(1, Math.round(0.75 / (size * dpr))));
    const pooled = every[0] > 1 || every[1] > 1;
    const how = { columns: o.columns, tril: o.layout === "tril", scale: o.scale, ends, every };
    const picture = o.picture ? null : pooled ? image(colours(o.values, { ...how, from: [win.row, win.col], size: [win.rows, win.cols] }))
      : (kept ??= image(colours(o.values, { ...how, from: [0, 0], size: [o.rows, o.columns] })));
    const px = o.px ?? 1;
    ink.fillStyle = css(look().ground);
    ink.fillRect(left, top, width, height);
    ink.imageSmoothingEnabled = high * dpr < px;
    ink.imageSmoothingQuality = "high";
    if (o.picture) ink.drawImage(o.picture, win.col * px, win.row * px, win.cols * px, win.rows * px, left, top, width, height);
    else if (pooled) ink.drawImage(picture, left, top, width, height);
    else ink.drawImage(picture, win.col, win.row, win.cols, win.rows, left, top, width, height);
    grid(ink, high, across);
    words(ink, high, across);
    back.hidden = win.rows === o.rows && win.cols === o.columns;
    el.dataset.window = `${win.row}:${win.row + win.rows},${win.col}:${win.col + win.cols}`;
    marks();
  }

  function grid(ink, high, across) {
    const { left, top, width, height } = geo;
    const { line, ground } = look();
    if (Math.min(high, across) >= 12) { // a seam of the ground between cells that are large
      ink.strokeStyle = css(o.picture ? line : ground);
      ink.beginPath();
      for (let c = 1; c < win.cols; c++) ink.rect(left + c * across, top, 0, height);
      for (let r = 1; r < win.rows; r++) ink.rect(left, top + r * high, width, 0);
      ink.stroke();
    }
    ink.strokeStyle = css(line);
    ink.strokeRect(left - 0.5, top - 0.5, width + 1, height + 1);
  }

  function words(ink, high, across) {
    const { left, top, level: flat } = geo;
    ink.font = "11px system-ui, sans-serif";
    ink.fillStyle = css(look().quiet);
    ink.textBaseline = "middle";
    ink.textAlign = "right";
    const skip = Math.ceil(LINE / high);
    for (let r = 0; r < win.rows; r += skip) ink.fillText(fit(named("rows", win.row + r), left - 8), left - 6, top + (r + 0.5) * high);
    const room = flat ? (o.labels?.columns?.length ? across : wide(String(o.columns)) + 10) : LINE + 3;
    const each = Math.max(1, Math.ceil((flat && o.labels?.columns?.length ? LINE : room) / across));
    for (let c = 0; c < win.cols; c += each) {
      ink.save();
      ink.translate(left + (c + 0.5) * across, top - 5);
      ink.textAlign = flat ? "center" : "left";
      if (!flat) ink.rotate(-0.87);
      ink.fillText(fit(named("columns", win.col + c), 84), 0, flat ? -5 : 0);
      ink.restore();
    }
    if (o.picture || high < 18 || across < 22 || win.rows * win.cols > 900) return;
    ink.textAlign = "center";
    for (let r = 0; r < win.rows; r++) {
      for (let c = 0; c < win.cols; c++) {
        const v = value(win.row + r, win.col + c);
        const text = inside(v, win.row + r, win.col + c, across);
        if (!text) continue;
        const place = 4 * level(v, o.scale, ends);
        ink.fillStyle = inkOn(look().maps[o.scale].bytes.slice(place, place + 3));
        ink.fillText(text, left + (c + 0.5) * across, top + (r + 0.5) * high + 0.5);
      }
    }
  }

  /** What a cell says itself: its text, its number where it fits, or its sign. */
  function inside(v, row, col, across) {
    if (v === undefined || !Number.isFinite(v)) return "";
    if (o.text) return fit(label(o.text(row, col)), across - 6);
    if (across >= 40 && o.columns <= 16) return num(v, 2).replace(/^-/, "−");
    if (o.scale !== "signed" || Math.abs(v) < ends[1] / 3) return "";
    return v > 0 ? "+" : "−";
  }

  function put(el_, rows, cols) {
    const [high, across] = [geo.height / win.rows, geo.width / win.cols];
    const [top, foot] = [rows[0], rows[1] + 1].map((r) => Math.min(geo.height, Math.max(0, (r - win.row) * high)));
    const [left, right] = [cols[0], cols[1] + 1].map((c) => Math.min(geo.width, Math.max(0, (c - win.col) * across)));
    el_.hidden = foot <= top || right <= left;
    el_.style.transform = `translate(${geo.left + left}px, ${geo.top + top}px)`;
    el_.style.width = `${right - left}px`;
    el_.style.height = `${foot - top}px`;
  }
  const all = (axis) => [0, (axis === "rows" ? o.rows : o.columns) - 1];

  function marks() {
    if (!geo) return;
    for (const one of [...Object.values(boxes), ...Object.values(tags)]) one.hidden = true;
    const { row, col } = chosen ?? {};
    if (row >= 0 || col >= 0) put(boxes.chosen, row >= 0 ? [row, row] : all("rows"), col >= 0 ? [col, col] : all("columns"));
    if (spanned) put(boxes.span, spanned.rows ?? all("rows"), spanned.columns ?? all("columns"));
    if (!at) return;
    put(boxes.rowband, [at.row, at.row], all("columns"));
    put(boxes.colband, all("rows"), [at.col, at.col]);
    put(boxes.spot, [at.row, at.row], [at.col, at.col]);
    const [high, across] = [geo.height / win.rows, geo.width / win.cols];
    for (const [axis, i, x, y] of [["row", at.row, geo.left - 4, geo.top + (at.row - win.row + 0.5) * high], ["column", at.col, geo.left + (at.col - win.col + 0.5) * across, geo.top - 3]]) {
      tags[axis].hidden = false;
      tags[axis].textContent = named(`${axis}s`, i);
      tags[axis].style.transform = `translate(${x}px, ${y}px) translate(${axis === "row" ? "-100%, -50%" : "-50%, -100%"})`;
    }
  }

  function sentence({ row, col }) {
    if (o.tell) return o.tell(row, col);
    const v = value(row, col);
    const text = o.text ? `${label(o.text(row, col))}  ` : "";
    return `${named("rows", row)} ${o.arrow ?? "→"} ${named("columns", col)}: ${text}${v === undefined ? t("draw.hidden") : exact(v)}`;
  }

  const cell = ({ row, col }) => ({ row, col, value: value(row, col) ?? null });
  function point(to, aloud = false) {
    if (!geo || (at && to && at.row === to.row && at.col === to.col && !aloud)) return;
    at = to;
    marks();
    if (!at) {
      hide();
      o.onHover?.(null);
      return;
    }
    const own = cell(at);
    el.dataset.row = String(own.row);
    el.dataset.col = String(own.col);
    el.dataset.value = o.picture ? `${own.row}.${own.col}` : String(own.value);
    const now = sentence(at);
    tipAt(boxes.spot, now);
    if (aloud) {
      boxes.spot.scrollIntoView({ block: "nearest", inline: "nearest" });
      o.say?.(now);
    }
    o.onHover?.(own);
  }

  /** The cell under the pointer, held at the edge; zone tells whether it is on the labels. */
  function under(event) {
    const area = el.getBoundingClientRect();
    const [x, y] = [event.clientX - area.left - geo.left, event.clientY - area.top - geo.top];
    const zone = x < 0 ? (y < 0 ? "" : "rows") : y < 0 ? "columns" : x > geo.width || y > geo.height ? "" : "body";
    return { zone, row: win.row + hold(Math.floor((y / geo.height) * win.rows), win.rows), col: win.col + hold(Math.floor((x / geo.width) * win.cols), win.cols) };
  }

  /** Show more (factor below 1) or less around a cell; 0 shows all. */
  function zoom(factor, around = at ?? { row: win.row + win.rows / 2, col: win.col + win.cols / 2 }) {
    if (!factor) return show(whole());
    const rows = Math.max(Math.min(4, o.rows), Math.min(o.rows, Math.round(win.rows * factor)));
    const cols = Math.max(Math.min(4, o.columns), Math.min(o.columns, Math.round(win.cols * factor)));
    show({ rows, cols, row: around.row - ((around.row - win.row) * rows) / win.rows, col: around.col - ((around.col - win.col) * cols) / win.cols });
  }
  let asked = 0;
  function show(to) {
    const hold = (v, size, most) => Math.round(Math.min(most - size, Math.max(0, v)));
    win = { ...to, row: hold(to.row, to.rows, o.rows), col: hold(to.col, to.cols, o.columns) };
    asked ||= requestAnimationFrame(() => { asked = 0; paint(); });
  }

  const pair = (a, b) => [Math.min(a, b), Math.max(a, b)];
  function dragged(to) {
    const rows = drag.zone === "columns" ? null : pair(drag.row, to.row);
    const columns = drag.zone === "rows" ? null : pair(drag.col, to.col);
    return { rows, columns };
  }
  el.addEventListener("pointermove", (event) => {
    if (!geo) return;
    const to = under(event);
    if (drag && (drag.moved ||= Math.hypot(event.clientX - drag.x, event.clientY - drag.y) > 4)) {
      spanned = dragged(to);
      return point({ row: to.row, col: to.col });
    }
    point(to.zone ? { row: to.row, col: to.col } : null);
  });
  el.addEventListener("pointerleave", () => !drag && point(null));
  el.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || !geo || event.target === back) return;
    const from = under(event);
    if (!from.zone) return;
    drag = { ...from, x: event.clientX, y: event.clientY, moved: false, was: spanned };
    if (event.pointerType === "mouse") el.setPointerCapture(event.pointerId); // a finger that moves scrolls the page
  });
  el.addEventListener("pointerup", (event) => {
    if (!drag) return;
    const { moved, zone } = drag;
    const to = under(event);
    const span = moved ? dragged(to) : null;
    const was = drag.was;
    drag = null;
    if (!moved) return o.onPick?.({ ...cell(to), zone });
    if (o.onSpan && !event.shiftKey) o.onSpan(span);
    else {
      spanned = was;
      const [rows, cols] = [span.rows ?? [win.row, win.row + win.rows - 1], span.columns ?? [win.col, win.col + win.cols - 1]];
      show({ row: rows[0], col: cols[0], rows: Math.max(2, rows[1] - rows[0] + 1), cols: Math.max(2, cols[1] - cols[0] + 1) });
    }
    marks();
  });
  el.addEventListener("pointercancel", () => { spanned = drag?.was ?? null; drag = null; marks(); });
  el.addEventListener("dblclick", () => zoom(0));
  el.addEventListener("wheel", (event) => {
    // a page that is scrolled past is not zoomed
    if (!geo || Math.min(o.rows, o.columns) < 16 || !(event.ctrlKey || el.contains(document.activeElement))) return;
    event.preventDefault();
    zoom(event.deltaY > 0 ? 1.25 : 0.8, under(event));
  }, { passive: false });
  const first = () => ({ row: Math.max(0, chosen?.row ?? o.rows - 1), col: Math.max(0, chosen?.col ?? 0) });
  const hold = (v, size) => Math.min(size - 1, Math.max(0, v));
  reader(el, o.name ?? "", { start: () => point(at ?? first(), true), leave: () => point(null), key({ key, shiftKey }) {
    const by = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0], PageUp: [-16, 0], PageDown: [16, 0], Home: [0, -o.columns], End: [0, o.columns] }[key];
    const now = at ?? first();
    if (by) {
      const to = { row: hold(now.row + by[0], o.rows), col: hold(now.col + by[1], o.columns) };
      if (shiftKey && o.onSpan) {
        drag ??= { ...now, zone: "body", was: spanned, keyed: true };
        spanned = dragged(to);
      } else drag = null;
      const follow = (i, from, size) => (i < from ? i : i >= from + size ? i - size + 1 : from);
      const [row, col] = [follow(to.row, win.row, win.rows), follow(to.col, win.col, win.cols)];
      if (row !== win.row || col !== win.col) show({ ...win, row, col });
      point(to, true);
    } else if ("+=-0".includes(key)) zoom({ "-": 1.4, 0: 0 }[key] ?? 0.7);
    else if ((key === "Enter" || key === " ") && (o.onPick || drag)) {
      if (drag?.keyed) o.onSpan(spanned);
      else o.onPick({ ...cell(now), zone: "body" });
      drag = null;
    } else if (key === "Escape" && drag) {
      spanned = drag.was;
      drag = null;
      marks();
    } else return false;
    return true;
  } });
  themed(frame, () => { kept = null; paint(); });

  if (given.length > 1) given[0].append(frame);
  return Object.assign(frame, {
    canvas, zoom, cell: (row, col) => cell({ row, col }),
    update(next) {
      const same = next.rows === undefined || (next.rows === o.rows && next.columns === o.columns);
      o = { ...o, ...next };
      ends = o.ends ?? domain(o.values ?? [], o.scale);
      kept = null;
      if (!same) [win, at, spanned] = [whole(), null, null];
      paint();
    },
    select(to) { chosen = to; marks(); },
    span(to) { spanned = to; marks(); },
    labels: named,
  });
}

function image({ words, wide: width, high }) {
  const canvas = new OffscreenCanvas(width, high);
  canvas.getContext("2d").putImageData(new ImageData(new Uint8ClampedArray(words.buffer), width, high), 0, 0);
  return canvas;
}
