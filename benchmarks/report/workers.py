"""Run jobs in several local processes, or on the workers of a Dask cluster.

A local worker is a process with a pipe: it receives one job after another and reports its progress. A pool of the standard
library breaks as a whole when one of its processes is killed, and the other rows are lost with it. With a pipe for each
worker, its death affects only the row that it had, which a new worker resumes from its checkpoint.
"""

import contextlib
import signal
from collections import Counter, deque
from dataclasses import dataclass
from multiprocessing import connection, get_context
from multiprocessing.process import BaseProcess

from tinyqae.errors import MissingPackage

MOST_DEATHS = 3
"""A job whose workers died this often is given up: the next one would probably die too, perhaps from lack of memory."""

DIED, DONE, FAILED, PROGRESS = "died", "done", "failed", "progress"


@dataclass
class _Worker:
    process: BaseProcess
    job: object = None


def run_here(jobs, processes, watch):
    """Run the jobs in this number of processes. watch: see bars.py. Returns {name of a failed job: why}."""
    waiting, deaths, failures, workers = deque(jobs), Counter(), {}, {}
    # Not by forking, which copies locks of this process's threads in whatever state they are.
    context = get_context("spawn")

    def start():
        mine, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs,), daemon=True)
        process.start()
        theirs.close()
        workers[mine] = _Worker(process)
        give(mine)

    def give(pipe):
        """Send the next job, or end the worker."""
        worker = workers[pipe]
        if not waiting:
            pipe.close()
            del workers[pipe]
            worker.process.join()
            return
        worker.job = waiting.popleft()
        watch.started(worker.job)
        # A worker that has just died is detected by the end of its pipe.
        with contextlib.suppress(OSError):
            pipe.send(worker.job)

    def bury(pipe):
        worker = workers.pop(pipe)
        pipe.close()
        worker.process.join()
        deaths[worker.job.name] += 1
        if deaths[worker.job.name] < MOST_DEATHS:
            waiting.appendleft(worker.job)
            watch.ended(worker.job, DIED)
        else:
            failures[worker.job.name] = f"its process died {MOST_DEATHS} times"
            watch.ended(worker.job, FAILED)
        if waiting:
            start()

    try:
        for _ in range(min(processes, len(jobs))):
            start()
        while workers:
            for pipe in connection.wait(list(workers)):
                try:
                    event, *details = pipe.recv()
                except (EOFError, OSError):
                    bury(pipe)
                    continue
                job = workers[pipe].job
                if event == PROGRESS:
                    watch.progress(job, *details)
                    continue
                if event == FAILED:
                    failures[job.name] = details[0]
                watch.ended(job, event)
                give(pipe)
    finally:
        for worker in workers.values():
            worker.process.kill()
    return failures


def _serve(pipe):
    """The loop of a worker, until the parent closes the pipe or is gone."""
    # Ctrl-C reaches all processes; this one is ended by its parent.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(EOFError, OSError):
        while True:
            job = pipe.recv()
            pipe.send(_outcome(job, lambda done, total, terms: pipe.send((PROGRESS, done / total, terms))))


def _outcome(job, progress=False):
    """Run a job; returns (DONE,) or (FAILED, why). A broken pipe propagates to the caller."""
    try:
        job.carry_out(progress)
    except BrokenPipeError:
        raise
    except Exception as error:  # Whatever it is, the other rows can be trained, and it is reported at the end.
        return FAILED, f"{type(error).__name__}: {error}"
    return (DONE,)


def run_on_dask(jobs, address, watch):
    """Run the jobs on the Dask cluster at `address`, whose workers have access to the same folder and the data. Dask passes
    the job of a dead worker to another one. Returns the same as `run_here`.
    """
    try:
        import joblib
        from dask.distributed import Client
    except ImportError as error:
        raise MissingPackage("--dask needs Dask and joblib: pip install 'tinyqae[dask]'") from error
    failures = {}
    with Client(address), joblib.parallel_config(backend="dask"):
        # One job per task, so that a dead worker affects only one.
        parallel = joblib.Parallel(return_as="generator_unordered", batch_size=1)
        for number, (event, *details) in parallel(joblib.delayed(_numbered)(i, job) for i, job in enumerate(jobs)):
            if event == FAILED:
                failures[jobs[number].name] = details[0]
            watch.ended(jobs[number], event)
    return failures


def _numbered(number, job):
    return number, _outcome(job)
