# Strategies: everything that the incremental engine knows, and much that it does not.
import torch
from hypothesis import strategies as st
from incremental_networks import DTYPE, Layer, Network, scatter
from torch import nn
from torch.nn import functional as F


def _convolution(draw, c, out=None, *, keeps_size=False):
    kernel = tuple(
        draw(st.sampled_from([1, 3, 5] if keeps_size else [1, 2, 3, 4, 5])) for _ in "hw"
    )
    dilation = draw(st.sampled_from([1, 1, 2]))
    stride = 1 if keeps_size else draw(st.sampled_from([1, 1, 2, 3, (2, 1)]))
    padding = tuple(k // 2 * dilation for k in kernel) if keeps_size else draw(st.integers(0, 2))
    if not keeps_size and stride == 1:
        padding = draw(st.sampled_from([padding, padding, "same", "valid"]))
    out = out or draw(st.sampled_from([2, 3, 4, 6]))
    groups = draw(st.sampled_from([g for g in (1, 1, 2, 3, c) if c % g == 0 == out % g]))
    mode = draw(st.sampled_from(["zeros"] * 6 + ["reflect", "circular", "replicate"]))
    bias = draw(st.booleans())
    return nn.Conv2d(c, out, kernel, stride, padding, dilation, groups, bias, mode)


def _add_one(x):
    x += 1
    return x


ACTIVATIONS = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.SiLU, nn.Mish, nn.Hardswish,
    nn.Hardsigmoid, nn.Hardtanh,
)  # fmt: skip
OTHERS = (
    nn.GELU(), nn.Sigmoid(), nn.Tanh(), nn.Softplus(), nn.PReLU(), nn.Softmax2d(), nn.Identity(),
    nn.Dropout(inplace=True), nn.Dropout2d(),
)  # fmt: skip
FUNCTIONS = {
    "F.relu": F.relu,
    "F.relu, inplace": lambda x: F.relu(x, inplace=True),
    "F.relu, True": lambda x: F.relu(x, True),
    "F.leaky_relu, True": lambda x: F.leaky_relu(x, 0.2, True),
    "F.gelu": lambda x: F.gelu(x, approximate="tanh"),
    "F.dropout": lambda x: F.dropout(x, 0.5, False),
    "torch.relu_": torch.relu_,
    "torch.sigmoid": torch.sigmoid,
    "x.tanh": lambda x: x.tanh(),
    "x.relu_": lambda x: x.relu_(),
    "x.clamp_": lambda x: x.clamp_(min=-0.3),
    "x.clamp": lambda x: x.clamp(-1, 0.5),
    "x.mul_, x.add_": lambda x: x.mul_(0.5).add_(0.1),
    "x += 1": _add_one,
    "x * sigmoid(x)": lambda x: x * torch.sigmoid(x),
    "x * relu6(x + 3) / 6": lambda x: x * F.relu6(x + 3) / 6,
    "2 - x": lambda x: 2 - x,
    "1 / (1 + x²)": lambda x: 1 / (1 + torch.square(x)),
    "-x": lambda x: -x,
    "x ** 2": lambda x: x**2,
    "exp(-softplus) + abs": lambda x: torch.exp(-F.softplus(x)) + torch.abs(x),
}


def _activation(draw, c=None):
    if draw(st.booleans()):
        return draw(st.sampled_from(ACTIVATIONS))(inplace=draw(st.booleans()))
    if draw(st.integers(0, 4)) == 0:
        return draw(st.sampled_from(OTHERS))
    name = draw(st.sampled_from(list(FUNCTIONS)))
    return Layer(name, FUNCTIONS[name])


def _max_pool(draw, c):
    kernel, stride, padding, ceil_mode = _pool(draw)
    if draw(st.booleans()):
        dilation = draw(st.sampled_from([1, 2]))
        return nn.MaxPool2d(kernel, stride, padding, dilation, ceil_mode=ceil_mode)
    call = draw(st.sampled_from([F.max_pool2d, torch.max_pool2d]))
    return Layer("max_pool2d", lambda x: call(x, kernel, stride or kernel, padding))


def _average_pool(draw, c):
    include, divisor = draw(st.booleans()), draw(st.sampled_from([None, None, 3]))
    settings = (*_pool(draw), include, divisor)
    if draw(st.booleans()):
        return nn.AvgPool2d(*settings)
    return Layer("avg_pool2d", lambda x: F.avg_pool2d(x, *settings))


def _pool(draw):
    kernel = draw(st.sampled_from([2, 3, (3, 2), (1, 2), 1]))
    padding = draw(st.sampled_from([0, (1, 1) if kernel in (2, 3) else 0]))
    return kernel, draw(st.sampled_from([None, 1, 2, 3, (2, 1)])), padding, draw(st.booleans())


def _adaptive_pool(draw, c):
    return nn.AdaptiveAvgPool2d(draw(st.sampled_from([(None, None), 2, 3, 4, (3, 5), (None, 4)])))


def _into(a, b):
    a += b
    return a


JOINS = {
    "a + b": lambda a, b: a + b,
    "a += b": _into,
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


def _branches(draw, c):
    """Two ways through, one of which may be none, and what is made of both."""
    name = draw(st.sampled_from(list(JOINS)))
    inner = [_convolution(draw, c, c, keeps_size=True) for _ in range(2)]
    inner.insert(1, _activation(draw))
    if draw(st.booleans()):
        inner.insert(1, nn.BatchNorm2d(c))
    other = nn.Identity() if draw(st.booleans()) else _convolution(draw, c, c, keeps_size=True)
    ways = [nn.Sequential(*inner), other]
    if draw(st.booleans()):
        ways.reverse()
    join = JOINS[name]
    return Layer(name, lambda x, a, b: join(a(x), b(x)), *ways)


def _read_later(x, conv, other):
    """An in-place activation, of which the values before and after have other readers."""
    before = conv(x)
    y = other(before)
    return F.relu(before, inplace=True) * 0.5 + y + before


def _shared(x, conv):
    return conv(F.relu(conv(x))) - 0.3 * conv(x)


def _conv_next(x, conv, norm, up, down, scale):
    y = down(F.gelu(up(norm(conv(x).permute(0, 2, 3, 1))))) * scale.weight
    return x + y.permute(0, 3, 1, 2)


def _padded(x, conv):
    return F.conv2d(F.pad(x, (2, 1, 0, 1)), conv.weight, conv.bias, stride=(1, 2))


def _shuffled(x):
    b, c, h, w = x.shape
    return x.view(b, c // 2, 2, h, w).transpose(1, 2).contiguous().view(b, -1, h, w)


def _squeeze_excite(x, down, up):
    return x * torch.sigmoid(up(F.relu(down(F.adaptive_avg_pool2d(x, 1)))))


def _attend_to_channels(x, scale):
    return x * torch.sigmoid(scale(x.mean((2, 3)))).view(x.size(0), -1, 1, 1)


def _attend_to_places(x, conv):
    pooled = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
    return x * torch.sigmoid(conv(pooled))


def _up_again(x):
    return x + F.interpolate(F.max_pool2d(x, 2), size=x.shape[2:])


BLOCKS = {
    "read later": lambda c: (_read_later, nn.Conv2d(c, c, 3, 1, 1), nn.Conv2d(c, c, 3, 1, 1)),
    "shared": lambda c: (_shared, nn.Conv2d(c, c, 3, 1, 1)),
    "ConvNeXt": lambda c: (
        _conv_next, nn.Conv2d(c, c, 5, 1, 2, groups=c), nn.LayerNorm(c), nn.Linear(c, 2 * c),
        nn.Linear(2 * c, c), nn.LayerNorm(c),
    ),
    "padded": lambda c: (_padded, nn.Conv2d(c, 3, (3, 2))),
    "shuffled": lambda c: (_shuffled,),
    "scaled": lambda c: (lambda x, norm: x * norm.weight[:, None, None], nn.LayerNorm(c)),
    "squeeze-excitation": lambda c: (_squeeze_excite, nn.Conv2d(c, 2, 1), nn.Conv2d(2, c, 1)),
    "channel attention": lambda c: (_attend_to_channels, nn.Linear(c, c)),
    "spatial attention": lambda c: (_attend_to_places, nn.Conv2d(2, 1, 3, 1, 1)),
    "interpolate": lambda c: (lambda x: F.interpolate(x, scale_factor=2.0),),
    "up again": lambda c: (_up_again,),
    "pixel shuffle": lambda c: (lambda x: F.pixel_shuffle(torch.cat([x] * 4, 1), 2),),
    "roll": lambda c: (lambda x: torch.roll(x, 1, 2),),
    "flip": lambda c: (lambda x: x + x.flip(3),),
    "GroupNorm": lambda c: (lambda x, norm: norm(x), nn.GroupNorm(1, c)),
    "InstanceNorm2d": lambda c: (lambda x, norm: norm(x), nn.InstanceNorm2d(c, affine=True)),
    "LocalResponseNorm": lambda c: (lambda x, norm: norm(x), nn.LocalResponseNorm(2)),
    "ConvTranspose2d": lambda c: (lambda x, conv: conv(x), nn.ConvTranspose2d(c, 3, 3, 2)),
}  # fmt: skip


def _block(draw, c):
    name = draw(st.sampled_from(list(BLOCKS)))
    return Layer(name, *BLOCKS[name](c))


def _batch_norm(draw, c):
    return nn.BatchNorm2d(c, affine=draw(st.booleans()))


LAYERS = (
    *[_convolution] * 5, *[_activation] * 3, *[_branches] * 2, *[_block] * 4, _max_pool,
    _average_pool, _adaptive_pool, _batch_norm,
)  # fmt: skip

HEADS = {  # how many numbers the last layer takes, and what is made of the map
    "view": (True, lambda x, last: last(x.view(x.size(0), -1))),
    "flatten": (True, lambda x, last: last(torch.flatten(x, 1))),
    "reshape": (True, lambda x, last: last(x.reshape(x.shape[0], -1))),
    "mean": (False, lambda x, last: last(x.mean((2, 3)))),
    "mean, kept": (False, lambda x, last: last(x.mean([-1, -2], keepdim=True).flatten(1))),
    "two means": (False, lambda x, last: last(x.mean(3).mean(2))),
    "adaptive": (False, lambda x, last: last(F.adaptive_avg_pool2d(x, (1, 1)).flatten(1))),
    "avg_pool2d": (False, lambda x, last: last(F.avg_pool2d(x, x.size()[2:]).flatten(1))),
    "max_pool2d": (False, lambda x, last: last(F.max_pool2d(x, x.shape[2:]).flatten(1))),
    "channels last": (False, lambda x, last: last(x.permute(0, 2, 3, 1)).mean((1, 2))),
    "sum": (False, lambda x, last: last(F.dropout(x, 0.5, False).sum((2, 3)))),
    "the map": (False, lambda x, last: x),
    "the map's mean": (False, lambda x, last: x.mean((1, 2, 3))),
}


@st.composite
def networks(draw, shape):
    """A network for pictures (n, C, H, W)."""
    layers, x = [], torch.zeros(1, *shape[1:], dtype=DTYPE)
    for _ in range(draw(st.integers(2, 6))):
        layer = draw(st.sampled_from(LAYERS))(draw, x.shape[1]).to(DTYPE).eval()
        try:
            made = layer(x.clone())
        except (RuntimeError, ValueError):  # the map is too small for it
            continue
        if made.shape[1] <= 12 and 4 <= made[0, 0].numel() <= 1500:
            layers.append(layer)
            x = made.detach()
    name = draw(st.sampled_from(list(HEADS)))
    takes_all, function = HEADS[name]
    last = nn.Linear(x[0].numel() if takes_all else x.shape[1], 5)
    net = Network(layers, Layer(name, function, last)).to(DTYPE).eval()
    return scatter(net, draw(st.integers(0, 2**20)))
