"""What can be known beforehand of a run whose parts are loaded: that they fit one another, and that steps follow."""

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from betahead.beta.kl_sampling import check_measured
from betahead.beta.rule import BetaRule
from betahead.data.lengths import tokens_of_rows
from betahead.runs.build import Data
from betahead.runs.config import Config
from betahead.runs.samples import first_prompts
from betahead.train.arguments import DPOConfig
from betahead.train.heldout_rows import held_apart
from betahead.train.sizes import check_room, check_sizes
from betahead.train.steps import check_schedule, steps_of


def check_fits(
    config: Config,
    args: DPOConfig,
    rule: BetaRule,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    data: Data,
) -> int:
    """Check sizes, the number of steps and the schedule of a run, before anything is written.

    Returns:
        The number of steps.

    Raises:
        ConfigError: for pairs, answers or a tokenizer larger than the model, no step, fewer than a rule waits for, or
            an unusable schedule.
        DataError: for pairs of a single prompt with a rule that wants prompts of its own.
    """
    check_sizes(model, tokenizer, data.train, data.held_out)
    shown = first_prompts(data.held_out, config.evaluate.samples)
    if len(shown) > 0:
        longest = max(one.prompt for one in tokens_of_rows(shown))
        check_room(model, longest, config.evaluate.max_new_tokens, "evaluate.max_new_tokens")
    _, followed = held_apart(data.train, rule.held_out, args.seed)
    steps = steps_of(len(data.train) - (0 if followed is None else len(followed)), args)
    check_schedule(args, steps)
    check_measured(rule.kl_sampling, steps)
    return steps
