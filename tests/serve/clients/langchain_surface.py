"""LangChain's OpenAI classes, unchanged, on a server whose model may say anything: `python langchain_surface.py URL
MODEL`. Prints the names of the checks that passed."""

import asyncio
import sys
from typing import Literal

from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings
from pydantic import BaseModel

HELLO = [SystemMessage("Be short."), HumanMessage("Who had a ball?")]


class Colour(BaseModel):
    """A colour."""

    name: Literal["red", "blue"]
    bright: bool


@tool
def find_ball(colour: Literal["red", "blue"]) -> str:
    """Where a ball is."""
    return f"The {colour} one is in the garden."


def chat(url, model):
    asked = ChatOpenAI(base_url=url, api_key="none", model=model, max_tokens=8, seed=1, max_retries=0)
    answer = asked.invoke(HELLO)
    assert isinstance(answer, AIMessage)
    assert answer.usage_metadata["total_tokens"] > 0
    assert answer.response_metadata["finish_reason"] in ("stop", "length")
    assert "".join(chunk.content for chunk in asked.stream(HELLO)) == answer.content
    assert [each.content for each in asked.batch([HELLO, HELLO])] == [answer.content] * 2
    assert asyncio.run(asked.ainvoke(HELLO)).content == answer.content
    told = asked.bind(logprobs=True, top_logprobs=2).invoke(HELLO).response_metadata["logprobs"]["content"]
    assert len(told[0]["top_logprobs"]) == 2


def structured(url, model):
    asked = ChatOpenAI(base_url=url, api_key="none", model=model, max_tokens=200, seed=2, max_retries=0)
    # a random model makes use of every liberty, as keys beside those that are named, which strict forbids
    for method in ("json_schema", "function_calling"):
        assert isinstance(asked.with_structured_output(Colour, method=method, strict=True).invoke(HELLO), Colour), (
            method
        )


def tools(url, model):
    asked = ChatOpenAI(base_url=url, api_key="none", model=model, max_tokens=200, seed=3, max_retries=0)
    called = asked.bind_tools([find_ball], tool_choice="any", strict=True).invoke(HELLO)
    call = called.tool_calls[0]
    assert call["name"] == "find_ball"
    result = ToolMessage(find_ball.invoke(call["args"]), tool_call_id=call["id"])
    assert isinstance(asked.bind(max_tokens=4).invoke([*HELLO, called, result]), AIMessage)
    chunks = list(asked.bind_tools([find_ball], tool_choice="any", strict=True).stream(HELLO))
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    assert whole.tool_calls[0]["args"].keys() == {"colour"}


def texts(url, model):
    asked = OpenAI(base_url=url, api_key="none", model=model, max_tokens=6, seed=4, max_retries=0)
    assert "".join(asked.stream("Anna had")) == asked.invoke("Anna had")


def embeddings(url, model):
    # LangChain cuts long texts by tiktoken's ids, which are OpenAI's models' own
    asked = OpenAIEmbeddings(base_url=url, api_key="none", model=model, check_embedding_ctx_length=False)
    rows = asked.embed_documents(["Anna had a ball.", "Tom"])
    assert len(rows) == 2
    assert max(abs(a - b) for a, b in zip(asked.embed_query("Tom"), rows[1], strict=True)) < 1e-5


CHECKS = [chat, structured, tools, texts, embeddings]

if __name__ == "__main__":
    for check in CHECKS:
        check(*sys.argv[1:])
        print(check.__name__, flush=True)
