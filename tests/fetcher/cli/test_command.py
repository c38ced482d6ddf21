"""What all commands have in common."""

from __future__ import annotations

import re
from importlib import import_module
from pkgutil import iter_modules

import pytest
from django.core.management.base import DjangoHelpFormatter

from fetcher.cli.command import TrawlCommand
from fetcher.management import commands
from jobs.management import commands as job_commands
from tests.support.commands import call

COMMANDS = {
    module.name: import_module(f"{package.__name__}.{module.name}").Command
    for package in (commands, job_commands)
    for module in iter_modules(package.__path__)
}


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_our_options_before_those_of_every_django_command(name: str) -> None:
    command: TrawlCommand = COMMANDS[name]()
    text = command.create_parser("manage.py", name).format_help()
    heads = [line for line in text.partition("\nexamples:\n")[0].splitlines() if line[:2] in ("op", "  ")]
    place = heads.index("options of every Django command:")
    ours, djangos = _listed(heads[:place]), _listed(heads[place:])
    assert djangos == DjangoHelpFormatter.show_last & djangos
    assert {"--settings", "--verbosity", "--traceback"} <= djangos
    assert not ours & djangos


def _listed(lines: list[str]) -> set[str]:
    """Return the long options that lines of a help describe; other lines are indented further."""
    return {found[1] for line in lines if (found := re.match(r"  (?:-\w(?: \S+)?, )?(--[\w-]+)", line))}


def test_usage_names_djangos_options_last() -> None:
    usage = COMMANDS["prune_runs"]().create_parser("manage.py", "prune_runs").format_usage()
    assert usage.index("--dry-run") < usage.index("--settings")


def test_options_still_work_where_they_stand() -> None:
    parser = COMMANDS["prune_runs"]().create_parser("manage.py", "prune_runs")
    given = parser.parse_args(["--keep", "3", "--traceback", "-v", "2"])
    assert (given.keep, given.traceback, given.verbosity) == (3, True, 2)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ("fetch_urls --concurency 5 http://a.example/", "unknown option --concurency; did you mean --concurrency?"),
        ("fetch_urls --read-timout=5s http://a.example/", "unknown option --read-timout; did you mean --read-timeout?"),
        ("prune_runs --older-then 5d", "unknown option --older-then; did you mean --older-than?"),
        ("runs list --lable x", "unknown option --lable; did you mean --label?"),
        ("job add news --evry 15m http://a.example/", "unknown option --evry; did you mean --every?"),
        ("job set news --overlpa skip", "unknown option --overlpa; did you mean --overlap?"),
        ("job list --evry 15m", "unrecognized arguments: --evry"),
        ("fetch_urls --xyz http://a.example/", "unrecognized arguments: --xyz"),
    ],
)
def test_misspelt_option_is_a_usage_error_that_names_the_one_that_may_be_meant(arguments: str, text: str) -> None:
    called = call(*arguments.split())
    assert (called.returncode, called.stdout) == (2, "")
    assert text in called.stderr
