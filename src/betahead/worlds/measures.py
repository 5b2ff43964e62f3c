"""The quantities that are measured of a run beside gold and KL: one line each, with unit and direction."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Better = Literal["higher", "lower"]
Group = Literal["answers", "held-out pairs", "retention", "compute"]


@dataclass(frozen=True, kw_only=True)
class Measure:
    """What a quantity is.

    Args:
        unit: as tables print it.
        group: of the table that it stands in.
        better: which way is better, or None where neither is; only a quantity with a direction can decide.
        summary: one line for tables.
    """

    unit: str
    group: Group
    better: Better | None = None
    summary: str


MEASURES: Mapping[str, Measure] = MappingProxyType(
    {
        "answer_tokens": Measure(unit="tokens", group="answers", summary="length of the policy's own answers"),
        "cut": Measure(unit="share", group="answers", summary="answers without an end within the longest length"),
        "kl_error": Measure(unit="nats", group="answers", summary="standard error of the KL over prompts"),
        "chosen_shift": Measure(
            unit="nats", group="held-out pairs", summary="log π(y)/π_ref(y) of the answer that the label prefers"
        ),
        "rejected_shift": Measure(unit="nats", group="held-out pairs", summary="that of the other answer"),
        "both_down": Measure(
            unit="share", group="held-out pairs", summary="pairs of which both answers have become less likely"
        ),
        "held_out_accuracy": Measure(
            unit="share", group="held-out pairs", better="higher", summary="labels with h on their side; ties half"
        ),
        "held_out_nll": Measure(unit="nats", group="held-out pairs", better="lower", summary="NLL of σ(β(x)·h)"),
        "held_out_brier": Measure(unit="", group="held-out pairs", better="lower", summary="Brier score of σ(β(x)·h)"),
        "held_out_ece": Measure(
            unit="", group="held-out pairs", better="lower", summary="calibration error of σ(β(x)·h), 15 bins"
        ),
        "held_out_slope": Measure(
            unit="", group="held-out pairs", summary="a with the least NLL of σ(a·β(x)·h); below 1 is too sure"
        ),
        "tempered_nll": Measure(
            unit="nats", group="held-out pairs", better="lower", summary="NLL with one temperature fitted on dev pairs"
        ),
        "tempered_ece": Measure(
            unit="", group="held-out pairs", better="lower", summary="calibration error with that temperature"
        ),
        "unrelated_kl": Measure(
            unit="nats", group="retention", better="lower", summary="KL to the reference where no pair came from"
        ),
        "unrelated_nll_rise": Measure(
            unit="nats",
            group="retention",
            better="lower",
            summary="by how much the reference's own answers have become less likely there",
        ),
        "trained_tokens": Measure(unit="tokens", group="compute", summary="prompt and answer tokens trained on"),
    }
)
