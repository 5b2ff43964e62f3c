"""Shared against separate road on one batch: by how much losses and gradients differ, and which is nearer the truth."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bench.arms import FIXED
from bench.batches import Row
from bench.kernels_seen import kernels_seen
from bench.loop import autocast, built_rule, collated, scored

HALF_UNIT = 2.0**-9
"""Half a unit in the last place of bfloat16, relative: no error counts as less than that."""


@dataclass(frozen=True, kw_only=True)
class Slopes:
    """What a road makes of a batch, on the CPU in float32.

    Args:
        losses: one a pair.
        gradients: of their mean, by the name of each weight that has one.
    """

    losses: Tensor
    gradients: Mapping[str, Tensor]


def slopes(policy: nn.Module, batch: dict[str, Any], device: str) -> Slopes:
    """Losses and gradients of a batch in the dtype of the policy."""
    from betahead.forward.model import PreferenceModel

    model = PreferenceModel(policy, built_rule(FIXED, policy, device))
    policy.zero_grad(set_to_none=True)
    with autocast(policy, device):
        losses = model(**batch)["losses"]
        loss = losses.mean()
    loss.backward()
    gradients = {name: p.grad.float().cpu() for name, p in policy.named_parameters() if p.grad is not None}
    policy.zero_grad(set_to_none=True)
    return Slopes(losses=losses.detach().float().cpu(), gradients=gradients)


def apart(found: Slopes, wanted: Slopes) -> dict[str, float]:
    """How far two results are from each other.

    Returns:
        `loss`, the difference of the mean losses over the loss; `gradient`, over all weights the largest difference of
        an entry over the largest entry of its tensor.
    """
    assert found.gradients.keys() == wanted.gradients.keys()
    by_weight = [
        float((found.gradients[name] - gradient).abs().max() / largest)
        for name, gradient in wanted.gradients.items()
        if (largest := gradient.abs().max()) > 0
    ]
    loss, true = float(found.losses.mean()), float(wanted.losses.mean())
    return {"loss": abs(loss - true) / abs(true), "gradient": max(by_weight)}


def error(found: Slopes, truth: Slopes) -> dict[str, float]:
    """How far a result is from the truth: root mean squares over those of the truth, of pairs' losses and of gradients.

    One number over all entries, not the largest: two roundings are compared, and a largest one is chance.
    """
    off, whole = 0.0, 0.0
    for name, gradient in truth.gradients.items():
        off += float((found.gradients[name] - gradient).square().sum(dtype=torch.float64))
        whole += float(gradient.square().sum(dtype=torch.float64))
    loss = (found.losses - truth.losses).square().mean() / truth.losses.square().mean()
    return {"loss": float(loss.sqrt()), "gradient": (off / whole) ** 0.5}


def times_the_plain_error(shared: Mapping[str, float], plain: Mapping[str, float]) -> dict[str, float]:
    """The shared road's error over the plain road's."""
    return {
        "loss": shared["loss"] / max(plain["loss"], HALF_UNIT),
        "gradient": shared["gradient"] / max(plain["gradient"], HALF_UNIT),
    }


def parity(policy: nn.Module, rows: Sequence[Row], device: str) -> dict[str, Any]:
    """How far the two roads are apart in the dtype of the policy; in half precision also how far each is from float32.

    The reference's columns are moved by a few nats, so that the loss is not at its symmetric point. A policy in half
    precision is left in float32, with the same weights.

    Returns:
        `loss` and `gradient` as in `apart`, `kernels` of the shared road; in half precision `errors` of both roads and
        `times` (see `times_the_plain_error`).
    """
    half = any(p.dtype == torch.bfloat16 for p in policy.parameters())
    rule = built_rule(FIXED, policy, device)
    plain = scored(policy, rule, collated(rows, "separate", device), device)
    shift = torch.linspace(-3, 3, len(rows), device=device)
    columns = {
        "ref_chosen_logps": plain["ref_chosen_logps"] + shift,
        "ref_rejected_logps": plain["ref_rejected_logps"],
    }
    policy.train()
    with kernels_seen() as kernels:
        shared = slopes(policy, {**collated(rows, "shared", device), **columns}, device)
    separate = slopes(policy, {**plain, **columns}, device)
    found: dict[str, Any] = {**apart(shared, separate), "kernels": sorted(kernels)}
    if not half:
        return found
    truth = slopes(policy.float(), {**plain, **columns}, device)
    errors = {"shared": error(shared, truth), "separate": error(separate, truth)}
    return {**found, "errors": errors, "times": times_the_plain_error(errors["shared"], errors["separate"])}
