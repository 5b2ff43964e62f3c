"""What inspect says of a prompt agrees with what training wrote of it, and with planted truths."""

import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
import tiny
import tiny_run
import torch
from hypothesis import given
from hypothesis import strategies as st

from betahead.beta.fixed import FixedBeta
from betahead.data.collate import PairCollator
from betahead.data.rows import Row
from betahead.errors import DataError
from betahead.evaluate.prompt_records import prompt_records
from betahead.evaluate.prompts import Snapshot, last_snapshot, quantile_of, training_sample, views_of
from betahead.forward.model import PreferenceModel
from betahead.reference.frozen import FrozenReference
from betahead.runs.opened import open_run

CPU = torch.device("cpu")
SNAPSHOT = Snapshot(progress=1.0, beta=np.array([0.05, np.float32(0.1), 0.2]), log_ppl=np.array([1.0, 2.0, 3.0, 4.0]))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return tiny_run.finished_run(tmp_path_factory.mktemp("prompts"))


def seen(rule, count=5, *, ppl_mask=None, snapshot=SNAPSHOT, batch_size=8):
    records = [record | {"prompt": "words", "where": str(n)} for n, record in enumerate(tiny.records(count))]
    if ppl_mask is not None:
        records = [record | {"ppl_mask": [ppl_mask] * len(record["ppl_mask"])} for record in records]
    model = PreferenceModel(tiny.qwen2(0).eval(), rule)
    reference = FrozenReference(tiny.qwen2(1).eval(), wants_log_ppl=True)
    collate = PairCollator(pad_token_id=0)
    return views_of(model, reference, records, collate, snapshot, device=CPU, batch_size=batch_size)


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=20), st.floats(-10, 10))
def test_a_quantile_is_the_share_below_with_ties_by_half(values, value):
    among = np.array(values)
    found = quantile_of(value, among)
    assert found == pytest.approx(sum((v < value) + (v == value) / 2 for v in values) / len(values))
    assert quantile_of(-11.0, among) == 0.0 and quantile_of(11.0, among) == 1.0
    assert quantile_of(-value, -among) == pytest.approx(1 - found)


def test_there_is_no_quantile_among_nothing():
    assert quantile_of(1.0, np.empty(0)) is None


def test_the_last_snapshot_has_every_prompt_once(run):
    table = pq.read_table(run.prompts).to_pylist()
    last = {row["prompt_id"]: row for row in table if row["progress"] == 1.0}
    found = last_snapshot(run.prompts)
    assert found.progress == 1.0
    assert len(table) > 2 * len(last)
    assert sorted(found.beta) == pytest.approx(sorted(row["beta"] for row in last.values()))
    assert sorted(found.log_ppl) == pytest.approx(sorted(row["log_ppl"] for row in last.values()))


def test_a_held_out_prompt_is_seen_as_training_saw_it_at_the_end(run):
    opened = open_run(run.path, device="cpu")
    rows = {row["prompt_id"]: row for row in pq.read_table(run.prompts).to_pylist() if row["progress"] == 1.0}
    asked = [Row(values={"prompt": row["prompt"]}, where="") for row in rows.values()]
    records = prompt_records(asked, opened.tokenizer, max_length=96)
    snapshot = last_snapshot(run.prompts)
    views = views_of(opened.model, opened.reference, records, opened.collate, snapshot, device=CPU)
    for view, row in zip(views, rows.values(), strict=True):
        assert (view.log_ppl, view.f, view.beta) == pytest.approx((row["log_ppl"], row["f"], row["beta"]), rel=1e-5)
        assert view.prompt == row["prompt"]
    # They are the distribution itself, so their ranks are spread over it evenly.
    assert np.mean([view.beta_quantile for view in views]) == pytest.approx(0.5, abs=1 / len(views))


def test_a_prompt_without_a_counted_token_takes_the_mean_and_says_so():
    rule = tiny.built(max_correction=0.0, ppl_exponent=1.0)
    rule.calibrate(torch.tensor([2.0, 8.0]))
    for view in seen(rule, ppl_mask=False):
        assert view.log_ppl is None and view.log_ppl_quantile is None
        assert view.beta == pytest.approx(0.1)
        assert view.beta_quantile == 0.5


@pytest.mark.parametrize("form", ["banded", "direct"])
def test_a_new_head_pushes_nothing(form):
    assert {view.pushed for view in seen(tiny.built(form=form))} == {"none"}


@pytest.mark.parametrize("form", ["banded", "direct"])
@pytest.mark.parametrize(("bias", "pushed"), [(0.3, "up"), (-0.3, "down")])
def test_the_direction_is_that_of_the_net(form, bias, pushed):
    rule = tiny.built(form=form)
    with torch.no_grad():
        rule.head.net.last.bias.fill_(bias)
    expected = 1 + 0.5 * np.tanh(bias) if form == "banded" else np.exp(bias)
    for view in seen(rule):
        assert view.pushed == pushed
        assert view.f == pytest.approx(expected, rel=1e-5)


def test_the_published_formula_gives_beta_from_what_is_shown():
    rule = tiny.built(scatter=0.2, bounds=(1e-6, 1e6))
    rule.calibrate(torch.tensor([3.0]))
    w = float(rule.head.weight)
    for view in seen(rule):
        assert view.beta == pytest.approx(w * view.log_ppl * view.f, rel=1e-5)
        assert not view.at_bound


def test_a_beta_that_its_bounds_hold_is_marked():
    rule = tiny.built(form="direct", bounds=(0.09, 0.11))
    with torch.no_grad():
        rule.head.net.last.bias.fill_(2.0)
    assert {(view.at_bound, round(view.beta, 6), view.pushed) for view in seen(rule)} == {(True, 0.11, "up")}


def test_a_fixed_beta_has_no_correction_and_no_rank():
    for view in seen(FixedBeta(0.25)):
        assert (view.beta, view.f, view.beta_quantile, view.pushed, view.at_bound) == (0.25, None, None, None, False)
        assert view.log_ppl is not None and view.log_ppl_quantile is not None


def test_the_perplexity_shown_is_the_one_the_rule_reads():
    theirs = [view.log_ppl for view in seen(tiny.built(ppl_from="reference"))]
    ours = [view.log_ppl for view in seen(tiny.built())]
    model = PreferenceModel(tiny.qwen2(1).eval(), FixedBeta())
    records = [record | {"prompt": "", "where": ""} for record in tiny.records(5)]
    expected = views_of(
        model, FrozenReference(model.policy), records, PairCollator(pad_token_id=0), SNAPSHOT, device=CPU
    )
    assert theirs == pytest.approx([view.log_ppl for view in expected], rel=1e-5)
    assert theirs != pytest.approx(ours, rel=1e-2)


@pytest.mark.parametrize("net", tiny.NETS)
def test_the_size_of_the_batches_changes_nothing(net):
    rule = tiny.built(net=net, scatter=0.2)
    together, alone = seen(rule), seen(rule, batch_size=1)
    assert [view.beta for view in together] == pytest.approx([view.beta for view in alone], rel=1e-5)


def test_a_view_is_plain_values_for_json():
    (view,) = seen(FixedBeta(0.25), 1)
    assert view.to_dict() | {"log_ppl": 0, "log_ppl_quantile": 0, "tokens": 0} == {
        "prompt": "words",
        "where": "0",
        "tokens": 0,
        "log_ppl": 0,
        "log_ppl_quantile": 0,
        "log_ppl_training_quantile": None,
        "f": None,
        "beta": 0.25,
        "beta_quantile": None,
        "beta_training_quantile": None,
        "pushed": None,
        "at_bound": False,
    }


def test_a_missing_broken_foreign_or_empty_snapshot_is_refused(run, tmp_path):
    path = tmp_path / "prompts.parquet"
    with pytest.raises(DataError) as caught:
        last_snapshot(path)
    assert str(caught.value) == f"the run must hold prompts.parquet, but {path} does not exist; train it again."
    shutil.copy(run.prompts, path)
    path.write_bytes(path.read_bytes()[:200])
    broken = rf"^{path} must be a run's Parquet file, but cannot be read \(.+\); restore it\.$"
    with pytest.raises(DataError, match=broken):
        last_snapshot(path)
    table = pq.read_table(run.prompts)
    pq.write_table(table.drop_columns(["beta"]), path)
    with pytest.raises(DataError, match=broken):
        last_snapshot(path)
    pq.write_table(table.slice(0, 0), path)
    with pytest.raises(DataError) as caught:
        last_snapshot(path)
    assert str(caught.value) == f"{path} must hold the held-out prompts of a run, but is empty instead; restore it."


@pytest.mark.parametrize(
    ("written", "detail"),
    [
        ('{"beta": 5, "log_ppl": 3}', "ValueError('beta and log_ppl are not lists of one length')"),
        ('{"beta": [5, 6], "log_ppl": [3]}', "ValueError('beta and log_ppl are not lists of one length')"),
        ('{"beta": [[5]], "log_ppl": [[3]]}', "ValueError('beta and log_ppl are not lists of one length')"),
        ('{"beta": [5]}', "KeyError('log_ppl')"),
    ],
)
def test_training_prompts_that_are_no_lists_are_refused(tmp_path, written, detail):
    path = tmp_path / "training_prompts.json"
    path.write_text(written)
    with pytest.raises(DataError) as caught:
        training_sample(path)
    assert str(caught.value) == (
        f"{path} must hold the run's training prompts, but is broken ({detail}); restore or remove it."
    )


@pytest.mark.parametrize("written", ["[" * 200_000, f'{{"beta": [1{"0" * 400}], "log_ppl": [3]}}'])
def test_training_prompts_that_no_array_can_hold_are_refused(tmp_path, written):
    path = tmp_path / "training_prompts.json"
    path.write_text(written)
    with pytest.raises(DataError, match="must hold the run's training prompts, but is broken"):
        training_sample(path)


def test_a_training_sample_of_a_megabyte_that_is_no_text_is_refused_in_a_sentence(tmp_path):
    path = tmp_path / "training_prompts.json"
    path.write_bytes(b"a" * 1_000_000 + b"\xff")
    with pytest.raises(DataError) as caught:
        training_sample(path)
    assert len(str(caught.value)) < 500
