"""Independent pieces of work side by side: one thread per worker, results in the order
of the items.

Every piece runs with one thread whatever the number of workers, so that the numbers are
the same for one worker and for many; `ROBUSTBOOK_WORKER_THREADS` gives it others, with
which a check asks whether the numbers hold.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from multiprocessing import get_context, parent_process
from multiprocessing.context import BaseContext
from threading import Thread
from typing import Any, TypeVar

from robustbook.errors import ParameterError, quoted
from robustbook.progress import Progress, counting

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")

FORKED = 8
"""Most workers that a process forks before it knows how many pieces there are; more
begin one by one as pieces come.
"""

_pools: dict[int, ProcessPoolExecutor] = {}  # by number of workers; one at most


def worker_count() -> int:
    """Workers to use: `ROBUSTBOOK_WORKERS`, else the number of cores this process may
    use.

    Raises ParameterError if the variable holds anything but a number.
    """
    return _chosen("ROBUSTBOOK_WORKERS", "processes") or core_count()


def core_count() -> int:
    """Cores that this process may use."""
    return (
        len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count() or 1
    )


def worker_threads() -> int:
    """Threads of a piece: `ROBUSTBOOK_WORKER_THREADS`, else one; ParameterError if the
    variable holds no number.
    """
    return _chosen("ROBUSTBOOK_WORKER_THREADS", "threads") or 1


def _chosen(variable: str, what: str) -> int | None:
    """The number in an environment variable, at least 1; None where there is none."""
    given = os.environ.get(variable)
    if given and not (given.isdecimal() and len(given) < 5):
        raise ParameterError(
            f"{variable} must be a number of {what}, got {quoted(given)}"
        )
    return max(1, int(given)) if given else None


def start_workers() -> None:
    """Start the worker processes and go on: they import torch, which takes seconds,
    while this process computes.

    Raises ParameterError as `worker_count` does.
    """
    workers = worker_count()
    for _ in range(workers if workers > 1 else 0):
        _pool(workers).submit(os.getpid)


def fork_workers() -> None:
    """Make the worker processes forks of this one, which share with it all that they
    would import alike.

    Only for a process that has no threads and has computed nothing yet, such as a
    kernel that begins. Where systems do not fork safely, and for more than `FORKED`
    workers, it does nothing. Raises ParameterError as `worker_count` does.
    """
    workers = worker_count()
    if 1 < workers <= FORKED and sys.platform == "linux":
        import_module("robustbook.worker_base")
        _keep(workers, get_context("fork"))
        _pools[workers].submit(os.getpid)


def map_in_workers(
    function: Callable[[Item], Outcome],
    items: Sequence[Item],
    workers: int | None = None,
    *,
    title: str = "",
) -> list[Outcome]:
    """`[function(item) for item in items]`, computed by `workers` processes (default:
    `worker_count()`).

    `function` must be importable or defined in the notebook that calls this, the items
    picklable; the first error of a piece is raised, the rest is cancelled. With a
    `title` a line on standard error says how many pieces are done.
    """
    workers = workers or worker_count()
    with counting(bool(title), title, len(items)) as tell:
        if min(workers, len(items)) <= 1:
            return _in_this_process(function, items, tell)
        return _side_by_side(function, items, workers, tell)


def _side_by_side(
    function: Callable[[Item], Outcome],
    items: Sequence[Item],
    workers: int,
    tell: Progress,
) -> list[Outcome]:
    futures: list[Future[Outcome]] = []
    function = _portable(function)
    try:
        # Inside, since a pool that lost a worker while it was idle breaks here already.
        futures += [
            _pool(workers).submit(_interruptible, function, item) for item in items
        ]
        for done, future in enumerate(as_completed(futures), start=1):
            future.result()
            tell(done, len(items))
        return [future.result() for future in futures]
    except BrokenProcessPool:
        _pools.clear()
        raise
    finally:
        for future in futures:
            future.cancel()


@dataclass(frozen=True)
class _ByValue:
    """A function that workers cannot import, with all that it refers to."""

    content: bytes

    def __call__(self, item: Any) -> Any:
        return pickle.loads(self.content)(item)


def _portable(function: Callable[[Item], Outcome]) -> Callable[[Item], Outcome]:
    """The function as it is, or by value where it was defined in a notebook, whose
    module no worker can import.
    """
    defined = function
    while isinstance(defined, partial):
        defined = defined.func
    if getattr(defined, "__module__", None) != "__main__":
        return function
    import cloudpickle

    return _ByValue(cloudpickle.dumps(function))


def _pool(workers: int) -> ProcessPoolExecutor:
    """The worker processes, kept for the next call since each takes seconds to import
    torch.

    They are forked from a server that has imported it and computed nothing, and share
    that memory: a fork of a process whose OpenMP threads are running can hang.
    """
    if workers not in _pools:
        context = get_context("forkserver" if sys.platform == "linux" else "spawn")
        context.set_forkserver_preload(["robustbook.worker_base"])
        _keep(workers, context)
    return _pools[workers]


def _keep(workers: int, context: BaseContext) -> None:
    _pools.clear()
    # A server keeps the environment that it began with.
    _pools[workers] = ProcessPoolExecutor(
        workers, context, _begin, (worker_threads(), dict(os.environ))
    )


def _in_this_process(
    function: Callable[[Item], Outcome], items: Sequence[Item], tell: Progress
) -> list[Outcome]:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(worker_threads())
    try:
        found = []
        for item in items:
            found.append(function(item))
            tell(len(found), len(items))
        return found
    finally:
        torch.set_num_threads(threads)


def _interruptible(function: Callable[[Item], Outcome], item: Item) -> Outcome:
    """`function(item)`, which Ctrl-C stops as it stops the parent."""
    _print_where_parent_does()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return function(item)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


@cache
def _print_where_parent_does() -> None:
    """A kernel catches what is printed only after its workers were forked."""
    for output in (1, 2):
        with suppress(OSError):
            opened = os.open(
                f"/proc/{os.getppid()}/fd/{output}", os.O_WRONLY | os.O_APPEND
            )
            os.dup2(opened, output)
            os.close(opened)


def _begin(threads: int, environment: Mapping[str, str]) -> None:
    # Jupyter interrupts a kernel's whole process group: an idle worker that heeded it
    # would die with a traceback and break the pool.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.update(environment)
    import torch

    import_module("robustbook.worker_base")
    torch.set_num_threads(threads)
    # A worker whose parent was killed would wait for its next piece for ever.
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
