import math

import plotly.graph_objects
import pytest
from report_pages import HOSTILE, column, figures_of, plotly_specs

from betahead.report.figures import Figure, Panel, Trace, hover_text, packed, plotly_text
from betahead.report.written import write_report


def figure(**changes: object) -> Figure:
    trace = Trace(name="a", rows=(0, 2), take={"x": "x", "y": "y"}, style={"type": "scatter"})
    values = {
        "name": "one",
        "title": "One",
        "caption": "How.",
        "columns": {"x": [1, 2], "y": [0.5, math.nan]},
        "heads": {"x": "x (steps)", "y": "y (nats)"},
        "panels": [Panel(label="", traces=[trace])],
        "layout": {},
    }
    return Figure(**{**values, **changes})


def test_a_figure_holds_its_numbers_once_and_no_nan() -> None:
    (found,) = figures_of(figure().html())
    assert found["columns"] == {"x": [1, 2], "y": [0.5, None]}
    assert found["heads"] == {"x": "x (steps)", "y": "y (nats)"}


def test_columns_of_unequal_length_are_a_bug() -> None:
    with pytest.raises(AssertionError, match="one length"):
        figure(columns={"x": [1], "y": [1, 2]}).html()


def test_texts_that_repeat_stand_once() -> None:
    names = ["a", "b"] * 20
    assert packed(names) == {"of": ["a", "b"], "at": [0, 1] * 20}
    assert packed([*map(str, range(40))]) == [*map(str, range(40))]


@pytest.mark.parametrize("text", HOSTILE)
def test_text_for_plotly_has_no_markup_but_our_line_breaks(text: str) -> None:
    assert not set(plotly_text(text)) & set("<>")
    assert not set(hover_text(text).replace("<br>", "")) & set("<>")


def test_a_hover_label_is_wrapped_and_cut_in_any_script() -> None:
    lines = hover_text("word " * 200).split("<br>")
    assert max(map(len, lines)) <= 46 and len(lines) < 12
    assert max(map(len, hover_text("什么是雨" * 100).split("<br>"))) <= 23


def test_every_figure_of_every_page_is_one_that_plotly_takes(learned, fixed, compared, tmp_path) -> None:
    names = set()
    for number, paths in enumerate([[learned], [learned, fixed], [compared]]):
        report = write_report(paths, tmp_path / f"{number}.html")
        for found in figures_of(report.path.read_text(encoding="utf-8")):
            names.add(found["name"])
            lengths = {len(column(found, name)) for name in found["columns"]}
            assert len(lengths) == 1
            assert found["heads"].keys() <= found["columns"].keys()
            for spec in plotly_specs(found):
                made = plotly.graph_objects.Figure(spec)  # refuses an attribute that does not exist
                assert made.layout.xaxis.title.text
                assert made.layout.yaxis.title.text or made.layout.yaxis.ticktext
                assert all(trace.x is not None and len(trace.x) == len(trace.y) for trace in made.data)
    assert {
        "loss",
        "accuracy",
        "margin",
        "rewards",
        "beta-log-ppl-1",
        "beta-over-training-1",
        "hidden-states-1",
    } <= names
    assert {"effects", "best-of-n", "reward-kl", "beta-by-topic", "calibration-nll"} <= names
