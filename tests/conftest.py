"""The fixtures of shared.py, for all tests of this folder."""

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
