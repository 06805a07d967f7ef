"""What the pages say exists: links, files, commands and their options, settings, names on the ROS graph."""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import NamedTemporaryFile

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from stvla_ros import registry
from stvla_ros.cli import joined, make_parser
from stvla_ros.commands import COMMANDS
from stvla_ros.commands.arguments import check_tasks, folder
from stvla_ros.config import SHARED, ConfigError
from stvla_ros.data.st_human.synthetic.batch import check_kinds
from stvla_ros.evaluate.libero.run import parse_tasks

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import reference  # noqa: E402

SITE = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md"} | {
    f"{name}/README.md": f"{name}.md" for name in ("benchmarks", "docker")
}
"""Page outside of docs/ -> its place in the site."""

PAGES = [*SITE, *sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("docs/**/*.md"))]
WIDTH = 120
OF_OTHERS = ("rs_launch.py", "utils.py")
"""Files that a page names and this repository does not have."""

DOTS = re.compile(r"…|\.\.\.")
PLACEHOLDER = re.compile(r"[A-Z][A-Z_]*|…|\.\.\.")
SHELL = ("", "bash", "sh", "console")


@dataclass
class Page:
    """A page in Markdown, taken apart.

    Attributes:
        spans: Texts between backticks.
        code: Language and text of the blocks.
        links: Targets of links and images.
        anchors: What a link into this page may name.
        prose: Its lines, those of tables and blocks of code empty.
    """

    name: str
    text: str
    spans: list[str] = field(default_factory=list)
    code: list[tuple[str, str]] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)
    prose: list[str] = field(default_factory=list)

    @property
    def commands(self) -> Iterator[tuple[list[str], bool]]:
        """Words of every command, and whether it is whole: what stands between backticks need not be."""
        for language, text in self.code:
            for line in text.replace("\\\n", " ").splitlines() if language in SHELL else []:
                yield from ((words, not DOTS.search(line)) for words in _commands(line))
        for span in self.spans:
            yield from ((words, False) for words in _commands(span))


@cache
def page(name: str) -> Page:
    """A page of the repository."""
    return parsed(name, (ROOT / name).read_text())


def parsed(name: str, text: str) -> Page:
    """A page from its text."""
    found, lines = Page(name, text), text.splitlines()
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    for token, after in zip(tokens, [*tokens[1:], None]):
        if token.type in ("fence", "code_block"):
            found.code.append((token.info.strip(), token.content))
        if token.type in ("fence", "code_block", "table_open") and token.map:
            lines[slice(*token.map)] = [""] * (token.map[1] - token.map[0])
        found.links += re.findall(r'\b(?:src|href)="([^"]+)"', token.content if "html" in token.type else "")
        if token.type == "heading_open" and after:
            slug = _slug("".join(child.content for child in after.children or ()))
            again = sum(re.fullmatch(rf"{re.escape(slug)}(-\d+)?", one) is not None for one in found.anchors)
            found.anchors.add(f"{slug}-{again}" if again else slug)
        for child in token.children or ():
            _inline(child, found)
    found.prose = lines
    return found


def _inline(token: Token, found: Page) -> None:
    if token.type == "code_inline":
        found.spans.append(token.content)
    elif token.type == "html_inline":
        found.links += re.findall(r'\b(?:src|href)="([^"]+)"', token.content)
    target = token.attrGet("href") or token.attrGet("src")
    if target:
        found.links.append(str(target))
    for child in token.children or ():
        _inline(child, found)


def _slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def _commands(line: str) -> Iterator[list[str]]:
    """The words of each command of a line, without what only says where or how it runs."""
    line = re.sub(r"\[(--[\w-]+)\]", r"\1", re.sub(r"<[\w ]+>", "PLACE", line))
    lexer = shlex.shlex(line, posix=True, punctuation_chars="();|&")
    lexer.commenters, lexer.whitespace_split = "#", True
    try:
        words = list(lexer)
    except ValueError:  # an apostrophe: no command
        return
    command: list[str] = []
    for word in [*words, ";"]:
        if not set(word) <= set("();|&"):
            command.append(word)
            continue
        while command and (re.fullmatch(r"\w+=.*", command[0]) or command[0] in ("$", "sudo", "time")):
            command.pop(0)
        if "stvla_ros" in command and command[0] in ("docker", "ros2") and "run" in command:
            command = command[command.index("stvla_ros") + 1 :]
        if command:
            yield command
        command = []


def broken_links(one: Page) -> Iterator[str]:
    """Relative links lead to files, and anchors to headings."""
    for link in one.links:
        target, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", link):
            continue
        path = ((ROOT / one.name).parent / target).resolve() if target else ROOT / one.name
        if not path.exists():
            yield f"{link}: no such file"
        elif anchor and path.suffix == ".md" and anchor not in page(str(path.relative_to(ROOT))).anchors:
            yield f"{link}: no such heading"


def missing_files(one: Page) -> Iterator[str]:
    """Paths of the repository exist, written from its root, from ``src/stvla_ros`` or from the page."""
    bases = (ROOT, ROOT / "src/stvla_ros", ROOT / "src", (ROOT / one.name).parent)
    words = [*one.spans, *(word for words, _ in one.commands for word in words)]
    for word in dict.fromkeys(words):
        path = re.sub(r":\d+$|,$", "", word)
        if re.fullmatch(r"[\w./*-]+", path) and _is_ours(path) and not any(_there(base, path) for base in bases):
            yield f"{word}: no such file"


def _is_ours(path: str) -> bool:
    if "/" not in path:
        return re.fullmatch(r"[\w-]+\.(py|msg|srv|action|sh)", path) is not None and path not in OF_OTHERS
    first = path.split("/")[0]
    users = first in ("data", "runs", "build", "install", "log") and not path.endswith(".py")
    users = users or path.startswith("camera/camera")  # topics
    return not users and first in _rooms() and "NAME" not in path


@cache
def _rooms() -> set[str]:
    hidden = {".venv", ".venv-docs", ".git", ".cache"}  # they are there or not, according to what was run
    return {p.name for base in (ROOT, ROOT / "src", ROOT / "src/stvla_ros") for p in base.iterdir()} - hidden


def _there(base: Path, path: str) -> bool:
    if path.startswith("stvla_msgs/"):  # a type, as ROS names it
        return any((ROOT / "src/stvla_msgs").rglob(f"{path.rpartition('/')[2]}.*"))
    return path in _names() or any(base.glob(path.strip("/"))) or any(base.glob(f"{path}.py"))


@cache
def _names() -> set[str]:
    rooms = [ROOT / name for name in ("src", "test", "tools", "benchmarks", "docker", "launch")]
    return {path.name for room in rooms for path in room.rglob("*.*")}


def wrong_commands(one: Page) -> Iterator[str]:
    """Every ``stvla`` command line is understood by the command's own parser, and what it sets exists."""
    for words, whole in one.commands:
        if words[0].rpartition("/")[2] == "stvla" and len(words) > 1:
            try:
                _parse(joined(words[1:]), whole)
            except ConfigError as error:
                yield f"{shlex.join(words)}: {error}"


def _parse(words: list[str], whole: bool) -> None:
    command, *arguments = (word for word in words if word not in ("--help", "-h"))
    if PLACEHOLDER.fullmatch(command):
        return
    parser = make_parser(command)
    if command not in COMMANDS:
        parser.parse_checked(words)
    subparser = _subparsers(parser)[command]
    _soften(subparser, [word for word in arguments if PLACEHOLDER.fullmatch(word)], whole)
    if not whole and arguments and arguments[-1] in parser._options_of(command):
        arguments.pop()  # an option by itself, perhaps without its value
    taken, extra = parser.parse_known_args([command, *arguments])
    if unknown := [word for word in extra if not PLACEHOLDER.fullmatch(word)]:
        raise ConfigError(f"'{unknown[0]}' is not understood; options: {' '.join(parser._options_of(command))}")
    tasks = getattr(taken, "tasks", None) or getattr(taken, "task", None)
    if tasks and not PLACEHOLDER.fullmatch(tasks):
        kinds = getattr(taken, "verb", None) == "synthesise"
        (check_kinds if kinds else parse_tasks if command == "evaluate-libero" else check_tasks)(tasks)
    changes = dict(change for change in getattr(taken, "overrides", None) or () if not isinstance(change, str))
    chosen = {kind: getattr(taken, kind, None) for kind in registry.BACKENDS}
    if not any(PLACEHOLDER.fullmatch(text) for text in [*changes, *filter(None, chosen.values())]):
        registry.read_nodes(None, chosen, changes)


def _subparsers(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    found = [action.choices for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return dict(found[0]) if found else {}


def _soften(parser: argparse.ArgumentParser, placeholders: list[str], whole: bool) -> None:
    """Let a parser take placeholders for values, folders that are not here and, unless the line is whole, less than it needs."""
    for action in parser._actions:
        kind = action.type
        if kind is folder:
            action.type = Path
        elif callable(kind):
            action.type = lambda text, kind=kind: text if PLACEHOLDER.fullmatch(text.rpartition("=")[2]) else kind(text)
        if not isinstance(action, argparse._SubParsersAction) and action.choices is not None:
            action.choices = [*action.choices, *placeholders]
        if not whole:
            action.required = False
            action.nargs = "?" if not action.option_strings and action.nargs is None else action.nargs
    for group in parser._mutually_exclusive_groups:
        group.required = group.required and whole
    for sub in _subparsers(parser).values():
        _soften(sub, placeholders, whole)


def missing_targets(one: Page) -> Iterator[str]:
    """Every ``make TARGET`` is in the Makefile."""
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))
    for words, _ in one.commands:
        wanted = [word for word in words[1:] if "=" not in word and not word.startswith("-")]
        if words[0] == "make" and (missing := [w for w in wanted if w not in targets and not PLACEHOLDER.fullmatch(w)]):
            yield f"{shlex.join(words)}: no target {missing}"


def wrong_launches(one: Page) -> Iterator[str]:
    """Every argument of our launch files exists and takes the value."""
    launches = [words for words, _ in one.commands if words[:3] == ["ros2", "launch", "stvla_ros"]]
    given = [(words[3], word, True) for words in launches for word in words[4:]]
    for file, word, surely in [*given, *(("stvla.launch.py", span, False) for span in one.spans)]:
        name, assigned, value = word.partition(":=")
        if assigned and (surely or name in _launch(file)):
            choices = _launch(file).get(name, ("no such argument",))
            if choices and value not in choices and not PLACEHOLDER.fullmatch(value):
                yield f"{word}: wanted one of {', '.join(choices)}"


@cache
def _launch(file: str) -> dict[str, tuple[str, ...]]:
    """Arguments of a launch file -> their choices; none: any value."""
    source = (ROOT / "launch" / file).read_text()
    if file != "stvla.launch.py":
        return dict.fromkeys(re.findall(r'^        "(\w+)": \(', source, re.M), ())
    names = re.findall(r'DeclareLaunchArgument\(\s*"(\w+)"', source)
    up = {action.dest: action.choices for action in _subparsers(make_parser("up"))["up"]._actions}
    return {name: tuple(up.get(name) or ()) for name in [*names, *registry.BACKENDS]}


def missing_modules(one: Page) -> Iterator[str]:
    """Every benchmark exists, and its options are in its source."""
    for words, _ in one.commands:
        module = words[words.index("-m") + 1] if "python" in words[0] and "-m" in words[:-1] else ""
        if module.startswith("benchmarks"):
            place = ROOT / module.replace(".", "/")
            files = [file for file in (place.with_suffix(".py"), *place.glob("*.py")) if file.exists()]
            source = "".join(file.read_text() for file in [*files, ROOT / "src/stvla_ros/commands/arguments.py"])
            options = [word.partition("=")[0] for word in words if word.startswith("--")]
            if not files or (missing := [option for option in options if f'"{option}"' not in source]):
                yield f"{shlex.join(words)}: no such benchmark" if not files else f"{shlex.join(words)}: no {missing}"


def missing_names(one: Page) -> Iterator[str]:
    """Every topic, service and action of ours is in the source."""
    names = re.findall(r"(?<![\w/.:-])/?((?:stvla|sim)/[a-z_]+(?:/[a-z_]+)*)(?![\w/.-])", _written(one))
    yield from (f"/{name}: not in the source" for name in dict.fromkeys(names) if name not in _graph())


@cache
def _graph() -> set[str]:
    names = set()
    for file in (ROOT / "src/stvla_ros").rglob("*.py"):
        text = file.read_text()
        names |= set(re.findall(r'"/?((?:stvla|sim)/[a-z_/]+)"', text))
        names |= {f"{file.stem}/{own}" for own in re.findall(r'"~/([a-z_]+)"', text)}
    return names


def missing_settings(one: Page) -> Iterator[str]:
    """Every ``node.setting`` is a setting or a section, every ``ros2 param set`` is of a live one."""
    known = {s.name: s for found in reference.settings().values() for s in found}
    sections = "|".join([*registry.NODES, SHARED])
    names = [re.split(r"[ :=]", span)[0] for span in one.spans]
    for name in filter(re.compile(rf"({sections})(\.\w+)+(?<!\.py)(?<!\.jpg)(?<!\.mp4)").fullmatch, names):
        if not any(f".{name}." in f".{other}." for other in [*known, *reference.settings()]):
            yield f"{name}: no such setting"
    for words, _ in one.commands:
        if words[:3] == ["ros2", "param", "set"] and len(words) == 6:
            name = f"{words[3].strip('/')}.{words[4]}"
            if name not in known or not known[name].metadata.get("live"):
                yield f"{shlex.join(words)}: no such live setting"


def wrong_files(one: Page) -> Iterator[str]:
    """Every parameter file shown is accepted."""
    for language, text in one.code:
        if language == "yaml" and "ros__parameters" in text and not DOTS.search(text):
            with NamedTemporaryFile("w", suffix=".yaml") as file:
                file.write(text)
                file.flush()
                try:
                    registry.read_nodes(Path(file.name))
                except ConfigError as error:
                    yield str(error)


def long_lines(one: Page) -> Iterator[str]:
    """Lines of prose are at most 120 wide, targets of links not counted. Tables and code may be wider."""
    for number, line in enumerate(one.prose[: _written(one).count("\n")], start=1):
        if len(re.sub(r"\]\([^)]*\)|<[^>]*>", "]", line)) > WIDTH:
            yield f"line {number}: {len(line)} wide"


def _written(one: Page) -> str:
    """A page without what a program wrote and another test compares."""
    return re.split(r"^<!-- .*\bwritten by tools/", f"{one.text}\n", maxsplit=1, flags=re.M | re.I)[0]


RULES: list[Callable[[Page], Iterator[str]]] = [
    broken_links,
    missing_files,
    wrong_commands,
    missing_targets,
    wrong_launches,
    missing_modules,
    missing_names,
    missing_settings,
    wrong_files,
    long_lines,
]


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_page(rule: Callable[[Page], Iterator[str]], name: str) -> None:
    found = list(rule(page(name)))
    assert not found, f"{name}: {rule.__doc__}\n  " + "\n  ".join(found)


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (broken_links, "[Data](docs/date.md)"),
        (broken_links, "[Bags](docs/data.md#bag)"),
        (broken_links, '<img src="docs/film.gif">'),
        (missing_files, "See `geometry/no_such.py`."),
        (missing_files, "See `no_such.py`."),
        (missing_files, "    python tools/no_such.py"),
        (wrong_commands, "`stvla runn`"),
        (wrong_commands, "`stvla demo --sed 3`"),
        (wrong_commands, "`stvla demo --task pick_plac`"),
        (wrong_commands, "`stvla policy inspekt FILE`"),
        (wrong_commands, "    stvla up && stvla run       # without words"),
        (wrong_commands, "```bash\n.venv/bin/stvla evaluate --episodes 3 \\\n  --set guidance.tube_radius=0.1\n```"),
        (wrong_commands, "    docker run --rm -it stvla ros2 run stvla_ros stvla ran 'Put it down.'"),
        (missing_targets, "`make coffee`"),
        (wrong_launches, "    ros2 launch stvla_ros stvla.launch.py robo:=real"),
        (wrong_launches, "`camera:=extern`"),
        (missing_modules, "    python -m benchmarks.none"),
        (missing_modules, "    python -m benchmarks.stop --trails 3"),
        (missing_names, "It listens to `/stvla/plans`."),
        (missing_settings, "`guidance.tube_radius`"),
        (missing_settings, "    ros2 param set /guidance tube_radius_m 0.06"),
        (wrong_files, "```yaml\nguidance:\n  ros__parameters:\n    tube_radius: 0.06\n```"),
        (long_lines, "word " * 25),
    ],
)
def test_rules_find_what_is_wrong(rule: Callable[[Page], Iterator[str]], text: str) -> None:
    assert len(list(rule(parsed("README.md", text)))) == 1


@pytest.mark.parametrize("name", reference.PAGE)
def test_reference_is_of_today(name: str) -> None:
    assert (reference.PAGES / name).read_text() == reference.PAGE[name](), "run tools/reference.py"


def test_every_page_is_in_the_navigation() -> None:
    shown = re.findall(r": ([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.M)
    assert sorted(shown) == sorted(SITE.get(name, name.removeprefix("docs/")) for name in PAGES)
