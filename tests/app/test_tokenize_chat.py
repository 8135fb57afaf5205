#!/usr/bin/env python3
"""test_tokenize_chat.py: checks `plumb tokenize chat_template=..` on conversations: the text, its ids,
the mask of the assistant's tokens (generation blocks), the options that a line may override, and
what is refused."""
import json
import shutil

import common

TEMPLATE = ("{{ bos_token }}{% if tools %}{{ tools | tojson }}{% endif %}{{ who | default('') }}"
            "{% for m in messages %}[{{ m.role }}] {% if m.role == 'assistant' %}{% generation %}"
            "{{ m.content }}.{% endgeneration %}{% else %}{{ m.content }}{% endif %}{{ '\\n' }}{% endfor %}"
            "{% if add_generation_prompt %}[assistant] {% endif %}")
TALK = [{"role": "user", "content": "hi there"}, {"role": "assistant", "content": "yes please"}]


def ask(bench, words, line, *more):
    return bench.good("tokenize", *words, "input=-", *more, stdin=json.dumps(line) + "\n").lines()[0]


def texts(bench, path, folder):
    """Checks that without a tokenizer the output is only the text, and that members of a line
    override options."""
    words = [f"chat_template={path}"]
    r = ask(bench, words, {"messages": TALK})
    bench.check(r == {"text": "[user] hi there\n[assistant] yes please.\n"}, "text", r)
    r = ask(bench, words, {"messages": TALK[:1], "add_generation_prompt": True, "tools": [{"a": 1.0}],
                           "template_arguments": {"who": "Z"}}, "template_arguments.who=Y")
    bench.check(r["text"] == '[{"a": 1.0}]Z[user] hi there\n[assistant] ', "overridden", r)
    r = ask(bench, words, {"messages": TALK[:1]}, "template_arguments.who=Y", "system=be kind")
    bench.check(r["text"] == "Y[system] be kind\n[user] hi there\n", "options", r)
    r = ask(bench, words, {"messages": TALK, "continue_final_message": True})
    bench.check(r["text"] == "[user] hi there\n[assistant] yes please", "continued", r)
    r = ask(bench, [f"tokenizer={folder}", "chat_template=auto"], {"messages": TALK})
    bench.check(r["text"] == "own:hi there|yes please|", "the folder's", r)
    r = ask(bench, [f"tokenizer={folder}", "chat_template=named"], {"messages": TALK})
    bench.check(r["text"] == "2", "by name", r)


def nulls(bench):
    """Checks that a member that is null counts as missing, also the members with reasoning texts (as in
    transformers 5)."""
    path = bench.folder / "thought.jinja"
    path.write_text("{% set m = messages[0] %}{% for k in ['content', 'reasoning_content', 'thinking'] %}"
                    "{{ m[k] if k in m else '-' }} {% endfor %}")
    for given, want in (({"content": None, "reasoning_content": None}, "- - - "),
                        ({"content": "a", "thinking": None}, "a - - "),
                        ({"content": "a", "reasoning_content": None, "thinking": "t"}, "a t t "),
                        ({"content": "a", "reasoning_content": "r", "thinking": None}, "a r r "),
                        ({"content": "a", "reasoning": "r"}, "a r r ")):
        line = {"messages": [{"role": "assistant", "tool_calls": [], **given}]}
        r = ask(bench, [f"chat_template={path}"], line)
        bench.check(r["text"] == want, "null members", given, r)


def whole_messages(bench):
    """Checks the order of a message's members for a template that prints the whole message (as in
    transformers 5)."""
    path = bench.folder / "whole.jinja"
    path.write_text("{{ messages[0] | tojson }}")
    for given, want in (
            ({"reasoning": "r", "content": "a"},
             {"thinking": "r", "reasoning": "r", "content": "a", "reasoning_content": "r"}),
            ({"reasoning_content": "r", "content": "a"},
             {"thinking": "r", "reasoning_content": "r", "content": "a"}),
            ({"content": "a", "thinking": "t", "reasoning_content": "r"},
             {"thinking": "t", "content": "a", "reasoning_content": "r"})):
        r = ask(bench, [f"chat_template={path}"], {"messages": [given]})
        bench.check(r["text"] == json.dumps(want), "order of the members", given, r)


def continued(bench):
    """Checks that the text of a continued last message is that of the record, also for content of
    several parts and with white space around the text."""
    path = bench.folder / "open.jinja"
    path.write_text("{% set c = messages[-1].content %}{% if c is string %}<{{ c.split('</think>')[-1] | trim }}>"
                    "{% else %}{% for p in c %}{{ p.type }}{{ p.n }}={{ p.text }};{% endfor %}{% endif %}")
    for content, want in (("yes\u2003\u0085", "<yes"), ("", "<"), ("a\0b", "<a\0b"),
                          ([{"type": "say", "n": 7, "text": "so "}, {"type": "image"}], "say7=so ")):
        r = ask(bench, [f"chat_template={path}"],
                {"messages": [{"role": "assistant", "content": content}], "continue_final_message": True})
        bench.check(r["text"] == want, "continued", content, r)
    for content, *wanted in (("<think>hm</think>yes", "-:1", "changes its content"), (5, "message 0", "int,"),
                             ([{"type": "image"}], "message 0", "array"), ([{"text": 1}], "message 0", "text"),
                             (None, "message 0", "null")):
        line = {"messages": [{"role": "assistant", "content": content}], "continue_final_message": True}
        r = bench.run("tokenize", f"chat_template={path}", "input=-", stdin=json.dumps(line) + "\n")
        bench.check(r.code not in (0, None) and r.out == "", "continued", content, "is accepted", r)
        for w in wanted:
            bench.check(w in r.err, "continued", content, "message lacks", w, r)


def masks(bench, path, folder):
    """Checks that the mask is 1 for the tokens of the assistant's text and 0 for all others."""
    words = [f"tokenizer={folder}", f"chat_template={path}"]
    r = ask(bench, words, {"messages": TALK + TALK})
    bench.check(r["decoded"] == r["text"], "decoded", r)
    bench.check(len(r["mask"]) == len(r["ids"]) and set(r["mask"]) == {0, 1}, "mask", r)
    kept = [i for i, one in zip(r["ids"], r["mask"]) if one]
    plain = bench.good("tokenize", f"tokenizer={folder}", "input=-", "special=false",
                       stdin=json.dumps({"text": "yes please."}) + "\n").lines()[0]
    runs = sum(b > a for a, b in zip([0] + r["mask"], r["mask"]))
    bench.check(runs == 2 and len(kept) <= 2 * (len(plain["ids"]) + 1), "runs", runs, kept)
    without = ask(bench, words, {"messages": TALK, "continue_final_message": True})
    bench.check("mask" not in without and "ids" in without, "mask of a continued message", without)


def refusals(bench, path, folder):
    bad = bench.folder / "bad.jinja"
    bad.write_text("a\n{{ x | pprint }}")
    for what, words, line, *wanted in (
            ("no messages", [f"chat_template={path}"], {"tools": []}, "-:1", "messages"),
            ("an unknown field", [f"chat_template={path}"], {"messages": TALK, "mesages": 1}, "mesages"),
            ("a wrong type", [f"chat_template={path}"], {"messages": "hi"}, "messages", "array"),
            ("two ends", [f"chat_template={path}"], {"messages": TALK, "add_generation_prompt": True,
                                                     "continue_final_message": True}, "exclude"),
            ("a template that fails", [f"chat_template={bad}"], {"messages": TALK}, "bad.jinja line 2",
             "pprint"),
            ("a name that is not there", [f"tokenizer={folder}", "chat_template=nope"],
             {"messages": TALK}, "nope", "named")):
        r = bench.run("tokenize", *words, "input=-", stdin=json.dumps(line) + "\n")
        bench.check(r.code not in (0, None) and r.out == "", what, "is accepted", r)
        for w in wanted:
            bench.check(w in r.err, what, "message lacks", w, r)


def test(bench):
    path, folder = bench.folder / "t.jinja", bench.folder / "words"
    path.write_text(TEMPLATE)
    folder.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(bench.world / name, folder)
    (folder / "chat_template.jinja").write_text("own:{% for m in messages %}{{ m.content }}|{% endfor %}")
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "named.jinja").write_text("{{ messages | length }}")
    texts(bench, path, folder)
    nulls(bench)
    whole_messages(bench)
    continued(bench)
    masks(bench, path, folder)
    refusals(bench, path, folder)


if __name__ == "__main__":
    common.main(test)
