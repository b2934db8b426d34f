"""The report of a run: what it says is what the run's files hold, it says it in one file that loads and runs
nothing, and no label or file name gets out of its place. The runs are built here from real pieces: pictures,
predictions files and the scores of the tasks; no network is trained.
"""

import base64
import hashlib
import html.parser
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tlkeras import config, data, evaluation, tasks
from tlkeras.errors import ModelError, UsageError
from tlkeras.reports import charts, page, pictures, report
from tlkeras.run import Run, write_json, write_text

CLASSES = ["bird", "flower", "fruit"]
SPLITS = ["train"] * 3 + ["val"] + ["test"] * 4


class Page(html.parser.HTMLParser):
    """A page as a browser takes it: its elements, its text, and the text of each section."""

    def __init__(self, path: Path):
        super().__init__()
        self.elements, self.text, self.sections, self.here = [], "", {}, "header"
        self.feed(path.read_text("utf8"))

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag == "section":
            self.here = dict(attributes)["id"]

    def handle_data(self, text):
        self.text += text
        self.sections[self.here] = self.sections.get(self.here, "") + text

    def all(self, name: str) -> list[dict]:
        return [attributes for tag, attributes in self.elements if tag == name]


def picture(path: Path, seed: int, size=(40, 30), **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path, **options)


def build(
    folder: Path,
    task="image-classification",
    labels=None,
    outputs=None,
    ids=None,
    evaluated=("test",),
    finished=True,
    splits=None,
    **options,
) -> Run:
    """A run folder like the one that `train`, and for `evaluated` splits `evaluate`, would leave behind."""
    run = Run(folder / "run")
    run.folder.mkdir(parents=True)
    module = tasks.get(task)
    labels = labels or [CLASSES[i % 3] for i in range(len(SPLITS))]
    splits = splits or SPLITS[: len(labels)]
    ids = ids or [f"{i:03d}.png" for i in range(len(labels))]
    paths = [folder / "data" / f"{i}.png" for i in range(len(labels))]
    for i, path in enumerate(paths):
        picture(path, i)
    cfg = config.Config.model_validate(
        {
            "name": "built",
            "task": {"name": task, **options},
            "data": {"path": "photos"},
            "backbone": {"name": "tiny"},
            "export": {"to": ["tflite"]},
        }
    )
    write_text(run.config, config.render(cfg))
    chosen = tasks.options_of(cfg)
    targets, answer = module.targets(labels, chosen, None)
    _, _, answer = module.learnt(targets, np.flatnonzero(np.array(splits) == "train"), answer, chosen)
    hashes = [hashlib.sha256(p.read_bytes()).hexdigest() for p in paths]
    held = data.Held(
        ids,
        [str(p) for p in paths],
        labels,
        splits,
        [None] * len(ids),
        hashes,
        np.zeros(len(ids), np.int64),
        targets,
        answer,
        {"skipped": 0},
    )
    data._write(held, run)
    write_json(
        run.data_report,
        {
            "schema": 1,
            "found": len(ids),
            "used": len(ids),
            "skipped": [],
            "ignored": {},
            "notes": {},
            "near_duplicates": [],
        },
    )
    write_json(
        run.manifest,
        {
            "schema": 1,
            "name": "built",
            "task": cfg.task,
            "answer": answer,
            "data": held.facts(),
            "device": "cpu",
            "precision": "float32",
            "versions": {"keras": "3.15.1"},
        },
    )
    phases = [
        {"name": "head", "epochs": 2, "optimizer": "adamw", "schedule": "cosine", "early_stopping": None},
        {
            "name": "top",
            "epochs": 3,
            "optimizer": "adamw",
            "schedule": "cosine",
            "early_stopping": {"patience": 1, "min_delta": 0.0},
        },
    ]
    rows = [
        {
            "phase": p["name"],
            "block": b,
            "trained": b == "head" or p["name"] == "top",
            "factor": 1.0,
            "batchnorm": "frozen",
            "learning_rate": 2e-3,
            "parameters": 90,
            "trainable": 80 if b == "head" else 0,
        }
        for p in phases
        for b in ("stem", "block1", "head")
    ]
    write_json(run.plan, {"schema": 1, "phases": phases, "blocks": rows})
    write_json(
        run.audit,
        {
            "schema": 1,
            "rows": [
                {k: r[k] for k in ("phase", "block", "trained")} | {"tensors": 4, "moved": 4 * r["trained"]}
                for r in rows
            ],
        },
    )
    write_text(
        run.history,
        "phase,epoch,seconds,accuracy,loss,val_accuracy,val_loss\nhead,1,2.5,0.5,1.5,0.4,1.6\nhead,2,2.5,0.7,1.1,0.5,1.2\ntop,1,2.5,0.8,0.9,0.6,0.9\ntop,2,2.5,0.8,0.9,0.6,0.8\ntop,3,2.5,0.9,0.5,,nan\n",
    )
    run.record("start", device="cpu")
    if finished:
        run.model.write_bytes(b"not read by the report")
        run.record("done", seconds=10)
    for split in evaluated:
        rows = held.rows(split)
        given = outputs if outputs is not None else np.eye(targets.shape[1])[targets[rows].argmax(1)]
        evaluation.write_predictions(
            run.predictions(split),
            [([ids[i] for i in rows], module.columns(targets[rows], np.asarray(given, float), answer))],
            answer,
        )
        known = json.loads(run.metrics.read_text()) if run.metrics.is_file() else {"schema": 1}
        write_json(run.metrics, {**known, split: {"split": split, **evaluation.score(run.predictions(split), module)}})
    return run


# Samples 4 to 7 are held out; they are flower, fruit, bird and flower.
SCORES = [[0.1, 0.8, 0.1], [0.25, 0.55, 0.2], [0.02, 0.08, 0.9], [0.3, 0.4, 0.3]]


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Run:
    """A run with two right and two wrong answers; not to be changed."""
    return build(tmp_path_factory.mktemp("original"), outputs=SCORES)


@pytest.fixture(scope="module")
def path(original) -> Path:
    return report(original.folder)


@pytest.fixture(scope="module")
def read(path) -> Page:
    return Page(path)


@pytest.fixture
def run(original, tmp_path) -> Run:
    """A copy of the run, to be changed."""
    return Run(shutil.copytree(original.folder, tmp_path / "run"))


def test_headline_says_what_was_measured_in_words(read):
    said = read.sections["header"].replace("\u00a0", " ")
    assert "50.0 %" in said and "of 4 held-out images are named right" in said
    assert re.search(r"the true figure lies between 0 and 100 %, with 95 % confidence", said)
    assert "always flower: 50 %" in said
    assert "one answer more or less moves the figure by 25.0 points" in said


def test_all_right_is_not_taken_for_certainty(tmp_path):
    said = Page(report(build(tmp_path).folder)).sections["header"].replace("\u00a0", " ")
    assert "100.0 %" in said and "a true figure as low as 47 %" in said


def test_worst_mistakes_come_first(read):
    said = read.sections["mistakes"]
    assert "2 answers of 4 are wrong" in said
    assert (
        0
        < said.index("006.png")
        < said.index("005.png")
        < said.index("Right, with the least confidence")
        < said.index("007.png")
        < said.index("004.png")
    )
    alts = [image["alt"] for image in read.all("img")]
    assert alts[:2] == ["truth: bird; answer: fruit", "truth: fruit; answer: flower"]


def test_sections_come_in_the_order_of_reading(read):
    assert list(read.sections) == ["header", "results", "training", "mistakes", "data", "artefacts", "repeat"]
    assert [a["href"] for a in read.all("a")][-6:] == [
        "#results",
        "#training",
        "#mistakes",
        "#data",
        "#artefacts",
        "#repeat",
    ]


@pytest.mark.parametrize(
    "label",
    [
        "<script>alert(1)</script>",
        "\u202egnp.exe",
        "a\"onerror='x'",
        "&lt;b&gt;",
        "line\nbreak\x1b[31m",
        "</title></style><img src=x>",
        "x" * 5000,
    ],
)
def test_hostile_labels_are_escaped(tmp_path, label):
    path = tmp_path / "run" / "report.html"
    report(
        build(
            tmp_path, labels=[label, "plain"] * 4, ids=[f"{label}/{i}" for i in range(8)], outputs=[[0.1, 0.9]] * 4
        ).folder
    )
    text, read = path.read_text("utf8"), Page(path)
    assert not read.all("script") and "\u202e" not in text and "\x1b" not in text
    assert {a.get("src", "data:")[:5] for a in read.all("img")} == {"data:"}
    assert not [key for _, attributes in read.elements for key in attributes if key.startswith("on")]
    seen = label[: page.LONGEST].replace("\u202e", "\\u202e").replace("\x1b", "\\x1b")
    assert seen in read.sections["data"]


def test_genuine_right_to_left_labels_stay_as_they_are(tmp_path):
    labels = ["גמל", "می‌خواهم", "👩‍🌾", "गाय"]
    read = Page(report(build(tmp_path, labels=labels * 2, splits=["train"] * 4 + ["test"] * 4).folder))
    assert all(label in read.sections["results"] for label in labels)
    assert len(read.all("bdi")) > 8


def test_report_loads_nothing_from_elsewhere(path, read):
    text = path.read_text("utf8")
    assert not [
        e
        for e, _ in read.elements
        if e in ("script", "link", "iframe", "object", "embed", "base", "form", "video", "audio", "source")
    ]
    assert all(
        v.startswith(("data:image/jpeg;base64,", "#"))
        for _, attributes in read.elements
        for k, v in attributes.items()
        if k in ("src", "href", "srcset")
    )
    assert not re.search(r"https?://|url\(|@import", text)
    policy = [m["content"] for m in read.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert policy and policy[0].startswith("default-src 'none'; img-src data:;")


def test_report_without_evaluation_names_the_command(run):
    run.metrics.unlink()
    read = Page(report(run.folder))
    assert f"tlkeras evaluate {run.folder}" in read.sections["header"]
    assert "loss 0.8" not in read.sections["header"]  # the last epoch has no validation figures
    assert list(read.sections) == ["header", "training", "data", "artefacts", "repeat"]
    assert f"tlkeras export {run.folder}" in read.sections["artefacts"]


def test_report_of_an_unfinished_run_names_the_command(run):
    run.record("diverged", phase="top", epoch=1)
    for later in (run.model, run.manifest, run.audit, run.history, run.metrics):
        later.unlink()
    with run.status.open("a") as f:
        f.write('{"time": 1, "eve')  # cut off by a crash
    said = Page(report(run.folder)).sections["header"]
    assert f"tlkeras train --resume {run.folder}" in said


def test_report_of_a_folder_that_is_no_run_says_so(tmp_path):
    with pytest.raises(UsageError, match="no config.yaml"):
        report(tmp_path)


@pytest.mark.parametrize(
    "name, text",
    [
        ("metrics.json", "{"),
        ("metrics.json", "[]"),
        ("plan.json", "no"),
        ("history.csv", "phase,epoch,loss\nhead,x,1\n"),
        ("status.jsonl", "{\n{}\n"),
        ("predictions-test.parquet", "PAR1"),
        ("splits.parquet", "PAR1"),
    ],
)
def test_damaged_files_are_named_and_the_old_report_stays(run, name, text):
    before = report(run.folder).read_bytes()
    (run.folder / name).write_text(text)
    with pytest.raises(ModelError, match=re.escape(name)):
        report(run.folder)
    assert run.report.read_bytes() == before


def test_predictions_of_another_evaluation_are_refused(run):
    table, answer = evaluation.read_predictions(run.predictions("test"))
    evaluation.write_predictions(
        run.predictions("test"), [(table.pop("id")[:2], {k: list(v[:2]) for k, v in table.items()})], answer
    )
    with pytest.raises(ModelError, match="2 samples where metrics.json counts 4.*tlkeras evaluate"):
        report(run.folder)


def test_figures_are_those_of_metrics_json(original, read):
    said = read.sections["results"].replace("\u00a0", " ")
    result = json.loads(original.metrics.read_text())["test"]
    assert f"{100 * result['metrics']['accuracy']:.1f} %" in said
    for metric in ("macro_f1", "log_loss", "calibration_error"):
        assert f"{result['metrics'][metric]:.3f}" in said
    assert "bird taken for fruit: 1 of 1" in said and "fruit taken for flower: 1 of 1" in said


def test_undefined_metrics_are_said_to_be_undefined(tmp_path):
    run = build(
        tmp_path, labels=["a", "b"] * 4, splits=["train", "train", "test", "train", "test", "train", "test", "train"]
    )
    said = Page(report(run.folder)).sections["results"]
    assert "ROC AUC" in said and "not defined here" in said


def test_training_shows_phases_plan_and_audit(read):
    said = read.sections["training"]
    assert "5 epochs in 2 phases" in said and "bit for bit" in said and "4 of 4" in said
    labels = [svg["aria-label"] for svg in read.all("svg") if "aria-label" in svg]
    assert "loss over 5 epochs: training from 1.5 to 0.5; validation from 1.6 to 0.8." in labels
    # Two curves, one mark where the phase changes each, one ring where early stopping went back to.
    fourth = str(charts.Axes((1, 5), (0, 1)).x(4))
    assert [a["cx"] for a in read.all("circle") if a.get("class") == "ring"] == [fourth] * 2
    assert sum(a.get("class") == "rule" and a["x1"] == a["x2"] for a in read.all("line")) == 2


def test_a_frozen_block_that_moved_is_shouted(run):
    rows = json.loads(run.audit.read_text())["rows"]
    write_json(run.audit, {"schema": 1, "rows": [r | {"moved": 1} for r in rows]})
    assert "The audit failed: frozen blocks moved: stem (head)" in Page(report(run.folder)).sections["training"]


def test_what_was_left_out_of_the_data_is_listed(run):
    write_json(
        run.data_report,
        {
            "schema": 1,
            "skipped": [{"file": "<b>.png", "reason": "empty"}],
            "ignored": {"hidden": 3},
            "notes": {"no EXIF": {"count": 1, "files": ["1.png"]}},
            "near_duplicates": ["1.png (test) and 2.png (train), 1 of 64 bits differ"],
        },
    )
    read = Page(report(run.folder))
    said = read.sections["data"]
    assert "<b>.png: empty" in said and "hidden: 3" in said and "no EXIF: 1" in said and "1 of 64 bits differ" in said
    assert (
        "1 image nearly equals one in another split" in read.sections["header"]
        and "1 file could not be used" in read.sections["header"]
    )


def test_artefacts_are_compared_and_missing_ones_named(run):
    folder = run.artefact("saved_model")
    folder.mkdir(parents=True)
    row = {
        "format": "saved_model",
        "metric": "accuracy",
        "keras": 0.9,
        "score": 0.88,
        "drop": 0.02,
        "max_difference": 5e-7,
        "agreement": 0.99,
        "n": 50,
        "bytes": 3_400_000,
        "milliseconds": 12.34,
        "allowed_drop": 0.02,
    }
    write_json(folder / "parity.json", {"schema": 1, **row})
    said = Page(report(run.folder)).sections["artefacts"].replace("\u00a0", " ")
    for words in (
        "saved_model",
        "88.0 %",
        "2.0 %",
        "5×10⁻⁷",
        "99.0 %",
        "3.4 MB",
        "12.3 ms",
        "Asked for and not here: tflite",
    ):
        assert words in said


def test_validation_and_training_figures_come_with_a_warning(tmp_path):
    run = build(tmp_path, evaluated=("train", "val"))
    assert "These images steered training" in Page(report(run.folder)).sections["header"]
    write_json(run.metrics, {"schema": 1, "train": json.loads(run.metrics.read_text())["train"]})
    assert "says nothing about new ones" in Page(report(run.folder)).sections["header"]


def test_multi_label_runs_show_missed_and_invented_labels(tmp_path):
    labels = ["a|b", "b", "a", "", "a|b", "", "b", "a"]
    read = Page(
        report(
            build(
                tmp_path, labels=labels, multi_label=True, outputs=[[0.9, 0.2], [0.1, 0.1], [0.7, 0.9], [0.6, 0.4]]
            ).folder
        )
    )
    said = read.sections["mistakes"]
    assert "2 answers of 4 are wrong" in said and said.index("004.png") < said.index("006.png")
    assert "said a" in said and "is a and b" in said
    assert "macro F1 on 4 held-out images" in read.sections["header"]


def test_regression_shows_the_largest_errors_first(tmp_path):
    values = [["1", "10"], ["2", "20"], ["3", "15"], ["4", "5"]] * 2
    outputs = [[1, 10], [2, 29], [3, 15.5], [9, 5]]
    read = Page(report(build(tmp_path, task="image-regression", labels=values, outputs=outputs).folder))
    said = read.sections["mistakes"]
    assert said.index("007.png") < said.index("005.png") < said.index("006.png") < said.index("004.png")
    assert "is the typical error (RMSE) on 4 held-out images" in read.sections["header"]
    assert "always the mean" in read.sections["header"]
    assert sum("points" in s.get("aria-label", "") for s in read.all("svg")) == 4
    assert "value 2" in read.sections["data"]


def test_many_classes_still_make_a_small_page(run):
    n = 500
    labels = [f"class {i}" for i in range(n)]
    rng = np.random.default_rng(0)
    scores = rng.dirichlet(np.ones(n), 300)
    answer = {"classes": labels, "multi_label": False, "threshold": 0.5}
    module = tasks.get("image-classification")
    evaluation.write_predictions(
        run.predictions("test"),
        [([str(i) for i in range(300)], module.columns(np.eye(n)[:300], scores, answer))],
        answer,
    )
    metrics = json.loads(run.metrics.read_text())["test"]
    counts = np.zeros((n, n), int)
    np.add.at(counts, (np.arange(300), scores.argmax(1)), 1)
    per = {
        "class": labels,
        **{k: [0.5] * n for k in ("precision", "recall", "f1")},
        "support": [1.0] * 300 + [0.0] * 200,
    }
    write_json(
        run.metrics, {"schema": 1, "test": {**metrics, "n": 300, "per_class": per, "confusion": counts.tolist()}}
    )
    manifest = json.loads(run.manifest.read_text())
    write_json(run.manifest, {**manifest, "answer": answer})
    run.splits.unlink()
    path = report(run.folder)
    assert path.stat().st_size < 1_500_000
    assert "A matrix of 500 classes would not fit" in Page(path).text and "not kept in the run" in Page(path).text


def test_pictures_keep_the_page_small(tmp_path):
    labels = [f"c{i % 20}" for i in range(120)]
    splits = ["train"] * 20 + ["test"] * 100
    read_path = report(
        build(
            tmp_path, labels=labels, splits=splits, outputs=np.random.default_rng(0).dirichlet(np.ones(20), 100)
        ).folder
    )
    assert 20 < len(Page(read_path).all("img")) <= 40
    assert read_path.stat().st_size < 1_500_000


def thumbnail_of(path: Path):
    jpeg, why = pictures.thumbnail(path, hashlib.sha256(path.read_bytes()).hexdigest())
    return Image.open(io.BytesIO(jpeg)).convert("RGB") if jpeg else why


def test_thumbnails_are_upright_small_and_over_white(tmp_path):
    image = Image.new("RGB", (400, 200), "red")
    image.paste("blue", (0, 0, 200, 200))
    turned = Image.Exif()
    turned[0x0112] = 6  # shown after a quarter turn clockwise: the left half is on top
    image.save(tmp_path / "a.jpg", exif=turned)
    shown = thumbnail_of(tmp_path / "a.jpg")
    assert shown.size == (64, 128)
    assert shown.getpixel((32, 20))[2] > 200 and shown.getpixel((32, 110))[0] > 200
    Image.new("RGBA", (20, 20), (255, 0, 0, 0)).save(tmp_path / "b.png")
    assert min(thumbnail_of(tmp_path / "b.png").getpixel((10, 10))) > 250
    Image.fromarray(np.full((20, 20), 32768, np.uint16)).save(tmp_path / "c.png")
    assert 120 < thumbnail_of(tmp_path / "c.png").getpixel((10, 10))[0] < 136


def test_a_file_that_changed_is_not_shown(tmp_path):
    run = build(tmp_path, outputs=SCORES)
    picture(tmp_path / "data" / "6.png", 99)
    (tmp_path / "data" / "5.png").unlink()
    said = Page(report(run.folder)).sections["mistakes"]
    assert "file changed since training" in said and "file not found" in said
    (tmp_path / "x.png").write_bytes(b"no picture")
    assert thumbnail_of(tmp_path / "x.png") == "no picture that can be shown"


def test_other_data_shows_no_pictures_of_the_run(run):
    run.predictions("test").rename(run.predictions("data"))
    write_json(run.metrics, {"schema": 1, "data": json.loads(run.metrics.read_text())["test"]})
    read = Page(report(run.folder))
    assert not read.all("img") and "images of other data" in read.sections["header"]


def test_pictures_are_those_of_the_samples(original, read):
    first = Image.open(io.BytesIO(base64.b64decode(read.all("img")[0]["src"].partition(",")[2])))
    original = Image.open(original.folder.parent / "data" / "6.png")
    assert first.size == original.size
    assert np.abs(np.asarray(first.convert("L"), float) - np.asarray(original.convert("L"), float)).mean() < 12


def test_writing_a_report_imports_no_tensorflow(run):
    code = f"import sys; from tlkeras.reports import report; report({str(run.folder)!r}); print([m for m in ('tensorflow', 'keras') if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


@pytest.mark.parametrize(
    "low, high, expected",
    [
        (0, 1, [0, 0.25, 0.5, 0.75, 1]),
        (0, 1.95, [0, 0.5, 1, 1.5]),
        (-3, 3, [-2, 0, 2]),
        (0, 1e-5, [0, 2.5e-6, 5e-6, 7.5e-6, 1e-5]),
    ],
)
def test_axes_carry_round_numbers(low, high, expected):
    assert charts.ticks(low, high) == pytest.approx(expected)


def test_curves_of_one_epoch_and_of_a_flat_line_can_be_drawn():
    assert "<circle" in charts.curves("loss", {"training": [0.0]}, ["head"])
    assert "<path" in charts.curves("loss", {"training": [2.0, 2.0], "validation": [None, 2.0]}, ["head", "top"])
    assert "<svg" in charts.curves("accuracy", {"training": [1.0, 1.0]}, ["head", "head"], shares=True)
    assert "<svg" in charts.scatter([3.0], [3.0], "true", "answered", "title", True)
    assert "<svg" in charts.scatter([3.0, 3.0], [0.0, 0.0], "true", "error", "title", False)


def test_numbers_are_written_for_people():
    assert [page.figure(v) for v in (0, 0.1234567, 12345.6, 4.9e-5, -2e7)] == [
        "0",
        "0.1235",
        "12,346",
        "4.9×10⁻⁵",
        "-2×10⁷",
    ]
    assert [page.size(v) for v in (12, 3400, 3_400_000)] == ["12.0 B", "3.4 kB", "3.4 MB"]
    assert page.names(["a"]) == "<bdi>a</bdi>" and page.names("abc", 2) == "<bdi>a</bdi>, <bdi>b</bdi> and 1 more"
