"""Conversations are rendered in another process: the same ids, and whatever ends that process ends one request."""

import asyncio
import json
import os
import signal
import subprocess
import sys

import pytest

from instar.config import InputError
from instar.serve import render
from instar.serve.failure import Refusal
from instar.serve.render import Renderer, without_content
from instar.text.tokenizer import Tokenizer

ASK = [{"role": "user", "content": "Who has the ball?"}]
TOOL = {"type": "function", "function": {"name": "find", "parameters": {"type": "object"}}}
CALL = {"id": "call00000", "type": "function", "function": {"name": "find", "arguments": '{"x" : "y"}'}}
CALLED = [*ASK, {"role": "assistant", "content": None, "tool_calls": [CALL]}]
MIB = 2**20


@pytest.fixture
def rendering(tokenizer, tmp_path):
    """rendering(work, template=..., ...): run `await work(renderer)` with a Renderer of the tokenizer."""

    def run(work, template=None, **limits):
        Tokenizer(tokenizer.vocabulary.spec, tokenizer.config, template or tokenizer.template).save(tmp_path)

        async def main():
            renderer = Renderer(tmp_path, **limits)
            try:
                # a process that is stopped answers nobody
                async with asyncio.timeout(60):
                    await renderer.start()
                    return await work(renderer)
            finally:
                await renderer.close()

        return asyncio.run(main())

    return run


@pytest.fixture(scope="module")
def renderer(tokenizer, tmp_path_factory):
    """One that all tests share which leave its process alive."""
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save(folder)
    renderer = Renderer(folder)
    asyncio.run(renderer.start())
    yield renderer
    asyncio.run(renderer.close())


async def refused(renderer, messages, **rest):
    with pytest.raises(Refusal) as caught:
        await renderer.chat(messages, **rest)
    return caught.value


def test_ids(renderer, tokenizer):
    """The ids are those of the tokenizer's own rendering, in the order of the questions, though all wait at once."""

    async def work():
        assert renderer.template == tokenizer.template
        many = [[{"role": "user", "content": "ball " * n}] for n in range(1, 20)]
        found = await asyncio.gather(*(renderer.chat(messages) for messages in many))
        assert found == [tokenizer.chat(messages, add_generation_prompt=True).ids for messages in many]
        tooled = await renderer.chat(CALLED, tools=[{**TOOL, "function": {**TOOL["function"], "strict": True}}])
        assert tooled == tokenizer.chat(CALLED, tools=[TOOL], add_generation_prompt=True).ids
        # what the model has said is read as it was said, to the letter
        assert CALL["function"]["arguments"] in tokenizer.decode(tooled)

    asyncio.run(work())


def test_arguments_as_the_template_wants_them(rendering, tokenizer):
    """A template that spells out an object is given one, not a text that it would put between quotes."""
    spelling = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content or '' }}{% for c in m.tool_calls or [] %}"
        "{{ c.function.name }} {{ c.function.arguments | tojson }}{% endfor %}<|im_end|>\n{% endfor %}"
    )

    async def work(renderer):
        assert '{"x": "y"}' in tokenizer.decode(await renderer.chat(CALLED))
        call = {**CALL, "function": {"name": "find", "arguments": "CANARY"}}
        wrong = await refused(renderer, [{"role": "assistant", "content": None, "tool_calls": [call]}])
        assert (wrong.status, wrong.param) == (400, "messages[0]")
        assert "CANARY" not in wrong.message

    rendering(work, spelling)


def test_limits(rendering):
    """Too much computing, and too much memory, end the process and refuse one conversation; the next is rendered by a
    new process, and those that wait meanwhile are (S21)."""
    heavy = [{"role": "user", "content": "Anna has the ball. " * 15_000}]

    async def work(renderer):
        first = renderer._process.pid
        wrong, good = await asyncio.gather(refused(renderer, heavy), renderer.chat(ASK))
        assert (wrong.status, wrong.param, wrong.code) == (400, "messages", "context_length_exceeded")
        assert good
        assert renderer._process.pid != first
        return wrong.message

    assert "takes more than 0.05 s" in rendering(work, cpu_seconds=0.05)
    assert "too much memory" in rendering(work, memory=4 * MIB)


def test_a_template_that_takes_for_ever(rendering):
    """Rounds without end are ended by the clock, if the sandbox does not count to its limit before (S21)."""
    turns = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"

    async def work(renderer):
        wrong = await refused(renderer, [{"role": "user", "content": "for ever"}])
        assert (wrong.status, wrong.code) == (400, None)
        assert "takes more than 0.1 s" in wrong.message

    rendering(work, "{% if messages[0].content == 'for ever' %}" + turns + "{% endif %}", cpu_seconds=0.1)


def test_a_conversation_that_is_too_long(renderer):
    """More text than any template may write is refused as what is too long for the model (S5, S21)."""
    wrong = asyncio.run(refused(renderer, [{"role": "user", "content": "a" * 1_100_000}]))
    assert (wrong.status, wrong.code) == (400, "context_length_exceeded")
    assert "1,000,000 characters" in wrong.message


ESCAPES = {
    "class": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "format": "{{ '{0.__class__}'.format(messages) }}",
    "huge": "{{ '%999999999d' | format(1) }}",
    "globals": "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "file": "{% include '/etc/passwd' %}",
    "attribute": "{{ messages[0].content | attr(messages[0].name) }}",
    "said": "{{ raise_exception('I know: ' + messages[0].content) }}",
    "key": "{{ {}[messages[0].content].a }}",
    "number": "{{ messages[0].content + 5 }}",
    "undefined": "{{ undefined.CANARY }}",
}


@pytest.mark.parametrize("escape", ESCAPES)
def test_escapes_are_inert(escape, tokenizer):
    """Ways out of a template end in a refusal, which tells nothing of the conversation (S21, S23)."""
    said = [{"role": "user", "content": "CANARY", "name": "__class__"}]
    source = ESCAPES[escape]
    chats = render._Chats(Tokenizer(tokenizer.vocabulary.spec, tokenizer.config, source))
    answer = chats.answer(json.dumps({"messages": said, "tools": None}))
    assert set(answer) == {"refused", "param", "code"}, answer
    assert "CANARY" not in answer["refused"] or "CANARY" in source
    assert "root:" not in answer["refused"]


def test_what_is_said_of_a_failure():
    """What a template raises is told where its own words are that; what it made of the messages is not (S23)."""
    template = "{{ raise_exception('Roles must take turns, don\\'t they') }}"
    failed = "the chat template failed"
    assert without_content(f"{failed}: Roles must take turns, don't they", template)[0].endswith("don't they")
    assert without_content(f"{failed}: CANARY must take turns", template) == (f"{failed} at this conversation", False)
    assert without_content(f"{failed}: it takes more than 1,000,000 steps", "")[1]
    assert "CANARY" not in without_content("the tokenizer failed: CANARY", template)[0]


def test_killed_from_outside(rendering, tokenizer):
    """Whoever kills the process, idle or at work, fails no conversation."""

    async def work(renderer):
        os.kill(renderer._process.pid, signal.SIGKILL)
        renderer._process.wait()
        assert await renderer.chat(ASK)
        process = renderer._process
        os.kill(process.pid, signal.SIGSTOP)
        waiting = asyncio.ensure_future(renderer.chat(ASK))
        await asyncio.sleep(0)
        os.kill(process.pid, signal.SIGKILL)
        assert await waiting == tokenizer.chat(ASK, add_generation_prompt=True).ids

    rendering(work)


def test_a_queue_with_an_end(rendering):
    """Beyond so many waiting conversations clients are told to come again (S2), and those who left make room."""

    async def work(renderer):
        os.kill(renderer._process.pid, signal.SIGSTOP)
        waiting = [asyncio.ensure_future(renderer.chat(ASK)) for _ in range(4)]
        await asyncio.sleep(0)
        wrong = await refused(renderer, ASK)
        assert (wrong.status, wrong.headers) == (429, {"Retry-After": "2"})
        waiting.pop().cancel()
        await asyncio.sleep(0)
        waiting.append(asyncio.ensure_future(renderer.chat(ASK)))
        os.kill(renderer._process.pid, signal.SIGCONT)
        assert all(await asyncio.gather(*waiting))

    rendering(work, waiting=3)


def test_no_conversation_waits_for_ever(rendering):
    """Who waits too long for the process is told so (S25)."""

    async def work(renderer):
        os.kill(renderer._process.pid, signal.SIGSTOP)
        for wrong in await asyncio.gather(*(refused(renderer, ASK, client=client) for client in "ab")):
            assert (wrong.status, wrong.code) == (504, "timeout")

    rendering(work, seconds=0.05)


def test_half_an_answer(rendering, tokenizer):
    """A process that ends in the middle of its answer has not answered: the conversation is rendered by the next."""
    dies = "import os, sys; sys.stdin.readline(); print('{', end='', flush=True); os.kill(os.getpid(), 9)"

    async def work(renderer):
        renderer._process.kill()
        render._reap(renderer._process)
        renderer._process = subprocess.Popen(
            [sys.executable, "-c", dies], stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8"
        )
        assert await renderer.chat(ASK) == tokenizer.chat(ASK, add_generation_prompt=True).ids

    rendering(work)


def test_a_process_that_cannot_be_started_again(rendering, tmp_path):
    """Where the process cannot be started again the request is not at fault (503)."""

    async def work(renderer):
        (tmp_path / "tokenizer.json").unlink()
        os.kill(renderer._process.pid, signal.SIGKILL)
        renderer._process.wait()
        wrong = await refused(renderer, ASK)
        assert (wrong.status, wrong.code) == (503, "renderer_failed")
        assert str(tmp_path) not in wrong.message

    rendering(work)


def test_the_end(rendering, caplog):
    """After the end there is no process, what waits is refused with 503, and so is what comes later (S14)."""

    async def work(renderer):
        process = renderer._process
        os.kill(process.pid, signal.SIGSTOP)
        waiting = [asyncio.ensure_future(refused(renderer, ASK)) for _ in range(2)]
        await asyncio.sleep(0.05)  # so that the first is most likely asked, and the second waits
        await renderer.close()
        assert process.returncode == -signal.SIGKILL
        assert [refusal.status for refusal in await asyncio.gather(*waiting)] == [503, 503]
        assert (await refused(renderer, ASK)).status == 503
        assert not caplog.records

    rendering(work)


def test_messages_from_strangers(renderer):
    """Half characters, control tokens, absurd nesting and unknown roles are refused or text, and nothing dies (S8)."""
    deep: list = []
    for _ in range(100_000):
        deep = [deep]

    async def work():
        pid = renderer._process.pid
        for messages in ([{"role": "user", "content": "\ud800"}], [{"role": "root", "content": "a"}], [], [deep]):
            assert (await refused(renderer, messages)).status == 400
        assert (await refused(renderer, ASK, tools=["a"])).param == "tools[0]"
        assert await renderer.chat([{"role": "user", "content": "\0<|im_end|>\u2028"}])
        assert renderer._process.pid == pid

    asyncio.run(work())


def test_a_folder_that_is_none(tmp_path):
    """The start fails with the tokenizer's own words."""
    with pytest.raises(InputError, match="tokenizer"):
        asyncio.run(Renderer(tmp_path / "nothing").start())
