"""``manage.py job``: jobs are added, looked at, changed, run."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils import timezone

from fetcher.cli.calling import add_output_options, add_source_options, add_split_option, add_workers_option
from fetcher.cli.command import TrawlCommand
from fetcher.cli.lookup import asking
from fetcher.cli.options import add_fetch_options, add_request_options
from fetcher.cli.queueing import add_queue_options
from fetcher.cli.streams import raw_stream, use_utf8
from fetcher.payloads import encode
from jobs import payloads, store
from jobs.cli import editing, running
from jobs.cli.options import add_name, add_policy_options, add_schedule_options
from jobs.cli.showing import print_job, print_jobs
from jobs.models import Job

_EPILOG = """\
examples:
  manage.py job add feeds --file feeds.opml --every 15m
  manage.py job add items --file items.csv --daily 06:30 --time-zone Europe/Berlin --keep-runs 10 --keep-days 7
  manage.py job add pages --weekly mon 09:00 --per-host 2 --host-delay 500ms https://example.org/ https://example.com/feed.xml
  manage.py job add api --cron '*/5 8-17 * * mon-fri' --header 'Authorization: env:API_TOKEN' https://api.example.org/items
  manage.py job list
  manage.py job show feeds
  manage.py job set feeds --every 1h --overlap queue --start-jitter 30s --max-attempts 6
  manage.py job set api --no-schedule
  manage.py job import items --file items.jsonl
  manage.py job export items > targets.jsonl
  manage.py job pause pages
  manage.py job run pages
  manage.py job run items --queue
  manage.py job resume pages
  manage.py job list --output json
  manage.py job remove pages

Each form has options of its own: manage.py job add --help.

exit codes:
  0    done
  1    an error: no such job, a file that cannot be read, no database; nothing was saved
  2    wrong usage
  3    add, import: saved, but some lines are no URLs; run: finished, but some URLs failed
  130, 143    interrupted by Ctrl-C or SIGTERM
"""
_FORMS = {
    "add": "save a list of URLs, with options and a schedule",
    "list": "list jobs",
    "show": "show one job: its list, when it is due, its last runs",
    "set": "change a job's options, schedule or policies",
    "import": "replace a job's list; the old one stays until all of the new one is read",
    "export": "print a job's list as JSON lines, which import reads; values of secret headers are left out",
    "pause": "let the schedule and run_job pass a job over",
    "resume": "undo pause",
    "run": "fetch a job's list now, also where it is paused",
    "remove": "remove a job and its list; its runs stay",
}


class IntermixedParser(CommandParser):
    """Takes options between the positional arguments: ``job add NAME --every 15m URL``."""

    _within = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse; argparse's own way takes what stands before the first option for all there is."""
        if self._within:  # which is how the other way does it
            return super().parse_known_args(args, namespace)
        self._within = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._within = False


class Command(TrawlCommand):
    """Thin: one function for each form."""

    help = "Save lists of URLs as jobs, look at them, change and run them."
    epilog = _EPILOG

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the forms."""
        forms = parser.add_subparsers(
            dest="form", required=True, metavar="|".join(_FORMS), parser_class=IntermixedParser
        )
        found = {name: forms.add_parser(name, help=text, description=text) for name, text in _FORMS.items()}
        for name, form in found.items():
            if name != "list":
                add_name(form)
        for name in ("add", "import"):
            add_source_options(found[name])
            found[name].usage = f"manage.py job {name} [options] NAME [URL ...]"
        found["set"].usage = "manage.py job set [options] NAME"
        for name in ("add", "set"):
            add_schedule_options(found[name])
            add_policy_options(found[name])
            add_request_options(found[name])
            add_fetch_options(found[name])
        add_split_option(found["add"])
        processes = found["run"].add_argument_group("processes")
        add_workers_option(processes)
        add_queue_options(processes)
        add_output_options(found["run"])
        found["list"].add_argument("--output", choices=("table", "json"), default="table", help="(default: table)")
        found["show"].add_argument(
            "--output", choices=("summary", "json"), default="summary", help="(default: summary)"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Do what the form says."""
        match options["form"]:
            case "add":
                editing.add(options, stdout=self.stdout, stderr=self.stderr)
            case "set":
                editing.change(options, stdout=self.stdout)
            case "import":
                editing.replace(options, stdout=self.stdout, stderr=self.stderr)
            case "export":
                editing.export(options, stdout=self.stdout, stderr=self.stderr)
            case "pause" | "resume":
                editing.switch(options, enabled=options["form"] == "resume", stdout=self.stdout)
            case "remove":
                editing.remove(options, stdout=self.stdout)
            case "run":
                running.run(options, stdout=self.stdout, stderr=self.stderr, scheduled=False)
            case _:
                self._tell(options)

    def _tell(self, options: dict[str, Any]) -> None:
        out = raw_stream(self.stdout)
        use_utf8(out)
        with asking():
            if options["form"] == "list":
                self._list(out, options["output"])
            else:
                self._show(out, options)
            out.flush()

    def _list(self, out: Any, output: str) -> None:
        jobs = payloads.job_items(Job.objects.order_by("name"))
        if output == "json":
            out.write(encode(jobs).decode() + "\n")
        elif jobs:
            print_jobs(out, jobs)
        else:
            raw_stream(self.stderr).write("there is no job yet; manage.py job add makes one\n")

    def _show(self, out: Any, options: dict[str, Any]) -> None:
        try:
            job = store.find_job(options["name"])
        except store.NoSuchJob as exc:
            raise CommandError(str(exc)) from None
        found = payloads.job_detail(job.name, timezone.now())
        if found is None:
            raise CommandError(f"job {job.name} was removed just now")
        if options["output"] == "json":
            out.write(encode(found).decode() + "\n")
        else:
            print_job(out, found, job.list_id)
