"""For the tests of bench/ (python -m pytest assignments bench)."""

from processes import pytest_xdist_auto_num_workers
from quick_runs import quick_model

__all__ = ["pytest_xdist_auto_num_workers", "quick_model"]
