"""Scores of held-out pairs against the plain sum, and their summary against loops and planted truths."""

import math

import numpy as np
import pytest
import tiny
import torch
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from betahead.beta.fixed import FixedBeta
from betahead.data.collate import PairCollator
from betahead.errors import DataError
from betahead.evaluate.pairs import PairScores, score_pairs, summary_of, wins
from betahead.forward.model import PreferenceModel
from betahead.losses.objective import objective_of
from betahead.reference.frozen import FrozenReference

CPU = torch.device("cpu")


def records(count, seed=0):
    made = tiny.records(count, seed)
    for number, record in enumerate(made):
        record |= {"prompt_id": str(number // 2), "domain": "ab"[number % 2]}
    return Dataset.from_list(made)


def scored(model, reference=None, data=None, **settings):
    reference = reference or FrozenReference(tiny.qwen2(1).eval())
    return score_pairs(model, reference, data or records(7), PairCollator(pad_token_id=0), device=CPU, **settings)


def model_of(rule=None, **settings):
    return PreferenceModel(tiny.qwen2(0).eval(), rule or tiny.built(scatter=0.3), **settings)


def scores_of(margins, beta=0.1, lengths=None, prompts=None, domains=None):
    count = len(margins)
    lengths = lengths or [(1, 1)] * count
    empty = np.zeros(count)
    return PairScores(
        margin=np.array(margins, dtype=np.float64),
        beta=np.full(count, beta),
        log_ppl=empty,
        chosen_logps=empty,
        rejected_logps=empty,
        reference_chosen_logps=empty,
        reference_rejected_logps=empty,
        chosen_tokens=np.array([chosen for chosen, _ in lengths]),
        rejected_tokens=np.array([rejected for _, rejected in lengths]),
        prompt_id=np.array(prompts or [str(n) for n in range(count)]),
        domain=np.array(domains or [""] * count),
        unit="nats",
    )


@torch.no_grad()
def logp(model, prompt, answer):
    ids = torch.tensor([[*prompt, *answer]])
    logps = model(input_ids=ids).logits[0].double().log_softmax(-1)
    return sum(logps[len(prompt) + at - 1, token].item() for at, token in enumerate(answer))


def test_each_pair_scores_what_it_scores_alone_and_unpadded():
    model, reference = model_of(), tiny.qwen2(1).eval()
    data = records(9)
    found = scored(model, FrozenReference(reference), data, batch_size=4)
    for number, record in enumerate(data):
        ids = [record[name] for name in ("prompt_ids", "chosen_ids", "rejected_ids")]
        chosen, rejected = (logp(model.policy, ids[0], answer) for answer in ids[1:])
        ref_chosen, ref_rejected = (logp(reference, ids[0], answer) for answer in ids[1:])
        assert found.chosen_logps[number] == pytest.approx(chosen, abs=1e-4)
        assert found.rejected_logps[number] == pytest.approx(rejected, abs=1e-4)
        assert found.reference_chosen_logps[number] == pytest.approx(ref_chosen, abs=1e-4)
        assert found.reference_rejected_logps[number] == pytest.approx(ref_rejected, abs=1e-4)
        assert found.margin[number] == pytest.approx(chosen - ref_chosen - rejected + ref_rejected, abs=1e-4)
        assert (found.chosen_tokens[number], found.rejected_tokens[number]) == (len(ids[1]), len(ids[2]))
        counted = logp(model.policy, ids[0][:1], ids[0][1:]) / (len(ids[0]) - 1)
        assert found.log_ppl[number] == pytest.approx(-counted, abs=1e-4)


def test_the_size_of_the_batches_changes_nothing():
    model = model_of()
    one, all_at_once = scored(model, batch_size=1), scored(model, batch_size=100)
    for name in ("margin", "beta", "log_ppl", "chosen_logps", "reference_rejected_logps"):
        np.testing.assert_allclose(getattr(one, name), getattr(all_at_once, name), atol=1e-4)
    assert one.prompt_id.tolist() == all_at_once.prompt_id.tolist() == list("0011223")


def test_beta_is_that_of_the_training_forward():
    model = model_of()
    batch = (
        tiny.batch(7) | FrozenReference(tiny.qwen2(1).eval()).scores(tiny.PairBatch.from_dict(tiny.batch(7))).columns()
    )
    with torch.no_grad():
        outputs = model(**batch)
    found = scored(model)
    np.testing.assert_allclose(found.beta, outputs["beta"].numpy(), rtol=1e-5)
    np.testing.assert_allclose(found.margin, outputs["margin"].numpy(), atol=1e-4)
    assert np.ptp(found.beta) > 0


def test_a_rule_of_the_references_perplexity_reads_the_reference():
    reference = FrozenReference(tiny.qwen2(1).eval(), wants_log_ppl=True)
    theirs = scored(model_of(tiny.built(ppl_from="reference", ppl_exponent=-1.0)), reference).log_ppl
    as_policy = scored(PreferenceModel(tiny.qwen2(1).eval(), FixedBeta(0.1)), reference).log_ppl
    np.testing.assert_allclose(theirs, as_policy, atol=1e-4)


def test_reference_columns_of_the_records_are_not_read():
    data = records(7)
    given_columns = data.add_column("ref_chosen_logps", [-1e6] * 7).add_column("ref_rejected_logps", [0.0] * 7)
    model = model_of()
    np.testing.assert_array_equal(scored(model, data=given_columns).margin, scored(model, data=data).margin)


def test_ipo_scores_margins_per_token():
    plain, per_token = scored(model_of()), scored(model_of(objective=objective_of("ipo")))
    expected = (plain.chosen_logps - plain.reference_chosen_logps) / plain.chosen_tokens - (
        plain.rejected_logps - plain.reference_rejected_logps
    ) / plain.rejected_tokens
    np.testing.assert_allclose(per_token.margin, expected, atol=1e-5)
    assert summary_of(per_token).margin_unit == "nats per token"
    assert summary_of(plain).margin_unit == "nats"


def test_a_prompt_without_a_counted_token_has_no_log_ppl():
    data = [
        record | {"ppl_mask": [False] * len(record["ppl_mask"])} if n == 2 else record
        for n, record in enumerate(records(7))
    ]
    found = scored(model_of(), data=Dataset.from_list(data))
    assert np.flatnonzero(np.isnan(found.log_ppl)).tolist() == [2]
    assert np.isfinite(found.beta).all()


def test_the_models_are_left_in_the_mode_they_were_in():
    model = model_of()
    model.train()
    scored(model)
    assert model.training and model.policy.training


def test_progress_counts_every_pair():
    seen = []
    scored(model_of(), batch_size=3, progress=seen.append)
    assert seen == [3, 3, 1]


def test_a_policy_of_nan_is_refused():
    model = model_of()
    with torch.no_grad():
        model.policy.lm_head.weight.fill_(torch.nan)
    with pytest.raises(DataError, match=r"^policy and reference must give finite log-probabilities, but 7 of 7 pairs "):
        scored(model)


def test_a_policy_that_is_its_reference_is_a_coin_to_the_last_bit():
    model = model_of()
    found = summary_of(scored(model, FrozenReference(model.policy)))
    assert (found.accuracy.estimate, found.margin.estimate) == (0.5, 0.0)
    assert found.nll.estimate == pytest.approx(math.log(2), abs=1e-12)


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=20))
def test_a_tie_is_half_a_win(differences):
    expected = [1.0 if value > 0 else 0.0 if value < 0 else 0.5 for value in differences]
    assert wins(np.array(differences)).tolist() == expected


PAIRS = st.lists(
    st.tuples(st.floats(-50, 50), st.integers(1, 5), st.integers(1, 5), st.sampled_from("pqrs"), st.sampled_from("xy")),
    min_size=1,
    max_size=20,
)


def planted(rows, beta=0.3):
    return scores_of(
        [row[0] for row in rows],
        beta,
        [(row[1], row[2]) for row in rows],
        [row[3] for row in rows],
        [row[4] for row in rows],
    )


@settings(deadline=None, max_examples=30)
@given(PAIRS)
def test_the_summary_is_the_mean_over_pairs(rows):
    found = summary_of(planted(rows), replicates=20)
    count = len(rows)
    right = sum((margin > 0) + (margin == 0) / 2 for margin, *_ in rows) / count
    longer = sum((a > b) + (a == b) / 2 for _, a, b, *_ in rows) / count
    nll = sum(math.log1p(math.exp(-0.3 * margin)) for margin, *_ in rows) / count
    assert found.accuracy.estimate == pytest.approx(right)
    assert found.longer_wins.estimate == pytest.approx(longer)
    assert found.gain.estimate == pytest.approx(right - longer)
    assert found.nll.estimate == pytest.approx(nll)
    assert found.margin.estimate == pytest.approx(sum(row[0] for row in rows) / count)
    assert found.beta.estimate == pytest.approx(0.3)
    assert (found.pairs, found.prompts) == (count, len({row[3] for row in rows}))


@settings(deadline=None, max_examples=30)
@given(PAIRS)
def test_exchanging_chosen_and_rejected_turns_the_summary_around(rows):
    one = summary_of(planted(rows), replicates=20)
    other = summary_of(planted([(-margin, b, a, *rest) for margin, a, b, *rest in rows]), replicates=20)
    assert other.accuracy.estimate == pytest.approx(1 - one.accuracy.estimate)
    assert other.longer_wins.estimate == pytest.approx(1 - one.longer_wins.estimate)
    assert other.gain.estimate == pytest.approx(-one.gain.estimate)
    assert other.margin.estimate == pytest.approx(-one.margin.estimate)
    if one.gain.low is not None:
        # The same resamples on both sides; interpolated quantiles mirror up to rounding.
        assert other.gain.low == pytest.approx(-one.gain.high, abs=1e-9)


@settings(deadline=None, max_examples=30)
@given(PAIRS)
def test_the_domains_add_up_to_the_whole(rows):
    found = summary_of(planted(rows), replicates=20)
    names = {row[4] for row in rows}
    assert set(found.domains) == (names if len(names) > 1 else set())
    if found.domains:
        assert sum(part.pairs for part in found.domains.values()) == found.pairs
        whole = sum(part.pairs * part.accuracy.estimate for part in found.domains.values()) / found.pairs
        assert whole == pytest.approx(found.accuracy.estimate)
        assert all(not part.domains for part in found.domains.values())


def test_the_difference_to_the_baseline_is_paired():
    # Accuracy and baseline agree on every pair, so their difference is 0 in every resample, though both vary.
    rng = np.random.default_rng(0)
    margins = rng.normal(size=100)
    found = summary_of(scores_of(margins.tolist(), lengths=[(2, 1) if m > 0 else (1, 2) for m in margins]))
    assert found.accuracy.high - found.accuracy.low > 0.1
    assert (found.gain.low, found.gain.estimate, found.gain.high) == (0.0, 0.0, 0.0)


def test_pairs_of_one_prompt_do_not_count_as_independent():
    margins = [1.0] * 40 + [-1.0] * 40
    apart = summary_of(scores_of(margins)).accuracy
    alike = summary_of(scores_of(margins, prompts=[str(n // 10) for n in range(80)])).accuracy
    assert alike.high - alike.low > 2 * (apart.high - apart.low)


def test_a_large_margin_on_the_wrong_side_does_not_overflow():
    assert summary_of(scores_of([-1e6, 1e6], beta=30.0)).nll.estimate == pytest.approx(1.5e7)


def test_the_summary_is_plain_values_for_json():
    found = summary_of(scores_of([1.0, -1.0], domains=["x", "y"])).to_dict()
    assert found["accuracy"] == {"estimate": 0.5, "low": 0.0, "high": 1.0}
    assert found["domains"]["x"]["accuracy"] == {"estimate": 1.0, "low": None, "high": None}
