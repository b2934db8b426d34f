"""What keras-hub 0.32 does not read as transformers 5.23 writes it, one record per model type: names, settings, and what it
builds whatever the config says. Found by comparing small networks of unusual settings, number by number."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

UNQUANTIZED = {"quantization_config.quant_method": ()}


@dataclass(frozen=True)
class Kind:
    """How the directories of one model type are brought to what keras-hub's converter asks for.

    `renames` are (regular expression, new beginning) for names of tensors; `dropped` is one for tensors that no backbone
    has a use for. `demands` are the values that a setting may have, or a function of the config that returns them; a dot
    leads into a part of the config.
    """

    renames: tuple[tuple[str, str], ...] = ()
    dropped: str = "(?!)"
    settings: Callable[[dict], dict] = lambda config: {}  # Keys of the config under the names keras-hub reads.
    tensors: Callable[[dict, dict], None] = lambda config, tensors: None  # Changes their values.
    finish: Callable = lambda backbone, tensors: ()  # Fills what the converter cannot; names of the tensors it took.
    options: Callable[[dict], dict] = lambda config: {}  # Arguments of the class that the converter leaves out.
    corrections: Callable[[dict], dict] = lambda config: {}  # See `transformers.correct`.
    demands: dict = field(default_factory=dict)


def faults(kind: Kind, config: dict) -> list[str]:
    """What the config says and keras-hub would build otherwise without a word."""
    found = []
    for key, values in (UNQUANTIZED | kind.demands).items():
        said = at(config, key)
        if said is None:
            continue
        values = values(config) if callable(values) else values
        if said not in values:
            found.append(f"{key} must be {' or '.join(map(_short, values)) or 'absent'}, it is {_short(said)}")
    return found


def at(config: dict, path: str, otherwise=None):
    """config['a']['b'] for 'a.b', where it is there."""
    for key in path.split("."):
        if not isinstance(config, dict) or key not in config:
            return otherwise
        config = config[key]
    return config


def _short(value) -> str:
    text = str(value)
    return text if len(text) <= 120 else f"{text[:120]}..."


# The vision tower of SigLIP is a part of a part in the files of transformers 4, and keras-hub asks for that name.
_TOWER = ((r"^((?:.*\.)?vision_tower\.)(?!vision_model\.)", r"\1vision_model."),)
_TANH = ("gelu_pytorch_tanh", "gelu_new", "gelu_fast")


def _rope(key: str, **wanted):
    """Demands of a rotary embedding of no other kind: `wanted` {key: values} within `key`."""
    return {f"{key}.{name}": values for name, values in {"rope_type": ("default",), **wanted}.items()}


def _norms(config: dict) -> dict:
    """The epsilon of all norms: keras-hub's blocks keep their own, those of queries and keys too (9e-4 apart in Qwen3)."""
    said = config.get("rms_norm_eps", 1e-6)
    return {} if said == 1e-6 else {"epsilon": said}


def _every(*pattern: str, path: str = ""):
    """Demands that the layers are of these types, in turn."""

    def allowed(config):
        count = at(config, f"{path}num_hidden_layers", 0)
        return ([pattern[i % len(pattern)] for i in range(count)],)

    return allowed


def _query_scale(path: str, name: str, plus: float):
    """Multiplies a scale of the queries into a tensor: keras-hub's blocks divide by the root of the heads' size whatever
    `query_pre_attn_scalar` says (Gemma 2 and 3 of 27B say otherwise). `plus` is what the network adds to the tensor."""
    import re

    def scaled(config, tensors):
        size, said = at(config, f"{path}head_dim"), at(config, f"{path}query_pre_attn_scalar")
        if not size or not said or size == said:
            return
        factor = (size / said) ** 0.5
        for key in [n for n in tensors if re.search(name, n)]:
            tensors[key] = factor * (tensors[key].astype("float32") + plus) - plus

    return scaled


def _gemma3(path: str = "") -> dict:
    pattern = _every(*["sliding_attention"] * 5, "full_attention", path=path)
    rope = f"{path}rope_parameters"
    return {
        f"{path}layer_types": lambda config: (*pattern(config), ["full_attention"] * len(at(config, f"{path}layer_types"))),
        f"{path}hidden_activation": _TANH,
        f"{path}attention_bias": (False,),
        f"{path}rope_theta": (1e6,),
        f"{path}rope_local_base_freq": (1e4,),
        f"{rope}.full_attention.rope_theta": (1e6,),
        f"{rope}.full_attention.rope_type": ("default", "linear"),
        f"{rope}.sliding_attention.rope_theta": (1e4,),
        f"{rope}.sliding_attention.rope_type": ("default",),
    }  # fmt: skip


def _experts(config: dict, tensors: dict) -> None:
    """Places for the experts of a gpt-oss that are no 4-bit numbers, the only ones that the converter reads."""
    import numpy as np

    for name in [n for n in tensors if n.endswith(("experts.gate_up_proj", "experts.down_proj"))]:
        count, inputs, outputs = tensors[name].shape
        tensors[f"{name}_blocks"] = np.zeros((count, outputs, 1, inputs // 2), "uint8")
        tensors[f"{name}_scales"] = np.zeros((count, outputs, 1), "uint8")


def _fill_experts(backbone, tensors: dict):
    import numpy as np

    for i, layer in enumerate(backbone.transformer_layers):
        for end in ("gate_up_proj", "down_proj"):
            name = f"model.layers.{i}.mlp.experts.{end}"
            if name in tensors:
                getattr(layer.sparse_moe_block.experts, end).assign(np.asarray(tensors[name], "float32"))
                yield name


def _count_of_experts(config: dict) -> dict:
    return {"num_experts": config["num_local_experts"]} if "num_local_experts" in config else {}


def _image_head(config: dict) -> dict:
    """keras-hub takes the number of tokens of an image for the size of a head: both are 256 in what was released."""
    text = config["text_config"]
    return {"text_config": text | {"num_image_tokens": text.get("head_dim", 256)}}


def _protein(config: dict, tensors: dict) -> None:
    """ESM counts positions from behind the pad's, keras-hub from the pad's; and an ESM that learnt with dropped tokens
    scales what it embeds, and keras-hub does not: exact where no token is masked."""
    import numpy as np

    for name in tensors:
        if name.endswith("position_embeddings.weight"):
            tensors[name] = np.roll(tensors[name], -1, axis=0)
        if name.endswith("word_embeddings.weight") and config.get("token_dropout"):
            tensors[name] = (1 - 0.15 * 0.8) * tensors[name].astype("float32")
            tensors[name][config["mask_token_id"]] = 0.0


def _apart(config: dict) -> dict:
    """Sizes of the heads of Gemma 4's full layers, which transformers 5 writes layer by layer."""
    full = [i for i, kind in enumerate(config.get("layer_types", ())) if kind == "full_attention"]
    own = [at(config, f"per_layer_config.{i}", {}) for i in full]
    names = {"head_dim": "global_head_dim", "num_key_value_heads": "num_global_key_value_heads"}
    return {new: own[0][name] for name, new in names.items() if own and name in own[0]}


def _windows(config: dict) -> dict:
    """Tokens that each layer of a gpt-oss looks back: keras-hub has the window on the other layers, and one too wide."""
    kinds = config.get("layer_types") or [
        ("full_attention" if i % 2 else "sliding_attention") for i in range(config["num_hidden_layers"])
    ]
    return {"windows": [config["sliding_window"] - 1 if kind == "sliding_attention" else None for kind in kinds]}


def _one_less(config: dict) -> dict:
    """The window of T5Gemma's decoder: keras-hub looks one token further back."""
    decoder = config["decoder"]
    return {"decoder": decoder | {"sliding_window": decoder["sliding_window"] - 1}}


def _t5gemma2(config: dict) -> dict:
    """The factor of full layers, without which keras-hub builds what does not run."""

    def stated(part):
        rope = part.get("rope_parameters") or {}
        full = {"factor": 1.0} | rope.get("full_attention", {})
        return part | {"rope_parameters": rope | {"full_attention": full}}

    encoder = config["encoder"]
    return {"decoder": stated(config["decoder"]), "encoder": encoder | {"text_config": stated(encoder["text_config"])}}


def _gemma3n(config: dict) -> dict:
    """The base of the full layers' rotation, which transformers 5 writes by kind of layer."""
    text = config["text_config"]
    base = text.get("rope_theta") or at(text, "rope_parameters.full_attention.rope_theta", 1e6)
    return {"text_config": text | {"rope_theta": base}}


_YARN = {
    "rope_type": ("yarn",),
    "beta_fast": (32.0,),
    "beta_slow": (1.0,),
    "original_max_position_embeddings": (4096,),
    "truncate": (False,),
}
# Of the networks like Llama: one activation, and a rotation that is not stretched.
_SILU = {
    "hidden_act": ("silu",),
    **_rope("rope_parameters"),
    **_rope("rope_scaling"),
    "rope_scaling.type": ("default",),
}
_GEMMA = Kind(
    corrections=_norms,
    demands={
        "hidden_activation": _TANH,
        "hidden_act": (*_TANH, "gelu"),
        "attention_bias": (False,),
        "rope_theta": (1e4,),
    }
    | _rope("rope_parameters", rope_theta=(1e4,)),
)
_VISION_HEAD = r".*vision_tower\.(vision_model\.)?head\..*"
_EPSILONS = {"text_config.rms_norm_eps": (1e-6,), "vision_config.layer_norm_eps": (1e-6,)}
_ALL_SPARSE = {"decoder_sparse_step": (1,), "mlp_only_layers": ([],)}
KINDS = {
    "esm": Kind(
        renames=((r"LayerNorm\.gamma$", "LayerNorm.weight"), (r"LayerNorm\.beta$", "LayerNorm.bias")),
        dropped=r".*rotary_embeddings\.inv_freq",
        tensors=_protein,
        demands={"rope_theta": (1e4,), "is_folding_model": (False,), "add_cross_attention": (False,), "is_decoder": (False,)},
    ),
    "gemma": _GEMMA,
    "gemma2": replace(
        _GEMMA,
        tensors=_query_scale("", r"q_proj\.weight$", 0.0),
        demands=_GEMMA.demands | {"layer_types": _every("sliding_attention", "full_attention")},
    ),
    "gemma3": Kind(
        renames=_TOWER,
        dropped=_VISION_HEAD,
        tensors=_query_scale("text_config.", r"language_model.*q_norm\.weight$", 1.0),
        demands=_gemma3("text_config.") | _EPSILONS,
    ),
    "gemma3_text": Kind(
        tensors=_query_scale("", r"q_norm\.weight$", 1.0), corrections=_norms, demands=_gemma3()
    ),
    "gemma3n": Kind(settings=_gemma3n),
    "gemma4": Kind(settings=lambda config: {"text_config": config["text_config"] | _apart(config["text_config"])}),
    "gemma4_text": Kind(settings=_apart),
    "gpt_oss": Kind(
        settings=lambda config: {"rope_scaling": config.get("rope_scaling") or config.get("rope_parameters")},
        tensors=_experts,
        finish=_fill_experts,
        corrections=_windows,
        demands={
            "quantization_config.quant_method": ("mxfp4",),
            "swiglu_alpha": (1.702,),
            "swiglu_limit": (7.0,),
        }
        | {f"{key}.{name}": values for key in ("rope_parameters", "rope_scaling") for name, values in _YARN.items()},
    ),
    "metaclip_2": Kind(demands={f"{part}_config.layer_norm_eps": (1e-5,) for part in ("text", "vision")}),
    "paligemma": Kind(
        settings=_image_head,
        renames=_TOWER,
        dropped=_VISION_HEAD,
        demands={"text_config.rope_theta": (1e4,)} | _EPSILONS | _rope("text_config.rope_parameters", rope_theta=(1e4,)),
    ),
    "mistral": Kind(demands=_SILU),
    "mixtral": Kind(demands=_SILU),
    "qwen2_moe": Kind(demands=_SILU | _ALL_SPARSE | {"use_sliding_window": (False,)}),
    # keras-hub has one window for all layers or none.
    "qwen3": Kind(
        corrections=_norms,
        demands=_SILU | {"attention_bias": (False,), "layer_types": lambda config: (
            ["full_attention"] * config["num_hidden_layers"], ["sliding_attention"] * config["num_hidden_layers"])},
    ),
    "qwen3_moe": Kind(settings=_count_of_experts, corrections=_norms, demands=_SILU | _ALL_SPARSE | {"attention_bias": (False,)}),
    "qwen3_5": Kind(demands={f"text_config.{key}": values for key, values in _SILU.items()}),
    "qwen3_5_moe": Kind(demands={f"text_config.{key}": values for key, values in _SILU.items()}),
    "smollm3": Kind(demands=_SILU | {"attention_bias": (False,), "mlp_bias": (False,)}),
    "t5gemma": Kind(settings=_one_less),
    "t5gemma2": Kind(
        settings=_t5gemma2,
        renames=_TOWER,
        dropped=_VISION_HEAD,
        demands={"encoder.text_config.sliding_window": lambda config: (config["decoder"]["sliding_window"],)},
    ),
    "vit": Kind(options=lambda config: {"layer_norm_epsilon": config.get("layer_norm_eps", 1e-12)}),
}  # fmt: skip
