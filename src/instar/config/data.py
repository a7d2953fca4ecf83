"""A data recipe: from raw files to clean token shards, as one YAML file."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from .errors import InputError, unknown
from .strict import from_dict

# what the rule "language" can find
LANGUAGES = (
    "af als am an ar arz as ast av az azb ba bar bcl be bg bh bn bo bpy br bs bxr ca cbk ce ceb ckb co cs cv cy "
    "da de diq dsb dty dv el eml en eo es et eu fa fi fr frr fy ga gd gl gn gom gu gv he hi hif hr hsb ht hu hy "
    "ia id ie ilo io is it ja jbo jv ka kk km kn ko krc ku kv kw ky la lb lez li lmo lo lrc lt lv mai mg mhr min "
    "mk ml mn mr mrj ms mt mwl my myv mzn nah nap nds ne new nl nn no oc or os pa pam pfl pl pms pnb ps pt qu rm "
    "ro ru rue sa sah sc scn sco sd sh si sk sl so sq sr su sv sw ta te tg th tk tl tr tt tyv ug uk ur uz vec vep "
    "vi vls vo wa war xal xmf yi yo zh unknown"
).split()  # fmt: skip
Kind = Literal["text", "web", "books", "papers", "dialogues", "code"]


@dataclass(frozen=True)
class SourceOptions:
    """One source of documents."""

    # what it is called in the report and in the mixture
    name: str = ""
    # how its files are read and which rules are usual for it
    kind: Kind = "text"
    # files, folders, globs, fsspec addresses (s3://...), hf:org/name or world:NAME
    data: tuple[str, ...] = ()
    # keys of a row that hold its texts; none takes the usual ones
    fields: tuple[str, ...] = ()
    # languages that are kept, by their two letters; none keeps all
    languages: tuple[str, ...] = ()
    # rules in order, by name; none takes those of its kind, "none" alone takes no rule
    rules: tuple[str, ...] = ()
    # share of the mixture beside other weights; 0 takes epochs instead
    weight: float = 0.0
    # how often it is seen in one pass over the mixture
    epochs: float = 1.0


@dataclass(frozen=True)
class LimitOptions:
    """What a stranger's file may ask of this machine; beyond it, it is given up, counted and named."""

    # megabytes of one document as it is stored, a page or a row; a longer one is given up
    document_mb: float = 16.0
    # megabytes of text that one book, paper or text file may have
    text_mb: float = 256.0
    # times its size that an archive or a compressed member may unpack to
    expansion: float = 100.0
    # elements of a page inside each other
    depth: int = 512
    # seconds for one page
    seconds: float = 10.0


@dataclass(frozen=True)
class Thresholds:
    """What the quality rules ask of a text in English; 0 asks nothing. Counts of words are of runs of letters."""

    # gopher: words of a document, and of a web page at most
    min_words: int = 50
    max_words: int = 100_000
    # gopher: letters of a word in the mean
    min_word_length: float = 3.0
    max_word_length: float = 10.0
    # gopher: signs # and ellipses for each word
    max_symbols: float = 0.1
    # gopher: share of lines that begin with a bullet
    max_bullets: float = 0.9
    # gopher: share of lines that end in an ellipsis
    max_ellipses: float = 0.3
    # gopher: share of words with a letter in them; punctuation counts as words, and the paper's 0.8 counted none
    min_letters: float = 0.7
    # gopher: different words out of stop_words
    min_stop_words: int = 2
    stop_words: tuple[str, ...] = ("the", "be", "to", "of", "and", "that", "have", "with")
    # repetition: share of lines and of paragraphs that stood before, and the characters in them
    max_repeated_lines: float = 0.3
    max_repeated_line_characters: float = 0.2
    max_repeated_paragraphs: float = 0.3
    max_repeated_paragraph_characters: float = 0.2
    # repetition: share of characters in the most frequent run of so many words
    top_runs: tuple[tuple[int, float], ...] = ((2, 0.2), (3, 0.18), (4, 0.16))
    # repetition: share of characters in runs of so many words that stood before
    repeated_runs: tuple[tuple[int, float], ...] = ((5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.1))
    # c4: words of a line, below which it goes; sentences of a document, below which it is dropped
    min_line_words: int = 3
    min_sentences: int = 5
    # c4: characters of one word, above which its line goes
    max_characters: int = 1000
    # c4: lines that do not end in punctuation go; this costs headings, lists and verse
    end_punctuation: bool = False
    # c4: a document with { in it is dropped; a page about programs has many
    curly_brackets: bool = True
    # c4: lines that stay keep their indentation and the blank lines between them
    keep_layout: bool = True
    # fineweb: share of lines that end in punctuation
    min_punctuated_lines: float = 0.12
    # fineweb: share of lines that are not longer than short_line characters
    max_short_lines: float = 0.67
    short_line: int = 30
    # fineweb: share of characters in lines that stood before
    max_line_copies: float = 0.01
    # fineweb: line breaks for each word
    max_breaks: float = 0.3


@dataclass(frozen=True)
class ChineseThresholds(Thresholds):
    """What they ask of Chinese and Japanese: a character is a word, and about two of them say what one word says."""

    min_words: int = 80
    max_words: int = 200_000
    min_word_length: float = 0.0
    max_word_length: float = 5.0
    min_letters: float = 0.6
    stop_words: tuple[str, ...] = tuple("的是不一了在有和人之其以而于為为")
    top_runs: tuple[tuple[int, float], ...] = ((4, 0.35), (6, 0.35), (8, 0.4))
    repeated_runs: tuple[tuple[int, float], ...] = (
        (10, 0.15),
        (12, 0.14),
        (14, 0.13),
        (16, 0.12),
        (18, 0.11),
        (20, 0.1),
    )
    min_line_words: int = 5
    min_sentences: int = 2
    short_line: int = 12
    max_breaks: float = 0.15


@dataclass(frozen=True)
class QualityOptions:
    """The rules that judge a text. The table of thresholds and why they stand so: docs/data.md."""

    # language: below this the language is "unknown"
    min_language_score: float = 0.5
    # repair: share of characters that are broken beyond repair, above which a document is dropped
    max_broken: float = 0.01
    # thresholds of English and, without those that know its words, of other languages
    en: Thresholds = Thresholds()
    # thresholds of Chinese and Japanese
    zh: ChineseThresholds = ChineseThresholds()


@dataclass(frozen=True)
class PersonalOptions:
    """What the rule "personal" replaces by examples of the same kind, the same ones everywhere."""

    # e-mail addresses
    emails: bool = True
    # public IPv4 and IPv6 addresses
    addresses: bool = True
    # telephone numbers: international, American, Chinese
    phones: bool = True
    # numbers of Chinese identity cards, by their check digit
    identities: bool = True
    # payment cards, by their issuer, length and check digit
    cards: bool = True
    # name and password in the address of a page or a service
    credentials: bool = True


@dataclass(frozen=True)
class ExecutorOptions:
    """Who runs the tasks: datatrove's executors. What is written is the same with any of them."""

    # local processes, a Slurm cluster, or a Ray cluster
    kind: Literal["local", "slurm", "ray"] = "local"
    # tasks at a time; 0: as many as this machine has cores
    workers: int = 0
    # ray: address of the cluster; none starts one here
    address: str = ""
    # slurm: partition
    partition: str = ""
    # slurm: longest time of a task
    time: str = "24:00:00"
    # slurm and ray: gigabytes for each task
    memory_gb: float = 2.0


@dataclass(frozen=True)
class DuplicateOptions:
    """Which copies are removed. The first stays, in the order of the sources, of their files, and in the file."""

    # texts that differ in blanks and line breaks alone
    exact: bool = True
    # texts that have most of their runs of words in common (MinHash)
    near: bool = True
    # words of a run
    ngrams: int = 5
    # characters of a run, where most of a text is Han or kana
    ngrams_han: int = 5
    # a pair is found when all hashes of one bucket agree, about from (1 / buckets) ** (1 / hashes) of common runs
    buckets: int = 14
    hashes: int = 8
    # texts that differ in numbers alone are copies too
    numbers: bool = False


@dataclass(frozen=True)
class EvaluationTextOptions:
    """Text that models are examined with, and that none may have read before."""

    # files, folders, globs, hf:org/name; none looks for nothing
    data: tuple[str, ...] = ()
    # keys of a row that hold its texts; none takes every text but names and addresses
    fields: tuple[str, ...] = ()
    # a run of so many words that stands in both is found; a shorter text is looked for as a whole
    ngram: int = 13
    # the same in characters, where most of an evaluation text is Han or kana
    ngram_han: int = 20
    # words of the shortest text that is looked for, and characters
    shortest: int = 5
    shortest_han: int = 8
    # cut: the run and 200 characters before and after it go (arXiv:2005.14165, appendix C); drop: the whole document
    action: Literal["cut", "drop"] = "cut"


@dataclass(frozen=True)
class DataRecipe:
    """From raw files to clean token shards. Sources are read in this order; the first of several copies stays."""

    # what the report calls it
    name: str = "data"
    # seed of everything drawn
    seed: int = 0
    sources: tuple[SourceOptions, ...] = ()
    limits: LimitOptions = field(default_factory=LimitOptions)
    quality: QualityOptions = field(default_factory=QualityOptions)
    personal: PersonalOptions = field(default_factory=PersonalOptions)
    duplicates: DuplicateOptions = field(default_factory=DuplicateOptions)
    evaluation: EvaluationTextOptions = field(default_factory=EvaluationTextOptions)
    # tokens of one pass over the mixture, shared out by the weights; 0: all tokens of the weighted sources
    tokens: int = 0
    # stored megabytes of one task, about: what a worker reads at a time, and what one shard comes from
    task_mb: float = 32.0
    executor: ExecutorOptions = field(default_factory=ExecutorOptions)


def read_data_recipe(data: dict[str, Any]) -> DataRecipe:
    """Plain data, as load_yaml gives it -> a recipe; a source without a name gets that of its kind and number. Raises
    InputError naming the full path for all that can be wrong before a file is looked at."""
    recipe = from_dict(DataRecipe, data)
    if not recipe.sources:
        raise InputError("sources is missing, and nothing would be written; name a source with its data")
    named = [
        replace(source, name=_name(source, number, recipe.sources)) for number, source in enumerate(recipe.sources)
    ]
    names = [source.name for source in named]
    for number, source in enumerate(named):
        _check_source(source, f"sources[{number}]")
        if (first := names.index(source.name)) < number:
            raise InputError(f"sources[{number}].name is {source.name!r}, as of sources[{first}]; give each its own")
    if not any(source.weight or source.epochs for source in named):
        raise InputError("every source has weight 0 and epochs 0, and nothing would be written; raise one of them")
    if recipe.tokens < 0:
        raise InputError(f"tokens={recipe.tokens}, wanted 0 for all, or how many one pass has")
    if recipe.tokens and not any(source.weight for source in named):
        raise InputError(f"tokens={recipe.tokens} is shared out by weights, and no source has a weight; give one")
    _check_positive(recipe, "", "task_mb")
    _check_positive(recipe.limits, "limits.", *(option.name for option in fields(recipe.limits)))
    if recipe.executor.workers < 0:
        raise InputError(f"executor.workers={recipe.executor.workers}, wanted 0 for all cores, or a number of tasks")
    _check_positive(recipe.executor, "executor.", "memory_gb")
    _check_positive(recipe.duplicates, "duplicates.", "ngrams", "ngrams_han", "buckets", "hashes")
    _check_evaluation(recipe.evaluation)
    return replace(recipe, sources=tuple(named))


def _name(source: SourceOptions, number: int, sources: tuple[SourceOptions, ...]) -> str:
    """What a source is called: as it says, or as its kind, with a number where others are of that kind too."""
    alike = [place for place, other in enumerate(sources) if not other.name and other.kind == source.kind]
    return source.name or (source.kind if len(alike) == 1 else f"{source.kind}-{alike.index(number) + 1}")


def _check_source(source: SourceOptions, path: str) -> None:
    if not source.data:
        raise InputError(f"{path}.data is missing; name files, folders, globs, s3://..., hf:org/name or world:NAME")
    for language in source.languages:
        if language not in LANGUAGES:
            raise unknown(f"language of {path}", language, LANGUAGES)
    for name in ("weight", "epochs"):
        if getattr(source, name) < 0:
            raise InputError(f"{path}.{name}={getattr(source, name)}, wanted 0 or more")
    if "none" in source.rules and len(source.rules) > 1:
        raise InputError(f"{path}.rules: found {', '.join(source.rules)}; none stands alone")


def _check_evaluation(options: EvaluationTextOptions) -> None:
    for run, shortest in (("ngram", "shortest"), ("ngram_han", "shortest_han")):
        _check_positive(options, "evaluation.", run, shortest)
        if (least := getattr(options, shortest)) > (most := getattr(options, run)):
            raise InputError(f"evaluation.{shortest}={least} is more than evaluation.{run}={most}; lower it")


def _check_positive(options: Any, path: str, *names: str) -> None:
    for name in names:
        if getattr(options, name) <= 0:
            raise InputError(f"{path}{name}={getattr(options, name)}, wanted more than 0")
