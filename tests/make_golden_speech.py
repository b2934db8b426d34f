"""Makes golden/speech.npz: what transformers computes with small Whispers and Moonshines of seeded weights, and Whisper's features.

Weights and sounds are made by NumPy on both sides from seeds, so only results are kept. Needs PyTorch and transformers:

    python tests/make_golden_speech.py
"""

import tempfile
from pathlib import Path

import numpy as np
import spoken_directories
from make_golden import oracle
from make_golden_sound import sound, weight

GOLDEN = Path(__file__).parent / "golden" / "speech.npz"
TOKENS = np.array([[1, 5, 7, 9, 3]], "int32")
MELS = 20
NETWORKS = {
    "whisper": {
        "num_mel_bins": MELS,
        "encoder_layers": 2,
        "decoder_layers": 3,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 4,
        "encoder_ffn_dim": 24,
        "decoder_ffn_dim": 40,
        "d_model": 16,
        "max_source_positions": 50,
        "max_target_positions": 12,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "decoder_start_token_id": 1,
    },
    "moonshine": {
        "hidden_size": 36,
        "intermediate_size": 24,
        "encoder_num_hidden_layers": 2,
        "decoder_num_hidden_layers": 3,
        "encoder_num_attention_heads": 3,
        "decoder_num_attention_heads": 3,
    },
}
TOKENIZERS = {"whisper": spoken_directories.whisper_tokenizer, "moonshine": spoken_directories.moonshine_tokenizer}
WORDS = {"whisper": ("one", "two", "\u0120two", "\u0120three"), "moonshine": ("one", "two", "three")}


def directory(kind: str, folder: Path) -> Path:
    """A small network with `weight` in it."""
    return spoken_directories.write(kind, folder, TOKENIZERS[kind](WORDS[kind]), NETWORKS[kind], weight)


def theirs(kind: str, folder: Path, x: np.ndarray) -> dict:
    """What transformers computes of one second of sound: the states of the encoder, and the decoder's logits."""
    torch, transformers = oracle()
    model = getattr(transformers, f"{kind.capitalize()}ForConditionalGeneration").from_pretrained(folder).eval()
    given = features(x, MELS) if kind == "whisper" else x[None]
    name = "input_features" if kind == "whisper" else "input_values"
    with torch.no_grad():
        out = model(**{name: torch.tensor(given)}, decoder_input_ids=torch.tensor(TOKENS, dtype=torch.long))
    return {"states": out.encoder_last_hidden_state.numpy(), "logits": out.logits.numpy()}


def features(x: np.ndarray, mels: int) -> np.ndarray:
    """What WhisperFeatureExtractor makes of a second: (1, mels, 100)."""
    _, transformers = oracle()
    extractor = transformers.WhisperFeatureExtractor(feature_size=mels, chunk_length=1)
    return extractor(x, sampling_rate=16000, return_tensors="np")["input_features"]


def main():
    found = {f"mel{n}": features(sound(1.0), n)[0].T[::7].astype("float32") for n in (80, 128)}
    for kind in NETWORKS:
        with tempfile.TemporaryDirectory() as folder:
            made = theirs(kind, directory(kind, Path(folder)), sound(1.0))
        # Some of the frames and logits: those of a row hang on the same state.
        found |= {f"{kind}/states": made["states"][:, ::5], f"{kind}/logits": made["logits"][..., ::10]}
    np.savez_compressed(GOLDEN, **found)
    print(f"{GOLDEN}: {GOLDEN.stat().st_size} bytes")


if __name__ == "__main__":
    main()
