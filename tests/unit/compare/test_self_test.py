import pytest

from betahead.compare.self_test import SHORT, Size, self_test


def test_the_protocol_can_say_no_and_yes_in_its_short_form():
    seen = []
    checks = self_test(SHORT, on_check=seen.append)
    assert seen == checks and len(checks) == 11
    assert [check.sentence for check in checks if not check.passed] == []
    verdicts = {check.name: check.sentence for check in checks}
    assert ", better" in verdicts["clean_labels wins in half_noise where it has headroom"]
    assert "equivalent" in verdicts["a renamed copy of fixed β is not better in half_noise"]


@pytest.mark.slow
def test_the_protocol_can_say_no_and_yes():
    assert [check.sentence for check in self_test(Size()) if not check.passed] == []
