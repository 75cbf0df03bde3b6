#!/usr/bin/env python3
"""Asks Hugging Face what chat templates give: templates written in the style of the published ones, each with
several conversations, and a table of single expressions.

    scripts/golden/make_chat.py TESTS/DATA/CHAT/golden.json

Needs PyPI's `transformers` and `jinja2`. Made with transformers 5.24.0, jinja2 3.1.6.
"""
import datetime
import json
import re
import sys

import jinja2
import transformers
from transformers.utils import chat_template_utils

NAMES = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


class Then(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(2024, 7, 26, 9, 5, 3)


chat_template_utils.datetime = Then

TEMPLATES = {
    "chatml": """{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}""",
    "smollm2": """{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are a small helper.<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}""",
    "llama2": """{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}{% for message in loop_messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}{% if loop.index0 == 0 and system_message != false %}{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}{% else %}{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}""",
    "llama3": """{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}""",
    "llama3.1": """{{- bos_token }}
{%- if custom_tools is defined %}
    {%- set tools = custom_tools %}
{%- endif %}
{%- if not tools_in_user_message is defined %}
    {%- set tools_in_user_message = true %}
{%- endif %}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}

{#- This block extracts the system message. #}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}

{{- "<|start_header_id|>system<|end_header_id|>\n\n" }}
{%- if tools is not none %}
    {{- "Environment: ipython\n" }}
{%- endif %}
{{- "Cutting Knowledge Date: December 2023\n" }}
{{- "Today Date: " + date_string + "\n\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}

{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception("This model only supports single tool-calls at once!") }}
        {%- endif %}
        {%- set tool_call = message.tool_calls[0].function %}
        {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' -}}
        {{- '{"name": "' + tool_call.name + '", ' }}
        {{- '"parameters": ' }}
        {{- tool_call.arguments | tojson }}
        {{- "}" }}
        {{- "<|eot_id|>" }}
    {%- elif message.role == "tool" or message.role == "ipython" %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\n\n" }}
        {%- if message.content is mapping or message.content is iterable and message.content is not string %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- "<|eot_id|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}
{%- endif %}
""",
    "mistral": """{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}
{%- set ns = namespace() %}
{%- set ns.index = 0 %}
{%- for message in loop_messages %}
    {%- if not (message.role == "tool" or (message.tool_calls is defined and message.tool_calls is not none)) %}
        {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
            {{- raise_exception("After the optional system message, conversation roles must alternate user/assistant/user/assistant/...") }}
        {%- endif %}
        {%- set ns.index = ns.index + 1 %}
    {%- endif %}
{%- endfor %}

{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if tools is not none and (message == user_messages[-1]) %}
            {{- "[AVAILABLE_TOOLS] [" }}
        {%- endif %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\n\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message.tool_calls is defined and message.tool_calls is not none %}
        {{- "[TOOL_CALLS] [" }}
        {%- for tool_call in message.tool_calls %}
            {%- set out = tool_call.function|tojson %}
            {{- out[:-1] }}
            {%- if not tool_call.id is defined or tool_call.id|length != 9 %}
                {{- raise_exception("Tool call IDs should be alphanumeric strings with length 9!") }}
            {%- endif %}
            {{- ', "id": "' + tool_call.id + '"}' }}
            {%- if not loop.last %}
                {{- ", " }}
            {%- else %}
                {{- "]" + eos_token }}
            {%- endif %}
        {%- endfor %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"]|trim + eos_token}}
    {%- elif message["role"] == "tool" %}
        {{- '[TOOL_RESULTS] {"content": ' + message.content|string + ", " }}
    {%- else %}
        {{- raise_exception("Only user and assistant roles are supported, with the exception of an initial optional system message!") }}
    {%- endif %}
{%- endfor %}
""",
    "qwen2.5": """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
{%- else %}
    {%- if messages[0]['role'] == 'system' %}
        {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>system\\nYou are a careful assistant.<|im_end|>\\n' }}
    {%- endif %}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {{- '<|im_start|>' + message.role }}
        {%- if message.content %}
            {{- '\\n' + message.content }}
        {%- endif %}
        {%- for tool_call in message.tool_calls %}
            {%- if tool_call.function is defined %}
                {%- set tool_call = tool_call.function %}
            {%- endif %}
            {{- '\\n<tool_call>\\n{"name": "' }}
            {{- tool_call.name }}
            {{- '", "arguments": ' }}
            {{- tool_call.arguments | tojson }}
            {{- '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == "tool" %}
        {%- if (loop.index0 == 0) or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\\n<tool_response>\\n' }}
        {{- message.content }}
        {{- '\\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '<|im_end|>\\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
""",
    "qwen3": """{%- if messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and message.content is string and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}
        {%- set content = message.content %}
    {%- else %}
        {%- set content = '' %}
    {%- endif %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set reasoning_content = '' %}
        {%- if message.reasoning_content is string %}
            {%- set reasoning_content = message.reasoning_content %}
        {%- else %}
            {%- if '</think>' in content %}
                {%- set reasoning_content = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
                {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
            {%- endif %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query_index %}
            {%- if loop.last or (not loop.last and reasoning_content) %}
                {{- '<|im_start|>' + message.role + '\\n<think>\\n' + reasoning_content.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
            {%- else %}
                {{- '<|im_start|>' + message.role + '\\n' + content }}
            {%- endif %}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\\n' + content }}
        {%- endif %}
        {%- if message.tool_calls %}
            {%- for tool_call in message.tool_calls %}
                {%- if (loop.first and content) or (not loop.first) %}
                    {{- '\\n' }}
                {%- endif %}
                {%- if tool_call.function %}
                    {%- set tool_call = tool_call.function %}
                {%- endif %}
                {{- '<tool_call>\\n{"name": "' }}
                {{- tool_call.name }}
                {{- '", "arguments": ' }}
                {%- if tool_call.arguments is string %}
                    {{- tool_call.arguments }}
                {%- else %}
                    {{- tool_call.arguments | tojson }}
                {%- endif %}
                {{- '}\\n</tool_call>' }}
            {%- endfor %}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == "tool" %}
        {%- if loop.first or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\\n<tool_response>\\n' + content + '\\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '<|im_end|>\\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}
""",
    "phi3": """{% for message in messages %}{% if message['role'] == 'system' and message['content'] %}{{'<|system|>\n' + message['content'] + '<|end|>\n'}}{% elif message['role'] == 'user' %}{{'<|user|>\n' + message['content'] + '<|end|>\n'}}{% elif message['role'] == 'assistant' %}{{'<|assistant|>\n' + message['content'] + '<|end|>\n'}}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}""",
    "gemma": """{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}""",
    "gemma3": """{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- if messages[0]['content'] is string -%}
        {%- set first_user_prefix = messages[0]['content'] + '\n\n' -%}
    {%- else -%}
        {%- set first_user_prefix = messages[0]['content'][0]['text'] + '\n\n' -%}
    {%- endif -%}
    {%- set loop_messages = messages[1:] -%}
{%- else -%}
    {%- set first_user_prefix = "" -%}
    {%- set loop_messages = messages -%}
{%- endif -%}
{%- for message in loop_messages -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("Conversation roles must alternate user/assistant/user/assistant/...") }}
    {%- endif -%}
    {%- if (message['role'] == 'assistant') -%}
        {%- set role = "model" -%}
    {%- else -%}
        {%- set role = message['role'] -%}
    {%- endif -%}
    {{ '<start_of_turn>' + role + '\n' + (first_user_prefix if loop.first else "") }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- elif message['content'] is iterable -%}
        {%- for item in message['content'] -%}
            {%- if item['type'] == 'image' -%}
                {{ '<start_of_image>' }}
            {%- elif item['type'] == 'text' -%}
                {{ item['text'] | trim }}
            {%- endif -%}
        {%- endfor -%}
    {%- else -%}
        {{ raise_exception("Invalid content type") }}
    {%- endif -%}
    {{ '<end_of_turn>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{'<start_of_turn>model\n'}}
{%- endif -%}
""",
    "zephyr": """{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>\n' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>\n' + message['content'] + eos_token }}
{% elif message['role'] == 'assistant' %}
{{ '<|assistant|>\n'  + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}""",
    "trained": """{% macro turn(role, content, end='<|im_end|>\n') -%}
<|im_start|>{{ role }}
{% if role == 'assistant' %}{% generation %}{{ content }}{{ end }}{% endgeneration %}{% else %}{{ content ~ end }}{% endif %}
{%- endmacro %}
{% for message in messages if message.role != 'system' %}
  {%- if message.content is not string %}{% continue %}{% endif %}
  {{- turn(message.role, message['content']) }}
  {%- if loop.index > 3 %}{% break %}{% endif %}
{% else %}
nobody spoke
{% endfor %}
{%- if add_generation_prompt %}{{ turn('assistant', '', end='') }}{% endif %}""",
}

CALL = {"type": "function", "id": "abcdefghi",
        "function": {"name": "weather", "arguments": {"town": "Zürich", "days": 2, "exact": True, "none": None, "x": 1.5}}}
CONVERSATIONS = {
    "one": [{"role": "user", "content": "Hello there"}],
    "spaces": [{"role": "user", "content": "  two\n lines \t"}],
    "system": [{"role": "system", "content": "Be brief.\n"}, {"role": "user", "content": "Grüße, 你好 😀"}],
    "turns": [{"role": "system", "content": "S"}, {"role": "user", "content": "a"}, {"role": "assistant", "content": " b "},
              {"role": "user", "content": "c"}, {"role": "assistant", "content": "<think>\nhm\n</think>\n\nd"},
              {"role": "user", "content": "e"}],
    "answered": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "<think>\nhm\n</think>\n\nb"}],
    "unordered": [{"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}],
    "parts": [{"role": "user", "content": [{"type": "text", "text": " see "}, {"type": "image"}]}],
    "tools": [{"role": "user", "content": "rain?"}, {"role": "assistant", "content": "", "tool_calls": [CALL]},
              {"role": "tool", "content": "{\"rain\": 3}"}, {"role": "tool", "content": "4"}],
    "call": [{"role": "system", "content": "S", "call": CALL}, {"role": "user", "content": "a"},
             {"role": "assistant", "content": " b "}, {"role": "user", "content": "c"},
             {"role": "assistant", "content": "<think>\nhm\n</think>\n\nd"}, {"role": "user", "content": "e"}],
    "quotes": [{"role": "user", "content": "it's \"so\" <b>&amp;</b> {{ x }} \\n"}],
    "only system": [{"role": "system", "content": "S"}],
}

# Rendered with CONVERSATIONS["call"]; m is all of it, c is CALL.
SNIPPETS = r"""
{{ 1 + 2 * 3 - 4 // 3 }} {{ 7 / 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 7 % -3 }} {{ 2 ** 10 }} {{ 1.5 * 2 }} {{ 1e20 }} {{ 1e-7 }} {{ 10 / 5 }}
{{ 'a' ~ 1 ~ none ~ true ~ [1, 'b'] ~ {'k': "it's"} ~ (1,) ~ () ~ 1.0 }}
{{ [1, 2, 3][::-1] }} {{ 'abcdef'[1:-1] }} {{ 'abcdef'[::-2] }} {{ 'äöü'[1] }} {{ [1, 2, 3][-1] }} {{ (1, 2, 3)[:2] }} {{ 'abc'[5:] }} {{ 'abc'[-9:2] }}{{ [1,2][9] }}
{{ 'abc' * 2 }} {{ [0] * 3 }} {{ 3 * 'x' }} {{ 'x' * -1 }}
{{ 1 < 2 < 3 }} {{ 1 < 2 > 5 }} {{ 1 == 1.0 }} {{ true == 1 }} {{ 'a' < 'b' }} {{ [1, 2] < [1, 3] }} {{ 'a' in 'abc' }} {{ 'role' in m[0] }} {{ 3 not in [1, 2] }} {{ not 1 in [1] }}
{{ 1 and 0 or 'x' }} {{ none or '' }} {{ 'a' if false }}|{{ 'a' if false else 'b' if true else 'c' }}
{{ undefined_name }}|{{ m[0].nothing }}|{{ m[0]['nothing'] }}|{{ undefined_name is defined }} {{ undefined_name is undefined }} {{ m[99] is defined }} {{ undefined_name == other_name }}
{{ undefined_name.x }}
{{ undefined_name + 'a' }}
{{ undefined_name ~ 'a' }} {{ 'a' in undefined_name }} {{ not undefined_name }} {{ undefined_name | length }} {{ undefined_name | default('d') }} {{ '' | default('e', true) }} {{ none | d('x') }} {{ '' | d('x') }}
{{ none is none }} {{ 'a' is string }} {{ c is mapping }} {{ [] is iterable }} {{ 'a' is iterable }} {{ 1 is iterable }} {{ [] is sequence }} {{ {} is sequence }} {{ 1 is number }} {{ true is number }} {{ true is integer }} {{ 1 is integer }} {{ 1.0 is float }} {{ true is boolean }} {{ false is false }} {{ 1 is true }} {{ 3 is odd }} {{ 4 is even }} {{ 9 is divisibleby 3 }} {{ 3 is eq 3 }} {{ 'a' is in ['a'] }} {{ 2 is not odd }} {{ none is not none }} {{ 'x' is not string and true }}
{{ '  a b ' .strip() }}|{{ '  a ' .lstrip() }}|{{ ' a  '.rstrip() }}|{{ 'xxaxx'.strip('x') }}|{{ 'a,b,,c'.split(',') }}|{{ ' a  b '.split() }}|{{ 'a-b-c'.split('-', 1) }}|{{ 'abc'.startswith('ab') }}|{{ 'abc'.endswith(('x', 'bc')) }}
{{ 'hello wORLD it\'s'.title() }}|{{ 'hello wORLD it\'s-so (now)' | title }}|{{ 'hELLO'.capitalize() }}|{{ 'äÖ'.upper() }}{{ 'ÄÖ' | lower }}|{{ 'hELLO' | capitalize }}|{{ 'aXbX'.replace('X', '--') }}|{{ 'aaa'.replace('a', 'b', 2) }}|{{ 'ab'.replace('', '.') }}|{{ 'aaa' | replace('a', 'c', 1) }}
{{ 'abcabc'.find('c') }} {{ 'abc'.find('x') }} {{ 'äc'.find('c') }} {{ ','.join(['a', 'b']) }}
{{ c.function.arguments | tojson }}|{{ c | tojson(indent=2) }}|{{ [] | tojson(indent=2) }}{{ {} | tojson(2) }}|{{ 'a"\n\t\\é<>&/' | tojson }}|{{ {'b': 1, 'a': [none, true]} | tojson(sort_keys=true) }}|{{ 1.0 | tojson }} {{ 'x' | tojson }}
{{ c.function | tojson(none, 4) }}
{{ m | map(attribute='role') | join(', ') }} {{ m | map(attribute='nothing', default='?') | join }} {{ ['a', 'b'] | map('upper') | list }} {{ m | selectattr('role', 'equalto', 'user') | list | length }} {{ m | rejectattr('role', 'in', ['user', 'system']) | map(attribute='content') | list }} {{ m | selectattr('nothing') | list }} {{ m | selectattr('nothing', 'undefined') | list | count }} {{ [1, 2, 3] | select('odd') | list }} {{ [0, 1] | reject | list }}
{{ [1, 2] | first }} {{ [1, 2] | last }} {{ [] | first }}|{{ 'abc' | last }} {{ 'abc' | reverse }} {{ [1, 2] | reverse | list }} {{ ['a', 'A', 'b'] | unique | list }} {{ 'abc' | list }} {{ {'a': 1} | list }} {{ ' x ' | trim }} {{ 'xax' | trim('x') }} {{ '42' | int + 1 }} {{ 'x' | int }} {{ 'x' | int(7) }} {{ '3.9' | int }} {{ 3.9 | int }} {{ '1.5' | float }} {{ 5 | string + '!' }} {{ 'a' | safe }} {{ [1, 'a', none] | join('-') }} {{ 'héllo' | length }} {{ {'a': 1, 'b': 2} | items | list }} {{ none | trim }} {{ 3 | upper }}
{% for k, v in c.function.arguments.items() %}{{ k }}={{ v }};{% endfor %} {% for k in c.function %}{{ k }} {% endfor %}{% for x in c.function.keys() %}{{ loop.index }}{{ x }}{% endfor %}{{ c.get('id') }}{{ c.get('no') }}{{ c.get('no', 5) }}{{ c.values() | list | length }}
{% for x in [1, 2, 3] if x != 2 %}{{ loop.index }}/{{ loop.length }}:{{ x }}{{ loop.previtem }}{{ loop.nextitem }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.cycle('a', 'b') }}{{ loop.depth }} {% endfor %}
{% for x in [] %}a{% else %}none{% endfor %}{% for x in undefined_name %}a{% else %}none{% endfor %}{% for x in 'äb' %}[{{ x }}]{% endfor %}
{% for x in range(10) %}{% if x == 2 %}{% continue %}{% endif %}{% if x > 4 %}{% break %}{% endif %}{{ x }}{% endfor %}{{ range(3) | list }}{{ range(5, 0, -2) | list }}
{% set x = 1 %}{% for i in [1, 2] %}{{ x }}{% set x = x + i %}{{ x }} {% endfor %}{{ x }}
{% set ns = namespace(n=0, s='a') %}{% for i in [1, 2] %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}{{ ns.s }}{{ ns.none }}{% set ns.new = 'z' %}{{ ns.new }}
{% set a, b = 1, 'two' %}{{ b }}{{ a }}{% set t %}in {{ a }} block{% endset %}{{ t }}{% set u | upper %}loud{% endset %}{{ u }}
{% macro f(a, b='B', c=none) %}<{{ a }}{{ b }}{{ c }}>{% endmacro %}{{ f(1) }}{{ f(1, 2) }}{{ f(a=3, c=4) }}{{ f() }}{{ f('x') | length }}
{% macro fact(n) %}{% if n > 1 %}{{ n * (fact(n - 1) | int) }}{% else %}1{% endif %}{% endmacro %}{{ fact(6) }}
{% with a = 1, b = 2 %}{{ a + b }}{% endwith %}{{ a }}{% filter upper | trim %} loud {% endfilter %}
{{ {'a': {'b': [1, {'c': 'deep'}]}}.a.b[1].c }} {{ m.0.role }} {{ {'a': 1, 'a': 2} }} {{ {1: 'x', 'y': 2}[1] }} {{ [1, 2,] }} {{ (1 + 2) * 3 }} {{ 1, 2 }}
{{ "a\tb\n\"q\" \u00e9 \x41 \\ \q" }} {{ 'one ' 'two' }} {{ "{{ x }} %} }}" }}
{# comment {{ x }} #}a{#- trims -#}  b {# lines
 #}
c
  {% if true %}
  indented
  {% endif %}
  {%+ if true %}
kept
  {%+ endif +%}

end {{- ' x ' -}}
   tail
   {{ 'v' }}
{%- if true -%}   y   {%- endif %}
{% raw %}{{ x }} {% if %}{% endraw %} z {%- raw -%}  w {% endraw -%}   v
{{ -1 | string }} {{ -m | length }}
{{ - 3 }} {{ +4 }} {{ not true }} {{ 1 - -1 }}
{{ dict(a=1, b='x') }} {{ strftime_now('%Y-%m-%d %H:%M') }} {{ raise_exception is defined }} {{ m[0].items() | list | length }} {{ m[0].keys is defined }}
{{ raise_exception('No.') }}
{{ 1 + 'a' }}
{{ none + 'a' }}
{{ 1 / 0 }}
{{ none.x is defined }} {{ none.x }}
{{ 5 | length }}
{{ m[0].content() }}
{{ m.append(1) }}
{{ [1] < ['a'] }}
{% if m[0].role == 'system' and m | length > 1 %}yes{% elif x %}no{% else %}never{% endif %}
{{ 'a' if m[1].role is eq('user') else 'b' }} {{ 'b' if x is defined else 'c' }} {{ (m | first).role }} {{ m[0]["role"][0] | upper }} {{ m[0].role | upper | lower | title }}
{{ nothing | tojson }}
{{ 1_000 + 1 }} {{ 1.5e3 }} {{ True and None is none and False is false }}
{% for a, b in [(1, 2), (3, 4)] %}{{ a * b }} {% endfor %}{% for a, b in [(1, 2, 3)] %}{{ a }}{% endfor %}
{% for x in [1, 2] %}{% for y in [3, 4] %}{{ loop.index }}{{ loop.depth }}{{ x * y }} {% endfor %}{{ loop.index }}{% endfor %}
{{ loop is defined }} {{ [[1, 2], [3]] | map('join', '-') | list }} {{ [3, 1] | map('string') | join('+') }}
{{ 'A' < 'a' }} {{ '' < 'a' }} {{ [1, [2, 'x']] == [1, [2, 'x']] }} {{ {'a': 1} == {'a': 1.0} }} {{ (1, 2) == [1, 2] }} {{ 'a' != 1 }} {{ none == false }}
{{ [3, 1, 2] | sort }} {{ ['b', 'A', 'a', 'B'] | sort }} {{ ['b', 'A', 'a'] | sort(case_sensitive=true) }} {{ [1, 3, 2] | sort(true) }} {{ m | sort(attribute='role') | map(attribute='role') | join(',') }} {{ [{'a': 1, 'b': 2}, {'a': 1, 'b': 1}, {'a': 0, 'b': 3}] | sort(attribute='a,b') }} {{ [('x', 1), ('y', 1), ('z', 0)] | sort(attribute='1', reverse=true) }}
{{ [1, 'a'] | sort }}
{{ {'b': 1, 'A': 2, 'c': 0} | dictsort }} {{ {'b': 1, 'A': 2} | dictsort(true) }} {{ {'b': 1, 'A': 2} | dictsort(false, 'value') }} {{ {'b': 1, 'c': 2} | dictsort(reverse=true) }} {% for k, v in c.function.arguments | dictsort %}{{ k }}={{ v }};{% endfor %}
{{ {'b': 1} | dictsort(by='size') }}
{{ [3, 1, 2] | min }} {{ [3, 1, 2] | max }} {{ ['b', 'A'] | min }} {{ ['b', 'C'] | max(case_sensitive=true) }} {{ [] | max }}| {{ [{'n': 1, 'k': 'x'}, {'n': 5}, {'n': 5, 'k': 'z'}] | max(attribute='n') }} {{ [1, 2, 3] | sum }} {{ [1.5, 2] | sum(start=1) }} {{ [{'n': 1}, {'n': 4}] | sum('n') }} {{ [] | sum }} {{ -3 | abs }} {{ (-3) | abs }} {{ (-1.5) | abs }} {{ 2 | abs }} {{ [{'r': 'a'}, {'r': 'A'}, {'r': 'b'}] | unique(attribute='r') | list }}
{{ 'x' | abs }}
{% for g in [{'k': 'b', 'n': 1}, {'k': 'A', 'n': 2}, {'k': 'B', 'n': 3}] | groupby('k') %}{{ g.grouper }}{{ g[0] }}{{ g.list | map(attribute='n') | list }}{{ g }}|{% endfor %}{% for k, of in m | groupby('role') %}{{ k }}{{ of | length }};{% endfor %}{{ [{'k': 'b'}, {'k': 'B'}, {}] | groupby('k', default='c', case_sensitive=true) }} {{ [] | groupby('k') }} {{ [(2, 'x'), (1, 'y'), (2, 'z')] | groupby(0) | list }} {{ [{'k': {'n': 1}}] | groupby('k.n') }}
{{ 42.55 | round }} {{ 42.55 | round(1, 'floor') }} {{ 42.55 | round(1) }} {{ 2.675 | round(2) }} {{ 0.5 | round }} {{ 1.5 | round }} {{ -2.5 | round }} {{ 42 | round }} {{ 1250 | round(-2) }} {{ 1350 | round(-2) }} {{ 1251.5 | round(-1) }} {{ true | round }} {{ 42.1 | round(method='ceil') }} {{ 42 | round(0, 'ceil') }} {{ 1234 | round(-2, 'floor') }} {{ 1e300 | round(5) }} {{ 1.1 | round(400) }} {{ 42.9 | round | int }} {{ -0.2 | round }}
{{ 'x' | round }}
{{ 1 | round(0, 'up') }}
{{ [1, 2, 3, 4, 5] | batch(2) | list }} {{ [1, 2, 3] | batch(2, 'x') | list }} {% for row in 'abcd' | batch(3, '-') %}{{ row | join }};{% endfor %}{{ [] | batch(3) | list }} {{ [1, 2] | batch(2, 0) | list }}
{{ 'a\nb\n\nc' | indent }}|{{ 'a\nb' | indent(2, true) }}|{{ 'a\n\nb\n' | indent(1, blank=true) }}|{{ 'a\r\nb\x0bc' | indent('> ') }}|{{ '' | indent }}|{{ 'a\n' | indent(3) }}|{{ '\na' | indent(2, first=true) }}
{{ 'a\nb\r\nc\rd\n'.splitlines() }} {{ ''.splitlines() }} {{ '\n'.splitlines() }} {{ 'x\x85y\u2028z'.splitlines() | length }}
{% for x in [{'n': 1, 'c': [{'n': 2, 'c': [{'n': 3}]}, {'n': 4}]}, {'n': 5}] recursive %}[{{ loop.depth }}{{ loop.depth0 }}{{ loop.index }}:{{ x.n }}{% if x.c %}{{ loop(x.c) }}{% endif %}]{% endfor %}
{% set sep = ';' %}{% for x in [1, [2, [3, 4], []], 5] if x != 4 recursive %}{% if x is number %}{{ x }}{{ sep }}{% else %}({{ loop(x) }}){% endif %}{% else %}none{% endfor %}
{% for x in [1] %}{{ loop([2]) }}{% endfor %}
{% macro box(title, n=2) %}<{{ title }}{{ caller() if caller else '' }}{{ n }}>{% endmacro %}{{ box('a') }}{% for i in [1, 2] %}{% call box('b' ~ i) %} in {{ i }} {% endcall %}{% endfor %}
{% macro each(items) %}{% for i in items %}{{ caller(i, loop.last) }}{% endfor %}{% endmacro %}{% call(x, last=false) each([1, 2, 3]) %}{{ x * x }}{{ '.' if last else ',' }}{% endcall %}
{% call nobody() %}x{% endcall %}
{{ (m | selectattr('role', 'ne', 'user') | list)[-1]['content'].split('</think>')[-1].strip() }}
"""


def snippets():
    """One a line, but for the table's one long piece, which lies between {# comment and the line of raw."""
    lines = SNIPPETS.strip("\n").split("\n")
    begin = next(i for i, line in enumerate(lines) if line.startswith("{# comment"))
    end = next(i for i, line in enumerate(lines) if line.startswith("{%- if true -%}"))
    return lines[:begin] + ["\n".join(lines[begin:end + 1])] + lines[end + 1:] + ["a\r\nb\r{% if 1 %}\r\nc{% endif %}\n", "x\n\n", "  {% if 1 %}a{% endif %}  \n  {# c #}  \n b"]


def rendered(template, **variables):
    try:
        return chat_template_utils._compile_jinja_template(template).render(tools=None, documents=None, **NAMES, **variables)
    except jinja2.exceptions.TemplateError as error:
        return {"error": str(error)}
    except (TypeError, ZeroDivisionError, ValueError) as error:
        return {"error": type(error).__name__}


def main():
    cases = [{"template": template, "conversation": conversation, "answer": answer,
              "text": rendered(TEMPLATES[template], messages=CONVERSATIONS[conversation], add_generation_prompt=answer)}
             for template in TEMPLATES for conversation in CONVERSATIONS for answer in (True, False)]
    named = "{% set m = messages %}{% set c = m[0].call %}"
    sources = [(named if re.search(r"\b[mc]\b", source) else "") + source for source in snippets()]
    table = [{"source": source, "text": rendered(source, messages=CONVERSATIONS["call"])} for source in sources]
    made = {"made_with": f"transformers {transformers.__version__}, jinja2 {jinja2.__version__}", "names": NAMES, "templates": TEMPLATES,
            "conversations": CONVERSATIONS, "cases": cases, "snippets": table}
    with open(sys.argv[1], "w") as file:
        json.dump(made, file, indent=1, ensure_ascii=False)
        file.write("\n")


main()
