"""Where texts come from: what is read, what is refused and why, and what stays together.

pytest tests/test_text_sources.py
"""

import json
import shutil
import sys
import time

import numpy as np
import pytest
from conftest import WORDS, records, write

import tlkeras
from tlkeras import data, errors, tasks
from tlkeras import run as runs
from tlkeras.config import Data
from tlkeras.data import sources, texts
from tlkeras.progress import Progress
from tlkeras.run import read_json
from tlkeras.tasks import question_answering, token_classification


@pytest.fixture(autouse=True)
def _own_store(tmp_path, monkeypatch):
    monkeypatch.setenv("TLKERAS_CACHE", str(tmp_path / "cache"))


# --- Sources


def read(path=None, task="text-classification", **section):
    return sources.read(Data(path=path and str(path), **section), texts=tasks.wanted(task))


def refused(match, path=None, task="text-classification", **section):
    with pytest.raises(errors.DataError, match=match) as caught:
        read(path, task, **section)
    return str(caught.value)


ROWS = [
    ("we like bread, and soup", "food", "7"),
    ('the "old" song', "music", "1"),
    ("a naïve 漢字 race 🏃", "sport", "3"),
]


def as_csv(path, mark=","):
    import csv

    with path.open("w", encoding="utf8", newline="") as f:
        rows = csv.writer(f, delimiter=mark)
        rows.writerows([("text", "label", "stars"), *ROWS])
    return path


def as_parquet(path):
    import pyarrow
    import pyarrow.parquet

    t, c, s = zip(*ROWS, strict=True)
    pyarrow.parquet.write_table(pyarrow.table({"text": t, "label": c, "stars": [int(x) for x in s]}), path)
    return path


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.jsonl", "t.parquet", "T.CSV"])
def test_every_table_gives_the_same_samples(name, tmp_path):
    path = tmp_path / name
    if name.endswith("jsonl"):
        records(path, [{"text": t, "label": c, "stars": int(s)} for t, c, s in ROWS])
    elif name.endswith("parquet"):
        as_parquet(path)
    else:
        as_csv(path, "\t" if "tsv" in name else ",")
    found = read(path)
    assert found.inputs == [(t,) for t, _, _ in ROWS] and found.labels == [c for _, c, _ in ROWS]
    assert found.splits == found.groups == [None] * 3 and len(set(found.ids)) == 3
    # Other columns are left alone, and numbers are labels as they are written.
    assert read(path, label="stars").labels == [s for _, _, s in ROWS]


def test_splits_and_groups_come_from_columns(tmp_path):
    path = write(tmp_path / "t.csv", "text,label,part,who\na,x,Train,p1\nb,x,validation,\nc,x,,p1\n")
    found = read(path, split="part", group="who")
    assert found.splits == ["train", "val", None] and found.groups == ["p1", None, "p1"]
    path.write_text(path.read_text().replace("validation", "dev"))
    refused("line 3: split 'dev' is not train, val or test", path, split="part")


def test_pairs_come_from_two_columns(tmp_path):
    path = write(tmp_path / "t.csv", "id,premise,hypothesis,label\n1,a b,c,yes\n2,d,e f,no\n")
    assert read(path, text=["premise", "hypothesis"]).inputs == [("a b", "c"), ("d", "e f")]
    assert read(path, "sentence-embedding", text=["premise", "hypothesis"]).labels == ["", ""]
    refused("data.text must name 2 columns for this task, such as", path, "question-answering", text="premise")
    for task in ("masked-lm", "causal-lm", "token-classification", "seq2seq"):
        # A second text that such a task does not look at would be lost without a word.
        refused("one column", path, task, text=["premise", "hypothesis"])


def test_missing_columns_are_named_with_the_nearest(tmp_path):
    path = write(tmp_path / "t.csv", "txt,lable\na,x\n")
    said = refused("there is no column", path)
    assert "'text', 'label'. Did you mean txt? It has: txt, lable. Name columns with data.text and data.label." in said
    assert "Did you mean lable?" in refused("no column 'label'", path, text="txt")
    refused("no column 'who'", path, text="txt", label="lable", group="who")
    assert read(path, "masked-lm", text="txt").labels == [""], "no label is asked of a language model"


def test_a_folder_of_classes_of_texts(tmp_path):
    for name in (
        "pos/1.txt",
        "pos/deep/2.txt",
        "neg/1.txt",
        "two words 🌸/x y.TXT",
        "pos/.hidden.txt",
        "pos/image.png",
    ):
        write(tmp_path / "d" / name, f"\ufeffa text\nof {name}")
    write(tmp_path / "d" / "loose.txt", "x")
    found = read(tmp_path / "d")
    assert dict(zip(found.ids, found.labels, strict=True)) == {
        "pos/1.txt": "pos", "pos/deep/2.txt": "pos", "neg/1.txt": "neg", "two words 🌸/x y.TXT": "two words 🌸",
    }  # fmt: skip
    assert found.inputs[found.ids.index("neg/1.txt")] == ("a text\nof neg/1.txt",)
    assert found.ignored == {"not in a class folder": 1} and found.splits == [None] * 4
    assert len(read(tmp_path / "d", "masked-lm")) == 5, "without labels every text counts"
    (tmp_path / "empty").mkdir()
    refused(r"expected class folders with texts in them \(CLASS/\*.txt\); found 0 texts", tmp_path / "empty")


def test_folders_called_like_splits_state_the_splits(tmp_path):
    for name in ("train/pos/1", "train/neg/1", "Validation/pos/1", "test/neg/1", "test/readme", "unsup/1"):
        write(tmp_path / f"{name}.txt", "x")
    found = read(tmp_path)
    assert sorted(zip(found.ids, found.labels, found.splits, strict=True)) == [
        ("Validation/pos/1.txt", "pos", "val"), ("test/neg/1.txt", "neg", "test"),
        ("train/neg/1.txt", "neg", "train"), ("train/pos/1.txt", "pos", "train"),
    ]  # fmt: skip
    assert found.ignored == {"not in a class folder": 2}, "what lies in no split is no class beside the splits"


@pytest.mark.parametrize("key", [{"group": "who"}, {"split": "part"}, {"label": "class"}, {"text": "body"}])
def test_columns_asked_of_what_has_none_are_refused(tmp_path, key):
    write(tmp_path / "d" / "pos" / "1.txt", "x")
    refused(f"data.{next(iter(key))} name columns of a table", tmp_path / "d", **key)
    path = write(tmp_path / "dev.json", json.dumps(SQUAD))
    key = {"text": ["question", "context"]} if "text" in key else key
    refused(f"data.{next(iter(key))} name columns of a table", path, "question-answering", **key)


SQUAD = {
    "version": "2.0",
    "data": [
        {
            "title": "Soup",
            "paragraphs": [
                {
                    "context": "  We like soup.",
                    "qas": [
                        {"id": 7, "question": "what?", "answers": [{"text": "soup", "answer_start": 10}]},
                        {"id": "b", "question": "who?", "answers": [], "is_impossible": True},
                    ],
                },
                {"context": "No.", "qas": [{"id": "c", "question": "why?", "answers": []}]},
            ],
        }
    ],
}


def test_squad_json(tmp_path):
    found = read(write(tmp_path / "dev.json", json.dumps(SQUAD)), "question-answering")
    assert found.ids == ["7", "b", "c"] and found.groups == ["0.0", "0.0", "0.1"]
    assert found.inputs == [("what?", "  We like soup."), ("who?", "  We like soup."), ("why?", "No.")]
    assert found.labels[0] == {"text": ["soup"], "answer_start": [10]} and found.labels[1]["text"] == []
    rows, answer = question_answering.targets(found.labels, question_answering.Options())
    assert answer["unanswerable"] and rows[0] == found.labels[0]
    refused("which the task question-answering reads", tmp_path / "dev.json")


@pytest.mark.parametrize(
    "text",
    ['{"data": [{', "[1, 2]", "{}", '{"data": 3}', '{"data": [{"paragraphs": [{"context": "a", "qas": [{}]}]}]}', "[" * 5000,
     '{"data": [{"paragraphs": [{"context": "a", "qas": [{"id": 1, "question": null}]}]}]}',
     '{"data": [{"paragraphs": [{"context": "a", "qas": [{"id": "\\ud800", "question": "q"}]}]}]}'],
    ids=["cut", "list", "empty", "number", "no question", "deep", "null", "half an id"],
)  # fmt: skip
def test_damaged_json_is_refused(tmp_path, text):
    refused(r"x.json: not in SQuAD's form", write(tmp_path / "x.json", text), "question-answering")


def value(dtype="string"):
    return {"dtype": dtype, "_type": "Value"}


NEG_POS = {"names": ["neg", "pos"], "_type": "ClassLabel"}


def saved(folder, columns, features, parts=1):
    """A dataset as Hugging Face's save_to_disk lays it down."""
    import pyarrow

    folder.mkdir(parents=True, exist_ok=True)
    table, names = pyarrow.table(columns), []
    for k in range(parts):
        names.append(f"data-{k:05d}-of-{parts:05d}.arrow")
        rows = table.slice(k * len(table) // parts, (k + 1) * len(table) // parts - k * len(table) // parts)
        with (folder / names[-1]).open("wb") as f, pyarrow.ipc.new_stream(f, rows.schema) as stream:
            stream.write_table(rows)
    state = {"_data_files": [{"filename": n} for n in names], "_fingerprint": "0", "_format_type": None, "_split": None}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text(json.dumps({"features": features, "license": ""}))
    return folder


def test_a_dataset_that_hugging_face_saved(tmp_path):
    features = {"text": value(), "label": NEG_POS, "stars": value("float32")}
    columns = {"text": ["a b", "c", "d"], "label": [0, 1, 1], "stars": [0.5, 1.0, None]}
    found = read(saved(tmp_path / "one", columns, features, parts=2))
    assert found.inputs == [("a b",), ("c",), ("d",)] and found.labels == ["neg", "pos", "pos"]
    assert read(tmp_path / "one", label="stars").labels == ["0.5", "1.0", ""]
    assert "Did you mean text?" in refused("no column 'txt'", tmp_path / "one", text="txt")


def test_the_splits_of_a_saved_dataset(tmp_path):
    features = {"text": value(), "label": NEG_POS}
    for name, label in (("train", 0), ("validation", 1), ("test", 1), ("unsupervised", -1)):
        saved(tmp_path / name, {"text": [f"of {name}", f"more {name}"], "label": [label, label]}, features)
    (tmp_path / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "validation", "test", "unsupervised"]}))
    found = read(tmp_path)
    assert found.splits == ["train"] * 2 + ["val"] * 2 + ["test"] * 2
    assert found.labels == ["neg"] * 2 + ["pos"] * 4, "-1 stands for a label that is kept secret"
    assert len(set(found.ids)) == 6 and found.inputs[2] == ("of validation",)
    assert found.ignored == {"without a label": 2}
    assert len(read(tmp_path, "masked-lm")) == 8


@pytest.mark.parametrize(
    "form", [lambda f: {"feature": f, "_type": "Sequence"}, lambda f: [f]], ids=["Sequence", "list"]
)
def test_lists_of_a_saved_dataset(tmp_path, form):
    features = {"tokens": form(value()), "tags": form({"names": ["O", "B-X"], "_type": "ClassLabel"})}
    saved(tmp_path, {"tokens": [["the", "soup"], ["a"]], "tags": [[0, 1], [0]]}, features)
    found = read(tmp_path, "token-classification", text="tokens", label="tags")
    assert found.inputs == [("the soup",), ("a",)] and found.labels == [["O", "B-X"], ["O"]]


def test_answers_of_a_saved_dataset(tmp_path):
    inner = {"text": value(), "answer_start": value("int32")}
    features = {"question": value(), "context": value(), "answers": {"feature": inner, "_type": "Sequence"}}
    answers = [{"text": ["soup"], "answer_start": [8]}, {"text": [], "answer_start": []}]
    saved(tmp_path, {"question": ["q", "r"], "context": ["We like soup", "No"], "answers": answers}, features)
    found = read(tmp_path, "question-answering", label="answers")
    assert question_answering.targets(found.labels, question_answering.Options())[0] == answers


def test_a_damaged_saved_dataset_is_refused(tmp_path):
    good = saved(tmp_path / "good", {"text": ["a"], "label": [0]}, {"text": value(), "label": NEG_POS})
    arrow = next(good.glob("*.arrow"))
    for name, text in (
        (arrow.name, arrow.read_bytes()[:40]),
        ("state.json", "{"),
        ("state.json", "{}"),
        ("state.json", json.dumps({"_data_files": [{"filename": "../../secret.arrow"}]})),
        ("state.json", json.dumps({"_data_files": [{"filename": "missing.arrow"}]})),
        ("state.json", json.dumps({"_data_files": []})),
        ("dataset_info.json", "[not json"),
    ):
        bad = tmp_path / "bad"
        shutil.rmtree(bad, ignore_errors=True)
        shutil.copytree(good, bad)
        write(bad / name, text)
        refused("not a dataset as Hugging Face's save_to_disk writes it", bad)
    for text in ('{"splits": ', "{}", '{"splits": ["nowhere"]}'):
        write(tmp_path / "dict" / "dataset_dict.json", text)
        refused("dict", tmp_path / "dict")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """The folder of a small TensorFlow dataset of texts."""
    import tensorflow_datasets as tfds

    f = tfds.features

    class TinyTexts(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {
                "text": f.Text(), "label": f.ClassLabel(names=["neg", "pos"]), "who": f.Text(), "stars": f.Scalar(np.float32),
                "tokens": f.Sequence(f.Text()), "tags": f.Sequence(f.ClassLabel(names=["O", "B-X"])),
                "question": f.Text(), "answers": f.Sequence({"text": f.Text(), "answer_start": np.int32}),
            }  # fmt: skip
            return tfds.core.DatasetInfo(builder=self, features=f.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            parts = {"train": (0, 6), "validation": (6, 8), "unsupervised": (8, 10)}
            return {name: self._generate_examples(*part) for name, part in parts.items()}

        def _generate_examples(self, first, last):
            for i in range(first, last):
                yield (
                    str(i),
                    {
                        "text": f"a naïve text {i}", "label": -1 if i >= 8 else i % 2, "who": f"p{i % 3}", "stars": i / 2,
                        "tokens": ["naïve", "text"], "tags": [0, i % 2], "question": "which?",
                        "answers": {"text": ["naïve"] * (i % 3), "answer_start": [2] * (i % 3)},
                    },
                )  # fmt: skip

    builder = TinyTexts(data_dir=str(tmp_path_factory.mktemp("tfds")))
    builder.download_and_prepare()
    return str(builder.data_path)


def test_a_tensorflow_dataset(prepared):
    found = read(tfds=prepared)
    assert sorted(zip(found.splits, found.inputs, found.labels, strict=True)) == sorted(
        ("train" if i < 6 else "val", (f"a naïve text {i}",), ["neg", "pos"][i % 2]) for i in range(8)
    )
    assert found.ignored == {"without a label": 2}
    assert len(read(task="masked-lm", tfds=prepared)) == 10, "without labels every text counts"
    assert sorted(read(task="text-regression", tfds=prepared, label="stars").labels)[:2] == ["0.0", "0.5"]
    tags = read(task="token-classification", tfds=prepared, text="tokens", label="tags")
    assert set(tags.inputs) == {("naïve text",)} and set(map(tuple, tags.labels)) == {("O", "O"), ("O", "B-X")}
    assert "Did you mean text?" in refused("has no feature 'txt'", tfds=prepared, text="txt")
    assert set(read(tfds=prepared, group="who").groups) == {"p0", "p1", "p2"}


def test_answers_of_a_tensorflow_dataset(prepared):
    found = read(task="question-answering", tfds=prepared, text=["question", "text"], label="answers")
    rows, _ = question_answering.targets(found.labels, question_answering.Options())
    assert sorted(len(r["text"]) for r in rows) == [0, 0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert all(r == {"text": ["naïve"] * len(r["text"]), "answer_start": [2] * len(r["text"])} for r in rows)


def test_what_is_not_there_or_no_text_is_told(tmp_path):
    write(tmp_path / "topics.csv", "text,label\na,x\n")
    assert "Did you mean topics.csv?" in refused("there is no such file or folder", tmp_path / "topic.csv")
    refused("texts come in a .csv, .tsv, .jsonl, .parquet table", write(tmp_path / "t.xlsx", "x"))


# --- Bad input: told in full, nothing lost


def collected(path, task="text-classification", run=None, **section):
    """The samples of a source as a run holds them."""
    module, wanted = tasks.get(task), tasks.wanted(task)
    section = Data(path=str(path), **section)
    return data.collect(section, module, module.Options(), Progress(True), run=run, texts=wanted)


GOOD = [{"text": f"{a} {b}", "label": c} for c in ("food", "music") for a in WORDS[c][:4] for b in WORDS[c][4:]]
BAD = {
    "an empty text": "",
    "empty text": " \t\n\u00a0\u3000",
    "NUL character": "a\0b",
    r"half of a character \(a lone surrogate\)": "a \ud83c b",
    "10,000,001 characters; one text has at most": "x" * 10_000_001,
}


def test_texts_that_cannot_be_used_are_all_named(tmp_path):
    path = records(tmp_path / "t.jsonl", [*GOOD, *({"text": t, "label": "food"} for t in BAD.values())])
    with pytest.raises(errors.DataError) as caught:
        collected(path)
    lines = str(caught.value).splitlines()
    assert lines[0] == "5 of 37 texts cannot be used:" and "data.on_bad: skip" in lines[-1]
    import re

    for n, (line, why) in enumerate(zip(lines[1:], BAD, strict=False), len(GOOD) + 1):
        assert line.startswith(f"  line {n}: ") and re.search(why, line)


def test_texts_that_are_left_out_are_listed_in_the_data_report(tmp_path):
    path = records(tmp_path / "t.jsonl", [*GOOD, *({"text": t, "label": "food"} for t in BAD.values())])
    run = runs.create(tmp_path / "run")
    held = collected(path, run=run, on_bad="skip")
    report = read_json(run.data_report)
    assert len(held.ids) == report["used"] == 32 and report["found"] == 37
    assert [s["file"] for s in report["skipped"]] == [f"line {n}" for n in range(33, 38)]
    assert held.inputs == [(g["text"],) for g in GOOD]


def test_one_of_a_pair_that_is_empty_is_told(tmp_path):
    rows = [{"a": g["text"], "b": "" if n == 3 else "x", "label": g["label"]} for n, g in enumerate(GOOD)]
    with pytest.raises(errors.DataError, match="line 4: an empty text"):
        collected(records(tmp_path / "t.jsonl", rows), text=["a", "b"])


def test_bytes_that_are_no_utf8_are_told_with_file_and_line(tmp_path):
    for name in ("t.csv", "t.tsv", "t.jsonl"):
        path = write(tmp_path / name, b"text,label\na,x\ncaf\xe9,x\n")
        refused(rf"{name}:3: text must be UTF-8; byte 18 \(0xe9\)", path)
        refused(rf"{name}:2: a NUL character", write(path, "text,label\na\0,x\n"))
        refused("UTF-16", write(path, "text,label\na,x\n".encode("utf-16")))
    refused(r"x.json:1: text must be UTF-8", write(tmp_path / "x.json", b"{\xff}"), "question-answering")


def test_a_file_of_a_folder_that_cannot_be_read_is_one_bad_text(tmp_path):
    for g, n in zip(GOOD, range(99), strict=False):
        write(tmp_path / "d" / g["label"] / f"{n}.txt", g["text"])
    write(tmp_path / "d" / "food" / "latin.txt", b"good\ncaf\xe9")
    write(tmp_path / "d" / "music" / "nul.txt", "a\0b")
    (tmp_path / "d" / "music" / "gone.txt").symlink_to(tmp_path / "nowhere")
    (tmp_path / "d" / "music" / "folder.txt").mkdir()
    with pytest.raises(errors.DataError) as caught:
        collected(tmp_path / "d")
    said = str(caught.value)
    assert "food/latin.txt" in said and ":2: text must be UTF-8" in said and "music/nul.txt" in said, said
    assert "music/gone.txt" in said
    run = runs.create(tmp_path / "run")
    held = collected(tmp_path / "d", run=run, on_bad="skip")
    assert len(held.ids) == len(GOOD)
    skipped = {s["file"] for s in read_json(run.data_report)["skipped"]}
    assert skipped == {"food/latin.txt", "music/nul.txt", "music/gone.txt"}


def test_json_lines_that_are_damaged_or_differ_are_told(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text('{"text": "a", "label": "x"}\n\n{"text": "b"}\n{"text": "c", "label": "x", "more": 1}\n')
    said = refused("every line needs the keys of the first; missing or too much", path)
    assert "line 3: label" in said and "line 4: more" in said
    for text, match in (
        ('{"text": "a", "label": "x"}\n{"text": "b", \n', r"t.jsonl:2: not one JSON object"),
        ('["a", "x"]\n', r"t.jsonl:1: every line must be a JSON object"),
        ('{"text": "a"} {"text": "b"}\n', r"t.jsonl:1: not one JSON object"),
        ("\n \n", "there is no line in it"),
        ("[" * 5000 + "\n", "t.jsonl:1: not one JSON object"),
    ):
        path.write_text(text)
        refused(match, path)
    records(path, [{"text": {"en": "a"}, "label": "x"}, {"text": [1, ["a"]], "label": "x"}])
    assert "line 1: 'text' holds a record" in refused("cannot be used", path)


@pytest.mark.parametrize("cell", [{"a": 1}, [["x"]]], ids=["record", "lists"])
@pytest.mark.parametrize("column", ["label", "who"])
def test_a_label_or_group_that_is_no_text_is_told(tmp_path, column, cell):
    path = records(tmp_path / "t.jsonl", [{"text": g["text"], "label": "x", "who": "p", column: cell} for g in GOOD])
    with pytest.raises(errors.DataError):
        collected(path, group="who")


@pytest.mark.parametrize("column", ["label", "who"])
def test_half_a_character_in_a_label_or_group_is_told(tmp_path, column, configured):
    rows = [{**g, "who": f"p{n}"} for n, g in enumerate(GOOD)]
    for row in rows[:6]:
        row[column] = "\ud800" + row[column]
    config = configured(data={"path": str(records(tmp_path / "t.jsonl", rows)), "group": "who"})
    with pytest.raises(errors.DataError, match="half of a character"):
        tlkeras.train(config, tmp_path / "run", quiet=True)


def test_a_plan_refuses_texts_that_training_would_refuse(tmp_path, configured):
    rows = [*GOOD, {"text": "a \ud800", "label": "food"}, {"text": " ", "label": "food"}]
    with pytest.raises(errors.DataError, match="half of a character"):
        tlkeras.plan(configured(data={"path": str(records(tmp_path / "t.jsonl", rows))}))


def test_one_class_only_is_refused(tmp_path):
    with pytest.raises(errors.DataError, match="at least two classes; the data has 1: food"):
        collected(records(tmp_path / "t.jsonl", [g for g in GOOD if g["label"] == "food"]))
    with pytest.raises(errors.DataError, match="1 have an empty label"):
        collected(records(tmp_path / "t.jsonl", [*GOOD, {"text": "x", "label": None}]))


def test_answers_must_stand_where_they_say(reader, tiny_bert):
    made = reader("question-answering", tiny_bert)
    for answer, match in (
        ({"text": ["soup"], "answer_start": [0]}, "'We l' stands at 0, not 'soup'"),
        ({"text": ["soup"], "answer_start": [99]}, "stands at 99, not 'soup'"),
    ):
        with pytest.raises(errors.DataError, match=match):
            made.table([("what?", "We like soup")], [answer], np.ones(1))
    for label in (
        {"text": ["a"]},
        {"text": ["a"], "answer_start": [1, 2]},
        "soup",
        {"text": ["a"], "answer_start": ["x"]},
    ):
        with pytest.raises(errors.DataError, match="sample 2: "):
            question_answering.targets([{"text": [], "answer_start": []}, label], question_answering.Options())


def test_tags_must_be_as_many_as_the_words(reader, tiny_bert):
    made = reader("token-classification", tiny_bert)
    with pytest.raises(errors.DataError, match="2 words and 3 tags: the soup"):
        made.table([("a",), ("the soup",)], [np.array([0]), np.array([0, 1, 1])], np.ones(2))
    for label in ({"a": "O"}, [["O"]], [{"a": "O"}]):
        with pytest.raises(errors.DataError, match="Tags are a list of texts"):
            token_classification.targets([["O"], label], token_classification.Options())
    with pytest.raises(errors.DataError, match="Every word needs a tag; samples without: 2"):
        token_classification.targets([["O"], ["O", ""]], token_classification.Options())
    with pytest.raises(errors.DataError, match="B-PRE.*Did you mean B-PER"):
        token_classification.targets([["B-PRE"]], token_classification.Options(), ["O", "B-PER"])


LONG = {
    "words": "bread soup with cheese and the old piano " * 25_000,
    "one letter": "x" * 1_000_000,
    "ideographs": "漢字。" * 120_000,
}


@pytest.mark.parametrize("preset", ["tiny_bert", "tiny_gpt2"])
def test_a_megabyte_of_text_is_cut_off_in_seconds(reader, preset, request):
    made = reader("text-classification", request.getfixturevalue(preset))
    started = time.monotonic()
    for text in LONG.values():
        table = made.table([(text,), ("a song",)], np.zeros((2, 2), np.float32), np.ones(2))
        # A BERT takes what it does not know for one token, however long.
        assert table.lengths[0] == (3 if text.isalpha() and preset == "tiny_bert" else made.tokens.length)
        assert table.lengths[1] < 12
        assert ("may be cut off" in texts.lengths(table, made.tokens)) == (table.lengths[0] > 3)
    assert time.monotonic() - started < 60


def test_one_unbroken_run_of_letters_does_not_hold_up_its_neighbours(reader, tiny_gpt2):
    """Such as data in base64: a byte-pair tokenizer merges in all words of a call until it has done the longest."""
    made = reader("text-classification", tiny_gpt2)
    rng = np.random.default_rng(0)

    def drawn(n, most):
        return ["".join(rng.choice(list("breadsoup"), most)) + f" {i}" for i in range(n)]

    def seconds(given):
        began = time.process_time()
        made.ids(given)
        return time.process_time() - began

    made.ids(["a"])
    apart = seconds([" ".join(drawn(10, 9)) for _ in range(500)]) + seconds(drawn(1, 1500))
    together = seconds([*(" ".join(drawn(10, 9)) for _ in range(500)), *drawn(1, 1500)])
    assert together < 2 * apart + 1, f"{together:.1f} s together, {apart:.1f} s apart"


def test_ideographs_between_marks_are_no_unbroken_run(reader, tiny_gpt2):
    """Texts without blanks are tokenised many at a time too."""
    made = reader("text-classification", tiny_gpt2)
    calls, whole = [], made._tokenise
    made.__dict__["_tokenise"] = lambda given: calls.append(len(given)) or whole(given)
    made.ids(["。".join(["我們喜歡麵包和湯" * 3] * 10)] * 50)
    assert calls == [50]


def test_texts_keep_their_order_whatever_is_tokenised_together(reader, tiny_gpt2):
    made = reader("text-classification", tiny_gpt2)
    given = ["bread", "z" * 300, "", "the old song", "." * 200, "a"]
    found = made.ids(given)
    assert [row.tolist() for row in found.rows()] == [made.ids([t])[0].tolist() for t in given]


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.jsonl", "d/food/long.txt"])
def test_a_megabyte_of_text_is_read(tmp_path, name):
    text = "bread soup with cheese and the old piano " * 25_000
    path = tmp_path / name
    if name.endswith("jsonl"):
        records(path, [{"text": text, "label": "food"}])
    elif name.endswith("txt"):
        path = write(path, text).parent.parent
    else:
        mark = "\t" if "tsv" in name else ","
        write(path, f"text{mark}label\n{text}{mark}food\n")
    found = read(path)
    assert found.inputs[0][0].strip() == text.strip() and found.labels == ["food"]


def test_a_vocabulary_that_does_not_match_the_weights_is_refused(tmp_path, tiny_bert, configured):
    import keras_hub

    preset = shutil.copytree(tiny_bert, tmp_path / "preset")
    old = keras_hub.tokenizers.BertTokenizer.from_preset(str(preset))
    words = [*old.get_vocabulary(), "further", "words"]
    keras_hub.tokenizers.BertTokenizer(vocabulary=words, lowercase=True).save_to_preset(str(preset))
    said = rf"{len(words)} ids, the network {len(words) - 2} embeddings: they do not belong together"
    with pytest.raises(errors.ModelError, match=said):
        tlkeras.train(configured(preset=preset), tmp_path / "run", quiet=True)


def test_copies_of_a_text_stay_in_one_split(tmp_path):
    forms = ["Bread  SOUP {}", "bread soup {}", "BREAD\u00a0soup\t{} ", "\n bread\nsoup {}", "other {}"]
    rows = [{"text": f.format(i), "label": "xy"[i % 2]} for i in range(30) for f in forms]
    held = collected(records(tmp_path / "t.jsonl", rows))
    where: dict[str, set] = {}
    for (text,), split in zip(held.inputs, held.splits, strict=True):
        where.setdefault(" ".join(text.lower().split()), set()).add(split)
    assert len(where) == 60 and all(len(s) == 1 for s in where.values())
    assert {s for found in where.values() for s in found} == {"train", "val", "test"}


def test_copies_of_a_pair_stay_in_one_split_and_halves_do_not_bind(tmp_path):
    rows = [{"a": f"{x} {i}", "b": "the same", "label": "xy"[i % 2]} for i in range(30) for x in ("Soup", "soup")]
    held = collected(records(tmp_path / "t.jsonl", rows), text=["a", "b"])
    pairs = list(zip(held.splits[::2], held.splits[1::2], strict=True))
    assert all(a == b for a, b in pairs) and len({a for a, _ in pairs}) == 3


def test_reading_texts_imports_no_framework(tmp_path):
    import subprocess

    path = as_csv(tmp_path / "t.csv")
    code = (
        "import sys; from tlkeras.config import Data; from tlkeras.data import sources; from tlkeras import tasks\n"
        f"found = sources.read(Data(path={str(path)!r}), texts=tasks.wanted('text-classification'))\n"
        "print(len(found), {'tensorflow', 'keras', 'keras_hub'} & set(sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split() == ["3", "set()"]
