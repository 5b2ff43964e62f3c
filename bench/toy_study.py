"""A study of the ways of learning β on toys, for docs/log.md: inflation, switching off, drift, and perplexity hacking.

`python -m bench.toy_study` prints three Markdown tables in about a minute on one core.
"""

import argparse
import sys
import time
from collections.abc import Sequence

import torch

from bench import toy_bandit, toy_language, toy_rest


def main(words: Sequence[str]) -> int:
    """Run all parts, or one, and print what came out."""
    parser = argparse.ArgumentParser(prog="python -m bench.toy_study", description=__doc__)
    parser.add_argument("--only", choices=("bandit", "rest", "language"))
    parser.add_argument("--lengths", type=int, nargs="+", default=[1, 4, 16], help="multiples of the bandits' steps")
    parser.add_argument("--seeds", type=int, default=4, help="bandits")
    parser.add_argument("--steps", type=int, default=toy_language.STEPS, help="steps of the language model")
    options = parser.parse_args(words)
    torch.set_num_threads(1)
    if options.only in (None, "bandit"):
        began = time.perf_counter()
        print(toy_bandit.HEAD)
        for row in toy_bandit.bandit_rows(tuple(options.lengths), options.seeds):
            print(row.line(), flush=True)
        print(f"\n×1 is {toy_bandit.STEPS} steps; {options.seeds} seeds; {time.perf_counter() - began:.0f} s\n")
    if options.only in (None, "rest"):
        began = time.perf_counter()
        print(toy_rest.HEAD)
        for rest in toy_rest.rest_rows(tuple(options.lengths)):
            print(rest.line(), flush=True)
        print(f"\n×1 is {toy_rest.STEPS} steps over all pairs; {time.perf_counter() - began:.0f} s\n")
    if options.only in (None, "language"):
        began = time.perf_counter()
        print(toy_language.HEAD)
        for coupled in toy_language.coupled_rows(options.steps):
            print(coupled.line(), flush=True)
        print(f"\n{options.steps} steps of {toy_language.BATCH} pairs, one seed; {time.perf_counter() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
