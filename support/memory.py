"""Running out of memory: one sentence, with the way out."""

from contextlib import contextmanager


@contextmanager
def memory_advice(doing, remedy):
    """Turns running out of memory, on a GPU or not, into one MemoryError that says what to do.

    Stands around a block (`with memory_advice(...)`) or over a function (`@memory_advice(...)`).
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:  # torch.OutOfMemoryError is a RuntimeError
        words = ("out of memory", "not enough memory", "can't allocate memory")
        if isinstance(error, RuntimeError) and not any(w in str(error).lower() for w in words):
            raise
        raise MemoryError(f"out of memory while {doing}. {remedy}") from None
