"""Asking a model: to speak, and to be measured."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from .screen import REQUIRED, SHORT, Machine, Screen


@dataclass(frozen=True)
class SamplingOptions:
    """How the next token is drawn. Order: constraint, logit bias, penalties, no-repeat-n-gram, shortest answer,
    temperature, top-k, top-p, min-p, draw.

    As they stand the values change nothing: the model's own distribution. What a checkpoint's generation_config.json
    says of sampling is never followed unasked.
    """

    # greedy takes the likeliest token; sample draws; beam looks for the likeliest answer
    strategy: Literal["greedy", "sample", "beam"] = "sample"
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
    # no sequence of this many tokens stands twice in prompt and answer; 0 lets it
    no_repeat_ngram_size: int = 0
    # add to the logits of tokens, from -100 to 100: in YAML {17: -5}, as a flag 17=-5 18=2.5
    logit_bias: tuple[tuple[int, float], ...] = ()
    # beam: unfinished answers kept at each step, and finished ones
    beams: int = 4
    # beam: an answer scores the sum of its log-probabilities over its length, end token counted, to this power
    length_penalty: float = 1.0
    # beam: stop when longer answers are unlikely to score higher (likely), when there are `beams` answers (full), or
    # when none can score higher (never); transformers says false, true and never
    early_stopping: Literal["likely", "full", "never"] = "likely"
    # shortest answer, its end not counted
    min_new_tokens: int = 0
    # longest answer
    max_new_tokens: int = 128
    # texts that end the answer; they are not part of it
    stop: tuple[str, ...] = ()
    # tokens that end the answer, beside those of the tokenizer; they are not part of it
    stop_ids: tuple[int, ...] = ()
    # likeliest tokens told with each token that is said, at most 20, each with its log-probability
    top_logprobs: int = 0
    # the answer is JSON that this schema allows, a schema as JSON itself; at most one of the four constraints
    json_schema: str = ""
    # the whole answer matches this regular expression
    regex: str = ""
    # the answer is one of these texts
    choice: tuple[str, ...] = ()
    # the answer is a sentence of this grammar, written as Lark writes it
    grammar: str = ""


def usual_sampling() -> SamplingOptions:
    """What commands draw by where nobody says otherwise."""
    return SamplingOptions(temperature=0.8, top_p=0.95)


# what only one strategy heeds: to draw, to take tokens one by one, to search
DRAWING = ("temperature", "top_k", "top_p", "min_p")
PENALTIES = ("repetition_penalty", "presence_penalty", "frequency_penalty", "no_repeat_ngram_size", "logit_bias")
CONSTRAINTS = ("json_schema", "regex", "choice", "grammar")
BEAMING = ("beams", "length_penalty", "early_stopping")


@dataclass(frozen=True)
class EngineOptions:
    """What answers are computed with. None of it changes what they say."""

    # requests that run at a time
    slots: int = 64
    # MiB for keys and values; 0 takes what all slots may need, and at most half of the memory that is free
    kv_budget: int = 0
    # tokens read in one step: of answers that go on, then of prompts
    chunk: int = 512
    # an answer has the same bits whatever else is asked; slower, most of all to read prompts
    deterministic: bool = False
    # compile the decoding step: a minute at first, then faster, small models most
    compile: bool = False
    # measure which way each large product is computed fastest on this CPU
    tune: bool = False
    # guess tokens ahead, which the model then reads together: from where they last stood in the text (ngram), or not
    # (off); nothing is guessed where penalties look back or a constraint holds
    speculate: Literal["off", "ngram"] = "off"


@dataclass(frozen=True)
class GenerateOptions(Machine):
    """Continue a prompt, or answer a source. --engine.x and --sampling.x may be said as --x."""

    # run folder, Hugging Face folder or hf:org/name
    model: str = field(default="", metadata=REQUIRED)
    # texts to continue
    prompt: tuple[str, ...] = field(default=(), metadata=REQUIRED)
    # render the prompt as a user's message with the chat template
    chat: bool = False
    # answers for each prompt
    n: int = 1
    # guess tokens ahead by a smaller model of the same vocabulary: run folder, Hugging Face folder or hf:org/name
    draft: str = ""

    engine: EngineOptions = field(default_factory=lambda: EngineOptions(tune=True), metadata=SHORT)
    sampling: SamplingOptions = field(default_factory=usual_sampling, metadata=SHORT)


@dataclass(frozen=True)
class ChatOptions(Machine):
    """Talk with a model; /reset forgets, Ctrl-C stops the answer, Ctrl-D leaves. --engine.x and --sampling.x may be
    said as --x."""

    # run folder, Hugging Face folder or hf:org/name
    model: str = field(default="", metadata=REQUIRED)
    # the system message that opens the conversation
    system: str = ""
    # guess tokens ahead by a smaller model of the same vocabulary: run folder, Hugging Face folder or hf:org/name
    draft: str = ""

    engine: EngineOptions = field(default_factory=lambda: EngineOptions(tune=True), metadata=SHORT)
    sampling: SamplingOptions = field(default_factory=usual_sampling, metadata=SHORT)


@dataclass(frozen=True)
class VerifyOptions(Screen):
    """Load a folder in transformers, and a GGUF file of it in llama.cpp, each in a process of its own, and compare ids,
    logits and words with ours."""

    # run folder, Hugging Face folder or hf:org/name
    model: str = field(default="", metadata=REQUIRED)


@dataclass(frozen=True)
class EvalOptions(Machine):
    """Measure a model on held-out data."""

    # run folder, Hugging Face folder or hf:org/name
    model: str = field(default="", metadata=REQUIRED)
    # files, folders, globs, world:NAME or hf:org/name; for claims texts of people's own, which need not be
    data: tuple[str, ...] = ()
    # hold what the textbook says of language models against this one, instead of a metric: a verdict of each claim
    claims: bool = False
    # claims: folder for the report, claims.json, claims.html and claims.zh.html
    out: str = ""
    # perplexity (with bits per byte); exact (exact match of greedy answers); pairs (minimal pairs); choices (multiple
    # choice); cloze (what comes next, or stands at a mask, to the letter); masked (hidden tokens restored); accuracy
    # and f1 (classes of texts or of words); bleu (with chrF); manner (how the world's questions are answered, bare,
    # polite, rude or rambling, whether rightly, and what the checker pays); reward (how often a reward model, or
    # a language model by what it finds likely, finds the better of two answers better)
    metric: Literal[
        "perplexity", "exact", "pairs", "choices", "cloze", "masked", "accuracy", "f1", "bleu", "manner", "reward"
    ] = "perplexity"
    # records; 0 takes all there are; for claims, texts of a figure, usually 64, to which all work is in proportion
    limit: int = 0
    # tokens in one row: for perplexity 0 takes the model's longest, at most 2048, for masked at most 512
    context: int = 0
    # requests decoded, or rows read, at a time
    batch: int = 64
    # all reads every document; held-out reads the share that pretrain held out, by the same hash
    split: Literal["all", "held-out"] = "all"
    # share of the documents that is kept for evaluation, chosen by hash
    held_out: float = 0.02
    # reward, of a language model: the model that its log-probabilities are held against, as DPO does; none takes them
    # as they are
    reference: str = ""
    # choices and cloze: what stands between a question and a choice, or a context and what comes next; a blank is left
    # out where there is one already, and beside a Chinese character
    between: str = " "
    # bleu: the key of a record that holds what is translated
    source_key: str = "source"
    # bleu: the key that holds into what
    target_key: str = "target"
    # bleu: how words are told apart; auto is zh where most letters of the references are Chinese, and 13a elsewhere
    bleu_tokenizer: Literal["auto", "13a", "zh", "intl", "char", "none"] = "auto"
    # bleu and manner: how translations and answers are decoded
    sampling: SamplingOptions = field(default_factory=lambda: SamplingOptions(strategy="greedy"))
