"""Renders chat templates as `transformers` does: jinja2 in its sandbox, with the library's settings.

    python chat.py MODEL.gguf     # needs gguf and jinja2; writes chat.json
"""

import json
import sys
from pathlib import Path

import gguf
import jinja2.sandbox

TEMPLATES = {
    # blocks on lines of their own, whitespace control, namespace, break
    "lines": """
{%- set ns = namespace(seen=false, count=0) -%}
{% for message in messages %}
    {% if message.role == 'system' and not ns.seen %}
        {% set ns.seen = true %}
[SYS] {{ message.content | trim }} [/SYS]
    {% elif message.role == 'assistant' %}
        {%- set ns.count = ns.count + 1 %}
A{{ ns.count }}: {{- message.content }}
    {% else %}
{{ loop.index0 }}/{{ loop.length }} {{ message['role'] | upper }}: {{ message['content'].strip() }}{{ eos_token }}
    {% endif %}
    {%- if ns.count > 1 %}{% break %}{% endif %}
{% endfor %}
{% if add_generation_prompt %}
A{{ ns.count + 1 }}:
{% endif %}
""",
    # a refusal, slices, string methods
    "strict": """{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}{% set rest = messages[1:] %}{% else %}{% set system = none %}{% set rest = messages %}{% endif %}{% for m in rest %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate user/assistant/user/assistant') }}{% endif %}{% if loop.first and system is not none %}{{ '<<SYS>>' + system + '<</SYS>>' }}{% endif %}{% set parts = m.content.split('|') %}{{ m.role.title() ~ '>' ~ parts[-1].replace('a', 'b') ~ ('.' if m.content.endswith('.') else '!') }}{% if loop.last and add_generation_prompt %}{{ '>>' }}{% endif %}{% endfor %}""",
}

CONVERSATIONS = [
    [["user", "Which organ filters blood?"]],
    [["system", "You are a radiologist. "], ["user", "Describe the liver."]],
    [["user", "a"], ["assistant", "b"], ["user", "c"]],
    [["user", "a|aa"], ["assistant", "b"], ["user", "c"], ["assistant", "d"], ["user", "e"]],
    [["system", ""], ["user", ""]],
    [["assistant", "first"], ["system", "late"], ["user", "{{ 7 * 7 }} {% raw %}"]],
    [["user", "  spaces \n and <|im_end|> and 'quotes' & <b> “é” 🧠 "]],
]


def main(model):
    def raise_exception(message):
        raise jinja2.TemplateError(message)

    env = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
    env.globals["raise_exception"] = raise_exception
    smollm2 = gguf.GGUFReader(model).fields["tokenizer.chat_template"].contents()
    templates = {"smollm2": smollm2, **TEMPLATES}
    cases = []
    for name, source in templates.items():
        for conversation in CONVERSATIONS:
            messages = [{"role": role, "content": content} for role, content in conversation]
            for generate in (False, True):
                case = {"template": name, "messages": messages, "add_generation_prompt": generate}
                try:
                    case["text"] = env.from_string(source).render(
                        messages=messages, add_generation_prompt=generate)
                except jinja2.TemplateError as error:
                    case["error"] = str(error)
                cases.append(case)
    golden = {"templates": templates, "cases": cases}
    Path(__file__).with_name("chat.json").write_text(json.dumps(golden, indent=1) + "\n")


main(sys.argv[1])
