"""Defects put into a step of our own code: it raises whenever it is given a certain target's data."""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable
from typing import Any

import pytest


def find(name: str) -> tuple[Any, str]:
    """Return the owner of ``module:name`` or ``module:Class.name``, and the last part."""
    module, _, path = name.partition(":")
    *outer, attribute = path.split(".")
    owner = functools.reduce(getattr, outer, importlib.import_module(module))
    return owner, attribute


def inject(monkeypatch: pytest.MonkeyPatch, step: str, mark: str, error: Callable[[], Exception]) -> Callable[[], int]:
    """Have a step raise where ``mark`` is in what it is given. Returns the function that counts how often it did."""
    owner, attribute = find(step)
    static = inspect.getattr_static(owner, attribute)
    original = getattr(owner, attribute)
    raised = 0

    def check(values: object) -> None:
        nonlocal raised
        if mark in repr(values):
            raised += 1
            raise error()

    @functools.wraps(original)
    def called(*args: Any, **kwargs: Any) -> Any:
        check((args, kwargs))
        return original(*args, **kwargs)

    @functools.wraps(original)
    async def awaited(*args: Any, **kwargs: Any) -> Any:
        check((args, kwargs))
        return await original(*args, **kwargs)

    wrapped: Any = awaited if inspect.iscoroutinefunction(original) else called
    if isinstance(static, classmethod | staticmethod):
        wrapped = staticmethod(wrapped)
    monkeypatch.setattr(owner, attribute, wrapped)
    return lambda: raised
