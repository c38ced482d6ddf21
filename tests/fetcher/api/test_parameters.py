"""What may stand in a query."""

from __future__ import annotations

import pytest
from django.http import QueryDict

from fetcher.api import parameters
from fetcher.api.errors import Problem
from fetcher.api.parameters import Parameter, parse_hosts, read_parameters


def refusal(query: str, *declared: Parameter) -> tuple[str, str]:
    with pytest.raises(Problem) as raised:
        read_parameters(QueryDict(query), declared)
    assert raised.value.status == 400
    return raised.value.members["parameter"], raised.value.detail


def test_what_is_given_is_parsed_and_what_is_not_is_left_out():
    declared = (parameters.HTTP_STATUS, parameters.CHANGED, parameters.STATE)
    assert read_parameters(QueryDict("http_status=404&changed=0"), declared) == {"http_status": 404, "changed": False}


def test_an_unknown_parameter_is_named_with_the_known_ones():
    assert refusal("colour=red", parameters.STATE, parameters.LABEL) == (
        "colour",
        "colour is not a parameter of this address; there are: label, state",
    )


def test_an_unknown_parameter_where_there_are_none():
    assert refusal("x=1")[1] == "x is not a parameter of this address; there are none here"


@pytest.mark.parametrize(
    ("query", "parameter", "detail"),
    [
        ("state=done", parameters.STATE,
         "state must be one of pending, running, completed, interrupted, cancelled, failed, not 'done'"),
        ("status=", parameters.STATUS, "status must be one of succeeded, not_modified, failed, skipped, not ''"),
        ("http_status=4xx", parameters.HTTP_STATUS, "http_status must be a status code such as 404, not '4xx'"),
        ("changed=maybe", parameters.CHANGED, "changed must be 1 or 0, not 'maybe'"),
        ("label=%00", parameters.LABEL, "label contains a NUL character"),
        ("label=a&label=b", parameters.LABEL, "label is given 2 times; give it once"),
        ("", parameters.URL, "url is missing"),
        ("url=a%20b", parameters.URL, "url contains white space; write %20 where a space is meant"),
        ("limit=0", parameters.LIMIT, "limit must be a whole number of at least 1, not '0'"),
        ("host=a/b", parameters.HOST, "host must be a host such as example.com or example.com:8080, not 'a/b'"),
    ],
)  # fmt: skip
def test_a_refusal_names_the_parameter_and_says_what_is_right(query, parameter, detail):
    assert refusal(query, parameter) == (parameter.name, detail)


def test_error_kinds_are_the_closed_set():
    assert read_parameters(QueryDict("error_kind=dns"), [parameters.ERROR_KIND]) == {"error_kind": "dns"}
    assert refusal("error_kind=dnss", parameters.ERROR_KIND)[0] == "error_kind"


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("example.com", ("example.com:80", "example.com:443")),
        ("Example.COM:8080", ("example.com:8080",)),
        ("192.0.2.1", ("192.0.2.1:80", "192.0.2.1:443")),
        ("[2001:db8::1]", ("[2001:db8::1]:80", "[2001:db8::1]:443")),
        ("[2001:db8::1]:81", ("[2001:db8::1]:81",)),
    ],
)
def test_a_host_is_a_politeness_key_or_its_two_usual_ports(text, hosts):
    assert parse_hosts(text) == hosts
