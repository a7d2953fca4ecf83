"""What tests share: the folder of real data, where it exists."""

import json
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# a shell lets what it starts in the background ignore Ctrl-C, and what the tests start would inherit that
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real checkpoints, tokenizers and texts that lie beside the checkout; tests that need them skip without."""
    folder = Path(os.environ.get("INSTAR_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("the real data is not here")
    return folder


class Threads:
    """Ranks that are threads of one process: what they add up, they add up in the order of the ranks."""

    def __init__(self, rank, meeting, lists):
        self.rank, self.world, self._meeting, self._lists = rank, len(lists), meeting, lists

    def add(self, tensors):
        everyone = self._exchange([tensor.clone() for tensor in tensors])
        for number, tensor in enumerate(tensors):
            tensor.copy_(sum(own[number] for own in everyone))

    def gather(self, tensor):
        return self._exchange(tensor.clone())

    def wait(self):
        self._meeting.wait()

    def close(self):
        pass

    def _exchange(self, own):
        self._lists[self.rank] = own
        self._meeting.wait()
        found = list(self._lists)
        self._meeting.wait()
        return found


@pytest.fixture
def on_ranks():
    """on_ranks(world, function): what function(ranks) gives, or the exception it ends with, on each rank."""

    def run(world, function):
        meeting, lists = threading.Barrier(world, timeout=30), [None] * world
        with ThreadPoolExecutor(world) as pool:
            futures = [pool.submit(function, Threads(rank, meeting, lists)) for rank in range(world)]
            return [future.exception() or future.result() for future in futures]

    return run


class Page(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture
def page_of():
    """page_of(html): its tags and its text."""
    return Page


class Pairs:
    """Prompts with two answers each as ids, which end with 1, and what becomes of them."""

    triples = (
        ([5, 9, 11], [20, 21, 1], [22, 1]),
        ([7], [30, 1], [19, 12, 13, 14, 1]),
        ([2, 3, 4, 5, 6], [23, 24, 25, 1], [26, 24, 1]),
        ([8, 8], [1], [27, 28, 1]),
    )

    def answers(self):
        """Each answer behind its prompt: (prompt, answer)."""
        return [(prompt, answer) for prompt, *sides in self.triples for answer in sides]

    def plain(self, triples=None, **besides):
        """Every answer in a row of its own, padded on the right: written out by hand. besides: margin, reference."""
        import torch

        from instar.batch import IGNORE, PreferencePairs, View

        texts = [(prompt, answer) for prompt, *sides in triples or self.triples for answer in sides]
        shape = (len(texts), max(len(prompt) + len(said) for prompt, said in texts))
        tokens, targets, answer = (torch.full(shape, value) for value in (0, IGNORE, -1))
        for number, (prompt, said) in enumerate(texts):
            tokens[number, : len(prompt) + len(said)] = torch.tensor([*prompt, *said])
            places = slice(len(prompt) - 1, len(prompt) + len(said) - 1)
            targets[number, places], answer[number, places] = torch.tensor(said), number
        ends = torch.tensor([len(prompt) + len(said) for prompt, said in texts])
        return PreferencePairs(
            tokens, targets, View(keep=torch.arange(shape[1]) < ends[:, None]), answer=answer,
            last=torch.arange(len(texts)) * shape[1] + ends - 1,
            **{name: torch.tensor(value) for name, value in besides.items()},
        )  # fmt: skip

    def store(self):
        """The same as a store of pairs."""
        import numpy as np

        from instar.data.preferences import Preferences

        sizes = np.array([[0, *map(len, triple)] for triple in self.triples])
        starts = np.cumsum(sizes.sum(1)) - sizes.sum(1)
        flat = np.concatenate([np.array(side) for triple in self.triples for side in triple])
        count = len(sizes)
        return Preferences(
            flat, sizes.cumsum(1) + starts[:, None], np.arange(count, dtype=np.uint64), np.ones(count, np.int64)
        )

    def packed(self, share, context=20):
        """The same with several pairs in a row, and the number of each in the order of the batch."""
        from instar.data.branches import PreferenceCollate, PreferenceRows

        store = self.store()
        packed = PreferenceRows(store, context, share)
        rows = [packed[number] for number in range(len(packed))]
        batch = PreferenceCollate(store, packed.width, 0, share)(rows)
        return batch, [piece[0] for row in rows for piece in row]

    def by_hand(self, model, triples=None):
        """log p of each answer from the logits of a text of its own, token by token."""
        import torch

        sums = []
        for prompt, *sides in triples or self.triples:
            for said in sides:
                logprobs = model(torch.tensor([[*prompt, *said]])).log_softmax(-1)[0, len(prompt) - 1 : -1]
                sums.append(logprobs.gather(1, torch.tensor(said)[:, None]).sum())
        return torch.stack(sums)


@pytest.fixture(scope="session")
def pairs():
    """Four pairs of answers."""
    return Pairs()


@pytest.fixture(scope="session")
def talker(tmp_path_factory):
    """A folder with a tiny chat model whose weights are random, `model`, and prompts for it, `prompts.jsonl`."""
    from instar.config import ModelConfig
    from instar.hub.folders import save
    from instar.model.transformer import Transformer
    from instar.text.tokenizer import Tokenizer

    folder = tmp_path_factory.mktemp("talker")
    names = ["Ada", "Ben", "Cleo", "Dan", "Eve", "Finn", "Gus", "Hana"]
    texts = [f"{a} has the ball. {b} likes {a}." for a in names for b in names]
    tokenizer = Tokenizer.train(texts, 290)
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size, d_model=16, layers=1, heads=2, max_positions=96, dropout=0.1, qk_norm=True
    )
    save(Transformer(config, seed=4), tokenizer, folder / "model")
    records = [
        {"prompt": f"Who likes {a}{'?' * (1 + n % 5)}", "answer": names[(n - 1) % 8], "number": n}
        for n, a in enumerate(names * 3)
    ]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder


@pytest.fixture(scope="session")
def taught_reward(talker, tmp_path_factory):
    """Options -> the folder of a reward model that went on from the talker."""

    def taught(*, steps, lr, **options):
        from instar.config.options import EvaluateOptions, RewardOptions, TrainOptions
        from instar.train import stages

        folder = tmp_path_factory.mktemp("reward")
        pairs = [{"prompt": f"Who likes {n}?", "chosen": "Ada eats.", "rejected": "Brr!"} for n in range(12)]
        (folder / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
        stages.reward(
            RewardOptions(
                model=str(talker / "model"), data=(str(folder / "pairs.jsonl"),), out=str(folder / "reward"),
                quiet=True, dtype="fp32", train=TrainOptions(context=64, batch_tokens=256, steps=steps, lr=lr),
                evaluate=EvaluateOptions(samples=0), **options,
            )
        )  # fmt: skip
        return str(folder / "reward")

    return taught


def vowels(record, answer):
    """A toy reward: the share of vowels in an answer."""
    return sum(letter in "aeiou" for letter in answer) / max(1, len(answer))


@pytest.fixture
def reinforced(talker, tmp_path):
    """reinforced("ppo" or "grpo", rollouts=..., kl=..., train=..., ...): options of a run on the tiny talker, rewarded
    by vowels; each group of options as a mapping of what is changed."""
    from dataclasses import replace

    from instar.config.options import EvaluateOptions, TrainOptions
    from instar.config.options.reinforcement import GrpoOptions, PpoOptions
    from instar.train import rewards

    train = TrainOptions(context=64, steps=8, lr=1e-2, weight_decay=0.0, schedule="constant", warmup=0.0)
    small = {"prompts": 4, "max_new_tokens": 6, "epochs": 2, "minibatches": 2, "missing_end": 0.0}
    rewards.toy_vowels = vowels  # where --reward can name it

    def make(kind, out="run", **changes):
        kinds = {"ppo": (PpoOptions, {"answers": 1}), "grpo": (GrpoOptions, {"answers": 3})}
        made, more = kinds[kind]
        options = made(
            model=str(talker / "model"), prompts=(str(talker / "prompts.jsonl"),), out=str(tmp_path / out),
            reward=("instar.train.rewards:toy_vowels",), held_out=0.2, dtype="fp32", quiet=True, train=train,
            evaluate=EvaluateOptions(samples=1),
        )  # fmt: skip
        options = replace(options, rollouts=replace(options.rollouts, **small, **more))
        for name, value in changes.items():
            value = replace(getattr(options, name), **value) if isinstance(value, dict) else value
            options = replace(options, **{name: value})
        return options

    yield make
    del rewards.toy_vowels


@pytest.fixture
def stage_of():
    """stage_of(options): the stage with its model born, before the first step."""
    import torch

    from instar.train.dist import Alone
    from instar.train.reinforce import PLANS, ReinforceStage
    from instar.train.run import RunFolder

    def make(options):
        kind = "ppo" if hasattr(options, "critic") else "grpo"
        folder = RunFolder(options.out, resume=options.resume)
        stage = ReinforceStage(PLANS[kind](options), folder, torch.device("cpu"), Alone(), lambda text: None)
        stage.model = stage.born()
        stage.model.train()
        return stage

    return make
