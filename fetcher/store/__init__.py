"""The only place that writes the tables. Everything here is synchronous and runs in a process's one writer thread.

::

    plan      a source's entries to targets, lanes and shards
    leases    workers, and the lanes that they hold
    shards    a shard's payload; its targets with what their previous result gives
    record    outcomes to results, bodies and counters
    bodies    content to rows and files
    prepared  a run from shards that were planned before
    runs      a run from its creation to its end
"""
