"""How torchvision and timm call the weights of a network, as rules for the names that Keras has; see `mapping`.

Read from the state dicts of torchvision 0.28 and timm 1.0.31. A family has one list of rules a dialect; `HEADS` are
the tensors of classifiers, which a backbone has no use for, `RENAMES` what public files of today still call by the
names of an older version. Rules are tried in order; where a block is built otherwise than the rest, its rule is first.
"""

from tlkeras.foreign.mapping import Rules


def _parts(owner: str, module: str, **parts: str) -> Rules:
    """A rule for each part of a block: layer `owner`_PART is `module`.NAME."""
    return tuple((f"{owner}_{part}", f"{module}.{name}") for part, name in parts.items())


def _vgg(repeats: tuple[int, ...], norm: bool) -> Rules:
    """features.N counts convolutions, BatchNorms, activations and poolings."""
    rules, place = [], 0
    for block, count in enumerate(repeats, 1):
        for i in range(1, count + 1):
            fold = f"|fold features.{place + 1}" if norm else ""
            rules.append((f"block{block}_conv{i}", f"features.{place}{fold}"))
            place += 3 if norm else 2
        place += 1
    return tuple(rules)


def vgg(repeats: tuple[int, ...], norm: bool = False) -> Rules:
    """The rules of a VGG with so many convolutions in each block; with `norm` its BatchNorms are folded."""
    heads = (
        ("fc1/kernel", "classifier.0.weight|hwc"),
        ("fc1", "classifier.0"),
        ("fc2", "classifier.3"),
        ("predictions", "classifier.6"),
        ("fc1", "pre_logits.fc1"),
        ("fc2", "pre_logits.fc2"),
        ("predictions", "head.fc"),
    )
    return (*_vgg(repeats, norm), *heads)


RESNET: Rules = (
    ("conv1_conv", "conv1"),
    ("conv1_bn", "bn1"),
    (r"conv(\d)_block(\d+)_0_conv", "layer{1-1}.{2-1}.downsample.0"),
    (r"conv(\d)_block(\d+)_0_bn", "layer{1-1}.{2-1}.downsample.1"),
    (r"conv(\d)_block(\d+)_(\d)_conv", "layer{1-1}.{2-1}.conv{3}"),
    (r"conv(\d)_block(\d+)_(\d)_bn", "layer{1-1}.{2-1}.bn{3}"),
    # keras-hub's
    (r"stack(\d)_block(\d+)_0_conv", "layer{1+1}.{2}.downsample.0"),
    (r"stack(\d)_block(\d+)_0_bn", "layer{1+1}.{2}.downsample.1"),
    (r"stack(\d)_block(\d+)_(\d)_conv", "layer{1+1}.{2}.conv{3}"),
    (r"stack(\d)_block(\d+)_(\d)_bn", "layer{1+1}.{2}.bn{3}"),
    ("predictions", "fc"),
)
DENSENET: Rules = (
    ("conv1_conv", "features.conv0"),
    ("conv1_bn", "features.norm0"),
    (r"conv(\d)_block(\d+)_0_bn", "features.denseblock{1-1}.denselayer{2}.norm1"),
    (r"conv(\d)_block(\d+)_1_bn", "features.denseblock{1-1}.denselayer{2}.norm2"),
    (r"conv(\d)_block(\d+)_(\d)_conv", "features.denseblock{1-1}.denselayer{2}.conv{3}"),
    (r"pool(\d)_bn", "features.transition{1-1}.norm"),
    (r"pool(\d)_conv", "features.transition{1-1}.conv"),
    ("bn", "features.norm5"),
    ("predictions", "classifier"),
)

_SQUEEZE = {"se_reduce": "fc1", "se_expand": "fc2"}
_TIMM_SE = {"se_reduce": "se.conv_reduce", "se_expand": "se.conv_expand"}
_TIMM_NARROW = {"dwconv": "conv_dw", "bn": "bn1", "project_conv": "conv_pw", "project_bn": "bn2"} | _TIMM_SE
_TIMM_WIDE = {
    "expand_conv": "conv_pw", "expand_bn": "bn1", "dwconv2?": "conv_dw", "bn": "bn2",
    "project_conv": "conv_pwl", "project_bn": "bn3",
} | _TIMM_SE  # fmt: skip
_WIDE = {
    "expand_conv": "0.0", "expand_bn": "0.1", "dwconv2?": "1.0", "bn": "1.1",
    "se_reduce": "2.fc1", "se_expand": "2.fc2", "project_conv": "3.0", "project_bn": "3.1",
}  # fmt: skip
_NARROW = {
    "dwconv": "0.0", "bn": "0.1", "se_reduce": "1.fc1", "se_expand": "1.fc2", "project_conv": "2.0", "project_bn": "2.1",
}  # fmt: skip
_STEM: Rules = (("stem_conv", "features.0.0"), ("stem_bn", "features.0.1"))
_TOP: Rules = (
    ("top_conv", "features.{top}.0"),
    ("top_bn", "features.{top}.1"),
    ("predictions", "classifier.1"),
)
_TIMM_ENDS: Rules = (
    ("stem_conv", "conv_stem"),
    ("stem_bn", "bn1"),
    ("top_conv", "conv_head"),
    ("top_bn", "bn2"),
    ("predictions", "classifier"),
)
EFFICIENTNET: Rules = (
    *_STEM,
    *_parts(r"block(1)([a-z])", "features.1.{2a}.block", **_NARROW),
    *_parts(r"block(\d)([a-z])", "features.{1}.{2a}.block", **_WIDE),
    *_TOP,
)
EFFICIENTNET_TIMM: Rules = (
    *_TIMM_ENDS,
    *_parts(r"block(1)([a-z])", "blocks.0.{2a}", **_TIMM_NARROW),
    *_parts(r"block(\d)([a-z])", "blocks.{1-1}.{2a}", **_TIMM_WIDE),
)
# Stages 1 to 3 of the second version have no depthwise convolution.
EFFICIENTNET_V2: Rules = (
    *_STEM,
    *_parts(r"block(1)([a-z])", "features.1.{2a}.block", project_conv="0.0", project_bn="0.1"),
    *_parts(
        r"block([23])([a-z])",
        "features.{1}.{2a}.block",
        expand_conv="0.0",
        expand_bn="0.1",
        project_conv="1.0",
        project_bn="1.1",
    ),
    *_parts(r"block(\d)([a-z])", "features.{1}.{2a}.block", **_WIDE),
    *_TOP,
)
EFFICIENTNET_V2_TIMM: Rules = (
    *_TIMM_ENDS,
    *_parts(r"block(1)([a-z])", "blocks.0.{2a}", project_conv="conv", project_bn="bn1"),
    *_parts(
        r"block([23])([a-z])",
        "blocks.{1-1}.{2a}",
        expand_conv="conv_exp",
        expand_bn="bn1",
        project_conv="conv_pwl",
        project_bn="bn2",
    ),
    *_parts(r"block(\d)([a-z])", "blocks.{1-1}.{2a}", **_TIMM_WIDE),
)

MOBILENET_V2: Rules = (
    ("Conv1", "features.0.0"),
    ("bn_Conv1", "features.0.1"),
    *_parts("expanded_conv", "features.1.conv", depthwise="0.0", depthwise_BN="0.1", project="1", project_BN="2"),
    *_parts(
        r"block_(\d+)",
        "features.{1+1}.conv",
        expand="0.0",
        expand_BN="0.1",
        depthwise="1.0",
        depthwise_BN="1.1",
        project="2",
        project_BN="3",
    ),
    ("Conv_1", "features.18.0"),
    ("Conv_1_bn", "features.18.1"),
    ("predictions", "classifier.1"),
)
_TIMM_MOBILE = {
    "expand": "conv_pw", "expand_(?:BN|bn)": "bn1", "depthwise": "conv_dw", "depthwise_(?:BN|bn)": "bn2",
    "project": "conv_pwl", "project_(?:BN|bn)": "bn3",
    "squeeze_excite_conv": "se.conv_reduce", "squeeze_excite_conv_1": "se.conv_expand",
}  # fmt: skip
_TIMM_MOBILE_FIRST = {
    "depthwise": "conv_dw", "depthwise_(?:BN|bn)": "bn1", "project": "conv_pw", "project_(?:BN|bn)": "bn2",
    "squeeze_excite_conv": "se.conv_reduce", "squeeze_excite_conv_1": "se.conv_expand",
}  # fmt: skip
MOBILENET_V2_TIMM: Rules = (
    ("Conv1", "conv_stem"),
    ("bn_Conv1", "bn1"),
    *_parts("expanded_conv", "blocks.0.0", **_TIMM_MOBILE_FIRST),
    *_parts(r"block_(\d+)", "blocks.{1-1/}", **_TIMM_MOBILE),
    ("Conv_1", "conv_head"),
    ("Conv_1_bn", "bn2"),
    ("predictions", "classifier"),
)


def _mobilenet_v3(first: dict[str, str], squeezed: str) -> Rules:
    """`squeezed`: the blocks, as a pattern, that have a squeeze-and-excitation before their last convolution."""
    return (
        ("conv", "features.0.0"),
        ("conv_bn", "features.0.1"),
        *_parts("expanded_conv", "features.1.block", depthwise="0.0", depthwise_bn="0.1", **first),
        *_parts(rf"expanded_conv_({squeezed})", "features.{1+1}.block", project="3.0", project_bn="3.1"),
        *_parts(
            r"expanded_conv_(\d+)",
            "features.{1+1}.block",
            expand="0.0",
            expand_bn="0.1",
            depthwise="1.0",
            depthwise_bn="1.1",
            squeeze_excite_conv="2.fc1",
            squeeze_excite_conv_1="2.fc2",
            project="2.0",
            project_bn="2.1",
        ),
        ("conv_1", "features.{top}.0"),
        ("conv_1_bn", "features.{top}.1"),
        ("conv_2", "classifier.0"),
        ("logits", "classifier.3"),
    )


_SQUEEZED_FIRST = {
    "squeeze_excite_conv": "1.fc1", "squeeze_excite_conv_1": "1.fc2", "project": "2.0", "project_bn": "2.1",
}  # fmt: skip
MOBILENET_V3_LARGE = _mobilenet_v3({"project": "1.0", "project_bn": "1.1"}, "[345]|1[0-4]")
MOBILENET_V3_SMALL = _mobilenet_v3(_SQUEEZED_FIRST, "[3-9]|10")
MOBILENET_V3_TIMM: Rules = (
    ("conv", "conv_stem"),
    ("conv_bn", "bn1"),
    *_parts("expanded_conv", "blocks.0.0", **_TIMM_MOBILE_FIRST),
    *_parts(r"expanded_conv_(\d+)", "blocks.{1-1/}", **_TIMM_MOBILE),
    ("conv_1", "blocks.{last}.0.conv"),
    ("conv_1_bn", "blocks.{last}.0.bn1"),
    ("conv_2", "conv_head"),
    ("logits", "classifier"),
)

_NAME = r"convnext_[a-z]+"
_WITHIN = r"(?:[^/]+/)?"  # The Sequential that Keras has around stem and downsampling; a copy of it goes without.
CONVNEXT: Rules = (
    (rf"{_WITHIN}{_NAME}_stem_conv", "features.0.0"),
    (rf"{_WITHIN}{_NAME}_stem_layernorm", "features.0.1"),
    (rf"{_WITHIN}{_NAME}_downsampling_layernorm_(\d)", "features.{1*2+2}.0"),
    (rf"{_WITHIN}{_NAME}_downsampling_conv_(\d)", "features.{1*2+2}.1"),
    (rf"{_NAME}_stage_(\d)_block_(\d+)_layer_scale/variable(?:_\d+)?", "features.{1*2+1}.{2}.layer_scale"),
    *_parts(
        rf"{_NAME}_stage_(\d)_block_(\d+)",
        "features.{1*2+1}.{2}.block",
        depthwise_conv="0",
        layernorm="2",
        pointwise_conv_1="3",
        pointwise_conv_2="5",
    ),
    (rf"{_NAME}_head_layernorm", "classifier.0"),
    (rf"{_NAME}_head_dense", "classifier.2"),
)
CONVNEXT_TIMM: Rules = (
    (rf"{_WITHIN}{_NAME}_stem_conv", "stem.0"),
    (rf"{_WITHIN}{_NAME}_stem_layernorm", "stem.1"),
    (rf"{_WITHIN}{_NAME}_downsampling_layernorm_(\d)", "stages.{1+1}.downsample.0"),
    (rf"{_WITHIN}{_NAME}_downsampling_conv_(\d)", "stages.{1+1}.downsample.1"),
    (rf"{_NAME}_stage_(\d)_block_(\d+)_layer_scale/variable(?:_\d+)?", "stages.{1}.blocks.{2}.gamma"),
    *_parts(
        rf"{_NAME}_stage_(\d)_block_(\d+)",
        "stages.{1}.blocks.{2}",
        depthwise_conv="conv_dw",
        layernorm="norm",
        pointwise_conv_1="mlp.fc1",
        pointwise_conv_2="mlp.fc2",
    ),
    (rf"{_NAME}_head_layernorm", "head.norm"),
    (rf"{_NAME}_head_dense", "head.fc"),
)

_VIT = r"vit_encoder/transformer_block_(\d+)"
_VIT_LAYER, _VIT_TIMM = "encoder.layers.encoder_layer_{1-1}", "blocks.{1-1}"
_QKV = (("query", 0), ("key", 1), ("value", 2))
VIT: Rules = (
    ("vit_patching_and_embedding/class_token", "class_token"),
    ("vit_patching_and_embedding/position_embedding/embeddings", "encoder.pos_embedding"),
    ("vit_patching_and_embedding/patch_embedding", "conv_proj"),
    *((f"{_VIT}/mha/{name}/kernel", f"{_VIT_LAYER}.self_attention.in_proj_weight|{i}/3") for name, i in _QKV),
    *((f"{_VIT}/mha/{name}/bias", f"{_VIT_LAYER}.self_attention.in_proj_bias|{i}/3") for name, i in _QKV),
    (f"{_VIT}/mha/attention_output", f"{_VIT_LAYER}.self_attention.out_proj"),
    (f"{_VIT}/ln_(\\d)", f"{_VIT_LAYER}.ln_{{2}}"),
    (f"{_VIT}/mlp/dense_1", f"{_VIT_LAYER}.mlp.0"),
    (f"{_VIT}/mlp/dense_2", f"{_VIT_LAYER}.mlp.3"),
    ("vit_encoder/ln", "encoder.ln"),
    ("predictions", "heads.head"),
)
VIT_TIMM: Rules = (
    ("vit_patching_and_embedding/class_token", "cls_token"),
    ("vit_patching_and_embedding/position_embedding/embeddings", "pos_embed"),
    ("vit_patching_and_embedding/patch_embedding", "patch_embed.proj"),
    *((f"{_VIT}/mha/{name}/kernel", f"{_VIT_TIMM}.attn.qkv.weight|{i}/3") for name, i in _QKV),
    *((f"{_VIT}/mha/{name}/bias", f"{_VIT_TIMM}.attn.qkv.bias|{i}/3") for name, i in _QKV),
    (f"{_VIT}/mha/attention_output", f"{_VIT_TIMM}.attn.proj"),
    (f"{_VIT}/ln_(\\d)", f"{_VIT_TIMM}.norm{{2}}"),
    (f"{_VIT}/mlp/dense_(\\d)", f"{_VIT_TIMM}.mlp.fc{{2}}"),
    ("vit_encoder/ln", "norm"),
    ("predictions", "head"),
)

_SWIN = r"stage_(\d)/blocks_(\d+)"


def _swin(block: str, first: str, second: str) -> Rules:
    return (
        (f"{_SWIN}/attn/relative_position_bias_table", f"{block}.attn.relative_position_bias_table"),
        (f"{_SWIN}/attn/attention_qkv", f"{block}.attn.qkv"),
        (f"{_SWIN}/attn/attention_projection", f"{block}.attn.proj"),
        (f"{_SWIN}/norm(\\d)", f"{block}.norm{{3}}"),
        (f"{_SWIN}/mlp/fc1", f"{block}.mlp.{first}"),
        (f"{_SWIN}/mlp/fc2", f"{block}.mlp.{second}"),
        ("norm", "norm"),
    )


SWIN: Rules = (
    ("patch_embedding/conv_projection", "features.0.0"),
    ("patch_embedding/norm", "features.0.2"),
    (r"stage_(\d)/downsample/(reduction|norm)", "features.{1*2+2}.{2}"),
    *_swin("features.{1*2+1}.{2}", "0", "3"),
    ("predictions", "head"),
)
SWIN_TIMM: Rules = (
    ("patch_embedding/conv_projection", "patch_embed.proj"),
    ("patch_embedding/norm", "patch_embed.norm"),
    (r"stage_(\d)/downsample/(reduction|norm)", "layers.{1+1}.downsample.{2}"),
    *_swin("layers.{1}.blocks.{2}", "fc1", "fc2"),
    ("predictions", "head.fc"),
)

_A = "branch1x1 branch5x5_1 branch5x5_2 branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3 branch_pool"
_B = "branch3x3 branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3"
_C = (
    "branch1x1 branch7x7_1 branch7x7_2 branch7x7_3 branch7x7dbl_1 branch7x7dbl_2 branch7x7dbl_3 branch7x7dbl_4"
    " branch7x7dbl_5 branch_pool"
)
_D = "branch3x3_1 branch3x3_2 branch7x7x3_1 branch7x7x3_2 branch7x7x3_3 branch7x7x3_4"
_E = (
    "branch1x1 branch3x3_1 branch3x3_2a branch3x3_2b branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3a branch3x3dbl_3b"
    " branch_pool"
)
# The convolutions of Inception v3 in the order in which both libraries make them; Keras numbers and does not name them.
INCEPTION_ORDER = (
    *("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3"),
    *(
        f"Mixed_{name}.{branch}"
        for names, branches in (("5b 5c 5d", _A), ("6a", _B), ("6b 6c 6d 6e", _C), ("7a", _D), ("7b 7c", _E))
        for name in names.split()
        for branch in branches.split()
    ),
)
INCEPTION: Rules = (
    *((f"{name.replace('.', '_')}_{end}", f"{name}.{end}") for name in INCEPTION_ORDER for end in ("conv", "bn")),
    ("predictions", "fc"),
)

HEADS = (
    r"(fc|classifier|head|heads)(\..*)?",
    r"pre_logits\..*",
    r"AuxLogits\..*",
    r"head_dist\..*",
)
RENAMES: Rules = (
    (r"^module\.", ""),
    (r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2."),  # torchvision's densenet*.pth of 2017
    (r"(encoder_layer_\d+\.mlp)\.linear_1\.", r"\1.0."),  # torchvision's vit_*.pth of 2022
    (r"(encoder_layer_\d+\.mlp)\.linear_2\.", r"\1.3."),
)


def of(made) -> list[Rules]:
    """The lists of rules of a build of `backbones.torch_builds`, one a dialect."""
    return [vgg(made.facts["repeats"], made.facts["norm"]) if name == "vgg" else globals()[name] for name in made.maps]
