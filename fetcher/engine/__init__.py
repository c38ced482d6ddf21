"""Fetching without Django: targets and a configuration in, outcomes out.

``runner.fetch_all`` is the entrance. ``types``, ``errors`` and ``config`` are its vocabulary.
"""
