"""Markdown keeps its words, code and formulas, and loses what is for browsers and publishers."""

import json
import re
import time

import pytest

from instar.data.raw.markdown import text_of_markdown

MANY = 100_000


def text(source):
    return text_of_markdown(source)[0]


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ('see [the *page*](http://x.org/a_(b) "t"){.big} now', "see the *page* now"),
        ("[`f()`](x) and [a][b], [b], x[i][j]\n\n[b]: http://x.org 'T'", "`f()` and a, [b], x[i][j]"),
        ("![A cat](cat.png){ width=120px } ![](x.png)", "A cat"),
        ("[![build](https://travis-ci.org/x.svg)](https://travis-ci.org) ![v](https://img.shields.io/x)\n\nx", "x"),
        ("[![A cat](cat.png)](big.png)", "A cat"),
        ("told [@a; @b-c, p. 3] and [see @a].", "told [1, 2] and [1]."),
        ("mail a@b.org and @user say", "mail a@b.org and @user say"),
        ("---\nbibliography: p.bib\n---\n@lee2020 says [-@lee2020]", "[1] says [1]"),
        ("a<!-- no\nno --> b\n\n<!-- never ends", "a\n b\n\n<!-- never ends"),
        ("## Head {#id .c}\n\n### 标题 {/*biao-ti*/} ###", "## Head\n\n### 标题"),
        ("一句话[^1]。\n\n[^1]: 注", "一句话[1]。\n\n[1]: 注"),
        ("<http://x.org> a<br>b <b>c</b> <pad> &lt;d&gt;", "http://x.org a\nb c <pad> <d>"),
        ("<p align=\"center\"><img src='x' alt='A dog'></p>", "A dog"),
        ("{% include x.html %}\n\n{{ site.url }}a {{< figure x >}}b", "a b"),
        ("[TOC]\n\n\\newpage\n\nx\n{: .lead}", "x"),
        ("$a[b](c)$ and `[x](y)` and $5 [x](y) or $6", "$a[b](c)$ and `[x](y)` and $5 x or $6"),
        ("$$\n[a](b)\n$$", "$$\n[a](b)\n$$"),
        ("若 <Math><MathI>x</MathI></Math> 则", "若 x 则"),
        ("<script>\nvar a;\n</script>\nx", "x"),
        ("| a | b |\n|---|---|\n| [c](d) | 1 |", "| a | b |\n|---|---|\n| c | 1 |"),
        ("1. a\n\n    ![图](x.jpg)\n\n2. b", "1. a\n\n    图\n\n2. b"),
        ("code\n\n    [a](b)", "code\n\n    [a](b)"),
        ("x\n\n\n\n# References\n", "x"),
    ],
)
def test_inlines(source, wanted):
    """Links, images, badges, citations, comments, attributes, tags and templates become words or nothing."""
    assert text(source) == wanted


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("::: {.note}\nx\n:::\n:::tip Title\ny\n:::", "x\n\nTitle\n\ny"),
        ("```{note} Mind\nthe [gap](x)\n```", "Mind\nthe gap"),
        ("```{toctree}\na\nb\n```\nx", "x"),
        ("{ref}`the part <sec>` {cite}`a,b` {math}`x` {doc}`p` :class:`C`", "the part [1, 2] $x$ `p` `C`"),
        (
            "如 :numref:`fig_a`所示 :cite:`A.2020`，:eqref:`eq`。\n:label:`sec`\n:width:`3px`",
            "如 [fig_a]所示 [1]，(eq)。",
        ),
        ('??? note "说明"\n    [a](b)\n\n    ```c\n    int a;\n    ```\n\nc', "说明\n\na\n\n```c\nint a;\n```\n\nc"),
        ('=== "C++"\n    x\n=== "Py"\n    y', "C++\n\nx\n\nPy\n\ny"),
        ("Title\n===\n\nx", "Title\n===\n\nx"),
        ("<Intro>\n\nx\n\n</Intro>\nimport A from 'b';\n\ny", "x\n\ny"),
    ],
)
def test_directives(source, wanted):
    """Directives of MyST, Pandoc, MkDocs, Docusaurus and d2l leave their words."""
    assert text(source) == wanted


def test_code_is_untouched():
    """What stands in a fence stays byte for byte, comments, links and all; only options of notebooks go."""
    code = "a = b[i](c)  # <!-- x -->\n\n\n::: x\n[l]: http://x\n{% y %}\n@tab\n"
    assert text(f"~~~python\n{code}~~~") == f"~~~python\n{code}~~~"
    assert text(f"````\n```\n{code}````") == f"````\n```\n{code}````"
    assert text("```{.python .input}\nx\n```") == "```python\nx\n```"
    assert text("```{code-cell} ipython3\nx\n```\n```{r, echo=FALSE}\ny\n```") == "```ipython3\nx\n```\n\n```r\ny\n```"


def test_front_matter():
    """Title, authors, date and tags are meta data, and the title heads the text; rules around text are none."""
    source = "---\ntitle: 'A: b'\nauthors:\n  - name: Ann Lee\n    orcid: 0\n  - Bo\n"
    source += "tags: [x, y]\ndate: 2020-05-01\n---\n\nText"
    assert text_of_markdown(source) == (
        "# A: b\n\nText",
        {"title": "A: b", "author": "Ann Lee, Bo", "keywords": ["x", "y"], "date": "2020-05-01"},
    )
    assert text_of_markdown('+++\ntitle = "T"\n+++\n# T\n\nx') == ("# T\n\nx", {"title": "T"})
    assert text_of_markdown("---\ntitle: a: b: [\n---\nx") == ("# a: b: [\n\nx", {"title": "a: b: ["})
    assert text_of_markdown("---\nNot at all.\n---\nx")[0] == "---\nNot at all.\n---\nx"
    long = f"---\ntitle: t\nnote: {'x' * 20_000}\n---\nx"
    assert text_of_markdown(long) == (long, {})
    assert text_of_markdown("# 标题\n\nx") == ("# 标题\n\nx", {"title": "标题"})


BOMBS = {
    "yaml": "---\na: " + "[" * 30_000 + "\n---\nx",
    "aliases": "---\na0: &a0 [x,x]\n"
    + "".join(f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
    + "author: *a11\n---\nx",
    "brackets": "[" * MANY,
    "links": "[a](" * MANY,
    "comments": "<!--" * MANY,
    "components": "<X>" * MANY,
    "ticks": "` `` ``` " * MANY,
    "dollars": "$a " * MANY,
    "citations": "[@a " * MANY,
    "fences": "```\n" * MANY,
    "admonitions": "".join(" " * (4 * min(i, 300)) + '!!! note "x"\n' for i in range(2000)),
    "tags": '<a x="' * MANY,
    "one line": "a" * 5_000_000,
}


@pytest.mark.parametrize("name", ["aliases", "brackets", "comments", "components", "citations"])
def test_bombs_are_linear(name):
    """Openings without an end and YAML that multiplies cost no more than their size."""
    check_bomb(BOMBS[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(BOMBS))
def test_every_bomb_is_linear(name):
    """The same for all we could think of."""
    check_bomb(BOMBS[name])


def check_bomb(source):
    begun = time.process_time()
    read, meta = text_of_markdown(source)
    assert time.process_time() - begun < 5  # quadratic would be minutes
    assert len(read) <= 1.2 * len(source) + 100
    assert len(str(meta)) < 5000


def test_real_papers(shared):
    """Seven papers of JOSS have titles and authors, and no citation keys or links."""
    files = sorted((shared / "papers" / "joss_md").glob("*.md"))
    if not files:
        pytest.skip("no papers here")
    for file in files:
        read, meta = text_of_markdown(file.read_text(encoding="utf-8"))
        assert read.startswith(f"# {meta['title']}\n")
        assert {"author", "date", "keywords", "references"} <= set(meta)
        assert not re.search(r"\[@|\]\(|!\[|^---$", read, re.M), file


@pytest.mark.slow
@pytest.mark.parametrize("name", ["d2l_zh", "howtocook", "oi_wiki", "react_docs"])
def test_real_chinese_markdown(shared, name):
    """In textbooks, recipes and documentation next to no links, roles or directives are left, and the words are."""
    rows = shared / "pretrain" / "zh" / f"{name}.jsonl"
    if not rows.is_file():
        pytest.skip("no such rows here")
    left = characters = 0
    for line in rows.read_text(encoding="utf-8").splitlines():
        source = json.loads(line)["text"]
        read = text(source)
        said = re.sub(r"<!--.*?-->", "", source, flags=re.S)
        assert len(re.findall("[一-鿿]", read)) > 0.75 * len(re.findall("[一-鿿]", said)) - 20
        outside = re.sub(r"```.*?```|~~~.*?~~~|`[^`\n]*`|\$[^$]*\$", "", read, flags=re.S)
        left += len(re.findall(r"\]\(|!\[|:\w+:`|^ *(?:\?\?\?|!!!|:::)|\{/\*|^</?[A-Z]", outside, re.M))
        characters += len(read)
    print(f"{name}: {left} marks in {characters:,} characters")
    assert left < 1e-4 * characters
