"""Makes golden/transformers.npz: what transformers computes for small text models with seeded weights.

Weights are rounded to float16 to be stored in half the bytes; all arithmetic is float32. Needs torch and transformers:

    python tests/make_golden.py
"""

from pathlib import Path

GOLDEN = Path(__file__).parent / "golden" / "transformers.npz"
SIZES = {
    "vocab_size": 48,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 24,
}
DISTILBERT = {"vocab_size": 48, "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24, "max_position_embeddings": 24}
GPT2 = {
    "vocab_size": 48,
    "n_embd": 16,
    "n_layer": 2,
    "n_head": 2,
    "n_positions": 24,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
BART = (
    {
        "vocab_size": 48,
        "d_model": 16,
        "max_position_embeddings": 24,
        **{f"{part}_{name}": n for part in ("encoder", "decoder") for name, n in BART_PARTS.items()},
    }
    if False
    else {}
)
