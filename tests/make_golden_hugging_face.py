"""Makes golden/hugging_face.npz: what transformers computes for small models of types that keras-hub alone reads otherwise.

Weights are made from their names and shapes by numpy on both sides, so that only names, shapes, ids and states are kept. Needs
PyTorch and transformers:

    python tests/make_golden_hugging_face.py
"""

import json
import tempfile
from pathlib import Path

import numpy as np
from make_golden_torch import state

GOLDEN = Path(__file__).parent / "golden" / "hugging_face.npz"
# Cases of tiny_transformers: a window, a scale of queries, an epsilon, names of experts, a table of positions.
KEPT = ("gemma2 of its own", "gpt_oss with its layers the other way", "qwen3_moe of its own", "esm absolute")


def write(folder: Path, config: dict, shapes: dict) -> Path:
    """The directory of a model with weights made from their names."""
    from tlkeras.foreign import files

    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    files.write_safetensors(folder / "model.safetensors", state(shapes))
    return folder


def kept(name: str, home: Path) -> dict:
    import tiny_transformers

    from tlkeras.foreign import files
    from tlkeras.weights import beside_transformers

    tiny_transformers.model(name).save_pretrained(home / "theirs")
    config = files.read_config(home / "theirs" / "config.json")
    found = files.read_safetensors(home / "theirs" / "model.safetensors")
    shapes = {n: list(t.shape) for n, t in found.items()}
    theirs = beside_transformers._theirs(write(home / "made", config, shapes))
    ids = beside_transformers.ids_of(config, np.random.default_rng(1), config["vocab_size"])[0][:1]
    states = beside_transformers.answer(theirs, input_ids=ids.astype("int64")).last_hidden_state.numpy()
    return {
        "config": np.array(json.dumps(config)),
        "shapes": np.array(json.dumps(shapes)),
        "ids": ids,
        "states": states,
    }


def main():
    found = {}
    for name in KEPT:
        with tempfile.TemporaryDirectory() as home:
            found |= {f"{name}/{key}": value for key, value in kept(name, Path(home)).items()}
    np.savez_compressed(GOLDEN, **found)
    print(f"{GOLDEN}: {GOLDEN.stat().st_size} bytes")


if __name__ == "__main__":
    main()
