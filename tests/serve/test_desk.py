"""Where requests wait: every one of them ends once, nobody is forgotten, and no engine gets more than it has rows."""

import asyncio
import base64
import logging
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as run_machine

from instar.config.options import SamplingOptions, ServeOptions
from instar.serve.desk import Desk
from instar.serve.failure import Refusal
from instar.serve.metrics import Metrics
from instar.serve.wire import Ask, Beat, Cancel, Embed, Failed, Refused, Score, Scored, Taken, Told, Vectors

SAMPLING = SamplingOptions()


class Clock(asyncio.SelectorEventLoop):
    """An event loop whose time passes when it is told to."""

    now = 1000.0

    def __init__(self):
        super().__init__()
        self.faults = []  # what timers and tasks came to grief with
        self.set_exception_handler(lambda _, context: self.faults.append(context))

    def time(self):
        return self.now


class Rows:
    """Engines that do what they are told and nothing more: what they say is said by the test. rows: of each engine that
    lives, what it works at."""

    def __init__(self, count, slots):
        self.facts, self.dead = SimpleNamespace(slots=slots, speaks=True), asyncio.Event()
        self.rows = {engine: {} for engine in range(count)}
        self.told, self.beats, self.heard_at, self.order = [], {}, {}, []

    def living(self):
        return sorted(self.rows)

    def tell(self, engine, message):
        self.told.append(message)
        rows = self.rows.get(engine, {})
        if isinstance(message, Cancel):
            del rows[message.id]
        else:
            rows[message.id] = message
            self.order.append(message)
            answers = sum(isinstance(row, Ask) for row in rows.values())
            assert answers <= self.facts.slots, "an engine was asked for more than it has rows"


class Tally(Metrics):
    """Counters that are cheap to look at."""

    def __init__(self):
        super().__init__()
        self.counted = {"started": 0, "finished": 0, "failed": 0, "aborted": 0}

    def started(self, kind):
        super().started(kind)
        self.counted["started"] += 1

    def ended(self, kind, how):
        super().ended(kind, how)
        self.counted[how] += 1


class Stand:
    """A desk, its engines, its counters, and a clock that stands still."""

    def __init__(self, count=1, slots=2, **options):
        self.loop = Clock()
        self.options = ServeOptions(model="m", **options)
        self.metrics, self.fleet = Tally(), Rows(count, slots)
        self.desk = Desk(self.fleet, self.metrics, self.options)

    def run(self, work):
        """Run a coroutine, or call a function on the loop."""

        async def calling():
            found = work()
            return await found if asyncio.iscoroutine(found) else found

        return self.loop.run_until_complete(calling())

    def ask(self, client="a", count=1, prompt=(1, 2, 3), kind="chat", **rest):
        asks = [Ask(0, list(prompt), SAMPLING, seed, **rest) for seed in range(count)]
        tickets = self.run(lambda: self.desk.ask(asks, client, kind=kind))
        return tickets[0] if count == 1 else tickets

    def hear(self, message, engine=0):
        self.run(lambda: self.desk.heard(engine, message))

    def say(self, ticket, *tokens, finish=None, cached=0, alternatives=None):
        """Its engine says tokens of an answer, and with the last of them how it ended."""
        for place, token in enumerate(tokens):
            last = finish if place + 1 == len(tokens) else None
            if last is not None:
                self.fleet.rows[ticket.engine].pop(ticket.id, None)
            self.hear(Told([[ticket.id, token, -0.5, last, alternatives, cached]]), ticket.engine)

    def lose(self, engine):
        del self.fleet.rows[engine]
        self.run(lambda: self.desk.lost(engine))

    def start(self, work):
        """Begin a coroutine, and see it wait."""

        async def begin():
            task = asyncio.ensure_future(work)
            await turns()
            return task

        return self.loop.run_until_complete(begin())

    def pass_by(self, seconds):
        self.loop.now += seconds
        self.loop.run_until_complete(turns())

    def read(self, ticket):
        """All tokens that have come -> (ids, finish or Refusal or None where it goes on)."""

        async def reading():
            ids = []
            try:
                while True:
                    await turns()
                    step = asyncio.ensure_future(anext(aiter(ticket), None))
                    await turns()
                    if not step.done():
                        step.cancel()
                        return ids, None
                    token = step.result()
                    if token is None:
                        return ids, "read before"
                    if token.id is not None:
                        ids.append(token.id)
                    if token.finish:
                        return ids, token.finish
            except Refusal as refusal:
                return ids, refusal

        return self.loop.run_until_complete(reading())

    def counted(self):
        """What the desk told its counters: started, and ended by outcome."""
        return dict(self.metrics.counted)


async def turns(count=4):
    """Let everything go on that can, without time passing."""
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.fixture
def stand():
    """stand(engines, rows of each, options of ServeOptions) -> Stand."""
    made = []

    def make(count=1, slots=2, **options):
        made.append(Stand(count, slots, **options))
        return made[-1]

    yield make
    for each in made:
        each.loop.close()
        assert not each.loop.faults


def refused(ticket, here):
    """The Refusal with which an answer ended."""
    _, how = here.read(ticket)
    assert isinstance(how, Refusal), how
    return how


def test_an_answer_comes_token_by_token(stand):
    """What an engine says of a request is read in its order, with log-probabilities and alternatives, to its end; a
    stop says nothing itself, and the last token of a longest answer comes with its end."""
    here = stand()
    ticket = here.ask(prompt=[5, 6, 7])
    here.say(ticket, 11, cached=2, alternatives=[[11, -0.5], [12, -1.5]])
    here.say(ticket, 13, None, finish="stop")
    assert ticket.cached == 2
    assert ticket.count == 2

    async def reading():
        return [token async for token in ticket]

    tokens = here.run(reading)
    assert [(token.id, token.logprob, token.finish) for token in tokens] == [
        (11, -0.5, None), (13, -0.5, None), (None, -0.5, "stop"),
    ]  # fmt: skip
    assert tokens[0].alternatives == [(11, -0.5), (12, -1.5)]
    full = here.ask()
    here.say(full, 1, 2, finish="length")
    assert here.read(full) == ([1, 2], "length")
    assert here.counted() == {"started": 2, "finished": 2, "failed": 0, "aborted": 0}


def test_a_reader_that_gives_up_waiting_loses_nothing(stand):
    """A stream that waits for a token with a limit, to send pings, gets the token afterwards all the same."""
    here = stand()
    ticket = here.ask()
    step = here.start(anext(aiter(ticket)))
    assert not step.done()
    step.cancel()
    here.say(ticket, 4, 5, finish="length")
    assert here.read(ticket) == ([4, 5], "length")
    assert here.read(ticket) == ([], "read before")


def test_as_many_run_as_there_are_rows_and_the_rest_in_order(stand):
    """An engine is asked for no more than it has rows; who waits is next when one is free, in the order of coming."""
    here = stand(slots=2)
    tickets = here.ask(count=5)
    assert (here.desk.running, here.desk.waiting) == (2, 3)
    for done in range(5):
        here.say(tickets[done], None, finish="stop")
    assert [message.id for message in here.fleet.order] == [ticket.id for ticket in tickets]
    assert (here.desk.running, here.desk.waiting) == (0, 0)


def test_a_full_queue_refuses_and_says_when_to_come_again(stand):
    """S2: at most `queue` requests wait; the next is 429 with Retry-After by the pace of the last minute; of a request
    for several answers none is queued where not all can be."""
    here = stand(slots=1, queue=4)
    first = here.ask()
    here.pass_by(10)
    here.say(first, None, finish="stop")  # one in ten seconds
    tickets = here.ask(count=4)
    with pytest.raises(Refusal) as error:
        here.ask(count=2)
    assert error.value.status == 429
    assert here.desk.waiting == 3
    assert error.value.headers["Retry-After"] == "30"
    assert error.value.code == "queue_full"
    here.ask()
    here.pass_by(61)  # nothing has ended in the last minute, and what waited is late
    here.ask(count=4)
    with pytest.raises(Refusal) as error:
        here.ask()
    assert error.value.headers["Retry-After"] == "60"
    assert len(tickets) == 4
    counted = here.counted()
    assert counted["started"] == 10  # who is refused has not started


@pytest.mark.parametrize("ends", [0, 1, 3, 300])
def test_retry_after_stays_within_what_clients_wait(ends, stand):
    """S2: whatever the pace, Retry-After is a whole number from 1 to 120, since OpenAI's client waits no longer."""
    here = stand(slots=1, queue=256, queue_seconds=1000)
    for _ in range(ends):
        here.say(here.ask(), None, finish="stop")
    here.ask(count=257)
    here.pass_by(50)
    with pytest.raises(Refusal) as error:
        here.ask()
    assert 1 <= int(error.value.headers["Retry-After"]) <= 120


def test_more_answers_than_there_is_ever_room_for_are_the_requests_fault(stand):
    """A request for more answers than queue and rows hold is 400: told to come again, it would come for ever. S2: one
    that only does not fit now is 429 and told to wait at least a second, be the queue empty or not."""
    here = stand(slots=2, queue=3)
    here.say(here.ask(), None, finish="stop")
    here.ask()
    with pytest.raises(Refusal) as error:
        here.ask(count=5)
    assert (error.value.status, error.value.headers["Retry-After"]) == (429, "1")
    here = stand(slots=2, queue=3)
    with pytest.raises(Refusal) as error:
        here.ask(count=6)
    assert error.value.status == 400
    here.ask(count=5)
    assert (here.desk.running, here.desk.waiting) == (2, 3)


def test_one_client_cannot_crowd_out_another(stand):
    """Fair between clients: who comes with one request while another has a hundred waiting is next."""
    here = stand(slots=1, queue=256)
    flood = here.ask("flood", count=100)
    here.say(flood[0], *range(50), finish="length")
    polite = here.ask("polite")
    here.say(flood[1], None, finish="stop")
    assert here.fleet.order[-1].id == polite.id
    assert here.desk.running == 1


def test_a_full_queue_is_full_for_those_who_filled_it(stand):
    """Fair between clients, S2: one client that fills the queue keeps nobody out: its newest are told 429 in the place
    of what another brings, and its others go on waiting; who would have as many is told 429 itself."""
    here = stand(slots=1, queue=6)
    flood = [here.ask("flood") for _ in range(7)]
    polite = here.ask("polite", count=2)
    assert {refused(ticket, here).status for ticket in flood[5:]} == {429}
    assert here.read(flood[4]) == ([], None)
    assert here.desk.waiting == 6
    for client, count in (("flood", 1), ("other", 3)):
        with pytest.raises(Refusal) as error:
            here.ask(client, count=count)
        assert error.value.status == 429
    here.say(flood[0], None, finish="stop")
    assert polite[0].engine == 0
    assert here.counted() == {"started": 9, "finished": 1, "failed": 2, "aborted": 0}


def test_an_answer_of_which_a_sibling_has_begun_is_not_given_up(stand):
    """Fair between clients, S2: of several answers to one request either all give up their places or none; of those
    that have begun the rest is not taken away, and where only such wait who comes is told 429."""
    here = stand(slots=2, queue=5)
    begun = here.ask("flood", count=5)
    late = here.ask("flood", count=2)
    here.ask("polite", count=2)
    assert {refused(ticket, here).status for ticket in late} == {429}
    assert here.desk.waiting == 5
    with pytest.raises(Refusal) as error:
        here.ask("third")
    assert error.value.status == 429
    assert not any(ticket.over for ticket in begun)
    assert here.counted() == {"started": 9, "finished": 0, "failed": 2, "aborted": 0}
    here = stand(slots=1, queue=7)
    begun, whole = here.ask("flood", count=2), here.ask("flood", count=4)
    with pytest.raises(Refusal, match="Too many requests"):
        here.ask("polite", count=3)  # the rest of what has begun would be enough
    assert not any(ticket.over for ticket in (*begun, *whole))


def test_a_full_queue_uses_what_is_free_before_anybody_gives_way(stand):
    """S2, S15: an engine that was started again has room before it is heard of; nobody gives up a place while there is
    room, and no engine works at what was given up."""
    here = stand(count=2, slots=1, queue=6)
    here.lose(0)
    here.ask("other")
    heap = [here.start(here.desk.embed(Embed(0, [[1]]), "flood")) for _ in range(8)]
    answers = [here.ask("flood"), here.ask("flood")]
    assert (here.desk.running, here.desk.waiting) == (5, 6)
    here.fleet.rows[0] = {}
    here.ask("polite", count=3)
    assert [(answer.engine, answer.over) for answer in answers] == [(0, False), (None, False)]
    assert (here.desk.running, here.desk.waiting) == (10, 4)
    assert here.counted()["failed"] == 0
    for task in heap:
        task.cancel()
    here.pass_by(0)


def test_a_heap_of_texts_to_be_read_keeps_no_answer_waiting(stand):
    """S1: vectors and scores take no row of an engine's answers and are bounded by themselves: an answer begins beside
    any number of them, the same client's too, and they are read beside any number of answers."""
    here = stand(slots=8)
    heap = [here.start(here.desk.embed(Embed(0, [[1]] * 9), "a")) for _ in range(10)]
    assert (here.desk.running, here.desk.waiting) == (4, 6)
    tickets = here.ask(count=9)
    assert [ticket.engine for ticket in tickets] == [0] * 8 + [None]
    heap[0].cancel()
    here.pass_by(0)
    assert (here.desk.running, here.desk.waiting) == (12, 6)
    assert isinstance(here.fleet.order[-1], Embed)
    for task in heap:
        task.cancel()
    here.pass_by(0)


def test_a_model_of_vectors_alone_reads_as_many_as_it_has_rows(stand):
    """Where there are no answers, nothing need be left for them."""
    here = stand(slots=8)
    here.fleet.facts.speaks = False
    heap = [here.start(here.desk.embed(Embed(0, [[1]]), "a")) for _ in range(10)]
    assert (here.desk.running, here.desk.waiting) == (8, 2)
    for task in heap:
        task.cancel()
    here.pass_by(0)


def test_an_engine_that_hangs_gets_nothing_more(stand):
    """S15: one that has said nothing for ten seconds is passed over; where it is the only one, what comes waits with
    its time running, and has its turn when the engine is heard of."""
    here = stand(count=2, slots=4)
    here.fleet.heard_at = {0: here.loop.now - 11, 1: here.loop.now}
    assert {ticket.engine for ticket in here.ask(count=4)} == {1}
    only = stand(slots=4, queue_seconds=30)
    only.fleet.heard_at = {0: only.loop.now - 11}
    first, second = only.ask(), only.ask()
    assert first.engine is None
    only.fleet.heard_at[0] = only.loop.now
    only.hear(Beat(0, 0, 1, 1, 1, 0))
    assert (first.engine, second.engine) == (0, 0)
    only.fleet.heard_at[0] -= 20
    third = only.ask()
    only.pass_by(31)
    assert refused(third, only).status == 504


def test_long_answers_cost_turns(stand):
    """Fair between clients: who has had many tokens of answers waits for who has had few."""
    here = stand(slots=1)
    long, short = here.ask("long", count=3), here.ask("short", count=3)
    here.say(long[0], *range(20), finish="length")
    for ticket in short:
        here.say(ticket, None, finish="stop")
    asked = [message.id for message in here.fleet.order]
    assert asked == [ticket.id for ticket in (long[0], *short, long[1])]


@pytest.mark.parametrize(
    ("wait", "tokens", "words"),
    [(10, None, "waiting for its turn"), (20, 0, "waiting for its first token"), (30, 1, "of work")],
)
def test_time_runs_out(wait, tokens, words, stand):
    """S25: a request that waits too long for its turn, for its first token or for its last one is 504, and its row is
    free for the next at once: the engine hears Cancel before it hears of another."""
    here = stand(slots=1, queue_seconds=10, first_seconds=20, total_seconds=30)
    ticket = here.ask("a")
    if tokens is None:
        ticket = here.ask("b")
    elif tokens:
        here.say(ticket, 1)
    here.pass_by(wait - 1)
    assert here.read(ticket)[1] is None
    nextone = here.ask("c") if tokens is not None else None
    here.pass_by(1.01)
    assert refused(ticket, here).status == 504
    assert words in refused(ticket, here).message
    if nextone is not None:
        assert [type(message) for message in here.fleet.told[-2:]] == [Cancel, Ask]
        assert here.fleet.told[-1].id == nextone.id
    assert here.counted()["failed"] == 1


def test_an_answer_that_keeps_going_is_not_late(stand):
    """S25: the first token ends the wait for it, and an answer's end all of its timers."""
    here = stand(queue_seconds=10, first_seconds=20, total_seconds=600)
    ticket = here.ask()
    here.pass_by(15)
    here.say(ticket, 1)
    here.pass_by(500)
    here.say(ticket, 2, finish="length")
    here.pass_by(1000)
    assert here.read(ticket) == ([1, 2], "length")
    assert here.counted()["failed"] == 0


def test_who_leaves_frees_a_row_before_the_next_is_asked_for(stand):
    """S3: to cancel a running answer tells its engine at once, one that waits tells nobody; both count as aborted, a
    second time does nothing, and what the engine still says of it is nobody's."""
    here = stand(slots=1)
    running, waiting, last = here.ask("a"), here.ask("b"), here.ask("c")
    here.say(running, 1)
    here.run(lambda: waiting.cancel())
    here.run(lambda: running.cancel())
    here.run(lambda: running.cancel())
    assert [type(message) for message in here.fleet.told] == [Ask, Cancel, Ask]
    assert here.fleet.told[-1].id == last.id
    here.hear(Told([[running.id, 2, -0.5, None, None, 0], [running.id, None, 0.0, "cancelled", None, 0]]))
    here.say(last, 3, finish="length")
    assert here.read(last) == ([3], "length")
    assert here.read(running)[0] == []
    assert here.counted() == {"started": 3, "finished": 1, "failed": 0, "aborted": 2}


def test_an_answer_cut_at_a_text_is_finished(stand):
    """An answer that the front cuts at a stop text is given up by its engine and counts as finished, not as aborted."""
    here = stand()
    ticket = here.ask()
    here.say(ticket, 1)
    here.run(lambda: ticket.enough())
    assert isinstance(here.fleet.told[-1], Cancel)
    assert here.counted() == {"started": 1, "finished": 1, "failed": 0, "aborted": 0}


def test_who_stops_reading_is_given_up(stand):
    """S4: of an answer that is not read at most 1 MB waits, then it is aborted; its neighbour notices nothing."""
    here = stand()
    slow, quick = here.ask("slow"), here.ask("quick")
    here.say(slow, 1)
    here.say(quick, 1)
    assert here.read(slow)[0] == here.read(quick)[0] == [1]
    step = here.start(anext(aiter(quick)))
    alternatives = [[token, -1.0] for token in range(20)]
    said = 0
    while not slow.over and said < 1000:
        here.say(slow, 7, alternatives=alternatives)
        said += 1
    assert 300 < said < 400  # of about 2.8 KB each
    assert here.fleet.told[-1] == Cancel(slow.id)
    assert refused(slow, here).status == 499
    here.say(quick, 2)
    assert step.result().id == 2
    here.say(quick, 3, finish="length")
    assert here.read(quick) == ([3], "length")
    assert here.counted()["aborted"] == 1


def test_an_answer_may_be_long_before_its_reading_begins(stand):
    """S4 is about readers that stop: the second of two answers that are read one after the other may wait as long as it
    likes, and is then read whole."""
    here = stand()
    ticket = here.ask()
    here.run(lambda: desk_says(here, ticket, 5000))
    here.say(ticket, 1, finish="length")
    ids, finish = here.read(ticket)
    assert (len(ids), finish) == (5001, "length")


def desk_says(here, ticket, tokens):
    """One step says many tokens."""
    here.desk.heard(0, Told([[ticket.id, 7, -0.5, None, None, 0]] * tokens))


def test_who_reads_may_read_for_ever(stand):
    """What was read no longer counts as waiting, however much it was."""
    here = stand()
    ticket = here.ask()
    for _ in range(5):
        here.run(lambda: desk_says(here, ticket, 1500))
        assert here.read(ticket) == ([7] * 1500, None)
    assert not ticket.over


def test_a_refused_request_is_its_own_fault_and_a_failed_one_ours(stand, caplog):
    """S12, S23: what the engine refuses is 400 with its field, what fails in it is 500 and tells the client nothing of
    the reason, which the log has; the request beside them goes on."""
    here = stand(slots=5)
    wrong, broken, torn, cut, good = here.ask(count=5)
    for ticket in (wrong, broken, torn, cut):
        del here.fleet.rows[0][ticket.id]
    here.hear(Taken(good.id))
    here.hear(Refused(wrong.id, "no such thing", "logit_bias"))
    with caplog.at_level(logging.ERROR, "instar.serve"):
        here.hear(Failed(broken.id, "matrix has a hole"))
    here.hear(Told([[torn.id, None, 0.0, "failed", None, 0], [cut.id, None, 0.0, "cancelled", None, 0]]))
    told = [refused(ticket, here) for ticket in (wrong, broken, torn, cut)]
    assert [one.status for one in told] == [400, 500, 500, 500]
    assert told[0].param == "logit_bias"
    assert not any("hole" in one.message for one in told)
    assert "matrix has a hole" in caplog.text
    here.say(good, 1, finish="length")
    assert here.read(good) == ([1], "length")
    assert here.counted() == {"started": 5, "finished": 1, "failed": 4, "aborted": 0}


def test_what_was_said_before_a_failure_is_read_before_it(stand):
    """An answer that breaks off gives the tokens that it had, and then the reason: never a silent end."""
    here = stand()
    ticket = here.ask()
    here.say(ticket, 1, 2)
    here.lose(0)
    ids, how = here.read(ticket)
    assert ids == [1, 2]
    assert (how.status, how.code) == (503, "engine_died")


def test_one_engine_of_two_dies(stand):
    """S15: only the requests of the engine that died fail; who waits goes to the other, and to the one that is started
    again as soon as it is heard of."""
    here = stand(count=2, slots=1)
    tickets = here.ask(count=4)
    assert [ticket.engine for ticket in tickets] == [0, 1, None, None]
    here.lose(0)
    assert refused(tickets[0], here).status == 503
    assert here.read(tickets[1]) == ([], None)
    assert tickets[2].engine is None
    here.say(tickets[1], 1, finish="length")
    assert tickets[2].engine == 1
    here.fleet.rows[0] = {}
    here.hear(Beat(0, 0, 1, 1, 1, 0), engine=0)
    assert tickets[3].engine == 0


def test_the_last_engine_dies(stand):
    """S15: where no engine lives, what runs and what waits fails with 503, and so does what comes."""
    here = stand(slots=1)
    running, waiting = here.ask(), here.ask()
    here.lose(0)
    assert {refused(ticket, here).status for ticket in (running, waiting)} == {503}
    assert not here.desk.ready
    with pytest.raises(Refusal) as error:
        here.ask()
    assert error.value.status == 503
    assert here.counted() == {"started": 2, "finished": 0, "failed": 2, "aborted": 0}


def test_drain_lets_answers_end_and_fails_the_rest(stand):
    """S14: from the first moment nothing new is taken and the desk is not ready; what was taken goes on, those that
    wait too; what has not ended in time fails with 503, and its engine is told."""
    here = stand(slots=1)
    first, second, third = here.ask(count=3)
    drained = here.start(here.desk.drain(30))
    assert not here.desk.ready
    with pytest.raises(Refusal) as error:
        here.ask()
    assert (error.value.status, error.value.code) == (503, "draining")
    here.say(first, 1, finish="length")
    assert second.engine == 0
    here.pass_by(29)
    assert not drained.done()
    here.pass_by(1.5)
    assert here.loop.run_until_complete(drained) == 2
    assert here.read(first) == ([1], "length")
    assert {refused(ticket, here).status for ticket in (second, third)} == {503}
    assert here.fleet.told[-1] == Cancel(second.id)
    assert not any(here.fleet.rows.values())


def test_drain_ends_with_the_last_answer(stand):
    """S14: a desk with nothing to do is drained at once, and a busy one as soon as its last answer has ended."""
    here = stand()
    assert here.run(lambda: here.desk.drain(30)) == 0
    busy = stand()
    ticket = busy.ask()
    drained = busy.start(busy.desk.drain(30))
    busy.say(ticket, 1, finish="length")
    assert busy.loop.run_until_complete(drained) == 0
    hurried = stand()
    hurried.ask()
    slow = hurried.start(hurried.desk.drain(30))
    assert hurried.run(lambda: hurried.desk.drain(0)) == 1
    assert hurried.loop.run_until_complete(slow) == 0


def test_a_drain_that_is_broken_off_leaves_nobody_without_a_word(stand):
    """S14: a second signal ends the waiting for answers, and each of them is told so."""
    here = stand(slots=1)
    running, waiting = here.ask(count=2)
    drained = here.start(here.desk.drain(30))
    drained.cancel()
    here.pass_by(0)
    assert drained.cancelled()
    assert {refused(ticket, here).code for ticket in (running, waiting)} == {"draining"}


def test_vectors_and_scores(stand):
    """Vectors arrive as float32, row after row, and scores as they were told; both take a turn and count."""
    here = stand()
    rows = np.arange(6, dtype="<f4").reshape(2, 3)
    embedding = here.start(here.desk.embed(Embed(0, [[1], [2, 3]]), "a"))
    asked = here.fleet.order[-1]
    del here.fleet.rows[0][asked.id]
    here.hear(Vectors(asked.id, base64.b64encode(rows.tobytes()).decode(), 3))
    assert np.array_equal(here.loop.run_until_complete(embedding), rows)
    scoring = here.start(here.desk.score(Score(0, [1, 2, 3], 1), "a"))
    asked = here.fleet.order[-1]
    del here.fleet.rows[0][asked.id]
    here.hear(Scored(asked.id, [-1.0, -2.0], []))
    assert here.loop.run_until_complete(scoring).logprobs == [-1.0, -2.0]
    assert here.counted() == {"started": 2, "finished": 2, "failed": 0, "aborted": 0}


def test_vectors_that_nobody_waits_for_are_given_up(stand):
    """S3, S25: whoever is cancelled while it waits for vectors gives them up, and who waits too long is told so."""
    here = stand(slots=1, total_seconds=30)
    embedding = here.start(here.desk.embed(Embed(0, [[1]]), "a"))
    embedding.cancel()
    here.pass_by(0)
    assert embedding.cancelled()
    assert isinstance(here.fleet.told[-1], Cancel)
    late = here.start(here.desk.embed(Embed(0, [[1]]), "a"))
    here.pass_by(31)
    with pytest.raises(Refusal, match="30 s of work"):
        here.loop.run_until_complete(late)
    assert here.counted() == {"started": 2, "finished": 0, "failed": 1, "aborted": 1}


def test_keys_of_prompts_are_shared_only_under_one_key(stand):
    """S13: the salt of each key is its own and not to be guessed from it; without keys there is one user."""
    desk, other = stand().desk, stand().desk
    assert desk.salt("addr:127.0.0.1") == desk.salt("addr:10.0.0.1") == ""
    assert len({desk.salt("key:00000000"), desk.salt("key:00000001"), other.salt("key:00000000"), ""}) == 4
    assert desk.salt("key:00000000") == desk.salt("key:00000000")


def test_the_heart_of_an_engine(stand):
    """S15: alive means that an engine was heard of in the last ten seconds."""
    here = stand(count=2)
    assert not here.run(lambda: here.desk.alive)
    here.fleet.heard_at = {0: here.loop.now - 100, 1: here.loop.now}
    assert here.run(lambda: here.desk.alive)
    here.pass_by(11)
    assert not here.run(lambda: here.desk.alive)
    here.fleet.heard_at[0] = here.loop.now
    here.lose(0)  # what it said last is no sign of life
    assert not here.run(lambda: here.desk.alive)


class Walk(RuleBasedStateMachine):
    """S13, S24: whatever happens in whatever order, asked = waiting + running + ended, to the one."""

    @initialize(count=st.integers(1, 3), slots=st.integers(1, 3), queue=st.integers(0, 6))
    def begin(self, count, slots, queue):
        self.here = Stand(count, slots, queue=queue, queue_seconds=10, first_seconds=20, total_seconds=40)
        self.count, self.number = count, 0
        self.tickets, self.said, self.had = [], {}, {}  # by id: what engines said, and what was read

    def pick(self, data, running):
        found = [t for t in self.tickets if not t.over and (t.engine is not None or not running)]
        return data.draw(st.sampled_from(found)) if found else None

    @rule(client=st.sampled_from("abc"), answers=st.integers(1, 4), prompt=st.integers(1, 40))
    def ask(self, client, answers, prompt):
        here = self.here
        living = len(here.fleet.rows) * (not here.desk.draining)
        most = living and here.options.queue + here.fleet.facts.slots * living
        over = here.desk.waiting + here.desk.running + answers - most
        waiting = [other for other in self.tickets if not other.over and other.engine is None]
        lines = Counter(other.client for other in waiting)
        before = here.counted()
        try:
            asked = here.ask(client, answers, prompt=range(prompt))
        except Refusal as refusal:
            status = 503 if not living else 400 if answers > most else 429
            assert over > 0 and refusal.status == status  # noqa: PT017, PT018
            assert here.counted() == before
            return
        gone = [other for other in waiting if other.over]
        assert len(gone) >= max(0, over) and bool(gone) == (over > 0)  # noqa: PT018
        for other in gone:
            assert other.client != client
            lines[other.client] -= 1
        # whole requests, of which nothing has begun
        lost = Counter(other.request for other in gone)
        assert lost == {other.request: other.parts for other in gone}
        assert all(lines[other.client] >= lines[client] + answers for other in gone)
        for ticket in asked if answers > 1 else [asked]:
            self.tickets.append(ticket)
            self.said[ticket.id], self.had[ticket.id] = [], []

    @rule(data=st.data(), finish=st.sampled_from([None, None, None, "stop", "length", "failed", "cancelled"]))
    def say(self, data, finish):
        if (ticket := self.pick(data, running=True)) is not None:
            self.number += 1
            token = self.number if finish in (None, "length") else None
            if token is not None:
                self.said[ticket.id].append(token)
            self.here.say(ticket, token, finish=finish)

    @rule(data=st.data())
    def refuse(self, data):
        if (ticket := self.pick(data, running=True)) is not None:
            del self.here.fleet.rows[ticket.engine][ticket.id]
            self.here.hear(Refused(ticket.id, "no"), ticket.engine)

    @rule(data=st.data(), enough=st.booleans())
    def leave(self, data, enough):
        if (ticket := self.pick(data, running=False)) is not None:
            self.here.run(lambda: ticket.enough() if enough else ticket.cancel())
            self.said[ticket.id] = self.had[ticket.id]  # what waited is gone

    @precondition(lambda self: self.tickets)
    @rule(data=st.data())
    def read(self, data):
        ticket = data.draw(st.sampled_from(self.tickets))
        ids, how = self.here.read(ticket)
        self.had[ticket.id] += ids
        assert self.had[ticket.id] == self.said[ticket.id]
        assert (how is None) == (not ticket.over)

    @rule(seconds=st.sampled_from([1, 11, 21, 41]))
    def wait(self, seconds):
        self.here.pass_by(seconds + 0.01)

    @rule(data=st.data())
    def die(self, data):
        if engines := self.here.fleet.living():
            self.here.lose(data.draw(st.sampled_from(engines)))

    @rule(engine=st.integers(0, 2))
    def come_back(self, engine):
        if engine < self.count and engine not in self.here.fleet.rows:
            self.here.fleet.rows[engine] = {}
            self.here.hear(Beat(0, 0, 1, 1, 1, 0), engine)

    @rule()
    def speak_of_the_dead(self):
        for ticket in self.tickets:
            if ticket.over:
                self.here.hear(Told([[ticket.id, 9, -0.5, "stop", None, 0]]))

    @precondition(lambda self: len(self.tickets) > 8)
    @rule()
    def drain(self):
        self.here.run(lambda: self.here.desk.drain(0))
        assert all(ticket.over for ticket in self.tickets)

    @invariant()
    def nothing_is_lost(self):
        desk, fleet = self.here.desk, self.here.fleet
        counted = self.here.counted()
        over = sum(ticket.over for ticket in self.tickets)
        assert counted["started"] == len(self.tickets) == desk.waiting + desk.running + over
        assert counted["finished"] + counted["failed"] + counted["aborted"] == over
        at_work = {ticket.id for ticket in self.tickets if not ticket.over and ticket.engine is not None}
        assert at_work == {id for rows in fleet.rows.values() for id in rows}
        assert desk.running == len(at_work)
        # nobody waits while a row is free
        assert not desk.waiting or all(len(rows) == fleet.facts.slots for rows in fleet.rows.values())
        assert not desk.waiting or fleet.rows
        assert desk.waiting <= self.here.options.queue + self.count * fleet.facts.slots

    def teardown(self):
        if hasattr(self, "here"):
            self.here.loop.close()
            assert not self.here.loop.faults


@pytest.mark.parametrize(
    "examples", [pytest.param(60, id="short"), pytest.param(1000, marks=pytest.mark.slow, id="long")]
)
def test_nothing_is_ever_lost(examples):
    """S13, S24: random walks through asking, saying, leaving, dying and draining; at every step each request that was
    taken waits, runs or has ended, the counters say the same, and no row is free while somebody waits."""
    run_machine(
        Walk,
        settings=settings(
            max_examples=examples, stateful_step_count=30, deadline=None, derandomize=examples < 100, database=None,
            phases=(Phase.generate, Phase.shrink), suppress_health_check=list(HealthCheck),
        ),
    )  # fmt: skip
