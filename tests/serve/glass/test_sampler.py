"""The page's sampler against the engine's own answers, in the page itself."""

import json
import math
from pathlib import Path

import pytest

pytestmark = pytest.mark.page
GOLDEN = json.loads((Path(__file__).parent / "golden" / "sampler.json").read_text(encoding="utf-8"))

# every case as the page computes it
ALL = """async (cases) => {
  const { chance, pick, pipeline, ruler } = await import("./core/sampler.js");
  return cases.map((one) => {
    const logits = new Float32Array(one.logits);
    const stages = pipeline(logits, one.options, { prompt: one.prompt, said: one.said });
    const last = stages.at(-1), line = ruler(last);
    const drawn = last.name === "greedy" ? { id: line.ids[0], low: null, high: null } : pick(line, one.u);
    return {
      ...drawn, logprob: Math.log(chance(stages[0], drawn.id)),
      rank: 1 + logits.filter((x) => x > logits[drawn.id]).length,
      sums: stages.map((stage) => logits.reduce((sum, _, id) => sum + chance(stage, id), 0)),
      stages: stages.filter((stage) => stage.name === "model" || stage.setting).map((stage) => {
        const kept = [...ruler(stage).ids];
        const p = kept.map((id) => chance(stage, id));
        return { name: stage.name, kept, n: stage.kept, mass: stage.mass, entropy: stage.entropy, p };
      }),
    };
  });
}"""


@pytest.fixture
def found(page, glass_url):
    page.goto(glass_url)
    return dict(zip((one["name"] for one in GOLDEN), page.evaluate(ALL, GOLDEN)))


def test_the_page_samples_as_the_engine_does(found):
    """Known answer "Sampler": JS = Python on every golden vector: what each rule keeps, with which probability and
    entropy, the token that is drawn and its share of the line; and Σp = 1 after every rule."""
    for told in GOLDEN:
        name, own = told["name"], found[told["name"]]
        assert (own["id"], own["rank"]) == (told["id"], told["rank"]), name
        for key in ("low", "high", "logprob"):
            assert own[key] == (told[key] and pytest.approx(told[key], abs=1e-6)), (name, key)
        assert [stage["name"] for stage in own["stages"]] == [stage["name"] for stage in told["stages"]], name
        assert own["sums"] == pytest.approx([1] * len(own["sums"]), abs=1e-12), name
        for one, other in zip(own["stages"], told["stages"]):
            assert one["kept"] == other["kept"], (name, one["name"])
            assert one["n"] == len(other["kept"]), (name, one["name"])
            assert one["p"] == pytest.approx(other["p"], rel=1e-5, abs=1e-9), (name, one["name"])
            assert one["entropy"] == pytest.approx(other["entropy"], abs=1e-5), (name, one["name"])


def test_top_p_is_the_smallest_set_that_reaches_p(found):
    """Known answer "Sampler": without its least likely token, and those that are as likely, a top-p set falls short."""
    seen = 0
    for told in GOLDEN:
        p, stages = told["options"].get("top_p", 1), found[told["name"]]["stages"]
        names = [stage["name"] for stage in stages]
        if "top_p" not in names or not p:
            continue
        seen += 1
        place = names.index("top_p")
        before = dict(zip(stages[place - 1]["kept"], stages[place - 1]["p"]))
        kept = [before[id] for id in stages[place]["kept"]]
        assert math.fsum(kept) >= p - 1e-9, told["name"]
        assert math.fsum(x for x in kept if x > min(kept)) < p, told["name"]
        assert stages[place]["mass"] == pytest.approx(math.fsum(kept), abs=1e-9), told["name"]
    assert seen >= 8


def test_a_large_vocabulary_is_sorted_in_small_tasks_and_never_again(page, glass_url):
    """151,936 logits: the order found in pieces is that of one sort, penalties move a few ids within it, and what is
    kept from slider to slider is what would be computed anew."""
    page.goto(glass_url)
    found = page.evaluate("""async () => {
      const { pipeline, rank, rankGently, penalise, reorder, chance } = await import("./core/sampler.js");
      const size = 151936, logits = new Float32Array(size);
      let seed = 1;
      for (let i = 0; i < size; i++) {
        seed = (seed * 48271) % 2147483647;
        logits[i] = Math.round((seed / 2147483647 - 0.5) * 4000) / 100; // many are equal
      }
      let tasks = 0;
      const order = await rankGently(logits, async () => { tasks += 1; });
      const before = (a, b) => logits[a] > logits[b] || (logits[a] === logits[b] && a < b);
      const sorted = order.every((id, n) => !n || before(order[n - 1], id));
      const prompt = Array.from({ length: 300 }, (_, i) => i * 97);
      const after = penalise(logits, { repetition_penalty: 1.3, presence_penalty: 0.2 }, prompt, [5, 5, 7]);
      const moved = reorder(order, after.logits, after.changed), anew = rank(after.logits);
      const memo = {}, steps = [
        { temperature: 0.7 }, { temperature: 0.7, top_p: 0.9 }, { temperature: 1.4, top_k: 50 },
        { temperature: 1.4, repetition_penalty: 1.2, min_p: 0.1 }, {},
      ];
      const kept = steps.every((o) => {
        const one = pipeline(logits, o, { order, prompt, memo }).at(-1);
        const other = pipeline(logits, o, { prompt }).at(-1);
        return one.kept === other.kept && logits.every((_, id) => chance(one, id) === chance(other, id));
      });
      const same = (a, b) => a.every((id, n) => id === b[n]);
      return { tasks, sorted, same: same(order, rank(logits)), moved: same(moved, anew), kept };
    }""")
    assert found.pop("tasks") >= 5
    assert all(found.values()), found
