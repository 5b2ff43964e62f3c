"""Numbers that came with the data, for rules that read them."""

from jaxtyping import Float
from torch import Tensor

from betahead.errors import DataError
from betahead.types import PromptFeatures


def column(features: PromptFeatures, name: str) -> Float[Tensor, " pairs"]:
    """A column of the data, for a rule that reads it.

    What numbers it may hold is checked once where the data are (`train/scored.py`): looking at them here would wait for
    the device at every step.

    Raises:
        DataError: the column is not there.
    """
    if name not in features.columns:
        raise DataError(
            f"`{name}` must be a column of the data with a number for each pair, but is missing; add it, or use "
            "another `beta.kind`."
        )
    return features.columns[name]
