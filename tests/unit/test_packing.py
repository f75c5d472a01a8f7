"""The laws of packing, and what batch size and pace learn."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from normalizer.llm.packing import BatchSize, Budget, Cost, Pace, pack

costs = st.builds(
    Cost,
    tokens_in=st.integers(0, 600),
    tokens_out=st.integers(0, 600),
    max_call_size=st.one_of(st.none(), st.integers(1, 60)),
)
budgets = st.builds(Budget, items=st.integers(1, 50), tokens_in=st.integers(0, 4_000), tokens_out=st.integers(0, 2_500))


@given(st.lists(costs), budgets)
def test_order_is_kept_and_nothing_is_lost(items, budget):
    batches = list(pack(items, budget=budget, cost=lambda item: item))

    assert [item for batch in batches for item in batch] == items
    assert all(batches)


@given(st.lists(costs), budgets)
def test_only_a_single_item_alone_exceeds_a_budget(items, budget):
    for batch in pack(items, budget=budget, cost=lambda item: item):
        if len(batch) > 1:
            assert len(batch) <= budget.items
            assert sum(item.tokens_in for item in batch) <= budget.tokens_in
            assert sum(item.tokens_out for item in batch) <= budget.tokens_out
            assert len(batch) <= min((item.max_call_size for item in batch if item.max_call_size), default=budget.items)


@given(st.lists(costs, min_size=2), budgets)
def test_neighbouring_batches_could_not_have_been_one(items, budget):
    batches = list(pack(items, budget=budget, cost=lambda item: item))

    for left, right in itertools.pairwise(batches):
        merged = [*left, right[0]]
        assert (
            len(merged) > budget.items
            or sum(item.tokens_in for item in merged) > budget.tokens_in
            or sum(item.tokens_out for item in merged) > budget.tokens_out
            or any(item.max_call_size for item in merged)
        )


def test_an_item_that_must_be_alone_is_alone():
    items = [Cost(1, 1), Cost(1, 1, max_call_size=1), Cost(1, 1)]

    batches = list(pack(items, budget=Budget(), cost=lambda item: item))

    assert batches == [[items[0]], [items[1]], [items[2]]]


def test_items_that_want_company_of_three_at_most_go_by_threes():
    items = [Cost(1, 1, max_call_size=3)] * 7

    assert [len(batch) for batch in pack(items, budget=Budget(items=25), cost=lambda item: item)] == [3, 3, 1]


def test_the_time_left_bounds_output_tokens():
    assert Budget(tokens_out=2_500).within(400).tokens_out == 400
    assert Budget(tokens_out=300).within(400).tokens_out == 300
    assert Budget().within(-5).tokens_out == 0


def test_size_grows_to_the_cap_while_full_batches_come_back_whole():
    size = BatchSize(start=25)
    sizes = []
    for _ in range(7):
        size.observe(asked=size.items, valid=size.items)
        sizes.append(size.items)

    assert sizes == [30, 35, 40, 45, 50, 50, 50]


def test_size_halves_to_the_floor_when_records_come_back_broken():
    size = BatchSize(start=25)
    sizes = []
    for _ in range(4):
        size.observe(asked=size.items, valid=size.items // 2)
        sizes.append(size.items)

    assert sizes == [12, 6, 3, 1]


def test_a_small_or_empty_batch_teaches_nothing_about_larger_ones():
    size = BatchSize(start=25)
    size.observe(asked=3, valid=3)
    size.observe(asked=2, valid=0)
    size.observe(asked=0, valid=0)

    assert size.items == 25


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=60))
def test_size_stays_within_its_bounds(answers):
    size = BatchSize()
    for asked, valid in answers:
        size.observe(asked=asked, valid=min(asked, valid))
        assert 1 <= size.items <= 50


def test_pace_learns_latency_and_speed():
    pace = Pace()
    for tokens in [200, 800, 400, 1_200, 100, 900] * 5:
        pace.observe(tokens_out=tokens, seconds=2.0 + tokens / 20)

    assert abs(pace.seconds(600) - 32.0) < 1.0
    assert abs(pace.tokens_within(32.0) - 600) < 30


def test_pace_forgets_a_slow_hour():
    pace = Pace()
    for _ in range(10):
        pace.observe(tokens_out=500, seconds=55.0)
    for tokens in [300, 500, 700] * 15:
        pace.observe(tokens_out=tokens, seconds=0.5 + tokens / 100)

    assert pace.seconds(500) < 8.0


@given(st.lists(st.tuples(st.integers(0, 3_000), st.floats(0, 90)), max_size=40), st.floats(0, 60))
def test_pace_never_promises_the_impossible(calls, left_s):
    pace = Pace()
    for tokens_out, seconds in calls:
        pace.observe(tokens_out=tokens_out, seconds=seconds)

    assert pace.tokens_within(left_s) >= 0
    assert pace.seconds(0) >= 0
    assert pace.seconds(1_000) >= pace.seconds(100)
