"""Where a budget reads the KL: its settings, their defaults, and which of them apply together."""

from typing import Any, Literal, get_args

from betahead.beta.head_settings import one_of, whole
from betahead.beta.kl_sampling import KLSampling
from betahead.errors import ConfigError

KLFrom = Literal["samples", "answers"]
"""What a KL is estimated from: the policy's own answers, or those of the pairs."""

# What a new estimate leaves of the moving average: the few answers of a step are noisier than samples are made, and a
# level that is told every few steps cannot wait for several of them.
KEPT = {"samples": 0.25, "answers": 0.8}
LEVEL_RATE = 0.15


def sampling_of(
    kl_from: KLFrom | None,
    *,
    kl_every: int | None,
    kl_prompts: int | None,
    kl_tokens: int | None,
    section: str = "learning.",
) -> KLSampling | None:
    """What is to be sampled, or None for estimates from the pairs' answers.

    Args:
        kl_from: `samples` when None.
        kl_every: 5 when None.
        kl_prompts: 16 when None.
        kl_tokens: 128 when None.
        section: where below `beta` these keys are, for messages.

    Raises:
        ConfigError: for a value out of range, or one that does not apply.
    """
    one_of(f"{section}kl_from", kl_from or "samples", get_args(KLFrom))
    given = {"kl_every": (kl_every, 5), "kl_prompts": (kl_prompts, 16), "kl_tokens": (kl_tokens, 128)}
    if kl_from == "answers":
        for name, (value, _) in given.items():
            if value is not None:
                raise ConfigError(
                    f"`beta.{section}{name}` applies only with {section}kl_from: samples, but is {value!r} here; "
                    "remove it."
                )
        return None
    every, prompts, tokens = (
        whole(f"{section}{name}", default if value is None else value) for name, (value, default) in given.items()
    )
    return KLSampling(every=every, prompts=prompts, max_new_tokens=tokens, key=f"beta.{section}kl_from")


def settings_of(sampling: KLSampling | None) -> dict[str, Any]:
    """The settings that `sampling_of` makes this of."""
    if sampling is None:
        return {"kl_from": "answers"}
    return {
        "kl_from": "samples",
        "kl_every": sampling.every,
        "kl_prompts": sampling.prompts,
        "kl_tokens": sampling.max_new_tokens,
    }
