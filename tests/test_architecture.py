"""The shape of the house: what may import what, what importing costs, and slips that a reader would not see."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tlkeras

ROOT = Path(tlkeras.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

# Lower floors first; a room imports its own floor and those below.
FLOORS = [
    {"errors", "progress"},
    {"run", "config", "device", "steps", "fused", "tracking", "averages", "foreign"},
    {"blocks", "lora"},
    {"backbones", "detectors", "decoders"},
    {"weights"},
    {
        "metrics",
        "transferability",
        "text_metrics",
        "box_metrics",
        "mask_metrics",
        "transcripts",
        "ctc",
        "recipe",
        "tasks",
        "data",
        "checkpoints",
    },
    {"hearing", "letterbox", "recorded"},
    {"configure", "network", "candidates"},
    {"plans", "health"},
    {"prefix"},
    {"adaptation"},
    {"preview", "fitting", "server", "card", "baselines"},
    {"evaluation", "kept", "distillation", "prototypes", "growth", "training"},
    {
        "answers",
        "artefacts",
        "reports",
        "completion",
        "pretrained",
        "extension",
        "sweeping",
        "reproduction",
        "rates",
        "soups",
        "scouting",
        "sharing",
    },
    {"command"},
    {"cli", "__main__"},
]
FLOOR = {room: n for n, rooms in enumerate(FLOORS) for room in rooms}


def room(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path: Path):
    """(line, room) for every import of tlkeras, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text("utf8"))):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "tlkeras":
            rest = node.module.split(".")[1:]
            names = [rest[0]] if rest else [a.name for a in node.names]
        elif isinstance(node, ast.Import):
            names = [a.name.split(".")[1] for a in node.names if a.name.startswith("tlkeras.")]
        yield from ((node.lineno, name) for name in names if name != "__version__")


def test_every_room_has_a_floor():
    assert {room(p) for p in FILES} - {"__init__"} == set(FLOOR)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_flow_downward_only(path):
    if path == ROOT / "__init__.py":
        return
    above = [f"line {line} imports {name}" for line, name in imports(path) if FLOOR.get(name, 0) > FLOOR[room(path)]]
    assert not above


def test_no_module_is_called_like_a_verb():
    modules = {p.stem for p in ROOT.iterdir()} & set(tlkeras.__all__)
    assert not modules, "importing such a module would replace the verb"


def test_the_server_imports_nothing_of_training():
    reached = {name for p in FILES if room(p) == "server" for _, name in imports(p)}
    assert reached <= {"errors", "server", "run"}


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    "code",
    [
        "import tlkeras",
        "import tlkeras.cli",
        "from tlkeras import backbones; backbones.catalogue()",
        "from tlkeras import configure; configure.vocabulary()",
    ],
)
def test_tensorflow_is_not_imported_by(code):
    assert (
        python(
            f"import sys; {code}; print([m for m in ('tensorflow', 'keras', 'keras_hub', 'torch') if m in sys.modules])"
        ).strip()
        == "[]"
    )


def test_help_of_every_command_imports_neither_tensorflow_nor_the_config():
    code = """
import sys
from click.testing import CliRunner
from tlkeras.cli import main
def walk(command, words):
    result = CliRunner().invoke(main, [*words, "--help"])
    assert result.exit_code == 0, (words, result.output)
    for name, sub in getattr(command, "commands", {}).items():
        walk(sub, [*words, name])
walk(main, [])
print([m for m in ("tensorflow", "keras", "numpy", "pydantic", "yaml") if m in sys.modules])
"""
    assert python(code).strip() == "[]"


def test_the_public_names_are_those_promised_and_resolve():
    assert tlkeras.__all__ == sorted(tlkeras.__all__)
    for name in set(tlkeras.__all__) - {"__version__"}:
        assert callable(getattr(tlkeras, name)) and getattr(tlkeras, name).__doc__, name
    with pytest.raises(AttributeError, match="it has"):
        tlkeras.tain  # noqa: B018


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_error_text_holds_unfilled_braces(path):
    for node in ast.walk(ast.parse(path.read_text("utf8"))):
        if isinstance(node, ast.Raise) and node.exc is not None:
            inside = {id(v) for f in ast.walk(node.exc) if isinstance(f, ast.JoinedStr) for v in f.values}
            for text in ast.walk(node.exc):
                if isinstance(text, ast.Constant) and isinstance(text.value, str) and id(text) not in inside:
                    assert not re.search(r"\{[a-z_][\w.]*\}", text.value), (text.lineno, text.value)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_nothing_unpickles_or_evaluates(path):
    for node in ast.walk(ast.parse(path.read_text("utf8"))):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert not re.fullmatch(
                r"(pickle|cPickle|dill|joblib|marshal)\.\w+|yaml\.(load|unsafe_load|full_load)|eval|exec|os\.system|.*enable_unsafe_deserialization",
                called,
            ), (node.lineno, called)
            if called.endswith("np.load") or called == "numpy.load":
                assert any(k.arg == "allow_pickle" and k.value.value is False for k in node.keywords), node.lineno
