#!/usr/bin/env python3
"""jinja_fixtures.py OUT - writes small cases of the template language, rendered by transformers'
Jinja.

Needs transformers and jinja2 (made with 5.24 and 3.1.6). Each case has a template, its variables and
the result: a text with the byte ranges of its {% generation %} blocks, or an error.
tests/text/test_jinja.c reads this file. With `--case`, prints the rows of
src/text/jinja/case_table.h instead."""
import json
import sys

MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi  there\n"},
    {"role": "assistant", "content": "Grüße, 世界 🎉", "tool_calls": [
        {"type": "function", "id": "c1", "function": {"name": "f", "arguments": {"x": 1, "y": [1.5, None, True]}}}]},
    {"role": "tool", "content": "{\"ok\": true}"},
    {"role": "user", "content": [{"type": "text", "text": "part one"}, {"type": "image"}, {"type": "text", "text": "<b>&"}]},
]
VARS = {
    "messages": MESSAGES,
    "n": 7, "neg": -7, "f": 2.5, "big": 1e22, "small": 1.5e-7, "t": True, "no": None, "s": "Hello World", "e": "",
    "u": "Straße ǆ İ ΑΣ", "nl": "a\nb\n\nc\n", "l": [3, 1, 2], "ll": [[1, 2], [3, 4]], "w": ["b", "A", "c", "a"],
    "d": {"b": 1, "a": {"x": [1, 2]}, "items": 5, "C": "z"}, "empty": {}, "nothing": [],
    "rows": [{"n": "x", "v": 2, "k": {"q": 1}}, {"n": "Y", "v": 1}, {"n": "y", "v": 3, "k": {"q": 0}}],
    "bos_token": "<s>", "eos_token": "</s>", "add_generation_prompt": True,
    "q": "it's", "qq": "say \"it's\"", "ctl": "\x07\x7f\u200b\u00a0é\U0001f600\\",
}

# One template per case, for the variables VARS.
CASES = r'''
plain text
{{ s }}
{{ n }} {{ f }} {{ t }} {{ no }} {{ big }} {{ small }} {{ 1e16 }} {{ 123456789.125 }} {{ 1e15 }} {{ 0.1 + 0.2 }} {{ 100.0 }}
{{ l }} {{ d }} {{ messages[2] }}
{{ q }} {{ [q, qq, ctl, nl] }}
{{ (1,) }} {{ (1, 2) }} {{ () }} {{ [] }} {{ {} }} {{ (no, t, f) }}
{{ undefined_name }}|{{ undefined_name is defined }}|{{ d.nope }}|{{ d['nope'] }}
{{ undefined_name.x }}
{{ d.nope.x }}
{{ no.x }}|{{ no.x.y }}
{{ undefined_name + 1 }}
{{ undefined_name['x'] }}
{{ undefined_name() }}
{{ undefined_name == undefined_name }} {{ undefined_name == no }} {{ undefined_name or 'x' }} {{ not undefined_name }}
{% for x in undefined_name %}a{% else %}b{% endfor %}
{{ undefined_name | length }} {{ undefined_name | list }} {{ 'a' in undefined_name }}
{{ undefined_name < 1 }}
{{ [undefined_name] }}
{{ undefined_name | tojson }}
{{ undefined_name ~ 'x' }} {{ undefined_name | upper }} {{ undefined_name | trim }}
{{ -undefined_name }}
{{ 7 // 2 }} {{ -7 // 2 }} {{ 7 % 3 }} {{ -7 % 3 }} {{ 7 / 2 }} {{ 6 / 2 }} {{ 2 ** 10 }} {{ 2 ** -1 }} {{ 7.5 // 2 }} {{ -7.5 % 2 }} {{ 2 ** 0.5 }}
{{ 1 / 0 }}
{{ 1 % 0 }}
{{ 1.0 // 0 }}
{{ 1 + 2 * 3 - 4 }} {{ (1 + 2) * 3 }} {{ -2 ** 2 }} {{ 2 ** 3 ** 2 }} {{ - n }} {{ +n }} {{ - -n }}
{{ 'a' + 'b' }} {{ 'a' * 3 }} {{ 3 * 'a' }} {{ [1] + [2] }} {{ [1] * 2 }} {{ (1,) + (2,) }} {{ 'ab' * -1 }}|
{{ 'a' + 1 }}
{{ [1] + (2,) }}
{{ 'a' - 'b' }}
{{ t + 1 }} {{ t + t }} {{ true == 1 }} {{ 1 == 1.0 }} {{ '1' == 1 }} {{ no == false }}
{{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }} {{ 3 > 2 >= 2 != 1 }} {{ 'a' < 'b' }} {{ [1, 2] < [1, 3] }} {{ (1,) < (1, 0) }} {{ 'Z' < 'a' }}
{{ 1 < 'a' }}
{{ no < 1 }}
{{ 1 in l }} {{ 9 in l }} {{ 9 not in l }} {{ 'ell' in s }} {{ 'b' in d }} {{ 'x' not in d }} {{ '' in s }}
{{ 1 in 'a' }}
{{ 1 in 5 }}
{{ not t }} {{ not not t }} {{ t and no }} {{ no or e or 'z' }} {{ 0 and 1 }} {{ '' or [] }} {{ not 1 == 2 }}
{{ 'a' if t else 'b' }} {{ 'a' if no else 'b' }} {{ 'a' if no }}| {{ ('a' if no) is defined }} {{ 'x' if no else 'y' if no else 'z' }}
{{ ('a' if no) + 'b' }}
{{ 1 ~ 2 ~ 'x' ~ no ~ t ~ l }}
{{ 1, 2 }} {{ 'a' 'b' "c" }}
{{ l[0] }} {{ l[-1] }} {{ l[9] }}| {{ l[0:2] }} {{ l[::-1] }} {{ l[1:] }} {{ l[:-1] }} {{ l[::2] }} {{ l[-2:] }} {{ l[5:] }} {{ l[2:0:-1] }}
{{ s[0] }} {{ s[-1] }} {{ s[1:4] }} {{ s[::-1] }} {{ u[3:8] }} {{ u[-2:] }} {{ s[::3] }} {{ s[99] }}| {{ u[::-2] }}
{{ messages[0].role }} {{ messages[0]['role'] }} {{ messages[-1].content[0].text }} {{ messages.0.role }} {{ ll.1.0 }} {{ ll[1][0] }}
{{ messages[1:][::-1] | map(attribute='role') | join(',') }}
{{ d.items }}
{{ d['items'] }} {{ d.items() | list }} {{ d.get('b') }} {{ d.get('zz') }} {{ d.get('zz', 4) }} {{ d.keys() }} {{ d.values() | list }}
{{ d.keys() | list | join('-') }} {{ d | items | list }} {{ d | length }} {{ d | list }} {{ d.items() }}
{{ l[n] }}|{{ l['x'] }}|{{ s.nope }}|{{ n.nope }}
{{ l[1:2] is sequence }} {{ no[1:] }}
{{ d[1:2] }}
{{ l.append(1) }}
{% set x = l.append %}{{ x is defined }}
{{ d.update({'z': 1}) }}
{{ d.pop('b') }}
{{ s.__class__ }}
{{ {'a': 1, 'b': [1, {'c': 2.0}]} }} {{ {1: 2, no: t, (1, 2): 3}[(1, 2)] }} {{ {'a': 1, 'a': 2} }}
{{ {[1]: 2} }}
{% if t %}yes{% endif %}{% if no %}no{% elif n == 7 %}seven{% else %}else{% endif %}{% if e %}{% else %}empty{% endif %}
{% if n > 5 and s.startswith('H') or undefined_name.x %}ok{% endif %}
{% for x in l %}{{ x }}{% if not loop.last %},{% endif %}{% endfor %}
{% for x in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.revindex }}{{ loop.revindex0 }} {% endfor %}
{% for x in l %}{{ loop.previtem }}<{{ x }}>{{ loop.nextitem }};{% endfor %}{% for x in l %}{{ loop.previtem is defined }}{{ loop.nextitem is defined }}{% endfor %}
{% for x in w %}{{ loop.cycle('odd', 'even') }} {{ loop.changed(x | lower == 'a') }};{% endfor %}{{ loop is defined }}
{% for x in l if x > 1 %}{{ x }}{{ loop.index }}{{ loop.last }}{{ loop.length }}{% else %}none{% endfor %}|{% for x in l if x > 5 %}{{ x }}{% else %}none{% endfor %}
{% for a, b in ll %}{{ a }}{{ b }};{% endfor %}{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}{% for (a, b) in ll %}{{ a }}{% endfor %}
{% for a, b in l %}{{ a }}{% endfor %}
{% for a, b, c in ll %}{{ a }}{% endfor %}
{% for k in d %}{{ k }}{% endfor %}{% for c in 'añ世' %}[{{ c }}]{% endfor %}{% for i in range(3) %}{{ i }}{% endfor %}{% for i in range(5, 0, -2) %}{{ i }}{% endfor %}
{% for x in 5 %}{% endfor %}
{% for x in no %}{% endfor %}
{% for x in l %}{% if x == 1 %}{% continue %}{% endif %}{% if x == 2 %}{% break %}{% endif %}{{ x }}{% endfor %}
{% for x in [1] %}{% continue %}{% else %}E{% endfor %}|{% for x in [1] %}{% break %}{% else %}E{% endfor %}|{% for x in [1, 2] %}{% if x == 2 %}{% break %}{% endif %}{% else %}E{% endfor %}
{% for x in l %}{% for y in l %}{% if y == 1 %}{% break %}{% endif %}{{ x }}{{ y }} {% endfor %}{{ loop.index }};{% endfor %}
{% break %}
{% for x in l %}{% macro m() %}{% break %}{% endmacro %}{% endfor %}
{% set x = 1 %}{% for i in l %}{% set x = x + i %}{{ x }} {% endfor %}{{ x }}
{% set ns = namespace(x=1, y='a') %}{% for i in l %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}{{ ns.y }}{{ ns.z is defined }}{{ ns['x'] }}
{% set ns = namespace({'a': 1}, b=2) %}{{ ns.a }}{{ ns.b }}{% set ns.c = [ns.a] %}{{ ns.c }}
{% set ns = namespace(_x=1) %}
{% set d.x = 1 %}
{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set a, b = b, a %}{{ a }}{{ b }}{% set c = 1, 2 %}{{ c }}
{% set a, b = l %}
{% set x %}block {{ n }}{% set inner = 1 %}{% endset %}[{{ x }}]{{ inner is defined }}{% set y | upper | replace('B', 'p') %}abc{% endset %}{{ y }}
{% if t %}{% set z = 5 %}{% endif %}{{ z }}{% with a = 1, b = n %}{{ a }}{{ b }}{% set q2 = 3 %}{% endwith %}{{ a is defined }}{{ q2 is defined }}
{% set s = 'shadow' %}{{ s }}{% for s in l %}{{ s }}{% endfor %}{{ s }}
{% macro m(a, b=2, c='x') %}[{{ a }}{{ b }}{{ c }}]{% endmacro %}{{ m(1) }}{{ m(1, 3) }}{{ m(1, c='y') }}{{ m(b=1, a=0) }}{{ m() }}{{ m.name }}
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(z=2) }}
{% macro m(a) %}{{ a }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, 3, k=4) }}
{% macro m(a, b=a ~ '!') %}{{ a }}{{ b }}{% endmacro %}{{ m('x') }}{{ m(*[1, 2]) }}{{ m(**{'a': 5}) }}
{% macro fact(n) %}{% if n <= 1 %}1{% else %}{{ n * (fact(n - 1) | int) }}{% endif %}{% endmacro %}{{ fact(10) }}
{% macro m() %}<{{ caller() }}>{% endmacro %}{% call m() %}in {{ n }}{% endcall %}
{% macro m(l) %}{% for x in l %}{{ caller(x, x * 2) }};{% endfor %}{% endmacro %}{% call(a, b) m(l) %}{{ a }}-{{ b }}{% endcall %}
{% macro m() %}{% if caller %}c{% else %}none{% endif %}{% endmacro %}{{ m() }}
{% macro m() %}x{% endmacro %}{% call m() %}y{% endcall %}
{% set g = 1 %}{% macro m() %}{{ g }}{{ late is defined }}{% endmacro %}{% set g = 2 %}{% set late = 1 %}{{ m() }}{{ m }}{{ namespace(a=1) }}
{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}B{% endmacro %}{{ a() }}{{ (a() ~ 'x') | length }}
{% filter upper %}abc {{ s }}{% endfilter %}{% filter replace('a', 'b') | trim %} aa {% endfilter %}|
{% raw %}{{ x }} {% if %}{% endraw %}|{%- raw -%} a {{ {%- endraw -%} b
{# comment #}a{#- b -#} c {# multi
line #}d
a {%- if t %} b {%- endif %} c {{- n -}} d
  {% if t %}
x
  {% endif %}
y
a
    {%+ if t %}
  b{% endif +%}
c
x {# c #}
  {# c #}
  y
{{ '\n\t\\\'\"\x41\u00e9\U0001F600\101\q' }} {{ "a'b" }} {{ 'a"b' }}
{{ 'a
b' }}
{{ 0x1F }} {{ 0b101 }} {{ 0o17 }} {{ 1_000 }} {{ 1_0.5_0 }} {{ 1e3 }} {{ 1.5E-2 }}
{{ true }} {{ True }} {{ false }} {{ False }} {{ none }} {{ None }}
{{ l | tojson }} {{ d | tojson }} {{ s | tojson }} {{ ctl | tojson }} {{ f | tojson }} {{ big | tojson }} {{ (1, no) | tojson }} {{ {1: t, no: 2, 1.5: 3, t: 4} | tojson }}
{{ d | tojson(indent=2) }} {{ [] | tojson(indent=2) }} {{ {} | tojson(indent=4) }} {{ l | tojson(indent='--') }} {{ l | tojson(indent=0) }}
{{ d | tojson(separators=(',', ':')) }} {{ d | tojson(sort_keys=True) }} {{ u | tojson(ensure_ascii=True) }} {{ ctl | tojson(true) }} {{ d | tojson(indent=1, separators=(', ', ' : ')) }}
{{ '<b>&"\'' | tojson }} {{ messages | tojson }}
{{ range(3) | tojson }}
{{ d.items() | tojson }}
{{ {(1, 2): 3} | tojson }}
{{ {1: 2, 'a': 3} | tojson(sort_keys=true) }}
{{ nl | indent }}|{{ nl | indent(2, true) }}|{{ nl | indent(2, first=true, blank=true) }}|{{ 'a\nb' | indent('> ') }}|{{ '' | indent }}|{{ '\n' | indent(first=True) }}|
{{ l | length }} {{ s | count }} {{ u | length }} {{ e | length }}
{{ 5 | length }}
{{ l | select('gt', 1) | length }}
{{ '  a b ' | trim }}| {{ 'xxaxx' | trim('x') }} {{ 5 | trim }} {{ no | trim }} {{ '\u2003a\x1c' | trim }}|
{{ l | join }} {{ l | join(', ') }} {{ rows | join('-', attribute='n') }} {{ 'abc' | join('.') }} {{ [no, t, 1.0] | join(' ') }} {{ d | join }}
{{ w | map('upper') | list }} {{ rows | map(attribute='v') | list }} {{ rows | map(attribute='k.q', default='-') | list }} {{ rows | map(attribute='zz') | list }} {{ l | map('string') | map('length') | sum }}
{{ rows | map(attribute='k.q') | list }}
{{ w | map('nofilter') | list }}
{{ l | select('odd') | list }} {{ l | select('>', 1) | list }} {{ [0, 1, ''] | select | list }} {{ l | reject('even') | list }} {{ [0, 1, no] | reject | list }} {{ l | select('in', [1, 2]) | list }}
{{ rows | selectattr('v', 'equalto', 1) | map(attribute='n') | list }} {{ rows | selectattr('k') | list | length }} {{ rows | rejectattr('k') | list }} {{ messages | selectattr('role', '==', 'user') | list | length }} {{ messages | rejectattr('role', 'in', ['user', 'tool']) | map(attribute='role') | join }}
{{ messages | selectattr('role', 'equalto', 'system') | first }} {{ (messages | selectattr('role', 'equalto', 'zz') | first) is defined }}
{{ rows | selectattr('v', 'nosuchtest') | list }}
{{ x9 | default('D') }} {{ x9 | d }}| {{ e | default('E') }}| {{ e | default('E', true) }} {{ no | default('N') }} {{ no | default('N', boolean=True) }} {{ d.nope | default(d.b) }} {{ 0 | d(3, true) }}
{{ l | first }} {{ l | last }} {{ s | first }} {{ s | last }} {{ nothing | first }}| {{ d | first }} {{ d | last }} {{ (nothing | last) is defined }}
{{ s | list }} {{ d | list }} {{ (1, 2) | list }} {{ 5 | string }}{{ f | string }}{{ no | string }}
{{ 5 | list }}
{{ '42' | int }} {{ '42.7' | int }} {{ 'x' | int }} {{ 'x' | int(3) }} {{ 4.9 | int }} {{ -4.9 | int }} {{ 'ff' | int(0, 16) }} {{ '0x1f' | int(base=16) }} {{ t | int }} {{ ' 7 ' | int }} {{ no | int }} {{ '1_0' | int }} {{ '1e2' | int }}
{{ '1.5' | float }} {{ 'x' | float }} {{ 3 | float }} {{ 'x' | float(2) }} {{ '1e400' | float }} {{ ' 2 ' | float }} {{ 'nan' | float }}
{{ -5 | abs }} {{ 2.5 | abs }} {{ 2.567 | round(2) }} {{ 2.5 | round }} {{ 3.5 | round }} {{ 2.1 | round(method='ceil') }} {{ 2.19 | round(1, 'floor') }} {{ 5 | round }} {{ 2.675 | round(2) }} {{ 15 | round(-1) }} {{ 25 | round(-1) }} {{ 2.5 | round | int }}
{{ s | upper }} {{ s | lower }} {{ 'hELLO wORLD' | capitalize }} {{ "they're bill's-friends (x) foo_bar 3d" | title }} {{ u | upper }} {{ u | lower }} {{ u | capitalize }} {{ u | title }} {{ 'ﬁx ŉ' | upper }}
{{ s | replace('o', '0') }} {{ s | replace('o', '0', 1) }} {{ 'aaa' | replace('', '-') }} {{ 'aaa' | replace('aa', 'b') }} {{ 123 | replace(2, 'x') }} {{ '世界' | replace('', '.') }}
{{ w | sort }} {{ w | sort(case_sensitive=true) }} {{ l | sort(reverse=true) }} {{ rows | sort(attribute='v') | map(attribute='n') | list }} {{ rows | sort(attribute='n,v') | map(attribute='v') | list }}
{{ [1, 'a'] | sort }}
{{ w | unique | list }} {{ [1, 1.0, true, 2] | unique | list }} {{ rows | unique(attribute='n') | map(attribute='v') | list }}
{{ l | sum }} {{ rows | sum(attribute='v') }} {{ l | sum(start=10) }} {{ [[1], [2]] | sum(start=[]) }} {{ [] | sum }}
{{ ['a'] | sum }}
{{ l | batch(2) | list }} {{ l | batch(2, 'x') | list }} {{ [1, 2, 3, 4, 5] | slice(2) | list }} {{ [1, 2, 3, 4, 5] | slice(3, 0) | list }}
{{ l | reverse | list }} {{ s | reverse }} {{ d | reverse | list }}
{{ d | dictsort }} {{ {'b': 2, 'A': 3} | dictsort(true) }} {{ {'b': 2, 'a': 3} | dictsort(by='value') }} {{ {'b': 2, 'a': 3} | dictsort(reverse=true) }}
{{ l | min }} {{ l | max }} {{ w | min }} {{ w | max }} {{ w | max(case_sensitive=true) }} {{ rows | max(attribute='v') }} {{ (nothing | min) is defined }}
{{ '<a href="x">\'&' | e }} {{ '<b>' | safe }} {{ ('<b>' | e) + '<c>' }} {{ '<c>' + ('<b>' | safe) }} {{ ('<b>' | safe) ~ '<c>' }} {{ '<' | escape | length }} {{ '<' | e | e }}
{{ 'foo bar baz qux' | truncate(9) }} {{ 'foo bar baz qux' | truncate(9, true) }} {{ 'foo bar baz qux' | truncate(11) }} {{ 'foo bar baz qux' | truncate(11, false, '..', 0) }} {{ 'x' | truncate }}
{{ 'foo bar-baz qux_1 é' | wordcount }} {{ 'ab' | center(7) }}| {{ 'abc' | center(8) }}|
{{ '%s is %d and %.2f %5s|%-5s|%05d %x %% %r %c' | format('a', 3, 1.5, 'b', 'c', 42, 255, 'q', 'z') }} {{ '%(a)s' | format(a=1) }} {{ '%s' % n }} {{ '%s %s' % (1, 2) }} {{ '%i' % 3.9 }} {{ '%+d % d' % (1, 2) }} {{ '%e %g' % (12345.678, 0.0001) }}
{{ '%s %s' % (1,) }}
{{ '%s' % (1, 2) }}
{{ '%d' % 'a' }}
{% for g in rows | groupby('n') %}{{ g.grouper }}:{{ g.list | length }} {% endfor %}{% for k, v in rows | groupby('v') %}{{ k }}{{ v | map(attribute='n') | join }} {% endfor %}
{{ d | attr('b') is defined }} {{ d | attr('get') is defined }} {{ s | attr('upper')() }}
{{ n is defined }} {{ x9 is undefined }} {{ no is none }} {{ s is string }} {{ n is number }} {{ t is number }} {{ f is float }} {{ n is integer }} {{ t is integer }} {{ t is boolean }} {{ t is true }} {{ t is false }} {{ 1 is true }}
{{ d is mapping }} {{ l is iterable }} {{ s is iterable }} {{ 5 is iterable }} {{ l is sequence }} {{ s is sequence }} {{ d is sequence }} {{ d.items() is sequence }} {{ range(2) is sequence }} {{ 3 is odd }} {{ 4 is even }} {{ 9 is divisibleby 3 }} {{ 9 is divisibleby(2) }}
{{ 1 is in [1, 2] }} {{ 1 is not in [1] }} {{ 'a' is in 'abc' }} {{ 1 is eq 1 }} {{ 1 is ne 1 }} {{ 2 is gt 1 }} {{ 2 is ge 2 }} {{ 2 is lt 1 }} {{ 2 is le 2 }} {{ 2 is equalto 2 }} {{ t is sameas true }} {{ no is sameas none }} {{ 1 is sameas true }}
{{ 'abc' is lower }} {{ 'ABC' is upper }} {{ 'aB' is lower }} {{ '1' is lower }} {{ range is callable }} {{ s.upper is callable }} {{ n is callable }} {{ 'upper' is filter }} {{ 'nope' is filter }} {{ 'odd' is test }} {{ s is escaped }} {{ s | e is escaped }}
{{ s is not string }} {{ s is string and n is number }} {{ not s is string }} {{ l | length is gt 2 }} {{ n is number == true }}
{{ n is nosuchtest }}
{{ n | nosuchfilter }}
{{ '  x '.strip() }}|{{ 'xxaxx'.strip('x') }}{{ ' a'.lstrip() }}{{ 'a '.rstrip() }}|{{ 'abc'.rstrip('cb') }}{{ '\n\nq\n'.lstrip('\n') }}|
{{ 'a,b,,c'.split(',') }} {{ ' a  b c '.split() }} {{ 'a b c'.split(' ', 1) }} {{ 'a b c'.rsplit(' ', 1) }} {{ 'a</think>b</think>c'.split('</think>')[-1] }} {{ ' a  b  c '.split(none, 1) }} {{ ' a  b  c '.rsplit(none, 1) }} {{ ''.split() }} {{ ''.split(',') }} {{ 'aXbX'.split('X', maxsplit=1) }}
{{ 'a'.split('') }}
{{ s.startswith('He') }} {{ s.endswith('ld') }} {{ s.startswith(('x', 'H')) }} {{ s.startswith('llo', 2) }} {{ s.endswith('Hello', 0, 5) }} {{ s.startswith('') }}
{{ s.replace('l', 'L') }} {{ s.replace('l', 'L', 1) }} {{ s.lower() }} {{ s.upper() }} {{ 'they\'re x'.title() }} {{ 'aB'.capitalize() }} {{ 'aB'.swapcase() }} {{ ','.join(['a', 'b']) }}
{{ ','.join([1]) }}
{{ s.find('o') }} {{ s.find('z') }} {{ s.rfind('o') }} {{ s.index('W') }} {{ s.count('l') }} {{ u.find('ǆ') }} {{ s.find('o', 5) }} {{ 'aaaa'.count('aa') }} {{ 'ab'.count('') }}
{{ s.index('z') }}
{{ '{} {}'.format(1, 'a') }} {{ '{0}{1}{0}'.format('a', 'b') }} {{ '{x} {y.a}'.format(x=1, y={'a': 2}) }} {{ '{:>5}|{:<5}|{:^5}|{:05d}|{:.2f}|{:,}|{:x}|{:+d}|{:*^7}|{!r}|{{}}'.format('a', 'b', 'c', 42, 1.555, 1234567, 255, 3, 'mid', 'q') }}
{{ '{} {}'.format(1) }}
{{ nl.splitlines() }} {{ 'a\r\nb'.splitlines(true) }} {{ 'k=v=w'.partition('=') }} {{ 'k=v=w'.rpartition('=') }} {{ 'k'.partition('=') }} {{ 'k'.rpartition('=') }}
{{ '12'.isdigit() }} {{ '1a'.isdigit() }} {{ 'ab'.isalpha() }} {{ 'aé世'.isalpha() }} {{ 'a1'.isalnum() }} {{ ' '.isspace() }} {{ ''.isspace() }} {{ 'A'.isupper() }} {{ 'a'.islower() }} {{ 'Ab Cd'.istitle() }} {{ '²'.isdigit() }} {{ '²'.isdecimal() }} {{ '12'.isnumeric() }} {{ 'é'.isascii() }}
{{ '7'.zfill(3) }} {{ '-7'.zfill(4) }} {{ 'a'.center(4, '*') }} {{ 'a'.ljust(3) }}| {{ 'a'.rjust(3, '0') }} {{ 'prefix-x'.removeprefix('prefix-') }} {{ 'x.y'.removesuffix('.y') }} {{ 'abc'.removesuffix('') }}
{{ l.index(1) }} {{ l.count(3) }} {{ (1, 2, 1).count(1) }} {{ d.copy() == d }} {{ l.copy() }}
{{ l.index(9) }}
{{ dict(a=1, b=2) }} {{ dict([('x', 1)]) }} {{ dict({'a': 1}, c=3) }} {{ range(3) }} {{ range(1, 5, 2) | list }} {{ range(3) | length }} {{ range(3)[1] }}
{{ range(1000000) }}
{{ raise_exception('bad roles') }}
{% if n == 7 %}{{ raise_exception('seven: ' ~ n) }}{% endif %}
{{ strftime_now('%Y') | length }} {{ strftime_now('x') }}
{% generation %}abc{{ n }}{% endgeneration %}
{% for m in messages %}{% if m.role == 'assistant' %}A:{% generation %}{{ m.content }}{{ eos_token }}{% endgeneration %}{% else %}{{ m.role }};{% endif %}{% endfor %}
é{% generation %}{% set zz = 1 %}世{% endgeneration %}{{ zz is defined }}{%- generation -%} x {%- endgeneration %}
{% include 'x' %}
{% import 'x' as y %}
{% from 'x' import y %}
{% extends 'x' %}
{% unknown %}
{% if t %}
{% endif %}
{{ n
{% for x in l %}{{ x }}
{{ 'abc }}
{{ (1 }}
{{ 1) }}
{{ }}
{% set %}
{% set 1 = 2 %}
{% set true = 2 %}
{% for loop in l %}{% endfor %}
{# open
{% raw %}abc
{{ a b }}
{{ n !! }}
{{ n is divisibleby }}
{{ s | replace('a') }}
{{ s | upper(1) }}
{{ s.upper(1) }}
{{ l | tojson(nope=1) }}
{{ n() }}
{{ s.format_map }}{{ 'x' if s.encode }}
{% block b %}in block {{ n }}{% endblock %}{% print n, s %}
{% set x = namespace(a=[]) %}{% for i in range(3) %}{% set x.a = x.a + [i] %}{% endfor %}{{ x.a }}
{% for m in messages if m.role != 'system' %}{{ loop.index0 }}{{ m.role }}{{ loop.previtem.role if loop.previtem is defined }}{{ loop.nextitem.role if not loop.last }};{% endfor %}
{% set ns = namespace(go=true) %}{% for x in l if ns.go %}{{ x }}{% set ns.go = false %}{% endfor %}
{% set ns = namespace(go=true) %}{% for x in l if ns.go %}{{ x }}{{ loop.last }}{% set ns.go = false %}{% endfor %}
{% set gen = l | select('gt', 0) %}{{ gen | list }}{{ gen | list }}{{ gen is defined }}{{ 'y' if gen }}
{% set gen = l | select('gt', 0) %}{{ gen | first }}{{ gen | list }}
{{ l | select('gt', 0) }}
{{ l | reverse | length }}
{{ (l | map('string'))[0] }}|
{% for x in [1, 2, 3] %}{{ x }}{% else %}no{% endfor -%}
   tail
{{ bos_token }}{% for m in messages %}{{ '<|' + m['role'] + '|>' }}{% if m.content is string %}{{ m.content | trim }}{% else %}{% for p in m.content %}{{ p.text if p.type == 'text' else '<img>' }}{% endfor %}{% endif %}{% endfor %}
{% set loop_messages = messages[1:] if messages[0].role == 'system' else messages %}{{ loop_messages | length }}
{{ messages[2].tool_calls[0].function.arguments | tojson }} {{ messages[2].tool_calls[0]['function']['name'] }} {{ messages[2].tool_calls is defined and messages[2].tool_calls | length > 0 }}
{% for tool_call in messages[2].tool_calls %}{% if tool_call.function %}{% set tool_call = tool_call.function %}{% endif %}{{ tool_call.name }}{% endfor %}
{% if messages[1].content.strip().endswith('there') and 'zz' not in messages[1] %}ok{% endif %}{{ (messages | last).content[0]['text'] }}
{% set last = namespace(i=-1) %}{% for m in messages[::-1] %}{% set index = (messages | length - 1) - loop.index0 %}{% if last.i < 0 and m.role == 'user' and m.content is string %}{% set last.i = index %}{% endif %}{% endfor %}{{ last.i }}
{%- macro render(x, depth=0) -%}{%- if x is mapping -%}{ {%- for k, v in x | dictsort %}{{ k }}:{{ render(v, depth + 1) }}{{ ',' if not loop.last }}{% endfor -%} }{%- elif x is iterable and x is not string -%}[{% for i in x %}{{ render(i, depth + 1) }}{{ ',' if not loop.last }}{% endfor %}]{%- else -%}{{ x | tojson }}{%- endif -%}{%- endmacro -%}{{ render(d) }}{{ render(messages[2].tool_calls) }}
{{ 'a' if n is defined and n else 'b' }}{{ n if n is not none else 'x' }}{{ (n == 7) | string | lower }}
{{ [1, 2, 3][1:] | sum }} {{ 'abc'[1:] | upper }} {{ -1 | abs }} {{ -n | abs }} {{ 2 * 3 | string }} {{ 'a' ~ 1 + 2 }} {{ 1 + 2 ~ 'a' }} {{ 'x' ~ 'y' | upper }}
{{ not n is number }} {{ n + 1 if n else 0 }} {{ (n, s)[1] }} {{ [s, e] | select | join(' ') }} {{ {'a': 1}.a }} {{ [1, 2][0] }} {{ 'abc'.upper()[0] }} {{ 1 .real is defined }}
{{ 1.5.is_integer is defined }}{{ s.split(' ')[0].lower() | length }}
{{ namespace(a=1) is mapping }} {{ namespace(a=1) is iterable }} {{ 'a' in namespace(a=1) }}
{{ n if n > 3 }}{{ n if n > 30 }}{{ "%s" | format(n) }}{{ f"x" }}
{% if x is defined and x.y %}a{% elif l and l[0] == 3 %}b{% endif %}{% if 'content' in messages[0] %}c{% endif %}{% if messages[0].get('content', '') %}d{% endif %}
{{ (l | select('gt', 0)).type is defined }}{{ (l | reverse).x }}|{{ range.start is defined }}{{ s.upper.x }}{{ raise_exception.y }}
{% macro m(a) %}{% endmacro %}{{ m.type is defined }}{{ m.type }}|{{ m.type.x }}
{{ range(2, 9, 3).start }} {{ range(2, 9, 3)['stop'] }} {{ range(2, 9, 3).step }} {{ range(3).start is callable }} {{ n.real }} {{ n.imag }} {{ n.numerator }} {{ t.denominator }} {{ f.real }} {{ f.imag }} {{ n.real is callable }}
{{ range(9)[1:3] }} {{ range(9)[::-1] }} {{ range(2, 20, 3)[4:1:-2] }} {{ range(4)[::100] }} {{ range(4)[7:] }} {{ range(5, 0, -2)[-2:] | list }} {{ range(9)[1:7][::2] | join }} {{ range(3)[1:0] == range(0) }}
{{ nl.splitlines(true) }} {{ nl.splitlines(0) }}
{{ nl.splitlines('x') }}
{{ nl.splitlines(none) }}
{{ '{:5}|{:<3}|{:+}'.format(t, t, t) }} {{ '{}'.format(t) }} {{ '{:<05}'.format(n) }} {{ '{:<05}'.format(f) }} {{ '{:05}'.format(-7) }} {{ '{:07}'.format('ab') }} {{ '{:>07}'.format('ab') }} {{ '{:*<05}'.format(n) }}
{{ d.keys() == d.keys() }} {{ d.keys() != d.keys() }} {{ d.values() == d.values() }} {{ d.items() == {'b': 1}.items() }} {{ {'a': 1, 'b': 2}.items() == {'b': 2, 'a': 1}.items() }} {{ d.get == d.get }} {{ d.get == d.keys }}
{{ l in d.keys() }}
{{ dict(undefined_name) }}
{{ namespace(d.nope).a }}
{{ '%5%' % d }}
{{ '42' | int(1, 99) }} {{ '42' | int(1, 'b') }} {{ 2.5 | int(0, 'b') }} {{ 'zz' | int(7, 1) }}
{{ l is filter }}
{{ d is test }}
{{ 9223372036854775807 }} {{ -9223372036854775807 - 1 }} {{ 1e308 * 10 }} {{ -1e308 * 10 }} {{ 5 // 0.3 }} {{ 5.5 % -2 }} {{ -0.0 }} {{ 1e-5 }} {{ 0.0001 }} {{ 12345678901234567890.0 }}
'''


def cases():
    out, text = [], []
    lines = CASES.strip("\n").split("\n")
    # A case continues on the next lines while its braces are open, or over the number of lines
    # given here.
    longer = {"  {% if t %}": 4, "a": 3, "x {# c #}": 3, "{# comment #}a{#- b -#} c {# multi": 2, "{{ 'a": 2,
              "{% for x in [1, 2, 3] %}{{ x }}{% else %}no{% endfor -%}": 2}
    at = 0
    while at < len(lines):
        n = longer.get(lines[at], 1)
        text.append("\n".join(lines[at:at + n]))
        at += n
    for t in text:
        out.append({"template": t})
    out += [{"template": t} for t in (
        "", "\n", "a\n", "a\n\n", "a\r\nb\rc\n", "{% if t %}\n", "x\n{% if t %}\ny\n{% endif %}\nz\n", "{{ n }}\n\n",
        "  {{ n }}\n  {%- if t -%}\n  y\n  {%- endif -%}\n  z", "{%- for x in l -%}\n {{ x }}\n{%- endfor -%}\n",
        "{% set a = 1 -%}\n\n  b", "\t{# c #}\n\tx", "a{{ '\\n' }}\n{{- 'b' }}", "{% macro m() %}\n  x\n{% endmacro %}\n{{ m() }}",
        "{{ '\\ud800' }}", "{{ 'x' }}{% endfor %}", "{% if %}{% endif %}", "{% else %}", "{{ n.}}", "{{ l[] }}", "{{ l[1,2] }}",
        "{{ {'a' 1} }}", "{{ [1 2] }}", "{{ n | }}", "{{ n is }}", "{% for x l %}{% endfor %}", "{% macro (a) %}{% endmacro %}",
        "{% macro m(a=1, b) %}{% endmacro %}", "{{ m(a=1, 2) }}", "{% call n %}{% endcall %}", "{% filter nope %}{% endfilter %}",
        "{{ 1__0 }}", "{{ 012 }}", "{{ '' if }}", "{%", "{{", "{% raw %}", "a{#", "{{ not }}", "{{ n if }}", "{{ ** }}",
        "{% if no %}{{ s | from_json }}{% endif %}a", "{% if t %}{{ s | from_json }}{% endif %}", "{{ s if t else s | from_json }}",
        "{{ s | from_json if no else 1 }}", "{% if no %}{% for x in l %}{{ x | from_json }}{% endfor %}{% endif %}", "{% if s is nosuch %}{% endif %}",
        "{% if no %}{% elif n is nosuch %}{% endif %}", "{% if t %}{% elif n is nosuch %}{% endif %}b", "{% if no %}{% set x = s | from_json %}{% endif %}c",
        "{% if no %}{% set x %}{{ s | from_json }}{% endset %}{% endif %}d", "{% if no %}{% macro m() %}{{ s | from_json }}{% endmacro %}{% endif %}e",
        "{{ x9 | last }}{{ (x9 | last) is defined }}{{ x9 | reverse | list }}", "{{ l | slice(-1) | list }}", "{{ l | sort(reverse='x') }}",
        "{{ rows | join('-', attribute=x9) }}", "{{ 'a' % range(2) }}{{ 'b' % l }}", "{{ d | dictsort(reverse=none) }}",
        "{{ loop }}", "{% for x in l %}{{ loop.nope is defined }}{% endfor %}", "{% for x in l %}{{ loop }}{% endfor %}",
    )]
    return out


# Templates that Jinja renders and plumb refuses.
REFUSED = ["{{ '\\ud800' }}", "{{ l[] }}", "{{ l[1,2] }}", "{% raw %}", "a{#", "{% for x in l %}{{ loop }}{% endfor %}", "{{ s.__class__ }}",
           "{{ 10 ** 30 }}", "{{ 99999999999999999999 }}", "{% for x in l recursive %}{% endfor %}", "{{ l | pprint }}", "{{ d | xmlattr }}",
           "{{ 'a b' | urlencode }}", "{{ s | wordwrap(3) }}", "{{ 5 | filesizeformat }}", "{{ '<b>x' | striptags }}", "{{ s.encode() }}",
           "{{ lipsum() }}", "{{ 'a' is sameas 'a' }}", "{{ (-8) ** 0.5 }}", "{{ '\\N{BULLET}' }}", "{{ s.casefold() }}",
           "{% autoescape true %}{% endautoescape %}"]


def byte_span(text, span):
    return [len(text[:i].encode()) for i in span]


def answer(compile_template, render, case):
    try:
        template = compile_template(case["template"])
        text, spans = render(template, None, None, None, True, **{**VARS, **case.get("vars", {})})
        if " at 0x" in text:
            return {"error": "the text of an object has its address"}
        return {"text": text, "spans": [byte_span(text, s) for s in spans]}
    except Exception as e:  # whatever the error is, plumb must refuse the case
        return {"error": f"{type(e).__name__}: {e}"[:200]}


def main(path):
    from transformers.utils import chat_template_utils as ctu

    def render(template, _messages, _tools, _documents, _prompt, **kw):
        messages = kw.pop("messages")
        prompt = kw.pop("add_generation_prompt")
        return ctu._render_with_assistant_indices(template, messages, None, None, prompt, **kw)

    rows = [{**c, **answer(ctu._cached_compile_jinja_template, render, c)} for c in cases() if c["template"] not in REFUSED]
    rows += [{"template": t, "error": "plumb refuses this"} for t in REFUSED]
    with open(path, "w", encoding="utf-8") as f:
        json.dump({"vars": VARS, "cases": rows}, f, ensure_ascii=True, indent=0)
        f.write("\n")
    print(f"{len(rows)} cases, {sum('error' in r for r in rows)} of them errors")


def case_rows():
    for name, fold in (("upper_row", str.upper), ("title_row", str.title)):
        print(name)
        for c in range(0x110000):
            to = [] if 0xD800 <= c < 0xE000 else [ord(x) for x in fold(chr(c))]
            if len(to) > 1:
                print("{0x%04x, {%s}}," % (c, ", ".join("0x%04x" % x if x else "0" for x in to + [0] * (3 - len(to)))))


if __name__ == "__main__":
    case_rows() if sys.argv[1] == "--case" else main(sys.argv[1])
