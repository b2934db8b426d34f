"""The presets of keras-hub 0.32's image families: name, handle, weights, training data, licence.

Nothing here asks keras-hub; a test compares names and handles with the installed version. Parameters are
keras-hub's, or were measured where its number counts a classifier (ResNetVD, EfficientNet, CSPNet, MiT), another
network's layers (ResNetV2), or the text tower (SigLIP, CLIP, MetaCLIP 2: computed, and checked by the sum of both
towers). Those of the larger DINOv3 are rounded. DINOv2's are those at 518 px; smaller images have fewer positions.

Licences: as on the model pages of the keras organisation (ResNet, VGG, EfficientNet B0, DenseNet, SigLIP), or of
the weights' authors (Swin, DINOv2, DINOv3, MiT, CLIP, MedSigLIP, MobileNetV5). 'see the model page': not found.
"""

from collections.abc import Iterable
from dataclasses import dataclass

_APACHE, _SEE = "Apache-2.0", "see the model page"
_NVIDIA = "NVIDIA Source Code License (non-commercial)"
_METACLIP = "CC-BY-NC-4.0 (MetaCLIP's; see the model page)"


@dataclass(frozen=True)
class Preset:
    """A preset of keras-hub; `data` is what it was trained on last, and the key of its weights. `whole` is its class where
    that is a detector or segmenter, of which the image encoder is the backbone; `parameters` are the encoder's."""

    name: str
    family: str
    handle: str
    data: str
    licence: str
    parameters: int
    description: str
    whole: str = ""

    @property
    def misfiled(self) -> bool:
        """Whether keras-hub's own handle names another preset, so that fetching it would load other weights."""
        return self.handle.split("/")[-2] != self.name


# Family, Kaggle model/version, training data, licence, and rows of: name, parameters, what it is.
# A row's fourth entry replaces the preset's name in the handle.
_TABLE = (
    ("resnet", "resnetv1/3", "imagenet", _APACHE, (
        ("resnet_18_imagenet", 11_186_112, "ResNet-18 at 224 px"),
        ("resnet_50_imagenet", 23_561_152, "ResNet-50 at 224 px"),
        ("resnet_101_imagenet", 42_605_504, "ResNet-101 at 224 px"),
        ("resnet_152_imagenet", 58_295_232, "ResNet-152 at 224 px"))),
    ("resnet", "resnetv2/3", "imagenet", _APACHE, (
        ("resnet_v2_50_imagenet", 23_545_792, "ResNet-50 v2 at 224 px"),
        ("resnet_v2_101_imagenet", 42_590_144, "ResNet-101 v2 at 224 px"))),
    ("resnet", "resnet_vd/2", "imagenet", _APACHE, (
        ("resnet_vd_18_imagenet", 11_209_824, "ResNet-18 vd at 224 px"),
        ("resnet_vd_34_imagenet", 21_325_408, "ResNet-34 vd at 224 px"),
        ("resnet_vd_50_imagenet", 23_580_512, "ResNet-50 vd at 224 px"),
        ("resnet_vd_50_ssld_imagenet", 23_580_512, "ResNet-50 vd at 224 px, distilled"),
        ("resnet_vd_50_ssld_v2_imagenet", 23_580_512, "ResNet-50 vd at 224 px, distilled, AutoAugment"),
        ("resnet_vd_50_ssld_v2_fix_imagenet", 23_580_512, "ResNet-50 vd at 224 px, distilled, classifier tuned again"),
        ("resnet_vd_101_imagenet", 42_624_864, "ResNet-101 vd at 224 px"),
        ("resnet_vd_101_ssld_imagenet", 42_624_864, "ResNet-101 vd at 224 px, distilled"),
        ("resnet_vd_152_imagenet", 58_314_592, "ResNet-152 vd at 224 px"),
        ("resnet_vd_200_imagenet", 72_884_064, "ResNet-200 vd at 224 px"))),
    ("vgg", "vgg/3", "imagenet", _APACHE, (
        ("vgg_11_imagenet", 9_220_480, "VGG-11 at 224 px"),
        ("vgg_13_imagenet", 9_404_992, "VGG-13 at 224 px"),
        ("vgg_16_imagenet", 14_714_688, "VGG-16 at 224 px"),
        ("vgg_19_imagenet", 20_024_384, "VGG-19 at 224 px"))),
    ("efficientnet", "efficientnet/2", "imagenet", _APACHE, (
        ("efficientnet_b0_ra_imagenet", 4_049_564, "EfficientNet-B0, RandAugment"),)),
    ("efficientnet", "efficientnet/2", "imagenet", _SEE, (
        ("efficientnet_b0_ra4_e3600_r224_imagenet", 4_049_564, "EfficientNet-B0 at 224 px, 3600 epochs"),
        ("efficientnet_b1_ra4_e3600_r240_imagenet", 6_575_232, "EfficientNet-B1 at 240 px, 3600 epochs"),
        ("efficientnet_b2_ra_imagenet", 7_768_562, "EfficientNet-B2, RandAugment"),
        ("efficientnet_b3_ra2_imagenet", 10_783_528, "EfficientNet-B3, RandAugment"),
        ("efficientnet_b4_ra2_imagenet", 17_673_816, "EfficientNet-B4, RandAugment"),
        ("efficientnet_b5_sw_ft_imagenet", 28_513_520, "EfficientNet-B5, ImageNet-12k, then ImageNet-1k"),
        ("efficientnet2_rw_m_agc_imagenet", 51_390_674, "EfficientNetV2-M, adaptive gradient clipping"),
        ("efficientnet2_rw_s_ra2_imagenet", 22_309_144, "EfficientNetV2-S, RandAugment"),
        ("efficientnet2_rw_t_ra2_imagenet", 12_743_412, "EfficientNetV2-T, RandAugment"),
        ("efficientnet_lite0_ra_imagenet", 3_413_024, "EfficientNet-Lite0, RandAugment"))),
    ("efficientnet", "efficientnet/2", "imagenet12k", _SEE, (
        ("efficientnet_b5_sw_imagenet", 28_513_520, "EfficientNet-B5, ImageNet-12k"),)),
    ("efficientnet", "efficientnet/5", "imagenet", _SEE, (
        ("efficientnet_b1_ft_imagenet", 6_575_232, "EfficientNet-B1, fine-tuned"),
        ("efficientnet_el_ra_imagenet", 9_144_920, "EfficientNet-EdgeTPU-L", "efficientnet_b1_ft_imagenet"),
        ("efficientnet_em_ra2_imagenet", 5_686_304, "EfficientNet-EdgeTPU-M", "efficientnet_b1_ft_imagenet"),
        ("efficientnet_es_ra_imagenet", 4_208_832, "EfficientNet-EdgeTPU-S", "efficientnet_b1_ft_imagenet"))),
    ("mobilenet", "mobilenetv3/1", "imagenet", _SEE, (
        ("mobilenet_v3_small_050_imagenet", 278_784, "MobileNetV3-Small of half width at 224 px"),
        ("mobilenet_v3_small_100_imagenet", 939_120, "MobileNetV3-Small at 224 px"),
        ("mobilenet_v3_large_100_imagenet", 2_996_352, "MobileNetV3-Large at 224 px"))),
    ("mobilenet", "mobilenetv3/1", "imagenet21k", _SEE, (
        ("mobilenet_v3_large_100_imagenet_21k", 2_996_352, "MobileNetV3-Large at 224 px, ImageNet-21k"),)),
    ("mobilenetv5", "mobilenetv5/1", "gemma3n", "Gemma terms", (
        ("mobilenetv5_300m_enc_gemma3n", 294_284_096, "MobileNetV5, the image encoder of Gemma 3n"),)),
    ("densenet", "densenet/3", "imagenet", "BSD-3-Clause", (
        ("densenet_121_imagenet", 7_037_504, "DenseNet-121 at 224 px"),
        ("densenet_169_imagenet", 12_642_880, "DenseNet-169 at 224 px"),
        ("densenet_201_imagenet", 18_321_984, "DenseNet-201 at 224 px"))),
    ("xception", "xception/2", "imagenet", _SEE, (
        ("xception_41_imagenet", 20_861_480, "Xception-41"),)),
    ("cspnet", "cspdarknet/2", "imagenet", _SEE, (
        ("csp_darknet_53_ra_imagenet", 26_652_512, "CSPDarkNet-53 at 256 px, RandAugment"),)),
    ("cspnet", "cspdarknet/1", "imagenet", _SEE, (
        ("csp_resnext_50_ra_imagenet", 18_578_368, "CSPResNeXt-50 at 256 px, RandAugment"),
        ("csp_resnet_50_ra_imagenet", 20_631_488, "CSPResNet-50 at 256 px, RandAugment"),
        ("darknet_53_imagenet", 40_620_640, "DarkNet-53 at 256 px"))),
    ("hgnetv2", "hgnetv2/1", "imagenet", _SEE, (
        ("hgnetv2_b4_ssld_stage2_ft_in1k", 13_599_072, "HGNetV2-B4, distilled in 2 stages"),
        ("hgnetv2_b5_ssld_stage1_in22k_in1k", 33_419_680, "HGNetV2-B5, distilled, ImageNet-22k, then ImageNet-1k"),
        ("hgnetv2_b5_ssld_stage2_ft_in1k", 33_419_680, "HGNetV2-B5, distilled in 2 stages"),
        ("hgnetv2_b6_ssld_stage1_in22k_in1k", 69_179_888, "HGNetV2-B6, distilled, ImageNet-22k, then ImageNet-1k"),
        ("hgnetv2_b6_ssld_stage2_ft_in1k", 69_179_888, "HGNetV2-B6, distilled in 2 stages"))),
    ("mit", "mit/4", "ade20k", _NVIDIA, (
        ("mit_b0_ade20k_512", 3_319_392, "MiT-B0, of SegFormer at 512 px"),
        ("mit_b1_ade20k_512", 13_151_424, "MiT-B1, of SegFormer at 512 px"),
        ("mit_b2_ade20k_512", 24_196_288, "MiT-B2, of SegFormer at 512 px"))),
    ("mit", "mit/3", "ade20k", _NVIDIA, (
        ("mit_b3_ade20k_512", 44_072_128, "MiT-B3, of SegFormer at 512 px"),
        ("mit_b4_ade20k_512", 60_842_688, "MiT-B4, of SegFormer at 512 px"),
        ("mit_b5_ade20k_640", 81_443_008, "MiT-B5, of SegFormer at 640 px"))),
    ("mit", "mit/3", "cityscapes", _NVIDIA, (
        ("mit_b0_cityscapes_1024", 3_319_392, "MiT-B0, of SegFormer at 1024 px"),
        ("mit_b1_cityscapes_1024", 13_151_424, "MiT-B1, of SegFormer at 1024 px"),
        ("mit_b2_cityscapes_1024", 24_196_288, "MiT-B2, of SegFormer at 1024 px"),
        ("mit_b3_cityscapes_1024", 44_072_128, "MiT-B3, of SegFormer at 1024 px"),
        ("mit_b4_cityscapes_1024", 60_842_688, "MiT-B4, of SegFormer at 1024 px"),
        ("mit_b5_cityscapes_1024", 81_443_008, "MiT-B5, of SegFormer at 1024 px"))),
    ("vit", "vit/4", "imagenet", _SEE, (
        ("vit_base_patch16_224_imagenet", 85_798_656, "ViT-B/16 at 224 px"),
        ("vit_base_patch16_384_imagenet", 86_090_496, "ViT-B/16 at 384 px"),
        ("vit_large_patch16_224_imagenet", 303_301_632, "ViT-L/16 at 224 px"),
        ("vit_large_patch16_384_imagenet", 303_690_752, "ViT-L/16 at 384 px"))),
    ("vit", "vit/3", "imagenet", _SEE, (
        ("vit_base_patch32_384_imagenet", 87_528_192, "ViT-B/32 at 384 px"),
        ("vit_large_patch32_384_imagenet", 305_607_680, "ViT-L/32 at 384 px"))),
    ("vit", "vit/3", "imagenet21k", _SEE, (
        ("vit_base_patch16_224_imagenet21k", 85_798_656, "ViT-B/16 at 224 px, ImageNet-21k"),
        ("vit_base_patch32_224_imagenet21k", 87_455_232, "ViT-B/32 at 224 px, ImageNet-21k"),
        ("vit_huge_patch14_224_imagenet21k", 630_764_800, "ViT-H/14 at 224 px, ImageNet-21k"),
        ("vit_large_patch16_224_imagenet21k", 303_301_632, "ViT-L/16 at 224 px, ImageNet-21k"),
        ("vit_large_patch32_224_imagenet21k", 305_510_400, "ViT-L/32 at 224 px, ImageNet-21k"))),
    ("deit", "deit/1", "imagenet", _SEE, (
        ("deit_base_distilled_patch16_384_imagenet", 86_092_032, "DeiT-B/16 at 384 px, distilled"),
        ("deit_base_distilled_patch16_224_imagenet", 85_800_192, "DeiT-B/16 at 224 px, distilled"),
        ("deit_tiny_distilled_patch16_224_imagenet", 5_524_800, "DeiT-Ti/16 at 224 px, distilled"),
        ("deit_small_distilled_patch16_224_imagenet", 21_666_432, "DeiT-S/16 at 224 px, distilled"))),
    ("swin_transformer", "swin-transformer/1", "imagenet", _APACHE, (
        ("swin_tiny_patch4_window7_224", 27_519_354, "Swin-T at 224 px"),
        ("swin_small_patch4_window7_224", 48_837_258, "Swin-S at 224 px"),
        ("swin_base_patch4_window7_224", 86_743_224, "Swin-B at 224 px"),
        ("swin_base_patch4_window12_384", 86_878_584, "Swin-B at 384 px"),
        ("swin_large_patch4_window7_224", 194_995_476, "Swin-L at 224 px"),
        ("swin_large_patch4_window12_384", 195_198_516, "Swin-L at 384 px"))),
    ("dinov2", "dinov2/1", "lvd142m", _APACHE, (
        ("dinov2_small", 22_582_656, "DINOv2 ViT-S/14"),
        ("dinov2_base", 87_632_640, "DINOv2 ViT-B/14"),
        ("dinov2_large", 305_771_520, "DINOv2 ViT-L/14"),
        ("dinov2_giant", 1_138_585_088, "DINOv2 ViT-g/14"),
        ("dinov2_with_registers_small", 22_584_192, "DINOv2 ViT-S/14 with registers"),
        ("dinov2_with_registers_base", 87_635_712, "DINOv2 ViT-B/14 with registers"),
        ("dinov2_with_registers_large", 305_775_616, "DINOv2 ViT-L/14 with registers"),
        ("dinov2_with_registers_giant", 1_138_591_232, "DINOv2 ViT-g/14 with registers"))),
    ("dinov3", "dinov3/1", "lvd1689m", "DINOv3 License", (
        ("dinov3_vit_small_lvd1689m", 21_596_544, "DINOv3 ViT-S/16"),
        ("dinov3_vit_small_plus_lvd1689m", 28_692_864, "DINOv3 ViT-S+/16"),
        ("dinov3_vit_base_lvd1689m", 85_660_416, "DINOv3 ViT-B/16"),
        ("dinov3_vit_large_lvd1689m", 300_000_000, "DINOv3 ViT-L/16"),
        ("dinov3_vit_huge_plus_lvd1689m", 840_000_000, "DINOv3 ViT-H+/16"),
        ("dinov3_vit_7b_lvd1689m", 6_700_000_000, "DINOv3 ViT-7B/16"))),
    ("dinov3", "dinov3/1", "sat493m", "DINOv3 License", (
        ("dinov3_vit_large_sat493m", 300_000_000, "DINOv3 ViT-L/16, of satellite images"),
        ("dinov3_vit_7b_sat493m", 6_700_000_000, "DINOv3 ViT-7B/16, of satellite images"))),
    ("siglip", "siglip/1", "webli", _APACHE, (
        ("siglip_base_patch16_224", 92_884_420, "image tower of SigLIP B/16 at 224 px"),
        ("siglip_base_patch16_256", 92_930_560, "image tower of SigLIP B/16 at 256 px"),
        ("siglip_base_patch16_384", 93_176_640, "image tower of SigLIP B/16 at 384 px"),
        ("siglip_base_patch16_512", 93_521_152, "image tower of SigLIP B/16 at 512 px"),
        ("siglip_large_patch16_256", 315_956_480, "image tower of SigLIP L/16 at 256 px"),
        ("siglip_large_patch16_384", 316_284_480, "image tower of SigLIP L/16 at 384 px"),
        ("siglip_so400m_patch14_224", 427_680_960, "image tower of SigLIP So400m/14 at 224 px"),
        ("siglip_so400m_patch14_384", 428_226_329, "image tower of SigLIP So400m/14 at 384 px"),
        ("siglip_so400m_patch16_256_i18n", 427_888_320, "image tower of SigLIP So400m/16 at 256 px, multilingual"),
        ("siglip_base_patch16_256_multilingual", 92_930_560, "image tower of SigLIP B/16 at 256 px, multilingual"),
        ("siglip2_base_patch16_224", 92_884_420, "image tower of SigLIP 2 B/16 at 224 px"),
        ("siglip2_base_patch16_256", 92_930_560, "image tower of SigLIP 2 B/16 at 256 px"),
        ("siglip2_base_patch32_256", 94_552_384, "image tower of SigLIP 2 B/32 at 256 px"),
        ("siglip2_base_patch16_384", 93_176_640, "image tower of SigLIP 2 B/16 at 384 px"),
        ("siglip2_large_patch16_256", 315_956_480, "image tower of SigLIP 2 L/16 at 256 px"),
        ("siglip2_large_patch16_384", 316_284_480, "image tower of SigLIP 2 L/16 at 384 px"),
        ("siglip2_large_patch16_512", 316_743_680, "image tower of SigLIP 2 L/16 at 512 px"),
        ("siglip2_giant_opt_patch16_384", 1_163_660_352, "image tower of SigLIP 2 g-opt/16 at 384 px"),
        ("siglip2_so400m_patch14_224", 427_680_960, "image tower of SigLIP 2 So400m/14 at 224 px"),
        ("siglip2_so400m_patch14_384", 428_226_329, "image tower of SigLIP 2 So400m/14 at 384 px"),
        ("siglip2_so400m_patch16_256", 427_888_320, "image tower of SigLIP 2 So400m/16 at 256 px"),
        ("siglip2_so400m_patch16_384", 428_257_280, "image tower of SigLIP 2 So400m/16 at 384 px"),
        ("siglip2_so400m_patch16_512", 428_773_824, "image tower of SigLIP 2 So400m/16 at 512 px"))),
    ("siglip", "siglip/2", "webli", _APACHE, (
        ("siglip2_giant_opt_patch16_256", 1_163_168_512, "image tower of SigLIP 2 g-opt/16 at 256 px"),)),
    ("siglip", "medsiglip/1", "medical", "Health AI Developer Foundations terms", (
        ("medsiglip_900m_448", 428_566_464, "image tower of MedSigLIP at 448 px"),)),
    ("clip", "clip/3", "openai", "MIT", (
        ("clip_vit_base_patch16", 85_799_621, "image tower of CLIP ViT-B/16 at 224 px"),
        ("clip_vit_base_patch32", 87_456_050, "image tower of CLIP ViT-B/32 at 224 px"),
        ("clip_vit_large_patch14", 303_180_033, "image tower of CLIP ViT-L/14 at 224 px"),
        ("clip_vit_large_patch14_336", 303_508_033, "image tower of CLIP ViT-L/14 at 336 px"))),
    ("clip", "clip/3", "laion2b", "MIT", (
        ("clip_vit_b_32_laion2b_s34b_b79k", 87_456_050, "image tower of OpenCLIP ViT-B/32 at 224 px"),
        ("clip_vit_h_14_laion2b_s32b_b79k", 630_766_337, "image tower of OpenCLIP ViT-H/14 at 224 px"),
        ("clip_vit_g_14_laion2b_s12b_b42k", 1_011_204_097, "image tower of OpenCLIP ViT-g/14 at 224 px"),
        ("clip_vit_bigg_14_laion2b_39b_b160k", 1_842_777_601, "image tower of OpenCLIP ViT-bigG/14 at 224 px"))),
    ("metaclip_2", "metaclip2/1", "worldwide", _METACLIP, (
        ("metaclip_2_vit_huge_patch14_224", 630_763_520, "image tower of MetaCLIP 2 ViT-H/14 at 224 px"),
        ("metaclip_2_vit_huge_patch14_378", 631_368_960, "image tower of MetaCLIP 2 ViT-H/14 at 378 px"),
        ("metaclip_2_vit_giant_patch14_224", 1_842_774_016, "image tower of MetaCLIP 2 ViT-bigG/14 at 224 px"),
        ("metaclip_2_vit_giant_patch14_378", 1_843_561_088, "image tower of MetaCLIP 2 ViT-bigG/14 at 378 px"))),
)  # fmt: skip

# The same of detectors and segmenters, behind their class.
_WHOLE = (
    ("SegFormerBackbone", "mit", "segformer/3", "ade20k", _NVIDIA, (
        ("segformer_b0_ade20k_512", 3_319_392, "MiT-B0 in SegFormer at 512 px"),
        ("segformer_b2_ade20k_512", 24_196_288, "MiT-B2 in SegFormer at 512 px"),
        ("segformer_b3_ade20k_512", 44_072_128, "MiT-B3 in SegFormer at 512 px"),
        ("segformer_b4_ade20k_512", 60_842_688, "MiT-B4 in SegFormer at 512 px"),
        ("segformer_b5_ade20k_640", 81_443_008, "MiT-B5 in SegFormer at 640 px"))),
    ("SegFormerBackbone", "mit", "segformer/5", "ade20k", _NVIDIA, (
        ("segformer_b1_ade20k_512", 13_151_424, "MiT-B1 in SegFormer at 512 px"),)),
    ("SegFormerBackbone", "mit", "segformer/3", "cityscapes", _NVIDIA, (
        ("segformer_b0_cityscapes_1024", 3_319_392, "MiT-B0 in SegFormer at 1024 px"),
        ("segformer_b2_cityscapes_1024", 24_196_288, "MiT-B2 in SegFormer at 1024 px"),
        ("segformer_b3_cityscapes_1024", 44_072_128, "MiT-B3 in SegFormer at 1024 px"),
        ("segformer_b4_cityscapes_1024", 60_842_688, "MiT-B4 in SegFormer at 1024 px"),
        ("segformer_b5_cityscapes_1024", 81_443_008, "MiT-B5 in SegFormer at 1024 px"))),
    ("SegFormerBackbone", "mit", "segformer/1", "cityscapes", _NVIDIA, (
        ("segformer_b1_cityscapes_1024", 13_151_424, "MiT-B1 in SegFormer at 1024 px", "segformer_b1_ade20k_512"),)),
    ("DeepLabV3Backbone", "resnet", "deeplabv3plus/4", "pascalvoc", _SEE, (
        ("deeplab_v3_plus_resnet50_pascalvoc", 23_561_152, "ResNet-50 in DeepLabV3+"),)),
    ("RetinaNetBackbone", "resnet", "retinanet/4", "coco", _SEE, (
        ("retinanet_resnet50_fpn_coco", 23_561_152, "ResNet-50 in RetinaNet at 800 px"),)),
    ("RetinaNetBackbone", "resnet", "retinanet/3", "coco", _SEE, (
        ("retinanet_resnet50_fpn_v2_coco", 23_561_152, "ResNet-50 in RetinaNet at 800 px, P6 from C5"),)),
)  # fmt: skip


def presets() -> Iterable[Preset]:
    """All presets, in the order of the tables."""
    for whole, family, model, data, licence, rows in (*(("", *row) for row in _TABLE), *_WHOLE):
        path, _, version = model.partition("/")
        for name, parameters, words, *other in rows:
            handle = f"kaggle://keras/{path}/keras/{other[0] if other else name}/{version}"
            yield Preset(name, family, handle, data, licence, parameters, f"{words[0].upper()}{words[1:]}.", whole)
