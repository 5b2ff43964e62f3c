"""Silence for what libraries print on the way: bars and notes that are not about the user's run."""

import warnings
from collections.abc import Generator
from contextlib import contextmanager

import datasets
from transformers.utils import logging as transformers_logging


@contextmanager
def quieted() -> Generator[None]:
    """No progress bars and no notes below errors from transformers and datasets inside, as before outside."""
    bars = transformers_logging.is_progress_bar_enabled()
    level = transformers_logging.get_verbosity()
    data_bars = datasets.are_progress_bars_disabled()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    datasets.disable_progress_bars()
    try:
        with warnings.catch_warnings():
            # peft asks transformers by names that it has renamed; nothing a user could do about it.
            warnings.filterwarnings("ignore", message=r"`\w*gradient_checkpointing\w*` is deprecated")
            # An adapter on a tied LM head is known here: it is saved with its layer, and untied before it is merged.
            warnings.filterwarnings("ignore", message="Model has `tie_word_embeddings=True` and a tied layer")
            warnings.filterwarnings("ignore", message="Setting `save_embedding_layers` to `True`")
            yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()
        if not data_bars:
            datasets.enable_progress_bars()
