"""The two ways of carrying attention of trunks and branches out on a CPU, timed: `python -m bench.attention`.

One masked call over padded rows, or a call per span; which costs less is predicted by `prefers_rows` of
src/betahead/forward/kernels.py, whose constants come from these times. Forward and backward, one thread.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from betahead.forward import kernels
from betahead.forward.kernels import AttentionSettings, prefers_rows
from betahead.forward.layout import TrunkLayout

HEADS, WIDTH = 4, 64

Spans = tuple[tuple[int, ...], ...]

SPAN_SETS: dict[str, Spans] = {
    "8 × 16/16/16": ((16, 16, 16),) * 8,
    "32 × 16/16/16": ((16, 16, 16),) * 32,
    "8 × 8/192/192": ((8, 192, 192),) * 8,
    "8 × 128/64/64": ((128, 64, 64),) * 8,
    "8 × 512/64/64": ((512, 64, 64),) * 8,
    "8 ragged, as transcripts": tuple((40 + 45 * i, 20 + 11 * i, 30 + 7 * (7 - i)) for i in range(8)),
    "one long beside seven short": ((640, 128, 128), *((24, 24, 24),) * 7),
    "4 × 128 and 4 answers of 48": ((128, 48, 48, 48, 48),) * 4,
}


@dataclass(frozen=True, kw_only=True)
class Timed:
    """What a set of spans came to.

    Args:
        spans: its name.
        rows: seconds of one masked call over padded rows.
        calls: seconds of a call per span.
        predicts_rows: what `prefers_rows` says.
    """

    spans: str
    rows: float
    calls: float
    predicts_rows: bool

    @property
    def right(self) -> bool:
        """Whether the way that is predicted to cost less does."""
        return self.predicts_rows == (self.rows < self.calls)

    def line(self) -> str:
        """One line of the table."""
        predicted = "rows" if self.predicts_rows else "spans"
        chosen, other = (self.rows, self.calls) if self.predicts_rows else (self.calls, self.rows)
        verdict = f"right, {other / chosen:.2f} ×" if self.right else f"wrong, {chosen / other:.2f} ×"
        return f"{self.spans:<30}{1e3 * self.rows:>10.2f}{1e3 * self.calls:>10.2f}   {predicted:<7}{verdict}"


def seconds(way: Callable[..., Any], spans: Spans, repeats: int) -> float:
    """The median time of a forward and a backward pass, the masks made anew as for every batch."""
    generator = torch.Generator().manual_seed(0)
    tokens = sum(map(sum, spans))
    states = [
        torch.randn(1, HEADS, tokens, WIDTH, generator=generator, requires_grad=True) for _ in ("query", "key", "value")
    ]
    times: list[float] = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        layout = TrunkLayout(spans, torch.device("cpu"))
        way(*states, layout, AttentionSettings()).sum().backward()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def timed(name: str, spans: Spans, repeats: int) -> Timed:
    """Both ways on one set of spans."""
    return Timed(
        spans=name,
        rows=seconds(kernels._by_row, spans, repeats),
        calls=seconds(kernels._by_span, spans, repeats),
        predicts_rows=prefers_rows(spans),
    )


def main(words: Sequence[str]) -> int:
    """Time every set and print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.attention", description=__doc__)
    parser.add_argument("--repeats", type=int, default=15, help="timed passes of each way on each set")
    parser.add_argument("--only", nargs="+", choices=SPAN_SETS, default=[*SPAN_SETS], metavar="SET")
    options = parser.parse_args(words)
    torch.set_num_threads(1)
    print(f"{HEADS} heads of {WIDTH}, float32, one thread, ms for forward and backward; torch {torch.__version__}")
    print(f"{'prompt/answer/answer':<30}{'rows':>10}{'spans':>10}   predicted")
    found = [timed(name, SPAN_SETS[name], options.repeats) for name in options.only]
    for one in found:
        print(one.line())
    print(f"predicted right: {sum(one.right for one in found)} of {len(found)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
