"""Moonshine (Jeffries et al. 2024, arXiv:2410.15608): hears samples as long as they are, and writes text. For short commands
it is several times as fast as Whisper, which looks at whole windows.

Three convolutions (a frame every 24 ms), rotary positions, no biases in attention and norms. The layout of weights is that of
Hugging Face transformers. What a sound gives does not depend on what it is padded with; transformers lets padding into the
norm behind the first convolution.
"""

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from tlkeras.backbones import Backbone, Sound, Source, directories, transcribers
from tlkeras.errors import ModelError, listed

RATE, STEP = 16000, 384
KERNELS, STRIDES = (127, 7, 3), (64, 3, 2)
DROPOUT = 0.1
PLACES = 194  # tokens that it learnt to write; rotary positions have no end of their own
OUTSIDE = {
    "conv1": "encoder.conv1", "conv2": "encoder.conv2", "conv3": "encoder.conv3", "conv1_norm": "encoder.groupnorm",
    "encoder_top": "encoder.layer_norm", "embedding": "decoder.embed_tokens", "top": "decoder.norm",
}  # fmt: skip
_BOTH = {"own": "self_attn", "own_norm": "input_layernorm", "intermediate": "mlp.fc1", "output": "mlp.fc2"}
INSIDE = {
    "encoder": {**_BOTH, "norm": "post_attention_layernorm"},
    "decoder": {
        **_BOTH, "across": "encoder_attn", "across_norm": "post_attention_layernorm", "norm": "final_layernorm"
    },
    "attention": {"query": "q_proj", "key": "k_proj", "value": "v_proj", "out": "o_proj"},
}  # fmt: skip


@dataclass(frozen=True)
class Sizes:
    """The sizes of a network. `rotary` is the part of a head that turns with the place, `theta` how slowly."""

    hidden: int = 288
    encoder: int = 6
    decoder: int = 6
    encoder_heads: int = 8
    decoder_heads: int = 8
    inner: int = 1152
    vocabulary: int = 32768
    rotary: float = 0.9
    theta: float = 10000.0


# Name: sizes, the model on Hugging Face, the preset of keras-hub, parameters.
KNOWN = {
    "moonshine_tiny_en": (Sizes(), "moonshine-tiny", "moonshine_tiny_en/1", 27_092_736),
    "moonshine_base_en": (
        Sizes(416, 8, 8, inner=1664, rotary=0.62), "moonshine-base", "moonshine_base_en/1", 61_513_920
    ),
}  # fmt: skip


def entries() -> tuple[Backbone, ...]:
    return tuple(
        entry(
            name,
            sizes,
            {
                "useful-sensors": Source(f"hf://UsefulSensors/{theirs}", "MIT"),
                "keras-hub": Source(f"kaggle://keras/moonshine/Keras/{preset}", "MIT"),
            },
            parameters,
            "Hears and writes English.",
        )
        for name, (sizes, theirs, preset, parameters) in KNOWN.items()
    )


def entry(
    name: str, sizes: Sizes, sources: dict[str, Source], parameters: int | None = None, description: str = ""
) -> Backbone:
    """The catalogue entry of a network of these sizes."""
    return Backbone(
        name=name,
        family="moonshine",
        build=partial(build, sizes),
        blocks=partial(transcribers.boundaries, "conv3_gelu"),
        pixels=None,
        kind="audio",
        sound=Sound(RATE, RATE * 30 // STEP * STEP, step=STEP),
        frames=frames,
        sources=sources,
        parameters=parameters,
        sizes=asdict(sizes),
        description=description,
        writes=True,
    )


def recorded(name: str, sizes: dict, weights: str | None, licence: str) -> Backbone:
    """The entry of a run that was trained from a directory, which need not be there any more."""
    return entry(name, Sizes(**sizes), {weights: Source("", licence)} if weights else {})


def from_directory(folder: Path) -> Backbone | None:
    """The entry of a Hugging Face directory or keras-hub preset of a Moonshine; None where it holds another model.

    Raises:
        ModelError: when its config asks for what is not built here.
    """
    if (config := directories.config_of(folder, lambda c: transcribers.kind_of(c) == "moonshine")) is None:
        return None
    return entry(folder.name, sizes_of(config, folder), {"preset": Source(str(folder), "unknown")})


def sizes_of(config: dict, folder) -> Sizes:
    """The sizes that a config of transformers or of keras-hub names.

    Raises:
        ModelError: with everything that this network cannot be given.
    """
    bad = []
    usual = Sizes()
    try:
        if "registered_name" in config:
            c = config["config"]
            keys = {
                "hidden": "hidden_dim", "encoder": "encoder_num_layers", "decoder": "decoder_num_layers",
                "encoder_heads": "encoder_num_heads", "decoder_heads": "decoder_num_heads", "vocabulary": "vocabulary_size",
            }  # fmt: skip
            wanted = {
                "filter_dim": (c["hidden_dim"], None), "encoder_use_swiglu_activation": (False,), "decoder_use_swiglu_activation": (True,),
                "attention_bias": (False,),
            }  # fmt: skip
            rotary, theta = c.get("partial_rotary_factor", usual.rotary), c.get("rope_theta", usual.theta)
        else:
            c = config
            keys = {
                "hidden": "hidden_size", "encoder": "encoder_num_hidden_layers", "decoder": "decoder_num_hidden_layers",
                "encoder_heads": "encoder_num_attention_heads", "decoder_heads": "decoder_num_attention_heads",
                "inner": "intermediate_size", "vocabulary": "vocab_size",
            }  # fmt: skip
            wanted = {
                "encoder_hidden_act": ("gelu",), "decoder_hidden_act": ("silu",), "attention_bias": (False,),
                "encoder_num_key_value_heads": (c.get("encoder_num_attention_heads", usual.encoder_heads), None),
                "decoder_num_key_value_heads": (c.get("decoder_num_attention_heads", usual.decoder_heads), None),
                "tie_word_embeddings": (True,), "quantization_config": (None,),
            }  # fmt: skip
            # transformers 5 keeps both in one place, 4 beside the others.
            rope = c.get("rope_parameters") or {}
            if rope.get("rope_type", "default") != "default" or c.get("rope_scaling"):
                bad.append("rope_parameters must be of type default")
            rotary = rope.get("partial_rotary_factor", c.get("partial_rotary_factor", usual.rotary))
            theta = rope.get("rope_theta", c.get("rope_theta", usual.theta))
        bad += [
            f"{k} must be {' or '.join(map(str, w))}; it is {c[k]!r}"
            for k, w in wanted.items()
            if k in c and c[k] not in w
        ]
        if "registered_name" in config:  # its `intermediate_dim` is not used
            c = {**c, "inner": c["hidden_dim"] * c.get("feedforward_expansion_factor", 4)}
            keys["inner"] = "inner"
        sizes = {ours: int(c.get(theirs, getattr(usual, ours))) for ours, theirs in keys.items()}
        found = Sizes(**sizes, rotary=float(rotary), theta=float(theta))
    except (TypeError, ValueError, KeyError, AttributeError) as e:
        raise ModelError(f"{folder}/config.json: a size that is missing or no number: {e}") from e
    if not 0 < max(found.encoder, found.decoder) <= 200 or min(sizes.values()) <= 0 or not 0 <= found.rotary <= 1:
        bad.append("all sizes must be 1 or more, layers 200 at most, and the part that turns 0 to 1")
    elif found.hidden % found.encoder_heads or found.hidden % found.decoder_heads:
        bad.append(f"{found.hidden} does not divide into {found.encoder_heads} or {found.decoder_heads} heads")
    if bad:
        raise ModelError(listed(f"{folder} asks for what is not built here", bad))
    return found


def frames(count):
    """Frames that the encoder makes of so many samples."""
    for kernel, stride in zip(KERNELS, STRIDES, strict=True):
        count = (count - kernel) // stride + 1
    return count


def how(sizes: Sizes, heads: int, gated: bool) -> dict:
    """What encoder_decoder's layers are told."""
    turned = int(sizes.hidden // heads * sizes.rotary)
    return {"biased": False, "centred": False, "turned": turned, "theta": sizes.theta, "gated": gated}


def build(sizes: Sizes, size=None, weights=None):
    """Samples float32 (B, n), count int32 (B,) and tokens int32 (B, t) to the states of the tokens (B, t, hidden)."""
    import keras
    from keras import layers

    from tlkeras.backbones import encoder_decoder as own
    from tlkeras.backbones import wav2vec2_layers as frames_

    samples = keras.Input((None,), name="samples", dtype="float32")
    count = keras.Input((), name="count", dtype="int32")
    tokens = keras.Input((None,), name="tokens", dtype="int32")
    x = layers.Reshape((-1, 1), name="samples_column")(samples)
    x = layers.Conv1D(sizes.hidden, KERNELS[0], STRIDES[0], use_bias=False, name="conv1")(x)
    x = layers.Activation("tanh", name="conv1_tanh")(x)
    x = own.Whole([KERNELS[0], STRIDES[0]], name="conv1_norm")(x, count)
    for n, width in ((2, 2 * sizes.hidden), (3, sizes.hidden)):
        x = layers.Conv1D(width, KERNELS[n - 1], STRIDES[n - 1], name=f"conv{n}")(x)
        x = layers.Activation("gelu", name=f"conv{n}_gelu")(x)
    heard = frames_.Heard([list(KERNELS), list(STRIDES)], name="heard")(x, count)
    asked = how(sizes, sizes.encoder_heads, False)
    for n in range(1, sizes.encoder + 1):
        x = own.Listening(sizes.encoder_heads, sizes.inner, asked, DROPOUT, name=f"encoder{n}")(x, heard)
    states = layers.LayerNormalization(epsilon=1e-5, center=False, name=transcribers.ENCODER_END)(x)
    x = own.Tokens(sizes.vocabulary, sizes.hidden, name=transcribers.EMBEDDING)(tokens)
    asked = how(sizes, sizes.decoder_heads, True)
    for n in range(1, sizes.decoder + 1):
        x = own.Writing(sizes.decoder_heads, sizes.inner, asked, DROPOUT, name=f"decoder{n}")(x, states, heard)
    x = layers.LayerNormalization(epsilon=1e-5, center=False, name=transcribers.END)(x)
    return keras.Model({"samples": samples, "count": count, "tokens": tokens}, x, name="moonshine")


def load(backbone: Backbone, folder: Path):
    """Builds `backbone` with the weights of a directory; see transcribers.load."""
    return transcribers.load(backbone, folder, "moonshine", sizes_of, "model.", OUTSIDE, INSIDE)
