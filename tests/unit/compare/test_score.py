from dataclasses import replace

import numpy as np
import pytest
import torch
from bandit import GaussianBandit

from betahead.compare.score import from_text, joined, over_prompts, scores_of, to_text
from betahead.worlds.outcome import Outcome, PromptTopics
from betahead.worlds.tabular_frontier import reward_at_kl


def outcome_of(reward, kl, *, finite=None, same_prompts=True):
    reward, kl = np.asarray(reward, dtype=float), np.asarray(kl, dtype=float)
    return Outcome(
        reward=reward,
        kl=kl,
        win_rate=reward / 10,
        finite=np.ones(reward.shape[:2], dtype=bool) if finite is None else np.asarray(finite),
        checkpoints=tuple(np.linspace(0, 1, reward.shape[2])),
        same_prompts=same_prompts,
        log_beta=None,
        seconds=1.5,
    )


def one_run(reward, kl, **fields):
    """One configuration, one seed, one prompt."""
    return outcome_of(np.array(reward)[None, None, :, None], np.array(kl)[None, None, :, None], **fields)


def test_gold_at_a_kl_is_read_between_two_checkpoints_in_the_root_of_kl():
    scores = scores_of(one_run([0.0, 1.0, 3.0], [0.0, 1.0, 4.0]), [0.25, 2.25, 4.0], [])
    assert [float(scores.values[f"gold_at_kl_{i}"][0, 0]) for i in range(3)] == pytest.approx([0.5, 2.0, 3.0])


def test_gold_at_a_kl_agrees_with_the_frontier_of_the_worlds():
    rng = np.random.default_rng(0)
    reward = rng.normal(size=(3, 4, 6, 5))
    kl = np.cumsum(rng.uniform(0, 1, size=(3, 4, 6, 5)), axis=2) * np.array([0, 1, 1, 1, 0.5, 1])[None, None, :, None]
    targets = [0.3, 0.9, 1.4]
    scores = scores_of(outcome_of(reward, kl), targets, [])
    theirs = reward_at_kl(
        torch.tensor(reward.mean(-1)), torch.tensor(kl.mean(-1)), torch.tensor(targets, dtype=torch.float64)
    ).numpy()
    for number in range(3):
        ours = scores.values[f"gold_at_kl_{number}"].mean(axis=1)
        reached = np.isfinite(theirs[..., number].ravel())
        assert reached.any()
        np.testing.assert_allclose(ours[reached], theirs[..., number].ravel()[reached], rtol=1e-12)


def test_a_run_that_falls_short_of_a_kl_has_its_last_reward():
    scores = scores_of(one_run([0.0, 1.0, 3.0], [0.0, 1.0, 4.0]), [9.0], [])
    assert float(scores.values["gold_at_kl_0"][0, 0]) == 3.0


def test_a_run_that_is_stopped_ends_where_the_same_number_is_best_on_dev():
    # On dev reward is best at the last checkpoint, and at a price of 0.5 a nat at the middle one.
    dev = np.array([[0.0, 0.0], [2.0, 1.0], [3.0, 4.0]])[None, None]
    scores = scores_of(replace(one_run([0.0, 5.0, 3.0], [0.0, 1.0, 4.0]), dev=dev), [4.0], [0.5, 3.0])
    found = {name: float(value[0, 0]) for name, value in scores.values.items()}
    assert found["reward"] == 3.0 and found["gold_minus_kl_0"] == 4.5 and found["gold_minus_kl_1"] == 0.0
    assert found["gold_at_kl_0"] == 3.0, "a matched KL reads the path, whenever training ends"


def test_the_price_of_kl_is_taken_at_the_end():
    scores = scores_of(one_run([0.0, 5.0, 3.0], [0.0, 1.0, 4.0]), [], [0.1, 1.0])
    assert [float(scores.values[f"gold_minus_kl_{i}"][0, 0]) for i in range(2)] == pytest.approx([2.6, -1.0])
    assert (float(scores.values["reward"][0, 0]), float(scores.values["win_rate"][0, 0])) == (3.0, pytest.approx(0.3))


@pytest.mark.parametrize("flagged", [True, False])
def test_a_run_that_diverged_counts_with_its_worst_finite_checkpoint(flagged):
    reward = [0.2, 0.5, -0.3, np.nan if not flagged else 9.0]
    scores = scores_of(
        one_run(reward, [0.0, 0.5, 2.0, np.inf if not flagged else 3.0], finite=[[not flagged]]), [0.1], [1.0]
    )
    assert not scores.finite[0]
    assert float(scores.values["gold_at_kl_0"][0, 0]) == -0.3
    assert float(scores.values["reward"][0, 0]) == -0.3
    # The worst price along the way, an infinite last checkpoint left out.
    assert float(scores.values["gold_minus_kl_0"][0, 0]) == pytest.approx(-2.3)


def test_a_run_that_diverged_is_never_worth_more_than_the_reference():
    scores = scores_of(one_run([0.2, 0.5, np.nan], [0.0, 0.5, np.nan]), [0.1], [])
    assert float(scores.values["gold_at_kl_0"][0, 0]) == 0.2


def test_prompts_nested_in_seeds_are_averaged_and_shared_ones_kept():
    reward = np.arange(2 * 3 * 2 * 4, dtype=float).reshape(2, 3, 2, 4)
    kept = scores_of(outcome_of(reward, np.abs(reward)), [], [])
    nested = scores_of(outcome_of(reward, np.abs(reward), same_prompts=False), [], [])
    assert kept.values["reward"].shape == (6, 4) and nested.values["reward"].shape == (6, 1)
    np.testing.assert_allclose(over_prompts(kept).values["reward"], nested.values["reward"])


def test_scores_come_back_bit_by_bit_from_their_text():
    world = GaussianBandit()
    configurations = [{"learning_rate": rate, "beta": 0.3} for rate in (0.05, 0.2)]
    scores = scores_of(world.run("unstable", configurations, [1, 2, 3], split="eval"), world.kl_targets(), [0.1])
    again = from_text(to_text(scores))
    assert again.values.keys() == scores.values.keys()
    for name, value in scores.values.items():
        np.testing.assert_array_equal(again.values[name], value)
    for name in ("path", "finite", "log_beta", "by_topic"):
        np.testing.assert_array_equal(getattr(again, name), getattr(scores, name))
    assert (again.checkpoints, again.seconds, again.peak_gib) == (scores.checkpoints, scores.seconds, scores.peak_gib)
    assert not again.measured and again.topic_noise == ()


def test_measures_and_topics_come_back_bit_by_bit_too():
    run = replace(
        one_run([0.0, 1.0, 3.0], [0.0, 1.0, 4.0]),
        measures={"held_out_nll": np.array([[[0.7, 0.6, np.nan]]]), "cut": np.array([[[0.0, 0.1, 0.2]]])},
        topics=PromptTopics(of_prompt=np.array([1]), label_noise=(0.0, 0.25)),
    )
    scores = scores_of(run, [0.25], [0.5])
    again = from_text(to_text(scores))
    assert list(again.measured) == ["held_out_nll", "cut"] and again.topic_noise == scores.topic_noise == (0.25,)
    for name, value in scores.measured.items():
        np.testing.assert_array_equal(again.measured[name], value)
    np.testing.assert_array_equal(again.by_topic, scores.by_topic)
    kept = over_prompts(again)
    assert kept.by_topic.shape == (1, 4, 0) and kept.topic_noise == ()


def test_a_measure_is_read_where_each_component_is_read():
    dev = np.array([[0.0, 0.0], [2.0, 1.0], [1.0, 4.0]])[None, None]
    run = replace(
        one_run([0.0, 1.0, 3.0], [0.0, 1.0, 4.0]),
        measures={"cut": np.array([[[0.0, 0.1, 0.5]]])},
    )
    # Components: reward, win rate, reward − κ·KL, gold at KL 0.25 (half of the way to the second checkpoint) and 9.
    found = scores_of(run, [0.25, 9.0], [0.5])
    np.testing.assert_allclose(found.measured["cut"], [[0.5, 0.5, 0.5, 0.05, 0.5]])
    assert found.of("cut").tolist() == [[0.5]] and found.place("cut") == 0 and found.place("gold_at_kl_0") == 3
    # One that is stopped ends at the second.
    stopped = scores_of(replace(run, dev=dev), [0.25, 9.0], [0.5])
    np.testing.assert_allclose(stopped.measured["cut"], [[0.1, 0.1, 0.1, 0.05, 0.5]])


def test_components_are_read_on_the_prompts_of_each_topic():
    reward = np.array([[0.0, 0.0, 0.0], [1.0, 2.0, 6.0]])[None, None]
    run = replace(
        outcome_of(reward, np.ones_like(reward), same_prompts=False),
        topics=PromptTopics(of_prompt=np.array([0, 0, 2]), label_noise=(0.1, 0.2, 0.3)),
    )
    found = scores_of(run, [], [0.5])
    assert found.topic_noise == (0.1, 0.3), "a topic without a prompt is not there"
    np.testing.assert_allclose(found.by_topic[0, found.place("reward")], [1.5, 6.0])
    np.testing.assert_allclose(found.by_topic[0, found.place("gold_minus_kl_0")], [1.0, 5.5])


def test_runs_of_several_calls_are_joined_in_the_order_asked_for():
    first = scores_of(outcome_of(np.full((1, 2, 2, 1), 1.0), np.zeros((1, 2, 2, 1))), [], [])
    second = scores_of(outcome_of(np.full((1, 1, 2, 1), 2.0), np.zeros((1, 1, 2, 1))), [], [])
    both = joined([first, second], [2, 0, 1])
    assert both.values["reward"].ravel().tolist() == [2.0, 1.0, 1.0]
    assert both.seconds == 3.0
