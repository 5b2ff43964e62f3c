"""What changes a loss whatever its name: settings of the section `loss` that have a source of their own."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from betahead.losses import divergences, links, margin, objective
from betahead.losses.divergences import DIVERGENCES


@dataclass(frozen=True, kw_only=True)
class Modifier:
    """A row of the table.

    Args:
        title: the name its authors use.
        formula: what it puts in the place of what.
        reads: what it changes.
        source: paper and link.
        checked: whose code was read, as in `losses.table.Loss`.
        where: the function that computes it, or the class that does.
        defaults: names of settings with their values, as a configuration has them.
        said: the keys of the section `loss` in an example.
        in_trl: its name in `DPOConfig` where that is another.
        deviates: from the source, "" for nothing.
        refuses: combinations that are an error, each as a clause.
        aliases: other names that it is looked for by.
    """

    title: str
    formula: str
    reads: str
    source: str
    checked: str
    where: Callable[..., Any]
    defaults: Mapping[str, Any]
    said: Mapping[str, Any]
    in_trl: str = ""
    deviates: str = ""
    refuses: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()


MODIFIERS: Mapping[str, Modifier] = MappingProxyType(
    {
        "label_smoothing": Modifier(
            title="cDPO",
            formula="−(1 − e)·log σ(z) − e·log σ(−z) in the place of −log σ(z)",
            reads="margin",
            source="Mitchell 2023, A note on DPO with noisy preferences, https://ericmitchell.ai/cdpo.pdf",
            checked="code",
            where=links.sigmoid,
            defaults={"label_smoothing": 0.0},
            said={"kind": "sigmoid", "label_smoothing": 0.1},
            deviates="TRL's sigmoid ignores it; with robust and exo_pair e has the place that their formulas give it",
            refuses=("values outside of [0, 0.5)", "losses that refuse loss.label_smoothing"),
            aliases=("cdpo", "c_dpo"),
        ),
        "f_divergence_type": Modifier(
            title="f-DPO",
            formula=(
                "f′(u) in the place of log u, u = π(y|x)/π_ref(y|x)\n"
                "forward_kl: 1 − 1/u\n"
                "js_divergence: log(2u/(1 + u))\n"
                "alpha_divergence: (u^(α − 1) − 1)/(α − 1)"
            ),
            reads="log-ratios",
            source="Wang et al. 2023, Beyond Reverse KL, https://arxiv.org/abs/2309.16240",
            checked="TRL's code",
            where=divergences.forward_kl,
            defaults={"f_divergence_type": "reverse_kl", "f_alpha_divergence_coef": 0.5},
            said={"kind": "sigmoid", "f_divergence_type": "forward_kl"},
            deviates=(
                "constants are those at which f′(1) is 0, and the α-divergence has the sign at which α → 1 is the "
                "reverse KL, as in TRL"
            ),
            refuses=(
                "losses in which a term of the prompt would not cancel, or without a reference",
                "loss.f_alpha_divergence_coef with another than alpha_divergence",
            ),
            aliases=("f_dpo", *(name for name in DIVERGENCES if name != "reverse_kl")),
        ),
        "ld_alpha": Modifier(
            title="LD-DPO",
            formula=(
                "log π(y) = Σ_{t ≤ l} log π(y_t) + α·Σ_{t > l} log π(y_t), l the shorter answer's tokens\n"
                "the same of the reference"
            ),
            reads="log-ratios",
            source="Liu et al. 2024, Length Desensitization in DPO, https://arxiv.org/abs/2409.06411",
            checked="TRL's code",
            where=margin.answer_logps,
            defaults={"ld_alpha": None},
            said={"kind": "sigmoid", "ld_alpha": 0.5},
            refuses=(
                "values outside of [0, 1]",
                "loss.kind: sft alone, which compares no lengths",
                "data with the reference's columns but those of the common length",
            ),
            aliases=("ld_dpo",),
        ),
        "weights": Modifier(
            title="MPO",
            formula="Σ_k w_k · loss_k of several losses",
            reads="the losses of loss.kind",
            source="Wang et al. 2024, Mixed Preference Optimization, https://arxiv.org/abs/2411.10442",
            checked="TRL's code",
            where=objective.Objective,
            defaults={"weights": None},
            said={"kind": ["sigmoid", "bco_pair", "sft"], "weights": [0.8, 0.2, 1.0]},
            in_trl="loss_weights",
            deviates="the weight that a rule gives a pair is not that of its sft",
            refuses=("anything but one positive number for each loss",),
            aliases=("mpo", "loss_weights"),
        ),
    }
)
"""By the key of the section `loss`."""
