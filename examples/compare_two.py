"""Two ways to set β against each other, by a plan that is fixed beforehand, from Python."""

import argparse
from pathlib import Path

from betahead.compare.cells import world_of
from betahead.compare.comparison import compare, folder_of, storage_of
from betahead.compare.resolved import load_resolved

# Far too small to show anything: it is here to be read. configs/compare/ has plans that were used.
PLAN = """
name: compare_two
question: Is joint learning better than one tuned β where half of the topics are noise, and by its mechanism?
cells: [tabular/half_noise]
methods: {fixed: {}, joint_plus: {}, permuted:joint_plus: {}}
axes:
  learning_rate: {low: 0.01, high: 0.1}
  beta: {low: 0.05, high: 0.5}
pool: {configurations: 3, trials: 2, seeds: 1}
finals: {seeds: 7}
metric: {primary: gold_minus_kappa_kl, kappas: [0.3]}
rope: 0.01
comparisons:
  - {a: joint_plus, b: fixed, claim: mechanism}
"""


def main() -> None:
    """Run the plan and print its sentences; evidence.md in the folder has the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=None, help="folder of the evidence; comparisons/NAME")
    chosen = parser.parse_args()
    resolved = load_resolved(PLAN, world_of)
    folder = folder_of(resolved, chosen.output)
    evidence = compare(resolved, folder, storage_of(folder), command="python examples/compare_two.py")
    for claim in evidence.claims:
        print(claim.sentence)
    for test in evidence.tests:
        interval = f"{test.effect.estimate:+.4f} [{test.effect.low:+.4f}, {test.effect.high:+.4f}]"
        least = f"at least {test.minimum_detectable_effect:.4f} would have been seen"
        print(f"  {test.a} against {test.b}: {test.verdict}, {interval}, p after Holm {test.p_holm:.3f}; {least}")
    print(f"plan {evidence.plan_hash[:12]}, test opened {evidence.test_opened}; {folder}/evidence.md")


if __name__ == "__main__":
    main()
