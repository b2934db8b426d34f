"""Small transformers models with seeded weights, one or more per model type, written as the directories that a user has.

Needs PyTorch and transformers. The rows of tlkeras.weights.compared, by the path of `tlkeras weights verify`:

    python tests/tiny_transformers.py [CASE ...]
"""

import sys
import tempfile
from pathlib import Path

import make_golden_speech
import numpy as np
from make_golden import KEPT, build, oracle

_TEXT = {
    "vocab_size": 48, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
_ENCODER = {k: v for k, v in _TEXT.items() if k != "num_key_value_heads"}
_HEADS = _TEXT | {"head_dim": 8}
_BOTH = ["sliding_attention", "full_attention"]
_EXPERTS = {"num_experts": 3, "num_experts_per_tok": 2, "moe_intermediate_size": 8}
_LINEAR = {
    "linear_num_key_heads": 2, "linear_num_value_heads": 2, "linear_key_head_dim": 4, "linear_value_head_dim": 4,
    "layer_types": ["linear_attention", "full_attention"],
}  # fmt: skip
_VISION = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 16,
    "patch_size": 4,
}  # fmt: skip
_IMAGES = _VISION | {"image_size": 32}
_SWIN = {"image_size": 32, "patch_size": 4, "embed_dim": 8, "depths": [2, 1], "num_heads": [2, 2], "window_size": 4}
_GEMMA = _HEADS | {"sliding_window": 4, "query_pre_attn_scalar": 8, "layer_types": _BOTH}
_SPEECH = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24, "conv_dim": [8] * 7,
    "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2, "vocab_size": 12,
}  # fmt: skip
_GEMMA4 = _HEADS | {
    "sliding_window": 4, "layer_types": _BOTH, "vocab_size_per_layer_input": 48, "hidden_size_per_layer_input": 4,
    "global_head_dim": 16,
}  # fmt: skip
_OSS = _HEADS | {"num_local_experts": 3, "num_experts_per_tok": 2, "sliding_window": 4, "layer_types": _BOTH}
# Large enough to be seen where a network does not read it.
_NORMS = {"rms_norm_eps": 1e-2}
_ROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}}

# Name: (class of transformers, its config). The name begins with the model_type.
TINY = {
    "deit": ("DeiTForImageClassification", _VISION),
    "dinov2": ("Dinov2ForImageClassification", _VISION | {"mlp_ratio": 2}),
    "dinov2_with_registers": ("Dinov2WithRegistersModel", _VISION | {"mlp_ratio": 2}),
    "dinov3_vit": ("DINOv3ViTModel", _VISION | {"num_register_tokens": 2}),
    "dinov3_vit without registers": ("DINOv3ViTModel", _VISION | {"use_gated_mlp": True, "hidden_act": "silu", "rope_theta": 30.0}),
    "esm": ("EsmForMaskedLM", _ENCODER | {"position_embedding_type": "rotary", "mask_token_id": 4, "layer_norm_eps": 1e-5}),
    "esm absolute": ("EsmForMaskedLM", _ENCODER | {
        "position_embedding_type": "absolute", "mask_token_id": 4, "emb_layer_norm_before": True, "token_dropout": True}),
    "gemma": ("GemmaForCausalLM", _HEADS),
    "gemma of its own": ("GemmaForCausalLM", _HEADS | _NORMS),
    "gemma2": ("Gemma2ForCausalLM", _GEMMA),
    "gemma2 of its own": ("Gemma2ForCausalLM", _GEMMA | _NORMS | {"query_pre_attn_scalar": 5, "attn_logit_softcapping": 1.0}),
    "gemma3": ("Gemma3ForConditionalGeneration", {
        "text_config": _GEMMA | {"layer_types": ["sliding_attention"] * 2}, "vision_config": _IMAGES,
        "mm_tokens_per_image": 4, "image_token_index": 47, "boi_token_index": 45, "eoi_token_index": 46}),
    "gemma3_text": ("Gemma3ForCausalLM", _GEMMA | {
        "num_hidden_layers": 7, "layer_types": ["sliding_attention"] * 5 + ["full_attention"] + ["sliding_attention"],
        "rope_parameters": {
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}}}),
    "gemma3_text of its own": ("Gemma3TextModel", _GEMMA | _NORMS | {
        "query_pre_attn_scalar": 5, "layer_types": ["sliding_attention"] * 2}),
    "gemma4_text": ("Gemma4ForCausalLM", _GEMMA4),
    "gemma4_text of its own": ("Gemma4ForCausalLM", _GEMMA4 | _NORMS | {
        "num_hidden_layers": 4, "layer_types": _BOTH * 2, "num_kv_shared_layers": 2, "use_double_wide_mlp": True,
        "num_attention_heads": 4, "num_key_value_heads": 2, "num_global_key_value_heads": 1, "attention_k_eq_v": True}),
    "gpt_oss": ("GptOssForCausalLM", _OSS),
    "gpt_oss with its layers the other way": ("GptOssForCausalLM", _OSS | _NORMS | {"layer_types": _BOTH[::-1]}),
    "metaclip_2": ("MetaClip2Model", {
        "text_config": _ENCODER | {"eos_token_id": 2}, "vision_config": _VISION, "projection_dim": 8}),
    "mistral": ("MistralForCausalLM", _HEADS | {"sliding_window": 4}),
    "mistral of its own": ("MistralForCausalLM", _HEADS | _NORMS | _ROPE | {"sliding_window": None}),
    "mixtral": ("MixtralForCausalLM", _HEADS | {"num_local_experts": 3, "num_experts_per_tok": 2, "sliding_window": 4}),
    "paligemma": ("PaliGemmaForConditionalGeneration", {
        "text_config": _HEADS | {"model_type": "gemma", "num_image_tokens": 8}, "vision_config": _VISION, "projection_dim": 16,
        "image_token_index": 47, "vocab_size": 48}),
    "qwen2_moe": ("Qwen2MoeForCausalLM", _TEXT | _EXPERTS | {"shared_expert_intermediate_size": 8}),
    "qwen3": ("Qwen3ForCausalLM", _HEADS | {"rms_norm_eps": 1e-3}),
    "qwen3 of its own": ("Qwen3ForCausalLM", _HEADS | _NORMS | _ROPE | {
        "use_sliding_window": True, "sliding_window": 4, "max_window_layers": 0}),
    "qwen3_moe": ("Qwen3MoeForCausalLM", _HEADS | _EXPERTS),
    "qwen3_moe of its own": ("Qwen3MoeForCausalLM", _HEADS | _EXPERTS | _NORMS | _ROPE | {
        "norm_topk_prob": True, "use_sliding_window": True, "sliding_window": 4}),
    "qwen3_5": ("Qwen3_5ForConditionalGeneration", {
        "text_config": _HEADS | _LINEAR,
        "vision_config": {
            "depth": 2, "hidden_size": 16, "num_heads": 2, "intermediate_size": 24, "patch_size": 4,
            "out_hidden_size": 16, "num_position_embeddings": 16}}),
    "qwen3_5_moe": ("Qwen3_5MoeForConditionalGeneration", {
        "text_config": _HEADS | _LINEAR | _EXPERTS | {"shared_expert_intermediate_size": 8},
        "vision_config": {
            "depth": 2, "hidden_size": 16, "num_heads": 2, "intermediate_size": 24, "patch_size": 4,
            "out_hidden_size": 16, "num_position_embeddings": 16}}),
    "smollm3": ("SmolLM3ForCausalLM", _TEXT),
    "smollm3 of its own": ("SmolLM3ForCausalLM", _TEXT | _NORMS | _ROPE | {
        "no_rope_layers": [1, 0], "tie_word_embeddings": False}),
    "swin": ("SwinForImageClassification", _SWIN),
    "t5gemma": ("T5GemmaForConditionalGeneration", {
        "encoder": _GEMMA | {"sliding_window": 12, "query_pre_attn_scalar": 5},
        "decoder": _GEMMA | {"query_pre_attn_scalar": 5}, "vocab_size": 48}),
    "t5gemma2": ("T5Gemma2ForConditionalGeneration", {
        "encoder": {
            "text_config": _GEMMA, "vision_config": _IMAGES, "mm_tokens_per_image": 4,
            "image_token_index": 47, "boi_token_index": 45, "eoi_token_index": 46},
        "decoder": _GEMMA, "eoi_token_index": 46, "image_token_index": 47}),
    "vit": ("ViTForImageClassification", _VISION),
    "blip-2": ("Blip2ForConditionalGeneration", {
        "vision_config": _VISION, "qformer_config": _ENCODER | {"encoder_hidden_size": 16},
        "text_config": {"model_type": "opt", "vocab_size": 48, "hidden_size": 16, "ffn_dim": 24, "num_hidden_layers": 2,
                        "num_attention_heads": 2, "max_position_embeddings": 64, "word_embed_proj_dim": 16},
        "num_query_tokens": 4, "image_token_index": 47}),
    "wav2vec2": ("Wav2Vec2ForCTC", _SPEECH),
    "hubert": ("HubertForCTC", _SPEECH),
    "wavlm": ("WavLMForCTC", _SPEECH),
    "whisper": ("WhisperForConditionalGeneration", make_golden_speech.NETWORKS["whisper"] | {
        "vocab_size": 48, "max_source_positions": 50}),
    "moonshine": ("MoonshineForConditionalGeneration", make_golden_speech.NETWORKS["moonshine"] | {"vocab_size": 48}),
}  # fmt: skip


def model(name: str):
    """The transformers model of a case; its weights hang on nothing but numpy's generator."""
    if name in KEPT:
        return build(name)
    torch, transformers = oracle()
    cls = getattr(transformers, TINY[name][0])
    made = cls(cls.config_class(**TINY[name][1])).eval()
    rng = np.random.default_rng(0)
    with torch.no_grad():
        for path, weight in sorted(made.named_parameters()):
            # A norm's scale is near 1, or near 0 where the network adds 1 to it.
            centre = float(weight.float().mean().round()) if weight.ndim == 1 and path.endswith("weight") else 0.0
            weight.copy_(torch.tensor(rng.normal(centre, 0.2, tuple(weight.shape)).astype("float32")))
    return made


def directory(name: str, folder: Path) -> Path:
    """Writes a case as transformers does, with a vocabulary where the type needs one to be read."""
    from tlkeras.foreign import transformers as texts

    made = model(name)
    made.save_pretrained(folder)
    if made.config.model_type in texts.TEXT:
        import test_transformers

        test_transformers.write_tokenizer(folder, made.config.model_type)
    return folder


def compare(name: str, folder: Path) -> dict:
    """What `tlkeras weights verify` finds of a case."""
    from tlkeras.weights import verified

    return verified.verify(directory(name, folder))


def main():
    """Prints the rows of tlkeras.weights.compared.COMPARED: of each type the least alike."""
    worst: dict[str, tuple] = {}
    for name in sys.argv[1:] or (*KEPT, *TINY):
        with tempfile.TemporaryDirectory() as folder:
            found = compare(name, Path(folder) / "model")
        row = found.get("features")
        print(f"# {name}: {row or found['why']}", flush=True)
        if row and row["difference"] > worst.get(name.split()[0], (0.0,))[0]:
            worst[name.split()[0]] = row["difference"], row["scale"]
    for kind, (difference, scale) in sorted(worst.items()):
        print(f'    "{kind}": ({difference:.1e}, {scale:.3g}),')


if __name__ == "__main__":
    main()
