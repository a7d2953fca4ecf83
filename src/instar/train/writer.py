"""Work that goes on beside the training, one job at a time, whose error is kept until it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread

Job = Callable[[], None]


class Writer:
    """Runs a job on a thread. Whoever starts one has waited for the one before."""

    def __init__(self) -> None:
        self._running: Future[None] | None = None

    def start(self, job: Job) -> None:
        assert self._running is None, "a job is under way; wait for it first"
        running: Future[None] = Future()
        self._running = running
        # a second signal ends the process at once: what is half written then is swept by the next
        Thread(target=_finish, args=(job, running), daemon=True, name="instar-writer").start()

    def wait(self) -> Exception | None:
        """Go on when nothing is under way; the error of the job, once. Raises what is no mere Exception."""
        if self._running is None:
            return None
        running, self._running = self._running, None
        return attempt(running.result)


def attempt(job: Job) -> Exception | None:
    """Do it here and now; the error it ended with."""
    try:
        job()
    except Exception as error:  # whoever asked decides what it means
        return error
    return None


def _finish(job: Job, running: Future[None]) -> None:
    try:
        job()
    except BaseException as error:  # nothing is lost with the thread: it is raised where the job is waited for
        running.set_exception(error)
    else:
        running.set_result(None)
