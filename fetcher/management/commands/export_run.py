"""``manage.py export_run``: a run's results as NDJSON or CSV, and its bodies as files."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from django.core.management.base import CommandError, CommandParser

from fetcher.cli.command import TrawlCommand
from fetcher.cli.lookup import asking, find_run, run_reference
from fetcher.cli.streams import ends_when_lost, raw_stream
from fetcher.cli.text import count
from fetcher.exports.bodies import BodyFolder, IndexItem
from fetcher.exports.files import whole_file
from fetcher.exports.rows import FORMATS, lines_of, result_pages
from fetcher.payloads import ResultItem

_EPILOG = """\
examples:
  manage.py export_run latest > results.ndjson
  manage.py export_run 12 --format csv --output results.csv
  manage.py export_run 12 --bodies pages

Results come in the order of their ids; sort by position to get the order of the list. In CSV a text that begins with
= + - @, a tab or a carriage return has an apostrophe in front, so that no spreadsheet takes it for a formula.

--bodies writes each different body once, as its SHA-256 and an extension, and an index (index.ndjson or index.csv)
from results to files. Files of the right size that are there already are kept, so an export can be repeated.

exit codes:
  0    everything was written
  1    an error: no such run, no database, a file that cannot be written, a body that cannot be read
  2    wrong usage
"""


class Command(TrawlCommand):
    """Thin: walk a run's results, write them down."""

    help = "Write a run's results as NDJSON or CSV, and its bodies as files."
    epilog = _EPILOG

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument("run", metavar="RUN", type=run_reference, help="a run's number, or latest")
        parser.add_argument("--format", choices=FORMATS, default="ndjson", help="(default: ndjson)")
        parser.add_argument("--output", metavar="PATH", default="-", help="a file; - is standard output (default: -)")
        parser.add_argument("--bodies", metavar="DIR", type=Path, help="write the bodies into this folder as well")

    def handle(self, *args: Any, **options: Any) -> None:
        """Write the export."""
        problems: list[str] = []
        with asking(), _clear_file_errors():
            run = find_run(options["run"])
            folder = None
            if options["bodies"] is not None:
                options["bodies"].mkdir(parents=True, exist_ok=True)
                folder = BodyFolder(options["bodies"], unavailable=problems.append)
            with contextlib.ExitStack() as files:
                if folder is None:  # otherwise the bodies are still to be saved
                    files.enter_context(ends_when_lost(raw_stream(self.stdout)))
                _export(
                    run.id,
                    options["format"],
                    files.enter_context(self._open(options["output"])),
                    folder,
                    None
                    if folder is None
                    else files.enter_context(whole_file(folder.folder / f"index.{options['format']}")),
                )
            if folder is not None:
                raw_stream(self.stderr).write(
                    f"{folder.folder}: {count(folder.written, 'file')} written, {count(folder.kept)} there already\n"
                )
        if problems:
            word = "body" if len(problems) == 1 else "bodies"
            raise CommandError(f"{count(len(problems))} {word} could not be read: {problems[0]}")

    @contextlib.contextmanager
    def _open(self, output: str) -> Iterator[Callable[[bytes], object]]:
        if output != "-":
            with whole_file(Path(output)) as file:
                yield file.write
            return
        out = raw_stream(self.stdout)
        yield out.write_bytes
        out.flush()


def _export(
    run: int, chosen: Any, write: Callable[[bytes], object], folder: BodyFolder | None, index: BinaryIO | None
) -> None:
    head, lines = lines_of(ResultItem, chosen)
    index_head, index_lines = lines_of(IndexItem, chosen)
    write(head)
    if index is not None:
        index.write(index_head)
    for items in result_pages(run):
        write(lines(items))
        if folder is not None and index is not None:
            index.write(index_lines(folder.add(items)))


@contextlib.contextmanager
def _clear_file_errors() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:  # the reader of a named pipe has left
        pass
    except OSError as exc:
        name = exc.filename2 or exc.filename or "the output"
        reason = (exc.strerror or str(exc)).lower()
        raise CommandError(f"{name}: cannot be written: {reason}") from None
