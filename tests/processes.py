"""How tests are spread over processes, for the conftest.py of each folder.

Each process, and each that it starts, computes on one thread, which is quicker for tiny models:
threads that share busy cores wait for each other.
"""

import os
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # torch reads it when it is imported


def pytest_xdist_auto_num_workers(config):
    """Two for folders; none for files, since a process more takes seconds to import torch."""
    return 2 if all(Path(argument).is_dir() for argument in config.args) else 0
