import contextlib
import re
import time

import numpy as np
import pytest
from bandit import PLAN, GaussianBandit, bandit_of
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from betahead.compare.board import ATTEMPTS, Board
from betahead.compare.items import Item, pool_items, run_item
from betahead.compare.plan import load_plan
from betahead.compare.resolved import resolve
from betahead.compare.work import work, worked_alone
from betahead.errors import ConfigError


def resolved_of(text=PLAN, world_of=bandit_of):
    return resolve(load_plan(text), world_of)


@pytest.fixture
def open_board(tmp_path):
    """Boards on one storage, closed at the end."""
    with contextlib.ExitStack() as stack:
        yield lambda resolved, **given: stack.enter_context(
            Board(resolved, f"sqlite:///{tmp_path / 'work.db'}", **given)
        )


def trials_of(board):
    return board._study.get_trials(deepcopy=False)


def test_an_item_is_claimed_once_and_its_scores_come_back(open_board):
    resolved = resolved_of()
    board, other = open_board(resolved), open_board(resolved)
    (item, _) = pool_items(resolved)
    board.put_up([item])
    claim = board.claim()
    assert claim.item == item
    assert other.claim() is None
    with board.beating(claim):
        scores = run_item(resolved, item)
    board.finish(claim, scores)
    assert other.finished([item])
    (found,) = other.scores([item])
    np.testing.assert_array_equal(found.path, scores.path)
    standing = other.standing()
    assert (standing.done, standing.up, standing.running) == (16, 16, 0)


def test_an_item_that_two_processes_put_up_is_run_once(open_board):
    resolved = resolved_of()
    board = open_board(resolved)
    (item, _) = pool_items(resolved)
    for _ in range(2):  # what two processes do that both saw an empty board
        board._study.enqueue_trial({}, user_attrs={"item": item.to_dict(), "id": item.id})
    first = board.claim()
    assert first is not None and board.claim() is None
    board.finish(first, run_item(resolved, item))
    assert [trial.state for trial in trials_of(board)] == [TrialState.COMPLETE, TrialState.FAIL]
    assert trials_of(board)[1].user_attrs["repeats"] == 0


def test_an_item_whose_worker_stopped_beating_is_put_up_again(open_board):
    resolved = resolved_of()
    board = open_board(resolved, grace=1)
    (item, _) = pool_items(resolved)
    board.put_up([item])
    lost = board.claim()
    time.sleep(2.1)
    board.bury_the_dead()
    board.put_up([item])
    again = board.claim()
    assert again.item == item and again.trial_id != lost.trial_id
    board.finish(again, run_item(resolved, item))
    # The lost worker comes back after all: what it brings changes nothing.
    board.finish(lost, run_item(resolved, item))
    assert [trial.state for trial in trials_of(board)] == [TrialState.FAIL, TrialState.COMPLETE]


def test_a_process_that_is_held_up_in_its_claim_until_it_seems_dead_has_none(open_board, monkeypatch):
    resolved = resolved_of()
    board = open_board(resolved)
    (item, _) = pool_items(resolved)
    board.put_up([item])
    by_item = board._by_item

    def meanwhile():
        ((trial,),) = by_item().values()
        with contextlib.suppress(UpdateFinishedTrialError):
            board._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
        return by_item()

    monkeypatch.setattr(board, "_by_item", meanwhile)
    assert board.claim() is None
    monkeypatch.undo()
    board.put_up([item])
    assert board.claim() is not None


def test_an_interrupted_item_is_free_at_once_and_no_failure(open_board):
    resolved = resolved_of()
    board = open_board(resolved)
    (item, _) = pool_items(resolved)
    for _ in range(ATTEMPTS + 1):
        board.put_up([item])
        with pytest.raises(KeyboardInterrupt), board.beating(board.claim()):
            raise KeyboardInterrupt
    board.put_up([item])
    assert board.claim() is not None


def test_an_item_that_fails_again_and_again_is_named_with_its_reason(open_board):
    resolved = resolved_of()
    board = open_board(resolved)
    (item, _) = pool_items(resolved)
    for _ in range(ATTEMPTS):
        board.put_up([item])
        with pytest.raises(ValueError, match="singular"), board.beating(board.claim()):
            raise ValueError("singular")
    with pytest.raises(ConfigError) as refused:
        board.put_up([item])
    assert str(refused.value) == (
        f"{item.id} must finish, but failed {ATTEMPTS} times (ValueError: singular); mend the cause and use another "
        "--storage."
    )


def test_a_storage_that_holds_another_plan_is_refused(open_board):
    held = resolved_of()
    open_board(held)
    changed = resolved_of(PLAN.replace("rope: 0.01", "rope: 0.02"))
    with pytest.raises(ConfigError) as refused:
        open_board(changed)
    assert str(refused.value) == (
        f"The storage must hold the plan small with hash {changed.hash[:12]}, but holds hash {held.hash[:12]} instead; "
        "give the changed plan another `name`, or another --storage."
    )


def test_a_plan_that_was_changed_after_its_test_was_opened_is_refused(open_board):
    held = resolved_of()
    opened = open_board(held).open_test()
    with pytest.raises(ConfigError) as refused:
        open_board(resolved_of(PLAN.replace("rope: 0.01", "rope: 0.02")))
    assert re.fullmatch(
        rf"The plan small must stay as it is after its test was opened \({opened}, hash {held.hash[:12]}\), but its "
        r"hash, which covers its worlds too, is \w{12} now; what was learned from the test must not shape the plan, so "
        r"a change is a new plan with another `name` and another `seed`\.",
        str(refused.value),
    )


def test_final_seeds_on_which_another_plan_opened_its_test_are_refused(open_board):
    other = PLAN.replace("name: small", "name: other")
    early = open_board(resolved_of(other))
    open_board(resolved_of()).open_test()
    with pytest.raises(ConfigError) as refused:
        open_board(resolved_of(other))
    assert str(refused.value) == (
        "`seed` of the plan other must give it fresh seeds, but is 0: the plan small in the same storage has "
        "tuned or tested on 8 of them in bandit/one; take another `seed`."
    )
    with pytest.raises(ConfigError, match="must give it fresh seeds, but is 0: the plan small"):
        early.open_test()
    assert early.test_opened is None
    open_board(resolved_of(PLAN.replace("name: small", "name: third") + "seed: 1\n")).open_test()
    open_board(resolved_of(PLAN.replace("name: small", "name: elsewhere").replace("bandit/one", "bandit/two")))
    assert open_board(resolved_of()).test_opened is not None


@pytest.mark.parametrize(("opened", "mine"), [(0, 1000), (1000, 0)])
def test_finals_of_one_plan_are_no_tuning_seeds_of_another(open_board, opened, mine):
    first, second = (PLAN.replace("name: small", f"name: plan-{seed}") + f"seed: {seed}\n" for seed in (opened, mine))
    open_board(resolved_of(first)).open_test()
    with pytest.raises(
        ConfigError, match=f"must give it fresh seeds, but is {mine}: the plan plan-{opened} in the same"
    ):
        open_board(resolved_of(second))
    # Two plans may tune on the same seeds, as long as nobody's finals are among them.
    assert set(resolved_of(first).final_seeds).isdisjoint(resolved_of(second).final_seeds)


def test_several_plans_share_a_storage_by_their_names(open_board):
    open_board(resolved_of())
    open_board(resolved_of(PLAN.replace("name: small", "name: other")))


@pytest.mark.parametrize("wrong", ["nowhere", "sqlite:////nowhere/at/all/work.db", "postgres+what://u:secret@host/db"])
def test_a_storage_that_cannot_be_opened_is_one_sentence_without_its_password(wrong):
    with pytest.raises(ConfigError) as refused:
        Board(resolved_of(), wrong)
    assert str(refused.value).startswith("--storage must be the URL of a database, such as sqlite:///work.db or")
    assert "secret" not in str(refused.value)


def test_the_test_is_opened_after_the_whole_pool_and_before_the_first_final(open_board):
    events = []

    class Watched(GaussianBandit):
        def run(self, method, configurations, seeds, *, split):
            events.append(split)
            if split == "test":
                assert board.test_opened is not None
            return super().run(method, configurations, seeds, split=split)

    board = open_board(resolved_of(world_of=Watched))
    finished = work(board)
    assert events == sorted(events)
    assert finished.test_opened == board.test_opened


def test_a_finished_comparison_runs_nothing_again(open_board):
    resolved = resolved_of()
    first = work(open_board(resolved))
    calls = len(resolved.worlds["bandit/one"].calls)
    again = work(open_board(resolved))
    assert len(resolved.worlds["bandit/one"].calls) == calls
    for key, (runs, scores) in first.finals.items():
        assert again.finals[key][0] == runs
        np.testing.assert_array_equal(again.finals[key][1].path, scores.path)


def test_the_storage_changes_no_number(open_board):
    resolved = resolved_of()
    kept, alone = work(open_board(resolved)), worked_alone(resolved)
    for key in kept.finals:
        for name, value in kept.finals[key][1].values.items():
            np.testing.assert_array_equal(alone.finals[key][1].values[name], value)


def test_the_size_of_an_item_changes_no_number():
    whole, cut = worked_alone(resolved_of()), worked_alone(resolved_of(PLAN + "runs_per_item: 3\n"))
    for key in whole.finals:
        assert whole.finals[key][0] == cut.finals[key][0]
        for name, value in whole.finals[key][1].values.items():
            np.testing.assert_array_equal(cut.finals[key][1].values[name], value)


def test_an_item_says_what_it_is_and_comes_back_from_its_plain_values():
    item = pool_items(resolved_of())[0]
    assert item.id.startswith("pool:bandit/one:fixed:")
    assert Item.from_dict(item.to_dict()) == item and Item.from_dict(item.to_dict()).id == item.id
