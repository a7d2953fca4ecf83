"""Writes sampler.json: how the engine's sampler chooses, in cases that the page's sampler must repeat.

Run by hand after a change of the rules: python tests/serve/glass/golden/write_sampler.py

A case is {"name", "logits" (V,), "options" (fields of SamplingOptions), "prompt", "said" (ids), "u" in [0, 1),
"stages": [{"name", "kept" (ids, ascending), "p" (of those), "entropy" (nats)}], "id", "low", "high" (the share of the
line that is the id's; null where nothing is drawn), "logprob" (nats, the model's own), "rank"}. The first stage is the
model's own distribution; a rule that changes nothing has no stage; greedy ends with the stage "greedy". Logits have few
decimals, so that fp32 and fp64 choose alike.
"""

import json
import math
import random
from pathlib import Path

import torch

from instar.config.options import SamplingOptions
from instar.config.strict import from_dict
from instar.infer.sampling import check
from instar.probe.choice import State, choose

GOLDEN = Path(__file__).with_name("sampler.json")
DIGITS = 7

SMALL = [2.0, 1.0, 0.5, 0.0, -1.0, 3.0, -2.5, 1.5]
TIES = [1.0, 2.0, 1.0, 2.0, 0.0, 1.0, -1.0, 2.0]
FLAT = [0.25] * 8
SIGNS = [-1.0, 2.0, -3.0, 0.5, 1.0, -0.25]
PAST = dict(prompt=[5, 0, 5], said=[1, 7, 1])


def logits_of(size, seed, spread=2.0):
    """A vocabulary's logits, in thousandths."""
    random_numbers = random.Random(seed)
    return [round(random_numbers.gauss(0, spread), 3) for _ in range(size)]


def asked():
    """(name, logits, options, u, what was said) of every case."""
    large, sharp = logits_of(512, 1), logits_of(512, 2, 6.0)
    middle = logits_of(24, 3)
    yield "as it is", SMALL, {}, 0.5, {}
    yield "as it is, u=0", SMALL, {}, 0.0, {}
    yield "as it is, u nearly 1", SMALL, {}, 0.999999, {}
    yield "greedy", SMALL, {"strategy": "greedy"}, 0.9, {}
    yield "greedy, the first of equals", TIES, {"strategy": "greedy"}, 0.9, {}
    yield "temperature 0 is greedy", SMALL, {"temperature": 0.0}, 0.9, {}
    yield "colder", SMALL, {"temperature": 0.5}, 0.7, {}
    yield "hotter", SMALL, {"temperature": 2.0}, 0.7, {}
    yield "top-k", SMALL, {"top_k": 3}, 0.9, {}
    yield "top-k of one", SMALL, {"top_k": 1}, 0.9, {}
    yield "top-k above the vocabulary", SMALL, {"top_k": 99}, 0.4, {}
    yield "top-k keeps equals", TIES, {"top_k": 4}, 0.95, {}
    yield "top-p", SMALL, {"top_p": 0.8}, 0.9, {}
    yield "top-p keeps equals", TIES, {"top_p": 0.6}, 0.9, {}
    yield "top-p of a flat distribution", FLAT, {"top_p": 0.3}, 0.6, {}
    yield "top-p of nearly nothing", SMALL, {"top_p": 0.01}, 0.6, {}
    yield "top-p of 0 keeps the likeliest", SMALL, {"top_p": 0.0}, 0.6, {}
    yield "min-p", SMALL, {"min_p": 0.1}, 0.3, {}
    yield "min-p of 1 keeps the likeliest", TIES, {"min_p": 1.0}, 0.7, {}
    yield "hot, then top-p", SMALL, {"temperature": 1.7, "top_p": 0.7}, 0.8, {}
    yield "top-k before top-p", SMALL, {"top_k": 4, "top_p": 0.7}, 0.8, {}
    yield "all of drawing", middle, {"temperature": 0.8, "top_k": 12, "top_p": 0.95, "min_p": 0.05}, 0.61, {}
    yield "repetition", SIGNS, {"repetition_penalty": 1.5}, 0.5, dict(prompt=[1, 0], said=[2])
    yield "repetition below 1", SIGNS, {"repetition_penalty": 0.7}, 0.5, dict(prompt=[1, 0], said=[2])
    yield "presence", SMALL, {"presence_penalty": 0.75}, 0.5, PAST
    yield "frequency", SMALL, {"frequency_penalty": 0.75}, 0.5, PAST
    yield "presence below 0", SMALL, {"presence_penalty": -1.0}, 0.5, PAST
    yield "all penalties", SMALL, {
        "repetition_penalty": 1.25, "presence_penalty": 0.5, "frequency_penalty": 0.25,
    }, 0.35, PAST  # fmt: skip
    yield "penalties, greedy", SMALL, {"strategy": "greedy", "repetition_penalty": 4.0}, 0.1, PAST
    yield "nothing said yet", SMALL, {"presence_penalty": 2.0}, 0.5, dict(prompt=[5, 0])
    yield "bias", SMALL, {"logit_bias": [[6, 5.0], [5, -2.5]]}, 0.5, {}
    yield "bias bans", SMALL, {"logit_bias": [[5, -100.0], [0, -100.0]]}, 0.01, {}
    yield "bias forces", SMALL, {"logit_bias": [[4, 100.0]]}, 0.99, {}
    yield "bias, greedy", SMALL, {"strategy": "greedy", "logit_bias": [[4, 10.0]]}, 0.99, {}
    yield "bias before repetition", SIGNS, {"logit_bias": [[0, 3.0]], "repetition_penalty": 2.0}, 0.4, dict(
        prompt=[0], said=[]
    )  # fmt: skip
    yield "everything", middle, {
        "logit_bias": [[3, 1.5], [9, -4.0]], "repetition_penalty": 1.2, "presence_penalty": 0.3,
        "frequency_penalty": 0.2, "temperature": 0.9, "top_k": 15, "top_p": 0.9, "min_p": 0.02,
    }, 0.42, dict(prompt=[3, 4, 5], said=[9, 3, 9])  # fmt: skip
    yield "512 tokens", large, {}, 0.37, {}
    yield "512 tokens, top-k", large, {"top_k": 40}, 0.37, {}
    yield "512 tokens, top-p", large, {"top_p": 0.9}, 0.81, {}
    yield "512 tokens, hot top-p needs more than the best", large, {"temperature": 2.0, "top_p": 0.95}, 0.73, {}
    yield "512 tokens, min-p", large, {"min_p": 0.02}, 0.55, {}
    yield "512 tokens, sharp", sharp, {"temperature": 0.8, "top_k": 50, "top_p": 0.95, "min_p": 0.01}, 0.66, dict(
        prompt=list(range(0, 60, 3)), said=list(range(60))
    )  # fmt: skip
    yield "512 tokens, usual", sharp, {"temperature": 0.8, "top_p": 0.95, "repetition_penalty": 1.1}, 0.15, dict(
        prompt=list(range(0, 60, 3)), said=list(range(60))
    )  # fmt: skip


def rounded(number):
    """To 7 significant digits, all that fp32 has."""
    return float(f"{number:.{DIGITS}g}") if math.isfinite(number) else None


def case(name, logits, options, luck, past):
    """One case as the code decides it now."""
    sampling = from_dict(SamplingOptions, options, base=SamplingOptions())
    check(sampling)
    prompt, said = past.get("prompt", []), past.get("said", [])
    found = choose(torch.tensor(logits), sampling, State(prompt, said, luck=luck))
    stages = []
    for stage in found.stages:
        if stage.name != "model" and not stage.setting:
            continue
        kept = (stage.chances > 0).nonzero().flatten().tolist()
        p = [rounded(stage.chances[id].item()) for id in kept]
        stages.append({"name": stage.name, "kept": kept, "p": p, "entropy": rounded(stage.entropy)})
    drawn = found.luck is not None
    return {
        "name": name, "logits": logits, "options": options, "prompt": prompt, "said": said, "u": luck,
        "stages": stages, "id": found.id, "low": rounded(found.low) if drawn else None,
        "high": rounded(found.high) if drawn else None, "logprob": rounded(found.logprob), "rank": found.rank,
    }  # fmt: skip


def cases():
    """All of them."""
    return [case(*one) for one in asked()]


if __name__ == "__main__":
    lines = ",\n".join(json.dumps(one, ensure_ascii=False) for one in cases())
    GOLDEN.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    print(f"{GOLDEN}: {len(cases())} cases, {GOLDEN.stat().st_size:,} bytes")
