"""What the tests share: small real data and a small real backbone, made on the spot."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pytest
from PIL import Image

COLOURS = {"blue": (40, 60, 200), "green": (50, 170, 60), "red": (210, 50, 40)}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    """Nothing that a test scans or unpacks reaches the user's cache."""
    monkeypatch.setenv("TLKERAS_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def draw(colour, seed: int, size: int = 40) -> Image.Image:
    """A noisy picture of one colour; another seed gives other bytes."""
    rng = np.random.default_rng(seed)
    pixels = np.array(colour) + rng.normal(0, 30, (size, size, 3)) + 40 * rng.random((1, size, 1))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def write_classes(root, each: int = 12, names=tuple(COLOURS)):
    """root/COLOUR/N.png, `each` pictures a class."""
    for c, name in enumerate(names):
        (root / name).mkdir(parents=True)
        for i in range(each):
            draw(COLOURS[name], 1000 * c + i).save(root / name / f"{i}.png")
    return root


@pytest.fixture(scope="session")
def colours(tmp_path_factory):
    """A folder of three classes, twelve pictures each."""
    return write_classes(tmp_path_factory.mktemp("data") / "colours")


@pytest.fixture(scope="session")
def tiny_backbone(tmp_path_factory):
    """A keras-hub preset directory: a ResNet of four convolutions with BatchNorm, random weights, 32x32."""
    import keras
    import keras_hub

    keras.utils.set_random_seed(7)
    folder = tmp_path_factory.mktemp("preset") / "tiny_resnet"
    backbone = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[3],
        stackwise_num_filters=[64, 64],
        stackwise_num_blocks=[1, 1],
        stackwise_num_strides=[1, 2],
        block_type="basic_block",
        image_shape=(32, 32, 3),
    )
    for layer in backbone.layers:
        # Statistics of their own, so that a BatchNorm that starts to move shows.
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_mean.assign(np.random.default_rng(1).normal(0, 0.2, layer.moving_mean.shape))
    backbone.save_to_preset(str(folder))
    keras_hub.layers.ResNetImageConverter(image_size=(32, 32), scale=1 / 127.5, offset=-1.0).save_to_preset(str(folder))
    return folder


@pytest.fixture
def write_config(tmp_path, colours, tiny_backbone):
    """Returns `f(**sections) -> path` of a config that trains in seconds; a section given replaces that one."""
    import yaml

    def write(name="config.yaml", **sections):
        given = {
            "task": "image-classification",
            "data": {"path": str(colours), "val": 0.25, "test": 0.25},
            "backbone": {"name": str(tiny_backbone)},
            "train": {"batch": 8, "phases": [{"name": "head", "train": "head", "epochs": 2, "learning_rate": 0.01}]},
            **sections,
        }
        path = tmp_path / name
        path.write_text(yaml.safe_dump({k: v for k, v in given.items() if v is not None}))
        return path

    return write


WORDS = {
    "food": ["bread", "soup", "cheese", "apple", "dinner", "cook", "oven", "salt"],
    "music": ["piano", "violin", "song", "choir", "drum", "melody", "concert", "note"],
    "sport": ["ball", "goal", "team", "match", "runner", "race", "coach", "medal"],
}
COMMON = [
    "the",
    "a",
    "with",
    "and",
    "of",
    "we",
    "they",
    "like",
    "see",
    "play",
    "have",
    "new",
    "old",
    "big",
    "small",
    "in",
    "on",
    "my",
    "your",
]


def sentence(topic: str, seed: int) -> str:
    """Four to fifteen words, some of them of the topic."""
    rng = np.random.default_rng(seed)
    words = [str(rng.choice(COMMON)) for _ in range(int(rng.integers(2, 12)))] + [
        str(w) for w in rng.choice(WORDS[topic], 2, replace=False)
    ]
    return " ".join(rng.permutation(words))


@pytest.fixture(scope="session")
def topics(tmp_path_factory):
    """A CSV table of text, topic and number of words: three topics, forty sentences each."""
    import csv

    path = tmp_path_factory.mktemp("texts") / "topics.csv"
    with path.open("w", encoding="utf8", newline="") as f:
        rows = csv.writer(f, lineterminator="\n")
        rows.writerow(["text", "label", "words"])
        for c, topic in enumerate(WORDS):
            for i in range(40):
                text = sentence(topic, 1000 * c + i)
                rows.writerow([text, topic, len(text.split())])
    return path


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory):
    """A Keras preset of a BERT of two layers, with a tokenizer of whole words and letters."""
    import keras
    import keras_hub

    keras.utils.set_random_seed(0)
    pieces = [*COMMON, *(w for words in WORDS.values() for w in words)]
    letters = list("abcdefghijklmnopqrstuvwxyz0123456789.,?!'")
    vocabulary = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *dict.fromkeys([*pieces, *letters]),
        *(f"##{c}" for c in letters),
    ]
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=len(vocabulary),
        num_layers=2,
        num_heads=2,
        hidden_dim=32,
        intermediate_dim=64,
        max_sequence_length=48,
        dropout=0.1,
    )
    folder = tmp_path_factory.mktemp("preset") / "tiny_bert"
    backbone.save_to_preset(str(folder))
    keras_hub.tokenizers.BertTokenizer(vocabulary=vocabulary, lowercase=True).save_to_preset(str(folder))
    return folder


def byte_pairs(lines, size: int = 300) -> tuple[dict, list[str]]:
    """A byte-level BPE vocabulary and its merges, learnt from lines."""
    import json

    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<pad>", "<|endoftext|>", "<s>", "</s>", "<mask>", "<unk>"]
    learner.train_from_iterator(
        lines, trainers.BpeTrainer(vocab_size=size, special_tokens=special, initial_alphabet=alphabet)
    )
    model = json.loads(learner.to_str())["model"]
    return model["vocab"], [" ".join(m) if isinstance(m, list) else m for m in model["merges"]]


def write_preset(folder, name: str):
    """A Keras preset of a small network of keras-hub, with byte pairs learnt from the topics."""
    import keras
    import keras_hub

    keras.utils.set_random_seed(0)
    vocabulary, merges = byte_pairs([sentence(t, i) for t in WORDS for i in range(50)])
    sizes = {"num_layers": 2, "num_heads": 2, "hidden_dim": 32, "intermediate_dim": 64, "max_sequence_length": 64}
    backbone = getattr(keras_hub.models, f"{name}Backbone")(vocabulary_size=len(vocabulary), dropout=0.0, **sizes)
    backbone.save_to_preset(str(folder))
    tokenizer = getattr(keras_hub.tokenizers, f"{name}Tokenizer")
    tokenizer(vocabulary=vocabulary, merges=merges).save_to_preset(str(folder))
    return folder


@pytest.fixture(scope="session")
def tiny_gpt2(tmp_path_factory):
    """A Keras preset of a GPT-2 of two layers."""
    return write_preset(tmp_path_factory.mktemp("preset") / "tiny_gpt2", "GPT2")


@pytest.fixture(scope="session")
def tiny_bart(tmp_path_factory):
    """A Keras preset of a BART of two layers a side."""
    return write_preset(tmp_path_factory.mktemp("preset") / "tiny_bart", "Bart")


def losses(run) -> dict[str, list[float]]:
    """The losses of every epoch of a run."""
    lines = run.history.read_text().splitlines()
    rows = [dict(zip(lines[0].split(","), x.split(","), strict=True)) for x in lines[1:]]
    return {k: [float(r[k]) for r in rows] for k in ("loss", "val_loss")}


def weights_of(run) -> list:
    """All weights of a finished run."""
    from tlkeras.evaluation import open_trained

    return [v.numpy() for v in open_trained(run.folder).network.model.weights]


TEXT_HEAD = {"name": "head", "train": "head", "epochs": 2, "learning_rate": 0.01, "optimizer": "sgd"}


def write(path, text):
    """Writes text or bytes to a path, folders and all; returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def records(path, rows):
    """A JSON Lines table."""
    import json

    return write(path, "".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def configured(tmp_path, topics, tiny_bert):
    """Returns `f(name, **sections) -> path` of a config on text; a section given replaces the usual one."""

    import yaml

    def config(name="config", preset=tiny_bert, **sections):
        given = {
            "task": "text-classification",
            "data": {"path": str(topics)},
            "backbone": {"name": str(preset), "weights": "preset"},
            "train": {"batch": 16, "phases": [TEXT_HEAD]},
            **sections,
        }
        return write(tmp_path / f"{name}.yaml", yaml.safe_dump(given))

    return config


@pytest.fixture
def reader(configured):
    """Returns `f(task, preset, **backbone)`: how the texts of a task become the rows of a network."""

    from tlkeras import configure, network

    def make(task, preset, **backbone):
        name = str(preset)
        path = configured(task=task, backbone={"name": name, "weights": "preset", **backbone})
        answer = {"classes": ["a", "b"], "multi_label": False, "threshold": 0.5}
        return network.build(configure.load(path)[0], answer).reader

    return make
