"""When a batch is due and which texts it takes, with the clock in hand."""

import pytest

from normalizer.llm.packing import BatchSize, Budget, Cost, Pace, PendingTexts
from normalizer.llm.prompt import Record
from normalizer.llm.single_flight import PendingText


def entry(name="x", *, since=0.0, deadline=300.0, tokens_out=40, max_call_size=None):
    return PendingText(name, name, Record(name), Cost(20, tokens_out, max_call_size), since, deadline, deadline - since)


def line(**options):
    given = {"budget": Budget(), "size": BatchSize(start=5), "pace": Pace(), "linger_s": 0.2, "call_timeout_s": 60.0}
    return PendingTexts(**(given | options))


def filled(*entries, **options):
    it = line(**options)
    for each in entries:
        it.add(each)
    return it


def test_nothing_is_never_due():
    assert line().due_in(0.0, nothing_more=True) is None


def test_a_lone_text_lingers_since_it_came():
    it = filled(entry(since=10.0), entry(since=10.1))

    assert it.due_in(10.15, nothing_more=False) == pytest.approx(0.05)
    assert it.due_in(10.3, nothing_more=False) == 0.0
    assert it.due_in(10.15, nothing_more=True) == 0.0


def test_a_full_batch_is_due_at_once():
    assert filled(*(entry() for _ in range(5))).due_in(0.0, nothing_more=False) == 0.0


def test_a_batch_full_of_output_tokens_is_due_at_once():
    it = filled(entry(tokens_out=900), entry(tokens_out=900), budget=Budget(tokens_out=1_500), size=BatchSize(start=50))

    assert it.due_in(0.0, nothing_more=False) == 0.0
    assert len(it.next_batch(0.0)) == 1


def test_what_is_asked_again_goes_first_and_keeps_its_small_company():
    fresh = [entry(f"f{number}") for number in range(5)]
    again = [entry(f"a{number}", max_call_size=2) for number in range(3)]
    it = filled(*fresh)
    it.add_again(again)

    assert [it.next_batch(0.0) for _ in range(4)] == [again[:2], again[2:], fresh, []]


def test_what_must_be_alone_cuts_no_batch_of_the_others():
    others = [entry(f"o{number}") for number in range(5)]
    alone = entry("alone", max_call_size=1)
    it = filled(*others[:2], alone, *others[2:])

    assert [it.next_batch(0.0) for _ in range(3)] == [others, [alone], []]


def test_what_was_put_back_is_first_in_line():
    first, second, third = (entry(name) for name in "abc")
    it = filled(third)
    it.put_back([first, second])

    assert it.next_batch(0.0) == [first, second, third]


def test_a_batch_is_sized_to_end_before_its_first_deadline():
    entries = [entry(deadline=110.0, tokens_out=40) for _ in range(20)]
    it = filled(*entries, size=BatchSize(start=50), pace=Pace(latency_s=1.0, tokens_per_s=20.0))

    batch = it.next_batch(100.0)

    assert 1 <= len(batch) < 20
    assert 1.0 + len(batch) * 40 / 20.0 <= 10.0


def test_what_would_not_end_in_time_is_taken_out():
    soon, later = entry(deadline=104.0), entry(deadline=300.0)
    it = filled(soon, later, pace=Pace(latency_s=10.0, tokens_per_s=20.0))

    assert it.take_late(100.0) == [soon]
    assert it.next_batch(100.0) == [later]


def test_however_slow_the_endpoint_seems_a_new_text_may_start():
    fresh = entry(since=100.0, deadline=110.0)
    it = filled(fresh, pace=Pace(latency_s=59.0, tokens_per_s=1.0))

    assert it.take_late(100.0) == []
    assert it.next_batch(100.0) == [fresh]


def test_what_has_no_time_left_at_a_point_is_taken_out_of_both_queues():
    early, late, again = entry(deadline=10.0), entry(deadline=50.0), entry(deadline=10.0)
    it = filled(early, late)
    it.add_again([again])

    assert it.take(lambda each: each.deadline <= 20.0) == [again, early]
    assert it.take() == [late]


def test_what_is_not_wanted_any_more_is_dropped():
    wanted, unwanted = entry("a"), entry("b")
    it = filled(wanted, unwanted)

    it.take(lambda each: each is not wanted)

    assert it.take() == [wanted]
