"""What the presets of one keras-hub architecture have in common: class, blocks, pooling, encoders to open.

Blocks follow from the built model's own configuration, so that they hold for any preset of the family, the
local ones too. keras-hub names the layers that end a block, MobileNetV5's excepted: those are found by place.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from tlkeras.backbones import Boundaries


@dataclass(frozen=True)
class Family:
    """An architecture of keras-hub.

    Attributes:
        backbone: name of the class in keras_hub.models whose presets these are.
        blocks: function of the model that `features` returns; see Backbone.blocks.
        small: () -> a tiny random instance of `backbone`, for tests.
        size: the keyword of the class that sets the input's shape; None where weights fit one size only.
        features: (instance of the class) -> the model of pixels to features, the image tower of a pair.
        pool, opened, kind: see Backbone.
        role: 'encoder', 'decoder' or 'encoder-decoder'; of text only.
        special: of text: the tokenizer's attributes whose ids go before the first text, between two, and behind the
            last, as three tuples of names.
    """

    name: str
    backbone: str
    blocks: Callable[[Any], Boundaries]
    small: Callable[[], Any]
    pool: str = "avg"
    size: str | None = "image_shape"
    features: Callable[[Any], Any] = lambda backbone: backbone
    opened: dict[str, Callable] = field(default_factory=dict)
    kind: str = "image"
    role: str = ""
    special: tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]] = ((), (), ())


def _last(model, pattern: str) -> str:
    """The layer nearest to the output among those whose whole name matches: keras-hub's own names, no counters."""
    return [layer.name for layer in model.layers if re.fullmatch(pattern, layer.name)][-1]


def _numbered(*ends) -> list[tuple[str, str]]:
    return [(f"block{i}", end) for i, end in enumerate(ends, 1)]


def _layered(embeddings: str, names) -> Boundaries:
    """A transformer: embeddings, layer0 to layerN-1, and the final norm as top."""
    return ("embeddings", embeddings), *((f"layer{i}", name) for i, name in enumerate(names)), ("top", "")


def _resnet(model) -> Boundaries:
    ends = [f"stack{i}_block{n - 1}_out" for i, n in enumerate(model.stackwise_num_blocks)]
    top = [("top", "")] if model.use_pre_activation else []
    return ("stem", "pool1_pool"), *_numbered(*ends), *top


def _vgg(model) -> Boundaries:
    return tuple(_numbered(*(f"block{i + 1}_pool" for i in range(len(model.stackwise_num_repeats)))))


def _efficientnet(model) -> Boundaries:
    ends = [_last(model, rf"block{i + 1}[a-z]+_.*") for i in range(len(model.stackwise_num_repeats))]
    return ("stem", "stem_activation"), *_numbered(*ends), ("top", "")


def _mobilenet(model) -> Boundaries:
    ends = [f"block_{i}_{n - 1}" for i, n in enumerate(model.stackwise_num_blocks, 1)]
    return ("stem", "block_0_0"), *_numbered(*ends), ("top", "")


def _mobilenetv5(model) -> Boundaries:
    names = [layer.name for layer in model.layers]
    place, ends = names.index("conv_stem"), []
    for count in model.stackwise_num_blocks:
        place += count
        ends.append(names[place])
    blocks = _numbered(*ends)
    return ("stem", "conv_stem"), *blocks, *([("top", "")] if model.use_msfa else [])


def _densenet(model) -> Boundaries:
    repeats = model.stackwise_num_repeats
    ends = [f"transition{i}_pool" for i in range(1, len(repeats))]
    return ("stem", "pool1"), *_numbered(*ends, f"stack{len(repeats)}_block{repeats[-1]}_concat"), ("top", "")


def _xception(model) -> Boundaries:
    ends = [(f"block{i}", f"block{i}_residual_add") for i in range(2, len(model.stackwise_conv_filters))]
    return ("stem", _last(model, "block1_.*")), *ends, (f"block{len(ends) + 2}", "")


def _cspnet(model) -> Boundaries:
    ends = [_last(model, rf"stage_{i}_.*") for i in range(len(model.stackwise_depth))]
    return ("stem", _last(model, "csp_stem_.*")), *_numbered(*ends)


def _hgnetv2(model) -> Boundaries:
    return ("stem", model.embedder_layer.name), *_numbered(*(stage.name for stage in model.encoder_layer.stages_list))


def _mit(model) -> Boundaries:
    return tuple(_numbered(*(f"output_level_{i}" for i in range(model.num_layers))))


def _swin(model) -> Boundaries:
    return ("embeddings", "patch_embedding"), *_numbered(*(stage.name for stage in model.stages)), ("top", "")


def _vit(encoder: str, embeddings: str, model) -> Boundaries:
    return _layered(embeddings, [layer.name for layer in model.get_layer(encoder).encoder_layers])


def _dino(model) -> Boundaries:
    return _layered(model.embeddings.name, [layer.name for layer in model.encoder.layers])


def _tower(model) -> Boundaries:
    before = getattr(model, "pre_layer_norm", model.embedding)
    blocks = _layered(before.name, [layer.name for layer in model.encoder_layers])
    return blocks[:-1] if model.layers[-1] is model.encoder_layers[-1] else blocks


def _open_vit(encoder, apply, x):
    if encoder.dropout_rate:
        encoder.dropout.name = f"{encoder.name}_dropout"  # 'dropout' is what Keras calls the first one of a head.
        x = apply(encoder.dropout, x)
    for layer in encoder.encoder_layers:
        x = apply(layer, x)
    return apply(encoder.layer_norm, x)


def _open_deit(encoder, apply, x):
    from tlkeras.backbones.first_output import FirstOutput

    for layer in encoder.encoder_layers:
        x = apply(FirstOutput(layer), x)
    # The encoder also returns hidden states and attention scores, both empty here; the backbone drops them.
    return apply(encoder.layer_norm, x), None, None


def _open_dino(encoder, apply, x, **options):
    pyramid = {}
    for i, layer in enumerate(encoder.layers, 1):
        x = pyramid[f"stage{i}"] = apply(layer, x, **options)
    return x, pyramid


def _open_hgnetv2(encoder, apply, x):
    states = [x]
    for stage in encoder.stages_list:
        states.append(apply(stage, states[-1]))
    return tuple(states)


def _constant_rope(layer, apply, pixels):
    """The rotary angles depend on the image's size only: as constants they let a graph be cut between the layers."""
    import numpy as np

    return layer(np.zeros((1, *pixels.shape[1:]), "float32"))


def _last_map(backbone):
    """A copy that returns the last stage's map alone, in a dict of one."""
    config = {**backbone.get_config(), "out_features": backbone.stage_names[-1:]}
    alone = type(backbone).from_config(config)
    alone.set_weights(backbone.get_weights())
    return alone


def _tower_of(backbone):
    return backbone.vision_encoder


def _siglip_tower(backbone):
    return corrected(backbone.vision_encoder)


def corrected(model):
    """Mends a keras-hub model that was just built from its config: SigLIP's image tower of keras-hub 0.32 infers one
    token too many from the patches, and a network cut behind them would refuse its input. Others are left alone."""
    if type(model).__name__ == "SigLIPVisionEncoder":
        embedding = model.embedding
        embedding.compute_output_shape = lambda shape: (shape[0], embedding.num_positions, embedding.hidden_dim)
    return model


def _small(backbone: str, **config):
    import keras_hub

    return getattr(keras_hub.models, backbone)(**config)


def _small_pair(prefix: str, pair: dict):
    import keras_hub

    sizes = {"hidden_dim": 8, "num_layers": 2, "num_heads": 2, "intermediate_dim": 16}
    vision = getattr(keras_hub.models, f"{prefix}VisionEncoder")
    vision = vision(patch_size=8, image_shape=(16, 16, 3), name="vision", **sizes)
    words = getattr(keras_hub.models, f"{prefix}TextEncoder")
    words = words(vocabulary_size=20, embedding_dim=8, max_sequence_length=6, name="text", **sizes)
    return getattr(keras_hub.models, f"{prefix}Backbone")(vision_encoder=vision, text_encoder=words, **pair)


def _family(name, backbone, blocks, config: dict, **facts) -> Family:
    return Family(name, backbone, blocks, partial(_small, backbone, **config), **facts)


def _pair(name, prefix, pool, pair: dict, features=_tower_of) -> Family:
    small = partial(_small_pair, prefix, pair)
    return Family(name, f"{prefix}Backbone", _tower, small, pool, size=None, features=features)


_TOKENS = {"num_layers": 2, "num_heads": 2, "hidden_dim": 8}
_V5_OFF = {
    f"stackwise_{key}": [[0], [0, 0]]
    for key in ("dw_start_kernel_sizes", "dw_end_kernel_sizes", "num_heads", "key_dims", "value_dims", "kv_strides")
}

FAMILIES = {
    known.name: known
    for known in (
        _family("resnet", "ResNetBackbone", _resnet, {
            "input_conv_filters": [8, 64], "input_conv_kernel_sizes": [3, 3], "stackwise_num_filters": [64, 64],
            "stackwise_num_blocks": [1, 2], "stackwise_num_strides": [1, 2], "block_type": "basic_block",
            "use_pre_activation": True, "image_shape": (32, 32, 3)}),
        _family("vgg", "VGGBackbone", _vgg, {
            "stackwise_num_repeats": [1, 2], "stackwise_num_filters": [4, 8], "image_shape": (32, 32, 3)}),
        _family("efficientnet", "EfficientNetBackbone", _efficientnet, {
            "stackwise_width_coefficients": [1.0, 1.0, 1.0, 0.0125], "stackwise_depth_coefficients": [1.5] * 4,
            "stackwise_kernel_sizes": [3] * 4, "stackwise_num_repeats": [1, 1, 1, 2],
            "stackwise_input_filters": [8] * 4, "stackwise_output_filters": [8] * 4,
            "stackwise_expansion_ratios": [2] * 4, "stackwise_squeeze_and_excite_ratios": [0, 0, 0.25, 0.25],
            "stackwise_strides": [1, 2, 1, 2], "stackwise_block_types": ["cba", "fused", "unfused", "v1"],
            "stackwise_force_input_filters": [0] * 4, "stackwise_nores_option": [False] * 4,
            "input_shape": (32, 32, 3)}, size="input_shape"),
        _family("mobilenet", "MobileNetBackbone", _mobilenet, {
            "stackwise_expansion": [[8, 16], [24]], "stackwise_num_blocks": [2, 1],
            "stackwise_num_filters": [[8, 8], [16]], "stackwise_kernel_size": [[3, 3], [5]],
            "stackwise_num_strides": [[2, 1], [1]], "stackwise_se_ratio": [[None, 0.25], [None]],
            "stackwise_activation": [["relu", "relu"], ["hard_swish"]], "stackwise_padding": [[1, 1], [2]],
            "output_num_filters": 16, "depthwise_filters": 8, "depthwise_stride": 1, "depthwise_residual": True,
            "last_layer_filter": 16, "input_num_filters": 8, "image_shape": (32, 32, 3)}),
        _family("mobilenetv5", "MobileNetV5Backbone", _mobilenetv5, {
            "stackwise_block_types": [["er"], ["uir", "mqa"]], "stackwise_num_blocks": [1, 2],
            "stackwise_num_filters": [[8], [16, 16]], "stackwise_strides": [[2], [2, 1]],
            "stackwise_act_layers": [["gelu"], ["gelu", "gelu"]], "stackwise_exp_ratios": [[2.0], [2.0, 0.0]],
            "stackwise_se_ratios": [[0.0], [0.0, 0.0]], "stackwise_dw_kernel_sizes": [[0], [3, 0]],
            "stackwise_exp_kernel_sizes": [[3], [0, 0]], "stackwise_pw_kernel_sizes": [[1], [0, 0]],
            "stackwise_use_cpe": [[False], [False, False]], **_V5_OFF, "stackwise_num_heads": [[0], [0, 2]],
            "stackwise_key_dims": [[0], [0, 8]], "stackwise_value_dims": [[0], [0, 8]],
            "stackwise_kv_strides": [[0], [0, 1]], "stem_size": 8, "num_features": 16,
            "msfa_output_resolution": 4, "image_shape": (32, 32, 3)}),
        _family("densenet", "DenseNetBackbone", _densenet, {
            "stackwise_num_repeats": [1, 2], "growth_rate": 4, "image_shape": (32, 32, 3)}),
        _family("xception", "XceptionBackbone", _xception, {
            "stackwise_conv_filters": [[4, 8], [16, 16], [16, 16], [8]],
            "stackwise_pooling": [False, True, False, False], "image_shape": (32, 32, 3)}),
        _family("cspnet", "CSPNetBackbone", _cspnet, {
            "stem_filters": 8, "stem_kernel_size": 7, "stem_strides": 4, "stem_pooling": "max",
            "stackwise_depth": [1, 2], "stackwise_strides": [1, 2], "stackwise_num_filters": [8, 16],
            "block_type": "bottleneck_block", "stage_type": "csp", "bottle_ratio": [0.5], "expand_ratio": [2.0],
            "cross_linear": True, "image_shape": (32, 32, 3)}),
        _family("hgnetv2", "HGNetV2Backbone", _hgnetv2, {
            "depths": [1, 1], "embedding_size": 4, "hidden_sizes": [8, 16], "stem_channels": [3, 4, 4],
            "hidden_act": "relu", "use_learnable_affine_block": False,
            "stackwise_stage_filters": [[4, 4, 8, 1, 2, 3], [8, 4, 16, 1, 2, 3]],
            "apply_downsample": [False, True], "use_lightweight_conv_block": [False, True], "name": "hgnetv2",
            "image_shape": (32, 32, 3)},
            features=_last_map, opened={"hgnetv2_encoder": _open_hgnetv2}),
        _family("mit", "MiTBackbone", _mit, {
            "layerwise_depths": [1, 2], "num_layers": 2, "layerwise_num_heads": [1, 2],
            "layerwise_sr_ratios": [2, 1], "max_drop_path_rate": 0.1, "layerwise_patch_sizes": [7, 3],
            "layerwise_strides": [4, 2], "hidden_dims": [8, 16], "image_shape": (32, 32, 3)}),
        _family("vit", "ViTBackbone", partial(_vit, "vit_encoder", "vit_patching_and_embedding"), {
            **_TOKENS, "patch_size": 8, "mlp_dim": 16, "image_shape": (16, 16, 3)},
            pool="token", size=None, opened={"vit_encoder": _open_vit}),
        _family("deit", "DeiTBackbone", partial(_vit, "deit_encoder", "deit_patching_and_embedding"), {
            **_TOKENS, "patch_size": 8, "intermediate_dim": 16, "image_shape": (16, 16, 3)},
            pool="token", size=None, opened={"deit_encoder": _open_deit}),
        _family("swin_transformer", "SwinTransformerBackbone", _swin, {
            "embed_dim": 8, "depths": [2, 1], "num_heads": [2, 2], "window_size": 4, "image_shape": (32, 32, 3)}),
        _family("dinov2", "DINOV2Backbone", _dino, {
            **_TOKENS, "patch_size": 8, "intermediate_dim": 16, "num_register_tokens": 1, "name": "dinov2",
            "position_embedding_shape": (24, 24, 3), "image_shape": (16, 16, 3)},
            pool="token", opened={"dinov2_encoder": _open_dino}),
        _family("dinov3", "DINOV3Backbone", _dino, {
            **_TOKENS, "patch_size": 8, "intermediate_dim": 16, "name": "dinov3", "image_shape": (16, 16, 3)},
            pool="token", opened={"dinov3_encoder": _open_dino, "dinov3_rope_embedding": _constant_rope}),
        _pair("siglip", "SigLIP", "none", {}, _siglip_tower),
        _pair("clip", "CLIP", "token", {"projection_dim": 8}),
        # The token comes before the pair's last norm, which lies outside the vision encoder.
        _pair("metaclip_2", "MetaCLIP2", "token", {"projection_dim": 8}),
    )
}  # fmt: skip
