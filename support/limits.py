"""A limit on the time and memory of somebody else's code, such as a chat template's.

    limited     raises where the code can be interrupted
    comes_back  tries it in a copy of this process, for `10**10**10`, which cannot

Left out: Windows, and threads other than the main one, where there is no such limit.
"""

import os
import signal
import threading
from contextlib import contextmanager

try:
    import resource
except ImportError:  # Windows
    resource = None


def address_space():
    """Bytes of memory that this process has addresses for; None where that is not told."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return None


@contextmanager
def limited(seconds, megabytes):
    """Within it, what takes longer raises TimeoutError, and what takes more memory MemoryError."""
    if resource is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_):
        raise TimeoutError(f"it takes longer than {seconds} s")

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = address_space()
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        if used and soft == resource.RLIM_INFINITY:
            resource.setrlimit(resource.RLIMIT_AS, (used + megabytes * 2**20, hard))
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def comes_back(action, seconds, megabytes):
    """Whether action() ends within the limits, be it with an error."""
    if not hasattr(os, "fork"):
        return True
    copy = os.fork()
    if copy == 0:
        try:
            with limited(seconds, megabytes):
                signal.signal(signal.SIGALRM, signal.SIG_DFL)  # which ends the copy
                action()
        finally:
            os._exit(0)
    _, status = os.waitpid(copy, 0)
    return not os.WIFSIGNALED(status)
