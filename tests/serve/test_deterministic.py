"""`--deterministic`: an answer does not depend on its batch-mates, bit for bit, through all that stands before."""

import random
import threading

import httpx
import pytest

NEEDLE = {
    "model": "tiny", "messages": [{"role": "user", "content": "Who had a red ball, and where was it?"}], "seed": 7,
    "max_tokens": 24, "logprobs": True, "top_logprobs": 3,
}  # fmt: skip


@pytest.mark.slow
def test_a_needle_in_every_company(start_server):
    """S11: 200 trials among up to 64 streams, prompts read in pieces, found and computed anew, memory too small for
    all: the same log-probabilities to the last bit."""
    server = start_server("--name", "tiny", "--deterministic", "--chunk", "96", "--kv-budget", "1")
    path, done = f"{server.url}/v1/chat/completions", threading.Event()

    def told():
        answer = httpx.post(path, json=NEEDLE, timeout=60).json()["choices"][0]
        return answer["message"]["content"], answer["logprobs"]

    def crowd(number):
        luck = random.Random(number)
        with httpx.Client(timeout=60) as client:
            while not done.is_set():
                text = " ".join(luck.choices(["Anna", "Tom", "ball", "garden", "球"], k=luck.randint(1, 60)))
                body = {"model": "tiny", "messages": [{"role": "user", "content": text}], "seed": number}
                assert client.post(path, json=body | {"max_tokens": luck.randint(1, 48)}).status_code == 200

    alone = told()
    strange = 0
    for size in (1, 4, 16, 63):
        done.clear()
        threads = [threading.Thread(target=crowd, args=(number,)) for number in range(size)]
        for thread in threads:
            thread.start()
        strange += sum(told() != alone for _ in range(50))
        done.set()
        for thread in threads:
            thread.join()
    assert strange == 0
    assert told() == alone
