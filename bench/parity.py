"""Shared against separate road on one batch: by how much loss and gradients differ."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from bench.arms import FIXED
from bench.batches import Row
from bench.loop import autocast, built_rule, collated, scored


def loss_and_gradients(policy: nn.Module, batch: dict[str, Any], device: str) -> Any:
    """The mean loss, and the gradient of every weight that has one, on the CPU."""
    from betahead.forward.model import PreferenceModel

    model = PreferenceModel(policy, built_rule(FIXED, policy, device))
    policy.zero_grad(set_to_none=True)
    with autocast(policy, device):
        loss = model(**batch)["losses"].mean()
    loss.backward()
    gradients = {name: p.grad.float().cpu() for name, p in policy.named_parameters() if p.grad is not None}
    policy.zero_grad(set_to_none=True)
    return float(loss), gradients


def parity(policy: nn.Module, rows: Sequence[Row], device: str) -> dict[str, float]:
    """How far the two roads are apart, in the dtype of the policy.

    The reference's columns are moved by a few nats, so that the loss is not at its symmetric point.

    Returns:
        `loss`, the difference of the mean losses over the loss; `gradient`, over all weights the largest difference of
        an entry over the largest entry of its tensor.
    """
    rule = built_rule(FIXED, policy, device)
    plain = scored(policy, rule, collated(rows, "separate", device), device)
    shift = torch.linspace(-3, 3, len(rows), device=device)
    columns = {
        "ref_chosen_logps": plain["ref_chosen_logps"] + shift,
        "ref_rejected_logps": plain["ref_rejected_logps"],
    }
    policy.train()
    loss, shared = loss_and_gradients(policy, {**collated(rows, "shared", device), **columns}, device)
    wanted, separate = loss_and_gradients(policy, {**plain, **columns}, device)
    assert shared.keys() == separate.keys()
    apart = [
        float((shared[name] - separate[name]).abs().max() / largest)
        for name in shared
        if (largest := separate[name].abs().max()) > 0
    ]
    return {"loss": abs(loss - wanted) / abs(wanted), "gradient": max(apart)}
