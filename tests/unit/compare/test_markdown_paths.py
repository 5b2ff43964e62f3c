"""The panels of paths: checkpoints, clouds and envelopes, β beside the oracle's, and the spread over conditions."""

import numpy as np
import pytest
from bandit import PLAN, GaussianBandit, bandit_of

from betahead.compare.across import over_conditions
from betahead.compare.markdown import markdown_of
from betahead.compare.plan import load_plan
from betahead.compare.record import evidence_of
from betahead.compare.resolved import resolve
from betahead.compare.work import worked_alone


class WithOracle(GaussianBandit):
    """A world with four topics whose best β is known; `shifted` goes half as far, `fixed` nowhere."""

    def topic_oracle(self):
        return (4.0, 1.0, 1.0, 0.25)

    def run(self, method, configurations, seeds, *, split):
        out = super().run(method, configurations, seeds, split=split)
        level = 0.5 if method == "shifted" else 0.0
        log_beta = np.log(0.1) + level * np.log(self.topic_oracle())
        luck = 0.01 * np.random.default_rng(seeds[0]).standard_normal((*out.finite.shape, 4))
        out.__dict__["log_beta"] = log_beta + luck
        return out


def evidence_for(world_of, text=PLAN):
    finished = worked_alone(resolve(load_plan(text), world_of))
    return finished, evidence_of(finished, "betahead compare small.yaml")


@pytest.fixture(scope="module")
def with_oracle():
    return evidence_for(WithOracle)


def test_no_point_of_the_cloud_lies_above_its_envelope(with_oracle):
    finished, evidence = with_oracle
    for method in ("fixed", "shifted"):
        envelope = [row for row in evidence.panels.envelope if row.method == method]
        assert [row.kl for row in envelope] == sorted(row.kl for row in envelope)
        assert [row.reward for row in envelope] == sorted(row.reward for row in envelope)
        path = finished.pools["bandit/one", method].path[..., :2].reshape(8, 2, -1, 2).mean(axis=1)
        for reward, kl in path.reshape(-1, 2):
            assert max(row.reward for row in envelope if row.kl <= kl + 1e-12) >= reward - 1e-12
        # Every point of it is a configuration at a checkpoint.
        shares = finished.pools["bandit/one", method].checkpoints
        for row in envelope:
            np.testing.assert_allclose(path[row.configuration, shares.index(row.share)], [row.reward, row.kl])


def test_a_configuration_of_which_all_runs_diverged_has_no_place_in_the_cloud():
    text = PLAN.replace("shifted: {space: {knob: {low: 0.5, high: 2.0}}}", "unstable: {}").replace(
        "a: shifted", "a: unstable"
    )
    _, evidence = evidence_for(bandit_of, text)
    ends = [row.reward for row in evidence.panels.cloud if row.method == "unstable"]
    assert None in ends and any(reward is not None for reward in ends)
    assert all(np.isfinite([row.reward, row.kl]).all() for row in evidence.panels.envelope)


def test_beta_stands_beside_the_oracle_and_says_how_far_it_goes_its_way(with_oracle):
    _, evidence = with_oracle
    rows = [row for row in evidence.panels.beta if row.method == "shifted"]
    assert [row.topic for row in rows] == [1, 2, 3, 4]
    assert [row.oracle for row in rows] == [4.0, 1.0, 1.0, 0.25]
    assert [row.relative for row in rows] == pytest.approx([2.0, 1.0, 1.0, 0.5], rel=0.02)
    towards = {row.method: row.towards_oracle for row in evidence.panels.allocation}
    assert towards["shifted"].estimate == pytest.approx(0.5, abs=0.01)
    assert towards["shifted"].low < 0.5 + 0.01 and towards["shifted"].high > 0.5 - 0.01
    assert towards["fixed"].estimate == pytest.approx(0.0, abs=0.01)


def test_a_flat_oracle_gives_no_direction_and_an_unknown_one_no_row():
    class Flat(WithOracle):
        def topic_oracle(self):
            return (1.0, 1.0, 1.0, 1.0)

    _, flat = evidence_for(Flat)
    assert [row.towards_oracle for row in flat.panels.allocation] == [None, None]
    _, unknown = evidence_for(bandit_of)
    assert unknown.panels.allocation == [] and {row.oracle for row in unknown.panels.beta} == {None}


def test_the_report_shows_checkpoints_cloud_and_beta(with_oracle):
    _, evidence = with_oracle
    text = markdown_of(evidence)
    for head in ("Checkpoints", "Cloud of reward and KL, on dev", "β per topic"):
        assert f"## {head}" in text
    assert "| cell | method | 10% | 25% | 50% | 75% | 100% |" in text
    assert "| bandit/one | *oracle of the world* | ×4.00 | ×1.00 | ×1.00 | ×0.25 | – |" in text
    (row,) = [one for one in evidence.panels.checkpoints if (one.method, one.share) == ("fixed", 0.25)]
    assert f"| {row.reward:.3f} @ {row.kl:.3g} |" in text
    assert "## Spread over conditions" not in text


def test_the_spread_over_conditions_is_that_of_the_means_of_a_world_by_name():
    text = PLAN.replace("[bandit/one]", "[bandit/one, bandit/one@gain=2, bandit/two]")

    class Conditioned(GaussianBandit):
        def __init__(self, name):
            super().__init__(name, gain=0.5 if "@" in name else 0.0)

    _, evidence = evidence_for(Conditioned, text)
    (row,) = evidence.panels.across
    assert (row.world, row.conditions, row.a, row.b) == ("bandit/one", 2, "shifted", "fixed")
    means = {one.cell: one.value.estimate for one in evidence.panels.headline if one.method == "shifted"}
    wanted = np.std([means["bandit/one"], means["bandit/one@gain=2"]], ddof=1)
    assert row.of_a.estimate == pytest.approx(wanted)
    assert row.difference.estimate == pytest.approx(row.of_a.estimate - row.of_b.estimate)
    assert row.of_b.estimate == pytest.approx(0.0, abs=1e-9) and row.difference.low > 0
    assert "## Spread over conditions" in markdown_of(evidence)


def test_the_spread_over_conditions_by_hand():
    values = np.array([[1.0, 3.0], [4.0, 6.0], [7.0, 9.0]])
    counts = np.array([[1.0, 1.0], [2.0, 0.0]])
    np.testing.assert_allclose(over_conditions(values, counts), [3.0, 3.0])
