"""What Trawl's commands have in common."""

from __future__ import annotations

import contextlib
import sys
from argparse import RawDescriptionHelpFormatter, _SubParsersAction
from collections.abc import Iterator
from typing import Any, ClassVar, NoReturn, TextIO, cast

from django.core.management.base import BaseCommand, CommandParser, DjangoHelpFormatter
from django.db import DatabaseError

from fetcher.cli.streams import guarded, lost_output_is_an_error, raw_stream
from fetcher.texts import did_you_mean


class _HelpFormatter(DjangoHelpFormatter, RawDescriptionHelpFormatter):
    """Keeps line breaks, and names Django's own options last in the usage line."""


class _Parser(CommandParser):
    """Suggests the option that is most like an unknown one."""

    _given: tuple[str, ...] = ()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse, and remember what was given."""
        self._given = tuple(sys.argv[1:] if args is None else args)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and what may have been meant."""
        unknown = message.removeprefix("unrecognized arguments: ")
        if unknown != message:
            for word in (part.partition("=")[0] for part in unknown.split() if part.startswith("--")):
                if advice := did_you_mean(word, self._known(), "--"):
                    message = f"unknown option {word}{advice}"
                    break
        super().error(message)
        raise AssertionError

    def _known(self) -> Iterator[str]:
        """Yield the long options of this parser, and of the form that was called."""
        for action in self._actions:
            yield from (option for option in action.option_strings if option.startswith("--"))
            if isinstance(action, _SubParsersAction):
                forms = (form for name, form in action.choices.items() if name in self._given)
                for form in forms:
                    yield from (option for option in form._option_string_actions if option.startswith("--"))


class TrawlCommand(BaseCommand):
    """A command whose help ends with ``epilog`` (examples, exit codes), its line breaks kept.

    Its own options come first, those of every Django command last, in a group of their own.

    ``usage`` is said before a usage error instead of all options, where these are many.

    A write to a standard stream never raises. A command that could not write its output exits with 1 at its end, with
    one line on standard error; one whose reader has left (``| head -1``) ends as if it had been read.
    """

    epilog: ClassVar[str] = ""
    usage: ClassVar[str] = ""

    def __init__(self, stdout: TextIO | None = None, stderr: TextIO | None = None, **options: Any) -> None:
        out, err = guarded(stdout or sys.stdout), guarded(stderr or sys.stderr)
        super().__init__(cast("TextIO", out), cast("TextIO", err), **options)

    def run_from_argv(self, argv: list[str]) -> None:
        """Run the command of a command line; argparse writes help and usage errors to the guarded streams as well."""
        out, err = raw_stream(self.stdout), raw_stream(self.stderr)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                super().run_from_argv(argv)
            except SystemExit as exc:
                out.flush()
                if not exc.code and (problem := out.problem()):  # --help ends the command before execute()
                    self.stderr.write(f"CommandError: {problem}")
                    sys.exit(1)
                raise
            finally:
                err.flush()

    def execute(self, *args: Any, **options: Any) -> str | None:
        """Run the command. Raises CommandError (1) where its output could not be written."""
        for name in ("stdout", "stderr"):
            if options.get(name):
                options[name] = guarded(options[name])
        out, err = options.get("stdout"), options.get("stderr")
        with lost_output_is_an_error(out or raw_stream(self.stdout), err or raw_stream(self.stderr)):
            return super().execute(*args, **options)

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        """Add the epilog, and put Django's options at the end."""
        parser = super().create_parser(prog_name, subcommand, epilog=self.epilog, **kwargs)
        parser.__class__ = _Parser  # Django names the class in the middle of what it does
        parser.formatter_class = _HelpFormatter
        _move_djangos_options_last(parser)
        if self.usage:
            parser.usage = f"%(prog)s {self.usage}"
        return parser

    def check(self, *args: Any, **kwargs: Any) -> None:
        """Run the system checks.

        Some of Django's ask the database. Where it cannot be used, ``ensure_database`` is about to say so in one line.
        """
        with contextlib.suppress(DatabaseError):
            super().check(*args, **kwargs)


def _move_djangos_options_last(parser: CommandParser) -> None:
    # argparse cannot move an option: the groups are what its help is made of, and nothing else is.
    listed = parser._optionals._group_actions
    last = parser.add_argument_group("options of every Django command")._group_actions
    last += [action for action in listed if DjangoHelpFormatter.show_last.intersection(action.option_strings)]
    listed[:] = [action for action in listed if action not in last]
