"""A second device without the hardware: its tensors compute on the CPU, and meet those of the CPU only by a copy.

As on a GPU, an operation whose tensors lie on both devices fails, except for CPU tensors without dimensions and for
indices. ``numpy`` needs ``cpu`` first.
"""

from __future__ import annotations

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

DEVICE = torch.device("meta")
_INDEXING = {"index", "index_put", "index_put_"}


class There(torch.Tensor):
    """A tensor on the second device."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> There:
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=DEVICE,
        )
        made.held = held
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    def __repr__(self) -> str:
        return f"There({self.held})"

    def numpy(self, *_, **__):
        raise TypeError("can't convert a tensor of the second device to numpy. Use cpu() first.")

    def new_tensor(self, values, **keywords):  # PyTorch makes it without asking the mode
        return torch.tensor(values, **{"dtype": self.dtype} | keywords).to(DEVICE)

    @classmethod
    def __torch_dispatch__(cls, function, types, arguments=(), keywords=None):
        with OtherDevice():
            return function(*arguments, **(keywords or {}))


class OtherDevice(TorchDispatchMode):
    """While it is entered, ``meta`` is the second device: of PyTorch's types the one that no machine lacks."""

    float64 = True  # whether the device has it

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        keywords = dict(keywords or {})
        name = function.overloadpacket.__name__
        tensors = [t for t in tree_flatten((arguments, keywords))[0] if isinstance(t, torch.Tensor)]
        there = any(isinstance(t, There) for t in tensors)
        wanted = keywords.get("device")
        if wanted is not None:
            keywords["device"] = torch.device("cpu")
        if there and name not in {*_INDEXING, "_to_copy", "copy_"}:
            mixed = [t for t in tensors if not isinstance(t, There) and t.ndim]
            if mixed:
                raise RuntimeError(f"{name}: tensors on the second device and on the CPU {tuple(mixed[0].shape)}.")
        inner = tree_map(lambda t: t.held if isinstance(t, There) else t, (arguments, keywords))
        found = function(*inner[0], **inner[1])
        stays = there if wanted is None else torch.device(wanted).type == DEVICE.type
        if name.endswith("_"):  # in place
            return arguments[0]
        if (
            stays
            and not self.float64
            and any(getattr(t, "dtype", None) == torch.float64 for t in tree_flatten(found)[0])
        ):
            raise TypeError(f"{name}: the second device has no float64.")
        return tree_map(lambda t: There(t) if isinstance(t, torch.Tensor) and stays else t, found)
