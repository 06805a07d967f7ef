"""Parameter files and values mean to every command what they mean to rcl, which is asked itself."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import rclpy
from rclpy.node import Node
from system import rcl_parser

from stvla_ros import rcl_yaml, registry
from stvla_ros.config import ConfigError
from stvla_ros.nodes.guidance import GuidanceConfig
from stvla_ros.ros.graph import _parameter_file
from stvla_ros.ros.stage_node import StageNode

STRICTER = (
    "is written again",  # rcl takes the last, or an integer before a float
    "follows a section with a dotted name",
    "is an empty section",
    "ROS takes no empty list",
    "a list holds plain values only",
    "wanted one value",  # rcl takes the last of several, and nothing for none
    "cannot hold the character",
    "with '/' there",
    "more than 32 levels",
    "wanted names of nodes at the top level",
    "within braces or brackets needs quotes",  # some builds of rcl refuse it, others do not
    "leave the line with %YAML out",
    "wanted settings below it, found a list",
    "did not find expected whitespace or line break",  # behind tags, where versions of libyaml differ
    "wanted exactly one key",  # rcl takes a misspelt one for a name, as long as there is no value below it
)
"""What is refused although rcl takes it, but not as it stands there."""


def same(a: Any, b: Any) -> bool:
    """Of one type and value; NaN is NaN."""
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and (a == b or (isinstance(a, float) and math.isnan(a) and math.isnan(b)))


def compare(theirs: Callable[[], Any], ours: Callable[[], Any], what: object) -> bool:
    """Whether both take it; fails where they differ and ours is no known strictness."""
    try:
        wanted = theirs()
    except rcl_parser.RefusedError:
        with pytest.raises(rcl_yaml.RclYamlError):
            pytest.fail(f"rcl refuses {what!r}, we read {ours()!r}")
        return False
    try:
        got = ours()
    except rcl_yaml.RclYamlError as error:
        if not any(reason in str(error) for reason in STRICTER):
            pytest.fail(f"{what!r}: rcl reads {wanted!r}, we refuse: {error}")
        return False
    if isinstance(wanted, dict):
        got = {name: section for name, section in got.items() if section or name in wanted}
        assert list(got) == list(wanted), what
        assert all(got[n].keys() == wanted[n].keys() for n in wanted), f"{what!r}: rcl {wanted!r}, we {got!r}"
        assert all(same(got[n][p], wanted[n][p]) for n in wanted for p in wanted[n]), (
            f"{what!r}: rcl {wanted!r}, we {got!r}"
        )
    else:
        assert same(got, wanted), f"{what!r}: rcl reads {wanted!r}, we read {got!r}"
    return True


# --- values ---------------------------------------------------------------------------------------------------------

VALUES = """
2e-2|5e-2|1e3|1E5|.5|5.|+3|-3|+.5|-5e0|1e|1e+|.e5|.|+|-|++3|1.2.3|1_000|1,5|5%|3.0f|1d5|0x10|0X1F|-0x10|0x|+0x|0x.8|0x1.8p3
0x1p2000|0x1p-1080|0o17|010|-010|08|017|0777|0b101|00|-0|yes|no|on|off|y|n|Y|N|true|True|TRUE|tRue|False|null|~|Null|'x'
"5"|'5'|"yes"|!!str 5|!!str yes|!!int '5'|!!float 5|!!bool 1|!foo 5|! 5|&a 5|*a|&a|inf|.inf|-.inf|+.inf|.Inf|.iNf|INF|nan|.nan
-.nan|+nan|.NAN|.nAn|nan(12)|NaN(a_b)|nan()|nan(-)|infinity|-Infinity|infinit|1e400|-1e400|1e-400|5e-324|1e-310|0e-999999999
2.2250738585072014e-308|2.2250738585072011e-308|1e99999999999999999999|9223372036854775807|9223372036854775808|-9223372036854775808
-9223372036854775809|0x7FFFFFFFFFFFFFFF|0x8000000000000000|99999999999999999999|1:30|12:30:45|2026-01-01|a b|a: b|a # b|#|# x|5 # x
--- 5|[1, 2]|[1, 2.0]|[1, x]|[1, 1e3]|[true, yes]|[true, 1]|[]|[[1]]|[1, ]|[1,,2]|[a, 'b', "c"]|['1', 2]|[~]|[!!str 5, a]
[http://x/y]|[{a: 1}]|[*a]|{}|{a: 1}|- 1|- 1 - 2|'it''s'|"a\\tb"|"\\x41"|"\\q"|'|@a|`a|%a|?|? a|-|- |:|::|http://127.0.0.1:8000/v1
${HOME}|~/x|C:\\x|äöü|"\\u00e4"|\u0663|1\u00a0|\U0001f600| |  5  |=|<<|,|]|}|\u2028|\x85|\x07|\x7f
"""


def test_values_by_hand() -> None:
    taken = 0
    for text in [value for line in VALUES.strip("\n").split("\n") for value in line.split("|")] + [
        "",
        "|\n 5",
        ">-\n 5",
        "- 1\n- 2",
        "'a\n\n b'",
    ]:
        taken += compare(lambda t=text: rcl_parser.read_value(t), lambda t=text: rcl_yaml.read_value(t), text)
    assert taken > 120


def random_value(r: random.Random) -> str:
    kind = r.random()
    if kind < 0.5:
        return "".join(r.choice("0123456789+-.eExXabcdefinfnatyYosrulpP_ ") for _ in range(r.randint(1, 9)))
    if kind < 0.8:
        ends = ["", ".", ".5", "e5", "e-3", "E+400", "e-310", "e-323", "p3", "f"]
        return (
            r.choice(["", "-", "+"])
            + r.choice(["", "0", "0x", "."])
            + str(r.randint(0, 10 ** r.randint(1, 22)))
            + r.choice(ends)
        )
    if kind < 0.9:
        return repr(r.random() * 10 ** r.uniform(-320, 300))
    return "".join(
        chr(r.choice([*range(32, 127)] * 5 + [9, 10, 0xE4, 0x20AC, 0x1F600])) for _ in range(r.randint(1, 12))
    )


def agreeing_values(count: int, seed: int) -> int:
    """How many of so many random values rcl and we take, as the same; fails at a difference."""
    r = random.Random(seed)
    texts = [random_value(r) for _ in range(count)]
    return sum(compare(lambda t=t: rcl_parser.read_value(t), lambda t=t: rcl_yaml.read_value(t), t) for t in texts)


def test_random_values() -> None:
    assert agreeing_values(2000, seed=0) > 1600


# --- files ----------------------------------------------------------------------------------------------------------

NODE = "planner:\n  ros__parameters:\n"
FILES: list[bytes] = [
    text if isinstance(text, bytes) else text.encode()
    for text in (
        "",
        "# x\n",
        "/**:",
        "/**:\n  ros__parameters:\n",
        NODE,
        "planner:\n  ros__parameters: {}\n",
        "planner: {}\n",
        "planner:\n  backend: x\n",
        "planner:\n  parameters:\n    a: 1\n",
        "- a\n",
        "hello\n",
        "~",
        "---\n",
        "--- {}\n",
        "...\n",
        f"{NODE}    a: 1\n---\n{NODE}    b: 2\n",
        f"{NODE}    a: 1\n---\n",
        f"{NODE}    a: 1\n...\n",
        f"%YAML 1.1\n---\n{NODE}    a: 1\n",
        f"%YAML 1.2\n---\n{NODE}    a: 1\n",
        f"%YAML 1.3\n---\n{NODE}    a: 1\n",
        f"{NODE}    a: 1\r\n    b: 2\r\n",
        f"\ufeff{NODE}    a: 1\n",
        f"{NODE}    a: 1\n".encode("utf-16"),
        f"{NODE}    a: 1\n".encode("utf-16-le"),
        f"{NODE}    a: 1\n".encode("utf-32"),
        f"# über\n{NODE}    a: 1\n".encode("latin-1"),
        f"# über\n{NODE}    a: ü\n",
        f"{NODE}    a: ü\n".encode("cp1252"),
        f"{NODE}    a: \a\n",
        f"{NODE}    a: \x7f\n",
        f"{NODE}    a: \0\n",
        "planner:\n\tros__parameters:\n    a: 1\n",
        f"{NODE}\t    a: 1\n",
        f"{NODE}    a:\t1\n",
        f"{NODE}    a: 1\t# x\n",
        f"{NODE}    a: 1\n    a: 2\n",
        f"{NODE}    a: 1\n    a: 0.5\n",
        f"{NODE}    s: {{a: 1}}\n    s: {{b: 2}}\n",
        f"{NODE}    s: {{a: 1}}\n    s: {{a: 2}}\n",
        f"{NODE}    s.a: 1\n    s: {{a: 2}}\n",
        f"{NODE}    s: 1\n    s: {{a: 2}}\n",
        f"{NODE}    s: {{a: 2}}\n    s.b: 1\n",
        f"{NODE}    s: {{a: 1, a: 2}}\n",
        f"{NODE}    a: 1\n{NODE}    b: 1\n",
        f"{NODE}    a: 1\n/{NODE}    a: 2\n",
        f"{NODE}    a: 1\n/**:\n  ros__parameters: {{a: 2}}\n{NODE}    b: 3\n",
        f"{NODE}    a: &x 1\n    b: *x\n",
        f"{NODE}    a: &x 1\n",
        f"{NODE}    <<: {{a: 1}}\n",
        f"{NODE}    <<: *x\n",
        "x: &x {ros__parameters: {a: 1}}\ntask: *x\n",
        "planner: &p\n  ros__parameters: &q {a: 1}\n",
        "*a : 1\n",
        "&a planner: {}\n",
        f"{NODE}    a: {{b.c: {{d: 1}}, e: 2}}\n",
        f"{NODE}    a: {{b.c: {{d: 1}}}}\n    e: 2\n",
        f"{NODE}    z: {{a: {{b.c: {{d: 1}}}}, e: 2}}\n",
        f"{NODE}    b.c: {{d: {{f: 1}}, g: 3}}\n    e: 2\n",
        f"{NODE}    a: {{b: {{d: {{f: 1}}, g: 3}}, h: 4}}\n    e: 2\n",
        f"{NODE}    a: {{}}\n",
        f"{NODE}    a: {{}}\n    b: 1\n",
        f"{NODE}    a: []\n",
        f"{NODE}    a: []\n    b: 1\n",
        f"{NODE}    a: [[1], [2]]\n",
        f"{NODE}    a: [1, {{b: 2}}]\n",
        f"{NODE}    a: [1, b]\n",
        f"{NODE}    a:\n    - 1\n    - 2\n",
        f"{NODE}    a: [1, ]\n    b: 2\n",
        f"{NODE}    a: [b: 1]\n",
        "planner:\n  ros__parametersX:\n    a: 1\n",
        "planner:\n  ros__parameter:\n    a: 1\n",
        "ros__parameters:\n  a: 1\n",
        "planner:\n  ros__parameters: [1]\n",
        "planner:\n  ros__parameters: 1\n",
        "planner: [1]\n",
        "planner\n",
        "{planner, task}\n",
        f"{NODE}    a: 1\n  x: {{ros__parameters: {{b: 2}}}}\n",
        f"{NODE}    a: 1\n  ros__parameters:\n    b: 1\n",
        "planner:\n  x: {ros__parameters: {b: 2}}\n  ros__parameters: {a: 1}\n",
        "/**:\n  planner:\n    ros__parameters: {a: 1}\n",
        "/:\n  planner:\n    ros__parameters: {a: 1}\n",
        "ns:\n  a: {ros__parameters: {a: 1}}\n  b: {ros__parameters: {a: 1}}\n",
        "a/b:\n  c/d:\n    ros__parameters: {a: 1}\n  e:\n    ros__parameters: {a: 1}\n",
        "/*:\n  ros__parameters: {a: 1}\n",
        "/**/planner:\n  ros__parameters: {a: 1}\n",
        "/*/planner:\n  ros__parameters: {a: 1}\n",
        "'**':\n  ros__parameters: {a: 1}\n",
        "'*':\n  ros__parameters: {a: 1}\n",
        "'***':\n  ros__parameters: {a: 1}\n",
        "//planner:\n  ros__parameters: {a: 1}\n",
        "planner/:\n  ros__parameters: {a: 1}\n",
        "pl-anner:\n  ros__parameters: {a: 1}\n",
        "3p:\n  ros__parameters: {a: 1}\n",
        "pl*:\n  ros__parameters: {a: 1}\n",
        "? [a]\n: 1\n",
        "? {a: 1}\n: 1\n",
        "? planner\n: {ros__parameters: {a: 1}}\n",
        "'': {ros__parameters: {a: 1}}\n",
        "planner: {ros__parameters: {'': 1}}\n",
        "planner: {ros__parameters: {~: 1, 3: 2, on: 3}}\n",
        "planner: {ros__parameters: {a: 1}",
        "planner: {ros__parameters: {a: 1,}}\n",
        "planner: {ros__parameters: {a}}\n",
        "planner: {ros__parameters: {a: }}\n",
        "planner: {ros__parameters: {u: http://h:1/v}}\n",
        f"{NODE}    u: http://h:1/v\n",
        f"{NODE}    a: !!str 5\n    b: !!int '5'\n    c: 'x\n\n      y'\n    d: |\n      text\n    e: >-\n      5\n",
        f"{NODE}   a: 1\n    b: 2\n",
        f"{NODE}    a:\n",
        f"{NODE}    a: # x\n    b: 1\n",
        f"{NODE}    a: ''\n",
        "[" * 2000,
        "{a: " * 2000,
        NODE + "    a: {b: 1}\n" * 2,
        "planner: {ros__parameters: " + "{a: " * 100 + "1" + "}" * 102,
        "!!map {planner: {ros__parameters: {a: 1}}}\n",
    )
]


def compare_file(place: Path, data: bytes) -> bool:
    place.write_bytes(data)
    return compare(lambda: rcl_parser.read(place), lambda: rcl_yaml.read(data), data)


def test_files_by_hand(tmp_path: Path) -> None:
    assert sum(compare_file(tmp_path / "x.yaml", data) for data in FILES) > 35


NAMES = ["a", "b", "c", "d", "e", "f", "g", "h", "a.b", "b.c", "3x", "on", "'q'", "x_y"]
SCALARS = [
    *[
        "1",
        "2e-2",
        "1e3",
        ".5",
        "5.",
        "0x10",
        "010",
        "yes",
        "on",
        "~",
        "null",
        "x",
        "'x'",
        '"5"',
        "!!str 5",
        "inf",
        ".nan",
    ],
    *["1_0", "", "a b", "-1", "true", "99999999999999999999", "&a 1", "*a", "1:30", "|", "!foo 3"],
]
SECTIONS = ["planner", "/planner", "guidance", "/**", "/*", "/**/planner", "ns/planner", "task", "robot", "'planner'"]
SCRAPS = [
    b" ",
    b"\t",
    b":",
    b"\n",
    b"- ",
    b"{",
    b"}",
    b"[",
    b"]",
    b"'",
    b'"',
    b"#",
    b"&a ",
    b"*a",
    b"\xfc",
    b"\xc3\xa4",
    b"\0",
]
SCRAPS += [
    b"!!str ",
    b"|",
    b".",
    b"\r\n",
    b"\x85",
    b"\xe2\x80\xa8",
    b"? ",
    b",",
    b"%",
    b"@",
    b"...\n",
    b"---\n",
    b"ros__parameters",
]


def random_flow(r: random.Random, depth: int) -> str:
    kind = r.random()
    if kind < 0.7 or depth > 3:
        return r.choice(SCALARS)
    if kind < 0.8:
        return "[" + ", ".join(r.choice(SCALARS) if r.random() < 0.9 else "[1]" for _ in range(r.randint(0, 3))) + "]"
    count = r.randint(0 if r.random() < 0.2 else 1, 3)
    return "{" + ", ".join(f"{r.choice(NAMES)}: {random_flow(r, depth + 1)}" for _ in range(count)) + "}"


def random_block(r: random.Random, indent: int, depth: int = 0) -> str:
    text, margin = "", " " * indent
    for _ in range(r.randint(1, 4)):
        if r.random() < 0.3 and depth < 3:
            text += f"{margin}{r.choice(NAMES)}:\n{random_block(r, indent + 2, depth + 1)}"
        elif r.random() < 0.1:
            text += f"{margin}{r.choice(NAMES)}:\n" + "".join(
                f"{margin}- {r.choice(SCALARS)}\n" for _ in range(r.randint(1, 3))
            )
        else:
            text += f"{margin}{r.choice(NAMES)}: {random_flow(r, depth)}" + r.choice([""] * 6 + [" # c", "\r"]) + "\n"
    return text


def random_odd_file(r: random.Random) -> str:
    text = ""
    for _ in range(r.randint(0, 3)):
        key = "ros__parameters" if r.random() < 0.95 else "ros_parameters"
        below = r.random() < 0.1
        text += f"{r.choice(SECTIONS)}:\n" + (f"  {r.choice(['planner', 'x', '/**'])}:\n  " if below else "")
        text += f"  {key}:\n{random_block(r, 6 if below else 4)}" + ("---\n" if r.random() < 0.05 else "")
    return text


def random_usual_file(r: random.Random) -> str:
    text = ""
    for section in r.sample(["planner", "/guidance", "/**", "/*/x", "/**/task", "ns/planner"], r.randint(1, 4)):
        text += f"{section}:\n  ros__parameters:\n"
        for name in r.sample("abcdefgh", r.randint(1, 5)):
            if r.random() < 0.3:
                inner = ["1", "2e-2", "x", "yes", "[1, 2]", "[a, b]", "~", "0x1F", "1.5", "1e400"]
                text += f"    {name}:\n" + "".join(
                    f"      {n}: {r.choice(inner)}\n" for n in r.sample("uvw", r.randint(1, 3))
                )
            else:
                outer = [
                    "1",
                    "5e-2",
                    "+3",
                    ".5",
                    "5.",
                    "no",
                    "[1.0, .5]",
                    "text # c",
                    "1e3",
                    "08",
                    "017",
                    "-.inf",
                    "1_0",
                ]
                text += f"    {name}{r.choice(['', '.x'])}: {r.choice(outer)}\n"
    return text


def mutated(r: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(r.choice([0, 0, 1, 1, 2, 4])):
        if not changed:
            break
        i, kind = r.randrange(len(changed)), r.random()
        if kind < 0.35:
            del changed[i : i + r.choice([1, 1, 2, 5])]
        elif kind < 0.7:
            changed[i:i] = r.choice(SCRAPS)
        elif kind < 0.85:
            changed[i] = r.randrange(256)
        else:
            j = r.randrange(len(changed))
            changed[i:i] = changed[j : j + 20]
    return bytes(changed)


def random_file(r: random.Random) -> bytes:
    return mutated(r, (random_odd_file(r) if r.random() < 0.4 else random_usual_file(r)).encode())


def agreeing_files(place: Path, count: int, seed: int) -> int:
    """How many of so many random files rcl and we take, as the same; fails at a difference."""
    r = random.Random(seed)
    return sum(compare_file(place, random_file(r)) for _ in range(count))


def test_random_files(tmp_path: Path) -> None:
    assert agreeing_files(tmp_path / "x.yaml", 500, seed=0) > 150


# --- nodes ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def parameters(domain: int) -> Any:
    """What a node named planner gets from command-line arguments."""

    def get(*arguments: str) -> dict[str, Any]:
        context = rclpy.Context()
        rclpy.init(args=["--ros-args", *arguments], context=context, domain_id=domain)
        node = Node(
            "planner", context=context, automatically_declare_parameters_from_overrides=True, enable_rosout=False
        )
        try:
            return {
                name: p.value for name, p in node._parameters.items() if not name.startswith(("use_sim", "start_type"))
            }
        finally:
            node.destroy_node()
            context.shutdown()

    return get


SETTINGS = """
tube_radius_m: 2e-2|tube_radius_m: 0x0|tube_radius_m: 1e-1|tube_radius_m: 5e2|tube_radius_m: .05|tube_radius_m: '0.05'|tube_radius_m: yes
tube_radius_m: .inf|tube_radius_m: 5cm|tube_radius: 0.02|max_rate_hz: 1e1|max_rate_hz: 15|max_rate_hz: 017|keep_s: 99999999999999999999
mode: mask_only|mode: off|mode: "off"|mode: null|mode: masks|segmenter: sam|geometric: {min_area_px: 1e2}|geometric.min_area_px: 0100
geometric: {min_area: 5}|geometrc: {x: 1}|camera.max_age_s: 2|camera: {color: [a]}|lift: 3|lift.x.y: 3|fill: {x: 1}|robot_: 1|a..b: 1
joint_states.max_age_s: +3e-1|camera: {color: ~}|overlay_alpha: 1|overlay_alpha: 1.0000001|overlay_alpha: -0|overlay_alpha: [1]
"""


def test_a_node_and_the_commands_agree(domain: int, parameter_file: Callable[[str], Path]) -> None:
    """On the value, or on the sentence, but for the name of the file."""
    taken = 0
    for setting in (setting for line in SETTINGS.strip().split("\n") for setting in line.split("|")):
        file = parameter_file(f"guidance:\n  ros__parameters:\n    {setting}\n")
        try:
            ours: Any = registry.settings(
                GuidanceConfig, registry.NODES["guidance"][1], registry.read_nodes(file)["guidance"], ""
            )[0]
        except ConfigError as error:
            ours = str(error).removeprefix(f"{file}: ")
        rclpy.init(args=["--ros-args", "--params-file", str(file)], domain_id=domain)
        try:
            node = StageNode("guidance", GuidanceConfig, registry.NODES["guidance"][1])
            theirs: Any = node.config
            node.destroy_node()
        except ConfigError as error:
            theirs = str(error)
        finally:
            rclpy.shutdown()
        assert theirs == ours, setting
        taken += not isinstance(ours, str)
    assert taken > 12


SAYS_TWO = "ros__parameters: {a: 1, s: {b: x}}"
PRECEDENCE = [
    f"/**: {{{SAYS_TWO}}}\nplanner: {{ros__parameters: {{a: 2}}}}",
    f"planner: {{{SAYS_TWO}}}\n/**: {{ros__parameters: {{a: 2}}}}",
    f"/planner: {{{SAYS_TWO}}}\nplanner: {{ros__parameters: {{a: 2}}}}\n/planner: {{ros__parameters: {{c: 3}}}}",
    f"/*: {{{SAYS_TWO}}}\n/**: {{ros__parameters: {{a: 2}}}}\n/**/planner: {{ros__parameters: {{s.b: y}}}}",
    f"/*/planner: {{{SAYS_TWO}}}\n/ns/planner: {{{SAYS_TWO}}}\nguidance: {{{SAYS_TWO}}}\n'**': {{ros__parameters: {{d: 1}}}}",
    f"/**: {{planner: {{{SAYS_TWO}}}}}\n/**/*: {{ros__parameters: {{a: 7}}}}",
]


@pytest.mark.parametrize("text", PRECEDENCE)
def test_several_sections_are_merged_as_rclpy_merges_them(
    parameters: Any, parameter_file: Callable[[str], Path], text: str
) -> None:
    from stvla_ros.config import EVERY_NODE, _node

    file, got = parameter_file(text), {}
    for name, section in rcl_yaml.read(text.encode()).items():
        fits_none = re.match(r"/(\*|ns)/planner", name)
        if not fits_none and _node(file, name) in (EVERY_NODE, "planner"):
            got.update(section)
    assert got == parameters("--params-file", str(file))


@pytest.mark.parametrize(
    "text",
    ["planner: {ros__parameters: {a: 1, s: {b: 2}}}", *(text.replace("ns/planner", "ns/x") for text in PRECEDENCE)],
)
def test_the_command_line_is_stronger_than_any_file(
    parameters: Any, parameter_file: Callable[[str], Path], text: str
) -> None:
    """With ``-p planner:a:=0.5`` the integer of the file would stay, and a later section of the file would win."""
    file = parameter_file(text)
    more = _parameter_file(
        {"planner.a": "0.5", "planner.s.b": "'2e-2'", "planner.3x": "yes", "robot.e": "[1, 2]"}, file
    )
    got = parameters("--params-file", str(file), "--params-file", str(more))
    assert {name: got[name] for name in ("a", "s.b", "3x", "robot.e")} == {
        "a": 0.5,
        "s.b": "2e-2",
        "3x": True,
        "robot.e": [1, 2],
    }


@pytest.mark.parametrize(
    "value",
    [
        "x",
        "2e-2",
        "y",
        "~",
        "5",
        "",
        " a ",
        "äöü €\U0001f600",
        "a: b",
        "#",
        "a\nb",
        "\u2028",
        '"',
        "\\",
        "\x7f",
        "'",
        "\t",
    ],
)
def test_texts_are_written_so_that_rcl_reads_them_as_they_are(tmp_path: Path, value: str) -> None:
    place = tmp_path / "x.yaml"
    section = {
        "a": value,
        "b": [value, "x"],
        "c": 1e22,
        "d": 5,
        "e": False,
        "f": math.inf,
        "g": 1e-7,
        "h": [1.0, 2.5],
        "i": -0.0,
    }
    place.write_text(rcl_yaml.write({"planner": {"ros__parameters": section}}))
    assert rcl_parser.read(place) == {"planner": section}
