"""Trap 18: an adapter that is handed to the next stage does not train there: loaded with nothing to learn
(tloen/alpaca-lora#352), wrapped twice (huggingface/trl#652), a reward that stays flat (huggingface/trl#3031), saved as
what it was (huggingface/peft#1410).

Guard: SFT, DPO and PPO in a chain: every stage trains as many weights as the adapter has and says so, its reference is
what the stage before made, and what it saves is another model than what it was given.
"""

import json
from dataclasses import replace

import pytest
import torch

from instar.adapt import peft
from instar.adapt.folders import load, load_adapted
from instar.adapt.lora import using, weights_of
from instar.config.options import DpoOptions, EvaluateOptions, LoraOptions, SftOptions, TrainOptions
from instar.hub.folders import load as load_whole
from instar.train import reinforce, stages
from instar.train.adapting import PREVIOUS, begin

pytestmark = pytest.mark.usefixtures("one_thread")
TRAIN = TrainOptions(context=64, batch_tokens=256, steps=3, lr=1e-2, weight_decay=0.0, schedule="constant", warmup=0.0)


@pytest.fixture
def chain(talker, reinforced, tmp_path):
    """chain(): the folders of the base and of three stages, the reports of those, and all that was said."""
    asked = {"role": "user", "content": "say"}
    talks = [{"messages": [asked, {"role": "assistant", "content": letter}]} for letter in "abcdefgh"]
    pairs = [{"prompt": f"say {w}", "chosen": "aa", "rejected": w * 3} for w in "bcdfghkl"]
    for name, records in {"talks": talks, "pairs": pairs}.items():
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, records)))

    def run():
        said, base = [], talker / "model"
        besides = {"dtype": "fp32", "quiet": True, "evaluate": EvaluateOptions(samples=0), "train": TRAIN}
        sft = SftOptions(
            model=str(base), data=(str(tmp_path / "talks.jsonl"),), out=str(tmp_path / "sft"), lora=LoraOptions(rank=2),
            **besides,
        )  # fmt: skip
        dpo = DpoOptions(
            model=str(tmp_path / "sft"), data=(str(tmp_path / "pairs.jsonl"),), out=str(tmp_path / "dpo"), **besides
        )
        ppo = replace(reinforced("ppo", out="ppo", train={"steps": 4}), model=str(tmp_path / "dpo"))
        reports = [
            stages.sft(sft, say=said.append), stages.dpo(dpo, say=said.append), reinforce.ppo(ppo, say=said.append),
        ]  # fmt: skip
        return [base, *(tmp_path / name for name in ("sft", "dpo", "ppo"))], reports, said

    return run


def test_three_stages_each_train_the_adapter_and_say_so(chain):
    """As many weights as the first adapter has, more than none; with PPO those of its critic besides."""
    folders, reports, said = chain()
    learning = [report["trained"] for report in reports]
    own = sum(weight.numel() for weight in weights_of(load_adapted(folders[1])[0], "default").values())
    assert learning[0] == learning[1] == own > 0
    assert learning[2] == 2 * own + load_whole(folders[0])[0].config.d_model
    for count in learning:
        assert any(f"of which {count:,} learn" in line for line in said)

    ids = torch.arange(10)[None]
    with torch.no_grad():
        spoken = [load(folder)[0](ids) for folder in folders]
        apart = [load_adapted(folder)[0](ids) for folder in folders]
    for number, (folder, now) in enumerate(zip(folders, spoken)):
        torch.testing.assert_close(now, apart[number], rtol=0, atol=1e-5)  # what is saved says the same merged
        if number:
            assert (now - spoken[number - 1]).abs().max() > 1e-3, folder
            stored = peft.read(folder)
            assert stored.base.name == str(folders[0].resolve())  # one adapter on the bare base, never one on another
            assert stored.options.rank == 2


def test_the_reference_is_what_the_stage_before_made(chain, tmp_path):
    """Story: with the base as reference, the KL is that of all stages together."""
    folders, _, _ = chain()
    ids = torch.arange(10)[None]
    begun = begin(str(folders[1]), LoraOptions())
    assert begun.adaptation.chained
    assert {name for name, weight in begun.model.named_parameters() if weight.requires_grad} == set(
        weights_of(begun.model, "default")
    )
    with torch.no_grad():
        for weight in weights_of(begun.model, "default").values():
            weight.add_(0.1)
        with using(begun.model, PREVIOUS):
            before = begun.model(ids)
        assert torch.equal(before, load_adapted(folders[1])[0](ids))
        assert (before - load_whole(folders[0])[0](ids)).abs().max() > 1e-3
        assert (before - begun.model(ids)).abs().max() > 1e-3


def test_the_first_loss_of_dpo_is_ln_2_against_it(chain, tmp_path):
    """Only against its own beginning is a policy ahead by nothing."""
    chain()
    first = json.loads((tmp_path / "dpo" / "metrics.jsonl").read_text().splitlines()[0])
    assert first["loss"] == pytest.approx(torch.tensor(2.0).log().item(), abs=1e-5)
