"""Writes tests/fixtures/chat/cases.json: records of messages, and how TRL's trainers tokenise them.

Every case has a chat template, a record, and the ids that transformers' apply_chat_template and TRL's
common_prefix_length give: for prompts, as maybe_apply_chat_template renders them; for SFT and preference records, as
SFTTrainer and DPOTrainer do, with the mask of assistant_only_loss. For a template without {% generation %}, the mask is
that of a copy of the template with {% generation %}. A case that the template refuses has the message. Run with a
Python that has trl and transformers:  python chat_fixtures.py ../fixtures"""
import json
import pathlib
import sys

from jinja2 import TemplateError
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast
from trl.data_utils import _tokenize, common_prefix_length

import smollm2_trl

# The chat template of SmolLM2-Instruct. It renders every turn with the same expression.
SMOLLM2 = ("{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
           "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
           "<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
           "'<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}"
           "{{ '<|im_start|>assistant\n' }}{% endif %}")
CHATML = ("{% for message in messages %}{% if loop.first and message['role'] != 'system' %}"
          "<|im_start|>system\nBe kind.<|im_end|>\n{% endif %}"
          "{% if message['role'] == 'assistant' %}<|im_start|>assistant\n"
          "GEN{{ message['content'] + '<|im_end|>' + '\n' }}END{% else %}"
          "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
          "{% endif %}{% endfor %}"
          "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")
TURNS = ("{{ bos_token }}{% for m in messages %}{{ '[' + m.role + '] ' }}"
         "{% if m.role == 'assistant' %}GEN{{ m.content | trim }}{{ eos_token }}{{ '\n' }}END"
         "{% else %}{{ m.content | trim }}{{ '\n' }}{% endif %}{% endfor %}"
         "{% if add_generation_prompt %}{{ '[assistant] ' }}{% endif %}")
SHORT = TURNS.replace("{{ '\n' }}END", "END{{ '\n' }}") # the text END comes before the line break
THINK = ("{% if tools %}<|im_start|>system\n{{ tools | tojson }}<|im_end|>\n{% endif %}"
         "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
         "{% if m.role == 'assistant' and loop.last and m.reasoning_content %}"
         "{{ '<think>\n' + m.reasoning_content + '\n</think>\n\n' }}{% endif %}"
         "{{ m.content + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}"
         "{{ '<|im_start|>assistant\n' }}{% if enable_thinking is defined and not enable_thinking %}"
         "{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}")

# Templates constructed like those of four model families, in other words. FAMILIES says for each whether the
# beginning of a conversation renders to the beginning of the whole conversation's text. If so, plumb finds
# the answers without {% generation %}.
GEMMA1 = ("{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system turn here') }}"
          "{% endif %}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
          "{{ raise_exception('the turns must alternate') }}{% endif %}{% if (message['role'] == 'assistant') %}"
          "{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}"
          "{% if role == 'model' %}{{ '<start_of_turn>model\n' }}GEN{{ message['content'] | trim + '<end_of_turn>\n' }}END"
          "{% else %}{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endif %}"
          "{% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}")
STABLELM = ("{% for message in messages %}\n{% if message['role'] == 'user' %}\n{{ '<|user|>\n' + message['content'] + eos_token }}\n"
            "{% elif message['role'] == 'system' %}\n{{ '<|system|>\n' + message['content'] + eos_token }}\n"
            "{% elif message['role'] == 'assistant' %}\n{{ '<|assistant|>\n' }}GEN{{ message['content'] + eos_token }}\nEND{% endif %}\n"
            "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}")
STARCODER2 = ("{{bos_token}}{{'Answer as a patient colleague would.\n\n'}}\n{%- for message in messages %}\n"
              "    {%- if message['role'] == 'system' %}\n        {{ raise_exception('no system message is allowed') }}\n"
              "    {%- else %}\n        {%- if message['role'] == 'user' %}\n{{'### Question\n' + message['content'] + '\n\n'}}\n"
              "        {%- else %}\n{{'### Answer\n'}}GEN{{ message['content'] + eos_token + '\n\n'}}END\n        {%- endif %}\n"
              "    {%- endif %}\n{%- endfor %}\n{{'### Answer\n'}}")
OLMO3 = ("{% set has_system = messages | selectattr('role', 'equalto', 'system') | list | length > 0 %}"
         "{% if not has_system %}{{ '<|im_start|>system\nYou are kind. You have no functions. <functions></functions><|im_end|>\n' }}"
         "{% endif %}{% for message in messages %}{% if message['role'] == 'system' %}{{ '<|im_start|>system\n' + message['content'] }}"
         "{% if message.get('functions', none) is not none %}{{ ' <functions>' + message['functions'] + '</functions><|im_end|>\n' }}"
         "{% else %}{{ ' You have no functions. <functions></functions><|im_end|>\n' }}{% endif %}"
         "{% elif message['role'] == 'user' %}{{ '<|im_start|>user\n' + message['content'] + '<|im_end|>\n' }}"
         "{% elif message['role'] == 'assistant' %}{{ '<|im_start|>assistant\n' }}GEN{% if message.get('content', none) is not none %}"
         "{{ message['content'] }}{% endif %}{% if message.get('function_calls', none) is not none %}"
         "{{ '<function_calls>' + message['function_calls'] + '</function_calls>' }}{% endif %}"
         "{% if not loop.last %}{{ '<|im_end|>' + '\n' }}{% else %}{{ eos_token }}{% endif %}END"
         "{% elif message['role'] == 'environment' %}{{ '<|im_start|>environment\n' + message['content'] + '<|im_end|>\n' }}{% endif %}"
         "{% if loop.last and add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}{% endfor %}")
FAMILIES = {"gemma1": (GEMMA1, True, dict(bos_token="<bos>", eos_token="<eos>")),
            "stablelm": (STABLELM, True, dict(bos_token="<|endoftext|>", eos_token="<|endoftext|>")),
            "starcoder2": (STARCODER2, False, dict(bos_token="<|endoftext|>", eos_token="<|endoftext|>")),
            "olmo3": (OLMO3, False, dict(bos_token="<|endoftext|>", eos_token="<|endoftext|>"))}


def variants(text):
    plain = text.replace("GEN", "").replace("END", "")
    marked = text.replace("GEN", "{% generation %}").replace("END", "{% endgeneration %}")
    return plain, marked


def say(role, content, **more):
    return dict(role=role, content=content, **more)


TALK = [say("user", "the dog and the cat"), say("assistant", "they sat on the mat."),
        say("user", "\n why?  "), say("assistant", "\n\nbecause the sun was warm\n"),
        say("user", "caf\u00e9 \U0001f642?"), say("assistant", "\U0001f642\U0001f642 oui, caf\u00e9")]
SYSTEM = [say("system", "speak like the sea")] + TALK[:2]
TOOLS = [dict(type="function", function=dict(name="add", parameters=dict(type="object")))]


def conversations():
    return [TALK[:2], TALK, SYSTEM, TALK + [say("user", "and then?")],
            TALK[:3] + [say("assistant", "")] + TALK[4:]]


def cases_of(tok, template, twin, **kwargs):
    out = []

    def ids(messages, **more):
        return _tokenize(tok, messages, chat_template=template, **kwargs, **more)["input_ids"]

    def refuses(kind, **record):
        """Adds a case if the template refuses the messages of the record."""
        try:
            ids(record.get("prompt") or record["messages"])
        except TemplateError as e:
            out.append(dict(kind=kind, record=record, refused=str(e)))
            return True
        return False

    for prompt in (TALK[:1], TALK[:3], SYSTEM[:2], TALK[:2], TALK[:1] + [say("assistant", "they")]):
        last = prompt[-1]["role"] == "assistant"
        if refuses("prompts", prompt=prompt):
            continue
        out.append(dict(kind="prompts", record=dict(prompt=prompt),
                        ids=ids(prompt, add_generation_prompt=not last,
                                continue_final_message=last)))
    for talk in conversations():
        if refuses("sft", messages=talk):
            continue
        whole = _tokenize(tok, talk, chat_template=twin or template, return_assistant_tokens_mask=True,
                          **kwargs)
        if twin is not None:
            out.append(dict(kind="sft", record=dict(messages=talk), ids=whole["input_ids"],
                            mask=whole["assistant_masks"]))
        out.append(dict(kind="all", record=dict(messages=talk), ids=ids(talk)))
    for prompt, answer in ((TALK[:1], TALK[1:2]), (TALK[:3], [say("assistant", "  so it is")])):
        head, both = ids(prompt, add_generation_prompt=True), ids(prompt + answer)
        begin = common_prefix_length(head, both)
        out.append(dict(kind="sft", record=dict(prompt=prompt, completion=answer), ids=both,
                        begin=begin))
        other = [say("assistant", "no")]
        third = ids(prompt + other)
        begin = min(begin, common_prefix_length(head, third))
        pair = dict(kind="pairs", ids=both, other=third, begin=begin)
        out.append(dict(pair, record=dict(prompt=prompt, chosen=answer, rejected=other)))
        out.append(dict(pair, record=dict(chosen=prompt + answer, rejected=prompt + other)))
    return out


def thinking(tok):
    out = []
    answer = [say("assistant", "yes", reasoning_content="hm")]
    for more in (dict(), dict(tools=TOOLS), dict(enable_thinking=False)):
        head = _tokenize(tok, TALK[:1], chat_template=THINK, add_generation_prompt=True, **more)
        both = _tokenize(tok, TALK[:1] + answer, chat_template=THINK, **more)
        record = dict(prompt=TALK[:1], completion=answer)
        if "tools" in more:
            record["tools"] = TOOLS
        elif more:
            record["chat_template_kwargs"] = more
        out.append(dict(kind="sft", record=record, ids=both["input_ids"],
                        begin=common_prefix_length(head["input_ids"], both["input_ids"])))
    return out


def smollm2(tok):
    """Returns cases of whole conversations, in which every answer is trained on."""
    out, twin = [], smollm2_trl.marked(SMOLLM2)
    for record in smollm2_trl.conversations()[0]:
        got = _tokenize(tok, record["messages"], chat_template=twin, return_assistant_tokens_mask=True)
        text = tok.apply_chat_template(record["messages"], chat_template=SMOLLM2, tokenize=False)
        assert got["input_ids"] == tok(text, add_special_tokens=False).input_ids
        out.append(dict(kind="sft", record=record, ids=got["input_ids"], mask=got["assistant_masks"]))
    return out


def main(root):
    sets = []
    for name in ("smollm", "llama2"):
        text = json.loads((root / "tokenizer" / f"{name}.json").read_text())["tokenizer"]
        special = (dict(bos_token="<|im_start|>", eos_token="<|im_end|>") if name == "smollm" else
                   dict(bos_token="<s>", eos_token="</s>"))
        tok = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(text)), **special)
        for template in (CHATML, TURNS, SHORT):
            plain, marked = variants(template)
            for one in (plain, marked)[template is SHORT:]:
                sets.append(dict(tokenizer=name, special=special, template=one,
                                 cases=cases_of(tok, one, marked)))
        sets.append(dict(tokenizer=name, special=special, template=THINK, cases=thinking(tok)))
        if name == "smollm":
            cases = cases_of(tok, SMOLLM2, smollm2_trl.marked(SMOLLM2)) + smollm2(tok)
            sets.append(dict(tokenizer=name, special=special, template=SMOLLM2, cases=cases))
    for name, (template, begins, special) in FAMILIES.items():
        text = json.loads((root / "tokenizer" / f"{name}.json").read_text())["tokenizer"]
        tok = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(text)), **special)
        plain, marked = variants(template)
        for one in (plain, marked):
            sets.append(dict(tokenizer=name, special=special, template=one,
                             cases=cases_of(tok, one, marked if begins or one is marked else None)))
    lines = ",\n".join(json.dumps(s, separators=(",", ":")) for s in sets)
    (root / "chat" / "cases.json").write_text(
        '{"made_by":"tests/reference/chat_fixtures.py",\n"sets":[\n' + lines + "\n]}\n")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
