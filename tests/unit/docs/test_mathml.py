"""Formulas of the documentation become MathML, and what is not known is an error."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from docs.site.mathml import to_mathml

ROOT = Path(__file__).parents[3]


def drawn(tex: str, *, display: bool = False) -> str:
    """The formula without its outermost elements."""
    text = to_mathml(tex, display=display)
    ElementTree.fromstring(text.replace("&#160;", " "))
    return re.sub(r"^<math[^>]*><mrow>|</mrow></math>$", "", text)


def test_letters_numbers_and_signs_are_told_apart():
    assert drawn("2x-1") == "<mn>2</mn><mi>x</mi><mo>−</mo><mn>1</mn>"
    assert drawn(r"\beta") == "<mi>β</mi>"


def test_scripts_stand_below_and_above_whatever_their_order():
    both = "<msubsup><mi>x</mi><mi>i</mi><mrow><mn>2</mn></mrow></msubsup>"
    assert drawn("x_i^2") == drawn("x^2_i") == both
    assert drawn("x'") == "<msup><mi>x</mi><mrow><mo>′</mo></mrow></msup>"


def test_the_limits_of_a_sum_stand_under_it_on_a_line_of_its_own():
    assert drawn(r"\sum_i x", display=True).startswith("<munder>")
    assert drawn(r"\sum_i x").startswith("<msub>")


def test_a_fraction_takes_groups_or_digits():
    half = "<mfrac><mn>1</mn><mn>2</mn></mfrac>"
    assert drawn(r"\frac12") == drawn(r"\frac{1}{2}").replace("<mrow>", "").replace("</mrow>", "") == half
    assert "pairs" in drawn(r"\frac12\text{of the pairs}"), "text is found after digits that were parted"


def test_words_keep_their_spaces():
    assert drawn(r"\text{so that}") == "<mtext>so&#160;that</mtext>"


def test_a_sign_of_markup_is_escaped():
    assert drawn("a<b") == "<mi>a</mi><mo>&lt;</mo><mi>b</mi>"


def test_a_mean_has_its_line_whatever_the_font():
    assert drawn(r"\bar F") == '<mrow class="over"><mi>F</mi></mrow>'
    style = (ROOT / "docs" / "site" / "style.css").read_text(encoding="utf-8")
    assert "mrow.over { border-top:" in style and "mrow.boxed { border:" in style


def test_a_matrix_has_its_rows():
    assert drawn(r"\begin{pmatrix} a & b\\ c & d\end{pmatrix}").count("<mtr>") == 2


@pytest.mark.parametrize(
    ("tex", "sentence"),
    [
        (r"\unknown", r"must have commands of mathml.py, but has \unknown instead"),
        (r"\frac{a", "must be whole, but ends where a group or an argument is due"),
        (r"\text x", "must have a group after a command that takes text"),
        (r"\begin{cases} a \end{cases}", "must have no environment but pmatrix, but has cases"),
    ],
)
def test_what_cannot_be_read_is_an_error(tex: str, sentence: str):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        to_mathml(tex, display=False)


@pytest.mark.parametrize("path", sorted((ROOT / "docs").glob("*.md")), ids=lambda path: path.name)
def test_every_formula_of_a_page_can_be_drawn(path: Path):
    text = path.read_text(encoding="utf-8")
    blocks = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
    for kind, tex in blocks.findall(text):
        if kind == "math":
            drawn(tex.strip(), display=True)
    for tex in re.findall(r"\$([^$\n]+)\$", re.sub(r"`[^`\n]*`", "", blocks.sub("", text))):
        drawn(tex)
