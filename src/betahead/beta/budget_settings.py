"""Where a budget reads the KL: its settings, their defaults, and which of them apply together."""

from typing import Any, Literal, get_args

from betahead.beta.head_settings import one_of, whole
from betahead.beta.kl_sampling import KLSampling
from betahead.errors import ConfigError

KLFrom = Literal["samples", "answers"]
"""What a KL is estimated from: the policy's own answers, or those of the pairs."""


def sampling_of(
    kl_from: KLFrom | None, *, kl_every: int | None, kl_prompts: int | None, kl_tokens: int | None
) -> KLSampling | None:
    """What is to be sampled, or None for estimates from the pairs' answers.

    Args:
        kl_from: `samples` when None.
        kl_every: 10 when None.
        kl_prompts: 16 when None.
        kl_tokens: 128 when None.

    Raises:
        ConfigError: for a value out of range, or one that does not apply.
    """
    one_of("learning.kl_from", kl_from or "samples", get_args(KLFrom))
    given = {"kl_every": (kl_every, 10), "kl_prompts": (kl_prompts, 16), "kl_tokens": (kl_tokens, 128)}
    if kl_from == "answers":
        for name, (value, _) in given.items():
            if value is not None:
                raise ConfigError(
                    f"`beta.learning.{name}` applies only with learning.kl_from: samples, but is {value!r} here; "
                    "remove it."
                )
        return None
    every, prompts, tokens = (
        whole(f"learning.{name}", default if value is None else value) for name, (value, default) in given.items()
    )
    return KLSampling(every=every, prompts=prompts, max_new_tokens=tokens)


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
