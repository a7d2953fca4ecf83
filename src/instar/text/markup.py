"""How the chats of our own tokenizers are marked: which control tokens there are, and the template that places them.

Content is trimmed, so that what stands before it is the same in a prompt and in training.
"""

from __future__ import annotations

from typing import NamedTuple


class Markup(NamedTuple):
    """The control tokens that a template writes, and the template."""

    controls: tuple[str, ...]
    template: str


def _template(open_system: str, open_turn: str, after_name: str, close: str, after_turn: str, open_answer: str) -> str:
    """One template with its marks; an answer always ends with a control token of its own, since that is what it says
    last. `close` ends every other turn."""
    end = close or "<|end|>"
    return f"""{{%- if tools %}}
    {{{{- '{open_system}' }}}}
    {{%- if messages and messages[0].role == 'system' %}}
        {{{{- messages[0].content | trim + '\\n\\n' }}}}
    {{%- endif %}}
    {{{{- 'Tools:\\n' }}}}
    {{%- for tool in tools %}}
        {{{{- tool | tojson + '\\n' }}}}
    {{%- endfor %}}
    {{{{- 'To use one, answer <tool_call>{{"name": ..., "arguments": {{...}}}}</tool_call>.{close}{after_turn}' }}}}
{{%- endif %}}
{{%- for message in messages %}}
    {{%- if not (tools and loop.first and message.role == 'system') %}}
        {{{{- {open_turn} }}}}
        {{%- if message.name %}}
            {{{{- {after_name} }}}}
        {{%- endif %}}
        {{{{- '{after_turn}' }}}}
        {{%- if message.role == 'assistant' %}}
            {{%- generation %}}
                {{{{- (message.content or '') | trim }}}}
                {{%- for call in message.tool_calls or [] %}}
                    {{%- set call = call.function or call %}}
                    {{{{- '\\n' if not loop.first or (message.content or '') | trim }}}}
                    {{{{- '<tool_call>{{"name": ' + call.name | tojson + ', "arguments": ' }}}}
                    {{{{- call.arguments if call.arguments is string else call.arguments | tojson }}}}
                    {{{{- '}}</tool_call>' }}}}
                {{%- endfor %}}
                {{{{- '{end}' }}}}
            {{%- endgeneration %}}
        {{%- else %}}
            {{{{- message.content | trim + '{close}' }}}}
        {{%- endif %}}
        {{{{- '{after_turn}' }}}}
    {{%- endif %}}
{{%- endfor %}}
{{%- if add_generation_prompt %}}
    {{{{- '{open_answer}' }}}}
{{%- endif %}}
"""


MARKUPS = {
    # what most open models use
    "chatml": Markup(
        ("<|im_start|>", "<|im_end|>"),
        _template(
            "<|im_start|>system\\n", "'<|im_start|>' + message.role", "' ' + message.name | trim", "<|im_end|>", "\\n",
            "<|im_start|>assistant\\n",
        ),
    ),
    # one token for each turn instead of four, for models so small that markup is a third of what they read
    "brief": Markup(
        ("<|system|>", "<|user|>", "<|assistant|>", "<|tool|>", "<|end|>"),
        _template(
            "<|system|>", "'<|' + message.role + '|>'", "message.name | trim + '\\n'", "", "", "<|assistant|>"
        ),
    ),
}  # fmt: skip
