# Networks of drawn layers, in evaluation mode and double precision, with all parameters different.
import functools

import torch
from torch import fx, nn
from torch.nn import functional as F

DTYPE = torch.float64


class Layer(nn.Module):
    """A function of a map and of some modules."""

    def __init__(self, name, function, *parts):
        super().__init__()
        self.name, self.function, self.parts = name, function, nn.ModuleList(parts)

    def forward(self, x):
        return self.function(x, *self.parts)

    def extra_repr(self):
        return self.name


class Network(nn.Module):
    """Layers one after the other, and a head."""

    def __init__(self, layers, head):
        super().__init__()
        self.layers, self.head = nn.ModuleList(layers), head

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


def scatter(net, seed=0):
    """Give parameters and statistics values that keep maps about as large as they are."""
    generator = torch.Generator().manual_seed(seed)

    def random(like):
        return torch.randn(like.shape, generator=generator, dtype=DTYPE)

    with torch.no_grad():
        for module in net.modules():
            for name, parameter in module.named_parameters(recurse=False):
                scale = parameter[0].numel() ** -0.5 if parameter.dim() > 1 else 0.3
                centre = 1.0 if parameter.dim() == 1 and name == "weight" else 0.0
                parameter.copy_(centre + scale * random(parameter))
            if (
                isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d)
                and module.track_running_stats
            ):
                module.running_mean.copy_(0.3 * random(module.running_mean))
                module.running_var.copy_(0.5 + random(module.running_var).abs())
    return net


def opaque(function):
    """A function of a tensor that no tracer looks into."""

    @functools.wraps(function)
    def seen(x):
        if torch.overrides.has_torch_function_unary(x):
            return torch.overrides.handle_torch_function(seen, (x,), x)
        return function(x)

    return seen


def sizes_are_traced():
    """Whether functions take torch.fx's stand-ins in lists and for sizes: not in PyTorch 2.4."""
    try:
        fx.symbolic_trace(lambda x: torch.cat([x, x], x.dim() - 1))
    except TypeError:
        return False
    return True


def volumes_network():
    """A ResNet-18 of volumes: a stem of 7³ and stride 2, a pool, four stages of 64 to 512."""
    layers = [nn.Conv3d(1, 64, 7, 2, 3, bias=False), nn.BatchNorm3d(64), nn.ReLU()]
    layers.append(nn.MaxPool3d(3, 2, 1))
    c = 64
    for out, stride in (
        (64, 1),
        (64, 1),
        (128, 2),
        (128, 1),
        (256, 2),
        (256, 1),
        (512, 2),
        (512, 1),
    ):
        skip = nn.Identity() if c == out else nn.Conv3d(c, out, 1, stride, bias=False)
        parts = nn.Sequential(
            nn.Conv3d(c, out, 3, stride, 1, bias=False), nn.BatchNorm3d(out), nn.ReLU(),
            nn.Conv3d(out, out, 3, 1, 1, bias=False), nn.BatchNorm3d(out),
        )  # fmt: skip
        layers.append(Layer("block", lambda x, a, b: F.relu(a(x) + b(x)), skip, parts))
        c = out
    return nn.Sequential(*layers, nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(512, 5)).eval()
