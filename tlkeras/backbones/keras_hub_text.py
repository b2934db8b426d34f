"""What the presets of one keras-hub text architecture have in common: class, blocks, pooling, special tokens.

Encoders and decoders cut into embeddings, layer0 to layerN-1 and top (the final norm, where there is one);
encoder-decoders into embeddings, encoder0 ..., encoder_top, decoder_embeddings, decoder0 ... and top, each of the
three where it has weights of its own. ALBERT calls one layer many times: that is one block.
"""

import re
from functools import partial

from tlkeras.backbones import Boundaries
from tlkeras.backbones.keras_hub_families import Family


def _names(model) -> list[str]:
    """Names of the layers in the order of the graph, without its inputs."""
    import keras

    return [layer.name for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]


def _ends(names: list[str], pattern: str) -> list[str]:
    """One name per value of the pattern's group: the last that has it."""
    return list({found[1]: name for name in names if (found := re.fullmatch(pattern, name))}.values())


def _numbered(block: str, ends: list[str]) -> Boundaries:
    return tuple((f"{block}{i}", end) for i, end in enumerate(ends))


def _to_output(names: list[str], blocks: Boundaries) -> Boundaries:
    """Ends the last block at the output, after a top of what follows it."""
    last, end = blocks[-1]
    return (*blocks, ("top", "")) if names[-1] != end else (*blocks[:-1], (last, ""))


def _stack(pattern: str, model) -> Boundaries:
    """Of a network of one stack, whose layers match `pattern`; what comes just before the first ends the embeddings."""
    names = _names(model)
    first = next(i for i, name in enumerate(names) if re.fullmatch(pattern, name))
    return _to_output(names, (("embeddings", names[first - 1]), *_numbered("layer", _ends(names, pattern))))


def _pair(layers: tuple[str, str], embeddings: str, middle: dict[str, str], model) -> Boundaries:
    """Of an encoder-decoder. `middle` maps blocks between the two stacks to a pattern, whose first match ends them."""
    names = _names(model)
    encoder, decoder = (_ends(names, pattern) for pattern in layers)
    between = ((block, next(n for n in names if re.fullmatch(end, n))) for block, end in middle.items())
    return _to_output(
        names, (("embeddings", embeddings), *_numbered("encoder", encoder), *between, *_numbered("decoder", decoder))
    )


def _sequence(backbone):
    """The model of the tokens' states alone, the decoder's of a pair: nothing pooled."""
    import keras

    for layer in backbone._flatten_layers():
        # Llama's layers ask themselves for this name, which is not theirs, when they are saved (keras-hub 0.32).
        if hasattr(layer, "rope_position_scaling_factor") and not hasattr(layer, "rope_scaling_factor"):
            layer.rope_scaling_factor = layer.rope_position_scaling_factor
    outputs = backbone.output
    if not isinstance(outputs, dict):
        return backbone
    sequence = outputs["decoder_sequence_output" if "decoder_sequence_output" in outputs else "sequence_output"]
    return keras.Model(backbone.input, sequence, name=backbone.name)


def _small(backbone: str, **config):
    import keras_hub

    return getattr(keras_hub.models, backbone)(**config)


def _family(role, pool, name, backbone, special, config: dict, blocks) -> Family:
    small = partial(_small, backbone, **config)
    return Family(name, backbone, blocks, small, pool, None, _sequence, kind="text", role=role, special=special)


_encoder = partial(_family, "encoder", "avg", blocks=partial(_stack, r"transformer_layer_(\d+)"))
_decoder = partial(_family, "decoder", "last", blocks=partial(_stack, r"transformer_layer_(\d+)"))
_encoder_decoder = partial(_family, "encoder-decoder", "none")

_GEMMA = partial(_stack, r"decoder_block_(\d+)")
_PAIRED = (r"transformer_encoder_layer_(\d+)", r"transformer_decoder_layer_(\d+)")

_CLS = (("cls_token_id",), ("sep_token_id",), ("sep_token_id",))
_START = (("start_token_id",), ("end_token_id", "end_token_id"), ("end_token_id",))
# keras-hub's preprocessors of decoders take one text only; between two goes what its packer puts there by default.
_GPT = (("start_token_id",), ("end_token_id",), ("end_token_id",))
_END = ((), ("end_token_id",), ("end_token_id",))

_SIZES = {"vocabulary_size": 60, "num_layers": 2, "hidden_dim": 8, "intermediate_dim": 16}
_HEADS = {**_SIZES, "num_heads": 2, "dropout": 0.1}
_LIMIT = {**_HEADS, "max_sequence_length": 32}
_GROUPED = {**_SIZES, "num_query_heads": 2, "num_key_value_heads": 1, "dropout": 0.1}
_MISTRAL = {**_GROUPED, "sliding_window": 4}
_EXPERTS = {"num_experts": 3, "top_k": 2}
_QWEN_MOE = {**_GROUPED, **_EXPERTS, "moe_intermediate_dim": 8}
_T5GEMMA = {
    f"{side}_{key}": value
    for side in ("encoder", "decoder")
    for key, value in {
        "hidden_dim": 8, "intermediate_dim": 16, "num_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
        "head_dim": 4, "layer_types": ["sliding_attention", "full_attention"]}.items()
}  # fmt: skip


TEXT_FAMILIES = {
    known.name: known
    for known in (
        _encoder("bert", "BertBackbone", _CLS, _LIMIT),
        _encoder("roberta", "RobertaBackbone", _START, _LIMIT),
        _encoder("xlm_roberta", "XLMRobertaBackbone", _START, _LIMIT),
        _encoder("distil_bert", "DistilBertBackbone", _CLS, _LIMIT),
        _encoder("albert", "AlbertBackbone", _CLS, {**_LIMIT, "num_layers": 4, "num_groups": 2, "embedding_dim": 4},
                 blocks=partial(_stack, r"group_(\d+)_inner_layer_\d+")),
        _encoder("deberta_v3", "DebertaV3Backbone", _CLS, {**_LIMIT, "bucket_size": 4},
                 blocks=partial(_stack, r"disentangled_attention_encoder_layer_(\d+)")),
        _encoder("electra", "ElectraBackbone", _CLS, {
            "vocab_size": 60, "num_layers": 2, "num_heads": 2, "hidden_dim": 8, "embedding_dim": 4,
            "intermediate_dim": 16, "max_sequence_length": 32}),
        _encoder("f_net", "FNetBackbone", _CLS, {**_SIZES, "dropout": 0.1, "max_sequence_length": 32},
                 blocks=partial(_stack, r"f_net_layer_(\d+)")),
        _encoder("roformer_v2", "RoformerV2Backbone", _CLS, {**_HEADS, "head_size": 4}),
        _decoder("gpt2", "GPT2Backbone", _GPT, _LIMIT),
        _decoder("opt", "OPTBackbone", _GPT, _LIMIT),
        _decoder("bloom", "BloomBackbone", _GPT, _HEADS),
        _decoder("falcon", "FalconBackbone", _GPT, {
            **_SIZES, "num_attention_heads": 2, "attention_dropout_rate": 0.1, "feedforward_dropout_rate": 0.1}),
        _decoder("gpt_neo_x", "GPTNeoXBackbone", _GPT, {**_LIMIT, "rotary_percentage": 0.5}),
        _decoder("llama", "LlamaBackbone", _GPT, _GROUPED),
        _decoder("llama3", "Llama3Backbone", _GPT, _GROUPED),
        _decoder("mistral", "MistralBackbone", _GPT, _MISTRAL),
        _decoder("mixtral", "MixtralBackbone", _GPT, {**_MISTRAL, **_EXPERTS}),
        _decoder("phi3", "Phi3Backbone", _GPT, {**_GROUPED, "max_sequence_length": 32}),
        _decoder("qwen", "QwenBackbone", _END, _GROUPED),
        _decoder("qwen3", "Qwen3Backbone", _END, {**_GROUPED, "head_dim": 4}),
        _decoder("qwen_moe", "QwenMoeBackbone", _END, {**_QWEN_MOE, "shared_expert_intermediate_dim": 8}),
        _decoder("qwen3_moe", "Qwen3MoeBackbone", _END, {**_QWEN_MOE, "head_dim": 4}),
        _decoder("gemma", "GemmaBackbone", _GPT, {**_GROUPED, "head_dim": 4}, blocks=_GEMMA),
        _decoder("gemma3", "Gemma3Backbone", _GPT, {**_GROUPED, "head_dim": 4, "image_size": None}, blocks=_GEMMA),
        _decoder("gpt_oss", "GptOssBackbone", _END, {**_MISTRAL, **_EXPERTS, "head_dim": 4}),
        _decoder("smollm3", "SmolLM3Backbone", _END, {
            **_SIZES, "num_attention_heads": 2, "num_key_value_heads": 1, "attention_bias": False,
            "attention_dropout": 0.1, "rope_layer_enabled_list": [True, False], "layer_types": ["full_attention"] * 2,
            "mlp_bias": False, "layer_norm_epsilon": 1e-6, "max_position_embeddings": 32, "rope_theta": 10000.0,
            "partial_rotary_factor": 1.0}),
        _encoder_decoder("t5", "T5Backbone", _END, _HEADS, partial(
            _pair, _PAIRED, "encoder_embedding_dropout", {"encoder_top": "encoder_output_dropout"})),
        _encoder_decoder("bart", "BartBackbone", _START, _LIMIT, partial(
            _pair, _PAIRED, "encoder_embeddings_dropout", {"decoder_embeddings": "decoder_embeddings_dropout"})),
        # keras-hub leaves the two norms without a name; the encoder's comes first.
        _encoder_decoder("t5gemma", "T5GemmaBackbone", _END, {
            **_T5GEMMA, "vocabulary_size": 60, "dropout_rate": 0.1, "attention_dropout": 0.1, "sliding_window": 4},
            partial(_pair, (r"encoder_layer_(\d+)", r"decoder_layer_(\d+)"), "encoder_token_embedding", {
                "encoder_top": r"rms_normalization(_\d+)?", "decoder_embeddings": "decoder_token_embedding"})),
    )
}  # fmt: skip
