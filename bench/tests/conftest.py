"""The fixtures of tests/quick_runs.py, for the tests of bench/."""

from processes import pytest_xdist_auto_num_workers

__all__ = ["pytest_xdist_auto_num_workers"]


def pytest_configure(config):
    """Not in the process that hands tests out: it would import torch for nothing."""
    if not config.option.numprocesses:
        config.pluginmanager.import_plugin("quick_runs")
