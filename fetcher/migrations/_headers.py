"""Headers of earlier versions to those of this one: a reference to the environment was text, and a secret was ``***``.

That text could only come from the operator: from options and settings, and from lists and calls for the variables that
``FETCHER_LIST_ENVIRONMENT`` named. All other text that began with ``env:`` was refused. So it is a reference here; from
now on text is text.
"""

import re
from contextlib import suppress

import msgspec

from fetcher.engine.sensitive import secret_headers
from fetcher.secrets import UnsealError, seal, unseal

_WRITTEN = re.compile(r"(env|basic-env):(.+)", re.DOTALL)
_USUAL = {"authorization", "cookie", "proxy-authorization", "x-api-key"}
_MASK = "***"
_CHUNK = 2000


class _Secrets(msgspec.Struct, omit_defaults=True):
    headers: tuple[tuple[str, str], ...] | None = None
    data: bytes | None = None
    values: tuple[str | None, ...] = ()


def _typed(value):
    written = _WRITTEN.fullmatch(value) if isinstance(value, str) else None
    if written is None:
        return value
    return {"env": written[2], **({"basic": True} if written[1] == "basic-env" else {})}


def _text(value):
    return f"{'basic-env' if value.get('basic') else 'env'}:{value['env']}" if isinstance(value, dict) else value


def change_targets(model, change):
    """Rewrite the headers of targets that have some of their own."""
    rows = model.objects.filter(headers__isnull=False).only("id", "headers").order_by("id")
    changed = []
    for row in rows.iterator(chunk_size=_CHUNK):
        headers = [[name, change(value)] for name, value in row.headers]
        if headers != row.headers:
            row.headers = headers
            changed.append(row)
        if len(changed) >= _CHUNK:
            model.objects.bulk_update(changed, ["headers"], batch_size=500)
            changed = []
    model.objects.bulk_update(changed, ["headers"], batch_size=500)


def type_targets(model):
    """Make references of targets objects."""
    change_targets(model, _typed)


def untype_targets(model):
    """Make them text again."""
    change_targets(model, _text)


def type_options(model, *, over=()):
    """Make references in stored options objects, and secrets null.

    Literals that are secret by now, and stood in clear, are sealed; in states that are ``over`` they are removed.
    """
    for row in model.objects.order_by("id").iterator(chunk_size=_CHUNK):
        options = dict(row.options)
        chosen = {*options.get("secret_headers", ())} - _USUAL
        options["secret_headers"] = sorted(chosen)
        options.setdefault("secret_parameters", [])
        headers = options.get("headers", [])
        names = secret_headers(frozenset(chosen))
        options["headers"] = [[name, _typed(value)] for name, value in headers]
        places = [place for place, (name, value) in enumerate(options["headers"]) if name in names and _is_text(value)]
        values = tuple(None if headers[place][1] == _MASK else headers[place][1] for place in places)
        wiped = getattr(row, "state", None) in over
        if not any(values) or wiped or _seal_too(row, values):
            for place in places:
                options["headers"][place][1] = None
        if options != row.options:
            row.options = options
            row.save(update_fields=["options", "secrets"])


def _is_text(value):
    return isinstance(value, str)


def _seal_too(row, values):
    """Seal values that stood in clear; False where what is sealed beside them cannot be opened."""
    with suppress(UnsealError):
        sealed = unseal(bytes(row.secrets), _Secrets) if row.secrets else _Secrets()
        if sealed.headers is None:  # otherwise it has all of them
            sealed.values = values
            row.secrets = seal(sealed)
        return True
    return False


def untype_options(model):
    """Make references text again, and secrets ``***``; what earlier versions read of sealed headers is put there."""
    for row in model.objects.order_by("id").iterator(chunk_size=_CHUNK):
        options = dict(row.options)
        options["secret_headers"] = sorted(_USUAL | {*options.get("secret_headers", ())})
        options.pop("secret_parameters", None)
        headers = [[name, _text(value)] for name, value in options.get("headers", [])]
        with suppress(UnsealError):
            sealed = unseal(bytes(row.secrets), _Secrets) if row.secrets else _Secrets()
            if sealed.values:
                values = iter(sealed.values)
                whole = tuple((name, next(values, None) or "" if value is None else value) for name, value in headers)
                row.secrets = seal(_Secrets(headers=whole, data=sealed.data))
        options["headers"] = [[name, _MASK if value is None else value] for name, value in headers]
        row.options = options
        row.save(update_fields=["options", "secrets"])
