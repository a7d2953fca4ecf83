"""Copies among the documents of several tasks."""

import random
from itertools import combinations, pairwise

import numpy as np
import pytest
from datatrove.data import Document
from datatrove.pipeline.dedup.minhash import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupSignature

from instar.config import InputError
from instar.config.data import DuplicateOptions, read_data_recipe
from instar.data.refine import characters, duplicates, shingles, signatures
from instar.data.refine.duplicates import Copy, Match, Removed, Signer, components, find_steps
from instar.data.refine.words import Words, unspaced

OPTIONS = DuplicateOptions()
HAN = [chr(point) for point in range(0x4E00, 0x4E00 + 3000)]


def text(seed, words=120, han=False):
    """Words without sense, the same for the same seed."""
    draw = random.Random(seed)
    if han:
        return "".join(draw.choices(HAN, k=words))
    return " ".join("".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=5)) for _ in range(words))


def edited(one, places, han=False):
    """The same text with words replaced at these places."""
    words = list(one) if han else one.split(" ")
    for place in places:
        words[place] = "新" if han else "new"
    return ("" if han else " ").join(words)


def sign(work, tasks, options=OPTIONS):
    for rank, texts in enumerate(tasks):
        signer = Signer(options, work, rank)
        for one in texts:
            signer.add(one)
        signer.close()


def find(work, options=OPTIONS, shuffled=None):
    for stage in find_steps(options, work):
        ranks = list(range(stage.tasks))
        random.Random(shuffled).shuffle(ranks)
        for rank in ranks:
            stage.pipeline[0].run(None, rank, stage.tasks)


def copies(work, tasks, options=OPTIONS, shuffled=None):
    """{(task, index): Copy} of tasks, lists of texts."""
    sign(work, tasks, options)
    find(work, options, shuffled)
    found = {}
    for rank, texts in enumerate(tasks):
        removed = Removed(options, work, rank)
        mine = {(rank, index): copy for index in range(len(texts)) if (copy := removed.get(index))}
        assert len(removed) == len(mine)  # none for two reasons
        found |= mine
    return found


@pytest.mark.parametrize("han", [False, True])
def test_the_first_of_several_copies_stays(tmp_path, han):
    """Copies with blanks changed are exact, with a word changed near, whichever task they are in; others stay."""
    first, other = text(1, han=han), text(2, han=han)
    near, blanks = edited(first, [60], han), "\n" + "\n".join(first[n : n + 7] for n in range(0, len(first), 7)) + "\t"
    assert copies(tmp_path, [[other, first], [], [near, blanks, text(3, han=han), other]]) == {
        (2, 0): Copy("near", 0, 1), (2, 1): Copy("exact", 0, 1), (2, 3): Copy("exact", 0, 0),
    }  # fmt: skip


def test_copies_of_copies_are_copies_of_the_first(tmp_path):
    """A chain in which the ends have little in common is one cluster, and its earliest document stays."""
    chain = [text(1)]
    for place in range(5, 75, 2):
        chain.append(edited(chain[-1], [place]))
    a, b = (set(zip(*(one.split()[n:] for n in range(5)))) for one in (chain[0], chain[-1]))
    assert len(a & b) / len(a | b) < 0.4
    found = copies(tmp_path, [chain[20:], chain[:20]])
    assert found == {
        (task, index): Copy("near", 0, 0)
        for task, size in ((0, 16), (1, 20))
        for index in range(size)
        if (task, index) != (0, 0)
    }


def test_short_texts_have_exact_copies_alone(tmp_path):
    """Four words are no run of five: the same four words go, four words of which one differs stay."""
    found = copies(tmp_path, [["one two three four", "one two three five", "", "one  two three four", " "]])
    assert found == {(0, 3): Copy("exact", 0, 0), (0, 4): Copy("exact", 0, 2)}


def test_either_kind_can_be_switched_off(tmp_path):
    """Without `near` a changed copy stays, without `exact` a same copy is a near one, without both nothing is run."""
    tasks = [[text(1), edited(text(1), [60]), text(1)]]
    assert copies(tmp_path / "a", tasks, DuplicateOptions(near=False)) == {(0, 2): Copy("exact", 0, 0)}
    near = Copy("near", 0, 0)
    assert copies(tmp_path / "b", tasks, DuplicateOptions(exact=False)) == {(0, 1): near, (0, 2): near}
    assert find_steps(DuplicateOptions(exact=False, near=False), tmp_path / "c") == []
    assert len(Removed(DuplicateOptions(exact=False, near=False), tmp_path / "c", 0)) == 0


@pytest.mark.parametrize(("numbers", "gone"), [(False, 0), (True, 1)])
def test_texts_that_differ_in_numbers(tmp_path, numbers, gone):
    """A table of other numbers is another document, unless they are to be taken for the same."""
    one, other = (
        " ".join(f"{word} {draw.random():.3f}" for word in text(1).split()) for draw in map(random.Random, (1, 2))
    )
    assert len(copies(tmp_path, [[one, other]], DuplicateOptions(numbers=numbers))) == gone


ODD = [
    "", "a b", "À la Île, İstanbul ǅ ﬁn résumé x y", "か゛がガ １２３ ４５ 一二三四五六七", "\u037e a b c d e f",
    "١٢٣ a\x85b c d e f", "ไทย ภาษา a b c d e", "한국어 는 띄어쓰기 가 있다 네", "𠀀𠀁𠀂𠀃𠀄𠀅 e", "e\u0301 " * 5,
    "\U000e0041 a b c d e", "…—" * 9, "".join(map(chr, range(1, 300))), "-- a, b. c! d? 'e' f's g_h i",
    text(5), text(6, han=True), "同上" + text(7) + "，" + text(8, han=True),
]  # fmt: skip


@pytest.mark.parametrize("numbers", [False, True])
def test_signatures_are_datatroves(numbers):
    """Every bit of the signature is what MinhashDedupSignature computes, and a text has none where it has none."""
    options = DuplicateOptions(numbers=numbers, ngrams_han=7)
    ours = shingles.Shingles(options)
    theirs = [
        MinhashDedupSignature("/nowhere", config=shingles.datatrove_config(options, han), language=Words())
        for han in (False, True)
    ]
    for one in ODD:
        signer = theirs[unspaced(one)]
        wanted = signer.get_shingles(one)
        found = ours.signature(one)
        assert (found is None) == (not wanted.size)
        if found is not None:
            assert found.tolist() == np.concatenate(signer.get_signature(wanted)).tolist()


@pytest.mark.parametrize("han", [False, True])
def test_a_long_text_is_signed_in_parts(han, monkeypatch):
    """A text in parts of 100 characters has the signature of the whole: runs across the parts count too."""
    one = text(1, 400) if not han else " ".join(text(seed, 30, han=True) for seed in range(20))
    whole = shingles.Shingles(OPTIONS).signature(one)
    monkeypatch.setattr(characters.blocks, "__defaults__", (100,))
    assert len(list(characters.blocks(one))) > 5
    assert (shingles.Shingles(OPTIONS).signature(one) == whole).all()


def families(seed, count, tasks):
    """Texts with copies of them, a few words changed, strewn over tasks."""
    draw = random.Random(seed)
    found = [[] for _ in range(tasks)]
    for number in range(count):
        one = text(number, 80)
        for _ in range(draw.choice([1, 1, 2, 4])):
            found[draw.randrange(tasks)].append(edited(one, [draw.randrange(80) for _ in range(draw.randrange(3))]))
    return found


def test_files_and_clusters_are_datatroves(tmp_path):
    """The files of signatures are those of datatrove's first stage, byte for byte, and its second and third find
    the same clusters in them."""
    options, tasks = DuplicateOptions(exact=False, buckets=5, hashes=4), families(1, 40, 3)
    config = shingles.datatrove_config(options)
    found = copies(tmp_path, tasks, options)
    theirs, ours = tmp_path / "theirs", tmp_path / "duplicates" / "signatures"
    for rank, texts in enumerate(tasks):
        signer = MinhashDedupSignature(str(theirs), config=config, language=Words())
        signer.run((Document(text=one, id=str(n)) for n, one in enumerate(texts)), rank, 3)
    files = sorted(path.relative_to(theirs) for path in theirs.rglob("*.sig"))
    assert len(files) == 15
    assert files == sorted(path.relative_to(ours) for path in ours.rglob("*.sig"))
    assert all((theirs / path).read_bytes() == (ours / path).read_bytes() for path in files)
    for bucket in range(5):
        MinhashDedupBuckets(str(ours), str(tmp_path / "dups"), config=config).run(None, bucket, 5)
    MinhashDedupCluster(str(tmp_path / "dups"), str(tmp_path / "removed"), config=config, save_cluster_id=True).run(
        None, 0, 1
    )
    clusters = {}
    for path in (tmp_path / "removed").glob("*.clusters"):
        for document, number in np.fromfile(path, "<u4").reshape(-1, 2).tolist():
            clusters.setdefault(number, []).append((int(path.stem), document))
    expected = {
        one: Copy("near", *min(members)) for members in clusters.values() for one in members if one != min(members)
    }
    assert found == expected
    assert len(found) > 20


def test_parts_and_order_change_nothing(tmp_path, monkeypatch):
    """Hashes compared in parts of about 20 documents, tasks run in another order: the same copies, to the byte."""
    options, tasks = DuplicateOptions(buckets=4), families(2, 50, 3)
    whole = copies(tmp_path / "a", tasks, options)
    monkeypatch.setattr(duplicates, "PART", 20)
    assert copies(tmp_path / "b", tasks, options, shuffled=1) == whole
    assert find_steps(options, tmp_path / "b")[0].tasks >= 5 * sum(map(len, tasks)) // 20 > 20
    first, again = (tmp_path / name / "duplicates" / "removed" for name in "ab")
    assert first.read_bytes() == again.read_bytes()


def test_parts_are_about_even(tmp_path, monkeypatch):
    """The smallest of many hashes is small, and yet no part has more than twice its share."""
    sign(tmp_path, [[text(n, 30) for n in range(rank * 300, rank * 300 + 300)] for rank in range(3)])
    table = signatures.tables(OPTIONS)[1]
    bounds = duplicates.bounds_of(tmp_path / "duplicates", table, 6)
    first = np.concatenate(
        [
            np.fromfile(path, signatures.row(8))["hashes"][:, 0]
            for _, path in duplicates._files(tmp_path / "duplicates", table)
        ]
    )
    sizes = [int(((first >= low) & (first < high)).sum()) for low, high in pairwise(bounds)]
    assert sum(sizes) == 900
    assert max(sizes) < 300


def test_many_copies_of_one_page_in_a_task_wait_once(tmp_path):
    """Of the same signatures in one file one is compared with other files; the pairs are a star around the first."""
    sign(tmp_path, [[text(1)] * 50, [text(1)] * 3], DuplicateOptions(near=False))
    table = signatures.tables(DuplicateOptions(near=False))[0]
    found = duplicates.pairs(tmp_path / "duplicates", table, 0, 1 << 64).tolist()
    assert sorted(found) == sorted(
        [[0, 0, 0, n] for n in range(1, 50)] + [[1, 0, 1, n] for n in (1, 2)] + [[0, 0, 1, 0]]
    )


def test_components_of_random_graphs():
    """The smallest node that each node is joined with, as a plain search finds it."""
    draw = random.Random(0)
    for _ in range(30):
        size = draw.randrange(1, 40)
        edges = [(draw.randrange(size), draw.randrange(size)) for _ in range(draw.randrange(size))]
        roots = list(range(size))
        for _ in range(size):
            for one, other in edges:
                roots[one] = roots[other] = min(roots[one], roots[other])
        ones, others = np.array(edges, np.int64).reshape(-1, 2).T
        assert components(ones, others, size).tolist() == roots


def test_nothing_half_written_is_seen(tmp_path):
    """Before close there is no file under its name, after an error no draft either; a second run writes the same."""
    signer = Signer(OPTIONS, tmp_path, 0)
    signer.add(text(1))
    assert not list(tmp_path.rglob("*.sig"))
    assert len(list((tmp_path / "duplicates" / "drafts").iterdir())) == 15
    signer.abandon()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    tasks = families(3, 10, 2)
    first = copies(tmp_path, tasks)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    (tmp_path / "duplicates" / "drafts" / "left-over").write_bytes(b"half")
    assert copies(tmp_path, tasks) == first
    (tmp_path / "duplicates" / "drafts" / "left-over").unlink()
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_no_documents_at_all(tmp_path):
    """Tasks of which no document passed the rules have files, and no copies; without the stages one is told."""
    sign(tmp_path, [[], []])
    with pytest.raises(FileNotFoundError):
        Removed(OPTIONS, tmp_path, 0)
    find(tmp_path)
    assert [len(Removed(OPTIONS, tmp_path, rank)) for rank in (0, 1)] == [0, 0]
    assert Match("x", signatures.tables(OPTIONS)).tables[0].kind == "exact"


@pytest.mark.parametrize("name", ["ngrams", "ngrams_han", "buckets", "hashes"])
def test_options_must_be_positive(name):
    """No run of no words, no bucket of no hashes."""
    with pytest.raises(InputError, match=f"duplicates.{name}=0, wanted more than 0"):
        read_data_recipe({"sources": [{"data": ["a"]}], "duplicates": {name: 0}})


def test_unlike_texts_are_no_copies(tmp_path):
    """Of 60 texts that share half of their words none goes."""
    half = text(0, 60)
    texts = [half + " " + text(n, 60) for n in range(1, 61)]
    sets = [set(zip(*(one.split()[n:] for n in range(5)))) for one in texts]
    assert max(len(a & b) / len(a | b) for a, b in combinations(sets, 2)) < 0.5
    assert len(copies(tmp_path, [texts], DuplicateOptions(buckets=5, hashes=10))) == 0
