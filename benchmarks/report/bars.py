"""Progress while rows are trained: a bar for each running row and one for all of them; plain lines without a terminal."""

import sys
import time

from tqdm import tqdm

from .workers import DIED, DONE, FAILED

WORDS = {DONE: "done", DIED: "its process died; taken up again", FAILED: "failed"}
OVERALL = "{desc}: {percentage:3.0f}%|{bar}| {elapsed} gone, {remaining} left"
ROW = "  {desc}: {percentage:3.0f}%|{bar:20}|{postfix}"


def watch(jobs):
    """Return a display of the progress of these jobs, with `started(job)`, `progress(job, share done, loss terms)`,
    `ended(job, how)` and `close()`.
    """
    return Bars(jobs) if sys.stderr.isatty() else Lines(jobs)


class Lines:
    """Print a line for each row that ends, with the remaining time. Shares of the work are shares of its expected time."""

    def __init__(self, jobs):
        self.expected, self.done, self.count = sum(job.seconds for job in jobs), 0.0, 0
        self.jobs, self.began = len(jobs), time.monotonic()

    def started(self, job):
        """Print nothing when a row starts."""

    def progress(self, job, share, terms):
        """Print nothing while a row is trained."""

    def ended(self, job, how):
        """Print that a row ended, and how."""
        left = ""
        if how != DIED:
            self.done += job.seconds
            self.count += 1
            elapsed = time.monotonic() - self.began
            left = f", about {tqdm.format_interval(elapsed * (self.expected / self.done - 1))} left"
        print(f"[{self.count}/{self.jobs}] {job.name}: {WORDS[how]}{left}", file=sys.stderr, flush=True)

    def close(self):
        """Print nothing at the end."""


class Bars(Lines):
    """The same, as progress bars."""

    def __init__(self, jobs):
        super().__init__(jobs)
        # smoothing 0: compute the remaining time from the mean speed, since rows differ.
        self.overall = tqdm(total=self.expected, bar_format=OVERALL, smoothing=0, position=0, dynamic_ncols=True)
        self.rows, self.shares = {}, {}
        self._show()

    def started(self, job):
        """Add a bar for the row in the first free line."""
        position = next(i for i in range(1, len(self.rows) + 2) if i not in {-bar.pos for bar in self.rows.values()})
        self.rows[job.name] = tqdm(
            total=1, bar_format=ROW, desc=job.name, position=position, leave=False, dynamic_ncols=True
        )

    def progress(self, job, share, terms):
        """Update the row's bar and the overall one."""
        bar = self.rows[job.name]
        bar.set_postfix({name: f"{value:.4f}" for name, value in terms.items()}, refresh=False)
        bar.n = share
        bar.refresh()
        self.shares[job.name] = share * job.seconds
        self._show()

    def ended(self, job, how):
        """Remove the row's bar."""
        bar = self.rows.pop(job.name, None)  # On a cluster rows have none.
        if bar:
            bar.close()
        self.shares.pop(job.name, None)
        if how != DIED:
            self.done += job.seconds
            self.count += 1
        if how != DONE:
            tqdm.write(f"{job.name}: {WORDS[how]}", file=sys.stderr)
        self._show()

    def _show(self):
        self.overall.n = min(self.done + sum(self.shares.values()), self.expected)
        self.overall.set_description_str(f"{self.count} of {self.jobs} rows", refresh=True)

    def close(self):
        """Close all bars, to leave the terminal as it was."""
        for bar in [*self.rows.values(), self.overall]:
            bar.close()
