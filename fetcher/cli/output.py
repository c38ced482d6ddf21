"""What a command prints of a run on standard output."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TextIO

from django.core.management.base import OutputWrapper

from fetcher import payloads
from fetcher.cli.streams import Stream, raw_stream
from fetcher.cli.summary import figures
from fetcher.models import Result, Run
from fetcher.progress import Progress

OUTPUTS = ("summary", "ndjson", "json")


class ResultPrinter:
    """Prints a JSON line for each result. When the stream cannot be written, the run continues without printing."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def print_results(self, ids: list[int]) -> None:
        """Print the results with these ids."""
        if self._stream.failure is None:  # otherwise reading the results is wasted
            self._stream.write("".join(payloads.encode_line(item).decode() for item in payloads.result_items(ids)))
            self._stream.flush()


def print_document(stream: TextIO, progress: Progress) -> None:
    """Print ``{"run": {...}, "summary": {...}, "items": [...]}``, reading a page of results at a time."""
    run = progress.run
    document = payloads.encode(payloads.run_items(Run.objects.filter(pk=run))[0]).decode()
    stream.write(f'{{"run": {document}, "summary": {payloads.encode(figures(progress)).decode()}, "items": [')
    separator = "\n"
    for ids in _pages(run):
        for item in payloads.result_items(ids):
            stream.write(separator + payloads.encode(item).decode())
            separator = ",\n"
    stream.write("\n]}\n")


def print_no_run(stdout: OutputWrapper, output: str) -> None:
    """Print what a program reads where there was nothing to make a run of: with ``json`` ``{"run": null, …}``."""
    if output == "json":
        out = raw_stream(stdout)
        out.write(payloads.encode({"run": None, "summary": figures(Progress()), "items": []}).decode() + "\n")
        out.flush()


def _pages(run: int) -> Iterator[list[int]]:
    after = 0
    while ids := Result.objects.page(run, after=after, limit=500):
        yield ids
        after = ids[-1]
