"""Ratios, verdicts and the table, from measurements made up by hand."""

from pathlib import Path
from typing import Any

import pytest

from bench.__main__ import parsed, split_by_data, wanted
from bench.geometries import GEOMETRIES, named
from bench.machine import command
from bench.results import assembled, read, write
from bench.spread import pairs_a_second_with_reference, ratio, spread
from bench.table import BEGIN, END, arms_table, headline, lead, marked_part, number, report, with_marked_part
from bench.targets import TARGETS, memory_growth, off_the_line

ROOT = Path(__file__).parents[2]
GIB = 2**30


def run(geometry: str, arm: str, round_: int, seconds: float, memory: float = 1.0, **more: Any) -> dict[str, Any]:
    made: dict[str, Any] = {
        "geometry": geometry,
        "arm": arm,
        "round": round_,
        "step_seconds": [seconds, seconds],
        "step_pairs": [8, 8],
        "step_tokens": [800, 800],
        "first_loss": 0.6931,
        "peak_bytes": memory * GIB,
        "state_bytes": 0,
        "rows": 24,
        "reference_seconds": 0.0,
        "calibration_seconds": 0.0,
    }
    return made | more


def raw() -> dict[str, Any]:
    """Two rounds on (a): TRL's default is 20 and 10 times slower, its best settings 8 and 12 times."""
    times = {
        "trl-default": (20.0, 10.0),
        "trl-best": (8.0, 12.0),
        "plain": (4.0, 4.0),
        "fixed": (1.0, 1.0),
        "fixed-grouped": (1.0, 1.0),
        "learned-policy": (1.2, 1.2),
        "learned-reference": (1.01, 1.01),
    }
    memory = {"trl-default": 4.0, "trl-best": 2.0}
    lengths = [[(60, 20, 20)] * 8] * 2
    return {
        "runs": [
            run("a-hh", arm, number, seconds, memory.get(arm, 1.0))
            for arm, pair in times.items()
            for number, seconds in enumerate(pair)
        ],
        "rates": [{"geometry": "a-hh", "round": 0, "model_shapes": 1e11, "square": 2e11}],
        "unavailable": {},
        "lengths": {"a-hh": {"random": lengths, "grouped": lengths}},
        "whole": {"a-hh": {"pairs": 100, "tokens": 11_000}},
        "left_out": [],
        "parity": {},
    }


def results(**changes: Any) -> dict[str, Any]:
    about = {
        "date": "2026-01-01",
        "command": "python -m bench",
        "threads": 2,
        "versions": {"torch": "2", "transformers": "5", "trl": "1.16.0"},
        "machine": {"cpu": "some processor", "cores": 2, "memory_gib": 8.0},
    }
    names = changes.pop("geometries", ("a-hh",))
    return assembled(raw() | changes, [named(name) for name in names], about=about, skipped=[])


def test_a_ratio_is_taken_round_by_round() -> None:
    found = ratio(raw()["runs"], "a-hh", "fixed", "trl-default", "speed")
    assert found == {"rounds": [20.0, 10.0], "min": 10.0, "median": 15.0, "max": 20.0}
    assert ratio(raw()["runs"], "a-hh", "fixed", "nobody", "speed") is None


def test_a_ratio_needs_both_arms_in_a_round() -> None:
    runs = [run("a-hh", "fixed", 0, 1.0), run("a-hh", "plain", 1, 2.0)]
    assert ratio(runs, "a-hh", "fixed", "plain", "speed") is None


def test_the_references_scoring_is_shared_out_over_the_pairs_it_scored() -> None:
    made = run("a-hh", "fixed", 0, 2.0, reference_seconds=12.0)  # 16 pairs in 4 s, and 0.5 s a pair for the reference
    assert pairs_a_second_with_reference(made) == pytest.approx(16 / (4 + 16 * 0.5))


def test_spread_is_smallest_median_largest() -> None:
    assert spread([3.0, 1.0, 2.0, 4.0]) == {"min": 1.0, "median": 2.5, "max": 4.0}


def test_verdicts_say_reached_missed_and_not_measured() -> None:
    found = {verdict["title"]: verdict for verdict in results()["verdicts"]}
    assert len(found) == len(TARGETS)
    assert found["(a) pairs/s over TRL default"]["status"] == "reached"
    assert found["(a) pairs/s over TRL default"]["figure"] == 15.0
    assert found["(a) pairs/s over TRL's best settings, same grouped batches"]["status"] == "reached"
    assert found["(a) peak memory over TRL default"]["status"] == "reached"
    assert found["(a) peak memory over TRL's best settings"]["figure"] == 0.5
    assert found["(a) peak memory over TRL's best settings"]["status"] == "missed"
    assert found["(e) share of the matmul rate"]["status"] == "not measured"


def test_a_learned_beta_is_held_to_its_counted_operations() -> None:
    made = results()
    found = {verdict["title"]: verdict["figure"] for verdict in made["verdicts"]}
    counted = made["flops"]["a-hh"]["learned-policy"]
    extra = counted["learned"] / (counted["total"] - counted["learned"])
    title = "(a) learned β beyond its counted operations, share of a fixed-β step"
    assert found[title] == pytest.approx(0.2 - extra)
    assert found["(a) learned β from the reference's PPL, share of a fixed-β step"] == pytest.approx(0.01)


def test_the_roofline_is_counted_operations_over_time_and_rate() -> None:
    made = results()
    share = made["roofline"]["a-hh"]["fixed"]
    assert share["flops_a_second"] == made["flops"]["a-hh"]["fixed"]["total"] / 1.0
    assert share["share_of_larger_rate"] == share["share_of_square"] == share["flops_a_second"] / 2e11
    assert share["share_of_model_shapes"] == share["flops_a_second"] / 1e11


def test_growth_is_read_from_its_geometries() -> None:
    runs = [run(f"d-pairs-{n}", "fixed", 0, n / 8 * factor) for n, factor in ((8, 1.0), (16, 1.05), (32, 0.9))]
    assert off_the_line({"runs": runs}) == pytest.approx(1.05 / 0.9 - 1)
    memory = {8_000: 1.0, 32_000: 1.1, 152_000: 1.2}
    runs = [run(f"d-vocab-{v}", "fixed", 0, 1.0, m + v / 1e6, state_bytes=v / 1e6 * GIB) for v, m in memory.items()]
    assert memory_growth({"runs": runs}) == pytest.approx(0.2)
    assert memory_growth({"runs": runs[:2]}) is None


def test_the_table_has_every_arm_and_leads_with_the_smaller_ratio() -> None:
    made = results()
    table = arms_table(made, "a-hh")
    assert all(made["arms"][arm]["title"] in table for arm in made["geometries"]["a-hh"]["arms"])
    first, second = lead(made, "a-hh").splitlines()
    assert "best settings: **10.0 (8.00 to 12.0)×**" in first
    assert "default: **15.0 (10.0 to 20.0)×**" in second
    assert "scores every position" in headline(made)
    assert "110 in the whole set of 100" in report(made)


def test_the_pages_lead_is_the_smallest_ratio_of_all_geometries() -> None:
    slower = [{**one, "geometry": "b-alpaca"} for one in raw()["runs"] if one["arm"] != "trl-default"]
    runs = [*[one for one in raw()["runs"] if one["arm"] != "trl-best"], *slower]
    both = {name: raw()[name]["a-hh"] for name in ("lengths", "whole")}
    made = results(
        runs=runs,
        rates=[{**raw()["rates"][0], "geometry": name} for name in ("a-hh", "b-alpaca")],
        lengths=dict.fromkeys(("a-hh", "b-alpaca"), both["lengths"]),
        whole=dict.fromkeys(("a-hh", "b-alpaca"), both["whole"]),
        geometries=("a-hh", "b-alpaca"),
    )
    assert headline(made).startswith("**AlpacaEval pairs")


def test_a_gpus_report_says_what_drove_it_and_how_far_the_roads_are_apart() -> None:
    runs = [{**one, "driver": "plain loop"} for one in raw()["runs"]]
    apart = {
        "float32": {"loss": 1e-7, "gradient": 2e-6, "kernels": ["sdpa"]},
        "bfloat16": {"loss": 1e-3, "gradient": 0.1, "kernels": ["varlen"], "times": {"loss": 0.5, "gradient": 1.25}},
        "float16": {"unavailable": "out of memory (some model)"},
    }
    made = results(runs=runs, parity={"a-hh": apart}, left_out=["a-hh: plain"])
    assert "Driven by: plain loop." in report(made)
    assert "Shared against separate, float32: loss 1.0e-07, gradients 2.0e-06 (relative), by sdpa.\n" in report(made)
    assert "gradients 1.0e-01 (relative), by varlen. Its error against float32 is 0.500 times the plain" in report(made)
    assert "Shared against separate, float16: not measured, out of memory (some model)." in report(made)
    assert "No time was left for: a-hh: plain." in report(made)
    assert "Targets not measured here: 7." in report(made)


def test_an_arm_that_could_not_run_says_why() -> None:
    runs = [one for one in raw()["runs"] if one["arm"] != "fixed"]
    made = results(runs=runs, unavailable={"a-hh": {"fixed": "no such road"}})
    assert "| ours, fixed β | no such road |" in arms_table(made, "a-hh")


def test_the_command_is_shown_without_the_machines_paths() -> None:
    words = ["--only", "a", "--out", "/some/where", "--rounds", "3"]
    assert command("bench", words) == "python -m bench --only a --rounds 3"


@pytest.mark.parametrize(("value", "text"), [(123.4, "123"), (12.34, "12.3"), (1.234, "1.23"), (0.01234, "0.0123")])
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert number(value) == text


def test_a_results_file_comes_back_as_it_was_written(tmp_path: Path) -> None:
    made = results()
    write(made, tmp_path / "results" / "made.json")
    assert headline(read(tmp_path / "results" / "made.json")) == headline(made)


def test_only_what_stands_between_the_markers_is_replaced() -> None:
    page = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    changed = with_marked_part(page, "new")
    assert changed == f"before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"
    assert marked_part(changed) == "new"
    assert marked_part("no markers") is None


def test_the_readme_shows_the_committed_results_and_nothing_else() -> None:
    file = ROOT / "bench" / "results" / "cpu.json"
    shown = marked_part((ROOT / "README.md").read_text(encoding="utf-8"))
    assert shown == (headline(read(file)) if file.exists() else "")


def test_options_choose_geometries_arms_rounds_and_steps() -> None:
    found = wanted(parsed(["--only", "c", "d", "--arms", "plain", "--rounds", "5", "--steps", "4"]))
    assert [(one.name, [arm.name for arm in one.arms], one.rounds, one.steps) for one in found] == [
        ("c-512-64-64", ["plain"], 5, 4)
    ]
    assert {one.key for one in wanted(parsed([]))} == {"a", "b", "c", "d", "e", "f"}


def test_geometries_on_public_pairs_are_left_out_with_a_sentence_where_there_are_none(tmp_path: Path) -> None:
    for folder in (None, tmp_path):
        there, skipped = split_by_data(wanted(parsed(["--only", "a", "c"])), folder)
        assert [one.key for one in there] == ["c"]
        assert skipped == [
            "HH transcripts, 6 × 256, vocabulary 32,000: not measured, `BETAHEAD_DATA` names no folder with "
            "hh_harmless_transcripts.jsonl.gz."
        ]


def test_names_are_distinct_and_targets_name_what_exists() -> None:
    names = [geometry.name for geometry in GEOMETRIES]
    assert len(set(names)) == len(names)
    assert {"a-hh", "c-512-64-64", "e-12x1024", "d-pairs-8", "d-vocab-152000"} <= set(names)
