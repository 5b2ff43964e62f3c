import pytest
import torch

from betahead.losses.reward_shift import RewardShift


def stepped(shift: RewardShift, *passes: tuple[list[float], list[float]]) -> None:
    for chosen, rejected in passes:
        shift.see(torch.tensor(chosen), torch.tensor(rejected))
    shift.step_taken(lambda t: t)


def test_the_shift_is_the_mean_reward_of_all_answers_and_starts_at_zero() -> None:
    shift = RewardShift()
    assert shift.mean.item() == 0.0
    stepped(shift, ([1.0, 3.0], [0.0, -2.0]))
    assert shift.mean.item() == pytest.approx(0.5)
    stepped(shift, ([5.0], [1.0]))
    assert shift.mean.item() == pytest.approx(8 / 6)
    assert shift.pairs.item() == 3


def test_how_a_step_is_cut_into_passes_and_ranks_changes_nothing() -> None:
    whole, cut, rank = RewardShift(), RewardShift(), RewardShift()
    stepped(whole, ([1.0, 3.0, 4.0], [0.0, -2.0, 1.0]))
    stepped(cut, ([1.0], [0.0]), ([3.0, 4.0], [-2.0, 1.0]))
    elsewhere = torch.tensor([(3 - 2) / 2 + (4 + 1) / 2, 2.0])
    rank.see(torch.tensor([1.0]), torch.tensor([0.0]))
    rank.step_taken(lambda t: t + elsewhere)
    assert cut.mean.item() == pytest.approx(whole.mean.item())
    assert rank.mean.item() == pytest.approx(whole.mean.item())


def test_evaluation_and_steps_without_pairs_do_not_move_it() -> None:
    shift = RewardShift()
    shift.eval()
    stepped(shift, ([1.0], [1.0]))
    shift.train()
    with torch.no_grad():
        stepped(shift, ([1.0], [1.0]))
    stepped(shift)
    assert (shift.mean.item(), shift.pairs.item()) == (0.0, 0.0)


def test_rewards_keep_no_graph() -> None:
    shift = RewardShift()
    shift.see(torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True))
    shift.step_taken(lambda t: t)
    assert not shift.mean.requires_grad


def test_what_is_kept_of_a_pass_holds_none_of_its_graph() -> None:
    shift = RewardShift()
    rewards = torch.ones(3, requires_grad=True) * 2.0
    shift.see(rewards, rewards)
    assert shift._seen is not None and not shift._seen.requires_grad, "the pass would stay in memory until the step"
