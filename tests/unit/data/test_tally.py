"""Counts of repeats by digest equal those of the texts themselves."""

import random
from collections import Counter

from betahead.data.tally import PairTally


def test_repeats_and_contradictions_are_those_of_the_texts():
    rng = random.Random(0)
    pairs = [tuple(rng.choice("ab") for _ in range(3)) for _ in range(60)]
    pairs = [(who, one, other) for who, one, other in pairs if one != other] + [("only", "x", "y")]
    tally = PairTally()
    for number, (who, chosen, rejected) in enumerate(pairs):
        tally.add(who, chosen, rejected, "odd" if number % 2 else "", (number, 1, 2))
    copies = Counter(pairs)
    assert tally.repeated() == len(pairs) - len(copies)
    assert tally.contradicted() == sum(n for (who, a, b), n in copies.items() if (who, b, a) in copies)
    assert sorted(tally.rows_of_prompts()) == sorted(Counter(who for who, _, _ in pairs).values())
    assert tally.lengths.tolist() == [[number, 1, 2] for number in range(len(pairs))]
    assert tally.domains == {"odd": len(pairs) // 2}


def test_texts_do_not_run_together():
    tally = PairTally()
    tally.add("p", "ab", "c", "", (1, 1, 1))
    tally.add("p", "a", "bc", "", (1, 1, 1))
    assert tally.repeated() == tally.contradicted() == 0
