"""Our engine in a plain training loop, for machines that lack what `DPOTrainer` needs beside torch and transformers."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from bench.arms import Arm
from bench.batches import Row
from bench.carrier import PAD_ID
from bench.rules import rule_of


@dataclass
class Looped:
    """What the loop leaves: the moments at which steps ended, the first loss, and what happened once."""

    moments: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    reference_seconds: float = 0.0
    calibration_seconds: float = 0.0


def with_ppl_mask(rows: Sequence[Row]) -> list[Row]:
    """The rows with every prompt token that has a predecessor counted for log PPL."""
    return [{**row, "ppl_mask": [False] + [True] * (len(row["prompt_ids"]) - 1)} for row in rows]


def built_rule(arm: Arm, policy: nn.Module, device: str) -> Any:
    """The arm's rule, its head built for this policy."""
    rule = rule_of(arm)
    rule.build(policy.config.hidden_size, seed=0)
    return rule.to(device)


def collated(rows: Sequence[Row], road: str, device: str) -> dict[str, Any]:
    """The batch of these rows for a road, on the device."""
    from betahead.data.collate import PairCollator
    from betahead.data.pack import PackedCollator
    from betahead.types import on_device

    collate = PackedCollator() if road == "shared" else PairCollator(pad_token_id=PAD_ID)
    return on_device(collate(with_ppl_mask(rows)), torch.device(device))


def now(device: str) -> float:
    """The time, once the device is done."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def autocast(policy: nn.Module, device: str) -> torch.autocast:
    """bfloat16 where torch thinks it safe, for a policy that is not in float32 on purpose."""
    half = any(p.dtype == torch.bfloat16 for p in policy.parameters())
    return torch.autocast(device, dtype=torch.bfloat16, enabled=half)


def scored(policy: nn.Module, rule: Any, batch: dict[str, Any], device: str) -> dict[str, Any]:
    """The batch with the columns of the reference, which is the policy before training."""
    from betahead.reference.frozen import FrozenReference
    from betahead.types import bundled

    reference = FrozenReference(policy, wants_log_ppl=rule.ppl_from == "reference")
    with autocast(policy, device):
        return {**batch, **reference.scores(bundled(batch)).columns()}


def train(arm: Arm, batches: Sequence[Sequence[Row]], policy: nn.Module, device: str) -> Looped:
    """Walk over the batches `arm.passes` times with AdamW, as `DPOTrainer` would."""
    from betahead.forward.model import PreferenceModel

    assert arm.forward is not None
    found = Looped()
    rule = built_rule(arm, policy, device)
    model = PreferenceModel(policy, rule)
    start = now(device)
    policy.eval()
    ready = [scored(policy, rule, collated(batch, arm.forward, device), device) for batch in batches]
    found.reference_seconds = now(device) - start
    model.train()
    weights = [p for p in policy.parameters() if p.requires_grad]
    groups = [{"params": weights, "lr": 1e-6}]
    if arm.ppl_from is not None:
        groups.append({"params": list(rule.parameters()), "lr": 1e-3, "weight_decay": 0.0})
    optimizer = torch.optim.AdamW(groups, fused=True)
    for _ in range(arm.passes):
        for batch in ready:
            with autocast(policy, device):
                loss = model(**batch)["losses"].mean()
            loss.backward()
            nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            found.losses = found.losses or [float(loss)]
            found.moments.append(now(device))
    return found
