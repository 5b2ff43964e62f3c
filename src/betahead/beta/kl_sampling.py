"""How a rule asks the trainer to measure how far the policy has moved, by answers that the policy samples."""

from dataclasses import dataclass

from betahead.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class KLSampling:
    """What an estimate is made of.

    Args:
        every: optimizer steps from one estimate to the next.
        prompts: training prompts of an estimate, over all ranks; the policy answers each once.
        max_new_tokens: answers are cut there, and count up to the cut.
        key: what asks for it in a configuration, for messages.
    """

    every: int
    prompts: int
    max_new_tokens: int
    key: str = "beta.learning.kl_from"


def check_measured(asked: KLSampling | None, steps: int) -> None:
    """Refuse a training that is over before an estimate could move anything.

    Args:
        asked: what a rule asks for, None for nothing.
        steps: of the whole training.

    Raises:
        ConfigError: when the first estimate would come with the last step, or not at all.
    """
    if asked is not None and asked.every >= steps:
        raise ConfigError(
            f"`{asked.key.removesuffix('kl_from')}kl_every` must be below the number of steps, {steps:,}, but is "
            f"{asked.every:,} instead, so that β would never follow a KL; lower it or train longer."
        )
