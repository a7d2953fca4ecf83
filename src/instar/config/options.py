"""The options of every command, documented beside their defaults, once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from tyro.conf import Positional

from .presets import preset
from .shape import ModelConfig

REQUIRED: dict[str, Any] = {"required": True}


@dataclass(frozen=True)
class Screen:
    """What every command prints, and where."""

    # print one JSON object on stdout; everything else goes to stderr
    json: bool = False
    # no progress bar and no tables
    quiet: bool = False


@dataclass(frozen=True)
class Machine(Screen):
    """Where and how a command computes."""

    # auto, cpu, cuda or mps
    device: str = "auto"
    # auto, fp32, bf16 or fp16: the precision of the products; weights being trained stay in fp32
    dtype: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    # seed of everything random: initial weights, order of the data, draws
    seed: int = 0


@dataclass(frozen=True)
class TrainOptions:
    """The loop: how long, how large, how fast."""

    # optimizer steps; 0 derives them from epochs
    steps: int = 0
    # passes over the data, where steps is 0
    epochs: float = 1.0
    # take no more steps than fit so many minutes on this machine, as measured at the start; 0 takes them all
    minutes: float = 0.0
    # tokens in one row
    context: int = 256
    # tokens of one optimizer step, over all ranks
    batch_tokens: int = 8192
    # tokens of one forward pass on one rank; 0 takes the whole batch at once
    micro_tokens: int = 0
    # adamw, or muon (Muon on matrices, AdamW on everything else)
    optimizer: Literal["adamw", "muon"] = "adamw"
    # peak learning rate of AdamW
    lr: float = 1e-3
    # peak learning rate of Muon
    muon_lr: float = 0.02
    # decay of the first and second moment
    betas: tuple[float, ...] = (0.9, 0.95)
    # added to the root of the second moment
    eps: float = 1e-8
    # decay of matrices; never of embeddings, norms and biases
    weight_decay: float = 0.1
    # largest norm of the whole gradient; 0 does not clip
    clip: float = 1.0
    # constant, cosine or wsd (warm up, stay, decay); wsd with decay 0 leaves the decay to the next stage
    schedule: Literal["constant", "cosine", "wsd"] = "wsd"
    # share of the steps spent warming up
    warmup: float = 0.02
    # wsd: share of the steps spent decaying
    decay: float = 0.2
    # the learning rate at the end, as a share of the peak
    final: float = 0.0
    # try torch.compile on each block; falls back with one warning
    compile: bool = False
    # recompute activations in the backward pass to save memory
    recompute: bool = False
    # rows of the output whose logits exist at once; 0 makes them all
    loss_chunk: int = 2048
    # processes that collate batches; 0 collates in the loop
    workers: int = 0


@dataclass(frozen=True)
class EvaluateOptions:
    """Looking at the model while it trains."""

    # steps between evaluations on held-out data; 0 only at the end
    every: int = 0
    # rows of held-out data; 0 takes all there are
    rows: int = 64
    # texts continued at each evaluation, so that one sees the model learn
    samples: int = 2


@dataclass(frozen=True)
class CheckpointOptions:
    """Saving the state of a run, and going on from it."""

    # steps between checkpoints; 0 only at the end of the run
    every: int = 0
    # newest checkpoints that are kept
    keep: int = 2
    # copy the state, which takes its size in memory, and write it while training goes on
    asynchronous: bool = False


@dataclass(frozen=True)
class PretrainOptions(Machine):
    """Train a new model to predict the next token of any text."""

    # files, folders, globs, world:NAME or hf:org/name
    data: tuple[str, ...] = field(default=(), metadata=REQUIRED)
    # folder of the tokenizer
    tokenizer: str = field(default="", metadata=REQUIRED)
    # folder of the run
    out: str = field(default="", metadata=REQUIRED)
    # named shape that --model.* starts from
    preset: str = "nano"
    # what the model learns to say: causal, the next token
    objective: Literal["causal"] = "causal"
    # heads of the first blocks begin by looking at the tokens just before theirs, so that copying forms sooner
    look_back: bool = False
    # held-out share of the documents, chosen by hash
    held_out: float = 0.02
    # windows cuts the stream of documents every `context` tokens; best-fit keeps short documents whole
    packing: Literal["windows", "best-fit"] = "windows"
    # go on from the newest checkpoint of --out
    resume: bool = False
    model: ModelConfig = field(default_factory=lambda: preset("nano"))
    train: TrainOptions = field(default_factory=TrainOptions)
    evaluate: EvaluateOptions = field(default_factory=EvaluateOptions)
    checkpoint: CheckpointOptions = field(default_factory=CheckpointOptions)


@dataclass(frozen=True)
class SftOptions(Machine):
    """Teach a pretrained model to answer, from dialogues."""

    # run folder, Hugging Face folder or hf:org/name
    model: str = field(default="", metadata=REQUIRED)
    # files, folders, globs, world:NAME or hf:org/name
    data: tuple[str, ...] = field(default=(), metadata=REQUIRED)
    # folder that is written
    out: str = field(default="", metadata=REQUIRED)
    # assistant teaches only the replies; all teaches every token
    teach: Literal["assistant", "all"] = "assistant"
    # share of the documents that is kept for evaluation, chosen by hash
    held_out: float = 0.02
    # best-fit packs several dialogues into a row, isolated; none gives each a row
    packing: Literal["best-fit", "none"] = "best-fit"
    # go on from the newest checkpoint of --out
    resume: bool = False
    train: TrainOptions = field(
        default_factory=lambda: TrainOptions(lr=2e-5, weight_decay=0.0, warmup=0.03, decay=0.97)
    )
    evaluate: EvaluateOptions = field(default_factory=EvaluateOptions)
    checkpoint: CheckpointOptions = field(default_factory=CheckpointOptions)


@dataclass(frozen=True)
class SamplingOptions:
    """How the next token is drawn. Order: penalties, temperature, top-k, top-p, min-p, draw.

    As they stand the values change nothing: the model's own distribution. What a checkpoint's generation_config.json
    says of sampling is never followed unasked.
    """

    # greedy takes the likeliest token; sample draws
    strategy: Literal["greedy", "sample"] = "sample"
    # divides the logits; below 1 is surer, above 1 more varied, 0 is greedy
    temperature: float = 1.0
    # keep the k likeliest tokens; 0 keeps all
    top_k: int = 0
    # keep the smallest set of tokens with at least this probability
    top_p: float = 1.0
    # drop tokens less likely than this share of the likeliest
    min_p: float = 0.0
    # divide positive and multiply negative logits of tokens already seen
    repetition_penalty: float = 1.0
    # subtract once from tokens already generated
    presence_penalty: float = 0.0
    # subtract for every time a token was generated
    frequency_penalty: float = 0.0
    # longest answer
    max_new_tokens: int = 128
    # texts that end the answer; they are not part of it
    stop: tuple[str, ...] = ()


@dataclass(frozen=True)
class GenerateOptions(Machine):
    """Continue a prompt."""

    # run folder, Hugging Face folder or hf:org/name
    model: str = field(default="", metadata=REQUIRED)
    # texts to continue
    prompt: tuple[str, ...] = field(default=(), metadata=REQUIRED)
    # render the prompt as a user's message with the chat template
    chat: bool = False
    # answers for each prompt
    n: int = 1
    sampling: SamplingOptions = field(default_factory=lambda: SamplingOptions(temperature=0.8, top_p=0.95))


@dataclass(frozen=True)
class ChatOptions(Machine):
    """Talk with a model; /reset forgets, Ctrl-C stops the answer, Ctrl-D leaves."""

    # run folder, Hugging Face folder or hf:org/name
    model: str = field(default="", metadata=REQUIRED)
    # the system message that opens the conversation
    system: str = ""
    sampling: SamplingOptions = field(default_factory=lambda: SamplingOptions(temperature=0.8, top_p=0.95))


@dataclass(frozen=True)
class VerifyOptions(Screen):
    """Load a folder in transformers, in a process of its own, and compare ids, logits and words with ours."""

    # run folder, Hugging Face folder or hf:org/name
    model: str = field(default="", metadata=REQUIRED)


@dataclass(frozen=True)
class EvalOptions(Machine):
    """Measure a model on held-out data."""

    # run folder, Hugging Face folder or hf:org/name
    model: str = field(default="", metadata=REQUIRED)
    # files, folders, globs, world:NAME or hf:org/name
    data: tuple[str, ...] = field(default=(), metadata=REQUIRED)
    # perplexity (with bits per byte) or exact (exact match of greedy answers)
    metric: Literal["perplexity", "exact"] = "perplexity"
    # records; 0 takes all there are
    limit: int = 0
    # tokens in one row for perplexity; 0 takes the model's longest, at most 2048
    context: int = 0
    # requests decoded, or rows read, at a time
    batch: int = 64
    # all reads every document; held-out reads the share that pretrain held out, by the same hash
    split: Literal["all", "held-out"] = "all"
    # share of the documents that is kept for evaluation, chosen by hash
    held_out: float = 0.02


@dataclass(frozen=True)
class TokenizerTrainOptions(Screen):
    """Train a byte-level BPE tokenizer."""

    # files, folders, globs, world:NAME or hf:org/name
    data: tuple[str, ...] = field(default=(), metadata=REQUIRED)
    # folder that is written
    out: str = field(default="", metadata=REQUIRED)
    # rows of the embedding; padded up to a multiple of 64
    vocab_size: int = 8192
    # longest token in bytes; a cap keeps a small corpus from turning whole phrases into tokens
    max_token_bytes: int = 16
    # qwen2 (single digits) or llama-bpe (up to three): split patterns that llama.cpp knows by these names
    split: Literal["qwen2", "llama-bpe"] = "qwen2"
    # no token reaches over the edge of a Chinese character
    single_han: bool = False
    # documents that list words, one a line: nor over the edge of a Chinese word among them
    words: tuple[str, ...] = ()
    # control tokens of a chat: chatml, as most models have it, or brief, one token for each turn
    markup: Literal["chatml", "brief"] = "chatml"
    # bytes of text read at most; 0 reads everything
    max_bytes: int = 0


@dataclass(frozen=True)
class TokenizerShowOptions(Screen):
    """Show how a text becomes tokens: bytes, merges, ids."""

    # run folder, Hugging Face folder or hf:org/name
    model: str = field(default="", metadata=REQUIRED)
    # the text
    text: Positional[str] = field(default="", metadata={"positional": True, "required": True})
    # show every merge, step by step
    merges: bool = False


@dataclass(frozen=True)
class TokenizerCompareOptions(Screen):
    """Vocabulary sizes against bytes per token, per language: what a larger vocabulary buys."""

    # files, folders, globs, world:NAME or hf:org/name
    data: tuple[str, ...] = field(default=(), metadata=REQUIRED)
    # sizes to train and compare
    sizes: tuple[int, ...] = (512, 1024, 2048, 4096, 8192)
    # existing tokenizers to put beside them
    models: tuple[str, ...] = ()
    # share of the documents that is kept for evaluation, chosen by hash
    held_out: float = 0.05


@dataclass(frozen=True)
class PrepareOptions(Screen):
    """Turn documents into token shards."""

    # files, folders, globs, world:NAME or hf:org/name
    data: tuple[str, ...] = field(default=(), metadata=REQUIRED)
    # folder of the tokenizer
    tokenizer: str = field(default="", metadata=REQUIRED)
    # folder that is written
    out: str = field(default="", metadata=REQUIRED)
    # tokens in one shard file
    shard_tokens: int = 100_000_000


@dataclass(frozen=True)
class PreviewOptions(Screen):
    """Print tokens coloured by what they teach, before any training."""

    # run folder, Hugging Face folder or hf:org/name
    model: str = field(default="", metadata=REQUIRED)
    # files, folders, globs, world:NAME or hf:org/name
    data: tuple[str, ...] = field(default=(), metadata=REQUIRED)
    # records shown
    records: int = 3
    # tokens in one row
    context: int = 256
    # assistant teaches only the replies; all teaches every token
    teach: Literal["assistant", "all"] = "assistant"


@dataclass(frozen=True)
class GrowOptions(Screen):
    """Raise a model through its whole life from one recipe."""

    # the recipe; each stage is skipped when its folder is finished and its inputs are unchanged
    recipe: Positional[str] = field(default="", metadata={"positional": True, "required": True})
    # folder that holds one folder a stage
    out: str = field(default="", metadata=REQUIRED)
    # auto, cpu, cuda or mps
    device: str = "auto"
