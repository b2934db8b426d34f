"""Whisper (Radford et al. 2022, arXiv:2212.04356): a transformer that hears spectrograms and writes text.

A frame of the encoder is 20 ms. The original always looks at 30 seconds, silence behind the sound; here the window is as
long as `backbone.sound.seconds` says, since its positions are a plain table: shorter ones are as much faster. The layout of
weights is that of Hugging Face transformers.
"""

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from tlkeras.backbones import Backbone, Sound, Source, directories, transcribers
from tlkeras.errors import ModelError, listed

RATE, STEP = 16000, 320
DROPOUT = 0.1
HOW = {"biased": True, "centred": True, "turned": 0, "theta": 1.0, "gated": False}
OUTSIDE = {
    "conv1": "encoder.conv1", "conv2": "encoder.conv2", "encoder_positions": "encoder.embed_positions",
    "encoder_top": "encoder.layer_norm", "embedding": "decoder.embed_tokens",
    "decoder_positions": "decoder.embed_positions", "top": "decoder.layer_norm",
}  # fmt: skip
_BOTH = {
    "own": "self_attn", "own_norm": "self_attn_layer_norm", "intermediate": "fc1", "output": "fc2", "norm": "final_layer_norm",
}  # fmt: skip
INSIDE = {
    "encoder": _BOTH,
    "decoder": {**_BOTH, "across": "encoder_attn", "across_norm": "encoder_attn_layer_norm"},
    "attention": {"query": "q_proj", "key": "k_proj", "value": "v_proj", "out": "out_proj"},
}


@dataclass(frozen=True)
class Sizes:
    """The sizes of a network: `frames` and `places` are the positions of encoder and decoder."""

    hidden: int = 384
    encoder: int = 4
    decoder: int = 4
    encoder_heads: int = 6
    decoder_heads: int = 6
    encoder_inner: int = 1536
    decoder_inner: int = 1536
    vocabulary: int = 51865
    mels: int = 80
    frames: int = 1500
    places: int = 448


def _even(hidden: int, depth: int, heads: int, **more) -> Sizes:
    sides = {f"{side}{k}": n for side in ("encoder", "decoder") for k, n in (("", depth), ("_heads", heads))}
    return Sizes(hidden, **{**sides, "encoder_inner": 4 * hidden, "decoder_inner": 4 * hidden, **more})


_SIZES = {"tiny": (384, 4, 6), "base": (512, 6, 8), "small": (768, 12, 12), "medium": (1024, 24, 16)}
_LARGE = (1280, 32, 20)
# Name: sizes, the model on Hugging Face, the preset of keras-hub, what it is.
KNOWN = {
    **{
        f"whisper_{name}_en": (
            _even(*sizes, vocabulary=51864), f"whisper-{name}.en", f"whisper_{name}_en/4", "English."
        )
        for name, sizes in _SIZES.items()
    },
    **{
        f"whisper_{name}_multi": (_even(*sizes), f"whisper-{name}", f"whisper_{name}_multi/4", "99 languages.")
        for name, sizes in _SIZES.items()
    },
    "whisper_large_multi_v2": (_even(*_LARGE), "whisper-large-v2", "whisper_large_multi_v2/4", "99 languages."),
    "whisper_large_v3": (_even(*_LARGE, vocabulary=51866, mels=128), "whisper-large-v3", None, "99 languages."),
    "whisper_large_v3_turbo": (
        _even(*_LARGE, vocabulary=51866, mels=128, decoder=4), "whisper-large-v3-turbo", None, "99 languages; writes several times as fast."
    ),
}  # fmt: skip


def entries() -> tuple[Backbone, ...]:
    made = []
    for name, (sizes, theirs, preset, about) in KNOWN.items():
        sources = {"openai": Source(f"hf://openai/{theirs}", "MIT" if "turbo" in theirs else "Apache-2.0")}
        if preset:
            sources["keras-hub"] = Source(f"kaggle://keras/whisper/keras/{preset}", "MIT")
        made.append(entry(name, sizes, sources, f"Hears and writes {about}"))
    return tuple(made)


def entry(name: str, sizes: Sizes, sources: dict[str, Source], description: str = "") -> Backbone:
    """The catalogue entry of a network of these sizes."""
    return Backbone(
        name=name,
        family="whisper",
        build=partial(build, sizes),
        blocks=partial(transcribers.boundaries, "encoder_positions"),
        pixels=None,
        kind="audio",
        sound=Sound(RATE, sizes.frames * STEP, fixed=True, step=STEP),
        frames=frames,
        sources=sources,
        parameters=parameters(sizes),
        sizes=asdict(sizes),
        description=description,
        writes=True,
    )


def parameters(s: Sizes) -> int:
    """How many numbers a network of these sizes holds."""
    norm, attention = 2 * s.hidden, 4 * s.hidden**2 + 3 * s.hidden
    front = 3 * s.hidden * (s.mels + s.hidden) + 2 * s.hidden + s.frames * s.hidden

    def dense(inner):
        return 2 * s.hidden * inner + inner + s.hidden

    encoder = s.encoder * (attention + 2 * norm + dense(s.encoder_inner)) + norm
    decoder = s.decoder * (2 * attention + 3 * norm + dense(s.decoder_inner)) + norm
    return front + encoder + decoder + (s.vocabulary + s.places) * s.hidden


def recorded(name: str, sizes: dict, weights: str | None, licence: str) -> Backbone:
    """The entry of a run that was trained from a directory, which need not be there any more."""
    return entry(name, Sizes(**sizes), {weights: Source("", licence)} if weights else {})


def from_directory(folder: Path) -> Backbone | None:
    """The entry of a Hugging Face directory or keras-hub preset of a Whisper; None where it holds another model.

    Raises:
        ModelError: when its config asks for what is not built here.
    """
    if (config := directories.config_of(folder, lambda c: transcribers.kind_of(c) == "whisper")) is None:
        return None
    return entry(folder.name, sizes_of(config, folder), {"preset": Source(str(folder), "unknown")})


def sizes_of(config: dict, folder) -> Sizes:
    """The sizes that a config of transformers or of keras-hub names.

    Raises:
        ModelError: with everything that this network cannot be given.
    """
    bad = []
    try:
        if "registered_name" in config:
            c = config["config"]
            n, heads, inner = (int(c[k]) for k in ("num_layers", "num_heads", "intermediate_dim"))
            found = Sizes(
                int(c["hidden_dim"]), n, n, heads, heads, inner, inner, int(c["vocabulary_size"]),
                int(c.get("num_mels", 80)), int(c["max_encoder_sequence_length"]) // 2, int(c["max_decoder_sequence_length"]),
            )  # fmt: skip
        else:
            wanted = {"activation_function": ("gelu",), "scale_embedding": (False,), "quantization_config": (None,)}
            bad = [
                f"{k} must be {' or '.join(map(str, w))}; it is {config[k]!r}"
                for k, w in wanted.items()
                if k in config and config[k] not in w
            ]
            usual = Sizes()
            keys = {
                "hidden": "d_model", "encoder": "encoder_layers", "decoder": "decoder_layers",
                "encoder_heads": "encoder_attention_heads", "decoder_heads": "decoder_attention_heads",
                "encoder_inner": "encoder_ffn_dim", "decoder_inner": "decoder_ffn_dim", "vocabulary": "vocab_size",
                "mels": "num_mel_bins", "frames": "max_source_positions", "places": "max_target_positions",
            }  # fmt: skip
            found = Sizes(**{ours: int(config.get(theirs, getattr(usual, ours))) for ours, theirs in keys.items()})
    except (TypeError, ValueError, KeyError) as e:
        raise ModelError(f"{folder}/config.json: a size that is missing or no number: {e}") from e
    if not 0 < max(found.encoder, found.decoder) <= 200 or min(asdict(found).values()) <= 0:
        bad.append("all sizes must be 1 or more, and layers 200 at most")
    elif found.hidden % found.encoder_heads or found.hidden % found.decoder_heads:
        bad.append(f"{found.hidden} does not divide into {found.encoder_heads} or {found.decoder_heads} heads")
    if bad:
        raise ModelError(listed(f"{folder} asks for what is not built here", bad))
    return found


def frames(count):
    """Frames that the encoder makes of so many samples."""
    return (count // 160 + 1) // 2


def build(sizes: Sizes, size=None, weights=None):
    """Samples float32 (B, n) and tokens int32 (B, t) to the states of the tokens (B, t, hidden)."""
    import keras
    from keras import layers

    from tlkeras.backbones import encoder_decoder as own

    samples = keras.Input((None,), name="samples", dtype="float32")
    tokens = keras.Input((None,), name="tokens", dtype="int32")
    x = own.WhisperMel(sizes.mels, name="mel")(samples)
    for n, stride in ((1, 1), (2, 2)):
        x = layers.ZeroPadding1D(1, name=f"conv{n}_pad")(x)
        x = layers.Conv1D(sizes.hidden, 3, stride, name=f"conv{n}")(x)
        x = layers.Activation("gelu", name=f"conv{n}_gelu")(x)
    x = own.Places(sizes.frames, learnt=False, name="encoder_positions")(x)
    for n in range(1, sizes.encoder + 1):
        x = own.Listening(sizes.encoder_heads, sizes.encoder_inner, HOW, DROPOUT, name=f"encoder{n}")(x)
    states = layers.LayerNormalization(epsilon=1e-5, name=transcribers.ENCODER_END)(x)
    x = own.Tokens(sizes.vocabulary, sizes.hidden, name=transcribers.EMBEDDING)(tokens)
    x = own.Places(sizes.places, name=transcribers.PLACES)(x)
    for n in range(1, sizes.decoder + 1):
        x = own.Writing(sizes.decoder_heads, sizes.decoder_inner, HOW, DROPOUT, name=f"decoder{n}")(x, states)
    x = layers.LayerNormalization(epsilon=1e-5, name=transcribers.END)(x)
    return keras.Model({"samples": samples, "tokens": tokens}, x, name="whisper")


def load(backbone: Backbone, folder: Path):
    """Builds `backbone` with the weights of a directory; see transcribers.load."""
    return transcribers.load(backbone, folder, "whisper", sizes_of, "model.", OUTSIDE, INSIDE)
