"""A process that works on the plan of the tests: `python compare_worker.py URL LOG SECONDS-PER-CALL`."""

import sys
import time
from pathlib import Path

from bandit import PLAN, GaussianBandit

from betahead.compare.board import Board
from betahead.compare.plan import load_plan
from betahead.compare.resolved import resolve
from betahead.compare.work import work


def main() -> None:
    url, log, seconds = sys.argv[1:]

    class Slow(GaussianBandit):
        def run(self, method, configurations, seeds, *, split):
            with Path(log).open("a") as file:
                file.write(f"{split} {method} {configurations} {seeds}\n")
            time.sleep(float(seconds))
            return super().run(method, configurations, seeds, split=split)

    work(Board(resolve(load_plan(PLAN + "runs_per_item: 4\n"), Slow), url, grace=2))


if __name__ == "__main__":
    main()
