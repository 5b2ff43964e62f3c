"""Runs and a comparison that the pages of these tests show."""

import pytest
import report_pages


@pytest.fixture(scope="session")
def learned(tmp_path_factory):
    return report_pages.learned_run(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="session")
def fixed(tmp_path_factory):
    return report_pages.fixed_run(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="session")
def compared(tmp_path_factory):
    return report_pages.comparison(tmp_path_factory.getbasetemp())
