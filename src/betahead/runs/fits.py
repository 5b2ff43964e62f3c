"""What can be known beforehand of a run whose parts are loaded: that they fit one another, and that steps follow."""

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from betahead.data.lengths import tokens_of_rows
from betahead.runs.build import Data
from betahead.runs.config import Config
from betahead.runs.samples import first_prompts
from betahead.train.arguments import DPOConfig
from betahead.train.sizes import check_room, check_sizes
from betahead.train.steps import check_schedule, steps_of


def check_fits(
    config: Config, args: DPOConfig, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, data: Data
) -> None:
    """Check sizes, the number of steps and the schedule of a run, before anything is written.

    Raises:
        ConfigError: for pairs, answers or a tokenizer larger than the model, no step, or an unusable schedule.
    """
    check_sizes(model, tokenizer, data.train, data.held_out)
    shown = first_prompts(data.held_out, config.evaluate.samples)
    if len(shown) > 0:
        longest = max(one.prompt for one in tokens_of_rows(shown))
        check_room(model, longest, config.evaluate.max_new_tokens, "evaluate.max_new_tokens")
    check_schedule(args, steps_of(len(data.train), args))
