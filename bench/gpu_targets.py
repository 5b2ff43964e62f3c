"""What was to be reached on one CUDA device, as data."""

from bench.targets import Figure, Results, Target, dearer_than_counted, median_ratio, share_of_matmul


def parity_gradient(results: Results) -> float | None:
    """Largest relative difference of any gradient between the two roads, all weights, float32."""
    return results["parity"].get("gpu-full", {}).get("float32", {}).get("gradient")


def times_the_plain_error(geometry: str, figure: str) -> Figure:
    """The shared road's error in bfloat16 over the plain road's, both against the plain road in float32."""

    def found(results: Results) -> float | None:
        return results["parity"].get(geometry, {}).get("bfloat16", {}).get("times", {}).get(figure)

    return found


GPU_TARGETS: tuple[Target, ...] = (
    Target(
        title="shared against separate: largest gradient difference, float32",
        bound=1e-4,
        side="most",
        figure=parity_gradient,
    ),
    *(
        Target(
            title=f"shared road's bfloat16 error over the plain road's own: {figure}, {what}",
            bound=2.0,
            side="most",
            figure=times_the_plain_error(geometry, figure),
        )
        for geometry, what in (("gpu-full", "all weights"), ("gpu-lora", "LoRA"))
        for figure in ("loss", "gradient")
    ),
    Target(
        title="pairs/s over TRL default",
        bound=2.0,
        side="least",
        figure=median_ratio("gpu-full", "fixed", "trl-default", "speed"),
    ),
    Target(
        title="pairs/s over TRL's best settings, same grouped batches",
        bound=1.4,
        side="least",
        figure=median_ratio("gpu-full", "fixed-grouped", "trl-best", "speed"),
    ),
    Target(
        title="share of the measured bfloat16 matmul rate",
        bound=0.45,
        side="least",
        figure=share_of_matmul("gpu-full", "fixed"),
    ),
    Target(
        title="learned β beyond its counted operations, share of a fixed-β step",
        bound=0.01,
        side="most",
        figure=dearer_than_counted("gpu-full", "learned-policy", "fixed"),
    ),
    Target(
        title="peak memory over TRL default",
        bound=0.7,
        side="most",
        figure=median_ratio("gpu-full", "fixed", "trl-default", "memory"),
    ),
    Target(
        title="peak memory over TRL's best settings",
        bound=0.7,
        side="most",
        figure=median_ratio("gpu-full", "fixed-grouped", "trl-best", "memory"),
    ),
)
