"""Every loss as a row of one table: what it reads, what it needs and which settings it has."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from torch import Tensor

from betahead.errors import ConfigError
from betahead.losses import anchor, links, on_batch, two_sided

Reads = Literal["margin", "log-ratios", "margins of both models", "chosen answer"]
"""What a loss is a function of: z = β·(h − target); both log-ratios and β; the margins of policy and reference, apart,
and β; the log-probability of the chosen answer."""


@dataclass(frozen=True, kw_only=True)
class Loss:
    """A row of the table.

    Args:
        loss: the function; its arguments are what `reads` says, then its settings by name.
        formula: of one pair, z the scaled margin, r the rewards β·log-ratio.
        reads: what it is a function of.
        source: paper and link.
        on_batch: the pairs of a pass act on one another, so that how a batch is cut changes the loss.
        per_token: log-ratios are divided by their answer's number of tokens.
        needs_reference: log-ratios are those to a reference, not the policy's own log-probabilities.
        smooths: whether it has a label smoothing, or cannot be without one.
        settings: names of its other settings.
        has_shift: it takes the running reward shift of `losses.reward_shift`.
        has_target: it moves the margin by a target of its own.
        other_divergences: an f-divergence other than the reverse KL has a meaning: it leaves a term of the prompt
            that must cancel.
        push_is_beta: where no log-ratio has moved, its slope by them is proportional to β, so that a weight of β₀/β
            makes it the same for every β.
        checked: whose code was read: the authors' own, `code`, or that of another package, such as `TRL's code`.
        beta: the β to begin with where DPO's 0.1 is none for this loss.
    """

    loss: Callable[..., Tensor]
    formula: str
    source: str
    reads: Reads = "margin"
    on_batch: bool = False
    per_token: bool = False
    needs_reference: bool = True
    smooths: Literal["no", "may", "must"] = "no"
    settings: tuple[str, ...] = ()
    has_shift: bool = False
    has_target: bool = False
    other_divergences: bool = False
    push_is_beta: bool = True
    checked: str = "TRL's code"
    beta: float | None = None


LOSSES: Mapping[str, Loss] = MappingProxyType(
    {
        "sigmoid": Loss(
            loss=links.sigmoid,
            formula="−log σ(z)",
            source="Rafailov et al. 2023, DPO, https://arxiv.org/abs/2305.18290",
            smooths="may",
            other_divergences=True,
            checked="code",
        ),
        "sigmoid_norm": Loss(
            loss=links.sigmoid,
            formula="−log σ(z), h per token",
            source="Lambert et al. 2024, Tülu 3, https://arxiv.org/abs/2411.15124",
            per_token=True,
            smooths="may",
            other_divergences=True,
        ),
        "robust": Loss(
            loss=links.robust,
            formula="(−(1 − e)·log σ(z) + e·log σ(−z)) / (1 − 2e)",
            source="Ray Chowdhury et al. 2024, Provably Robust DPO, https://arxiv.org/abs/2403.00409",
            smooths="may",
            other_divergences=True,
        ),
        "hinge": Loss(
            loss=links.hinge,
            formula="max(0, 1 − z)",
            source="Zhao et al. 2023, SLiC-HF, https://arxiv.org/abs/2305.10425",
            other_divergences=True,
        ),
        "ipo": Loss(
            loss=links.ipo,
            formula="((z − ½)/β)², h per token",
            push_is_beta=False,
            source="Azar et al. 2023, IPO, https://arxiv.org/abs/2310.12036",
            per_token=True,
            other_divergences=True,
        ),
        "exo_pair": Loss(
            loss=links.exo_pair,
            formula="KL((σ(z), σ(−z)) ‖ (1 − e, e))",
            source="Ji et al. 2024, EXO, https://arxiv.org/abs/2402.00856",
            smooths="must",
            other_divergences=True,
        ),
        "discopop": Loss(
            loss=links.discopop,
            formula="−(1 − g)·log σ(z) + g·exp(−z), g = σ(z/τ)",
            source="Lu et al. 2024, DiscoPOP, https://arxiv.org/abs/2406.08414",
            settings=("discopop_tau",),
            other_divergences=True,
        ),
        "simpo": Loss(
            loss=links.simpo,
            formula="−log σ(z − γ), h per token, without reference",
            source="Meng et al. 2024, SimPO, https://arxiv.org/abs/2405.14734",
            per_token=True,
            needs_reference=False,
            smooths="may",
            settings=("simpo_gamma",),
            checked="code",
            beta=2.0,
            has_target=True,
        ),
        "nca_pair": Loss(
            loss=two_sided.nca_pair,
            formula="−log σ(r_w) − ½·log σ(−r_w) − ½·log σ(−r_l)",
            source="Chen et al. 2024, NCA, https://arxiv.org/abs/2402.05369",
            reads="log-ratios",
        ),
        "bco_pair": Loss(
            loss=two_sided.bco_pair,
            formula="−log σ(r_w) − log σ(−r_l)",
            source="Jung et al. 2024, BCO, https://arxiv.org/abs/2404.04656",
            reads="log-ratios",
        ),
        "bco": Loss(
            loss=two_sided.bco,
            formula="−log σ(r_w − δ) − log σ(δ − r_l), δ the running mean of the rewards",
            source="Jung et al. 2024, BCO, https://arxiv.org/abs/2404.04656",
            reads="log-ratios",
            has_shift=True,
            checked="LLaMA-Factory's code",
        ),
        "sppo_hard": Loss(
            loss=two_sided.sppo_hard,
            formula="((r_w − ½)/β)² + ((r_l + ½)/β)²",
            push_is_beta=False,
            source="Wu et al. 2024, SPPO, https://arxiv.org/abs/2405.00675",
            reads="log-ratios",
        ),
        "apo_zero": Loss(
            loss=two_sided.apo_zero,
            formula="σ(−r_w) + σ(r_l)",
            source="D'Oosterlinck et al. 2024, APO, https://arxiv.org/abs/2408.06266",
            reads="log-ratios",
        ),
        "apo_down": Loss(
            loss=two_sided.apo_down,
            formula="σ(r_w) + σ(r_l − r_w)",
            source="D'Oosterlinck et al. 2024, APO, https://arxiv.org/abs/2408.06266",
            reads="log-ratios",
        ),
        "cal_dpo": Loss(
            loss=two_sided.cal_dpo,
            formula="−log σ(h) + ½·((r_w − ½)/β)² + ½·((r_l + ½)/β)²",
            push_is_beta=False,
            source="Xiao et al. 2024, Cal-DPO, https://arxiv.org/abs/2412.14516",
            reads="log-ratios",
            checked="code",
        ),
        "dr_dpo": Loss(
            loss=on_batch.dr_dpo,
            formula="−β′·log mean exp(log σ(z)/β′)",
            source="Wu et al. 2024, Dr. DPO, https://arxiv.org/abs/2407.07880",
            on_batch=True,
            smooths="may",
            settings=("dr_dpo_beta",),
            other_divergences=True,
            checked="code",
        ),
        "aot": Loss(
            loss=on_batch.aot,
            formula="−log σ(sorted β·m_policy − sorted β·m_reference), m = log π(y_w) − log π(y_l)",
            source="Melnyk et al. 2024, AOT, https://arxiv.org/abs/2406.05882",
            reads="margins of both models",
            on_batch=True,
            smooths="may",
        ),
        "aot_unpaired": Loss(
            loss=on_batch.aot_unpaired,
            formula="−log σ(sorted r_w − sorted r_l)",
            source="Melnyk et al. 2024, AOT, https://arxiv.org/abs/2406.05882",
            reads="log-ratios",
            on_batch=True,
            smooths="may",
        ),
        "sft": Loss(
            loss=anchor.sft,
            formula="−mean over tokens of log π(y_w)",
            source="Pang et al. 2024, Iterative RPO, https://arxiv.org/abs/2404.19733",
            reads="chosen answer",
            on_batch=True,
            needs_reference=False,
            other_divergences=True,
        ),
    }
)


def loss_named(name: str) -> Loss:
    """The row of that name.

    Raises:
        ConfigError: with all names, when there is none.
    """
    if name not in LOSSES:
        raise ConfigError(f"`loss.kind` must be one of {', '.join(sorted(LOSSES))}, but is {name!r} instead.")
    return LOSSES[name]
