"""The source of batches of PPO and GRPO: phases, bad rewards, bounds, and what it tells."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from instar.batch import IGNORE
from instar.cli import run
from instar.config import Diverged, InputError
from instar.train import reinforce, rewards
from instar.train.experience import plain, restored
from instar.train.policy import Experience
from instar.train.trainer import Trainer


@pytest.fixture
def toy(monkeypatch):
    """toy(f): the name by which --reward finds this function."""

    def name(function):
        monkeypatch.setattr(rewards, "toy_other", function, raising=False)
        return ("instar.train.rewards:toy_other",)

    return name


def trained(stage, steps, **changes):
    """The records of so many steps."""
    records = []
    trainer = Trainer(stage.model, stage.objective, stage.loader, replace(stage.train, **changes), steps=steps)
    trainer.on_step = [stage.loader.watch, lambda _, record: records.append(record)]
    trainer.fit()
    return records


def test_every_answer_is_learnt_from_as_often_as_there_are_epochs(reinforced, stage_of):
    """In a phase each minibatch comes once an epoch, in another order, and all answers of a prompt in one."""
    stage = stage_of(reinforced("grpo", rollouts={"prompts": 6, "epochs": 3, "minibatches": 3}))
    seen, prompts = [], []
    for _ in range(9):
        batches = [next(stage.loader) for _ in range(stage.loader.micro_batches)]
        seen.append(tuple(sorted(id(batch) for batch in batches)))
        prompts.append(tuple(stage.loader.row_ids(0)))
    assert stage.loader.phase == 1
    assert [len(set(seen[n : n + 3])) for n in (0, 3, 6)] == [3, 3, 3]
    assert len(set(seen)) == 3
    assert sorted(n for part in prompts[:3] for n in part) == sorted(stage.loader._order.row_ids(0))
    assert sum(batch.answers for minibatch in stage.loader.minibatches for batch in minibatch) == 18


def test_an_answer_without_a_reward_is_left_out(reinforced, stage_of, toy):
    """It is counted, told, in no batch, and nothing of its group changes; of another prompt's answers nothing does."""

    def fails(record, answer):
        return 1 / 0 if record["number"] % 3 == 0 else float(len(answer))

    told = []
    stage = stage_of(reinforced("grpo", reward=toy(fails), rollouts={"prompts": 9, "bad_rewards": 0.6}))
    stage.loader.say = told.append
    batches = [batch for _ in range(2) for batch in [next(stage.loader)]]
    failed = stage.loader.failures.failed
    assert failed > 0
    assert stage.loader.told["failed_rewards"] == failed
    assert any("raised ZeroDivisionError" in text for text in told)
    left = sum(batch.answers for part in stage.loader.minibatches for batch in part)
    assert left == 27 - failed
    assert all(batch.advantages.isfinite().all() for batch in batches)


def test_too_many_answers_without_a_reward_end_the_run(reinforced, stage_of, toy):
    """With an error that names the function, what it did, and the record."""
    stage = stage_of(reinforced("ppo", reward=toy(lambda record, answer: None)))
    with pytest.raises(InputError, match=r"4 of 4 answers have no reward.*toy_other gave None.*record"):
        next(stage.loader)


def test_answers_that_grow_without_end_stop_the_run(reinforced, stage_of):
    """The mean length of the first phase times `longer` is the bound; the message says both and what to do."""
    stage = stage_of(reinforced("ppo", longer=2.0))
    next(stage.loader)
    stage.loader.started_with = 2.0
    stage.loader.place = 99
    with pytest.raises(
        Diverged, match=r"phase 2: answers have 6\.0 tokens .* longer=2 times the 2\.0 .*kl\.coefficient"
    ):
        next(stage.loader)


def test_a_kl_out_of_bounds_stops_the_run(reinforced, stage_of):
    """A policy that ran away from its reference is not trained any further."""
    stage = stage_of(reinforced("grpo", kl={"limit": 0.5}))
    with pytest.raises(Diverged, match=r"nats from the reference on average, more than kl\.limit=0\.5"):
        trained(stage, 40, lr=0.3)


def test_a_missing_end_is_charged(reinforced, stage_of):
    """An answer that was cut off gets less than one that ended, by what the option says; the reward that is told is
    the reward itself."""
    plain_, charged = (
        stage_of(
            reinforced("grpo", algorithm="dr-grpo", rollouts={"missing_end": m, "max_new_tokens": 40, "prompts": 8})
        )
        for m in (0.0, 3.0)
    )
    first, second = next(plain_.loader), next(charged.loader)
    assert plain_.loader.told["reward"] == charged.loader.told["reward"]
    assert 0 < plain_.loader.told["ended"] < 1
    assert torch.equal(first.tokens, second.tokens)
    assert not torch.equal(first.advantages, second.advantages)
    assert second.advantages.abs().max() > 0.9
    assert first.advantages.abs().max() < 0.9


def test_a_phase_without_ends_says_that_it_teaches_nothing(reinforced, stage_of):
    """Where answers that were cut off are left out, and all were."""
    told = []
    stage = stage_of(reinforced("grpo", rollouts={"mask_truncated": True, "max_new_tokens": 1, "prompts": 2}))
    stage.loader.say = told.append
    batch = next(stage.loader)
    assert (batch.divisor, stage.loader.told["ended"]) == (0, 0.0)
    assert "phase 1 teaches nothing: none of 6 answers ended within rollouts.max_new_tokens=1" in told[0]


def test_early_stop_on_kl(reinforced, stage_of):
    """A step that finds the policy farther from the sampler than kl.stop ends the phase, and says so."""
    changes = {"rollouts": {"epochs": 6}, "train": {"lr": 5e-2}}
    free = trained(stage_of(reinforced("ppo", **changes)), 12)
    bound = trained(stage_of(reinforced("ppo", **changes, kl={"stop": 1e-3})), 12)
    assert free[-1]["phase"] == 1
    assert bound[-1]["phase"] > 1
    ended = [record for record in bound if record.get("ended_early")]
    assert ended
    assert all(record["old_kl"] > 1e-3 for record in ended)


def test_plain_data_gives_back_the_very_batch(reinforced, stage_of):
    """Every tensor bit for bit, through JSON."""
    stage = stage_of(reinforced("grpo", train={"context": 96}))
    batch = next(stage.loader)
    again = restored(Experience, json.loads(json.dumps(plain(batch))))
    assert again.view.branches is not None
    for name in ("tokens", "targets", "answer", "last", "logprobs", "advantages", "weights", "reference"):
        assert torch.equal(getattr(again, name), getattr(batch, name)), name
        assert getattr(again, name).dtype == getattr(batch, name).dtype
    assert (again.divisor, again.values, again.critic_only) == (batch.divisor, None, False)


def test_other_prompts_cannot_be_gone_on_with(reinforced, stage_of):
    """The place in another list of prompts means nothing."""
    stage = stage_of(reinforced("ppo"))
    with pytest.raises(InputError, match="cannot resume: prompts was 3"):
        stage.loader.load_state_dict(stage.loader.state_dict() | {"prompts": 3})


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"rollouts": {"temperature": 0.0}}, "temperature=0.0"), ({"rollouts": {"epochs": 0}}, "epochs=0"),
        ({"rollouts": {"minibatches": 5}}, "minibatches=5"), ({"clip_low": 1.0}, "clip_low=1.0"),
        ({"kl": {"coefficient": -1.0}}, "kl.coefficient=-1.0"), ({"train": {"batch_tokens": 64}}, "batch_tokens=64"),
        ({"train": {"compile": True}}, "compile=True"), ({"rollouts": {"max_new_tokens": 65}}, "max_new_tokens=65"),
        ({"held_out": 1.0}, "all are held out"), ({"lam": 1.5}, "lam=1.5"),
        ({"critic": {"pace": 0.0}}, "critic.pace=0"), ({"entropy": -0.1}, "entropy=-0.1; wanted 0"),
        ({"longer": 0.5}, "longer=0.5: the first phase"),
        ({"kl": {"horizon": 5.0}}, "kl.horizon=5.0 without kl.target"),
        ({"rollouts": {"missing_end": float("inf")}}, "rollouts.missing_end=inf; wanted 0"),
        ({"train": {"context": 4096}}, "max_positions"),
    ],
)  # fmt: skip
def test_options_that_mean_nothing(reinforced, stage_of, changes, why):
    """Each is named before any work."""
    with pytest.raises(InputError, match=why):
        stage_of(reinforced("ppo", **changes))


def test_held_out_answers_without_a_reward_are_told(reinforced, toy):
    """They count in no mean, and nobody is told that nothing was held out."""

    def fails(record, answer):
        return None if record["number"] % 8 == 2 else 1.0

    told = []
    options = reinforced("grpo", reward=toy(fails), held_out=0.5, train={"steps": 1}, rollouts={"bad_rewards": 1.0})
    reinforce.grpo(options, say=told.append)
    found = [text for text in told if "held-out answers have no reward" in text]
    assert found
    assert "toy_other gave None, wanted a number; it was given" in found[0]
    assert not any("nothing is held out" in text for text in told)


def test_one_answer_has_no_group(reinforced):
    """GRPO of one answer to each prompt could never learn."""
    with pytest.raises(InputError, match="compared with others"):
        reinforce.plan_grpo(reinforced("grpo", rollouts={"answers": 1}))


def test_the_command(reinforced, talker, tmp_path, capsys):
    """`instar grpo` from flags to folder: figures and samples before and after on the screen, in the report, in the
    log; a folder that loads. Python from a file is refused."""
    words = f"""grpo --model {talker}/model --prompts {talker}/prompts.jsonl --out {tmp_path}/run --held-out 0.2
        --train.steps 2 --train.context 64 --rollouts.prompts 4 --rollouts.answers 2 --rollouts.max-new-tokens 4
        --dtype fp32 --device cpu""".split()
    assert run([*words, "--reward", "instar.train.rewards:toy_vowels"]) == 0
    shown = capsys.readouterr().out
    assert "before and after" in shown
    assert "held out reward before" in shown
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert {"prompt", "before", "after", "reward_before", "reward_after"} == set(report["samples"][0])
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    wanted = {"reward", "kl", "kl_k3", "kl_answer", "entropy", "clip_fraction", "ratio", "length", "advantage", "ended"}
    assert all(wanted <= row.keys() for row in rows)
    assert (Path(tmp_path) / "run" / "model.safetensors").is_file()
    (tmp_path / "bad.yaml").write_text("reward: [os:system]\n")
    assert run([*words, "--out", f"{tmp_path}/other", "--config", f"{tmp_path}/bad.yaml"]) == 2
    assert "os:system" in capsys.readouterr().err


def test_answers_of_one_prompt_share_it(reinforced, stage_of):
    """Three answers take the prompt's tokens once in a row, and a row that cannot hold them all is two."""
    wide, narrow = (stage_of(reinforced("grpo", train={"context": c})) for c in (64, 36))
    first, second = next(wide.loader), next(narrow.loader)
    assert first.answers == second.answers == 6
    assert len(second.tokens) > len(first.tokens)
    said = [(b.targets != IGNORE).sum() for b in (first, second)]
    assert said[0] == said[1]
