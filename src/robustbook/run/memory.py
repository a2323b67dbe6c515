"""How much memory a run takes, over its command, its kernel and the workers:
`watched`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from time import thread_time

INTERVAL = 1.0  # seconds
SHARE = 0.02
"""Share of a core that looking may take: where many processes hold much memory, a look
is dear, and there are fewer.
"""


class Watch(Thread):
    """Looks again and again at this process and all below it; `peak` is the most bytes
    that they held together.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak, self.over = 0.0, Event()

    def run(self) -> None:
        """Look until `over` is set."""
        while True:
            start = thread_time()
            self.peak = max(self.peak, held())
            if self.over.wait(max(INTERVAL, (thread_time() - start) / SHARE)):
                return


@contextmanager
def watched() -> Iterator[Watch]:
    """Watch while something runs."""
    watch = Watch()
    watch.start()
    try:
        yield watch
    finally:
        watch.over.set()
        watch.join()


def held() -> float:
    """Bytes of memory that this process and all below it hold now; what several share
    counts once where Linux tells.
    """
    import psutil

    total = 0.0
    this = psutil.Process()
    for process in (this, *this.children(recursive=True)):
        try:
            memory = process.memory_full_info()
        except (psutil.Error, OSError):  # it has just ended, or is not ours to look at
            continue
        total += getattr(memory, "pss", memory.uss)
    return total
