"""Small transformers models with seeded weights, one or more per model type, written as the directories that a user has.

Needs PyTorch and transformers. The whole table, by the user's own path:

    python tests/tiny_transformers.py [TYPE ...]
"""

import sys
import tempfile
import time
from pathlib import Path

import make_golden_speech
import numpy as np
from make_golden import KEPT, SIZES, build, oracle

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
_ROPES = {
    "full_attention": {"rope_type": "default", "rope_theta": 1000000.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
}

# Name: (class of transformers, its config). The name begins with the model_type.
TINY = {
    "deit": ("DeiTForImageClassification", _VISION),
    "dinov2": ("Dinov2ForImageClassification", _VISION | {"mlp_ratio": 2}),
    "dinov2_with_registers": ("Dinov2WithRegistersModel", _VISION | {"mlp_ratio": 2}),
    "dinov3_vit": ("DINOv3ViTModel", _VISION | {"num_register_tokens": 2}),
    "dinov3_vit plain": ("DINOv3ViTModel", _VISION),
    "esm": ("EsmForMaskedLM", _ENCODER | {"position_embedding_type": "rotary", "mask_token_id": 4, "layer_norm_eps": 1e-5}),
    "esm absolute": ("EsmForMaskedLM", _ENCODER | {"position_embedding_type": "absolute", "mask_token_id": 4}),
    "gemma": ("GemmaForCausalLM", _HEADS),
    "gemma2": ("Gemma2ForCausalLM", _GEMMA),
    "gemma2 scaled": ("Gemma2ForCausalLM", _GEMMA | {"query_pre_attn_scalar": 5}),
    "gemma3": ("Gemma3ForConditionalGeneration", {
        "text_config": _GEMMA | {"layer_types": ["sliding_attention"] * 2}, "vision_config": _IMAGES,
        "mm_tokens_per_image": 4, "image_token_index": 47, "boi_token_index": 45, "eoi_token_index": 46}),
    "gemma3_text": ("Gemma3ForCausalLM", _GEMMA),
    "gemma3_text as released": ("Gemma3ForCausalLM", _GEMMA | {
        "num_hidden_layers": 7, "layer_types": ["sliding_attention"] * 5 + ["full_attention"] + ["sliding_attention"]}),
    "gemma3n": ("Gemma3nForConditionalGeneration", {"text_config": _HEADS | {
        "sliding_window": 4, "layer_types": _BOTH, "vocab_size_per_layer_input": 40, "hidden_size_per_layer_input": 4,
        "laurel_rank": 4, "num_kv_shared_layers": 0, "altup_num_inputs": 2, "intermediate_size": [24, 24]}}),
    "gemma4": ("Gemma4ForConditionalGeneration", {
        "text_config": _HEADS | {
            "sliding_window": 4, "layer_types": _BOTH, "vocab_size_per_layer_input": 48,
            "hidden_size_per_layer_input": 4},
        "vision_config": _VISION | {"head_dim": 8, "num_key_value_heads": 2, "position_embedding_size": 64},
        "audio_config": None}),
    "gemma4_text": ("Gemma4ForCausalLM", _HEADS | {
        "sliding_window": 4, "layer_types": _BOTH, "vocab_size_per_layer_input": 48, "hidden_size_per_layer_input": 4}),
    "gpt_oss": ("GptOssForCausalLM", _HEADS | {
        "num_local_experts": 3, "num_experts_per_tok": 2, "sliding_window": 4, "layer_types": _BOTH}),
    "gpt_oss plain": ("GptOssForCausalLM", _HEADS | {
        "num_local_experts": 3, "num_experts_per_tok": 2, "sliding_window": 4, "layer_types": _BOTH,
        "rope_parameters": {"rope_type": "default", "rope_theta": 150000.0}}),
    "metaclip_2": ("MetaClip2Model", {
        "text_config": _ENCODER | {"eos_token_id": 2}, "vision_config": _VISION, "projection_dim": 8}),
    "mistral": ("MistralForCausalLM", _HEADS | {"sliding_window": 4}),
    "mixtral": ("MixtralForCausalLM", _HEADS | {"num_local_experts": 3, "num_experts_per_tok": 2, "sliding_window": 4}),
    "paligemma": ("PaliGemmaForConditionalGeneration", {
        "text_config": _HEADS | {"model_type": "gemma", "num_image_tokens": 8}, "vision_config": _VISION, "projection_dim": 16,
        "image_token_index": 47, "vocab_size": 48}),
    "qwen2_moe": ("Qwen2MoeForCausalLM", _TEXT | _EXPERTS | {"shared_expert_intermediate_size": 8}),
    "qwen3": ("Qwen3ForCausalLM", _HEADS | {"rms_norm_eps": 1e-3}),
    "qwen3_moe": ("Qwen3MoeForCausalLM", _HEADS | _EXPERTS),
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
    "swin": ("SwinForImageClassification", _SWIN),
    "t5gemma": ("T5GemmaForConditionalGeneration", {"encoder": _GEMMA, "decoder": _GEMMA, "vocab_size": 48}),
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
    from tlkeras.weights import transformers as texts

    made = model(name)
    made.save_pretrained(folder)
    if made.config.model_type in texts.TEXT:
        import test_transformers

        test_transformers.write_tokenizer(folder, made.config.model_type)
    return folder


def main():
    from tlkeras.weights import verified

    for name in sys.argv[1:] or (*KEPT, *TINY):
        start = time.process_time()
        with tempfile.TemporaryDirectory() as folder:
            try:
                found = verified.verify(directory(name, Path(folder) / "model"))
                said = f"{found['features']['difference']:.2g} of {found['features']['scale']:.3g}" if found["compared"] else found["why"]
            except Exception as e:
                said = f"{type(e).__name__}: {str(e)[:1500]}"
        print(f"### {name}: {said}   [{time.process_time() - start:.1f} s]", flush=True)


if __name__ == "__main__":
    assert SIZES
    main()
