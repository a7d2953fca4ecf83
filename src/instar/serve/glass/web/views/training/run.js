// A run as the page knows it: read once, then followed for as long as it trains.

/** @param {string} id ids have slashes */
const path = (id) => `runs/${id.split("/").map(encodeURIComponent).join("/")}`;

/** Read a run, and hear of it whenever it has grown. `heard(run)` gets {id, state, of, stage, steps, columns, left_s,
 * rows, broken, report, decisions, skips, skipped, prompts, inside}; `failed(error)` where it cannot be read.
 * @param {any} ctx @param {string} id @param {Function} heard @param {Function} failed */
export function follow(ctx, id, heard, failed) {
  const leave = new AbortController();
  const { signal } = leave;
  const get = (what) => ctx.api.get(`${path(id)}/${what}`, {}, { signal });
  const run = { id };

  async function beside() {
    const [samples, inside] = await Promise.all([get("samples"), get("inside")]);
    Object.assign(run, { prompts: samples.prompts, inside });
    heard(run);
  }

  async function read() {
    Object.assign(run, await get("metrics"));
    heard(run);
    await beside();
  }

  function cut(step) {
    const keep = run.steps.findIndex((one) => one > step);
    if (keep < 0) return;
    run.rows = Math.min(run.rows - run.steps.length + keep, step);
    run.steps.length = keep;
    for (const column of Object.values(run.columns)) column.length = keep;
  }

  function add({ steps, columns, left_s }) {
    const had = run.steps.length;
    for (const name of new Set([...Object.keys(run.columns), ...Object.keys(columns)])) {
      run.columns[name] ??= Array(had).fill(null);
      run.columns[name].push(...(columns[name] ?? Array(steps.length).fill(null)));
    }
    run.steps.push(...steps);
    run.rows += steps.length;
    run.left_s = left_s;
  }

  function told(name, data) {
    if (name === "rewind") cut(data.step);
    else if (name === "rows") add(data);
    else if (name === "changed") return beside();
    else if (name === "end") run.state = data.state;
    heard(run);
    return undefined;
  }

  async function all() {
    try {
      await read();
      while (run.state === "live" && !signal.aborted) {
        try {
          await ctx.api.stream(`${path(id)}/events`, null, told, { signal, params: { after: run.steps.at(-1) ?? 0 } });
          if (run.state !== "live") await read(); // now with its report
        } catch (error) {
          if (error.code !== "offline") throw error;
          await new Promise((on) => setTimeout(on, 2000)); // the page says that the server has gone
        }
      }
    } catch (error) {
      if (error.name !== "AbortError") failed(error);
    }
  }

  all();
  return () => leave.abort();
}

/** The place of the last step that is not behind `step`; -1 before the first. @param {number[]} steps @param {number} step */
export function placeOf(steps, step) {
  let [low, high] = [0, steps.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (steps[middle] <= step) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

/** An exponential mean that remembers a share of the curve, from both sides so that it does not lag; gaps stay.
 * @param {(number | null)[]} values @param {number} share */
export function smooth(values, share) {
  const memory = share * values.length;
  if (memory <= 1) return values;
  const keep = 1 - 1 / memory;
  const way = (list) => {
    let [mean, weight] = [0, 0];
    return list.map((v) => {
      if (v === null) return null;
      mean = keep * mean + (1 - keep) * v;
      weight = keep * weight + (1 - keep);
      return mean / weight;
    });
  };
  const back = way([...values].reverse()).reverse();
  return way(values).map((v, i) => (v === null ? null : (v + back[i]) / 2));
}
