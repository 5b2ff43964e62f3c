"""The shared road's error beside the plain road's own, from numbers made up by hand, and which kernel ran."""

import pytest
import tiny
import torch

from bench.attention import SPAN_SETS, Timed, main
from bench.gpu_targets import GPU_TARGETS
from bench.kernels_seen import kernels_seen
from bench.parity import HALF_UNIT, Slopes, apart, error, times_the_plain_error
from betahead.data.collate import PairCollator
from betahead.data.pack import PackedCollator
from betahead.forward import attention
from betahead.forward.roads import scores_without_gradient
from betahead.types import bundled


def slopes(losses: list[float], **gradients: list[float]) -> Slopes:
    return Slopes(losses=torch.tensor(losses), gradients={name: torch.tensor(g) for name, g in gradients.items()})


def test_two_roads_are_apart_by_the_mean_loss_and_the_worst_entry_of_any_weight() -> None:
    truth = slopes([1.0, 3.0], a=[0.0, 4.0], b=[0.1, 0.0], unused=[0.0])
    found = slopes([1.0, 3.2], a=[0.0, 4.0], b=[0.1, 0.02], unused=[0.0])
    assert apart(found, truth) == pytest.approx({"loss": 0.05, "gradient": 0.2})


def test_an_error_is_one_number_over_all_entries() -> None:
    truth = slopes([3.0, 4.0], a=[3.0, 0.0], b=[4.0])
    found = slopes([3.0, 4.5], a=[3.0, 0.3], b=[4.4])
    assert error(found, truth) == pytest.approx({"loss": 0.1, "gradient": 0.1})
    assert error(truth, truth) == {"loss": 0.0, "gradient": 0.0}


def test_an_error_below_half_a_unit_of_bfloat16_counts_as_that() -> None:
    found = times_the_plain_error({"loss": HALF_UNIT, "gradient": 0.03}, {"loss": 1e-9, "gradient": 0.01})
    assert found == pytest.approx({"loss": 1.0, "gradient": 3.0})


def test_the_kernel_that_is_measured_has_verdicts_of_its_own() -> None:
    results = {
        "parity": {
            "gpu-full": {"bfloat16": {"times": {"loss": 1.5, "gradient": 2.5}}},
            "gpu-lora": {"bfloat16": {"unavailable": "out of memory (some model)"}},
        },
        "runs": [],
        "roofline": {},
    }
    found = {verdict["title"]: verdict["status"] for target in GPU_TARGETS for verdict in [target.verdict(results)]}
    assert {title.rpartition(": ")[2]: status for title, status in found.items() if "own" in title} == {
        "loss, all weights": "reached",
        "gradient, all weights": "missed",
        "loss, LoRA": "not measured",
        "gradient, LoRA": "not measured",
    }
    assert found["shared against separate: largest gradient difference, float32"] == "not measured"


def test_the_kernels_that_ran_are_noted_and_left_as_they_were() -> None:
    model, before = tiny.qwen2().eval(), attention.masked_branches
    with kernels_seen() as seen:
        scores_without_gradient(model, bundled(PairCollator(pad_token_id=0)(tiny.records(2))))
        assert seen == set()
        scores_without_gradient(model, bundled(PackedCollator()(tiny.records(2))))
    assert seen == {"sdpa"}
    assert attention.masked_branches is before


def test_both_ways_of_attention_are_timed_beside_what_is_predicted(capsys: pytest.CaptureFixture[str]) -> None:
    threads = torch.get_num_threads()
    try:
        assert main(["--repeats", "1", "--only", "8 × 16/16/16", "8 × 512/64/64"]) == 0
    finally:
        torch.set_num_threads(threads)
    lines = capsys.readouterr().out.splitlines()
    assert [line[:30].strip() for line in lines[2:-1]] == ["8 × 16/16/16", "8 × 512/64/64"]
    # Short rows in one call, long prompts in calls of their own.
    assert [line.split()[-4] for line in lines[2:-1]] == ["rows", "spans"]
    assert lines[-1].startswith("predicted right: ")
    assert len(SPAN_SETS) == 8


def test_a_prediction_is_right_when_the_way_it_names_is_the_faster() -> None:
    assert Timed(spans="some", rows=1.0, calls=2.0, predicts_rows=True).right
    wrong = Timed(spans="some", rows=1.0, calls=2.0, predicts_rows=False)
    assert not wrong.right
    assert wrong.line().split() == ["some", "1000.00", "2000.00", "spans", "wrong,", "2.00", "×"]
