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

from betahead.worlds.outcome import Outcome


@dataclass(frozen=True, eq=False, kw_only=True)
class Scores:
    """The numbers of runs, in the order of the item that they belong to.

    Args:
        values: by component; the last axis has one entry where prompts are nested in seeds, and all prompts where
            every seed is scored on the same ones.
        path: means over prompts of reward, KL and win rate at every checkpoint.
        finite: False for a run that diverged.
        log_beta: mean log β per topic at the end; no topics where there is none.
        checkpoints: shares of training.
        seconds: that the runs took together.
    """

    values: Mapping[str, Float[np.ndarray, "runs units"]]
    path: Float[np.ndarray, "runs checkpoints three"]
    finite: Bool[np.ndarray, " runs"]
    log_beta: Float[np.ndarray, "runs topics"]
    checkpoints: tuple[float, ...]
    seconds: float


def scores_of(outcome: Outcome, targets: Sequence[float], kappas: Sequence[float]) -> Scores:
    """Reduce an outcome; its runs come configuration by configuration.

    Components: `gold_at_kl_I`, the reward where the run's mean KL first crosses the I-th target, interpolated between
    two checkpoints in √KL; a run that never gets there has its last reward, because it used less KL and that is what
    it has. `gold_minus_kl_I`: reward − κ·KL at the end of training. `reward`, `win_rate`: at the end. A method that is
    stopped ends where reward − κ·KL, or reward, is best on dev.

    A run that diverged counts with the worst it showed: for each prompt the least reward, win rate and reward − κ·KL of
    its finite checkpoints, of which the reference is one, so it is never worth more than no training at all.

    Args:
        outcome: of the world.
        targets: KL > 0 in nats.
        kappas: prices of a nat.
    """
    # The numbers of a run that diverged may be infinite; they are replaced below.
    with np.errstate(invalid="ignore", over="ignore"):
        along = {"reward": outcome.reward, "win_rate": outcome.win_rate}
        along |= {f"gold_minus_kl_{i}": outcome.reward - kappa * outcome.kl for i, kappa in enumerate(kappas)}
        stops = {"reward": _stop(outcome, 0.0), "win_rate": _stop(outcome, 0.0)}
        stops |= {f"gold_minus_kl_{i}": _stop(outcome, kappa) for i, kappa in enumerate(kappas)}
        values = {
            name: np.take_along_axis(whole, stops[name][..., None, None], axis=2)[..., 0, :]
            for name, whole in along.items()
        }
        values |= {f"gold_at_kl_{i}": at for i, at in enumerate(_at_kl(outcome.reward, outcome.kl, targets))}
        path = np.stack([part.mean(-1) for part in (outcome.reward, outcome.kl, outcome.win_rate)], axis=-1)
    seen = np.asarray(np.isfinite(path).all(-1))
    assert seen[..., 0].all(), "the reference, the first checkpoint, must have finite scores"
    finite = outcome.finite & seen.all(-1)
    worst = {name: np.min(np.where(seen[..., None], whole, np.inf), axis=2) for name, whole in along.items()}
    worst |= {name: worst["reward"] for name in values if name.startswith("gold_at_kl_")}
    values = {name: np.where(finite[..., None], value, worst[name]) for name, value in values.items()}
    if not outcome.same_prompts:
        values = {name: value.mean(-1, keepdims=True) for name, value in values.items()}
    log_beta = np.empty((*finite.shape, 0)) if outcome.log_beta is None else outcome.log_beta
    return Scores(
        values={name: value.reshape(finite.size, -1) for name, value in values.items()},
        path=path.reshape(finite.size, *path.shape[2:]),
        finite=finite.ravel(),
        log_beta=log_beta.reshape(finite.size, log_beta.shape[-1]),
        checkpoints=outcome.checkpoints,
        seconds=outcome.seconds,
    )


def over_prompts(scores: Scores) -> Scores:
    """The same with prompts averaged: all that selection needs."""
    return replace(scores, values={name: value.mean(-1, keepdims=True) for name, value in scores.values.items()})


def joined(parts: Sequence[Scores], order: Sequence[int]) -> Scores:
    """The runs of several calls as one, in another order: run `order[i]` of all comes i-th."""
    first = parts[0]
    rows = np.asarray(order)
    return Scores(
        values={name: np.concatenate([part.values[name] for part in parts])[rows] for name in first.values},
        path=np.concatenate([part.path for part in parts])[rows],
        finite=np.concatenate([part.finite for part in parts])[rows],
        log_beta=np.concatenate([part.log_beta for part in parts])[rows],
        checkpoints=first.checkpoints,
        seconds=sum(part.seconds for part in parts),
    )


def to_text(scores: Scores) -> str:
    """The scores as text that a database keeps: a compressed archive of arrays in base64."""
    arrays = {
        "names": np.array(list(scores.values)),
        "values": np.stack(list(scores.values.values())),
        "path": scores.path,
        "finite": scores.finite,
        "log_beta": scores.log_beta,
        "checkpoints": np.array(scores.checkpoints),
        "seconds": np.array(scores.seconds),
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
        path=arrays["path"],
        finite=arrays["finite"],
        log_beta=arrays["log_beta"],
        checkpoints=tuple(float(share) for share in arrays["checkpoints"]),
        seconds=float(arrays["seconds"]),
    )


def _stop(outcome: Outcome, kappa: float) -> Int[np.ndarray, "configs seeds"]:
    """The checkpoint that a run ends at: the last, or for a method that is stopped the first of the best on dev."""
    if outcome.dev is None:
        return np.full(outcome.finite.shape, len(outcome.checkpoints) - 1)
    worth = outcome.dev[..., 0] - kappa * outcome.dev[..., 1]
    return np.where(np.isfinite(worth), worth, -np.inf).argmax(-1)


def _at_kl(
    reward: Float[np.ndarray, "configs seeds checkpoints prompts"],
    kl: Float[np.ndarray, "configs seeds checkpoints prompts"],
    targets: Sequence[float],
) -> list[Float[np.ndarray, "configs seeds prompts"]]:
    """Each prompt's reward where the mean KL of its run first crosses each target; the last reward where it never does.

    All prompts of a run are read at the same moment of its training, so their mean is the run's reward there.
    """
    root = np.sqrt(np.maximum(kl.mean(-1), 0.0))
    last = root.shape[-1] - 1
    found: list[np.ndarray] = []
    for target in targets:
        wanted = np.sqrt(target)
        crosses = root[..., 1:] >= wanted
        reached = crosses.any(-1)
        after = np.where(reached, crosses.argmax(-1) + 1, last)[..., None]
        before = np.where(reached[..., None], after - 1, last)
        low, high = (np.take_along_axis(root, at, axis=-1) for at in (before, after))
        share = np.where(reached[..., None], (wanted - low) / np.where(high > low, high - low, 1.0), 0.0)
        start, end = (np.take_along_axis(reward, at[..., None], axis=2)[..., 0, :] for at in (before, after))
        found.append(start + share * (end - start))
    return found
