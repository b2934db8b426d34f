"""The text models of transformers that KerasHub has too, one record each: names, settings and where they differ."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from tlkeras.foreign import files, vocabularies


@dataclass(frozen=True)
class Text:
    """What transformers calls the parts of one model type, and where KerasHub's version of it differs.

    In `tensors`, {a,b} is both, # each number below the config's value of `counted`, and the first tensor embeds
    the tokens. `demands` are the values a config may have, or a function of it that returns them.
    """

    prefix: str  # Of the names in a model saved with its head. KerasHub is always given it.
    tensors: str
    vocabulary: tuple[str, ...]  # The kind of tokenizer and the tokens that KerasHub asks for, see `vocabularies`.
    special: tuple[str, ...]
    epsilon: tuple[str, float, float] | None  # The config's key, transformers' default, what KerasHub builds. None:
    activation: tuple[str, str, str] | None = None  # KerasHub builds what transformers does.
    counted: tuple[str, ...] = ("num_hidden_layers",)
    demands: dict = field(default_factory=dict)
    optional: Callable[[dict], str] = lambda config: "(?!)"
    dropped: str = "(?!)"
    adapt: Callable[[dict, dict], None] = lambda config, tensors: None  # Changes both to what KerasHub reads.
    rewrite: Callable[[dict, Path], None] = lambda config, into: None  # For what KerasHub has no converter.


def _pooled(name: str, config: dict, tensors: dict):
    """A pooler of zeros where the model has none, and a second segment like the only one."""
    import numpy as np

    size = config["hidden_size"]
    tensors.setdefault(f"{name}.weight", np.zeros((size, size), "float32"))
    tensors.setdefault(f"{name}.bias", np.zeros(size, "float32"))
    segments = f"{config['model_type']}.embeddings.token_type_embeddings.weight"
    if len(tensors[segments]) == 1:
        tensors[segments], config["type_vocab_size"] = np.repeat(tensors[segments], 2, axis=0), 2


def _one_segment(config: dict, tensors: dict):
    """The first segment goes into the positions, for KerasHub's RoBERTa has no segments."""
    positions, segments = (f"roberta.embeddings.{name}_embeddings.weight" for name in ("position", "token_type"))
    tensors[positions] = tensors[positions].astype("float32") + tensors[segments][:1].astype("float32")
    tensors[segments] = 0 * tensors[segments]


def _rotary(config: dict, tensors: dict):
    """The keys of transformers 4, and a head beside the embedding: KerasHub's config of a Llama forgets ties."""
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type"))
    config["rope_parameters"] = {"rope_theta": rope.get("rope_theta", config.get("rope_theta", 10000.0))}
    config["rope_scaling"] = rope | {"rope_type": kind} if kind == "llama3" else None
    tied = config.get("tie_word_embeddings", False) or "lm_head.weight" not in tensors
    if tied:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    config["tie_word_embeddings"] = tied and config["model_type"] != "llama"
    for key, value in {"use_sliding_window": False, "sliding_window": None}.items():
        config.setdefault(key, value)
    config.setdefault("num_key_value_heads", config["num_attention_heads"])


def _divisors(config: dict) -> tuple:
    layers = config["num_hidden_layers"]
    return tuple(n for n in range(1, layers + 1) if layers % n == 0)


def _head_dim(config: dict) -> tuple:
    return config["hidden_size"] // config["num_attention_heads"], None


def _rope(key: str, *kinds: str):
    """Demands that the rotary embedding in the config's `key` is one of these."""

    def allowed(config):
        rope = config[key] or {}
        return (config[key],) if rope.get("rope_type", rope.get("type", "default")) in kinds else kinds

    return allowed


def _electra(config: dict, into: Path):
    """Makes a KerasHub preset of `into`. KerasHub has the network, and its converter of BERT fills all but a layer."""
    import keras_hub
    from keras_hub.src.utils.transformers import convert_bert
    from keras_hub.src.utils.transformers.safetensor_utils import SafetensorLoader

    sizes = convert_bert.convert_backbone_config(config)
    sizes |= {"vocab_size": sizes.pop("vocabulary_size"), "embedding_dim": config["embedding_size"]}
    backbone = keras_hub.models.ElectraBackbone(**sizes)
    with SafetensorLoader(str(into)) as loader:
        convert_bert.convert_weights(backbone, loader, config)
        if hasattr(backbone, "embeddings_projection"):
            kernel, bias = (loader.get_tensor(f"electra.embeddings_project.{end}") for end in ("weight", "bias"))
            backbone.embeddings_projection.set_weights([kernel.T, bias])
    lowercase = files.read_config(into / "tokenizer_config.json")["do_lower_case"]
    tokenizer = keras_hub.tokenizers.ElectraTokenizer(str(into / "vocab.txt"), lowercase=lowercase)
    for path in into.iterdir():
        path.unlink()
    backbone.save_to_preset(str(into))
    tokenizer.save_to_preset(str(into))


_PLAIN = {"is_decoder": (False,), "add_cross_attention": (False,), "position_embedding_type": ("absolute",)}
_ENCODER = Text(
    prefix="bert.",
    tensors="""
        bert.embeddings.{word,position,token_type}_embeddings.weight bert.embeddings.LayerNorm.{weight,bias}
        bert.encoder.layer.#.attention.self.{query,key,value}.{weight,bias}
        bert.encoder.layer.#.{attention.output,intermediate,output}.dense.{weight,bias}
        bert.encoder.layer.#.{attention.output,output}.LayerNorm.{weight,bias}
    """,
    vocabulary=vocabularies.WORDPIECE,
    special=("[CLS]", "[SEP]", "[PAD]", "[MASK]", "[UNK]"),
    epsilon=("layer_norm_eps", 1e-12, 1e-12),
    activation=("hidden_act", "gelu", "gelu_tanh"),
    demands=_PLAIN | {"type_vocab_size": (1, 2)},
)
_ROBERTA = replace(
    _ENCODER,
    prefix="roberta.",
    tensors=_ENCODER.tensors.replace("bert.", "roberta."),
    vocabulary=vocabularies.BYTES,
    special=("<s>", "</s>", "<pad>", "<mask>"),
    epsilon=("layer_norm_eps", 1e-12, 1e-5),
    activation=("hidden_act", "gelu", "gelu"),
    demands=_PLAIN | {"pad_token_id": (1,)},
    dropped=r"pooler\..*",
    adapt=_one_segment,
)
_LLAMA = Text(
    prefix="model.",
    tensors="""
        model.embed_tokens.weight model.norm.weight lm_head.weight
        model.layers.#.{input,post_attention}_layernorm.weight
        model.layers.#.self_attn.{q,k,v,o}_proj.weight model.layers.#.mlp.{gate,up,down}_proj.weight
    """,
    vocabulary=vocabularies.STORED,
    special=("bos_token", "eos_token"),
    epsilon=("rms_norm_eps", 1e-6, 1e-6),
    demands={
        "hidden_act": ("silu",),
        "attention_bias": (False,),
        "mlp_bias": (False,),
        "head_dim": _head_dim,
        "rope_parameters": _rope("rope_parameters", "default", "llama3"),
        "rope_scaling": _rope("rope_scaling", "default", "llama3"),
    },
    optional=lambda config: "lm_head",
    adapt=_rotary,
)
TEXT = {
    "bert": replace(
        _ENCODER,
        tensors=_ENCODER.tensors + "bert.pooler.dense.{weight,bias}",
        optional=lambda config: "pooler",
        adapt=partial(_pooled, "bert.pooler.dense"),
    ),
    "roberta": _ROBERTA,
    "xlm-roberta": replace(_ROBERTA, vocabulary=vocabularies.XLM, special=()),
    "electra": replace(
        _ENCODER,
        prefix="electra.",
        tensors=_ENCODER.tensors.replace("bert.", "electra.") + "electra.embeddings_project.{weight,bias}",
        optional=lambda config: "project" if config["embedding_size"] == config["hidden_size"] else "(?!)",
        adapt=partial(_pooled, "electra.pooler.dense"),
        rewrite=_electra,
    ),
    "distilbert": replace(
        _ENCODER,
        prefix="distilbert.",
        tensors="""
            distilbert.embeddings.{word,position}_embeddings.weight distilbert.embeddings.LayerNorm.{weight,bias}
            distilbert.transformer.layer.#.attention.{q,k,v,out}_lin.{weight,bias}
            distilbert.transformer.layer.#.{sa_layer_norm,ffn.lin1,ffn.lin2,output_layer_norm}.{weight,bias}
        """,
        epsilon=None,
        activation=("activation", "gelu", "gelu"),
        counted=("n_layers",),
        demands={},
    ),
    "albert": replace(
        _ENCODER,
        prefix="albert.",
        tensors="""
            albert.embeddings.{word,position,token_type}_embeddings.weight albert.embeddings.LayerNorm.{weight,bias}
            albert.encoder.embedding_hidden_mapping_in.{weight,bias} albert.pooler.{weight,bias}
            albert.encoder.albert_layer_groups.#.albert_layers.#.{attention.LayerNorm,full_layer_layer_norm}.{weight,bias}
            albert.encoder.albert_layer_groups.#.albert_layers.#.attention.{query,key,value,dense}.{weight,bias}
            albert.encoder.albert_layer_groups.#.albert_layers.#.{ffn,ffn_output}.{weight,bias}
        """,
        vocabulary=vocabularies.ALBERT,
        special=("[CLS]", "[SEP]", "<pad>", "[MASK]"),
        activation=("hidden_act", "gelu_new", "gelu_tanh"),
        counted=("num_hidden_groups", "inner_group_num", "num_hidden_layers"),
        demands=_PLAIN | {"num_hidden_groups": _divisors},
        optional=lambda config: "pooler",
        adapt=partial(_pooled, "albert.pooler"),
    ),
    "gpt2": Text(
        prefix="transformer.",
        tensors="""
            transformer.wte.weight transformer.wpe.weight transformer.ln_f.{weight,bias}
            transformer.h.#.{ln_1,ln_2,attn.c_attn,attn.c_proj,mlp.c_fc,mlp.c_proj}.{weight,bias}
        """,
        vocabulary=vocabularies.BYTES,
        special=("<|endoftext|>",),
        epsilon=("layer_norm_epsilon", 1e-5, 1e-5),
        activation=("activation_function", "gelu_new", "gelu_tanh"),
        counted=("n_layer",),
        demands={
            "n_inner": lambda config: (None, 4 * config["n_embd"]),
            "scale_attn_weights": (True,),
            "scale_attn_by_inverse_layer_idx": (False,),
            "add_cross_attention": (False,),
            "tie_word_embeddings": (True,),
        },
    ),
    "bart": Text(
        prefix="model.",
        tensors="""
            model.shared.weight model.{encoder,decoder}.embed_positions.weight
            model.{encoder,decoder}.layernorm_embedding.{weight,bias}
            model.{encoder,decoder}.layers.#.self_attn.{q,k,v,out}_proj.{weight,bias}
            model.{encoder,decoder}.layers.#.{self_attn_layer_norm,fc1,fc2,final_layer_norm}.{weight,bias}
            model.decoder.layers.#.encoder_attn.{q,k,v,out}_proj.{weight,bias}
            model.decoder.layers.#.encoder_attn_layer_norm.{weight,bias}
        """,
        vocabulary=vocabularies.BYTES,
        special=("<s>", "</s>", "<pad>"),
        epsilon=None,
        activation=("activation_function", "gelu", "gelu"),
        counted=("encoder_layers",),
        demands={
            "decoder_layers": lambda config: (config["encoder_layers"],),
            "decoder_attention_heads": lambda config: (config["encoder_attention_heads"],),
            "decoder_ffn_dim": lambda config: (config["encoder_ffn_dim"],),
            "scale_embedding": (False,),
            "normalize_before": (False,),
            "normalize_embedding": (True,),
            "add_final_layer_norm": (False,),
            "static_position_embeddings": (False,),
            "tie_word_embeddings": (True,),
        },
        dropped=r"(en|de)coder\.embed_tokens\.weight",
        adapt=lambda config, tensors: config.update(num_hidden_layers=config["encoder_layers"]),
    ),
    "llama": _LLAMA,
    "qwen2": replace(
        _LLAMA,
        tensors=_LLAMA.tensors + "model.layers.#.self_attn.{q,k,v}_proj.bias",
        special=("<|endoftext|>",),
        epsilon=None,
        demands={
            "hidden_act": ("silu",),
            "head_dim": _head_dim,
            "use_sliding_window": (False,),
            "layer_types": lambda config: (["full_attention"] * config["num_hidden_layers"], None),
            "rope_parameters": _rope("rope_parameters", "default"),
            "rope_scaling": _rope("rope_scaling", "default"),
        },
    ),
}
