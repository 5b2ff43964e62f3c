"""What is compared: one row per arm.

TRL 1.16.0 on a CPU. `default` is its defaults with float32 arithmetic, which every arm has (TRL's own default, bfloat16
autocast, computes something else): gradient checkpointing on, the reference run at every step. `best` is what was found
to make a step cheapest without changing what is computed: the reference scored beforehand, gradient checkpointing off,
batches of like lengths. Tried on a CPU and left off: `padding_free` (it says that it is unavailable, and pads),
`use_liger_kernel` (refused: its package needs Triton), `activation_offloading` (fails without an accelerator),
`torch_compile` (two layers of 32 were not compiled within two minutes).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way to train on the same batches.

    Args:
        name: distinct among all arms; names it in the results.
        title: for the table.
        library: whose `DPOTrainer`.
        settings: what its `DPOConfig` gets beyond what all arms share.
        forward: our road; None for TRL.
        ppl_from: whose perplexity a learned β reads; None for a fixed β.
        order: `random` or `grouped` batches: the ones of a shuffled epoch, or of one grouped by length.
        passes: how often a run walks over the counted steps; quick arms walk often, so that a step is well measured.
    """

    name: str
    title: str
    library: Literal["trl", "betahead"]
    settings: Mapping[str, Any] = field(default_factory=dict)
    forward: Literal["separate", "shared"] | None = None
    ppl_from: Literal["policy", "reference"] | None = None
    order: Literal["random", "grouped"] = "random"
    passes: int = 1

    @property
    def live_reference(self) -> bool:
        """Whether the reference runs at every step."""
        return not self.settings.get("precompute_ref_log_probs", self.library == "betahead")


TRL_DEFAULT = Arm(
    name="trl-default",
    title="TRL 1.16.0, default",
    library="trl",
    settings={"gradient_checkpointing": True, "precompute_ref_log_probs": False},
)
TRL_BEST = Arm(
    name="trl-best",
    title="TRL 1.16.0, best settings",
    library="trl",
    settings={"gradient_checkpointing": False, "precompute_ref_log_probs": True},
    order="grouped",
)
PLAIN = Arm(name="plain", title="ours, plain road", library="betahead", forward="separate")
FIXED = Arm(name="fixed", title="ours, fixed β", library="betahead", forward="shared", passes=6)
FIXED_GROUPED = Arm(
    name="fixed-grouped",
    title="ours, fixed β, grouped",
    library="betahead",
    forward="shared",
    order="grouped",
    passes=6,
)
LEARNED_POLICY = Arm(
    name="learned-policy",
    title="ours, learned β (policy's PPL)",
    library="betahead",
    forward="shared",
    ppl_from="policy",
    passes=6,
)
LEARNED_REFERENCE = Arm(
    name="learned-reference",
    title="ours, learned β (reference's PPL)",
    library="betahead",
    forward="shared",
    ppl_from="reference",
    passes=6,
)

ARMS: dict[str, Arm] = {
    arm.name: arm for arm in (TRL_DEFAULT, TRL_BEST, PLAIN, FIXED, FIXED_GROUPED, LEARNED_POLICY, LEARNED_REFERENCE)
}
