"""Replies as models write them, and how they go wrong. Made from a seed, so that a failure can be run again."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable

Points = list[tuple[float, float]]


def pair(point: tuple[float, float], brackets: str = "()") -> str:
    return f"{brackets[0]}{point[0]:g}, {point[1]:g}{brackets[1]}"


def plain(points: Points) -> str:
    return f"[{', '.join(pair(p) for p in points)}]"


def nested(points: Points) -> str:
    return f"[{', '.join(pair(p, '[]') for p in points)}]"


def labelled(points: Points) -> str:
    return json.dumps([{"point_2d": list(p), "label": f"waypoint {k}"} for k, p in enumerate(points)])


FORMS: dict[str, Callable[[Points], str]] = {
    "tuples": plain,
    "lists": nested,
    "constrained": lambda p: json.dumps({"points": [list(q) for q in p]}),
    "labelled": labelled,
    "with depth": lambda p: json.dumps([{"point_2d": list(q), "depth": 1.08} for q in p]),
    "point": lambda p: json.dumps([{"point": list(q)} for q in p]),
    "fenced": lambda p: f"Here it is:\n```json\n{labelled(p)}\n```\nThe arm goes around (3 things).",
    "point tags": lambda p: "".join(f"<point>[[{q[0]:g}, {q[1]:g}]]</point>" for q in p),
    "ans": lambda p: f"TRAJECTORY: <ans>{plain(p)}</ans>",
    "answer start": lambda p: f"<answer_start> {plain(p)} <answer_end>",
    "answer": lambda p: f"<think>maybe [(1, 2), (3, 4)]?</think><answer>```json\n{labelled(p)}\n```</answer>",
    "unclosed": lambda p: plain(p)[:-1],
    "between words": lambda p: f"From (9, 9) to (8, 8): {plain(p)}. It ends at {pair(p[-1])}.",
    "numbered": lambda p: "\n".join(f"{k}. {pair(q)}" for k, q in enumerate(p, 1)),
    "named": lambda p: "\n".join(f"Point {k}: {pair(q)}" for k, q in enumerate(p, 1)),
    "actions": lambda p: f"<ans>[{', <action>Close Gripper</action>, '.join(pair(q) for q in p)}]</ans>",
    "arrows": lambda p: " -> ".join(pair(q) for q in p),
    "floats": lambda p: json.dumps([[q[0] + 0.0, q[1] + 0.0] for q in p]),
}

NO_NUMBERS = (
    "NaN",
    "nan",
    "Infinity",
    "-inf",
    "null",
    "1e999",
    "1e400",
    "--5",
    "5-",
    "0x1F",
    "1_0",
    "٣٤",
    "３４",
    "abc",
    "",
)


def some_points(rng: random.Random, count: int = 8) -> Points:
    if rng.random() < 0.2:
        return [(round(rng.uniform(0, 999), 2), round(rng.uniform(0, 999), 2)) for _ in range(count)]
    return [(rng.randint(0, 1000), rng.randint(2, 1000)) for _ in range(count)]


def broken(rng: random.Random, form: str) -> str:
    """A list in one of the forms that is certainly no list of 8 points in range."""
    write, points = FORMS[form], some_points(rng)
    kind = rng.randrange(5)
    if kind == 0:
        return write(some_points(rng, rng.choice([2, 3, 7, 9, 16, 40])))
    if kind == 1:
        k = rng.randrange(8)
        points[k] = rng.choice([(-1, 5), (5, 1001), (1000.5, 5), (10**9, 5), (5, -0.01), (1e17, 3)])
        return write(points)
    text = write([*points[:3], (31731, 5), *points[4:]])  # replaced below; stands nowhere else
    if kind == 2:
        return re.sub(r"31731(\.0)?", rng.choice(NO_NUMBERS), text)
    if kind == 3:
        return text.replace("31731", "317, 31")
    last = write([*points[:7], (31731, 5)])
    return last[: last.index("31731") + rng.randrange(5)]


def mutated(rng: random.Random, text: str) -> str:
    """A few random edits."""
    for _ in range(rng.randint(1, 6)):
        at, length = rng.randrange(len(text) + 1), rng.randint(0, 12)
        junk = rng.choice(JUNK)
        text = text[:at] + (junk if isinstance(junk, str) else junk(rng)) + text[at + rng.choice([0, 0, 1, length]) :]
    return text


JUNK: tuple[str | Callable[[random.Random], str], ...] = (
    *"[](){}<>,:;\"'`-+.\n\0 019",
    *NO_NUMBERS,
    *(
        "<think>",
        "</think>",
        "<answer>",
        "</answer>",
        "```",
        "```json\n",
        "<point>",
        '"point_2d":',
        "\\u0030",
        "\ud800",
    ),
    lambda r: "[" * r.randint(1, 60),
    lambda r: "9" * r.randint(1, 400),
    lambda r: "".join(
        chr(r.choice([r.randrange(128), r.randrange(0x660, 0x66A), r.randrange(0x110000)])) for _ in range(5)
    ),
)


def noise(rng: random.Random) -> str:
    """Random bytes, digits and brackets."""
    alphabet = rng.choice(["[](),0123456789. ", "".join(map(chr, range(256))), "[{(", "(1, 2)"])
    return "".join(rng.choice(alphabet) for _ in range(rng.randint(0, 200)))


THOUGHTS: tuple[tuple[str, str], ...] = (
    *(
        (f"<{name}>", f"</{name}>")
        for name in ("think", "Think", "THINKING", "thought", "thoughts", "reasoning", "reflection")
    ),
    *(
        (f"<{name}>", f"</{name}>")
        for name in ("scratchpad", "analysis", "antThinking", "seed:think", "inner_monologue", "draft")
    ),
    ('<think type="draft">', "</think>"),
    ("< think >", "</ think >"),
    ("", "</think>"),
    ("", "</seed:think>"),
    ("<think><think>", "</think></think>"),
    ("<think>\n<think>\n", "</think>"),
    ("<think>first</think><thought>", "</thought>"),
    ("[THINK]", "[/THINK]"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<｜begin▁of▁thought｜>", "<｜end▁of▁thought｜>"),
    ("◁think▷", "◁/think▷"),
    ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
    ("<|channel|>commentary to=x<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
    ("analysisWe draw ", "assistantfinal"),
    ("<|channel>thought\n", "<channel|>"),
    ("<!-- ", " -->"),
    ("<details><summary>Reasoning</summary>", "</details>"),
    ("```thinking\n", "\n```\n"),
    ("```thought process\n", "\n```\n"),
    ("Thought: ", "\nFinal answer: "),
    ("**Reasoning:** ", "\n\n**Answer:** "),
    ("## Thinking\n", "\n\n## Final answer\n"),
    ("Thought 1: ", "\nObservation: a cup\nThought 2: that is it\nAnswer: "),
    ("Here's my thought process: ", "\nHere's my response: "),
    ("Thinking...\n", "\n...done thinking.\n\n"),
)
"""How models mark what they think: begin, end."""

INVENTED: tuple[tuple[str, str], ...] = (
    *(
        (f"<{name}>", f"</{name}>")
        for name in ("musing", "zorp", "plan", "planning", "tool_call", "v1", "old", "思考", "überlegung")
    ),
    *((f"<|{name}|>", f"<|/{name}|>") for name in ("zorp", "stage_1", "inner")),
    *((f"[{name}]", f"[/{name}]") for name in ("ZORP", "Plan A", "idea")),
    *((f"{{{{{name}}}}}", f"{{{{/{name}}}}}") for name in ("zorp", "#idea")),
    ("◁zorp▷", "◁/zorp▷"),
    ("【草稿】", "【/草稿】"),
    ("⟨zorp⟩", "⟨/zorp⟩"),
    ("```zorp\n", "\n```\n"),
    ("~~", "~~"),
    ("<del>", "</del>"),
    ("<s>", "</s>"),
    ("<?zorp ", "?>"),
    ("<@zorp>", "</@zorp>"),
    ("<zorp\nkind='x'>", "</zorp>"),
    ("{% zorp %}", "{% endzorp %}"),
    ("zorp: ", "\n"),
    ("=== zorp ===\n", "\n=== /zorp ===\n"),
    ("*zorp* ", " *zorp*\n"),
    ("((zorp)) ", " ((/zorp)) "),
    ("<path>", "</path>"),
    ("<points>", "</points>"),
    ("```json\n", "\n```\n"),
    ("> ", "\n\n"),
    ("<answer>", "</answer>"),
    ("| ", " |\n"),
    ("", "\n"),
    ("", " "),
)
"""Marks that no model is known to use, or that mean something else: what is between them is not believed."""

REFUSALS = (
    "unknown", "Unknown.", "**unknown**", "UNKNOWN<|im_end|>", "`unknown`", '{"points": "unknown"}', '{"action": "unknown"}',
    "Answer: unknown", "The answer is unknown.", "<answer>unknown</answer>", "```\nunknown\n```", "I cannot see a red block.",
    "I can't do that.", "I can’t see it.", "There is no red block.", "It is not visible.", "Sorry, that fails.", "Impossible.",
    "No: that is the blue one.", "Wait, that is the plate.", "Hmm.", "N/A", "None", "null", "[]", '{"points": []}', "()", "?", "❌",
    "The red block is hidden.", "That was the blue block.", "Scratch that.", "Not this one.", "I refuse.", "Nothing matches.",
    "Es gibt keinen roten Block.", "Je ne vois pas le bloc rouge.", "No veo el bloque rojo.", "我看不到红色方块。", "見えません。",
    "Красного кубика нет.", "unbekannt", "inconnu", "不明", "未知", "The path starts at the wrong block.", "Better ask again.",
    "it would hit the cup", '{"error": "object absent"}', '{"found": false}', "<unk>", "<answer></answer>", "Final answer:", "...",
)  # fmt: skip
"""Answers that are none."""


def incomplete(rng: random.Random) -> str:
    """The beginning of a list, a list of another length, or one with something else in it."""
    if rng.random() < 0.3:
        return broken(rng, rng.choice(sorted(FORMS)))
    text = FORMS[rng.choice(("tuples", "lists", "constrained", "labelled", "point", "ans"))](some_points(rng))
    return text[: rng.randrange(1, 2 * len(text) // 3)]


_AROUND = (
    ("<", ">"),
    ("[", "]"),
    ("{", "}"),
    ("(", ")"),
    ("<|", "|>"),
    ("[[", "]]"),
    ("{{", "}}"),
    ("<<", ">>"),
    ("◁", "▷"),
)
_AROUND = (
    *_AROUND,
    ("⟦", "⟧"),
    ("「", "」"),
    ("%%", "%%"),
    ("=== ", " ==="),
    ("## ", "\n"),
    ("|", "|"),
    ("::: ", "\n"),
    ("$", "$"),
    ("", ": "),
)


def invented(rng: random.Random) -> tuple[str, str]:
    """Marks that nobody has seen."""
    name = "".join(rng.choice("abdeiklmnorstuvzÄéж思_-1 ") for _ in range(rng.randint(1, 9))) + "z"
    begin, end = rng.choice(_AROUND)
    return f"{begin}{name}{end}", rng.choice(
        (f"{begin}/{name}{end}", f"{begin}end {name}{end}", f"{begin}{name}{end}", "")
    )


def discarded_text(rng: random.Random, draft: str) -> str:
    """Any answer as a draft in some marks, then none."""
    begin, end = invented(rng) if rng.random() < 0.3 else rng.choice(THOUGHTS + INVENTED)
    return f"{begin}{draft}{end}{rng.choice(('', ' ', chr(10)))}{rng.choice(REFUSALS)}"


def discarded(rng: random.Random) -> str:
    """A good list as a draft in some marks, then no answer."""
    begin, end = invented(rng) if rng.random() < 0.3 else rng.choice(THOUGHTS + INVENTED)
    draft = FORMS[rng.choice(("tuples", "lists", "constrained", "labelled", "numbered", "arrows", "fenced"))](
        some_points(rng)
    )
    said = rng.choice(("", "", "The block could be at ", "Here is the path: ", "First I look. ", "Okay. "))
    answer = rng.choice(REFUSALS) if rng.random() < 0.75 else incomplete(rng)
    between = rng.choice(("", "\n", "\n\n", " "))
    if rng.random() < 0.1:
        return f"{begin}{said}{draft}{end}{between}{begin}{said}{draft}{end}{between}{answer}"
    if rng.random() < 0.1:
        outer = rng.choice(THOUGHTS + INVENTED)
        return f"{outer[0]}{begin}{said}{draft}{end}{outer[1]}{between}{answer}"
    return f"{begin}{said}{draft}{end}{between}{answer}"


def _lines(points: Points, write: Callable[[int, str, str], str], between: str = "\n") -> str:
    return between.join(write(k, f"{x:g}", f"{y:g}") for k, (x, y) in enumerate(points, 1))


MORE_FORMS: dict[str, Callable[[Points], str]] = {
    "x and y": lambda p: json.dumps([{"x": x, "y": y} for x, y in p]),
    "numbered x and y": lambda p: json.dumps([{"waypoint": k, "x": x, "y": y} for k, (x, y) in enumerate(p, 1)]),
    "under any key": lambda p: json.dumps({"trajectory": [{"x": x, "y": y} for x, y in p]}),
    "beside a count": lambda p: json.dumps({"task": "put it (1)", "count": 8, "waypoints": [list(q) for q in p]}),
    "by name": lambda p: json.dumps({f"p{k}": list(q) for k, q in enumerate(p, 1)}),
    "by number": lambda p: json.dumps({str(k): {"x": q[0], "y": q[1]} for k, q in enumerate(p, 1)}),
    "json lines": lambda p: _lines(p, lambda k, x, y: f'{{"waypoint": {k}, "point": [{x}, {y}]}}'),
    "numbers as texts": lambda p: json.dumps([{"x": f"{x:g}", "y": f"{y:g}"} for x, y in p]),
    "labels with numbers": lambda p: json.dumps(
        [{"point_2d": q, "label": f"waypoint ({k}, {k})"} for k, q in enumerate(p, 1)]
    ),
    "thoughts in json": lambda p: json.dumps({"reasoning": "not at [(1, 2), (3, 4)], maybe right", "points": p}),
    "python": lambda p: (
        "```python\nimport numpy as np\n# the path [8 points]\npath = np.array([\n"
        + _lines(p, lambda k, x, y: f"    [{x}, {y}],  # {k}: over the block (1)")
        + "\n], dtype=np.float32)\nprint(path)\n```"
    ),
    "remarks in json": lambda p: (
        "```json\n[\n" + _lines(p, lambda k, x, y: f'{{"point_2d": [{x}, {y}]}}, // {k}') + "\n]\n```"
    ),
    "single quotes": lambda p: str({"points": [list(q) for q in p]}),
    "last comma": lambda p: f"{plain(p)[:-1]},]",
    "boxes": lambda p: _lines(p, lambda k, x, y: f"<|box_start|>({x},{y})<|box_end|>", ""),
    "boxes with names": lambda p: _lines(
        p, lambda k, x, y: f"<|object_ref_start|>point {k}<|object_ref_end|><|box_start|>({x},{y})<|box_end|>"
    ),
    "point tags, spaces": lambda p: _lines(p, lambda k, x, y: f"<point>{x} {y}</point>", ""),
    "point tags, x and y": lambda p: _lines(p, lambda k, x, y: f"<point><x>{x}</x><y>{y}</y></point>"),
    "attributes": lambda p: _lines(p, lambda k, x, y: f'<point x="{x}" y="{y}"/>'),
    "attributes and names": lambda p: _lines(p, lambda k, x, y: f'<point x="{x}" y="{y}" alt="it">it</point>'),
    "molmo": lambda p: "<points " + _lines(p, lambda k, x, y: f'x{k}="{x}" y{k}="{y}"', " ") + ' alt="it">it</points>',
    "bullets": lambda p: _lines(p, lambda k, x, y: f"- ({x}, {y})"),
    "bold numbers": lambda p: _lines(p, lambda k, x, y: f"**{k}.** **({x}, {y})**"),
    "described": lambda p: _lines(p, lambda k, x, y: f"{k}. ({x}, {y}) - above the red block"),
    "bold names": lambda p: _lines(p, lambda k, x, y: f"- **Point {k}:** ({x}, {y})"),
    "letters": lambda p: ", ".join(f"{'ABCDEFGH'[k]}({q[0]:g}, {q[1]:g})" for k, q in enumerate(p)),
    "stops": lambda p: (
        "\n" + _lines(p, lambda k, x, y: f"- **Above the block:** ({x}, {y})" if k % 2 else f"- Lift: ({x}, {y})")
    ),
    "bare x and y": lambda p: "\n" + _lines(p, lambda k, x, y: f"{k}. x: {x}, y: {y}"),
    "bare x = ": lambda p: "\n" + _lines(p, lambda k, x, y: f"Point {k}: x={x} y={y}"),
    "yaml": lambda p: "\npoints:\n" + _lines(p, lambda k, x, y: f"  - x: {x}\n    y: {y}"),
    "yaml lists": lambda p: "\npoints:\n" + _lines(p, lambda k, x, y: f"  - [{x}, {y}]"),
    "x = ": lambda p: _lines(p, lambda k, x, y: f"{k}) (x={x}, y={y})"),
    "constructors": lambda p: f"[{_lines(p, lambda k, x, y: f'Point({x}, {y})', ', ')}]",
    "table": lambda p: "\n| # | point |\n|---|:---:|\n" + _lines(p, lambda k, x, y: f"| {k} | ({x}, {y}) |"),
    "columns": lambda p: (
        "\n| Waypoint | x | y |\n|---|---|---|\n" + _lines(p, lambda k, x, y: f"| {k} | {x} | {y} |\n", "")
    ),
    "csv": lambda p: "\nx,y\n" + _lines(p, lambda k, x, y: f"{x},{y}\n", ""),
    "html": lambda p: f"<ol>{_lines(p, lambda k, x, y: f'<li>({x}, {y})</li>')}</ol>",
    "wide signs": lambda p: plain(p).replace("(", "（").replace(")", "）").replace(", ", "，"),
    "powers": lambda p: f"[{_lines(p, lambda k, x, y: f'({float(x):.8e}, {float(y):.8e})', ', ')}]",
    "boxed": lambda p: f"$$\\boxed{{{plain(p)}}}$$",
    "assigned": lambda p: f"waypoints = {nested(p)}",
    "spread": lambda p: plain(p).replace(", (", " ,\r\n\t("),
}
"""Further ways to write the same."""

ENDS = (
    "",
    "",
    "\n",
    " ",
    "<|im_end|>",
    "<|im_end|>\n<|endoftext|>",
    "</s>",
    "<end_of_turn>\n",
    "<|eot_id|>",
    "<eos>",
    "<|end|>",
)
ENDS = (*ENDS, "<｜end▁of▁sentence｜>", "<|END_OF_TURN_TOKEN|>", "<|return|>", "<turn|>", " </s> </s>", "[EOS]")
STARTS = ("", "", "", "\ufeff", "<|im_start|>assistant\n", "<|start_header_id|>assistant<|end_header_id|>\n\n", "<bos>")
WRAPS = (
    "{}",
    "{}",
    "<answer>{}</answer>",
    "<ans>{}</ans>",
    "<answer_start>{}<answer_end>",
    "<|begin_of_box|>{}<|end_of_box|>",
)
WRAPS = (
    *WRAPS,
    "<|START_RESPONSE|>{}<|END_RESPONSE|>",
    "**Final answer:** {}",
    "### Answer\n\n{}",
    "<final_answer>\n{}\n</final_answer>",
)
WRAPS = (*WRAPS, "[ANSWER]{}[/ANSWER]", "<output>{}</output>", "<answer format='json'>{}</answer>")
BEFORE = (
    "",
    "",
    "Sure! Here is the path:\n\n",
    "The points of the trajectory:\n",
    "# Path\n",
    "**Path:**\n",
    "以下是路径：",
    "Pfad: ",
)
BEFORE = (
    *BEFORE,
    "The block is at (9, 9) and the plate at (8, 8). So the path is:\n",
)


def behind(rng: random.Random, points: Points) -> str:
    """A sentence that says parts of a list again."""
    first, last = pair(points[0]), pair(points[-1])
    return rng.choice(
        (
            "",
            "",
            f"\nThe block goes from {first} to {last}.",
            f"\n\nThe path starts at {first} and ends at {last}.",
            "\nThis path moves the red block to the plate, around the cup (3 things).",
            f"\n\nStart point: {first}\nEnd point: {last}",
            "\nThe red block is picked up and placed on the plate. Coordinates are given as (x, y).",
            "\n\nThese points trace the path from the block to the plate. It ends above the plate!",
            " ✅",
            ".",
        )
    )


def dressed(rng: random.Random) -> tuple[Points, str]:
    """A good list in any form and dress, with its points."""
    points = some_points(rng)
    form = rng.choice(sorted(FORMS | MORE_FORMS))
    text = (FORMS | MORE_FORMS)[form](points)
    if "```" not in text and rng.random() < 0.2:
        text = rng.choice(("```json\n{}\n```", "```\n{}\n```", "```python\n{}\n```", "```{}```")).replace("{}", text)
    if form not in ("described", "between words", "fenced"):
        text = f"{rng.choice(BEFORE)}{text}{behind(rng, points)}"
    text = rng.choice(WRAPS).replace("{}", text)
    begin, end = rng.choice((("", ""), *THOUGHTS))
    thought = f"{begin}The block is not at {plain(some_points(rng))}, wait.{end}\n" if begin or end else ""
    return points, rng.choice(STARTS) + thought + text + rng.choice(ENDS)
