"""Public checkpoints of detectors: the state dict's tensors into backbone, neck and head at once.

    efficientdet   effdet, D0 to D7 (rwightman/efficientdet-pytorch, Apache-2.0; converted from google/automl)
    yolox          YOLOX nano to x (Megvii-BaseDetection/YOLOX, Apache-2.0)

Layers of neck and head are called as the modules of these checkpoints, with '_' for '.', behind neck_ or head_.
"""

from tlkeras.errors import ModelError, listed

# Detector: the module of its backbones, what precedes the names of neck and head in a checkpoint, and the beginnings
# of the layers' names whose number of channels hangs on the number of classes.
LAYOUTS = {
    "efficientdet": ("efficientdet", "fpn_", "", ("head_class_net_predict_conv_pw",)),
    "yolox": ("yolox", "backbone_", "head_", ("head_cls_preds",)),
}


def load(kind: str, model, tensors: dict) -> tuple[list[str], list[str], list[str]]:
    """See `detectors.load`."""
    import numpy as np

    if kind not in LAYOUTS:
        raise ModelError(f"No checkpoint of a whole {kind} is read; {', '.join(LAYOUTS)} are.")
    names = _names(kind, model, tensors)
    predictors = LAYOUTS[kind][3]
    found, missing, wrong = {}, [], []
    for variable in model.weights:
        if variable.path not in names and not variable.path.startswith(("neck_", "head_")):
            continue  # Of a backbone that is another one than the checkpoint's.
        name, axes = names.get(variable.path, (None, None))
        value = tensors.get(name)
        if value is not None:
            value = np.asarray(value, "float32")
            value = np.transpose(value, axes) if axes and value.ndim == len(axes) else value
            value = _reordered(kind, variable.path, value)
        if value is not None and value.shape == tuple(variable.shape):
            found[name] = (variable, value)
        elif variable.path.startswith(predictors) and value is not None:
            missing.append(variable.path)
        else:
            wrong.append(f"{variable.path} {tuple(variable.shape)}: {f'{name} {value.shape}' if name else 'no tensor'}")
    if wrong:
        raise ModelError(
            listed(f"The checkpoint is of another {kind}, or of another scale; these weights do not fit", wrong)
        )
    for variable, value in found.values():
        variable.assign(value)
    counters = ("num_batches_tracked", "anchors.boxes")
    unused = [name for name in tensors if name not in found and not name.endswith(counters)]
    return list(found), unused, missing


def _names(kind: str, model, tensors: dict) -> dict:
    """{variable path: (name of its tensor, axes)}: of the backbone where it is the checkpoint's, of neck and head."""
    from tlkeras.backbones import efficientdet, yolox
    from tlkeras.foreign.torch_fields import fields

    _, neck, head, _ = LAYOUTS[kind]
    flat = {name.replace(".", "_"): name for name in tensors}
    names = {}
    own = {"efficientdet": efficientdet, "yolox": yolox}[kind].torch_names(model)
    if own and any(name in tensors for name, _ in own.values()):
        names |= own
    for layer in model.layers:
        start, rest = layer.name[:5], layer.name[5:]
        if start in ("neck_", "head_"):
            for path, field, axes in fields(layer):
                names[path] = (flat.get(f"{neck if start == 'neck_' else head}{rest}_{field}"), axes)
    return names


def _reordered(kind: str, path: str, value):
    """effdet's offsets are y, x, height, width; ours x, y, width, height."""
    import numpy as np

    if kind != "efficientdet" or not path.startswith("head_box_net_predict_conv_pw"):
        return value
    return np.reshape(np.reshape(value, (*value.shape[:-1], -1, 4))[..., [1, 0, 3, 2]], value.shape)
