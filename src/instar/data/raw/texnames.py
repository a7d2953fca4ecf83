"""What the names of LaTeX mean to a reader: characters, what is left out with how many arguments, environments."""

from __future__ import annotations

# accent -> combining character
ACCENTS = {
    "\\`": "\u0300", "\\'": "\u0301", "\\^": "\u0302", "\\~": "\u0303", '\\"': "\u0308", "\\=": "\u0304",
    "\\.": "\u0307", "\\u": "\u0306", "\\v": "\u030c", "\\H": "\u030b", "\\c": "\u0327", "\\k": "\u0328",
    "\\r": "\u030a", "\\d": "\u0323", "\\b": "\u0331", "\\t": "\u0361",
}  # fmt: skip
SYMBOLS = {
    "\\ss": "ß", "\\ae": "æ", "\\AE": "Æ", "\\oe": "œ", "\\OE": "Œ", "\\o": "ø", "\\O": "Ø", "\\l": "ł", "\\L": "Ł",
    "\\aa": "å", "\\AA": "Å", "\\i": "i", "\\j": "j", "\\dh": "ð", "\\th": "þ", "\\S": "§", "\\P": "¶", "\\dag": "†",
    "\\ddag": "‡", "\\dagger": "†", "\\ddagger": "‡", "\\copyright": "©", "\\pounds": "£", "\\euro": "€",
    "\\texteuro": "€", "\\dots": "…", "\\ldots": "…", "\\textellipsis": "…", "\\textendash": "–",
    "\\textemdash": "—", "\\textbackslash": "\\", "\\textasciitilde": "~", "\\textasciicircum": "^",
    "\\textunderscore": "_", "\\textbar": "|", "\\textless": "<", "\\textgreater": ">", "\\textquoteleft": "‘",
    "\\textquoteright": "’", "\\textquotedblleft": "“", "\\textquotedblright": "”", "\\texttrademark": "™",
    "\\textregistered": "®", "\\textdegree": "°", "\\degree": "°", "\\textmu": "µ", "\\textbullet": "•",
    "\\bullet": "•", "\\checkmark": "✓", "\\nodata": "…", "\\to": "→",
    "\\rightarrow": "→", "\\infty": "∞", "\\slash": "/", "\\guillemotleft": "«", "\\guillemotright": "»",
    "\\og": "«", "\\fg": "»", "\\lbrack": "[", "\\rbrack": "]", "\\lq": "‘", "\\rq": "’", "\\TeX": "TeX",
    "\\LaTeX": "LaTeX", "\\LaTeXe": "LaTeX2e", "\\BibTeX": "BibTeX", "\\eg": "e.g.", "\\ie": "i.e.",
    "\\etal": "et al.", "\\today": "", "\\quad": " ", "\\qquad": " ", "\\enspace": " ", "\\space": " ",
    "\\textvisiblespace": " ", "\\hfill": " ", "\\hfil": " ", "\\figurename": "Figure", "\\tablename": "Table",
    "\\ ": " ", "\\\n": " ", "\\\t": " ", "\\,": " ", "\\;": " ", "\\:": " ", "\\>": " ", "\\!": "", "\\-": "",
    "\\/": "", "\\@": "", "\\+": "", "\\<": "", "\\*": "", "\\": "", "\\|": "|",
}  # fmt: skip

# command -> the arguments that are left out with it, o: optional, m: one in braces; groups after them are read
LEFT_OUT = {
    "": "noindent indent centering raggedright raggedleft maketitle tableofcontents listoffigures listoftables "
    "clearpage cleardoublepage newpage pagebreak nopagebreak phantomsection appendix smallskip medskip bigskip "
    "hline toprule midrule bottomrule botrule endhead endfirsthead endfoot endlastfoot addlinespace protect relax "
    "leavevmode null strut vfill sloppy fussy frenchspacing onecolumn twocolumn normalfont selectfont bf it em rm sl "
    "tt sf sc cal bfseries mdseries itshape slshape upshape scshape rmfamily sffamily ttfamily tiny scriptsize "
    "footnotesize small normalsize large Large LARGE huge Huge boldmath unboldmath limits nolimits displaystyle "
    "textstyle begingroup endgroup bgroup egroup makeatletter makeatother xspace qed qedhere allowbreak nobreak "
    "ignorespaces unskip balance frontmatter mainmatter backmatter doublespacing singlespacing "
    "onehalfspacing else fi expandafter global long outer nonumber notag allowdisplaybreaks startdata enddata "
    "flushbottom raggedbottom columnbreak printindex newblock break smallbreak medbreak bigbreak goodbreak filbreak "
    "emph textit textbf texttt textsc textsf textsl textrm textup textmd textnormal text mbox fbox underline uline "
    "uppercase lowercase MakeUppercase MakeLowercase centerline tnote smallcaps subfloat "
    "narrowbreak eject hrule vrule hfuzz itemsep peerreviewmaketitle IEEEpeerreviewmaketitle",
    "o": "linebreak nolinebreak footnotemark printbibliography makecell marginpar",
    "m": "label vspace hspace bibliographystyle bibliography pagestyle thispagestyle index indexdef indexfoot "
    "nocite pagenumbering hypersetup graphicspath tikzset lstset hhline cline cmidrule phantom vphantom hphantom "
    "markright hyphenation typeout tablenotemark arrayrulecolor nolinkurl thanks usetikzlibrary inst "
    "orcid orcidlink orcidID email institute address affil affiliation value symlabel "
    "tablewidth tabletypesize pacs received revised accepted published bibinfo floatsetup "
    "linenumbers urlstyle stepcounter refstepcounter color rowcolors theoremstyle",
    "om": "includegraphics captionsetup usepackage documentclass rowcolor cellcolor rotatebox "
    "makebox framebox parbox textcolor colorbox addbibresource RequirePackage",
    "mm": "setlength addtolength setcounter addtocounter markboth indexsee multicolumn resizebox "
    "newcolumntype fontsize addtokomafont settowidth numberwithin newlength",
    "mo": "multirow raisebox newcounter newlanguage scalebox",
    "mmm": "addcontentsline definecolor",
    "omm": "rule",
    "mmmm": "DeclareFontFamily",
}
COMMANDS = {f"\\{name}": form for form, names in LEFT_OUT.items() for name in names.split()}
COMMANDS["\\multirow"] = "omom"
# primitives that a length follows
LENGTHS = frozenset(
    "\\" + name
    for name in "vskip hskip kern vglue hglue mskip mkern raise lower moveleft moveright parindent parskip hbox vbox "
    "baselineskip hsize vsize textwidth textheight columnwidth linewidth tabcolsep topmargin oddsidemargin "
    "evensidemargin topskip smallskipamount advance penalty hoffset voffset lineskip fboxsep vtop vcenter".split()
)

# what says nothing in a formula without numbers
NOT_IN_FORMULAS = frozenset(
    "\\" + name for name in "label nonumber notag index indexdef vspace qedhere symlabel".split()
)

HEADINGS = {
    "\\part": 1, "\\chapter": 1, "\\section": 2, "\\subsection": 3, "\\subsubsection": 4, "\\bmhead": 3,
    "\\sectionNotes": 2, "\\sectionExercises": 2,
}  # fmt: skip
RUN_IN = ("\\paragraph", "\\subparagraph", "\\mypara")

# environments: display mathematics -> what stands around its body between $$ and $$
ALIGNED = ("\\begin{aligned}", "\\end{aligned}")
GATHERED = ("\\begin{gathered}", "\\end{gathered}")
MATHEMATICS = {
    "equation": ("", ""), "displaymath": ("", ""), "dmath": ("", ""), "math": ("", ""), "align": ALIGNED,
    "flalign": ALIGNED, "split": ALIGNED, "aligned": ALIGNED, "gather": GATHERED, "multline": GATHERED,
    "gathered": GATHERED, "narrowmultline": GATHERED, "alignat": ("\\begin{alignedat}", "\\end{alignedat}"),
    "eqnarray": ("\\begin{array}{rcl}", "\\end{array}"),
}  # fmt: skip
CODE = ("verbatim", "Verbatim", "BVerbatim", "lstlisting", "minted", "alltt")
SKIPPED = (
    "comment", "tikzpicture", "pgfpicture", "picture", "tikzcd", "pspicture", "thebibliography", "references",
    "filecontents", "CCSXML", "asy", "xy",
)  # fmt: skip
TABLES = ("tabular", "tabularx", "tabulary", "longtable", "tabu", "array", "supertabular", "deluxetable", "tblr")
LISTS = {
    "itemize": "-",
    "enumerate": "1",
    "description": ":",
    "compactitem": "-",
    "compactenum": "1",
    "inparaenum": "1",
}
FLOATS = {
    "figure": "Figure", "subfigure": "Figure", "wrapfigure": "Figure", "marginfigure": "Figure",
    "SCfigure": "Figure", "sidewaysfigure": "Figure", "table": "Table", "wraptable": "Table",
    "sidewaystable": "Table", "longtable": "Table", "deluxetable": "Table", "splitdeluxetable": "Table",
    "algorithm": "Algorithm", "listing": "Listing", "subtable": "Table",
}  # fmt: skip
# arguments that follow \begin{name}; any other takes an optional one
ENVIRONMENTS = {
    "tabular": "om", "array": "om", "longtable": "om", "supertabular": "m", "tabularx": "mm", "tabulary": "mm",
    "tabular*": "mom", "tabu": "m", "deluxetable": "m", "deluxetable*": "m", "splitdeluxetable*": "m", "tblr": "om",
    "minipage": "om", "multicols": "m", "subfigure": "om", "subtable": "om", "wrapfigure": "omom",
    "wraptable": "omom", "spacing": "m", "list": "mm", "CJK": "mm", "CJK*": "mm", "adjustbox": "m", "column": "m",
    "algorithmic": "o", "thebibliography": "m", "otherlanguage": "m", "restatable": "", "addmargin": "om",
}  # fmt: skip
THEOREMS = {
    "theorem": "Theorem", "thm": "Theorem", "lemma": "Lemma", "lem": "Lemma", "proposition": "Proposition",
    "prop": "Proposition", "corollary": "Corollary", "cor": "Corollary", "definition": "Definition",
    "defn": "Definition", "defi": "Definition", "def": "Definition", "remark": "Remark", "rmk": "Remark",
    "rem": "Remark", "example": "Example", "eg": "Example", "exa": "Example", "exercise": "Exercise", "ex": "Exercise",
    "claim": "Claim", "conjecture": "Conjecture", "conj": "Conjecture", "observation": "Observation",
    "obs": "Observation", "proof": "Proof", "axiom": "Axiom", "notation": "Notation", "question": "Question",
    "problem": "Problem", "assumption": "Assumption", "hypothesis": "Hypothesis", "situation": "Situation",
}  # fmt: skip

# algorithms: command -> words, which begin a line
_STEPS = {
    "State": "", "Statex": "", "If": "if ", "ElsIf": "else if ", "Else": "else ", "EndIf": "end if", "For": "for ",
    "ForAll": "for all ", "EndFor": "end for", "While": "while ", "EndWhile": "end while", "Repeat": "repeat ",
    "Until": "until ", "Loop": "loop ", "EndLoop": "end loop", "Return": "return ", "Require": "Require: ",
    "Ensure": "Ensure: ", "Function": "function ", "EndFunction": "end function", "Procedure": "procedure ",
    "EndProcedure": "end procedure",
}  # fmt: skip
STEPS = {f"\\{form}": words for name, words in _STEPS.items() for form in (name, name.upper())}
STEPS["\\RETURN"] = STEPS["\\Return"]
