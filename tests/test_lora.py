"""LoRA: adapters learn and nothing else does; merged they are a network like any other.

pytest tests/test_lora.py
"""

import shutil

import numpy as np
import pytest
import yaml

import tlkeras
from tlkeras import configure, errors, lora, network, plans
from tlkeras.config import Phase
from tlkeras.run import read_json

ANSWER = {"classes": ["food", "music", "sport"], "multi_label": False, "threshold": 0.5}
ALL = {"name": "all", "train": "all", "epochs": 2, "learning_rate": 0.01}
DEFAULT = 4  # query and value of two layers
SIZE = 32 * 2 * 2 + 2 * 16  # of one adapter of rank 2: (width, heads, rank) and (rank, width of a head)


@pytest.fixture(autouse=True)
def _own_store(tmp_path, monkeypatch):
    monkeypatch.setenv("TLKERAS_CACHE", str(tmp_path / "cache"))


def write_config(folder, topics, preset, options, phases=(ALL,), name="config", **sections):
    config = {
        "task": "text-classification",
        "data": {"path": str(topics)},
        "backbone": {"name": str(preset), "weights": "preset", "lora": options},
        "train": {"batch": 16, "phases": list(phases)},
        **sections,
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.fixture
def build(tmp_path, topics):
    """Returns `f(preset, seed, **options of LoRA)`: the network that training begins with; without options, the plain
    one."""
    import keras

    def make(preset, seed=0, **options):
        keras.utils.set_random_seed(seed)
        path = write_config(tmp_path, topics, preset, options or None)
        return network.build(configure.load(path)[0], ANSWER)

    return make


def adapted(net) -> list:
    return [x for x in net.model._flatten_layers() if getattr(x, "lora_enabled", False)]


def filled(net, seed=5):
    """The network, its adapters as if they had learnt something, its head too."""
    rng = np.random.default_rng(seed)
    for layer in adapted(net):
        for kernel in (layer.lora_kernel_a, layer.lora_kernel_b):
            kernel.assign(rng.normal(0, 0.3, kernel.shape))
    head = net.model.get_layer("head_logits")
    head.set_weights([rng.normal(0, 1, w.shape) for w in head.get_weights()])
    return net


def tokens(net, seed=0):
    """Four rows of random tokens, the last ones padding."""
    rng = np.random.default_rng(seed)
    real = np.arange(10) < np.array([[10], [7], [4], [10]])
    ids = np.where(real, rng.integers(5, net.input.vocabulary, (4, 10)), 0)
    every = {"token_ids": ids, "padding_mask": real, "segment_ids": ids * 0}
    return {name: every[name].astype("int32") for name in net.model.input}


def outputs(net, training=False):
    return np.array(net.model(tokens(net), training=training))


PRESETS = pytest.mark.parametrize("preset", ["tiny_bert", "tiny_gpt2"])


@pytest.fixture(scope="module")
def trained(tmp_path_factory, topics, tiny_bert):
    """A run of two epochs of everything with adapters, its config, and its final weights as they were while training."""
    from tlkeras import fitting

    folder = tmp_path_factory.mktemp("lora")
    path = write_config(folder, topics, tiny_bert, {"rank": 2, "alpha": 4.0})
    kept: dict[str, np.ndarray] = {}
    whole = fitting.Fitting.all

    def keeping(self, *args):
        whole(self, *args)
        kept.update({v.path: v.numpy() for v in self.net.model.weights})

    with pytest.MonkeyPatch.context() as m:
        m.setattr(fitting.Fitting, "all", keeping)
        m.setenv("TLKERAS_CACHE", str(folder / "cache"))
        run = tlkeras.train(path, folder / "run", quiet=True)
    return run, path, kept


# --- What moves


def test_only_adapters_and_the_head_move(trained, tiny_bert, build):
    """The embeddings, which get no adapters, stand still too: `all` are blocks that learn by adapters alone."""
    run, _, now = trained
    rows = {r["block"]: (r["trained"], r["moved"]) for r in read_json(run.audit)["rows"]}
    assert rows == {"embeddings": (True, 0), "layer0": (True, 4), "layer1": (True, 4), "head": (True, 2)}
    before = {v.path: v.numpy() for v in build(tiny_bert, rank=2, alpha=4.0).model.weights}
    assert before.keys() == now.keys()
    moved = {path for path in now if (before[path] != now[path]).any()}
    assert all("lora_kernel" in path or path.startswith("head_") for path in moved)
    assert len(moved) == 2 * DEFAULT + 2


def test_the_plan_counts_what_adapters_train(trained):
    rows = {r["block"]: r for r in tlkeras.plan(trained[1])}
    assert rows["layer0"]["trainable"] == 2 * SIZE < rows["layer0"]["parameters"] / 20
    assert rows["embeddings"]["trainable"] == 0 and rows["head"]["trainable"] == 3 * 32 + 3


def test_a_trained_block_that_is_given_no_adapters_moves_as_a_whole(build, tiny_bert):
    net = build(tiny_bert, rank=2, blocks=["layer1"])
    (plan,) = plans.make([Phase.model_validate(ALL)], list(net.blocks), "tiny")
    plans.apply(net, plan)
    moving = {b: [v for x in layers for v in x.trainable_weights] for b, layers in net.blocks.items()}
    assert len(moving["layer1"]) == DEFAULT and len(moving["layer0"]) == len(net.variables("layer0"))
    frozen = Phase.model_validate({**ALL, "train": "head"})
    plans.apply(net, plans.make([frozen], list(net.blocks), "tiny")[0])
    assert [v.path for v in net.model.trainable_weights] == ["head_logits/kernel", "head_logits/bias"]


@pytest.mark.parametrize(
    "options, said",
    [
        ({"layers": ["qurey"]}, r"no layer of embeddings, layer0, layer1 is called qurey. Did you mean query\? There are: .*feed"),
        ({"blocks": ["layer7"]}, r"backbone.lora.blocks: .*layer7.* Did you mean layer\d\? There are: embeddings layer0 layer1"),
        ({"blocks": ["layer1", "layer7"]}, "backbone.lora.blocks: .*layer7"),
        ({"blocks": ["head"]}, "backbone.lora.blocks"),
        ({"blocks": ["embeddings"]}, "no layer of embeddings is called"),
    ],
    ids=["layers", "blocks", "one of two blocks", "head", "block without"],
)  # fmt: skip
def test_names_that_match_nothing_are_refused(build, tiny_bert, options, said):
    with pytest.raises(errors.PlanError, match=said):
        build(tiny_bert, rank=2, **options)


def test_a_backbone_without_dense_layers_is_refused(tmp_path, colours, tiny_backbone):
    options, data = {"rank": 2, "layers": "*"}, {"path": str(colours)}
    path = write_config(tmp_path, "", tiny_backbone, options, task="image-classification", data=data)
    with pytest.raises(errors.PlanError, match="backbone.lora.layers"):
        network.build(configure.load(path)[0], ANSWER)


# --- What a network with adapters computes


@PRESETS
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_before_training_it_is_the_network_without(build, preset, dropout, request):
    preset = request.getfixturevalue(preset)
    plain = build(preset)
    net = build(preset, rank=4, dropout=dropout)
    net.model.get_layer("head_logits").set_weights(plain.model.get_layer("head_logits").get_weights())
    assert len(adapted(net)) == DEFAULT and not adapted(plain)
    np.testing.assert_allclose(outputs(net), outputs(plain), rtol=1e-6, atol=1e-6)


def test_both_kinds_of_dense_layers_are_adapted(build, tiny_bert):
    import keras

    net = build(tiny_bert, rank=3, layers="*")
    kinds = {
        kind: [x for x in adapted(net) if isinstance(x, getattr(keras.layers, kind))]
        for kind in ("Dense", "EinsumDense")
    }
    assert {kind: len(found) for kind, found in kinds.items()} == {"Dense": 4, "EinsumDense": 8}
    for layer in adapted(net):
        assert layer.lora_kernel_a.shape[-1] == layer.lora_kernel_b.shape[0] == 3
    every = lora.adapters(net.blocks)
    assert len(every) == 24 and all("lora_kernel" in name for name in every)


@PRESETS
@pytest.mark.parametrize("layers", [["query", "value"], ["*"], ["feedforward_*"]], ids=["attention", "all", "dense"])
def test_merged_it_computes_what_it_computed(build, preset, layers, request):
    preset = request.getfixturevalue(preset)
    options = {"rank": 2, "alpha": 6.0, "layers": layers}
    net, fresh, plain = filled(build(preset, **options)), outputs(build(preset, **options)), build(preset)
    lora.merge(net.model, plain.model)
    assert np.abs(outputs(net) - fresh).max() > 0.1
    np.testing.assert_allclose(outputs(plain), outputs(net), rtol=1e-5, atol=1e-5)


@PRESETS
def test_dropout_is_for_training_alone(build, preset, request):
    preset = request.getfixturevalue(preset)
    plain = filled(build(preset, rank=2, layers="*"))
    net = filled(build(preset, rank=2, layers="*", dropout=0.5))
    np.testing.assert_array_equal(outputs(net), outputs(plain))
    drawn = [outputs(net, training=True) for _ in range(2)]
    assert np.abs(drawn[0] - drawn[1]).max() > 1e-3 and np.abs(drawn[0] - outputs(net)).max() > 1e-3
    np.testing.assert_array_equal(outputs(net), outputs(plain))


def still(net):
    """The network without the dropout of its own, in the head and elsewhere."""
    import keras

    for layer in net.model._flatten_layers():
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    return net


def test_dropout_of_next_to_nothing_computes_what_none_does(build, tiny_gpt2):
    """The way of training is another one than that of inference, for Dense and EinsumDense."""
    net = still(filled(build(tiny_gpt2, rank=2, alpha=6.0, layers="*", dropout=1e-9)))
    np.testing.assert_allclose(outputs(net, training=True), outputs(net), rtol=1e-5, atol=1e-5)


def test_dropout_leaves_what_the_kernel_sees_alone(build, tiny_gpt2):
    net = still(build(tiny_gpt2, rank=2, layers="*", dropout=0.9))
    np.testing.assert_allclose(outputs(net, training=True), outputs(net), rtol=1e-5, atol=1e-5)


def test_what_is_dropped_follows_the_seed_and_differs_from_layer_to_layer(build, tiny_gpt2):
    def drawn(seed):
        return outputs(still(filled(build(tiny_gpt2, seed, rank=2, dropout=0.5))), training=True)

    np.testing.assert_array_equal(drawn(0), drawn(0))
    assert np.abs(drawn(0) - drawn(1)).max() > 1e-3
    net = build(tiny_gpt2, rank=2, dropout=0.5)
    x, rng = np.ones((1, 1, 32), np.float32), np.random.default_rng(0)
    query, value = adapted(net)[:2]
    for kernel in ("lora_kernel_a", "lora_kernel_b"):
        same = rng.normal(size=getattr(query, kernel).shape)
        getattr(query, kernel).assign(same), getattr(value, kernel).assign(same)
    query, value = (np.array(layer(x, training=True) - layer(x, training=False)) for layer in (query, value))
    assert np.abs(query - value).max() > 1e-3


# --- What is left of a run


def test_the_model_of_a_run_is_what_was_trained(trained, tiny_bert, build):
    run, _, now = trained
    net = build(tiny_bert, rank=2, alpha=4.0)
    for v in net.model.weights:
        v.assign(now[v.path])
    from tlkeras.evaluation import open_trained

    opened = open_trained(run.folder)
    assert not adapted(opened.network)
    np.testing.assert_allclose(outputs(opened.network), outputs(net), rtol=1e-5, atol=1e-5)
    # Evaluating goes by the same network.
    found = tlkeras.evaluate(run.folder, quiet=True)
    import pyarrow.parquet

    scores = np.stack(pyarrow.parquet.read_table(run.predictions("test"))["scores"].to_pylist())
    ids = pyarrow.parquet.read_table(run.predictions("test"))["id"].to_pylist()
    from tlkeras import data
    from tlkeras.data import texts

    held = data.reopen(run)
    rows = held.rows("test")
    assert [held.ids[i] for i in rows] == ids and found["n"] == len(ids)
    x, _, _ = texts.reading(held.table(rows, reader=net.reader), net.input)(np.arange(len(rows)))
    raw = np.array(net.model(x, training=False))
    odds = np.exp(raw - raw.max(1, keepdims=True))
    np.testing.assert_allclose(scores, odds / odds.sum(1, keepdims=True), rtol=1e-4, atol=1e-5)


def test_the_file_of_adapters_is_all_that_differs_from_the_preset(trained, tiny_bert, build):
    from safetensors.numpy import load_file

    run, _, now = trained
    found = load_file(run.adapters)
    assert len(found) == 2 * DEFAULT and all((found[k] == now[k]).all() for k in found)
    assert sum(a.size for a in found.values()) == DEFAULT * SIZE
    assert run.adapters.stat().st_size < run.model.stat().st_size / 20
    net = build(tiny_bert, rank=2, alpha=4.0)
    for v in net.model.weights:
        if v.path in found or v.path.startswith("head_"):
            v.assign(found.get(v.path, now[v.path]))
    from tlkeras.evaluation import open_trained

    np.testing.assert_allclose(outputs(net), outputs(open_trained(run.folder).network), rtol=1e-5, atol=1e-5)


def test_the_model_file_opens_in_plain_keras(trained):
    import keras
    import keras_hub  # noqa: F401  its layers register themselves

    from tlkeras.evaluation import open_trained

    net = open_trained(trained[0].folder).network
    model = keras.models.load_model(trained[0].model)
    np.testing.assert_allclose(model(tokens(net), training=False), outputs(net), rtol=1e-5, atol=1e-5)


def weights(run) -> list[np.ndarray]:
    from tlkeras.evaluation import open_trained

    return [v.numpy() for v in open_trained(run.folder).network.model.weights]


def test_a_resumed_run_ends_with_the_weights_of_one_that_was_not_interrupted(tmp_path, topics, tiny_bert):
    """With dropout of the adapters, whose state must be kept too."""
    path = write_config(tmp_path, topics, tiny_bert, {"rank": 2, "dropout": 0.5})
    run = tlkeras.train(path, tmp_path / "run", quiet=True)
    whole, adapters = weights(run), run.adapters.read_bytes()
    run.model.unlink(), run.adapters.unlink()
    shutil.rmtree(sorted(run.checkpoints.glob("phase-1-epoch-*"))[-1])
    tlkeras.train(run.folder, resume=True, quiet=True)
    assert all((a == b).all() for a, b in zip(whole, weights(run), strict=True))
    assert run.adapters.read_bytes() == adapters


def test_mixed_precision_merges_in_float32(tmp_path, topics, tiny_bert, build):
    from safetensors.numpy import load_file

    from tlkeras.evaluation import open_trained

    path = write_config(tmp_path, topics, tiny_bert, {"rank": 2, "alpha": 6.0}, [{**ALL, "epochs": 1}])
    run = tlkeras.train(path, tmp_path / "run", ["train.precision=mixed_bfloat16"], quiet=True)
    found, before = load_file(run.adapters), {v.path: v.numpy() for v in build(tiny_bert).model.weights}
    after = {v.path: v.numpy() for v in open_trained(run.folder, precision="float32").network.model.weights}
    for path in (p.removesuffix("lora_kernel_a") for p in found if p.endswith("_a")):
        want = before[f"{path}kernel"] + 3.0 * found[f"{path}lora_kernel_a"] @ found[f"{path}lora_kernel_b"]
        np.testing.assert_allclose(after[f"{path}kernel"], want, rtol=1e-6, atol=1e-7)


def test_a_run_with_adapters_is_a_backbone_with_them_merged(trained, tmp_path, topics):
    """Without LoRA, and with new adapters."""
    run = trained[0]
    from tlkeras.evaluation import open_trained

    merged = {v.path: v.numpy() for v in open_trained(run.folder).network.base.weights if "pooled" not in v.path}
    for name, options in (("plain", None), ("again", {"rank": 3})):
        backbone = {"name": str(run.folder)} | ({"lora": options} if options else {})
        path = write_config(tmp_path, topics, "", None, name=name, backbone=backbone)
        net = network.build(configure.load(path)[0], ANSWER)
        assert len(adapted(net)) == (DEFAULT if options else 0)
        found = {v.path: v.numpy() for v in net.base.weights}
        assert all((found[path] == value).all() for path, value in merged.items())
    next_ = tlkeras.train(path, tmp_path / "next", ["train.phases.0.epochs=1"], quiet=True)
    assert 0 <= tlkeras.evaluate(next_.folder, quiet=True)["metrics"]["accuracy"] <= 1


def test_what_is_kept_below_trained_adapters_is_stored(trained, tmp_path, topics, tiny_bert):
    """Adapters of the last layer leave what lies below it as it is."""
    phase = {**ALL, "train": ["head", "layer1"], "optimizer": "sgd"}
    path = write_config(tmp_path, topics, tiny_bert, {"rank": 2, "blocks": "layer1"}, [phase])
    runs = [tlkeras.train(path, tmp_path / way, [f"prefix.store={way}"], quiet=True) for way in ("on", "off")]
    assert [read_json(r.plan)["prefix"]["all"]["stored"] for r in runs] == [True, False]
    for a, b in zip(*map(weights, runs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
