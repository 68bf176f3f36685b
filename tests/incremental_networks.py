# Random networks of everything that the incremental engine knows, and of much that it does not.
import torch
from hypothesis import strategies as st
from torch import nn
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
    def __init__(self, layers, head):
        super().__init__()
        self.layers, self.head = nn.ModuleList(layers), head

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


def _conv(draw, c, out=None, **fixed):
    """Any convolution; ``same=True`` for one that keeps the map's size."""
    same = fixed.get("same", False)
    kernel = tuple(draw(st.sampled_from([1, 3, 5] if same else [1, 2, 3, 4, 5])) for _ in "hw")
    dilation = draw(st.sampled_from([1, 1, 2]))
    stride = 1 if same else draw(st.sampled_from([1, 1, 2, 3, (2, 1)]))
    padding = tuple(k // 2 * dilation for k in kernel) if same else draw(st.integers(0, 2))
    if not same and stride == 1:
        padding = draw(st.sampled_from([padding, padding, "same", "valid"]))
    out = out or draw(st.sampled_from([2, 3, 4, 6]))
    groups = draw(st.sampled_from([g for g in (1, 1, 2, 3, c) if c % g == 0 == out % g]))
    mode = draw(st.sampled_from(["zeros"] * 6 + ["reflect", "circular", "replicate"]))
    bias = draw(st.booleans())
    return nn.Conv2d(c, out, kernel, stride, padding, dilation, groups, bias, mode)


_ACTIVATIONS = [
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.SiLU, nn.Mish, nn.Hardswish,
    nn.Hardsigmoid, nn.Hardtanh,
]  # fmt: skip
_FUNCTIONS = {
    "F.relu": F.relu,
    "F.relu, inplace": lambda x: F.relu(x, inplace=True),
    "F.relu, True": lambda x: F.relu(x, True),
    "F.leaky_relu": lambda x: F.leaky_relu(x, 0.2, True),
    "F.gelu": lambda x: F.gelu(x, approximate="tanh"),
    "torch.relu_": lambda x: torch.relu_(x),
    "sigmoid": torch.sigmoid,
    "x.tanh": lambda x: x.tanh(),
    "x.relu_": lambda x: x.relu_(),
    "x.clamp_": lambda x: x.clamp_(min=-0.3),
    "x.clamp": lambda x: x.clamp(-1, 0.5),
    "x * sigmoid(x)": lambda x: x * torch.sigmoid(x),
    "x * relu6(x + 3) / 6": lambda x: x * F.relu6(x + 3) / 6,
    "2 - x": lambda x: 2 - x,
    "1 / (1 + x²)": lambda x: 1 / (1 + torch.square(x)),
    "-x": lambda x: -x,
    "x ** 2": lambda x: x**2,
    "softplus, exp": lambda x: torch.exp(-F.softplus(x)) + torch.abs(x),
    "dropout": lambda x: F.dropout(x, 0.5, False),
    "x.mul_, x.add_": lambda x: x.mul_(0.5).add_(0.1),
    "x += 1": lambda x: _add_in_place(x),
}


def _add_in_place(x):
    x += 1
    return x


@st.composite
def _activation(draw):
    if draw(st.booleans()):
        return draw(st.sampled_from(_ACTIVATIONS))(inplace=draw(st.booleans()))
    name = draw(st.sampled_from([*_FUNCTIONS, "other"]))
    if name != "other":
        return Layer(name, _FUNCTIONS[name])
    others = (nn.GELU(), nn.Sigmoid(), nn.Identity(), nn.Dropout(0.5, inplace=True), nn.Dropout2d())
    return draw(st.sampled_from((*others, nn.PReLU(), nn.Softplus(), nn.Tanh(), nn.Softmax2d())))


@st.composite
def _pool(draw):
    kernel = draw(st.sampled_from([2, 3, (3, 2), (1, 2), 1]))
    stride = draw(st.sampled_from([None, 1, 2, 3, (2, 1)]))
    padding = draw(st.sampled_from([0, (1, 1) if kernel in (2, 3) else 0]))
    ceil_mode = draw(st.booleans())
    if draw(st.booleans()):
        pool = nn.MaxPool2d(
            kernel, stride, padding, draw(st.sampled_from([1, 2])), False, ceil_mode
        )
        calls = {"nn": None, "F": F.max_pool2d, "torch": torch.max_pool2d}
        call = calls[draw(st.sampled_from(list(calls)))]
        if call is None:
            return pool
        return Layer("max_pool2d", lambda x: call(x, kernel, stride or kernel, padding))
    include, divisor = draw(st.booleans()), draw(st.sampled_from([None, None, 3]))
    if draw(st.booleans()):
        return nn.AvgPool2d(kernel, stride, padding, ceil_mode, include, divisor)
    return Layer(
        "avg_pool2d",
        lambda x: F.avg_pool2d(x, kernel, stride, padding, ceil_mode, include, divisor),
    )


_JOINS = {
    "a + b": lambda a, b: a + b,
    "a += b": lambda a, b: _into(a, b),
    "torch.add": torch.add,
    "alpha": lambda a, b: torch.add(a, b, alpha=0.5),
    "add_": lambda a, b: a.add_(b),
    "a - b": lambda a, b: a - b,
    "sub": lambda a, b: b.sub(a),
    "a * b": lambda a, b: a * b,
    "mul_": lambda a, b: torch.sigmoid(a).mul_(b),
    "a / (1 + |b|)": lambda a, b: torch.div(a, 1 + b.abs()),
    "cat": lambda a, b: torch.cat([a, b], 1),
    "cat, -3": lambda a, b: torch.cat((b, a, b), dim=-3),
    "cat of one": lambda a, b: torch.cat([a, a], 1) * torch.cat([b, a], 1),
    "same twice": lambda a, b: a + a * b + b,
    "maximum": torch.maximum,
}


def _into(a, b):
    a += b
    return a


def _read_later(x, conv, other):
    """An in-place activation, of which the values before and after are read by others."""
    before = conv(x)
    y = other(before)
    return F.relu(before, inplace=True) * 0.5 + y + before


def _squeeze_excite(x, down, up):
    return x * torch.sigmoid(up(F.relu(down(F.adaptive_avg_pool2d(x, 1)))))


def _channel_attention(x, scale):
    return x * torch.sigmoid(scale(x.mean((2, 3)))).view(x.size(0), -1, 1, 1)


def _spatial_attention(x, conv):
    return x * torch.sigmoid(conv(torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)))


def _conv_next(x, conv, norm, up, down, last):
    y = conv(x).permute(0, 2, 3, 1)
    y = down(F.gelu(up(norm(y)))) * last.weight
    return x + y.permute(0, 3, 1, 2)


def _shuffle(x):
    b, c, h, w = x.shape
    return x.view(b, c // 2, 2, h, w).transpose(1, 2).contiguous().view(b, -1, h, w)


def _around(x, conv):
    return F.conv2d(F.pad(x, (2, 1, 0, 1)), conv.weight, conv.bias, stride=(1, 2))


def _shared(x, conv):
    return conv(F.relu(conv(x))) - 0.3 * conv(x)


@st.composite
def _residual(draw, c):
    name = draw(st.sampled_from(list(_JOINS)))
    inner = [_conv(draw, c, c, same=True), draw(_activation()), _conv(draw, c, c, same=True)]
    if draw(st.booleans()):
        inner.insert(1, nn.BatchNorm2d(c))
    join = _JOINS[name]
    both = [
        nn.Sequential(*inner),
        draw(st.sampled_from([nn.Identity(), _conv(draw, c, c, same=True)])),
    ]
    if draw(st.booleans()):
        both.reverse()
    return Layer(name, lambda x, a, b: join(a(x), b(x)), *both)


_WHOLE = {
    "GroupNorm": lambda c: nn.GroupNorm(1, c),
    "InstanceNorm2d": lambda c: nn.InstanceNorm2d(c, affine=True),
    "squeeze-excite": lambda c: Layer(
        "SE", _squeeze_excite, nn.Conv2d(c, 2, 1), nn.Conv2d(2, c, 1)
    ),
    "channel attention": lambda c: Layer("attention", _channel_attention, nn.Linear(c, c)),
    "spatial attention": lambda c: Layer("spatial", _spatial_attention, nn.Conv2d(2, 1, 3, 1, 1)),
    "interpolate": lambda c: Layer("interpolate", lambda x: F.interpolate(x, scale_factor=2.0)),
    "up to the size of": lambda c: Layer(
        "interpolate", lambda x: x + F.interpolate(F.max_pool2d(x, 2), size=x.shape[2:])
    ),
    "ConvTranspose2d": lambda c: nn.ConvTranspose2d(c, 3, 3, 2),
    "pixel shuffle": lambda c: Layer(
        "shuffle", lambda x: F.pixel_shuffle(torch.cat([x] * 4, 1), 2)
    ),
    "roll": lambda c: Layer("roll", lambda x: torch.roll(x, 1, 2)),
    "flip": lambda c: Layer("flip", lambda x: x + x.flip(3)),
    "local response": lambda c: nn.LocalResponseNorm(2),
}


@st.composite
def _layer(draw, c):
    kind = draw(st.sampled_from(
        ["conv"] * 5 + ["pool"] * 2 + ["activation"] * 3 + ["norm", "residual", "residual", "again"]
        + ["next", "whole", "adaptive", "shuffle", "pad", "shared", "scale"]
    ))  # fmt: skip
    if kind == "conv":
        return _conv(draw, c)
    if kind == "pool":
        return draw(_pool())
    if kind == "activation":
        return draw(_activation())
    if kind == "norm":
        return nn.BatchNorm2d(c, affine=draw(st.booleans()))
    if kind == "residual":
        return draw(_residual(c))
    if kind == "again":
        return Layer("read later", _read_later, nn.Conv2d(c, c, 3, 1, 1), nn.Conv2d(c, c, 3, 1, 1))
    if kind == "next":
        parts = (nn.Conv2d(c, c, 5, padding=2, groups=c), nn.LayerNorm(c), nn.Linear(c, 2 * c))
        return Layer("ConvNeXt", _conv_next, *parts, nn.Linear(2 * c, c), nn.LayerNorm(c))
    if kind == "whole":
        return _WHOLE[draw(st.sampled_from(list(_WHOLE)))](c)
    if kind == "adaptive":
        size = draw(st.sampled_from([None, 2, 3, 4, (3, 5), (None, 4)]))
        return nn.AdaptiveAvgPool2d((None, None) if size is None else size)
    if kind == "shuffle":
        return Layer("shuffle", _shuffle)
    if kind == "pad":
        return Layer("F.pad, F.conv2d", _around, nn.Conv2d(c, 3, (3, 2)))
    if kind == "shared":
        return Layer("shared", _shared, nn.Conv2d(c, c, 3, 1, 1))
    return Layer("scale", lambda x, norm: x * norm.weight[:, None, None], nn.LayerNorm(c))


@st.composite
def _head(draw, shape):
    c, h, w = shape[1:]
    heads = {
        "view": (c * h * w, lambda x, last: last(x.view(x.size(0), -1))),
        "flatten": (c * h * w, lambda x, last: last(torch.flatten(x, 1))),
        "reshape": (c * h * w, lambda x, last: last(x.reshape(x.shape[0], -1))),
        "mean": (c, lambda x, last: last(x.mean((2, 3)))),
        "mean, -1": (c, lambda x, last: last(x.mean([-1, -2], keepdim=True).flatten(1))),
        "two means": (c, lambda x, last: last(x.mean(3).mean(2))),
        "adaptive": (c, lambda x, last: last(F.adaptive_avg_pool2d(x, (1, 1)).flatten(1))),
        "avg_pool2d": (c, lambda x, last: last(F.avg_pool2d(x, x.size()[2:]).flatten(1))),
        "largest": (c, lambda x, last: last(F.max_pool2d(x, x.shape[2:]).flatten(1))),
        "channels last": (c, lambda x, last: last(x.permute(0, 2, 3, 1)).mean((1, 2))),
        "map": (c, lambda x, last: x),
        "mean of a map": (c, lambda x, last: x.mean((1, 2, 3))),
        "dropout": (c, lambda x, last: last(F.dropout(x, 0.5, False).sum((2, 3)))),
    }
    name = draw(st.sampled_from(list(heads)))
    inputs, function = heads[name]
    return Layer(name, function, nn.Linear(inputs, 5))


@st.composite
def networks(draw, shape):
    """A network for pictures (n, C, H, W), in evaluation mode and double precision."""
    layers, x = [], torch.zeros(1, *shape[1:], dtype=DTYPE)
    for _ in range(draw(st.integers(2, 6))):
        layer = draw(_layer(x.shape[1])).to(DTYPE).eval()
        try:
            made = layer(x.clone())
        except (RuntimeError, ValueError):  # the map is too small for it
            continue
        if made.shape[1] <= 12 and 4 <= made[0, 0].numel() <= 1500:
            layers.append(layer)
            x = made.detach()
    made = Network(layers, draw(_head(x.shape))).to(DTYPE).eval()
    scatter(made, draw(st.integers(0, 2**20)))
    return made


def scatter(net, seed=0):
    """Parameters and statistics that keep values about as large as they are, and all different."""
    generator = torch.Generator().manual_seed(seed)

    def random(shape):
        return torch.randn(shape, generator=generator, dtype=DTYPE)

    with torch.no_grad():
        for module in net.modules():
            for name, parameter in module.named_parameters(recurse=False):
                scale = parameter[0].numel() ** -0.5 if parameter.dim() > 1 else 0.3
                centre = 1.0 if parameter.dim() == 1 and name == "weight" else 0.0
                parameter.copy_(centre + scale * random(parameter.shape))
            if isinstance(module, nn.BatchNorm2d) and module.track_running_stats:
                module.running_mean.copy_(0.3 * random(module.running_mean.shape))
                module.running_var.copy_(0.5 + random(module.running_var.shape).abs())
    return net
