"""A shard's payload, and its targets made ready for the engine."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetcher.engine.config import FetchConfig
from fetcher.engine.errors import ErrorKind
from fetcher.engine.types import Status, Validators
from fetcher.models import PLACES, Body, Shard
from fetcher.store import runs, shards
from fetcher.store.plan import Planner
from fetcher.store.shards import Payload, decode_payload, encode_payload
from tests.support.stored import entries, fetch, open_targets, outcome, plan, record

URL = "http://a.example/1"
ETAG = (("ETag", '"v1"'), ("Last-Modified", "Tue, 14 Nov 2023 22:13:20 GMT"))

ids = st.integers(min_value=0, max_value=2**62)


class TestPayload:
    @given(st.lists(st.tuples(ids, ids, st.none() | st.text(max_size=20)), max_size=50), st.booleans())
    def test_comes_back_as_it_was(self, rows, labelled):
        payload = Payload(
            [row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows] if labelled else None
        )
        assert decode_payload(encode_payload(payload)) == payload

    def test_of_neighbours_is_small(self):
        assert len(encode_payload(Payload(list(range(10**9, 10**9 + 500)), list(range(500))))) < 100


@pytest.mark.django_db
class TestOpenSlots:
    def test_leaves_out_what_has_a_result(self):
        run = plan(*(f"http://a.example/{number}" for number in range(4)))
        targets = open_targets(run)
        record(run, [outcome(targets[0]), outcome(targets[2])])
        shard = Shard.objects.get().pk
        assert [slot.position for slot in shards.open_slots([shard])[shard]] == [1, 3]

    def test_gives_ids_in_the_range_of_the_shard(self):
        plan("http://a.example/1", "http://a.example/2")
        shard = Shard.objects.get().pk
        assert [slot.result for slot in shards.open_slots([shard])[shard]] == [shard * PLACES, shard * PLACES + 1]

    def test_of_several_shards_are_told_apart(self):
        run = plan(*(f"http://a.example/{number}" for number in range(1001)))
        first, second, third = Shard.objects.order_by("id").values_list("id", flat=True)
        record(run, [outcome(target) for target in open_targets(run) if target.key.position >= 999])
        found = shards.open_slots([third, first, second])
        positions = {shard: [slot.position for slot in slots] for shard, slots in found.items()}
        assert positions == {first: list(range(500)), second: list(range(500, 999)), third: []}


@pytest.mark.django_db
class TestOpenShards:
    def test_leaves_out_what_is_done_and_what_was_taken_before(self):
        run = plan(*(f"http://a.example/{number}" for number in range(1501)))
        first, second, third, fourth = Shard.objects.order_by("id").values_list("id", flat=True)
        shards.mark_done([first, third])
        lane = Shard.objects.get(pk=first).lane_id
        assert shards.open_shards([lane], after={}) == [(lane, second), (lane, fourth)]
        assert shards.open_shards([lane], after={lane: second}) == [(lane, fourth)]
        assert Shard.objects.filter(run=run).count() == 4


@pytest.mark.django_db
class TestValidators:
    def again(self, **options) -> Validators | None:
        return open_targets(plan(URL), **options)[0].validators

    def test_are_what_the_previous_good_result_gave(self):
        fetch(URL, headers=ETAG)
        assert self.again() == Validators(ETAG[0][1], ETAG[1][1], URL)

    def test_go_to_the_address_that_gave_them(self):
        fetch(URL, headers=ETAG, final_url="http://b.example/elsewhere")
        assert self.again().url == "http://b.example/elsewhere"

    def test_are_none_the_first_time(self):
        assert self.again() is None

    def test_are_none_where_the_server_gave_none(self):
        fetch(URL)
        assert self.again() is None

    def test_are_none_where_the_request_is_unconditional(self):
        fetch(URL, headers=ETAG)
        assert self.again(conditional=False) is None

    def test_are_none_where_the_target_has_a_condition_of_its_own(self):
        entry = entries(URL)[0]
        conditional = msgspec.structs.replace(
            entry, target=msgspec.structs.replace(entry.target, headers=(("if-None-match", "*"),))
        )
        for _ in range(2):
            run = runs.create_run(FetchConfig())
            Planner(run).add([conditional])
            [target] = open_targets(run)
            assert target.validators is None
            record(run, [outcome(target, headers=ETAG)])

    def test_are_none_where_other_credentials_were_sent(self):
        fetch(URL, headers=ETAG, config=FetchConfig(headers=(("Authorization", "Bearer one"),)))
        assert self.again() is None
        assert self.again(config=FetchConfig(headers=(("Authorization", "Bearer two"),))) is None
        assert self.again(config=FetchConfig(headers=(("authorization", "Bearer one"),))) is not None

    def test_are_kept_where_only_the_user_agent_differs(self):
        fetch(URL, headers=ETAG)
        assert self.again(config=FetchConfig(user_agent="other/2")) is not None
        assert self.again(config=FetchConfig(headers=(("User-Agent", "third/3"),))) is not None

    @pytest.mark.parametrize("gone", ["the row", "the content"])
    def test_are_none_where_the_body_is_not_stored_any_more(self, gone):
        fetch(URL, headers=ETAG)
        if gone == "the row":
            Body.objects.all().delete()
        else:
            Body.objects.update(content=None)
        assert self.again() is None

    def test_come_from_the_newest_good_result_past_failures(self):
        fetch(URL, headers=(("ETag", '"old"'),))
        fetch(URL, headers=(("ETag", '"new"'),))
        fetch(
            URL,
            headers=(("ETag", '"failed"'),),
            status=Status.FAILED,
            error_kind=ErrorKind.HTTP_STATUS,
            http_status=500,
        )
        assert self.again().etag == '"new"'

    def test_of_this_very_run_are_not_taken(self):
        run = plan(URL)
        [target] = open_targets(run)
        record(run, [outcome(target, headers=ETAG)])
        slot = shards.Slot(target.key.result, target.key.target, target.key.lane, 0, None)
        [again] = shards.load_targets(run, [slot], lambda own: target.key.variant)
        assert again.validators is None
