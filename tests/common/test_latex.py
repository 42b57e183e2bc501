import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from latex import tables

from gazepipe.common import latex
from gazepipe.common.markdown import plain


@pytest.mark.parametrize(
    ("markdown", "expected"),
    [
        ("**5.00** ± 0.71 [3.90, 6.10] ¹²", r"\textbf{5.00} $\pm$ 0.71 [3.90, 6.10] $^{12}$"),
        ("-0.48 [-0.76, -0.20]", "$-$0.48 [$-$0.76, $-$0.20]"),
        ("−0.48", "$-$0.48"),
        ("columbia-drawn → x_1", r"columbia-drawn $\rightarrow$ x\_1"),
        ("50 % & 3#", r"50 \% \& 3\#"),
        ("30°, p < 0.05, ≥ 2×", r"30$^{\circ}$, p $<$ 0.05, $\geq$ 2$\times$"),
        ("[width](figures/a_b.png) of `kd_prune`", r"width of \texttt{kd\_prune}"),
        ("*for **real** images*", r"\emph{for \textbf{real} images}"),
        ("![a figure](figures/a.png)", ""),
        ("`a*b*c`", r"\texttt{a*b*c}"),
        ("C:\\x~{y}^$", r"C:\textbackslash{}x\textasciitilde{}\{y\}\textasciicircum{}\$"),
    ],
)
def test_markdown_as_latex(markdown, expected):
    assert latex.text(markdown) == expected


def test_a_table():
    frame = pd.DataFrame({"Model": ["a_1", "[b]"], "Error (%)": [2.5, float("nan")]})
    text = latex.table(frame, "One & two", "Lower is *better*.", "tab:x", ["¹ one seed"])
    assert text.splitlines() == [
        r"\begin{table}",
        r"\centering",
        r"\caption[{One \& two}]{\textbf{One \& two.} Lower is \emph{better}.}",
        r"\label{tab:x}",
        r"\par\smallskip",
        r"\footnotesize",
        r"\setlength{\tabcolsep}{4pt}",
        r"\begin{tabular}{lr}",
        r"\toprule",
        r"Model & Error (\%) \\",
        r"\midrule",
        r"a\_1 & 2.50 \\",
        r"{}[b] & --- \\",
        r"\bottomrule",
        r"\end{tabular}",
        r"\par\smallskip $^{1}$ one seed",
        r"\end{table}",
    ]


def test_long_headings_are_broken_and_wide_tables_are_small():
    heading = "Latency, batch 1: median, p95 (ms)"
    frame = pd.DataFrame({"Model": ["a"], heading: ["1.00"], "*no break in italics*": ["2"]})
    text = latex.table(frame, "t", "", "tab:t", [])
    assert r"\shortstack[r]{Latency,\\batch 1:\\median, p95\\(ms)} & \emph{no break in italics} \\" in text
    assert r"\footnotesize" in text
    ((head, _),) = tables(text)
    assert head[1] == heading
    wide = pd.concat([frame.add_suffix(str(number)) for number in range(3)], axis=1)
    assert r"\scriptsize" in latex.table(wide, "t", "", "tab:t", [])
    long = pd.DataFrame({"Model": ["a"], "A long name [in brackets] of it": ["1"]})
    assert r"{A long name\\{}[in\\brackets] of\\it}" in latex.table(long, "t", "", "tab:t", [])


def test_a_title_that_is_a_question_gets_no_full_stop():
    text = latex.table(pd.DataFrame({"Model": ["a"]}), "Does it help?", "Negative is better.", "tab:t", [])
    assert r"\textbf{Does it help?} Negative is better." in text


@given(st.lists(st.text(alphabet="ab12_%&#$~^{}\\<>|±×°—→²¹-*`[]()! \n", max_size=30), min_size=1, max_size=4))
def test_no_cell_breaks_the_table(cells):
    text = latex.table(pd.DataFrame({"Model": cells, "Error": cells}), "t", "", "tab:t", [])
    ((_, *rows),) = tables(text)
    assert len(rows) == len(cells)


@pytest.mark.parametrize("text", ["a|b", "<i>", "[x](y)", "*a*", "`a`", "![a](b)", "a\\b", "p&q"])
def test_text_of_others_is_set_as_it_is(text):
    assert latex.text(plain(text)) == "".join(latex.SPECIAL.get(character, character) for character in text)
