"""Makes golden/sound.npz: what librosa, transformers and jiwer compute of seeded sounds, weights and transcripts.

Weights and sounds are made by NumPy on both sides from seeds, so only results are kept. Needs PyTorch, transformers,
librosa and jiwer:

    python tests/make_golden_sound.py
"""

import json
import tempfile
import zlib
from pathlib import Path

import numpy as np
from make_golden import oracle

GOLDEN = Path(__file__).parent / "golden" / "sound.npz"
MEL = {"rate": 16000, "window": 512, "hop": 160, "mels": 40, "low": 20.0, "high": 8000.0}

# Sizes of small networks, as transformers' config names them.
_SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "conv_dim": [16] * 7,
}
_SMALL |= {"num_conv_pos_embedding_groups": 4}
NETWORKS = {
    "base": ("Wav2Vec2", {**_SMALL, "num_conv_pos_embeddings": 16}),
    "layered": (
        "Wav2Vec2",
        {
            **_SMALL,
            "num_conv_pos_embeddings": 15,
            "feat_extract_norm": "layer",
            "do_stable_layer_norm": True,
            "conv_bias": True,
        },
    ),
    "hubert": ("Hubert", {**_SMALL, "num_conv_pos_embeddings": 16}),
    "wavlm": ("WavLM", {**_SMALL, "num_conv_pos_embeddings": 16, "num_buckets": 32, "max_bucket_distance": 40}),
    "wavlm layered": (
        "WavLM",
        {
            **_SMALL,
            "num_conv_pos_embeddings": 16,
            "feat_extract_norm": "layer",
            "do_stable_layer_norm": True,
            "num_buckets": 16,
            "max_bucket_distance": 20,
        },
    ),
}


def sound(seconds: float = 0.5, rate: int = 16000, seed: int = 0) -> np.ndarray:
    """Tones that come and go over some noise, float32 in -1..1."""
    rng, t = np.random.default_rng(seed), np.arange(int(seconds * rate)) / rate
    tones = sum(
        np.sin(2 * np.pi * f * t) * np.sin(np.pi * k * t / seconds) ** 2
        for k, f in enumerate((220, 700, 1900, 3100), 1)
    )
    return (0.15 * tones + 0.01 * rng.normal(0, 1, len(t))).astype(np.float32)


def weight(name: str, shape) -> np.ndarray:
    """The weight of this name: around 1 for norms, else around 0."""
    drawn = np.random.default_rng(zlib.crc32(name.encode())).normal(0, 0.12, shape)
    return (drawn + (1.0 if name.endswith(("norm.weight", "original0")) else 0.0)).astype(np.float32)


def evened(x: np.ndarray) -> np.ndarray:
    return (x - x.mean()) / np.sqrt(x.var() + 1e-7)


def directory(name: str, folder: Path):
    """Saves a network of transformers with `weight` in it; returns it."""
    torch, transformers = oracle()
    kind, config = NETWORKS[name]
    model = getattr(transformers, f"{kind}Model")(
        getattr(transformers, f"{kind}Config")(layerdrop=0.0, **config)
    ).eval()
    state = {n: torch.tensor(weight(n, tuple(t.shape))) for n, t in model.state_dict().items()}
    model.load_state_dict(state)
    model.save_pretrained(folder)
    return model


def shapes(name: str) -> dict:
    """The names and shapes of a network's state dict."""
    with tempfile.TemporaryDirectory() as folder:
        return {n: list(t.shape) for n, t in directory(name, Path(folder)).state_dict().items()}


def stages(model, x: np.ndarray) -> dict:
    """What every stage gives for one sound: the convolutions, and each hidden state."""
    import torch

    with torch.no_grad():
        given = torch.tensor(evened(x)[None])
        found, h = {}, given[:, None]
        for n, layer in enumerate(model.feature_extractor.conv_layers):
            h = layer(h)
            found[f"conv{n}"] = h.numpy().transpose(0, 2, 1)
        out = model(given, output_hidden_states=True)
        found |= {f"hidden{n}": h.numpy() for n, h in enumerate(out.hidden_states)}
        return found | {"last": out.last_hidden_state.numpy()}


def heard() -> dict:
    """librosa's log-mel spectrogram in dB and mel cepstra of `sound`."""
    import librosa

    m = MEL
    power = librosa.feature.melspectrogram(
        y=sound(), sr=m["rate"], n_fft=m["window"], hop_length=m["hop"], n_mels=m["mels"], fmin=m["low"], fmax=m["high"]
    )
    return {
        "log_mel": librosa.power_to_db(power, ref=np.max).T,
        "mfcc": librosa.feature.mfcc(S=librosa.power_to_db(power), n_mfcc=13).T,
    }


def main():
    found = {f"librosa/{k}": v.astype("float32") for k, v in heard().items()}
    for name in NETWORKS:
        with tempfile.TemporaryDirectory() as folder:
            model = directory(name, Path(folder))
            found[f"{name}/config"] = np.array((Path(folder) / "config.json").read_text("utf8"))
            found[f"{name}/shapes"] = np.array(json.dumps({n: list(t.shape) for n, t in model.state_dict().items()}))
            made = stages(model, sound(0.2))
        found |= {f"{name}/{k}": v for k, v in made.items() if k in ("hidden0", "last")}
    GOLDEN.parent.mkdir(exist_ok=True)
    np.savez_compressed(GOLDEN, **found)
    print(f"{GOLDEN}: {GOLDEN.stat().st_size} bytes")


if __name__ == "__main__":
    main()
