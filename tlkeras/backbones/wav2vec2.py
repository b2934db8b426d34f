"""wav2vec 2.0 (Baevski et al. 2020, arXiv:2006.11477), HuBERT (Hsu et al. 2021, arXiv:2106.07447), whose network is the same,
and WavLM (Chen et al. 2021, arXiv:2110.13900), whose attention knows by a gate how far frames are apart.

Samples at 16 kHz, each sound to zero mean and unit variance, through seven convolutions (a frame every 20 ms) and a
transformer whose positions come from a grouped convolution. The layout of weights is that of Hugging Face transformers.

What a sound gives does not depend on what it is padded with: frames behind it are masked everywhere, also where
transformers, for checkpoints whose first convolution is normalised over time, lets padding in.
"""

import math
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

from tlkeras.backbones import Backbone, Sound, Source, directories
from tlkeras.errors import ModelError, listed

RATE, STEP = 16000, 320
KINDS = {
    "wav2vec2": "wav2vec2",
    "hubert": "hubert",
    "wavlm": "wavlm",
}  # model_type: beginning of the names of its weights
# Heads, and what pretraining leaves behind.
DROPPED = (
    "lm_head.",
    "projector.",
    "classifier.",
    "quantizer.",
    "project_q.",
    "project_hid.",
    "layer_weights",
    "masked_spec_embed",
)


@dataclass(frozen=True)
class Sizes:
    """The sizes of a network. `layered`: layer normalisation behind every convolution, which then have biases, else
    group normalisation behind the first; `stable`: normalisation before attention and feed-forward, else behind."""

    hidden: int = 768
    depth: int = 12
    heads: int = 12
    inner: int = 3072
    layered: bool = False
    stable: bool = False
    bias: bool = False
    channels: tuple[int, ...] = (512,) * 7
    kernels: tuple[int, ...] = (10, 3, 3, 3, 3, 2, 2)
    strides: tuple[int, ...] = (5, 2, 2, 2, 2, 2, 2)
    reach: int = 128  # frames of the convolution that gives positions
    groups: int = 16
    epsilon: float = 1e-5
    normed: bool = True  # layer normalisation before the projection
    buckets: int = 0  # of distances between frames that attention knows, WavLM's; 0: none
    distance: int = 800  # frames from which on all are the same to it


LARGE = {"hidden": 1024, "depth": 24, "heads": 16, "inner": 4096}
ROBUST = {**LARGE, "layered": True, "stable": True, "bias": True}
# Name: sizes, where the weights are, parameters, what it is.
KNOWN = {
    "wav2vec2_base": (Sizes(), "hf://facebook/wav2vec2-base", 94_370_816, "960 hours of English, without transcripts."),
    "wav2vec2_large": (
        Sizes(**LARGE),
        "hf://facebook/wav2vec2-large",
        315_427_840,
        "960 hours of English, without transcripts.",
    ),
    "wav2vec2_xlsr_53": (
        Sizes(**ROBUST),
        "hf://facebook/wav2vec2-large-xlsr-53",
        315_437_568,
        "56,000 hours of 53 languages, without transcripts.",
    ),
    "hubert_base": (
        Sizes(),
        "hf://facebook/hubert-base-ls960",
        94_370_816,
        "960 hours of English, without transcripts.",
    ),
}


KNOWN |= {
    "wavlm_base_plus": (
        Sizes(buckets=320),
        "hf://microsoft/wavlm-base-plus",
        94_381_040,
        "94,000 hours of English, noisy and overlapping too, without transcripts.",
    ),
    "wavlm_large": (
        Sizes(**{**ROBUST, "bias": False}, buckets=320),
        "hf://microsoft/wavlm-large",
        315_451_968,
        "94,000 hours of English, noisy and overlapping too, without transcripts.",
    ),
}


def entries() -> tuple[Backbone, ...]:
    return tuple(
        entry(
            name,
            sizes,
            Source(where, "CC-BY-SA-3.0" if name.startswith("wavlm") else "Apache-2.0"),
            parameters,
            f"Learnt from {about}",
        )
        for name, (sizes, where, parameters, about) in KNOWN.items()
    )


def entry(
    name: str,
    sizes: Sizes,
    source: Source | None,
    parameters: int | None = None,
    description: str = "",
    key="pretrained",
) -> Backbone:
    """The catalogue entry of a network of these sizes."""
    return Backbone(
        name=name,
        family="wav2vec2",
        build=partial(build, sizes),
        blocks=(
            ("features", "conv6_gelu"),
            ("positions", "positions_norm" if not sizes.stable else "positions_add"),
            *((f"encoder{i + 1}", f"encoder{i + 1}_out") for i in range(sizes.depth - 1)),
            ("top", ""),
        ),
        pixels=None,
        kind="audio",
        sound=Sound(RATE, RATE * 20, step=math.prod(sizes.strides)),
        frames=partial(frames, sizes),
        sources={key: source} if source else {},
        parameters=parameters,
        sizes=asdict(sizes),
        description=description,
    )


def recorded(name: str, sizes: dict, weights: str | None, licence: str) -> Backbone:
    """The entry of a run that was trained from a directory, which need not be there any more."""
    made = Sizes(**{k: tuple(v) if isinstance(v, list) else v for k, v in sizes.items()})
    return entry(name, made, Source("", licence) if weights else None, key=weights or "pretrained")


def from_directory(folder: Path) -> Backbone | None:
    """The entry of a Hugging Face directory of such a network; None where it holds another model.

    Raises:
        ModelError: when its config asks for what is not built here.
    """
    if (config := directories.config_of(folder, lambda c: c.get("model_type") in KINDS)) is None:
        return None
    return entry(folder.name, sizes_of(config, folder), Source(str(folder), "unknown"), key="preset")


def sizes_of(config: dict, folder) -> Sizes:
    """The sizes that a transformers config names; what it leaves out is as transformers has it.

    Raises:
        ModelError: with everything that this network cannot be given.
    """
    usual = Sizes()
    wanted = {
        "hidden_act": ("gelu",), "feat_extract_activation": ("gelu",), "add_adapter": (False,), "adapter_attn_dim": (None,),
        "feat_extract_norm": ("group", "layer"), "conv_pos_batch_norm": (False,), "quantization_config": (None,),
    }  # fmt: skip
    bad = [
        f"{k} must be {' or '.join(map(str, w))}; it is {config[k]!r}"
        for k, w in wanted.items()
        if k in config and config[k] not in w
    ]
    try:
        found = Sizes(
            hidden=int(config.get("hidden_size", usual.hidden)),
            depth=int(config.get("num_hidden_layers", usual.depth)),
            heads=int(config.get("num_attention_heads", usual.heads)),
            inner=int(config.get("intermediate_size", usual.inner)),
            layered=config.get("feat_extract_norm", "group") == "layer",
            stable=bool(config.get("do_stable_layer_norm", False)),
            bias=bool(config.get("conv_bias", False)),
            channels=tuple(map(int, config.get("conv_dim", usual.channels))),
            kernels=tuple(map(int, config.get("conv_kernel", usual.kernels))),
            strides=tuple(map(int, config.get("conv_stride", usual.strides))),
            reach=int(config.get("num_conv_pos_embeddings", usual.reach)),
            groups=int(config.get("num_conv_pos_embedding_groups", usual.groups)),
            epsilon=float(config.get("layer_norm_eps", usual.epsilon)),
            normed=bool(config.get("feat_proj_layer_norm", True)),
            buckets=int(config.get("num_buckets", 320)) if config.get("model_type") == "wavlm" else 0,
            distance=int(config.get("max_bucket_distance", usual.distance)),
        )
    except (TypeError, ValueError) as e:
        raise ModelError(f"{folder}/config.json: a size that is no number: {e}") from e
    if not len(found.channels) == len(found.kernels) == len(found.strides) == 7:
        bad.append("conv_dim, conv_kernel and conv_stride must name seven convolutions")
    if not 0 < found.depth <= 200 or found.hidden % max(found.heads, 1) or found.hidden % max(found.groups, 1):
        bad.append(
            f"{found.depth} layers of {found.hidden} with {found.heads} heads and {found.groups} groups do not go together"
        )
    if bad:
        raise ModelError(listed(f"{folder} asks for what is not built here", bad))
    return found


def frames(sizes: Sizes, count):
    """Frames that the convolutions make of so many samples."""
    for kernel, stride in zip(sizes.kernels, sizes.strides, strict=True):
        count = (count - kernel) // stride + 1
    return count


def build(sizes: Sizes, size=None, weights=None):
    """Samples float32 (B, n) and count int32 (B,) to features (B, f, hidden)."""
    import keras
    from keras import layers

    from tlkeras.backbones import wav2vec2_layers as own

    samples = keras.Input((None,), name="samples", dtype="float32")
    count = keras.Input((), name="count", dtype="int32")
    x = own.Evened(name="evened")(samples, count)
    for n, (c, k, s) in enumerate(zip(sizes.channels, sizes.kernels, sizes.strides, strict=True)):
        x = layers.Conv1D(c, k, s, use_bias=sizes.bias, name=f"conv{n}")(x)
        if sizes.layered:
            x = layers.LayerNormalization(epsilon=1e-5, name=f"conv{n}_norm")(x)
        elif n == 0:
            x = own.TimeNorm([sizes.kernels[0], sizes.strides[0]], name="conv0_norm")(x, count)
        x = layers.Activation("gelu", name=f"conv{n}_gelu")(x)
    heard = own.Heard([list(sizes.kernels), list(sizes.strides)], name="heard")(x, count)
    if sizes.normed:
        x = layers.LayerNormalization(epsilon=sizes.epsilon, name="projection_norm")(x)
    x = layers.Dense(sizes.hidden, name="projection")(x)
    x = layers.Dropout(0.1, name="projection_dropout")(x)
    x = own.Silenced(name="silenced")(x, heard)
    x = layers.Add(name="positions_add")([x, own.Positions(sizes.reach, sizes.groups, name="positions")(x)])
    if not sizes.stable:
        x = layers.LayerNormalization(epsilon=sizes.epsilon, name="positions_norm")(x)
    given = (heard,)
    if sizes.buckets:
        given = (heard, own.Relative(sizes.heads, sizes.buckets, sizes.distance, name="apart")(x))
    for n in range(1, sizes.depth + 1):
        settings = (sizes.heads, sizes.inner, sizes.epsilon, sizes.stable, bool(sizes.buckets))
        x = own.Encoder(*settings, name=f"encoder{n}_out")(x, *given)
    if sizes.stable:
        x = layers.LayerNormalization(epsilon=sizes.epsilon, name="top_norm")(x)
    return keras.Model({"samples": samples, "count": count}, x, name="wav2vec2")


def load(backbone: Backbone, folder: Path):
    """Builds `backbone` with the weights of a Hugging Face directory.

    Raises:
        ModelError: when the directory holds a network of other sizes, is damaged, or its weights do not fit.
    """
    from tlkeras.foreign import files, transformers
    from tlkeras.foreign.tensors import assign

    config = files.read_config(folder / "config.json")
    if (kind := config.get("model_type")) not in KINDS:
        raise ModelError(f"{folder} must hold one of {', '.join(KINDS)}; its model_type is {kind!r}.")
    directories.check_sizes(backbone, folder, sizes_of(config, folder))
    model = backbone.build(None, None)
    assign(model, tensors(transformers.read_tensors(folder), KINDS[kind]), names(model))
    return model


def tensors(found: dict, prefix: str) -> dict:
    """A transformers state dict with bare names, its heads left out and the weight norm of the positions multiplied out."""
    out = {n.removeprefix(f"{prefix}."): t for n, t in found.items()}
    out = {n: t for n, t in out.items() if not n.startswith(DROPPED)}
    stem = "encoder.pos_conv_embed.conv."
    # torch renamed both in 2.1: gain and direction.
    for gain, direction in (
        ("weight_g", "weight_v"),
        ("parametrizations.weight.original0", "parametrizations.weight.original1"),
    ):
        if stem + gain in out and stem + direction in out:
            g, v = (np.asarray(out.pop(stem + n), "float32") for n in (gain, direction))
            out[f"{stem}weight"] = g * v / np.sqrt(np.square(v).sum((0, 1), keepdims=True))
    return out


def names(model) -> dict[str, tuple[str, tuple[int, ...] | None]]:
    """{variable path: (name in the state dict, axes to transpose by or None)}."""
    outside = {
        "projection_norm": "feature_projection.layer_norm", "projection": "feature_projection.projection",
        "positions": "encoder.pos_conv_embed.conv", "positions_norm": "encoder.layer_norm", "top_norm": "encoder.layer_norm",
        "apart": "encoder.layers.0.attention.rel_attn_embed",
    }  # fmt: skip
    inside = {
        "query": "attention.q_proj", "key": "attention.k_proj", "value": "attention.v_proj", "attention_output": "attention.out_proj",
        "attention_norm": "layer_norm", "intermediate": "feed_forward.intermediate_dense", "output": "feed_forward.output_dense", "norm": "final_layer_norm",
        "gate": "attention.gru_rel_pos_linear",
    }  # fmt: skip
    fields = {"kernel": "weight", "bias": "bias", "gamma": "weight", "beta": "bias", "embeddings": "weight"}
    found = {}
    for variable in model.weights:
        layer, *middle, field = variable.path.split("/")
        if layer.startswith("conv"):
            n, norm = layer.removeprefix("conv").removesuffix("_norm"), layer.endswith("_norm")
            name = f"feature_extractor.conv_layers.{n}.{'layer_norm' if norm else 'conv'}"
        elif field == "constant":
            name, field = f"encoder.layers.{int(layer[7:].removesuffix('_out')) - 1}.attention", "gru_rel_pos_const"
        elif layer.startswith("encoder"):
            name = f"encoder.layers.{int(layer.removeprefix('encoder').removesuffix('_out')) - 1}.{inside[middle[-1]]}"
        else:
            name = outside.get(layer, layer)
        axes = None if field != "kernel" else (2, 1, 0) if len(variable.shape) == 3 else (1, 0)
        found[variable.path] = (f"{name}.{fields.get(field, field)}", axes)
    return found
