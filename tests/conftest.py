"""The fixtures of shared.py, for all tests of this folder."""

from quick_runs import no_waiting_for_the_disk, quick_model, quick_options
from shared import (
    canned,
    make_model,
    metrics,
    model,
    refuse,
    small,
    small_run,
    tiny_options,
    trained_run,
    users_threads,
)

__all__ = ["canned", "make_model", "metrics", "model", "refuse", "small", "small_run"]
__all__ += ["tiny_options", "trained_run", "users_threads"]
__all__ += ["no_waiting_for_the_disk", "quick_model", "quick_options"]
