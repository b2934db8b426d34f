"""keras-hub's converters, given tensors and asked what they took: the coverage that they do not show.

A converter fills what it asks for and is silent about the rest of the file. Here it is given the tensors by name, under
the names it knows, and each name it asks for and each variable it sets is written down.
"""

import contextlib
from pathlib import Path

import numpy as np

from tlkeras.errors import ModelError


class Kept(np.ndarray):
    """Some converters halve the embedding on its way (Mistral's, Qwen3's): 1e-3 apart. It stays as it is."""

    def astype(self, dtype, *args, **kwargs):
        return self if np.dtype(dtype) == np.float16 else super().astype(dtype, *args, **kwargs)


class Asked:
    """What a converter takes for its open file. `used` names what it asked for, `lacking` says per variable why it has
    no value: {path: reason}."""

    safetensor_config = None  # Two converters would print an audit from it.

    def __init__(self, folder: Path, tensors: dict):
        self.preset, self.tensors, self.prefix = str(folder), tensors, ""
        self.used: set[str] = set()
        self.lacking: dict[str, str] = {}

    def get_prefixed_key(self, name: str, names=None) -> str:
        """The name in the file: as asked, or behind the prefix of a model with or without its head."""
        for full in (name, self.prefix + name):
            if full in self.tensors:
                return full
        # keras-hub's own loader cuts within a word too, and takes input_layernorm for norm.
        found = next((full for full in self.tensors if full.endswith(f".{name}")), name)
        self.prefix = found.removesuffix(name)
        return found

    def get_tensor(self, name: str):
        full = self.get_prefixed_key(name)
        if full not in self.tensors:
            raise KeyError(name)
        self.used.add(full)
        value = self.tensors[full]
        return (value if value.dtype.kind in "iub" else np.asarray(value, "float32")).view(Kept)

    def port_weight(self, keras_variable, hf_weight_key: str, hook_fn=None):
        shape, name = tuple(keras_variable.shape), hf_weight_key
        try:
            value = self.get_tensor(name)
            found = tuple(value.shape)
            value = hook_fn(value, list(shape)) if hook_fn else value
        except KeyError:
            self.lacking[keras_variable.path] = f"from {name}, which is not there"
            return
        except ValueError:  # It cannot be reshaped.
            self.lacking[keras_variable.path] = f"from {name}, which has {found}"
            return
        if tuple(value.shape) == shape:
            keras_variable.assign(np.asarray(value))
        else:
            self.lacking[keras_variable.path] = f"from {name}, which has {found}"


def read(folder: Path, config: dict, tensors: dict, options: dict, finish) -> tuple:
    """(keras-hub's backbone of a config and tensors, what was asked for, paths of the variables that were set).

    `options` are more arguments of its class, `finish(backbone, tensors)` fills the rest and names the tensors it took.

    Raises:
        ModelError: when the converter asks by itself for a tensor that is not there.
    """
    import inspect

    from keras.src.backend.common.variables import Variable
    from keras_hub.src.utils.transformers import preset_loader

    converter = preset_loader.TransformersPresetLoader(str(folder), config).converter
    cls, configured = converter.backbone_cls, converter.convert_backbone_config
    # SAM 3's is given the class too.
    given = (config,) if len(inspect.signature(configured).parameters) == 1 else (config, cls)
    asked, filled, assign = Asked(folder, tensors), set(), Variable.assign

    def assigned(self, value):
        filled.add(id(self))
        return assign(self, np.asarray(value) if isinstance(value, Kept) else value)

    Variable.assign = assigned
    try:
        with contextlib.redirect_stdout(None):  # Some converters print each tensor.
            backbone = cls(**{**configured(*given), **options})
            filled.clear()
            converter.convert_weights(backbone, asked, config)
            asked.used.update(finish(backbone, tensors))
    except KeyError as e:
        raise ModelError(
            f"{folder} must have {e.args[0]}, which keras-hub's converter of {config['model_type']} asks for; "
            "neither its config.json nor its weights hold it."
        ) from e
    finally:
        Variable.assign = assign
    return backbone, asked, {v.path for v in backbone.weights if id(v) in filled}
