"""Random numbers that are a function of a seed, a counter and a place: the same on every rank, device and resume.

A generator's state would have to live on the host, where a counter that lives in a checkpoint cannot be read without
waiting for the device.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from betahead.errors import ConfigError

_MASK = 2**32 - 1
_BITS = 23  # of a float32 in (0, 1) that is neither 0 nor 1


def _mixed(bits: Tensor) -> Tensor:
    """A bijection of 32-bit numbers in which every bit of the result hangs on every bit given; no product overflows."""
    bits = ((bits ^ (bits >> 15)) * 0x2C1B3C6D) & _MASK
    bits = ((bits ^ (bits >> 12)) * 0x297A2D39) & _MASK
    return bits ^ (bits >> 15)


def checked_seed(seed: Any) -> int:
    """The seed, once it is known to be one.

    Raises:
        ConfigError: for anything but a whole number in [0, 2³²).
    """
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed <= _MASK:
        raise ConfigError(f"`beta.seed` must be a whole number in [0, 2³²), but is {seed!r} instead.")
    return seed


def uniform(places: int, *, seed: int, counter: Int[Tensor, ""]) -> Float[Tensor, " places"]:
    """A number in (0, 1) for each place, without waiting for the device.

    Args:
        places: how many.
        seed: in [0, 2³²).
        counter: where the stream is; another one gives other numbers.

    Returns:
        float32 on the counter's device, never 0 or 1.

    Source:
        C. Wellons 2018, Prospecting for hash functions, https://nullprogram.com/blog/2018/07/31/, for the mixing of
        bits; a stream that is a function of a counter: Salmon et al. 2011, https://doi.org/10.1145/2063384.2063405.
    """
    at = torch.arange(places, device=counter.device)
    stream = _mixed(_mixed(counter.new_full((), seed)) ^ (counter & _MASK))
    # Mixed a second time with the stream, so that two streams are never one another's shifted.
    bits = _mixed(_mixed((stream + at) & _MASK) ^ stream)
    return ((bits >> (32 - _BITS)).to(torch.float32) + 0.5) / 2**_BITS


def gumbel(places: int, *, seed: int, counter: Int[Tensor, ""]) -> Float[Tensor, " places"]:
    """Standard Gumbel noise: the places with the largest sums of noise and log weight are a draw without replacement.

    Args:
        places: how many.
        seed: in [0, 2³²).
        counter: where the stream is.

    Source:
        Kool et al. 2019, Stochastic beams and where to find them, https://arxiv.org/abs/1903.06059.
    """
    return -(-uniform(places, seed=seed, counter=counter).log()).log()
