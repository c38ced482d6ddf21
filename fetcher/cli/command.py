"""What Trawl's commands have in common."""

from __future__ import annotations

import contextlib
from argparse import RawDescriptionHelpFormatter
from typing import Any, ClassVar

from django.core.management.base import BaseCommand, CommandParser
from django.db import DatabaseError


class TrawlCommand(BaseCommand):
    """A command whose help ends with ``epilog`` (examples, exit codes), its line breaks kept.

    ``usage`` is said before a usage error instead of all options, where these are many.
    """

    epilog: ClassVar[str] = ""
    usage: ClassVar[str] = ""

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        """Add the epilog."""
        parser = super().create_parser(prog_name, subcommand, epilog=self.epilog, **kwargs)
        parser.formatter_class = RawDescriptionHelpFormatter
        if self.usage:
            parser.usage = f"%(prog)s {self.usage}"
        return parser

    def check(self, *args: Any, **kwargs: Any) -> None:
        """Run the system checks.

        Some of Django's ask the database. Where it cannot be used, ``ensure_database`` is about to say so in one line.
        """
        with contextlib.suppress(DatabaseError):
            super().check(*args, **kwargs)
