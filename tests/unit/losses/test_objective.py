import re
from typing import Any

import pytest
import torch

from betahead.errors import ConfigError
from betahead.losses.objective import Objective, objective_of
from betahead.losses.preference import preference_loss
from betahead.losses.table import LOSSES
from betahead.types import PairLogps, ReferenceScores, Shaping

PAIRS = 5


def logps(seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[PairLogps, ReferenceScores]:
    """Random log-probabilities of both models, the common part of each among them."""
    rng = torch.Generator().manual_seed(seed)

    def draw() -> torch.Tensor:
        return -8 * torch.rand(PAIRS, generator=rng, dtype=dtype)

    chosen, rejected, theirs, others = draw(), draw(), draw(), draw()
    policy = PairLogps(
        chosen=chosen,
        rejected=rejected,
        chosen_tokens=torch.randint(1, 9, (PAIRS,), generator=rng),
        rejected_tokens=torch.randint(1, 9, (PAIRS,), generator=rng),
        chosen_common=0.3 * chosen,
        rejected_common=0.7 * rejected,
    )
    reference = ReferenceScores(
        chosen_logps=theirs,
        rejected_logps=others,
        chosen_common_logps=0.4 * theirs,
        rejected_common_logps=0.9 * others,
    )
    return policy, reference


def shaping(**slots: torch.Tensor) -> Shaping:
    zeros = torch.zeros(PAIRS, dtype=torch.float64)
    return Shaping(**({"beta": zeros + 0.3, "target": zeros, "weight": zeros + 1, "penalty": zeros} | slots))


def values(objective: Objective, made: Shaping | None = None) -> torch.Tensor:
    shift = torch.tensor(0.2) if objective.has_shift else None
    return objective.losses(*logps(), made or shaping(), shift=shift)


def named(kind: str, **settings: Any) -> Objective:
    return objective_of(kind, label_smoothing=1e-3 if LOSSES[kind].smooths == "must" else 0.0, **settings)


@pytest.mark.parametrize("kind", sorted(kind for kind, row in LOSSES.items() if row.reads == "margin"))
def test_a_loss_of_the_margin_is_the_one_equation(kind: str) -> None:
    rng = torch.Generator().manual_seed(1)
    slots = {name: torch.rand(PAIRS, generator=rng, dtype=torch.float64) for name in vars(shaping())}
    made, objective = shaping(**slots), named(kind)
    chosen, rejected = objective.sides(*logps())
    smoothing = objective.settings.label_smoothing
    expected = preference_loss(chosen - rejected, made, kind=kind, label_smoothing=smoothing)
    torch.testing.assert_close(values(objective, made), expected)


@pytest.mark.parametrize("kind", sorted(kind for kind, row in LOSSES.items() if row.reads != "margin"))
def test_preference_loss_sends_what_is_no_loss_of_the_margin_elsewhere(kind: str) -> None:
    with pytest.raises(ConfigError, match=r"^`loss\.kind` must be a loss of the margin alone \(discopop, .*objective"):
        preference_loss(torch.zeros(PAIRS), shaping(), kind=kind)


def test_several_losses_are_their_weighted_sum_and_an_anchor_is_not_weighed_by_the_pair() -> None:
    weight, penalty = torch.arange(5.0, dtype=torch.float64), torch.full((PAIRS,), 0.25, dtype=torch.float64)
    made = shaping(weight=weight, penalty=penalty)
    mixed = values(objective_of(["sigmoid", "bco_pair", "sft"], [0.8, 0.2, 1.5]), made)
    parts = [values(objective_of(kind)) for kind in ("sigmoid", "bco_pair", "sft")]
    torch.testing.assert_close(mixed, weight * (0.8 * parts[0] + 0.2 * parts[1]) + penalty + 1.5 * parts[2])


def test_the_anchor_alone_is_the_mean_over_the_tokens_of_the_chosen_answers() -> None:
    policy, _ = logps()
    found = objective_of("sft").losses(policy, None, shaping())
    torch.testing.assert_close(found.mean(), -policy.chosen.sum() / policy.chosen_tokens.sum())


def test_losses_without_a_reference_do_not_read_one() -> None:
    policy, reference = logps()
    objective = objective_of(["simpo", "sft"])
    assert not objective.needs_reference
    assert torch.equal(objective.losses(policy, None, shaping()), objective.losses(policy, reference, shaping()))
    assert objective_of(["simpo", "sigmoid"]).needs_reference


def test_the_margin_is_that_of_the_first_loss_that_compares_the_answers() -> None:
    policy, reference = logps()
    chosen, _ = objective_of(["sft", "ipo", "sigmoid"]).sides(policy, reference)
    torch.testing.assert_close(chosen, (policy.chosen - reference.chosen_logps) / policy.chosen_tokens)
    assert objective_of(["sft", "ipo"]).unit == "nats per token"
    assert objective_of("sigmoid").unit == "nats"
    assert objective_of("sigmoid", f_divergence_type="forward_kl").unit == "f′ of forward_kl"


def test_length_desensitizing_leaves_a_share_of_what_the_longer_answer_has_more() -> None:
    policy, reference = logps()
    objective = objective_of("sigmoid", ld_alpha=0.25)
    assert objective.needs_common and not objective_of("sigmoid").needs_common
    chosen, rejected = objective.sides(policy, reference)
    ours, theirs = 0.3 + 0.25 * 0.7, 0.4 + 0.25 * 0.6
    torch.testing.assert_close(chosen, ours * policy.chosen - theirs * reference.chosen_logps)
    ours, theirs = 0.7 + 0.25 * 0.3, 0.9 + 0.25 * 0.1
    torch.testing.assert_close(rejected, ours * policy.rejected - theirs * reference.rejected_logps)
    torch.testing.assert_close(values(objective_of("aot", ld_alpha=1.0)), values(objective_of("aot")))


@pytest.mark.parametrize(
    ("kind", "weights", "message"),
    [
        ([], None, "`loss.kind` must be the name of a loss or a list of names, but is [] instead."),
        (["sft", 3], None, "`loss.kind` must be the name of a loss or a list of names, but is ['sft', 3] instead."),
        (
            ["ipo", "sft", "ipo"],
            None,
            "`loss.kind` must name every loss once, but is ['ipo', 'sft', 'ipo'] instead.",
        ),
        *(
            (
                ["ipo", "sft"],
                weights,
                f"`loss.weights` must be a list of one positive number for each of ipo, sft, but is {weights} instead.",
            )
            for weights in ([1.0], [1.0, 0.0], [1.0, float("inf")], [True, 1.0])
        ),
        *(
            (["ipo", "sft"], weights, f"`loss.weights` must be from 1e-12 to 1e12, but is {weights} instead.")
            for weights in ([1.0, 1e-30], [1e30, 1.0])
        ),
    ],
)
def test_names_and_weights_that_do_not_fit_are_refused(kind: Any, weights: Any, message: str, unchecked: None) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        objective_of(kind, weights)
