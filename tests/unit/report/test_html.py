import json
import re

import pytest
from report_pages import HOSTILE

from betahead.report.html import Html, data_block, element, escaped, joined, printable


@pytest.mark.parametrize("text", HOSTILE)
def test_text_in_an_element_and_in_an_attribute_is_never_markup(text: str) -> None:
    made = element("p", text, title=text)
    assert made.count("<") == 2 and made.count(">") == 2
    assert re.fullmatch(r'<p title="[^"<>]*">[^<>"]*</p>', made, re.DOTALL)


def test_only_html_is_markup() -> None:
    inner = element("b", "x")
    assert isinstance(inner, Html)
    assert joined(inner, str(inner[:]), None, ["<", inner]) == "<b>x</b>&lt;b&gt;x&lt;/b&gt;&lt;<b>x</b>"


def test_attributes_that_are_off_are_left_out() -> None:
    assert element("input", type="text", disabled=True, hidden=False, data_x=None, aria_label="a") == (
        '<input type="text" disabled aria-label="a">'
    )


def test_a_link_out_of_the_page_is_a_bug() -> None:
    assert element("a", "x", href="#there") == '<a href="#there">x</a>'
    with pytest.raises(AssertionError, match="must not lead elsewhere"):
        element("a", "x", href="javascript:alert(1)")


@pytest.mark.parametrize("text", [*HOSTILE, "\u2028\u2029&<>]]>"])
def test_a_data_block_holds_any_text_and_cannot_be_ended_by_it(text: str) -> None:
    block = data_block({"text": text, text: 1})
    inside = block.removeprefix('<script type="application/json">').removesuffix("</script>")
    assert not re.search("[<>&\u2028\u2029]", inside)
    assert json.loads(inside) == {"text": text, text: 1}


def test_a_data_block_holds_no_nan() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        data_block({"x": float("nan")})


def test_controls_and_lone_surrogates_are_replaced_and_lines_kept() -> None:
    assert printable("a\x00b\x1bc\ud800d\te\r\nf\rg") == "a�b�c�d\te\nf\ng"
    assert escaped("\x07&") == "�&amp;"
