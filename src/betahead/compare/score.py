"""What verdicts need of a world's outcome: a few numbers per run (per prompt where runs share prompts), as bytes.

Results travel through the comparison's storage, because the machines of one comparison may have no folder in common.
So a run is reduced where it was made: its scores at the KL targets, at the end of training, and its path.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from betahead.runs.machine import peak_gib
from betahead.worlds.measures import MEASURES
from betahead.worlds.outcome import Outcome

# Of the components: where a run ends.
_END = "reward"


@dataclass(frozen=True, eq=False, kw_only=True)
class Scores:
    """The numbers of runs, in the order of the item that they belong to.

    Args:
        values: by component; the last axis has one entry where prompts are nested in seeds, and all prompts where
            every seed is scored on the same ones.
        measured: further quantities, read where each component is read, in the order of `values`; nan where a run has
            no number.
        by_topic: every component on the prompts of each topic; no topics where they are not known or not kept.
        topic_noise: the label noise planted in each of these topics.
        path: means over prompts of reward, KL and win rate at every checkpoint.
        finite: False for a run that diverged.
        log_beta: mean log β per topic at the end; no topics where there is none.
        checkpoints: shares of training.
        seconds: that the runs took together.
        peak_gib: the most memory that a process has held which ran some of them.
    """

    values: Mapping[str, Float[np.ndarray, "runs units"]]
    measured: Mapping[str, Float[np.ndarray, "runs components"]]
    by_topic: Float[np.ndarray, "runs components topics"]
    topic_noise: tuple[float, ...]
    path: Float[np.ndarray, "runs checkpoints three"]
    finite: Bool[np.ndarray, " runs"]
    log_beta: Float[np.ndarray, "runs topics"]
    checkpoints: tuple[float, ...]
    seconds: float
    peak_gib: float

    def of(self, component: str) -> Float[np.ndarray, "runs units"]:
        """The values of a component; a measure is one too: a number for each run, read at its end."""
        if component in self.values:
            return self.values[component]
        return self.measured[component][:, [list(self.values).index(_END)]]

    def place(self, component: str) -> int:
        """Where in `measured` the measures of a component's runs stand; for a measure itself those at the end."""
        return list(self.values).index(component if component in self.values else _END)


@dataclass(frozen=True, eq=False)
class _Place:
    """A moment of each run: `share` of the way from one checkpoint to another."""

    before: Int[np.ndarray, "configs seeds"]
    after: Int[np.ndarray, "configs seeds"]
    share: Float[np.ndarray, "configs seeds"]

    def read(
        self, along: Float[np.ndarray, "configs seeds checkpoints units"]
    ) -> Float[np.ndarray, "configs seeds units"]:
        """What is there at that moment, on a straight line between the two checkpoints."""
        start, end = (
            np.take_along_axis(along, at[..., None, None], axis=2)[..., 0, :] for at in (self.before, self.after)
        )
        return np.where(self.share[..., None] > 0.0, start + self.share[..., None] * (end - start), start)


def scores_of(outcome: Outcome, targets: Sequence[float], kappas: Sequence[float]) -> Scores:
    """Reduce an outcome; its runs come configuration by configuration.

    Components: `gold_at_kl_I`, the reward where the run's mean KL first crosses the I-th target, interpolated between
    two checkpoints in √KL; a run that never gets there has its last reward, because it used less KL and that is what
    it has. `gold_minus_kl_I`: reward − κ·KL at the end of training. `reward`, `win_rate`: at the end. A method that is
    stopped ends where reward − κ·KL, or reward, is best on dev.

    A run that diverged counts with the worst it showed: for each prompt the least reward, win rate and reward − κ·KL of
    its finite checkpoints, of which the reference is one, so it is never worth more than no training at all. So does a
    measure that has a better side; one without has no number then.

    Args:
        outcome: of the world.
        targets: KL > 0 in nats.
        kappas: prices of a nat.
    """
    along = {"reward": outcome.reward, "win_rate": outcome.win_rate}
    # The numbers of a run that diverged may be infinite; they are replaced below.
    with np.errstate(invalid="ignore", over="ignore"):
        along |= {f"gold_minus_kl_{i}": outcome.reward - kappa * outcome.kl for i, kappa in enumerate(kappas)}
        places = {"reward": _stop(outcome, 0.0), "win_rate": _stop(outcome, 0.0)}
        places |= {f"gold_minus_kl_{i}": _stop(outcome, kappa) for i, kappa in enumerate(kappas)}
        places |= {f"gold_at_kl_{i}": _at_kl(outcome.kl, target) for i, target in enumerate(targets)}
        values = {name: place.read(along.get(name, outcome.reward)) for name, place in places.items()}
        path = np.stack([part.mean(-1) for part in (outcome.reward, outcome.kl, outcome.win_rate)], axis=-1)
    seen = np.asarray(np.isfinite(path).all(-1))
    assert seen[..., 0].all(), "the reference, the first checkpoint, must have finite scores"
    finite = outcome.finite & seen.all(-1)
    worst = {name: np.min(np.where(seen[..., None], whole, np.inf), axis=2) for name, whole in along.items()}
    values = {
        name: np.where(finite[..., None], value, worst.get(name, worst["reward"])) for name, value in values.items()
    }
    by_topic, topic_noise = _by_topic(outcome, values)
    if not outcome.same_prompts:
        values = {name: value.mean(-1, keepdims=True) for name, value in values.items()}
    log_beta = np.empty((*finite.shape, 0)) if outcome.log_beta is None else outcome.log_beta
    measured = {name: _measured(name, whole, list(places.values()), finite) for name, whole in outcome.measures.items()}
    return Scores(
        values={name: value.reshape(finite.size, -1) for name, value in values.items()},
        measured={name: value.reshape(finite.size, len(places)) for name, value in measured.items()},
        by_topic=by_topic.reshape(finite.size, len(places), -1),
        topic_noise=topic_noise,
        path=path.reshape(finite.size, *path.shape[2:]),
        finite=finite.ravel(),
        log_beta=log_beta.reshape(finite.size, log_beta.shape[-1]),
        checkpoints=outcome.checkpoints,
        seconds=outcome.seconds,
        peak_gib=peak_gib(),
    )


def over_prompts(scores: Scores) -> Scores:
    """The same with prompts averaged: all that selection needs."""
    return replace(
        scores,
        values={name: value.mean(-1, keepdims=True) for name, value in scores.values.items()},
        by_topic=scores.by_topic[..., :0],
        topic_noise=(),
    )


def joined(parts: Sequence[Scores], order: Sequence[int]) -> Scores:
    """The runs of several calls as one, in another order: run `order[i]` of all comes i-th."""
    first = parts[0]
    rows = np.asarray(order)
    return Scores(
        values={name: np.concatenate([part.values[name] for part in parts])[rows] for name in first.values},
        measured={name: np.concatenate([part.measured[name] for part in parts])[rows] for name in first.measured},
        by_topic=np.concatenate([part.by_topic for part in parts])[rows],
        topic_noise=first.topic_noise,
        path=np.concatenate([part.path for part in parts])[rows],
        finite=np.concatenate([part.finite for part in parts])[rows],
        log_beta=np.concatenate([part.log_beta for part in parts])[rows],
        checkpoints=first.checkpoints,
        seconds=sum(part.seconds for part in parts),
        peak_gib=max(part.peak_gib for part in parts),
    )


def to_text(scores: Scores) -> str:
    """The scores as text that a database keeps: a compressed archive of arrays in base64."""
    arrays = {
        "names": np.array(list(scores.values)),
        "values": np.stack(list(scores.values.values())),
        "measures": np.array(list(scores.measured), dtype=np.str_),
        "measured": np.array(list(scores.measured.values())),
        "by_topic": scores.by_topic,
        "topic_noise": np.array(scores.topic_noise),
        "path": scores.path,
        "finite": scores.finite,
        "log_beta": scores.log_beta,
        "checkpoints": np.array(scores.checkpoints),
        "seconds": np.array(scores.seconds),
        "peak_gib": np.array(scores.peak_gib),
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def from_text(text: str) -> Scores:
    """The scores that `to_text` wrote, bit by bit."""
    with np.load(io.BytesIO(base64.b64decode(text)), allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    return Scores(
        values={str(name): arrays["values"][number] for number, name in enumerate(arrays["names"])},
        measured={str(name): arrays["measured"][number] for number, name in enumerate(arrays["measures"])},
        by_topic=arrays["by_topic"],
        topic_noise=tuple(float(noise) for noise in arrays["topic_noise"]),
        path=arrays["path"],
        finite=arrays["finite"],
        log_beta=arrays["log_beta"],
        checkpoints=tuple(float(share) for share in arrays["checkpoints"]),
        seconds=float(arrays["seconds"]),
        peak_gib=float(arrays["peak_gib"]),
    )


def _stop(outcome: Outcome, kappa: float) -> _Place:
    """Where a run ends: at the last checkpoint, or for a method that is stopped at the first of the best on dev."""
    if outcome.dev is None:
        at = np.full(outcome.finite.shape, len(outcome.checkpoints) - 1)
    else:
        worth = outcome.dev[..., 0] - kappa * outcome.dev[..., 1]
        at = np.where(np.isfinite(worth), worth, -np.inf).argmax(-1)
    return _Place(at, at, np.zeros(at.shape))


def _at_kl(kl: Float[np.ndarray, "configs seeds checkpoints prompts"], target: float) -> _Place:
    """Where the mean KL of each run first crosses the target; its end where it never does.

    All prompts of a run are read at the same moment of its training, so their mean is the run's reward there.
    """
    root = np.sqrt(np.maximum(kl.mean(-1), 0.0))
    last = root.shape[-1] - 1
    wanted = np.sqrt(target)
    crosses = root[..., 1:] >= wanted
    reached = crosses.any(-1)
    after = np.where(reached, crosses.argmax(-1) + 1, last)
    before = np.where(reached, after - 1, last)
    low, high = (np.take_along_axis(root, at[..., None], axis=-1)[..., 0] for at in (before, after))
    return _Place(before, after, np.where(reached, (wanted - low) / np.where(high > low, high - low, 1.0), 0.0))


def _measured(
    name: str,
    along: Float[np.ndarray, "configs seeds checkpoints"],
    places: Sequence[_Place],
    finite: Bool[np.ndarray, "configs seeds"],
) -> Float[np.ndarray, "configs seeds components"]:
    """A measure where each component is read; the worst that a run which diverged showed, if one side is worse."""
    found = np.stack([place.read(along[..., None])[..., 0] for place in places], axis=-1)
    better = MEASURES[name].better
    if better is None:
        worst = np.full(finite.shape, np.nan)
    elif better == "higher":
        worst = np.min(np.where(np.isfinite(along), along, np.inf), axis=-1)
    else:
        worst = np.max(np.where(np.isfinite(along), along, -np.inf), axis=-1)
    return np.where(finite[..., None], found, worst[..., None])


def _by_topic(
    outcome: Outcome, values: Mapping[str, Float[np.ndarray, "configs seeds prompts"]]
) -> tuple[Float[np.ndarray, "configs seeds components topics"], tuple[float, ...]]:
    """The mean of every component over the prompts of each topic, and the noise of the topics."""
    if outcome.topics is None:
        return np.empty((*outcome.finite.shape, len(values), 0)), ()
    noise = outcome.topics.label_noise
    member = np.equal.outer(outcome.topics.of_prompt, np.arange(len(noise))).astype(np.float64)
    there = member.sum(axis=0) > 0  # few prompts may miss a topic
    member, noise = member[:, there], tuple(np.array(noise)[there].tolist())
    return np.stack(list(values.values()), axis=2) @ (member / member.sum(axis=0)), noise
