"""What a command says of a run's end, and prints of it: it was fetched here, or it is the cluster's."""

from __future__ import annotations

from typing import TextIO

from fetcher import payloads
from fetcher.cli.output import print_document
from fetcher.cli.runs import complete
from fetcher.cli.summary import print_handed, print_summary
from fetcher.cli.text import count, program
from fetcher.models import Run, RunState
from fetcher.progress import Progress


class Telling:
    """Of a run that this process fetches."""

    def stopping(self, progress: Progress, grace: float) -> str:
        """Return what is said when the first signal comes; nothing where it is empty."""
        if not progress.in_flight:
            return ""
        requests = count(progress.in_flight, "request")
        return f"stopping: {requests} in flight may take up to {grace:g} s; again to stop at once"

    def stopped(self, progress: Progress) -> str:
        """Return what is said at the end after a signal."""
        more = "" if progress.planned else "; the input was not read to its end"
        return (
            f"interrupted: {count(progress.done)} of {count(progress.accepted, 'target')} are saved{more}. "
            f"{self.how_to_go_on(progress)}"
        )

    def how_to_go_on(self, progress: Progress) -> str:
        """Return what to call after a run was left."""
        return f"Go on with: {program()} fetch_urls --resume {progress.run}"

    def unfinished(self, progress: Progress, state: str | None) -> str:
        """Return what is wrong with the state that a run ended in; nothing where it is as it should be."""
        if state == RunState.COMPLETED:
            return ""
        if state in (RunState.CANCELLED, RunState.FAILED):
            return ended_badly(progress.run, state)
        return f"run {progress.run} is {state}, not completed. {self.how_to_go_on(progress)}"

    def is_flawed(self, progress: Progress) -> bool:
        """Whether something failed."""
        return bool(progress.failed or progress.rejected)

    def show(self, stream: TextIO, progress: Progress, state: str | None, output: str) -> None:
        """Print the end."""
        if output == "json":
            print_document(stream, progress)
        elif output == "summary":
            print_summary(stream, progress)


class AwaitedTelling(Telling):
    """Of a run that the cluster fetches while this process waits for its end."""

    def stopping(self, progress: Progress, grace: float) -> str:
        """Return nothing: it ends at once."""
        return ""

    def stopped(self, progress: Progress) -> str:
        """Say who goes on with the run."""
        if progress.planned:
            return f"detached: {self.how_to_go_on(progress)}"
        return (
            f"interrupted: the input was not read to its end; the cluster fetches what was accepted, "
            f"{count(progress.accepted, 'target')}. {self.how_to_go_on(progress)}"
        )

    def how_to_go_on(self, progress: Progress) -> str:
        """Return how to read on, where there is more to read, otherwise how to follow and to cancel the run."""
        if not progress.planned:
            return f"Read on with: {program()} fetch_urls --resume {progress.run} --queue"
        return (
            f"run {progress.run} goes on on the cluster. Follow it with: {program()} runs show {progress.run} --watch; "
            f"cancel it with: {program()} runs cancel {progress.run}"
        )

    def unfinished(self, progress: Progress, state: str | None) -> str:
        """Say how to go on with a run that somebody took from the cluster and left."""
        if state != RunState.INTERRUPTED:
            return super().unfinished(progress, state)
        again = f"{program()} fetch_urls --resume {progress.run} --queue"
        return f"run {progress.run} is {state}, not completed. Go on with: {again}"

    def show(self, stream: TextIO, progress: Progress, state: str | None, output: str) -> None:
        """Print what a run that is fetched here prints; nothing where the run goes on."""
        if state in (None, RunState.PENDING, RunState.RUNNING):
            return
        complete(progress)
        super().show(stream, progress, state, output)


class HandedTelling(AwaitedTelling):
    """Of a run that is given to the cluster, which fetches it later."""

    def unfinished(self, progress: Progress, state: str | None) -> str:
        """Return what is wrong; to be not over yet is not."""
        return ended_badly(progress.run, state) if state in (RunState.CANCELLED, RunState.FAILED) else ""

    def is_flawed(self, progress: Progress) -> bool:
        """Whether something cannot be fetched."""
        return bool(progress.rejected)

    def show(self, stream: TextIO, progress: Progress, state: str | None, output: str) -> None:
        """Print what was handed over."""
        if output == "json":
            [run] = payloads.run_items(Run.objects.filter(pk=progress.run))
            stream.write(payloads.encode({"run": run}).decode() + "\n")
        else:
            print_handed(stream, progress)


def ended_badly(run: int, state: str | None) -> str:
    """Say that a run was cancelled, or why it failed."""
    if state == RunState.CANCELLED:
        return f"run {run} was cancelled"
    error = Run.objects.filter(pk=run).values_list("error", flat=True).first()
    return f"run {run} has failed{f': {error}' if error else ''}"
