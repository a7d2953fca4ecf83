"""TRL's trainers, for benchmarks/alignment.py: runs in the venv of the peers.

The trainers are theirs, untouched: a subclass counts what each micro-batch holds and asks the gate before it goes on.
A setting has, beside options of TRL by their names or nearly so:

    precision: fp32; medium, fp32 whose products may take oneDNN's faster path, which a user has to ask torch for; bf16
        (autocast, weights and moments in fp32)
    layout: padded; grouped, padded among samples of like length; packed, best-fit into rows of the context, isolated;
        flat, the samples of a batch in one row, isolated; ordered, padded in the order of the file
    micro: samples, or packed rows, of one pass; 0 takes the whole step at once
    teach (sft): assistant or all
    reference (dpo): live, by a second model; precomputed
    pad: to a multiple of so many tokens, -1 to the context, 0 to the longest
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import torch
import transformers
from datasets import Dataset
from datasets.utils.logging import disable_progress_bar
from gate import Gate, run
from transformers import AutoTokenizer, TrainerCallback
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

FOR_EVER = 1_000_000
ORDERS = {"padded": "random", "grouped": "group_by_length", "ordered": "sequential"}


class Counted:
    """What the micro-batches of a step held: mixed into a trainer, after whose steps it tells the gate."""

    gate: Gate

    def __init__(self, *args: Any, **named: Any) -> None:
        self.referring = 0.0
        self._forget()
        super().__init__(*args, **named)

    def _forget(self) -> None:
        self.loss, self.samples, self.seen, self.computed = 0.0, 0, 0, 0

    def training_step(self, model: Any, inputs: dict[str, Any], *rest: Any, **named: Any) -> torch.Tensor:
        self.computed += inputs["input_ids"].numel()
        if "attention_mask" in inputs:
            self.samples += len(inputs["input_ids"]) // self.rows_a_sample
            self.seen += int(inputs["attention_mask"].sum())
        else:
            # a text is at least two tokens; a 0 without a 1 behind it is padding
            places = torch.nn.functional.pad(inputs["position_ids"].flatten(), (0, 1))
            begins = (places[:-1] == 0) & (places[1:] == 1)
            self.samples += int(begins.sum())
            self.seen += int(begins.sum() + (places[:-1] > 0).sum())
        loss = super().training_step(model, inputs, *rest, **named)
        self.loss += float(loss)
        return loss

    def passed(self) -> None:
        self.gate.passed(self.loss, self.samples, self.seen, self.computed)
        self._forget()


class CountedSft(Counted, SFTTrainer):
    rows_a_sample = 1


class CountedDpo(Counted, DPOTrainer):
    rows_a_sample = 2

    def _precompute_ref_logps(self, *args: Any, **named: Any) -> Any:
        started = time.perf_counter()
        found = super()._precompute_ref_logps(*args, **named)
        self.referring = time.perf_counter() - started
        return found


class Waits(TrainerCallback):
    """The gate stands before the first step, and behind each."""

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer

    def on_train_begin(self, *args: Any, **named: Any) -> None:
        self.trainer.gate.ready(**facts(self.trainer))

    def on_step_end(self, *args: Any, **named: Any) -> None:
        self.trainer.passed()


def facts(trainer: Any) -> dict[str, Any]:
    """What is trained on, so that both sides can be seen to learn the same."""
    data = trainer.train_dataset
    names = set(data.column_names)
    if "chosen_ids" in names:
        prompt, said = data["prompt_ids"], [*data["chosen_ids"], *data["rejected_ids"]]
        held, taught = 2 * sum(map(len, prompt)) + sum(map(len, said)), sum(map(len, said))
    else:
        held = sum(map(len, data["input_ids"]))
        taught = sum(label != -100 for labels in data["labels"] for label in labels)
        if "seq_lengths" in names:
            held = sum(map(sum, data["seq_lengths"]))
    return {"held": held, "taught": taught, "referring": trainer.referring}


def arguments(request: dict[str, Any], setting: dict[str, Any]) -> dict[str, Any]:
    """What SFT and DPO have in common."""
    micro = setting["micro"] or request["samples"]
    context = request["context"]
    if setting["precision"] == "medium":
        torch.set_float32_matmul_precision("medium")
    return dict(
        output_dir=request["out"], use_cpu=True, report_to="none", save_strategy="no", disable_tqdm=True, seed=0,
        dataloader_pin_memory=False, max_steps=FOR_EVER,
        per_device_train_batch_size=micro, gradient_accumulation_steps=-(-request["samples"] // micro),
        learning_rate=request["lr"], lr_scheduler_type="constant", warmup_steps=0, weight_decay=0.0,
        adam_beta1=0.9, adam_beta2=0.95, adam_epsilon=1e-8, max_grad_norm=1.0, optim="adamw_torch_fused",
        bf16=setting["precision"] == "bf16", gradient_checkpointing=setting["checkpoint"],
        torch_compile=setting["compile"], max_length=context,
        train_sampling_strategy=ORDERS.get(setting["layout"], "random"),
        pad_to_multiple_of={0: None, -1: context}.get(setting["pad"], setting["pad"]),
        model_init_kwargs={"attn_implementation": setting["attention"]},
    )  # fmt: skip


def sft(request: dict[str, Any], setting: dict[str, Any], data: Dataset, tokenizer: Any) -> Any:
    own = arguments(request, setting) | {"assistant_only_loss": setting["teach"] == "assistant"}
    if setting["layout"] == "packed":
        rows = request["rows"]
        micro = setting["micro"] or rows
        own |= dict(packing=True, per_device_train_batch_size=micro, gradient_accumulation_steps=-(-rows // micro))
    if setting["layout"] == "flat":
        own |= dict(padding_free=True, max_length=None)
    args = SFTConfig(**own)
    return CountedSft(request["path"], args, train_dataset=data, processing_class=tokenizer)


def dpo(request: dict[str, Any], setting: dict[str, Any], data: Dataset, tokenizer: Any) -> Any:
    own = arguments(request, setting)
    own |= dict(beta=request["beta"], precompute_ref_log_probs=setting["reference"] == "precomputed")
    if setting["layout"] == "grouped":
        # by a column that the data has to bring, for pairs have no "input_ids"
        own |= dict(remove_unused_columns=False, length_column_name="length")
        data = data.map(lambda record: {"length": longer(record, tokenizer)})
    args = DPOConfig(**own)
    return CountedDpo(request["path"], args=args, train_dataset=data, processing_class=tokenizer)


def longer(record: dict[str, Any], tokenizer: Any) -> int:
    """Tokens of the prompt with the longer answer."""
    said = [record["prompt"] + record[side] for side in ("chosen", "rejected")]
    return max(len(ids) for ids in tokenizer.apply_chat_template(said, return_dict=True)["input_ids"])


STAGES = {"sft": sft, "dpo": dpo}


def train(request: dict[str, Any], gate: Gate) -> None:
    """Train until nobody wants more steps."""
    transformers.logging.set_verbosity_error()
    disable_progress_bar()
    Counted.gate = gate
    lines = Path(request["data"]).read_text(encoding="utf-8").splitlines()
    data = Dataset.from_list([json.loads(line) for line in lines])
    if request.get("order"):
        data = data.select(request["order"])
    tokenizer = AutoTokenizer.from_pretrained(request["path"])
    if request["task"] == "dpo":
        # so that nothing is learnt behind the end of an answer, as with us
        tokenizer.chat_template = Path(request["template"]).read_text(encoding="utf-8")
    trainer = STAGES[request["task"]](request, request["setting"], data, tokenizer)
    trainer.add_callback(Waits(trainer))
    trainer.train()


if __name__ == "__main__":
    run(train)
