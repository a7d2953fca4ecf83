"""Who is read when: everyone is answered as if alone, whatever happens, and nothing is read twice or lost."""

import random

import pytest
import torch

from instar.config import InputError
from instar.config.options import SamplingOptions
from instar.infer.engine import Engine

SHAPES = {
    "plain": {},
    "windows": dict(windows=(5, 0), kv_heads=1),
    "only windows": dict(windows=(5, 20), positions="alibi"),
    "source": dict(encoder_layers=1, start=1),
}


def greedy(count=8, **rules):
    return SamplingOptions(strategy="greedy", max_new_tokens=count, **rules)


def alone(model, prompt, options, source=None, seed=None):
    engine = Engine(model, slots=1)
    request = engine.submit(prompt, options, source=source, seed=seed)
    engine.run()
    return request.ids, request.logprobs


def least_of(model):
    """Bytes for one row."""
    return Engine(model, slots=1).pages.budget


@pytest.fixture
def counted():
    """counted(model) -> a list to which each pass adds how many tokens it read."""

    def watch(model):
        sizes, real = [], model.hidden
        model.hidden = lambda tokens, **more: sizes.append(tokens.shape[1]) or real(tokens, **more)
        return sizes

    return watch


class Walk:
    """Requests come, go and are called off at random, in a memory that hardly holds them."""

    def __init__(self, model, seed):
        self.model, self.draw = model, random.Random(seed)
        self.has_source = bool(model.config.encoder_layers)
        self.texts = [self.ids(40) for _ in range(2)]
        self.sources = [self.ids(n) for n in (3, 20, 33)]
        self.known, self.asked, self.gone = {}, [], []
        budget = int(least_of(model) * self.draw.uniform(1, 2.5))
        self.engine = Engine(
            model, slots=self.draw.choice([2, 5, 9]), budget=budget, chunk=self.draw.choice([4, 19, 64])
        )

    def ids(self, count):
        return [self.draw.randrange(3, 61) for _ in range(count)]

    def submit(self):
        prompt = self.draw.choice(self.texts)[: self.draw.randrange(1, 33)] + self.ids(self.draw.randrange(2))
        options = greedy(self.draw.randrange(1, 49 - len(prompt)))
        if self.draw.random() < 0.3:
            options = SamplingOptions(max_new_tokens=options.max_new_tokens, presence_penalty=1.0)
        source = self.draw.choice(self.sources) if self.has_source else None
        request = self.engine.submit(prompt, options, source=source, seed=3)
        key = (tuple(prompt), options, tuple(source or ()))
        if key not in self.known:
            self.known[key] = alone(self.model, prompt, options, source, seed=3)
        self.asked.append((request, self.known[key]))

    def check(self):
        engine, pages = self.engine, self.engine.pages
        pages.check()
        assert len(engine.running) + pages.free_rows == len(pages)
        for pool in pages.every:
            assert pool.allocated + pool.free == pool.total
        assert pages.nbytes <= pages.budget
        held = {request.row for request in engine.running}
        assert len(held) == len(engine.running)
        for request in engine.running:
            assert pages.lengths[request.row] <= len(request.text)

    def run(self, steps):
        for _ in range(steps):
            if self.draw.random() < 0.35:
                self.submit()
            if self.draw.random() < 0.05 and self.asked:
                self.engine.cancel(self.draw.choice(self.asked)[0])
            if self.draw.random() < 0.03:
                self.engine.forget()
            self.engine.step()
            self.check()
        while self.engine.busy:
            self.engine.step()
            self.check()
        for request, (ids, logprobs) in self.asked:
            said = len(request.ids)
            assert request.finish == "cancelled" or said == len(ids)
            assert request.ids == ids[:said]
            assert request.logprobs == pytest.approx(logprobs[:said], abs=1e-9)
        assert all(pool.allocated == 0 for pool in self.engine.pages.every)
        return sum(request.preempted for request, _ in self.asked)


@pytest.mark.parametrize("shape", SHAPES)
def test_random_requests_in_a_tiny_memory(make_model, shape):
    """After every step the books balance, and every answer is the one it is alone."""
    model = make_model(**SHAPES[shape])
    assert sum(Walk(model, seed).run(24) for seed in (1, 2)) > 0


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_many_random_requests(make_model, shape):
    """The same for long."""
    model = make_model(**SHAPES[shape])
    assert sum(Walk(model, seed).run(150) for seed in range(20)) > 20


def test_a_prompt_asked_many_times_is_read_once(make_model, counted):
    """Ten answers to one prompt of 40 tokens, submitted at once: its two full blocks are read for the first alone."""
    model = make_model()
    prompt, options = list(range(3, 43)), SamplingOptions(max_new_tokens=1)
    sizes = counted(model)
    engine = Engine(model, slots=16)
    requests = [engine.submit(prompt, options) for _ in range(10)]
    engine.run()
    assert [request.cached for request in requests] == [0] + [32] * 9
    assert sum(sizes) == 40 + 9 * 8
    assert len({tuple(request.ids) for request in requests}) > 1


def test_a_conversation_goes_on_where_it_was(make_model):
    """The next turn finds prompt and answer of the one before, as far as they fill blocks."""
    model = make_model()
    engine = Engine(model, slots=2)
    first = engine.submit(list(range(3, 23)), greedy(14))  # 20 + 13 tokens are read: two blocks
    engine.run()
    turn = engine.submit([*first.text, 7, 8], greedy(4))
    engine.run()
    assert turn.cached == 32
    assert (turn.ids, turn.logprobs) == (
        pytest.approx(alone(model, turn.prompt, greedy(4))[0]),
        pytest.approx(alone(model, turn.prompt, greedy(4))[1], abs=1e-10),
    )


def test_a_beginning_is_shared(make_model, counted):
    """Requests that begin with the same 35 tokens read them once, also those that come while it is being read."""
    model = make_model()
    system = list(range(3, 38))
    sizes = counted(model)
    engine = Engine(model, slots=4, chunk=20)
    requests = [engine.submit([*system, n], greedy(1)) for n in range(3)]
    engine.run()
    assert [request.cached for request in requests] == [0, 32, 32]
    assert sum(sizes) == 36 + 4 + 4


def test_weights_that_changed(make_model):
    """After forget nothing of the old weights is found, also not what rows had begun to compute."""
    model = make_model()
    long, short = list(range(3, 43)), list(range(3, 15))
    engine = Engine(model, slots=4)
    engine.submit(long, greedy(1))
    engine.run()
    begun = engine.submit(short, greedy(30))
    for _ in range(3):
        engine.step()
    with torch.no_grad():
        for weight in model.parameters():
            weight *= 1.3
    engine.forget()
    engine.run()  # what began with old keys goes on with them, and fills its first block only now
    fresh = [engine.submit(long, greedy(4)), engine.submit(begun.text, greedy(3))]
    engine.run()
    assert [request.cached for request in fresh] == [0, 0]
    for request in fresh:
        assert request.logprobs == pytest.approx(alone(model, request.prompt, request.options)[1], abs=1e-10)


def test_salts_keep_apart(make_model):
    """Keys are found only by those with the same salt."""
    pages = [Engine(make_model(), slots=1, salt=salt).pages for salt in (b"ann", b"ann", b"bob")]
    keys = [page._digests(range(32), b"") for page in pages]
    assert keys[0] == keys[1]
    assert not set(keys[0]) & set(keys[2])


def test_a_source_is_encoded_once(make_model):
    """Answers about one source, at once or later, have it read once; its keys are shared, and another's are not."""
    model = make_model(**SHAPES["source"])
    read = []
    model.encoder.blocks[0].register_forward_hook(lambda _, given, __: read.append(tuple(given[0].shape[:2])))
    engine = Engine(model, slots=4)
    requests = [engine.submit([], greedy(6), source=[5, 6, 7]) for _ in range(3)]
    other = engine.submit([], greedy(6), source=[5, 6, 8])
    engine.run()
    assert read == [(2, 3)]
    requests.append(engine.submit([], greedy(6), source=[5, 6, 7]))
    engine.run()
    assert len(read) == 1
    wanted = alone(model, [], greedy(6), [5, 6, 7])
    for request in requests:
        assert request.logprobs == pytest.approx(wanted[1], abs=1e-10)
    assert other.logprobs != pytest.approx(wanted[1], abs=1e-3)


def test_the_memory_of_keys_is_bounded(make_model):
    """Many requests in the memory of one and a half: it holds, and what never fits is refused before any work."""
    model = make_model()
    least = least_of(model)
    engine = Engine(model, slots=8, budget=least * 3 // 2)
    assert engine.pages.nbytes <= least * 3 // 2
    requests = [engine.submit([3 + n] * 10, greedy(39)) for n in range(8)]
    while engine.busy:
        engine.step()
        engine.pages.check()
    assert all(len(request.ids) == 39 for request in requests)
    assert sum(request.preempted for request in requests) > 0
    with pytest.raises(InputError, match="the model reads 48"):
        engine.submit([3] * 10, greedy(40))
    with pytest.raises(InputError, match=r"a KV budget of .* bytes; one text of 48 tokens takes"):
        Engine(model, slots=8, budget=least - 1)


def test_windows_give_back_what_they_have_passed(make_model):
    """A text of 500 tokens in a layer that looks back 5 keeps no more blocks than a chunk and the window take."""
    model = make_model(max_positions=512, windows=(5, 0))
    engine = Engine(model, slots=2, chunk=16)
    near, far = engine.pages.pools[5], engine.pages.pools[0]
    request = engine.submit([n % 61 for n in range(450)], greedy(50))
    most = 0
    while engine.busy:
        engine.step()
        most = max(most, near.allocated)
        assert near.allocated <= 4
        if request.row >= 0:
            assert far.allocated >= -(-int(engine.pages.lengths[request.row]) // 16)
    assert most > 0
    assert near.total <= 2 * 5
    assert near.nbytes * 5 < far.nbytes
    assert request.ids == alone(model, request.prompt, request.options)[0]


@pytest.mark.parametrize("shape", SHAPES)
def test_nothing_is_left_of_numbers_that_are_none(make_model, shape):
    """Damaged weights are an error; once they are repaired, no block holds anything of theirs, in use or free, and
    whoever was not in the pass that failed is answered from the start."""
    model = make_model(**SHAPES[shape])
    source = [5, 6, 7] * 8 if model.config.encoder_layers else None
    engine = Engine(model, slots=4, chunk=20)
    damaged = [module.attention.v.weight for module in model.all_blocks()]
    kept = [weight.detach().clone() for weight in damaged]
    with torch.no_grad():
        for weight in damaged:
            weight.fill_(float("nan"))
    gone = engine.submit(list(range(1, 45)), greedy(4), source=source)
    for _ in range(2):  # two blocks of it, which are known then
        engine.step()
    engine.cancel(gone)
    fails = engine.submit([9] * 19, greedy(4), source=source)
    other = engine.submit([1, 2, 3], greedy(20), source=source)
    with pytest.raises(InputError, match="not numbers"):
        engine.step()
    assert fails.finish == "cancelled"
    assert (other.finish, other.row) in ((None, -1), ("cancelled", -1))
    assert not any(store.isnan().any() for pool in engine.pages.every for store in pool.stores.values())
    with torch.no_grad():
        for weight, good in zip(damaged, kept):
            weight.copy_(good)
    asked = [engine.submit(list(range(1, n)), greedy(4), source=source) for n in (45, 4, 20)]
    engine.run()
    engine.pages.check()
    for request in asked:
        assert request.logprobs == pytest.approx(alone(model, request.prompt, greedy(4), source)[1], abs=1e-10)
