#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes src/text/entities.inc from Python's html.entities: python3 tools/make_entities.py > src/text/entities.inc

Names stand without their semicolon; 1 where HTML knows them without it too. The second list has, for names in lower
case whose characters have other capitals, those capitals: ftfy reads &EACUTE; as the capital of &eacute;.
"""
import html.entities

WIDTH = 118


def quoted(text):
    special = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t"}
    return '"' + "".join(special.get(c, c) for c in text) + '"'


def pack(items):
    line = "   "
    for item in items:
        if len(line) + len(item) + 2 > WIDTH:
            print(line)
            line = "   "
        line += " " + item + ","
    print(line)


values = {name[:-1]: text for name, text in html.entities.html5.items() if name.endswith(";")}
bare = {name for name in html.entities.html5 if not name.endswith(";")}
assert all(html.entities.html5[name] == values[name] for name in bare)
print("/* SPDX-License-Identifier: Apache-2.0 */")
print("/* Made by tools/make_entities.py from Python's html.entities; sorted by name as strcmp sorts. */")
print("static const entity entities[] = {")
pack(f"{{{quoted(n)}, {quoted(values[n])}, {int(n in bare)}}}" for n in sorted(values, key=str.encode))
print("};\n")
print("static const entity capitals[] = {")
pack(f"{{{quoted(n)}, {quoted(values[n].upper())}, 0}}" for n in sorted(values, key=str.encode)
     if n == n.lower() and values[n].upper() != values[n])
print("};")
