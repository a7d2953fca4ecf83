// Which charts a run has: curves out of its columns, of those that it has.
import { smooth } from "./run.js";

const [MAIN, OTHER, HELD, BESIDE] = ["var(--accent)", "var(--c3)", "var(--c4)", "var(--c2)"];

// id, columns as curves, a column in a second colour, one that is measured now and then, and how: log, zero, plain
const CHARTS = [
  ["loss", "loss", "", "held_out_loss", "log"], ["birth", "", "", "", "zero"], ["reward", "reward", "", "held_out_reward"],
  ["rewards", "reward_chosen", "reward_rejected", ""], ["margin", "margin", "", "held_out_margin"], ["kl_answer", "kl_answer"],
  ["drift", "drift"], ["entropy", "entropy"], ["length", "length", "", "", "zero"], ["clip_fraction", "clip_fraction", "", "", "zero"],
  ["accuracy", "accuracy", "", "held_out_accuracy", "zero"], ["lr", "lr", "", "", "zero plain"], ["grad_norm", "grad_norm", "", "", "log"],
  ["tokens_per_second", "tokens_per_second", "", "", "zero"],
];
export const IDS = CHARTS.map(([id]) => id);

/** What the charts of a run show. @param {any} run @param {any} other a second run or null
 * @param {{share: number, log: boolean, t: Function}} how share: of a curve that its mean remembers */
export function curvesOf(run, other, { share, log, t }) {
  return CHARTS.map(([id, main, second, held, how = ""]) => {
    const curves = id === "birth" ? births(run.inside, t) : [run, other].flatMap((one, i) => (one ? [[main, MAIN], [second, OTHER], [held, HELD]] : [])
      .filter(([name]) => one.columns[name]).map(([name, colour]) => {
        const raw = one.columns[name];
        const dots = name === held;
        const bare = dots || how.includes("plain") || share <= 0;
        const label = t(`training.curve.${dots ? "held" : name}`);
        return {
          key: i ? `${name}-beside` : name, label: !i ? label : dots ? `${one.id} · ${label}` : one.id, colour: i ? BESIDE : colour,
          steps: one.steps, values: bare ? raw : smooth(raw, share), raw: bare || i ? undefined : raw, dots, dash: i > 0,
        };
      }));
    return { id, log: how === "log" && log, zero: how.startsWith("zero"), marks: how === "log" ? run.skipped : [], curves };
  }).filter((chart) => chart.curves.length);
}

function births(inside, t) {
  return Object.entries(inside?.best ?? {}).map(([name, { head, scores }], i) => ({
    key: name, label: `${t(`training.head.${name}`)}${head ? ` ${head.join(".")}` : ""}`, colour: `var(--c${i % 6})`,
    steps: inside.steps, values: scores, dots: true,
  }));
}
