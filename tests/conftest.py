"""The fixtures of quick_runs.py and shared.py, for all tests of this folder."""

from processes import pytest_xdist_auto_num_workers

__all__ = ["pytest_xdist_auto_num_workers"]


def pytest_configure(config):
    """Not in the process that hands tests out: it would import torch for nothing."""
    if not config.option.numprocesses:
        for plugin in ("quick_runs", "shared"):
            config.pluginmanager.import_plugin(plugin)
