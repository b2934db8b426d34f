"""Which types of Hugging Face models were compared with transformers 5.23, number by number, and what that does not tell.

Small networks with random weights, float32, ids and pixels at random, one text padded; a script in tests/ makes the numbers anew.
"""

# model_type: the largest difference, and the largest number beside it; of the least alike of its small networks.
COMPARED: dict[str, tuple[float, float]] = {}
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
    "gemma3_text": "one that embeds sentences (use_bidirectional_attention) needs its folders 2_Dense and 3_Dense",
    "qwen3_5": "its text; its images were not compared",
    "qwen3_5_moe": "its text; its images were not compared",
    "t5gemma": "texts that the encoder reads up to its sliding_window of tokens: keras-hub's encoder has no window",
    "blip-2": "with OPT as the language model; with T5 it was not compared",
}


def said(kind: str) -> str:
    """Whether the numbers of such models were compared, in words."""
    if kind in COMPARED:
        difference, scale = COMPARED[kind]
        limit = f" It holds for {LIMITS[kind]}." if kind in LIMITS else ""
        return f"Small models of type {kind} were compared with transformers: {difference:.1g} apart at most, of numbers up to {scale:.2g}.{limit}"
    return (
        f"Models of type {kind} were not compared here: {NOT_COMPARED[kind]}. keras-hub's converter is taken as it is. "
        "Compare with: tlkeras weights verify"
    )
