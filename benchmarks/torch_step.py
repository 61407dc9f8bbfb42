"""One loss and gradient of the standard objective in PyTorch, as a process that is told when.

It lives in a process of its own because two frameworks in one fight over the cores: while one
computes, the other's threads spin. Reads ``step`` lines, answers each with JSON.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from typing import Any

import numpy as np

MEANS = (103.939, 116.779, 123.68)
TINY = 1e-12


class Step:
    """The network and the losses of ``nstd.engine``, written again for PyTorch."""

    def __init__(self, case: Any, threads: int, *, channels_last: bool) -> None:
        import torch  # type: ignore[import-not-found,unused-ignore]

        torch.set_num_threads(threads)
        self.torch = torch
        self._format = torch.channels_last if channels_last else torch.contiguous_format
        self._layers = [str(name) for name in case["layers"]]
        self._kernels = {
            name: (
                self._laid_out(torch.from_numpy(case[f"{name}/kernel"].transpose(3, 2, 0, 1))),
                torch.from_numpy(case[f"{name}/bias"]),
            )
            for name in self._layers
            if f"{name}/kernel" in case
        }
        self._weights = {key: float(case[f"weight/{key}"]) for key in case["weight_names"]}
        self._content_layer = str(case["content_layer"])
        self._style_layers = [str(name) for name in case["style_layers"]]
        self.image = self._image(case["image"])
        with torch.no_grad():
            self._content = self._features(self._image(case["content"]))[self._content_layer]
            style = self._features(self._image(case["style"]))
            self._style = {layer: self._moments(style[layer]) for layer in self._style_layers}

    def __call__(self) -> float:
        """Return the loss at the image; its gradient is computed, too."""
        image = self.image.detach().requires_grad_(True)  # noqa: FBT003 - torch's own signature
        loss = self._loss(image)
        loss.backward()
        return float(loss.detach())

    def _laid_out(self, tensor: Any) -> Any:
        return tensor.contiguous(memory_format=self._format)

    def _image(self, array: Any) -> Any:
        return self._laid_out(self.torch.from_numpy(array).permute(0, 3, 1, 2))  # (1, 3, H, W)

    def _features(self, image: Any) -> dict[str, Any]:
        functional = self.torch.nn.functional
        x = image.flip(1) * 255.0 - self.torch.tensor(MEANS).reshape(1, 3, 1, 1)
        found = {}
        for name in self._layers:
            if name.endswith("pool"):
                x = functional.max_pool2d(x, 2)
            else:
                x = functional.pad(x, (1, 1, 1, 1), mode="replicate")
                x = functional.relu(functional.conv2d(x, *self._kernels[name]))
            found[name] = x
        return found

    def _moments(self, features: Any) -> tuple[Any, Any]:
        flat = features.flatten(2)[0]  # (C, h*w)
        mean = flat.mean(1)
        return mean, flat @ flat.T / flat.shape[1] - mean[:, None] * mean[None]

    def _style_loss(self, features: Any, target: tuple[Any, Any]) -> Any:
        mean, covariance = self._moments(features)
        means = (mean - target[0]).square().mean() / (target[1].diagonal().mean() + TINY)
        shapes = (covariance - target[1]).square().mean() / (target[1].square().mean() + TINY)
        return means + shapes

    def _loss(self, image: Any) -> Any:
        weights, clipped = self._weights, image.clamp(0.0, 1.0)
        features = self._features(clipped)
        difference = (features[self._content_layer] - self._content).square().mean()
        loss = weights["content"] * difference / (self._content.square().mean() + TINY)
        for layer in self._style_layers:
            share = weights["style"] * weights[f"style.{layer}"]
            loss = loss + share * self._style_loss(features[layer], self._style[layer])
        across = (clipped[..., 1:] - clipped[..., :-1]).square().mean()
        down = (clipped[..., 1:, :] - clipped[..., :-1, :]).square().mean()
        outside = (image - image.clamp(0.0, 1.0)).square().mean()
        return loss + weights["tv"] * (across + down) + weights["range"] * outside


def main() -> None:
    """Load the case, say so, and step whenever a line comes."""
    path, threads, layout, clock = sys.argv[1:5]
    if importlib.util.find_spec("torch") is None:
        sys.exit("PyTorch is not installed: its steps are left out.")
    with np.load(path, allow_pickle=False) as case:
        step = Step(dict(case), int(threads), channels_last=layout == "channels_last")
    print(json.dumps({"torch": step.torch.__version__}), flush=True)
    for _line in sys.stdin:
        began = _now(clock, int(threads))
        loss = step()
        seconds = _now(clock, int(threads)) - began
        print(json.dumps({"seconds": seconds, "loss": loss}), flush=True)


def _now(clock: str, threads: int) -> float:
    """Return the time by kit.CLOCKS' clock of that name."""
    return time.perf_counter() if clock == "wall" else time.process_time() / threads


if __name__ == "__main__":
    main()
