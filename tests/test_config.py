"""A config says what it means: every mistake comes at once, with its place, in words that need no knowledge of the code.

YAML has one meaning per text here, overrides and `extends` tell where a value comes from, what is written out reads
back equal, and editors' JSON Schema agrees with the reader.
"""

import copy
import re
import time
import types
import typing

import pytest

from tlkeras import config, configure, tasks
from tlkeras.config import document
from tlkeras.errors import ConfigError

SMALL = "task: image-classification\ndata: {path: photos}\nbackbone: {name: efficientnet_lite0}\n"
PHASE = {"name": "head", "train": ["head"], "epochs": 3, "learning_rate": 1e-3}
FULL = {
    "version": 1,
    "name": "flowers",
    "task": {"name": "image-classification", "class_weights": {"C#": 2.0, "no": 1.0, "a: b": 0.5}},
    "data": {"path": "photos 🌸", "classes": ["C#", "no", "a: b"], "label": ["x", "y"]},
    "backbone": {"name": "efficientnet_lite0", "size": 128, "sound": {"mels": 32}, "lora": {"rank": 4}},
    "augment": {"flip": "both", "crop": 0.9},
    "prefix": {"views": 4, "limit": "500MB"},
    "extend": {"from": "saved_models/flowers", "old_rows": False},
    "distill": {"from": "saved_models/flowers", "weight": 0.7},
    "train": {
        "phases": [
            {
                **PHASE,
                "rates": {"block1": 0.1},
                "batchnorm": {"block2": "adapt"},
                "early_stopping": {"patience": 2},
                "average": {"kind": "ema", "decay": 0.9},
            }
        ],
        "seed": 7,
    },
    "adapt": {"method": "mmd", "path": "drawn", "weight": 0.5},
    "export": {"to": ["tflite"], "max_drop": 0.1},
    "sweep": {"over": {"train.batch": {"low": 8, "high": 32}}},
}
# What pydantic calls things. None of it means anything to who writes a YAML file.
JARGON = (
    "Input should",
    "Value error",
    "constrained",
    "valid string",
    "valid integer",
    "dictionary",
    "instance of",
    "https://",
    "pydantic",
    "Extra inputs",
    "String should",
    "List should",
    "validation",
    "None",
    "True",
    "False",
    "function-",
    "[type=",
)


def write(folder, text, name="c.yaml"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def load(folder, text, sets=()):
    return configure.load(write(folder, text), sets)[0]


def mistakes(folder, text, sets=()):
    """The mistakes of a config, without its folder; each is checked to be fit for a newcomer."""
    with pytest.raises(ConfigError) as caught:
        load(folder, text, sets)
    for text in caught.value.mistakes:
        assert not [word for word in JARGON if word in text], text
        assert text.endswith((".", "?", ": tlkeras backbones", "it.")) and "\n" not in text, text
    return [m.replace(f"{folder}/", "") for m in caught.value.mistakes]


# --- Every mistake, its place, the nearest name


def test_all_mistakes_come_at_once_with_place_and_nearest_name(tmp_path):
    text = """task: image-clasification
dta: {path: photos}
backbone:
  name: efficientnet_lte0
  sise: 128
train:
  batch: many
  phases:
    - {name: head, train: head, epochs: 0, learning_rate: 1e-3, optimizer: adamm}
    - {name: head, epochs: 1, learning_rate: -1}
export: [tflit]
"""
    assert mistakes(tmp_path, text) == [
        "c.yaml:1:1: data is missing.",
        f"c.yaml:1:1: task: there is no task 'image-clasification'; there are {', '.join(tasks.TASKS)}. Did you mean image-classification?",
        "c.yaml:2:1: dta: there is no such key. Did you mean data? Known here: version, extends, name, task, data, backbone, augment, prefix, extend, distill, train, adapt, export, sweep.",
        "c.yaml:4:3: backbone.name: the catalogue has no 'efficientnet_lte0'. Did you mean efficientnet_lite0? List: tlkeras backbones",
        "c.yaml:5:3: backbone.sise: there is no such key. Did you mean size? Known here: name, weights, size, length, padding, sound, lora, pool, until, resize, pad.",
        "c.yaml:7:3: train.batch: must be a whole number or 'auto'; received 'many'.",
        "c.yaml:9:33: train.phases.0.epochs: must be at least 1; received 0.",
        "c.yaml:9:65: train.phases.0.optimizer: must be 'adamw', 'adam', 'sgd', 'lion' or 'rmsprop'; received 'adamm'. Did you mean adam?",
        "c.yaml:10:7: train.phases.1.train is missing. It means: Blocks to train: names, globs, ranges `block3..block5`, slices `blocks[-2:]`, `head`, `all`.",
        "c.yaml:10:31: train.phases.1.learning_rate: must be more than 0; received -1.",
        "c.yaml:11:10: export: there is no format 'tflit'; there are saved_model, tflite, tflite-float16, tflite-dynamic, tflite-int8. Did you mean tflite?",
    ]


def test_wrong_task_options_get_nearest_names_too(tmp_path):
    text = SMALL.replace(
        "image-classification",
        "{name: image-classification, multi_labell: true, loss: focl, dropout: 1, class_weights: {cat: -1}}",
    )
    said = mistakes(tmp_path, text)
    assert "task.multi_labell: there is no such key. Did you mean multi_label?" in said[0]
    assert said[1].endswith("task.loss: must be 'crossentropy' or 'focal'; received 'focl'. Did you mean focal?")
    assert said[2].endswith("task.dropout: must be less than 1; received 1.")
    assert said[3].endswith("task.class_weights.cat: must be at least 0; received -1.")
    assert (
        "there is no such key"
        in mistakes(tmp_path, SMALL.replace("image-classification", "{name: image-regression, multi_label: true}"))[0]
    )


def test_a_choice_of_forms_gives_one_mistake(tmp_path):
    phase = "train: {phases: [{name: a, train: all, epochs: 1, learning_rate: 1, batchnorm: %s}]}\n"
    (said,) = mistakes(tmp_path, SMALL + phase % "thawed")
    assert said.endswith(
        "batchnorm: must be 'frozen', 'train' or 'adapt' or a mapping (key: value); received 'thawed'."
    )
    (said,) = mistakes(tmp_path, SMALL + phase % "{block1: thawed}")
    assert "batchnorm.block1: must be 'frozen', 'train' or 'adapt'; received 'thawed'" in said
    (said,) = mistakes(tmp_path, SMALL.replace("photos", "photos, label: 3"))
    assert said.endswith("data.label: must be text or a list; received 3. Put quotes around it.")


@pytest.mark.parametrize("key", ["str", "int", "dict", "x[0]", "(y)"])
def test_keys_that_look_like_types_are_found(tmp_path, key):
    (said,) = mistakes(
        tmp_path,
        SMALL
        + f"train:\n  phases:\n  - {{name: a, train: all, epochs: 1, learning_rate: 1, rates:\n      {{'{key}': -1}}}}\n",
    )
    assert said == f"c.yaml:7:8: train.phases.0.rates.{key}: must be more than 0; received -1."


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "",
            "c.yaml:1:1: task is missing. It means: What is learned, such as image-classification or object-detection; a mapping with 'name' to set its options.",
        ),
        ("# nothing yet\n", "c.yaml:1:1: data is missing."),
        (
            SMALL.replace("image-classification", "{}"),
            f"c.yaml:1:1: task.name is missing; there are {', '.join(tasks.TASKS)}.",
        ),
        (SMALL.replace("image-classification", "3"), "c.yaml:1:1: task: must be a mapping (key: value); received 3."),
        (SMALL + "augment:\n", "c.yaml:4:1: augment: must be a mapping (key: value); received nothing."),
        (SMALL + "name: 2024\n", "c.yaml:4:1: name: must be text; received 2024. Put quotes around it."),
        (
            SMALL + "name: a b\n",
            "c.yaml:4:1: name: must be made of letters, digits, '-', '_' (and, in the name of the run, '.'), beginning with a letter or digit; received 'a b'.",
        ),
        (SMALL + "version: 2\n", "c.yaml:4:1: version: must be 1; received 2."),
        (
            SMALL + "export: tflite\n",
            "c.yaml:4:1: export: must be a list of formats, e.g. [saved_model, tflite], or a mapping with 'to'; received tflite.",
        ),
        (
            SMALL + "export: {to: [tflite, x]}\n",
            "c.yaml:4:23: export: there is no format 'x'; there are saved_model, tflite, tflite-float16, tflite-dynamic, tflite-int8.",
        ),
        (SMALL + "export: [1]\n", "c.yaml:4:10: export.to.0: must be text; received 1. Put quotes around it."),
        (
            SMALL + "train: {phases: []}\n",
            "c.yaml:4:9: train.phases: must be a list with something in it; received [].",
        ),
        (
            SMALL + "train: {phases: [{name: a, train: [], epochs: 1, learning_rate: 1}]}\n",
            "c.yaml:4:28: train.phases.0.train: must be a list with something in it; received [].",
        ),
        (
            SMALL
            + "train: {phases: [{name: a, train: all, epochs: 1, learning_rate: 1}, {name: a, train: all, epochs: 1, learning_rate: 1}]}\n",
            "c.yaml:4:1: train: phases need different names; twice: a.",
        ),
        (SMALL + "train: {seed: -1}\n", "c.yaml:4:9: train.seed: must be at least 0; received -1."),
        (
            SMALL + "train: {seed: 4294967296}\n",
            "c.yaml:4:9: train.seed: must be less than 4294967296; received 4294967296.",
        ),
        (SMALL + "train: {batch: true}\n", "c.yaml:4:9: train.batch: must be a whole number or 'auto'; received true."),
        (SMALL.replace("photos", "photos, tfds: mnist"), "c.yaml:2:1: data: needs exactly one of 'path' and 'tfds'."),
        (
            SMALL.replace("photos", "photos, val: 0.5, test: 0.5"),
            "c.yaml:2:1: data: val + test must leave something to train on; they add up to 1.",
        ),
        (
            SMALL.replace("photos", "photos, classes: [a, b, a]"),
            "c.yaml:2:1: data: classes need different names; twice: a.",
        ),
        (
            SMALL.replace("photos", "photos, label: []"),
            "c.yaml:2:22: data.label: must be text or a list with something in it; received [].",
        ),
        (
            SMALL.replace(
                "image-classification", "{name: image-classification, multi_label: true, class_weights: balanced}"
            ),
            "c.yaml:1:1: task: class_weights are per image and need one class per image; leave them out with multi_label.",
        ),
    ],
)
def test_a_mistake_is_told_in_plain_words(tmp_path, text, said):
    assert said in mistakes(tmp_path, text)


def records():
    """(path, record) of every section, where FULL has a mapping of it."""
    found = [((), config.Config)]
    for path, record in found:
        for name, field in record.model_fields.items():
            if (inner := _section(field.annotation)) is not None:
                below = {"phases": (0,), "over": ("train.batch",)}.get(name, ())
                found.append(((*path, name, *below), inner))
    return [*found, (("task",), configure.vocabulary().tasks["image-classification"])]


def _section(annotation):
    if (
        isinstance(annotation, type)
        and not isinstance(annotation, types.GenericAlias)
        and issubclass(annotation, config.Section)
    ):
        return annotation
    return next((found for arg in typing.get_args(annotation) if (found := _section(arg))), None)


FIELDS = [(path, name) for path, record in records() for name in record.model_fields]


def at(values, path):
    for key in path:
        values = values[key]
    return values


def test_the_property_tests_see_every_record():
    assert len({path for path, _ in FIELDS}) == 18 and len(FIELDS) > 60


def test_the_full_config_has_no_mistake(tmp_path):
    load(tmp_path, document.write(FULL))


@pytest.mark.parametrize(("path", "name"), FIELDS, ids=lambda x: ".".join(map(str, x)) if isinstance(x, tuple) else x)
def test_a_neighbour_of_every_key_is_refused_by_name_and_line(tmp_path, path, name):
    values = copy.deepcopy(FULL)
    at(values, path)[name + "x"] = 1
    text = document.write(values)
    line = next(n for n, row in enumerate(text.splitlines(), 1) if re.match(rf"[- ]*{name}x:", row))
    (said,) = mistakes(tmp_path, text)
    dotted = ".".join(map(str, (*path, name + "x")))
    assert said.startswith(f"c.yaml:{line}:") and f": {dotted}: there is no such key." in said
    assert re.search(r" Did you mean \w+\? Known here: ", said)


@pytest.mark.parametrize(("path", "name"), FIELDS, ids=lambda x: ".".join(map(str, x)) if isinstance(x, tuple) else x)
def test_a_wrong_type_in_every_key_is_refused_by_name_and_line(tmp_path, path, name):
    values = copy.deepcopy(FULL)
    at(values, path)[name] = [[{"wrong": ["type"]}]]
    text = document.write(values)
    rows = [n for n, row in enumerate(text.splitlines(), 1) if re.match(rf"[- ]*['\"]?{name}['\"]?:", row)]
    said = [m for m in mistakes(tmp_path, text) if f": {'.'.join(map(str, (*path, name)))}" in m]
    # In a list the item is shown, which stands a line below the key.
    assert any(0 <= int(m.split(":")[1]) - row <= 1 for m in said for row in rows), said


# --- YAML


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3), ("1E3", 1000.0), ("-.5", -0.5), (".5", 0.5), ("5.", 5.0), ("1e400", float("inf")), ("no", "no"), ("off", "off"), ("Yes", "Yes"), ("y", "y"),
        ("010", 10), ("0o10", 8), ("0x1F", 31), ("+7", 7), ("1_000", "1_000"), ("12:30", "12:30"), ("190:20:30", "190:20:30"), ("2024-01-01", "2024-01-01"),
        ("true", True), ("False", False), ("~", None), ("null", None), ("", None), (".inf", float("inf")), ("-.INF", -float("inf")), ("'1e-3'", "1e-3"), ('"no"', "no"), ('"null"', "null"), ("=", "="), ("<<", "<<"),
    ],
)  # fmt: skip
def test_a_text_has_one_meaning(text, value):
    assert document.parse(f"a: {text}\n", "f").values == {"a": value}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (SMALL + "data: {path: x}\n", r"c\.yaml:4:1: the key 'data' stands here a second time; first at .*c\.yaml:2:1\. Keep one\."),
        (SMALL + "train:\n\tbatch: 3\n", r"c\.yaml:5:1: not YAML: .* A tab stands here; indent with spaces\."),
        ("[" * 20_000, r"c\.yaml:1:41: a config is at most 40 levels deep\."),
        ("a: " + "[" * 20_000, r"c\.yaml:1:43: a config is at most 40 levels deep\."),
        ("{a: " * 20_000, r"a config is at most 40 levels deep\."),
        ("- " * 20_000, r"a config is at most 40 levels deep\."),
        ("a: &a [x]\nb: &b [*a, *a]\nc: [*b, *b]\n", r"c\.yaml:2:8: aliases .* are not read in a config\. Write the value out"),
        ("a: !!python/object/apply:os.system [echo]\n", r"c\.yaml:1:4: tags .* are not read in a config"),
        ("a: !!str 3\n", r"c\.yaml:1:4: tags .* are not read in a config"),
        (SMALL + "train: {seed: .nan}\n", r"c\.yaml:4:9: train\.seed: must be a whole number; received nan\."),
        (SMALL + "export: {max_drop: .nan}\n", r"c\.yaml:4:10: export\.max_drop: must be a finite number; received nan\."),
        (SMALL + "export: {max_drop: " + "9" * 5000 + "}\n", r"export\.max_drop: must be a finite number; received inf\."),
        (SMALL + "train: {batch: 0x" + "f" * 5000 + "}\n", r"train\.batch: must be a whole number or 'auto'; received '0xfff"),
        (b"\xff\xfea\0:\0", r"c\.yaml:1:1: a config is UTF-8 text; the file is UTF-16\. Save it as UTF-8\."),
        (SMALL.encode() + b"name: caf\xe9\n", r"c\.yaml:4:10: a config is UTF-8 text; byte 94 \(0xe9\) is not\."),
        (SMALL + "name: a\0b\n", r"c\.yaml:4:8: a config is text; the character '\\x00' does not belong in it"),
        ("[task, data]\n", r"c\.yaml:1:1: a config is a mapping \(`task: \.\.\.`, `data: \.\.\.`\); this is a list\."),
        ("hello\n", r"c\.yaml:1:1: a config is a mapping .*; this is the single value 'hello'\."),
        ("a: b: c\n", r"c\.yaml:1:5: not YAML: mapping values are not allowed"),
        ("a: 'b\n", r"c\.yaml:\d:\d: not YAML: "),
        ("a: 1\n---\nb: 2\n", r"c\.yaml:2:1: not YAML: "),
        (SMALL + "? [a, b]\n: 3\n", r"c\.yaml:4:3: a key is a word, not a list or a mapping\."),
        ("x" * 1_000_001, r"c\.yaml: a config has at most 1,000,000 bytes; this file has 1,000,001\."),
    ],
    ids=["second key", "tab", "flow depth", "value depth", "mapping depth", "block depth", "alias bomb", "python tag", "tag", "nan seed", "nan", "long number", "long hexadecimal", "UTF-16", "latin-1", "NUL", "list", "word", "two colons", "open quote", "two documents", "list as key", "too large"],
)  # fmt: skip
def test_yaml_that_surprises_is_refused_with_its_place(tmp_path, text, said):
    started = time.monotonic()
    found = mistakes(tmp_path, text)
    assert re.search(said, "\n".join(found)), found
    assert time.monotonic() - started < 5


def test_numbers_mean_what_they_look_like(tmp_path):
    made = load(
        tmp_path,
        SMALL + "name: no\ntrain: {batch: 010, phases: [{name: a, train: all, epochs: 1, learning_rate: 1e-3}]}\n",
    )
    assert (made.name, made.train.batch, made.train.phases[0].learning_rate) == ("no", 10, 0.001)


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path):
    assert load(tmp_path, b"\xef\xbb\xbf" + SMALL.encode()).task_name == "image-classification"


@pytest.mark.parametrize(
    "shape",
    ["".join(f"key{i}: {i}\n" for i in range(60_000)), "a: [" + "1," * 200_000 + "]", 'a: "' + "x " * 450_000 + '"'],
)
def test_a_large_file_is_read_in_seconds(shape):
    started = time.monotonic()
    document.parse(shape, "f")
    assert time.monotonic() - started < 20


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    write(tmp_path, SMALL, "flowers.yaml")
    with pytest.raises(
        ConfigError,
        match=r"flower\.yaml: a config is a YAML file; there is no such file\. Did you mean flowers\.yaml\?",
    ):
        configure.load(tmp_path / "flower.yaml")
    with pytest.raises(ConfigError, match="this is a folder"):
        configure.load(tmp_path)


# --- Short forms and defaults


def test_short_forms_equal_the_long_ones(tmp_path):
    short = load(
        tmp_path, SMALL + "export: [tflite]\ntrain: {phases: [{name: a, train: head, epochs: 1, learning_rate: 1}]}\n"
    )
    long = load(
        tmp_path,
        SMALL.replace("image-classification", "{name: image-classification}")
        + "export: {to: [tflite]}\ntrain: {phases: [{name: a, train: [head], epochs: 1, learning_rate: 1}]}\n",
    )
    assert short == long and short.train.phases[0].train == ["head"] and short.export.to == ["tflite"]


def test_the_run_is_named_after_the_file(tmp_path):
    for text in (SMALL, SMALL + "name: null\n"):
        assert configure.load(write(tmp_path, text, "My flowers (2).yaml"))[0].name == "My-flowers-2"
    assert configure.load(write(tmp_path, SMALL + "name: roses-1.0_b\n"))[0].name == "roses-1.0_b"


@pytest.mark.parametrize(
    ("text", "name"),
    [("a b", "a-b"), ("../../etc", "etc"), ("...", "run"), ("", "run"), ("naïve", "na-ve"), ("-rf", "rf")],
)
def test_a_slug_is_always_a_name(text, name):
    assert config.slug(text) == name


def test_defaults_of_the_task_are_filled_in(tmp_path):
    assert load(tmp_path, SMALL).task["dropout"] == 0.2


# --- Overrides


@pytest.mark.parametrize(
    ("value", "got"),
    [("3", 3), ("1e-2", 0.01), ("true", True), ("null", None), ("", None), ("no", "no"), ("'3'", "3"), ("[a, b]", ["a", "b"]), ("{a: 1}", {"a": 1}), ("a=b", "a=b"), ("photos/x y", "photos/x y")],
)  # fmt: skip
def test_an_override_holds_any_yaml_value(value, got):
    doc = config._override(document.parse("a: {b: 1}\n", "f"), [f"a.b={value}"])
    assert doc.values == {"a": {"b": got}} and doc.place(("a", "b")) == f"--set a.b={value}"


def test_overrides_reach_into_lists_short_forms_and_what_is_not_there(tmp_path):
    text = SMALL + "export: [tflite]\ntrain: {phases: [{name: a, train: all, epochs: 9, learning_rate: 1}]}\n"
    sets = [
        "train.phases.0.epochs=3",
        "task.multi_label=true",
        "export.max_drop=0.5",
        "train.phases.0.early_stopping.patience=1",
        "augment.flip=both",
        "export.to.0=saved_model",
    ]
    made = load(tmp_path, text, sets)
    assert (made.train.phases[0].epochs, made.task["multi_label"], made.export.max_drop, made.export.to) == (
        3,
        True,
        0.5,
        ["saved_model"],
    )
    assert (made.train.phases[0].early_stopping.patience, made.augment.flip) == (1, "both")
    assert (
        load(tmp_path, text, ["export=[saved_model]", "task=image-regression", "train.phases=null"]).task_name
        == "image-regression"
    )


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        (["trainn.batch=3"], "--set trainn.batch=3: trainn: there is no such key. Did you mean train?"),
        (["train.batsh=3"], "--set train.batsh=3: train.batsh: there is no such key. Did you mean batch?"),
        (["task.dropuot=0.1"], "--set task.dropuot=0.1: task.dropuot: there is no such key. Did you mean dropout?"),
        (["train.batch=x"], "--set train.batch=x: train.batch: must be a whole number or 'auto'; received 'x'."),
        (
            ["backbone.name=efficientnet_lte0"],
            "--set backbone.name=efficientnet_lte0: backbone.name: the catalogue has no 'efficientnet_lte0'. Did you mean efficientnet_lite0?",
        ),
        (
            ["data.classes=[a]", "data.classes.1=b"],
            "--set data.classes.1=b: data.classes is a list of 1; '1' is not one of its numbers.",
        ),
        (["data.classes=[a]", "data.classes.-1=b"], "'-1' is not one of its numbers."),
        (
            ["data.classes=[a]", "data.classes.0.x=b"],
            "--set data.classes.0.x=b: data.classes.0: must be text; received {'x': 'b'}.",
        ),
        (["data.classes=[a]", "data.classes.²=b"], "'²' is not one of its numbers."),
        (["data.path.x=b"], "--set data.path.x=b: data.path: must be text; received {'x': 'b'}."),
        (
            ["train.phases.0.epochs=3"],
            "--set train.phases.0.epochs=3: train.phases: must be a list; received {'0': {'epochs': 3}}.",
        ),
        (["data={path: a, path: b}"], "--set data:1:11: the key 'path' stands here a second time"),
        (["data.path=[1"], ": not YAML: "),
        (["data.path=*a"], "--set data.path:1:1: aliases"),
        (["nonsense"], "--set nonsense: an override is KEY=VALUE"),
        (["=3"], "--set =3: an override is KEY=VALUE"),
        (["extends=other.yaml"], "--set extends=other.yaml: a config is extended from within a file only"),
    ],
)
def test_a_wrong_override_is_shown_as_it_was_typed(tmp_path, sets, said):
    assert said in "\n".join(mistakes(tmp_path, SMALL, sets))


def test_mistakes_of_overrides_and_file_come_at_once(tmp_path):
    said = mistakes(tmp_path, SMALL + "nme: x\n", ["train.batch=x", "nonsense", "a=[", "seed=3"])
    assert len(said) == 5


# --- extends


def test_a_config_changes_another(tmp_path):
    (tmp_path / "sub").mkdir()
    write(
        tmp_path,
        SMALL
        + "name: base\ntrain: {batch: 8, phases: [{name: a, train: all, epochs: 1, learning_rate: 1}, {name: b, train: all, epochs: 1, learning_rate: 1}]}\n",
        "base.yaml",
    )
    write(tmp_path, "extends: ../base.yaml\ntask: {dropout: 0.5}\ntrain: {seed: 3}\n", "sub/middle.yaml")
    path = write(
        tmp_path, "extends: sub/middle.yaml\ntrain: {phases: [{name: c, train: head, epochs: 2, learning_rate: 0.1}]}\n"
    )
    made, origin = configure.load(path)
    assert made.extends is None and made.name == "base" and made.train.batch == 8 and made.train.seed == 3
    assert made.task == {**made.task, "name": "image-classification", "dropout": 0.5}
    assert [p.name for p in made.train.phases] == ["c"]
    places = [
        origin(p).replace(f"{tmp_path}/", "")
        for p in (
            ("train", "batch"),
            ("train", "seed"),
            ("train", "phases", 0, "epochs"),
            ("train", "phases", 1, "epochs"),
            ("task", "name"),
            ("task", "dropout"),
            ("train", "xla"),
        )
    ]
    assert places == [
        "sub/../base.yaml:5:9",
        "sub/middle.yaml:3:9",
        "c.yaml:2:41",
        "default",
        "sub/../base.yaml:1:1",
        "sub/middle.yaml:2:8",
        "default",
    ]


def test_another_task_leaves_the_options_of_the_first_behind(tmp_path):
    write(
        tmp_path, SMALL.replace("image-classification", "{name: image-classification, multi_label: true}"), "base.yaml"
    )
    for task in ("image-regression", "{name: image-regression, loss: mae}"):
        assert load(tmp_path, f"extends: base.yaml\ntask: {task}\n").task_name == "image-regression"


def test_a_mistake_below_is_shown_in_the_file_it_stands_in(tmp_path):
    write(tmp_path, SMALL + "train: {batch: 0, seed: 1}\ndata: {}\n", "base.yaml")
    said = mistakes(tmp_path, "extends: base.yaml\ntrain: {seed: x}\n")
    assert [m.split(" ")[0] for m in said] == ["base.yaml:4:9:", "base.yaml:5:1:", "c.yaml:2:9:"]


def test_what_cannot_be_extended_is_named_with_its_place(tmp_path):
    write(tmp_path, SMALL, "base.yaml")
    assert mistakes(tmp_path, SMALL + "extends: bas.yaml\n") == [
        "c.yaml:4:1: extends: there is no file bas.yaml. Did you mean base.yaml?"
    ]
    assert mistakes(tmp_path, SMALL + "extends: 3\n") == [
        "c.yaml:4:1: extends: must be text; received 3. Put quotes around it."
    ]
    assert mistakes(tmp_path, SMALL + "extends: [base.yaml]\n") == [
        "c.yaml:4:1: extends: must be text; received ['base.yaml']."
    ]
    assert mistakes(tmp_path, "extends: c.yaml\n") == ["c.yaml:1:1: `extends` goes in a circle: c.yaml -> c.yaml."]
    write(tmp_path, "extends: c.yaml\n", "d.yaml")
    assert mistakes(tmp_path, "extends: d.yaml\n") == [
        "d.yaml:1:1: `extends` goes in a circle: c.yaml -> d.yaml -> c.yaml."
    ]


# --- What is written out


def test_the_rendered_config_reads_back_equal(tmp_path):
    made, origin = configure.load(write(tmp_path, document.write(FULL)), ["train.seed=9"])
    for text in (config.render(made), config.render(made, origin)):
        assert configure.load(write(tmp_path, text, "again.yaml"))[0] == made


def test_the_rendered_config_names_the_origin_of_every_value(tmp_path):
    path = write(tmp_path, SMALL + "export: [tflite]\n")
    text = config.render(*configure.load(path, ["train.batch=7"]))
    rows = dict(re.findall(r"(?m)^ *(\w+): .*?  # (.*)$", text))
    assert all("  # " in row for row in text.splitlines() if not row.endswith(":"))
    place = str(path)
    assert (rows["path"], rows["to"], rows["batch"], rows["xla"], rows["max_drop"]) == (
        f"{place}:2:8",
        f"{place}:4:1",
        "--set train.batch=7",
        "default",
        "default",
    )


def test_an_override_of_several_lines_does_not_break_the_rendered_config(tmp_path):
    made, origin = configure.load(write(tmp_path, SMALL), ["data.classes=[a,\n b,\n c]"])
    assert load(tmp_path, config.render(made, origin)).data.classes == ["a", "b", "c"]


@pytest.mark.parametrize(
    "character",
    [
        chr(n)
        for n in (
            0,
            1,
            9,
            10,
            13,
            34,
            35,
            39,
            58,
            92,
            0x7F,
            0x80,
            0x85,
            0xA0,
            0xAD,
            0x2028,
            0x2029,
            0xFEFF,
            0xFFFE,
            0xFFFF,
            0x1F338,
        )
    ],
    ids=lambda c: f"U+{ord(c):04X}",
)
def test_any_character_survives_as_value_and_as_key(character):
    for text in (character, f" {character} ", f"a{character}b", character * 3):
        values = {"a": text, "b": [text, {"c": text}], "d": {text: {text: [text]}}}
        assert document.parse(document.write(values, lambda path, text=text: f"at {text}"), "f").values == values


@pytest.mark.parametrize(
    "value",
    [1e-5, 1e16, 1e22, 5e-324, -0.0, 0.1, 5, -3, 10**20, True, False, None, "1e-3", "no", "010", "null", "", "~", "- a", "a: b", "#", "*a", "&a", "!x", "%", "@", "`", "[", "]", "{", "?", "|", ">", "'", '"', [], {}, [[]], [[1], []], [{}], [{"a": {"b": [{"c": 1}]}}]],
    ids=repr,
)  # fmt: skip
def test_any_value_survives(value):
    values = {"a": value, "b": [value], "c": [{"d": value, "e": value}]}
    assert repr(document.parse(document.write(values), "f").values) == repr(values)
    if isinstance(value, str):
        assert document.parse(document.write({value: 1}), "f").values == {value: 1}
        assert document.parse(f"a: {document.word(value)}\n", "f").values == {"a": value}


# --- For editors


def accepts(made, values):
    jsonschema = pytest.importorskip("jsonschema")
    return jsonschema.Draft202012Validator(made).is_valid(values)


def test_the_json_schema_agrees_with_the_reader(tmp_path):
    made = config.schema(configure.vocabulary())
    pytest.importorskip("jsonschema").Draft202012Validator.check_schema(made)
    small = document.parse(SMALL, "f").values
    good = [
        small, FULL, {**small, "export": ["tflite"]}, {**small, "export": {"to": ["tflite"], "max_drop": 0.1}}, {**small, "task": {"name": "image-regression", "loss": "mae"}},
        {**small, "train": {"phases": [{**PHASE, "train": "head"}]}}, {**small, "train": {"phases": [{**PHASE, "batchnorm": {"block1": "train"}}]}},
        {**small, "train": {"recipe": "gradual"}}, {**small, "train": {"phases": [{**PHASE, "average": "swa", "unfreeze": 1}]}},
    ]  # fmt: skip
    for values in good:
        assert accepts(made, values), values
        load(tmp_path, document.write(values))
    bad = [
        {**small, "dta": {}}, {**small, "export": ["tflit"]}, {**small, "export": {"to": ["tflit"]}}, {**small, "task": "image-clasification"}, {**small, "task": {"multi_label": True}},
        {**small, "task": {"name": "image-regression", "multi_label": True}}, {**small, "backbone": {"size": 128}}, {k: v for k, v in small.items() if k != "data"},
        {**small, "train": {"batch": "3"}}, {**small, "train": {"batch": 0}}, {**small, "train": {"phases": []}}, {**small, "train": {"phases": [{**PHASE, "epoch": 3}]}}, {**small, "augment": {"flip": "no"}},
        {**small, "data": {"path": "x", "label": []}}, {**small, "version": 2},
    ]  # fmt: skip
    for values in bad:
        assert not accepts(made, values), values
        mistakes(tmp_path, document.write(values))


def test_the_json_schema_lets_a_config_that_extends_leave_things_out():
    made = config.schema(configure.vocabulary())
    assert accepts(made, {"extends": "base.yaml", "backbone": {"size": 64}, "task": {"multi_label": True}})
    assert not accepts(made, {"extends": "base.yaml", "backbone": {"sise": 64}}) and not accepts(
        made, {"extends": "base.yaml", "task": {"multi_labell": True}}
    )
    assert not accepts(made, {"backbone": {"size": 64}})


def test_every_key_is_described():
    assert [
        (path, name)
        for path, record in records()
        for name, field in record.model_fields.items()
        if not field.description and _section(field.annotation) is None
    ] == []


# --- init


@pytest.mark.parametrize("name", ["photos", "a: #b", "🌸", "it's", 'q"q', "no", "back\\slash", "tab\tx"])
def test_init_writes_a_config_that_reads_back(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    for kind in ("cat", "two\nlines"):
        (tmp_path / name / kind).mkdir(parents=True)
        for i in range(4):
            (tmp_path / name / kind / f"{i}.jpg").write_bytes(b"x")
    made, _ = configure.load(configure.init(name, "made.yaml"))
    assert (made.data.path, made.task_name, made.backbone.name) == (name, "image-classification", "efficientnet_lite0")
    assert [p.name for p in made.train.phases] == ["head", "blocks"]


def test_init_finds_the_columns_of_a_table(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"x")
    (tmp_path / "t.csv").write_text("id,0,no,group\n" + "".join(f"{i},a.jpg,{i / 7:.3f},g{i % 5}\n" for i in range(40)))
    data = configure.load(configure.init(tmp_path / "t.csv", tmp_path / "t.yaml"))[0]
    assert (data.task_name, data.data.image, data.data.label, data.data.group) == (
        "image-regression",
        "0",
        "no",
        "group",
    )


def test_the_page_of_configs_lists_every_key_of_every_section():
    from pathlib import Path

    from tlkeras.config import records
    from tlkeras.config.section import Section

    page = (Path(__file__).parent.parent / "docs" / "configs.md").read_text("utf8")
    listed = {}
    for part in re.split(r"^#{2,3} ", page, flags=re.M):
        for title in part.partition("\n")[0].split(", "):
            listed[title] = set(re.findall(r"^\| `([^`]+)` \|", part, re.M))
    known = dict(tasks.options()) | {"backbone.sound": records.Hearing, "backbone.lora": records.Lora}
    for key, field in records.Config.model_fields.items():
        for form in (field.annotation, *typing.get_args(field.annotation)):
            if isinstance(form, type) and issubclass(form, Section):
                known[key] = form
    assert len(known) > 25
    assert {k: lost for k, record in known.items() if (lost := set(record.model_fields) - listed.get(k, set()))} == {}


def test_init_proposes_for_sounds_what_was_measured_as_best(tmp_path):
    import wave
    from pathlib import Path

    for kind in ("en", "fr"):
        (tmp_path / "sounds" / kind).mkdir(parents=True)
        for i in range(8):
            with wave.open(str(tmp_path / "sounds" / kind / f"{i}.wav"), "wb") as f:
                f.setnchannels(1)
                f.setsampwidth(2)
                f.setframerate(8000)
                f.writeframes(bytes(16000))
    made, _ = configure.load(configure.init(tmp_path / "sounds", tmp_path / "s.yaml"))
    best, _ = configure.load(Path(__file__).parent.parent / "configs/audio/language.yaml")
    assert made.task == best.task
    assert made.backbone.model_copy(update={"weights": "imagenet"}) == best.backbone  # the 8 kHz of the files too
    assert (made.data.val, made.data.test) == (best.data.val, best.data.test)
    keys = ("name", "train", "learning_rate", "weight_decay", "early_stopping")
    assert [[getattr(p, k) for k in keys] for p in made.train.phases] == [
        [getattr(p, k) for k in keys] for p in best.train.phases
    ]


def test_init_takes_the_kind_that_most_files_are_of(tmp_path):
    for kind in ("cat", "dog"):
        (tmp_path / "p" / kind).mkdir(parents=True)
        for i in range(4):
            (tmp_path / "p" / kind / f"{i}.jpg").write_bytes(b"x")
    (tmp_path / "p" / "cat" / "README.txt").write_text("Photographs of cats.")
    (tmp_path / "p" / "dog" / "bark.wav").write_bytes(b"x")
    assert configure.load(configure.init(tmp_path / "p", tmp_path / "p.yaml"))[0].task_name == "image-classification"


def test_init_leaves_the_splits_of_the_data_alone(tmp_path):
    for part in ("train", "val"):
        for kind in ("cat", "dog"):
            (tmp_path / "p" / part / kind).mkdir(parents=True)
            for i in range(4):
                (tmp_path / "p" / part / kind / f"{i}.jpg").write_bytes(b"x")
    text = configure.init(tmp_path / "p", tmp_path / "p.yaml").read_text("utf8")
    assert "# val: the data has its own" in text
    assert "test: 0.2" in text


def test_every_config_that_travels_with_the_repository_is_right():
    from pathlib import Path

    for path in sorted(Path(__file__).parent.parent.glob("configs/**/*.yaml")):
        configure.load(path)
        assert accepts(config.schema(configure.vocabulary()), document.read(path).values), path
