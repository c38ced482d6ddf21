"""Saved jobs: a list of targets with options and a schedule. Imports the fetcher, never the reverse.

Floors, top to bottom (imports go downward only)::

    management/commands, cli     the commands, and what people see of them
    api, admin                   reading them as JSON and in a browser
    running                      one run of a job, and what is pruned afterwards
    payloads                     the shapes that readers get
    store, lists                 all writes: jobs; their lists of targets
    models                       the tables
    schedules                    when a job is due; knows no Django
"""
