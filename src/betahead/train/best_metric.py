"""Whether the metric that picks the best checkpoint will be measured."""

import difflib
from typing import Any

from betahead.beta.rule import BetaRule, Need
from betahead.errors import ConfigError
from betahead.train.arguments import DPOConfig
from betahead.train.metrics import PAIR_METRICS

_CLOCK = ("runtime", "samples_per_second", "steps_per_second")


def check_best_metric(args: DPOConfig, rule: BetaRule, held_out: Any) -> None:
    """Refuse the name of a metric that no evaluation gives: it would end the run at its first evaluation.

    Args:
        args: settings.
        rule: decides which metrics there are.
        held_out: the data to evaluate, one set or a dict of them.

    Raises:
        ConfigError: with the nearest name, or all of them.
    """
    wanted = args.metric_for_best_model
    if wanted is None or held_out is None:
        return
    names = ["loss", *PAIR_METRICS, *rule.log_metrics(), *_CLOCK]
    names += ["prompt/log_ppl"] if Need.LOG_PPL in rule.needs else []
    if isinstance(held_out, dict):
        names = [f"{part}_{name}" for part in held_out for name in names]
    name = wanted.removeprefix("eval_")
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        remedy = f"did you mean `{near[0]}`?" if near else f"choose one of {', '.join(names)}."
        raise ConfigError(
            f"`train.metric_for_best_model` must be a metric of the held-out pairs, but is {wanted!r} instead; {remedy}"
        )
