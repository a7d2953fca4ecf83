"""LaTeX becomes text that a person can read, whatever the source."""

import json
import re
import time

import pytest

from instar.data.raw.latex import text_of_latex

MANY = 100_000


def text(source):
    return text_of_latex(source)[0]


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("a % b\nc", "a c"),
        ("a\\% b", "a% b"),
        ("a\n% b\n\nc", "a\n\nc"),
        ("``a'' --- b -- c~d", "“a” — b – c d"),
        ('caf\\\'e na\\"{\\i}ve {\\ss} \\c{c}a \\v Skoda \\AA ngstr\\"om', "café naïve ß ça Škoda Ångström"),
        ("\\'{etale} x", "étale x"),
        ("\\section[short]{Long \\emph{title}} x", "## Long title\n\nx"),
        ("\\subsection*{A}x", "### A\n\nx"),
        ("\\paragraph{Data} are here", "**Data** are here"),
        ("a\\footnote{b $c$} d", "a [b $c$] d"),
        ("see~\\cite[p. 3]{a,b}, \\citet{c} and \\cite{a}", "see [1, 2], [3] and [1]"),
        ("Lemma~\\ref{lem:x}, (\\ref{b}), \\eqref{eq}", "Lemma [lem:x], ([b]), (eq)"),
        ("\\hyperref[sec:a]{the \\emph{words}}", "the words"),
        ("\\href{http://x.org/%7e}{words} \\url{http://x.org/a_b%20c}", "words http://x.org/a_b%20c"),
        ("use \\verb|a_{b}|, \\lstinline!x % y!", "use `a_{b}`, `x % y`"),
        ("\\textcolor{red}{a} {\\it b} \\textbf{c}\\vspace{2pt} d \\hskip 3pt plus 1fil e", "a b c d e"),
        ("\\textsc{a}{b} \\mystyle{c}{d}", "ab c d"),
        ("\\iffalse no \\ifx a\\fi no \\fi yes", "yes"),
        ("\\Coq{} and \\unit.\n\n\\mentalpause\n\nx", "Coq and unit.\n\nx"),
        ("中文\\emph{强调}，见\\cite{王}。", "中文强调，见[1]。"),
        ("\\label{never ends\n\nnext \\emph{words}", "next words"),
        ("\\texorpdfstring{$H_2$}{H2}O", "$H_2$O"),
    ],
)
def test_words(source, wanted):
    """Comments, accents, ligatures, styles, notes, citations and references of a paragraph are what is read."""
    assert text(source) == wanted


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("\\(x\\) $y$$z$", "$x$ $y$ $z$"),
        ("a \\[ x \\label{e} = y \\] b", "a\n\n$$x  = y$$\n\nb"),
        ("\\begin{equation*}\nx\n\n= y \\nonumber\n\\end{equation*}", "$$x\n= y$$"),
        ("\\begin{align}a&=b\\\\c&=d\\end{align}", "$$\\begin{aligned}\na&=b\\\\c&=d\n\\end{aligned}$$"),
        ("\\newcommand{\\R}{\\mathbb R}$x\\in\\R$", "$x\\in\\mathbb R$"),
        ("\\def\\norm#1{\\|#1\\|}$\\norm{\\norm{x}}$", "$\\|\\|x\\|\\|$"),
        ("\\newcommand{\\pa}[2][t]{\\partial_{#1}#2}$\\pa{f}\\pa[x]y$", "$\\partial_{t}f\\partial_{x}y$"),
        ("\\newcommand{\\al}[1]{\\alpha#1}$\\al{b}$", "$\\alpha b$"),
        ("\\let\\ol\\overline\\renewcommand{\\phi}{\\varphi}$\\ol\\phi$", "$\\overline\\varphi$"),
        ("\\renewcommand{\\phi}{\\hat\\phi}$\\phi$", "$\\hat\\phi$"),
        ("\\DeclareMathOperator{\\Hom}{Hom}$\\Hom(A)$", "$\\operatorname{Hom}(A)$"),
        ("\\def\\be{\\begin{equation}}\\def\\ee{\\end{equation}}\\be x\\ee", "$$x$$"),
        ("\\newcommand{\\E}{\\ensuremath{\\mathcal E}}\\E and $\\E$", "$\\mathcal E$and ${\\mathcal E}$"),
        ("$a \\mbox{ if $b$}$", "$a \\mbox{ if \\(b\\)}$"),
    ],
)
def test_mathematics_stays_tex(source, wanted):
    """Formulas keep their TeX, without labels and with the paper's macros written out."""
    assert text(source) == wanted


def test_a_formula_without_its_end_takes_a_paragraph_at_most():
    """A dollar too many is counted, and the words after its paragraph are words again."""
    read, meta = text_of_latex("costs $ 5\n\nnext \\emph{one}\n\n\\[ x \\section{Two} y")
    assert "next one" in read
    assert "## Two\n\ny" in read
    assert meta["unclosed"] == 2


def test_the_paper_around_its_text():
    """The preamble goes, its macros, title, authors and theorems stay; the abstract is first, no bibliography."""
    read, meta = text_of_latex(
        "\\documentclass{article}\\usepackage[T1]{fontenc}\\newtheorem{satz}{Satz}\\newcommand{\\me}{Ann}junk $\n"
        "\\title{On \\emph{Sets}\\thanks{To Bo}}\\date{May 2020}"
        "\\author{\\me{} Lee$^1$\\\\University \\and Bo Xu, Cy Poe}\n"
        "\\begin{document}\\maketitle\\section{One}\\begin{satz}[Big]\\label{s}It holds.\\end{satz}"
        "\\begin{proof}By \\me. \\qed\\end{proof}\\begin{abstract}We prove.\\end{abstract}\\input{rest}"
        "\\begin{thebibliography}{9}\\bibitem{a} A.\\end{thebibliography}\\end{document} gone"
    )
    assert read == "# On Sets\n\n## Abstract\n\nWe prove.\n\n## One\n\nSatz (Big). It holds.\n\nProof. By Ann."
    assert meta == {"title": "On Sets", "author": "Ann Lee, Bo Xu, Cy Poe", "date": "May 2020", "inputs": 1}


def test_lists_tables_figures_and_listings():
    """Items get marks, cells bars, floats their captions; code stands between backticks untouched; drawings go."""
    assert text(
        "\\begin{itemize}\\item a\\item b\\begin{enumerate}\\item c\n\\item d\\end{enumerate}\\end{itemize}"
        "\\begin{description}\\item[k] v\\end{description}"
    ) == ("- a\n- b\n\n  1. c\n  2. d\n\n- k: v")
    assert text(
        "\\begin{table}[h]\\caption{Two \\emph{by} two}\\begin{tabular}{l|r}\\hline a & 1\\\\[2pt] "
        "\\multicolumn{2}{c}{b} \\\\\\hline\\end{tabular}\\end{table}"
        "\\begin{figure}\\includegraphics[width=1cm]{x.png}\\caption{A cat}\\end{figure}"
    ) == ("Table: Two by two\n\na | 1\nb\n\nFigure: A cat")
    assert text(
        "\\begin{lstlisting}[language=C]\nint a[2]; % x\n\n  $b$\n\\end{lstlisting}"
        "\\begin{tikzpicture}\\draw (0,0);\\end{tikzpicture}"
    ) == ("```\nint a[2]; % x\n\n  $b$\n```")


def test_what_is_given_up_is_counted():
    """Commands without a meaning, macros of macros without an end and missing files are numbers in the meta data."""
    _, meta = text_of_latex("\\input{a}\\include{b}\\strange{x} \\def\\a{\\a}\\a")
    assert meta == {"inputs": 2, "unknown": 1, "unexpanded": 1}


BOMBS = {
    "braces": "{" * MANY + "x" + "}" * MANY,
    "open braces": "{" * MANY,
    "environments": "\\begin{a}" * MANY + "x" + "\\end{a}" * MANY,
    "ends of others": "\\begin{a}" * MANY + "\\end{b}" * MANY,
    "headings": "\\section{" * MANY + "x" + "}" * MANY,
    "lists": "\\begin{itemize}\\item " * (MANY // 2) + "x",
    "brackets": "\\cite[" * MANY,
    "arguments": "\\def\\a#1{#1}" + "\\a{" * MANY + "x" + "}" * MANY,
    "itself": "\\def\\a{\\a\\a}\\a x",
    "omega": "\\def\\a#1{#1{#1}}\\a\\a x",
    "doubling": "".join(
        f"\\def\\{a}{{\\{b}\\{b}}}" for a, b in zip("abcdefghijklmnopqrstuvwxy", "bcdefghijklmnopqrstuvwxyz")
    )
    + "\\a x",
    "long": "\\def\\a{" + "x" * MANY + "}" + "\\a" * MANY,
    "listings": "\\begin{verbatim}" * MANY,
    "formulas": "\\begin{align}\\begin{x}" * MANY,
    "backslashes": "\\" * MANY,
    "blanks": " " * (10 * MANY),
    "definitions": "\\newcommand{" * MANY,
}


@pytest.mark.parametrize("name", ["braces", "doubling", "omega", "arguments", "long"])
def test_bombs_are_linear(name):
    """Depth, missing ends and macros that explode cost no more than the source's own size, and never crash."""
    meta = check_bomb(BOMBS[name])
    assert name != "doubling" or meta["unexpanded"]


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(BOMBS))
def test_every_bomb_is_linear(name):
    """The same for all we could think of."""
    check_bomb(BOMBS[name])


def check_bomb(source):
    begun = time.process_time()
    read, meta = text_of_latex(source)
    assert time.process_time() - begun < 12  # a second or so; quadratic would be minutes
    assert len(read) < 10 * len(source) + 2_000_000
    return meta


def outside_of_mathematics(read):
    read = re.sub(r"```.*?```|`[^`\n]*`|\$\$.*?\$\$", "", read, flags=re.S)
    return re.sub(r"\$[^$]*\$", "", read)


@pytest.mark.slow
def test_real_papers_are_readable(shared):
    """Of twenty arXiv papers and two books no command is left outside of formulas, and little of the text is lost."""
    files = sorted((shared / "papers").glob("*_tex/*.tex"))
    rows = shared / "papers" / "arxiv_sample.jsonl"
    if not files or not rows.is_file():
        pytest.skip("no papers here")
    sources = [file.read_text(encoding="utf-8") for file in files]
    sources += [json.loads(line)["text"] for line in rows.read_text(encoding="utf-8").splitlines()]
    texts = [text(source) for source in sources]
    left = sum(len(re.findall(r"\\[A-Za-z]+", outside_of_mathematics(read))) for read in texts)
    commands = sum(len(re.findall(r"\\[A-Za-z]+", source)) for source in sources)
    print(
        f"{left} of {commands:,} commands left; {sum(map(len, texts)) / sum(map(len, sources)):.3f} of the characters"
    )
    assert left < 0.001 * commands
    assert 0.8 < sum(map(len, texts)) / sum(map(len, sources)) < 1
