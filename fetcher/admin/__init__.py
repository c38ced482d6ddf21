"""The admin pages: runs, results, targets, bodies and rejected lines, to look at and never to change.

They stay usable at millions of rows: no list counts its table, sorts or filters by a column without an index, or goes
on past ``base.CAP`` rows; whoever needs more of them reads the API or exports.
"""

from fetcher.admin import bodies, results, runs, targets

__all__ = ["bodies", "results", "runs", "targets"]
