import datasets
import pytest

from betahead.data.lengths import tokens_of_rows
from betahead.data.passes import PairTokens


@pytest.mark.parametrize("indexed", [False, True], ids=["whole", "a selection of rows"])
def test_lengths_are_read_from_the_columns_in_the_order_of_the_rows(indexed: bool) -> None:
    wanted = [PairTokens(prompt=p, chosen=c, rejected=r) for p, c, r in ((3, 1, 2), (1, 1, 4), (2, 5, 1))]
    rows = [
        {"prompt_ids": [1] * pair.prompt, "chosen_ids": [2] * pair.chosen, "rejected_ids": [3] * pair.rejected}
        for pair in wanted
    ]
    data = datasets.Dataset.from_list(rows)
    if indexed:
        data, wanted = data.select([2, 0]), [wanted[2], wanted[0]]
    assert tokens_of_rows(data) == wanted
