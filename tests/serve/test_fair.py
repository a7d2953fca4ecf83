"""Turns are shared by tokens: nobody who waits is left behind, and nobody saves up what they did not ask for."""

from collections import Counter
from itertools import count

from hypothesis import given, settings
from hypothesis import strategies as st

from instar.config.options import SamplingOptions
from instar.serve import fair
from instar.serve.fair import READ, SAID, FairQueue
from instar.serve.ticket import Ticket
from instar.serve.wire import Ask

LONGEST = 40  # tokens of a prompt, and of an answer


IDS = count()


def errand(client, prompt=1):
    return Ticket(Ask(next(IDS), [1] * prompt, SamplingOptions(), 0), client)


def served(queue, count=1):
    return [queue.next().client for _ in range(count)]


def test_the_client_with_least_is_next():
    """Of two clients the one that has had fewer tokens is next, whoever came first; its own requests keep their
    order."""
    queue = FairQueue()
    ours = [errand("a", 5), errand("a", 7), errand("a", 1)]
    for each in (*ours, errand("b", 4), errand("b", 4)):
        queue.add(each)
    assert len(queue) == len(list(queue)) == 5
    assert queue.next() is ours[0]  # a 5
    assert served(queue) == ["b"]  # b 4
    assert served(queue) == ["b"]  # b 8
    queue.charge("a", 10)
    assert queue.next() is ours[1]
    assert queue.next() is ours[2]
    assert not queue


def test_a_new_client_is_next_among_equals():
    """Who has just come stands where those stand who have had least, and has its turn before they have another."""
    queue = FairQueue()
    for _ in range(9):
        queue.add(errand("flood", 3))
    assert served(queue, 4) == ["flood"] * 4
    queue.add(errand("new", 3))
    assert served(queue, 2) == ["new", "flood"]


def test_nothing_is_saved_up():
    """Who asked for nothing for long does not get all turns on return, but its share: it is lifted to where the others
    stand, even where they have just left."""
    queue = FairQueue()
    queue.add(errand("idle"))
    assert served(queue) == ["idle"]
    for _ in range(60):
        queue.add(errand("busy", 10))
    served(queue, 50)
    for _ in range(10):
        queue.add(errand("idle", 10))
    assert Counter(served(queue, 10)) == {"idle": 5, "busy": 5}
    queue = FairQueue()
    queue.add(errand("busy", 1000))
    served(queue)
    queue.add(errand("new", 1))
    assert queue.had("new") == queue.had("busy") == READ * 1000


def test_who_leaves_the_queue_costs_nobody_a_turn():
    """A request that is taken out is not served, and the others keep their order."""
    queue = FairQueue()
    first, second, third = errand("a"), errand("a"), errand("b")
    for each in (first, second, third):
        queue.add(each)
    queue.remove(second)
    queue.remove(third)
    assert list(queue) == [first]
    assert queue.next() is first


def test_who_crowds_a_full_queue_gives_way():
    """For a client that brings some, whoever has most in the queue gives up its newest, as long as it then has no less;
    where that is not enough nobody gives up any, and nobody does for its own sake."""
    queue = FairQueue()
    most, some, few = [errand("most") for _ in range(6)], [errand("some") for _ in range(4)], [errand("few")]
    for each in (*most, *some, *few):
        queue.add(each)
    assert queue.crowding("new", 1, 1) == [most[5]]
    assert queue.crowding("new", 2, 4) == [most[5], most[4], most[3], some[3]]
    assert queue.crowding("few", 2, 2) == [most[5], most[4]]
    assert queue.crowding("few", 4, 2) == []
    assert queue.crowding("most", 1, 1) == []
    assert queue.crowding("new", 6, 1) == []
    assert len(queue) == 11


def together(client, count):
    """The errands of one request."""
    found = [errand(client) for _ in range(count)]
    for each in found:
        each.request, each.parts = found[0].id, count
    return found


def test_a_request_gives_way_whole_or_not_at_all():
    """None of its errands goes where one has begun, or where its client had less than who comes then; another of the
    same client may go instead, and after that those of the client who has most of the others."""
    queue = FairQueue()
    first, second, small, large = (together("most", count) for count in (2, 2, 1, 4))
    other = together("other", 3)
    for each in (*first, *second, *small, *large, *other):
        queue.add(each)
    queue.remove(first[0])
    queue.remove(second[0])
    assert queue.crowding("new", 1, 1) == large
    assert queue.crowding("new", 1, 5) == [*large, *small]
    assert queue.crowding("new", 1, 6) == []
    assert queue.crowding("new", 4, 1) == small
    for each in (*small, *large):
        queue.remove(each)
    assert queue.crowding("new", 1, 1) == []  # who has three of the others would have none
    queue.add(late := errand("other"))
    assert queue.crowding("new", 1, 1) == [late]


def test_a_turn_is_for_what_there_is_room_for():
    """Where there is room for answers alone, or for readings alone, the first of these is next, also behind others of
    the same client; None where there is none."""
    queue = FairQueue()
    reading, answer = errand("a"), errand("a")
    reading.reads = True
    queue.add(reading)
    queue.add(answer)
    assert queue.next([]) is None
    assert queue.next([False]) is answer
    assert queue.next([False]) is None
    assert queue.next([True]) is reading


def test_counters_do_not_grow_with_the_clients(monkeypatch):
    """However many clients have come and gone, counters of so many are kept, and none of one that waits is lost."""
    monkeypatch.setattr(fair, "MOST_CLIENTS", 10)
    queue = FairQueue()
    queue.add(errand("old"))
    queue.add(errand("old"))
    queue.charge("old", 100000)
    for number in range(500):
        queue.add(errand(f"client {number}"))
        queue.next()
    assert len(queue._counted) <= 12
    assert len(queue._turns) <= 12
    assert queue.had("old") >= 100000
    assert "old" in served(queue, 2)


@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.integers(1, LONGEST), st.integers(0, LONGEST)), min_size=1, max_size=80
    )
)
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
def test_what_two_busy_clients_have_differs_by_a_bound(work):
    """Theorem of the paper: while two clients both wait, what they have had never differs by more than twice the most
    that one request costs, whatever their requests are like."""
    queue = FairQueue()
    answers = {}
    for client, prompt, answer in work:
        each = errand(client, prompt)
        answers[each] = answer
        queue.add(each)
    had = Counter()
    while {each.client for each in queue} == {"a", "b"}:
        each = queue.next()
        had[each.client] += READ * each.tokens + SAID * answers[each]
        queue.charge(each.client, SAID * answers[each])
        assert abs(had["a"] - had["b"]) <= 2 * (READ + SAID) * LONGEST
