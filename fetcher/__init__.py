"""Trawl's fetcher: lists of URLs in, saved results out.

Floors, top to bottom (imports go downward only)::

    management/commands, api     how people and programs come in
    service, queueing, slices    the use cases: fetched here; planned here, fetched by the cluster, slice by slice
    lead, execution, feed, sink  a run from its beginning to its end; one process's work on it
    store, payloads              all writes; the shapes that readers get
    models                       the tables
    sources                      input formats
    conf                         Django settings to FetchConfig
    engine                       fetching itself; knows no Django
"""
