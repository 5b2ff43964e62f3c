from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny
import torch
from accelerate import DistributedType
from torch import nn

from betahead.errors import ConfigError
from betahead.train.optimizer import check_clipped_apart, clip_apart, give_rule_its_own_group


def test_the_rules_parameters_move_into_a_group_without_weight_decay() -> None:
    policy, rule = nn.Linear(2, 2), nn.Linear(3, 1)
    optimizer = torch.optim.AdamW([*policy.parameters(), *rule.parameters()], lr=1e-4, weight_decay=0.1)
    give_rule_its_own_group(optimizer, rule, 0.5)
    first, second = optimizer.param_groups
    assert [id(p) for p in first["params"]] == [id(p) for p in policy.parameters()]
    assert [id(p) for p in second["params"]] == [id(p) for p in rule.parameters()]
    assert (first["lr"], first["weight_decay"]) == (1e-4, 0.1)
    assert (second["lr"], second["weight_decay"]) == (0.5, 0.0)


def test_a_frozen_rule_gets_no_group() -> None:
    policy, rule = nn.Linear(2, 2), nn.Linear(3, 1).requires_grad_(False)
    optimizer = torch.optim.SGD(policy.parameters(), lr=0.1)
    give_rule_its_own_group(optimizer, rule, 0.5)
    assert len(optimizer.param_groups) == 1


def test_clipping_scales_to_the_norm_and_returns_the_one_before() -> None:
    parameter = nn.Parameter(torch.zeros(2))
    parameter.grad = torch.tensor([3.0, 4.0])
    assert clip_apart([parameter], 1.0).item() == pytest.approx(5.0)
    assert parameter.grad.norm().item() == pytest.approx(1.0, rel=1e-5)
    assert clip_apart([parameter], 2.0).item() == pytest.approx(1.0, rel=1e-5)
    assert parameter.grad.norm().item() == pytest.approx(1.0, rel=1e-5)


def test_without_gradients_there_is_nothing_to_clip() -> None:
    assert clip_apart([nn.Parameter(torch.zeros(2))], 1.0).item() == 0.0


@pytest.mark.parametrize(
    ("kind", "learns", "refused"), [("DEEPSPEED", True, True), ("DEEPSPEED", False, False), ("FSDP", True, False)]
)
def test_deepspeed_must_not_clip_policy_and_rule_by_one_norm(
    kind: str, learns: bool, refused: bool, tmp_path: Path
) -> None:
    rule = tiny.built(learning="joint" if learns else "none")
    args = tiny.arguments(tmp_path)
    accelerator = SimpleNamespace(distributed_type=DistributedType[kind])
    if not refused:
        check_clipped_apart(accelerator, rule, args)
        return
    with pytest.raises(ConfigError) as caught:
        check_clipped_apart(accelerator, rule, args)
    assert str(caught.value) == (
        "`max_grad_norm` must be 0 with DeepSpeed and a beta rule that learns, because DeepSpeed clips policy and rule "
        "by one norm, which would let the rule shrink the policy's step, but is 1.0 instead; set it to 0, where "
        "neither is clipped, or train with FSDP2."
    )
    args.max_grad_norm = 0.0
    check_clipped_apart(accelerator, rule, args)
