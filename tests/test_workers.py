"""Work side by side: order kept, errors raised, the same numbers for one worker and
two.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from threading import Event
from time import monotonic

import psutil
import pytest
import torch

from robustbook.errors import ParameterError
from robustbook.progress import counting, last_line
from robustbook.workers import _pools, map_in_workers, start_workers, worker_count


def product_of(seed: int) -> list[float]:
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(200, 200, generator=generator)
    return (matrix @ matrix).sum(0).tolist()


def fail_at_two(number: int) -> int:
    if number == 2:
        raise ValueError("piece two failed")
    return number


def threads_of(_: int) -> tuple[int, int]:
    return torch.get_num_threads(), os.getpid()


def interrupt_itself(_: int) -> None:
    os.kill(os.getpid(), signal.SIGINT)
    Event().wait(60)


def test_one_and_two_workers_give_the_same_bits() -> None:
    assert map_in_workers(product_of, [3, 1, 2], workers=2) == map_in_workers(
        product_of, [3, 1, 2], workers=1
    )


def test_error_of_a_piece_is_raised_and_the_pool_still_works() -> None:
    with pytest.raises(ValueError, match="piece two failed"):
        map_in_workers(fail_at_two, [1, 2, 3], workers=2)
    assert map_in_workers(fail_at_two, [1, 3], workers=2) == [1, 3]


def test_every_piece_has_one_thread_and_threads_are_restored() -> None:
    torch.set_num_threads(2)
    try:
        assert {
            threads for threads, _ in map_in_workers(threads_of, [1, 2], workers=1)
        } == {1}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    outcomes = map_in_workers(threads_of, [1, 2], workers=2)
    assert {threads for threads, _ in outcomes} == {1}
    assert os.getpid() not in {process for _, process in outcomes}


def test_workers_can_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROBUSTBOOK_WORKERS", "3")
    assert worker_count() == 3
    assert map_in_workers(product_of, []) == []
    monkeypatch.setenv("ROBUSTBOOK_WORKERS", "two")
    with pytest.raises(
        ParameterError, match="must be a number of processes, got 'two'"
    ):
        worker_count()


@pytest.mark.parametrize("workers", [1, 2])
def test_threads_of_a_piece_can_be_chosen_and_are_restored(
    workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = torch.get_num_threads()
    monkeypatch.setenv("ROBUSTBOOK_WORKER_THREADS", "3")
    # Workers are kept from call to call, with the threads that they began with.
    _pools.clear()
    try:
        assert {
            threads
            for threads, _ in map_in_workers(threads_of, [1, 2], workers=workers)
        } == {3}
    finally:
        _pools.clear()
    assert torch.get_num_threads() == before
    monkeypatch.setenv("ROBUSTBOOK_WORKER_THREADS", "many")
    with pytest.raises(ParameterError, match="must be a number of threads, got 'many'"):
        map_in_workers(threads_of, [1], workers=1)


def test_after_an_idle_worker_died_the_call_after_the_next_works_again() -> None:
    process, *_ = {
        process for _, process in map_in_workers(threads_of, [1, 2, 3, 4], workers=2)
    }
    os.kill(process, signal.SIGKILL)

    def until_it_is_noticed() -> None:
        for _ in range(100):
            map_in_workers(threads_of, [1, 2], workers=2)
            Event().wait(0.05)

    with pytest.raises(BrokenProcessPool):
        until_it_is_noticed()
    assert len(map_in_workers(threads_of, [1, 2], workers=2)) == 2


def test_workers_that_were_started_early_are_those_that_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ROBUSTBOOK_WORKERS", "2")
    _pools.clear()
    start_workers()
    started = set(_pools[2]._processes)
    assert len(started) == 2
    assert {
        process for _, process in map_in_workers(threads_of, [1, 2, 3, 4])
    } <= started
    monkeypatch.setenv("ROBUSTBOOK_WORKERS", "1")
    _pools.clear()
    start_workers()
    assert not _pools


def test_an_interrupt_stops_a_worker_at_work_and_leaves_an_idle_one() -> None:
    processes = {
        process for _, process in map_in_workers(threads_of, [1, 2, 3, 4], workers=2)
    }
    for process in processes:
        os.kill(process, signal.SIGINT)
    assert {
        process for _, process in map_in_workers(threads_of, [1, 2, 3, 4], workers=2)
    } <= processes
    with pytest.raises(KeyboardInterrupt):
        map_in_workers(interrupt_itself, [1, 2], workers=2)
    assert {
        process for _, process in map_in_workers(threads_of, [1, 2, 3, 4], workers=2)
    } <= processes


def test_workers_end_when_their_parent_is_killed() -> None:
    program = (
        "import os, sys; sys.path.insert(0, 'tests'); from test_workers import "
        "threads_of\nfrom robustbook.workers import map_in_workers\nif __name__ == "
        "'__main__':\n    print(*{pid for _, pid in map_in_workers(threads_of, [1, 2], "
        "workers=2)}, flush=True)\n    os.kill(os.getpid(), 9)\n"
    )
    root = Path(__file__).parents[1]
    killed = subprocess.run(
        [sys.executable, "-c", program],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert killed.returncode == -9
    workers = [int(pid) for pid in killed.stdout.split()]
    assert workers
    deadline = monotonic() + 20
    while any(map(psutil.pid_exists, workers)) and monotonic() < deadline:
        Event().wait(0.1)
    assert not [pid for pid in workers if psutil.pid_exists(pid)]


@pytest.mark.parametrize("workers", [1, 2])
def test_pieces_are_counted_on_standard_error_alone_and_only_with_a_title(
    workers: int, capsys: pytest.CaptureFixture[str]
) -> None:
    map_in_workers(fail_at_two, [1, 3, 4], workers=workers)
    assert capsys.readouterr() == ("", "")
    map_in_workers(fail_at_two, [1, 3, 4], workers=workers, title="pieces")
    shown = capsys.readouterr()
    assert shown.out == ""
    assert last_line(shown.err).startswith("pieces: 3 of 3")


def test_the_newest_rewritten_line_is_found_and_other_messages_are_not() -> None:
    assert last_line("\rmaps: 1 of 3\rmaps: 2 of 3   ") == "maps: 2 of 3"
    assert last_line("\rmaps: 3 of 3\na warning") == "maps: 3 of 3"
    assert last_line("a warning\n") == ""


def test_progress_is_told_to_a_function_or_shown_or_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    told: list[tuple[int, int]] = []
    for progress in (lambda done, total: told.append((done, total)), False, True):
        with counting(progress, "maps", 2) as tell:
            tell(1, 2)
            tell(2, 2)
    assert told == [(1, 2), (2, 2)]
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("maps: 2 of 2") <= 2
    assert "maps: 2 of 2" in shown.err


def test_a_function_that_a_notebook_defines_reaches_the_workers():
    from nbclient import NotebookClient
    from nbformat.v4 import new_code_cell, new_notebook

    code = (
        "from functools import partial\n"
        "from robustbook.workers import map_in_workers\n"
        "factor = 3\n"
        "def times(item, plus):\n    return factor * item + plus",
        "map_in_workers(partial(times, plus=1), [1, 2, 3], workers=2)",
    )
    notebook = new_notebook(cells=[new_code_cell(text) for text in code])
    NotebookClient(notebook, kernel_name="python3", timeout=120).execute()
    assert notebook.cells[1].outputs[0].data["text/plain"] == "[4, 7, 10]"
