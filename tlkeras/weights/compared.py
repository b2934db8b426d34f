"""Which types of Hugging Face models were compared with transformers 5.23, number by number, and what that does not tell.

Small networks with random weights, float32, ids and pixels at random, one text padded; a script in tests/ makes the numbers anew.
"""

# model_type: the largest difference, and the largest number beside it; of the least alike of its small networks.
COMPARED: dict[str, tuple[float, float]] = {
    "albert": (7.2e-07, 2.67),
    "bart": (1.2e-06, 3.21),
    "bert": (7.2e-07, 2.86),
    "blip-2": (1.2e-06, 3.46),
    "deit": (1.2e-06, 3.82),
    "dinov2": (4.8e-07, 3.08),
    "dinov2_with_registers": (6.0e-07, 3.34),
    "dinov3_vit": (7.2e-07, 3.74),
    "distilbert": (9.5e-07, 3.54),
    "electra": (7.2e-07, 4.32),
    "esm": (7.2e-07, 2.45),
    "gemma": (1.1e-06, 2.77),
    "gemma2": (2.3e-06, 3.74),
    "gemma3": (2.3e-06, 3.01),
    "gemma3_text": (3.0e-06, 2.9),
    "gemma4_text": (5.4e-06, 3.76),
    "gpt2": (1.0e-06, 2.8),
    "gpt_oss": (1.8e-06, 2.86),
    "hubert": (1.3e-06, 3.42),
    "llama": (1.2e-06, 3.2),
    "metaclip_2": (1.5e-07, 0.597),
    "mistral": (1.1e-06, 3.03),
    "mixtral": (1.7e-06, 3.37),
    "moonshine": (3.1e-06, 4.88),
    "paligemma": (1.1e-06, 3.24),
    "qwen2": (1.4e-06, 3.41),
    "qwen2_moe": (1.1e-06, 3.09),
    "qwen3": (1.2e-06, 2.67),
    "qwen3_5": (7.3e-06, 3.12),
    "qwen3_5_moe": (2.9e-06, 2.87),
    "qwen3_moe": (1.1e-06, 2.84),
    "roberta": (6.0e-07, 2.9),
    "smollm3": (1.0e-06, 3.15),
    "swin": (9.5e-07, 3.13),
    "t5gemma": (1.7e-06, 3.19),
    "t5gemma2": (2.5e-06, 3.52),
    "vit": (7.2e-07, 3.05),
    "wav2vec2": (1.1e-06, 2.74),
    "wavlm": (9.5e-07, 3.32),
    "whisper": (1.5e-06, 2.64),
    "xlm-roberta": (8.3e-07, 2.36),
}
# Why others were not; their converter of keras-hub is taken as it is.
NOT_COMPARED = {
    "gemma3n": "keras-hub builds its image encoder at full size whatever the config says: no small one can be made",
    "gemma4": "its images come as patches with places; its text is that of gemma4_text, which was compared",
    "gemma4_assistant": "it reads the states of another network",
    "sam3_video": "it has six parts and was not run",
}
# What holds of a type although its numbers are equal.
LIMITS = {
    "esm": "texts of one length only: keras-hub's network masks padded positions on the wrong side; and none with a masked "
    "token where token_dropout is set",
    "gemma3_text": "one that embeds sentences (use_bidirectional_attention) was not compared, and needs its folders 2_Dense and 3_Dense",
    "qwen3_5": "its text; its images were not compared",
    "qwen3_5_moe": "its text; its images were not compared",
    "t5gemma": "texts that the encoder reads up to its sliding_window of tokens: keras-hub's encoder has no window",
    "blip-2": "with OPT as the language model; with T5 it was not compared",
}


def said(kind: str) -> str:
    """Whether the numbers of such models were compared, in words."""
    if kind in COMPARED:
        difference, scale = COMPARED[kind]
        limit = f" Mind: {LIMITS[kind]}." if kind in LIMITS else ""
        return f"Small models of type {kind} were compared with transformers: {difference:.1g} apart at most, of numbers up to {scale:.2g}.{limit}"
    return (
        f"Models of type {kind} were not compared here: {NOT_COMPARED[kind]}. keras-hub's converter is taken as it is. "
        "Compare with: tlkeras weights verify"
    )
