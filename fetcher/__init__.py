"""Trawl's fetcher: lists of URLs in, saved results out.

Floors, top to bottom (imports go downward only)::

    management/commands, api     how people and programs come in
    service                      the use case: engine and store joined
    store, payloads              all writes; the shapes that readers get
    models                       the tables
    sources                      input formats
    conf                         Django settings to FetchConfig
    engine                       fetching itself; knows no Django
"""
