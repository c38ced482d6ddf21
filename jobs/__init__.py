"""Saved jobs: a list of targets with options and a schedule. Imports the fetcher, never the reverse.

Floors, top to bottom (imports go downward only)::

    management/commands, cli     the commands, and what people see of them
    api, admin                   reading them as JSON and in a browser
    tasks, sweeping, firing      what the queue calls: work, firings of schedules, what was lost
    watching                     sees to it that there is a sweep
    running                      one run of a job, and what is pruned afterwards
    payloads                     the shapes that readers get
    store, lists, timers         all writes: jobs; their lists of targets; their alarms in the queue's tables
    models, cluster              the tables; the queue, for the fetcher
    schedules                    when a job is due; knows no Django
"""
