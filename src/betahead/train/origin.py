"""Where a model that is its own reference comes from: what was trained on pairs before is not taken without a word."""

import json
import logging
from pathlib import Path
from typing import Any

from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from betahead.beta.files import SETTINGS
from betahead.forward.model import Policy
from betahead.forward.shared import base_of

logger = logging.getLogger(__name__)

_TRAINED = "_trained_on_pairs"
_STATE = "trainer_state.json"


def mark_trained(policy: Policy) -> None:
    """Note on a model, and on the one inside its adapters, that a step on pairs has been taken with it."""
    taken = 1 + trained_steps(policy)
    for model in (policy, base_of(policy)):
        vars(model)[_TRAINED] = taken


def trained_steps(policy: Policy) -> int:
    """How often `mark_trained` has been called of a model, by whichever trainer."""
    return int(vars(policy).get(_TRAINED, 0))


def warn_of_trained_reference(model: Policy, given: Any, data: Any, *, new_adapter: bool) -> None:
    """Say in one line of the log when the model that becomes the reference has been trained on pairs before.

    To start from such a model is a choice (iterative DPO), but not one to make by oversight.

    Args:
        model: the model as it is given, before a new adapter is put on it.
        given: the model, or the folder or Hub name of it, as the caller gave it.
        data: the pairs; where they bring the reference's scores, this model is not the reference.
        new_adapter: an adapter will be put on it, and the reference is the model without.
    """
    found = trained_before(model, given, new_adapter=new_adapter)
    if found is not None and "ref_chosen_logps" not in (getattr(data, "column_names", None) or ()):
        logger.warning(
            "reference: %s, so that trained policy is the reference now; to be held to the weights that came before, "
            "give them as `ref_model`, or start from them with `resume_from_checkpoint`",
            found,
        )


def trained_before(model: Policy, given: Any, *, new_adapter: bool = False) -> str | None:
    """What says that a model has been trained on pairs, as a clause; None where nothing does.

    That is a mark on the model itself, or what trainers leave beside its weights: the rule of ours, or a trainer's
    state, unless its log shows that it was trained on something else.
    """
    inner = base_of(model)
    # Layers that still hold their trained adapters are the old ones once those are off.
    as_it_is = not (new_adapter and _has_adapters(inner))
    if _TRAINED in vars(model) and as_it_is:
        return "this model object has been trained by a DPOTrainer"
    names = [name for name in (given, inner.config.name_or_path) if isinstance(name, str) and name]
    for folder in dict.fromkeys(map(Path, names)):
        if (folder / SETTINGS).is_file():
            return f"{folder} holds {SETTINGS}, which training on pairs leaves beside a policy"
        if _trained_on_pairs(folder / _STATE):
            return f"{folder} holds {_STATE}, which training leaves in a checkpoint"
    return None


def _has_adapters(model: nn.Module) -> bool:
    return any(isinstance(module, BaseTunerLayer) for module in model.modules())


def _trained_on_pairs(state: Path) -> bool:
    """Whether a trainer's state is there and its log speaks of pairs, or does not say what was trained on."""
    if not state.is_file():
        return False
    try:
        log = json.loads(state.read_text(encoding="utf-8"))["log_history"]
        steps = [line for line in log if "loss" in line]
    except (ValueError, KeyError, TypeError):
        return True
    return not steps or any("rewards/margins" in line for line in steps)
