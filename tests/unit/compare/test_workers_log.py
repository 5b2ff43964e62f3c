"""What the other processes of a comparison say is kept beside its storage."""

import time

from betahead.compare.comparison import helpers, storage_of


def test_a_helper_that_fails_says_why_in_the_log_of_its_folder(tmp_path):
    log = tmp_path / "workers.log"
    with helpers(tmp_path / "absent.yaml", storage_of(tmp_path), 1, tmp_path):
        until = time.monotonic() + 60.0
        while not log.read_text(encoding="utf-8").endswith("\n") and time.monotonic() < until:
            time.sleep(0.1)
    assert log.read_text(encoding="utf-8").startswith("error: ") and "absent.yaml" in log.read_text(encoding="utf-8")
