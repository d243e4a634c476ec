"""One process a core: the ranks that share the work of a run (torch.distributed).

    group         within it, ranks may be started; at its end none is left
    start, join   starts the others, each with the same command line; makes them one group
    rank, size    who this process is; 0 of 1 where there is no group, and then nothing is shared
    part          this rank's part of a list
    tell, gather  a value of rank 0, or one of each rank, that all know then
    add_up        tensors, summed over the ranks
    check_alike   whether all have the same weights

Data parallelism: a rank samples and grades its part of the prompts, and makes the gradient of its
part of a minibatch. Rollouts are gathered, gradients are added up, in an order that never changes,
so that all ranks go on with the same weights, bit for bit; rank 0 alone prints and writes. Why not
threads: the products of a small model are too small for a team, and threads that wait spin, so that
each busy program beside them makes them several times as slow (bench/beside.py).

Ranks talk over the loopback, in JSON, since a pickle may hold code. `torchrun` may start them, too.
Left out: several machines, shared weights (each rank has weights and moments of its own), tensor
parallelism.
"""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from array import array
from contextlib import contextmanager
from datetime import timedelta
from functools import wraps
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
import torch.distributed as dist

MOST = 8  # ranks, unless more are asked for: each has half a GB of Python, and fewer rows a product
BUCKET = 2**23  # numbers that are added up at once: many small tensors would wait for each other
PAUSE = 0.0005  # seconds between looks at what is being exchanged
FOLDER = "TFPI_RANKS"  # where ranks meet that `start` has started: a variable of their environment
LOOPBACK = {"linux": "lo", "darwin": "lo0"}
QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of a container: "200000 100000" is two cores
THREADS = torch.get_num_threads()  # before anybody changes it: cores, or OMP_NUM_THREADS

started = []  # the other ranks' processes, in rank 0


# Who this process is; not torch's own record: another program may have a group for other work.
place = SimpleNamespace(rank=0, size=1)


def cores():
    """How many cores this process may use; OMP_NUM_THREADS, if set, says."""
    try:
        quota, period = QUOTA.read_text().split()
        return max(1, min(THREADS, round(int(quota) / int(period))))
    except (OSError, ValueError):  # no container, or no limit: "max 100000"
        return THREADS


# --------------------------------------------------------------------------------------------------
# Processes


@contextmanager
def group():
    """Within it, ranks may be started and joined; at its end, however it comes, none is left."""
    if follows() and FOLDER in os.environ:
        threading.Thread(target=end_with_rank_0, daemon=True).start()
    elif follows():  # torchrun's: rank 0 speaks for all
        sys.stdout = sys.stderr = open(os.devnull, "w")
    try:
        yield
    finally:
        for process in started:
            process.kill()  # it writes nothing, so that nothing can be torn
        for process in started:
            process.wait()
            process.stdin.close()
        if started:
            shutil.rmtree(os.environ.pop(FOLDER), ignore_errors=True)
        started.clear()
        if size() > 1:
            dist.destroy_process_group()
            place.rank = 0
            place.size = 1


def follows():
    """Whether this process was started as another rank than 0."""
    return "WORLD_SIZE" in os.environ and int(os.environ.get("RANK", 0)) > 0


def end_with_rank_0():
    """Ends this rank when rank 0 does, even by kill -9: its end of a pipe closes then."""
    sys.stdin.buffer.read()
    shutil.rmtree(os.environ[FOLDER], ignore_errors=True)
    os._exit(1)


def start(command, count, threads=1):
    """Starts ranks 1 to count - 1 with a command line of Python's; all get so many threads."""
    torch.set_num_threads(threads)
    if count == 1 or "WORLD_SIZE" in os.environ:  # torchrun has done it
        return
    os.environ[FOLDER] = folder = tempfile.mkdtemp(prefix="tfpi-ranks-")
    for number in range(1, count):
        numbers = {"RANK": str(number), "WORLD_SIZE": str(count), "OMP_NUM_THREADS": str(threads)}
        with open(Path(folder) / f"{number}.log", "wb") as log:
            process = subprocess.Popen(
                [sys.executable, *command],
                env=os.environ | numbers | {"TQDM_DISABLE": "1"},
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for rank 0, which tells the others
            )
        started.append(process)


def join():
    """Makes the ranks that were started one group; does nothing where there are none."""
    count = 1 + len(started)
    if size() > 1 or (count == 1 and "WORLD_SIZE" not in os.environ):
        return
    os.environ.setdefault("GLOO_SOCKET_IFNAME", LOOPBACK.get(sys.platform, ""))
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    options = {"backend": backend, "timeout": timedelta(days=365)}
    if FOLDER in os.environ:
        count = int(os.environ.get("WORLD_SIZE", count))
        number = int(os.environ.get("RANK", 0))
        folder = Path(os.environ[FOLDER])
        (folder / f"{number}.here").touch()
        while len(list(folder.glob("*.here"))) < count:
            if any(process.poll() is not None for process in started):
                raise ConnectionError(describe_lost())
            time.sleep(PAUSE)
        store = dist.FileStore(str(folder / "store"), count)
        options |= {"store": store, "rank": number, "world_size": count}
    dist.init_process_group(**options)
    place.rank = dist.get_rank()
    place.size = dist.get_world_size()


def describe_lost():
    """Which rank is gone, and why, as far as it can be seen from here."""
    deadline = time.monotonic() + 2 if started else 0
    while time.monotonic() < deadline and all(p.poll() is None for p in started):
        time.sleep(PAUSE)
    lost = [(p.returncode, number) for number, p in enumerate(started, 1) if p.poll() is not None]
    if not lost:
        return "another rank is gone."
    code, number = min(lost)  # who was killed before who only lost the others
    if code < 0:
        name = signal.Signals(-code).name
        return f"rank {number} was killed ({name}). If memory ran out, give fewer --ranks."
    log = Path(os.environ[FOLDER]) / f"{number}.log"
    words = log.read_text(errors="replace").strip().splitlines() or ["without a word"]
    return f"rank {number} has ended: {words[-1]}"


# --------------------------------------------------------------------------------------------------
# Work


def rank():
    return place.rank


def size():
    return place.size


def rank_0_alone(function):
    """Of a function that writes: the other ranks do nothing instead."""

    @wraps(function)
    def alone(*args, **kwargs):
        return function(*args, **kwargs) if rank() == 0 else None

    return alone


def own_device(device):
    """The device of this rank: of several, each has a card of its own. (Planned, not run.)"""
    return f"cuda:{rank()}" if device == "cuda" and size() > 1 else device


def part(items, costs=None):
    """This rank's part of a list, in which neighbours stay together: of like cost in each rank.

    costs: the work that each item is; without it all are alike.
    """
    before = np.cumsum([0, *(costs or [1] * len(items))])  # the work before each item, and all
    ends = np.searchsorted(before, before[-1] * np.arange(size() + 1) / size())
    ends[-1] = len(items)
    return items[ends[rank()] : ends[rank() + 1]]


def add_up(tensors):
    """Sums tensors of one type over the ranks, in place: to the same bits on all of them."""
    bucket = []
    for i, tensor in enumerate(tensors if size() > 1 else []):
        bucket.append(tensor)
        if i + 1 == len(tensors) or sum(t.numel() for t in bucket) > BUCKET:
            flat = torch.cat([t.flatten() for t in bucket])
            finish(dist.all_reduce(flat, async_op=True))
            for t, total in zip(bucket, flat.split([t.numel() for t in bucket])):
                t.copy_(total.view_as(t))
            bucket = []


def tell(value=None):
    """The value of rank 0, whatever the others give: what JSON knows, and arrays."""
    return gather(value if rank() == 0 else None)[0]


def gather(value):
    """The values of all ranks, in the order of the ranks."""
    if size() == 1:
        return [value]
    text = json.dumps(value, default=pack_array).encode()
    lengths = torch.zeros(size(), dtype=torch.long)
    lengths[rank()] = len(text)
    add_up([lengths])
    own = torch.zeros(int(lengths.max()), dtype=torch.uint8)
    own[: len(text)] = torch.frombuffer(bytearray(text), dtype=torch.uint8)
    found = [torch.empty_like(own) for _ in lengths]
    finish(dist.all_gather(found, own, async_op=True))
    texts = [bytes(row[:length].numpy()) for row, length in zip(found, lengths.tolist())]
    return [json.loads(text, object_hook=unpack_array) for text in texts]


def check_alike(model):
    """Raises ValueError where the ranks' weights differ: what they add up belongs to no model."""
    digest = hashlib.sha256()
    for weight in model.parameters() if size() > 1 else []:
        digest.update(weight.detach().contiguous().cpu().view(torch.uint8).numpy())
    if len(set(gather(digest.hexdigest()))) > 1:
        raise ValueError("the ranks' weights are no longer the same. Please report it.")


def pack_array(numbers):
    return {"typecode": numbers.typecode, "hex": numbers.tobytes().hex()}


def unpack_array(value):
    if value.keys() == {"typecode", "hex"}:
        return array(value["typecode"], bytes.fromhex(value["hex"]))
    return value


def finish(work):
    """Waits until all is exchanged; a signal is answered meanwhile.

    Raises ConnectionError where a rank is gone.
    """
    try:
        while not work.is_completed():
            time.sleep(PAUSE)
        work.wait()
    except RuntimeError:
        raise ConnectionError(describe_lost()) from None
