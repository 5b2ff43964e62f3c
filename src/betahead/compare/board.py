"""The board that all workers of a comparison share: its items, who works on them, what came out.

It is an Optuna study in SQLite (the default, one machine) or PostgreSQL (many machines). Each item is a trial; its
scores are an attribute of the trial, so that they travel where the trial does. Three rules make it safe to kill any
process at any moment:

- A worker claims a trial by the database's own compare-and-set, and beats while it works. A trial whose worker has
  stopped beating is failed, and its item is put up again.
- Any process may put items up. Of several live trials of one item the first counts; the others are never run.
- An item is done when a trial of it is complete; scores are written before that.
"""

import contextlib
import json
import threading
import time
import warnings
from collections.abc import Generator, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import optuna
from optuna.exceptions import DuplicatedStudyError, UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from betahead.compare.code import Code
from betahead.compare.database import opened
from betahead.compare.items import Item
from betahead.compare.resolved import ResolvedPlan
from betahead.compare.score import Scores, from_text, to_text
from betahead.errors import ConfigError

HEARTBEAT_SECONDS = 5
GRACE_SECONDS = 30
ATTEMPTS = 5

_NO_FAULT = {"repeats", "stopped"}
_ALIVE = (TrialState.WAITING, TrialState.RUNNING, TrialState.COMPLETE)


@dataclass(frozen=True, kw_only=True)
class Claim:
    """An item that this process alone works on."""

    item: Item
    trial_id: int


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How far the board is: runs of the items that are done, and those that are up."""

    done: int
    up: int
    running: int
    seconds: float


class Board:
    """The study of a plan.

    Args:
        resolved: the plan; its hash must be that of the storage.
        url: of the database, as SQLAlchemy writes it.
        grace: seconds without a beat after which a worker counts as dead.

    Raises:
        ConfigError: the storage cannot be opened, holds another plan under this name, runs of other code, or another
            plan whose test was opened on the same final seeds.
    """

    def __init__(self, resolved: ResolvedPlan, url: str, *, grace: int = GRACE_SECONDS) -> None:
        self.resolved = resolved
        self.url = url
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._storage = opened(url, heartbeat=HEARTBEAT_SECONDS, grace=grace)
        self._study = _study(self._storage, resolved)
        self._study_id = self._storage.get_study_id_from_name(resolved.plan.name)
        try:
            self._refuse_another_plan()
            self._refuse_other_code()
            if self.test_opened is None:
                self._refuse_spent_seeds()
        except ConfigError:
            self.close()
            raise

    def __enter__(self) -> "Board":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the database."""
        self._storage.remove_session()
        self._storage.engine.dispose()

    # The plan and the test

    @property
    def test_opened(self) -> str | None:
        """When the test prompts were first scored, or None while they were not."""
        return self._attributes().get("test_opened")

    def open_test(self) -> str:
        """Record, before any final is put up, that the test is opened for this plan; and say when it was.

        Raises:
            ConfigError: another plan opened its own on the same final seeds meanwhile.
        """
        if self.test_opened is None:
            self._refuse_spent_seeds()
            self._study.set_user_attr("test_opened", time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
        opened = self.test_opened
        assert opened is not None
        return opened

    def _attributes(self) -> dict[str, Any]:
        return self._storage.get_study_user_attrs(self._study_id)

    def _refuse_another_plan(self) -> None:
        if "plan_hash" not in self._attributes():
            self._study.set_user_attr("plan", self.resolved.text)
            self._study.set_user_attr("plan_hash", self.resolved.hash)
        held = str(self._attributes()["plan_hash"])
        if held == self.resolved.hash:
            return
        name = self.resolved.plan.name
        if self.test_opened is not None:
            raise ConfigError(
                f"The plan {name} must stay as it is after its test was opened ({self.test_opened}, hash {held[:12]}), "
                f"but its hash, which covers its worlds too, is {self.resolved.hash[:12]} now; what was learned from "
                "the test must not shape the plan, so a change is a new plan with another `name` and another `seed`."
            )
        raise ConfigError(
            f"The storage must hold the plan {name} with hash {self.resolved.hash[:12]}, but holds hash {held[:12]} "
            "instead; give the changed plan another `name`, or another --storage."
        )

    def _refuse_other_code(self) -> None:
        """Runs of two versions of the code are not runs of one comparison."""
        mine = self.resolved.code
        if "code" not in self._attributes():
            self._study.set_user_attr("code", asdict(mine))
        held = Code(**self._attributes()["code"])
        if held != mine:
            raise ConfigError(
                f"The storage must hold runs of this code ({mine}), but its runs of the plan {self.resolved.plan.name} "
                f"are of {held}; the two must not be mixed, so go on with that version, or begin again with another "
                "--storage and --output."
            )

    def _refuse_spent_seeds(self) -> None:
        """Seeds of which another plan of this storage that has opened its test made finals, or mine from its pool."""
        mine = self.resolved.plan
        for study in self._storage.get_all_studies():
            attributes = study.user_attrs
            if study.study_name == mine.name or "test_opened" not in attributes:
                continue
            theirs = json.loads(attributes["plan"])["plan"]
            both = self.resolved.spent_by(theirs)
            cells = sorted({*mine.cells} & {*theirs["cells"]})
            if both and cells:
                raise ConfigError(
                    f"`seed` of the plan {mine.name} must give it fresh seeds, but is {mine.seed}: the plan "
                    f"{study.study_name} in the same storage has tuned or tested on {len(both)} of them in {cells[0]}; "
                    "take another `seed`."
                )

    # Items

    def put_up(self, items: Iterable[Item]) -> None:
        """Put up the items that are not there yet, and those whose workers died.

        Raises:
            ConfigError: an item failed too often.
        """
        trials = self._by_item()
        for item in items:
            of_item = trials.get(item.id, [])
            if any(trial.state in _ALIVE for trial in of_item):
                continue
            failed = [trial for trial in of_item if not _NO_FAULT & trial.user_attrs.keys()]
            if len(failed) >= ATTEMPTS:
                why = next((t.user_attrs["error"] for t in reversed(failed) if "error" in t.user_attrs), None)
                raise ConfigError(
                    f"{item.id} must finish, but failed {len(failed)} times "
                    f"({why or 'its workers died'}); mend the cause and use another --storage."
                )
            self._study.enqueue_trial({}, user_attrs={"item": item.to_dict(), "id": item.id})

    def claim(self) -> Claim | None:
        """An item that nobody works on, now this process's own; None where there is none."""
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            # Beating first: a process that dies right after its claim must be seen to have died.
            self._storage.record_heartbeat(trial._trial_id)
            try:
                if not self._storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING):
                    continue
            except UpdateFinishedTrialError:
                continue
            alive = [one.number for one in self._by_item()[trial.user_attrs["id"]] if one.state in _ALIVE]
            if trial.number not in alive:  # this process was held up so long that it seemed dead
                continue
            if alive[0] != trial.number:
                self._storage.set_trial_user_attr(trial._trial_id, "repeats", alive[0])
                self._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
                continue
            return Claim(item=Item.from_dict(trial.user_attrs["item"]), trial_id=trial._trial_id)
        return None

    @contextlib.contextmanager
    def beating(self, claim: Claim) -> Generator[None]:
        """While inside, the claim is seen to be alive; an error or an interruption gives the item back."""
        stop = threading.Event()

        def beat() -> None:
            while not stop.wait(HEARTBEAT_SECONDS):
                self._storage.record_heartbeat(claim.trial_id)
            self._storage.remove_session()

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        except Exception as error:
            self._give_back(claim, "error", f"{type(error).__name__}: {error}"[:500])
            raise
        except BaseException:  # the person stopped it: no fault of the item's
            self._give_back(claim, "stopped", "by hand")
            raise
        finally:
            stop.set()
            thread.join()

    def _give_back(self, claim: Claim, key: str, why: str) -> None:
        with contextlib.suppress(UpdateFinishedTrialError):
            self._storage.set_trial_user_attr(claim.trial_id, key, why)
            self._storage.set_trial_state_values(claim.trial_id, TrialState.FAIL)

    def finish(self, claim: Claim, scores: Scores) -> None:
        """Store what came out; a claim that was taken away meanwhile, as its worker seemed dead, changes nothing."""
        with contextlib.suppress(UpdateFinishedTrialError):
            self._storage.set_trial_user_attr(claim.trial_id, "scores", to_text(scores))
            self._storage.set_trial_user_attr(claim.trial_id, "seconds", scores.seconds)
            self._storage.set_trial_state_values(claim.trial_id, TrialState.COMPLETE, [float(len(claim.item.runs))])

    def bury_the_dead(self) -> None:
        """Fail the trials whose workers have stopped beating."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            optuna.storages.fail_stale_trials(self._study)

    # What came out

    def finished(self, items: Sequence[Item]) -> bool:
        """Whether all of the items are done."""
        return {item.id for item in items} <= self._complete().keys()

    def scores(self, items: Sequence[Item]) -> list[Scores]:
        """What came out of items that are done."""
        complete = self._complete()
        return [from_text(complete[item.id].user_attrs["scores"]) for item in items]

    def standing(self) -> Standing:
        """How far the work is, counted in runs."""
        groups = self._by_item().values()
        done = [trial for group in groups for trial in group if trial.state == TrialState.COMPLETE]
        alive = [group for group in groups if any(trial.state in _ALIVE for trial in group)]
        return Standing(
            done=sum(len(trial.user_attrs["item"]["runs"]) for trial in done),
            up=sum(len(group[0].user_attrs["item"]["runs"]) for group in alive),
            running=sum(trial.state == TrialState.RUNNING for group in groups for trial in group),
            seconds=sum(trial.user_attrs["seconds"] for trial in done),
        )

    def _complete(self) -> dict[str, FrozenTrial]:
        return {
            name: trial
            for name, group in self._by_item().items()
            for trial in group
            if trial.state == TrialState.COMPLETE
        }

    def _by_item(self) -> dict[str, list[FrozenTrial]]:
        """The trials of each item, in the order in which they were put up."""
        found: dict[str, list[FrozenTrial]] = {}
        for trial in sorted(self._study.get_trials(deepcopy=False), key=lambda one: one.number):
            found.setdefault(trial.user_attrs["id"], []).append(trial)
        return found


def _study(storage: RDBStorage, resolved: ResolvedPlan) -> optuna.Study:
    name = resolved.plan.name
    try:
        return optuna.create_study(storage=storage, study_name=name, sampler=optuna.samplers.RandomSampler(seed=0))
    except DuplicatedStudyError:
        return optuna.load_study(storage=storage, study_name=name, sampler=optuna.samplers.RandomSampler(seed=0))
