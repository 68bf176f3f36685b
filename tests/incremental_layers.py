# Strategies: everything that the incremental engine knows, and much that it does not.
import torch
from hypothesis import strategies as st
from incremental_networks import DTYPE, Layer, Network, scatter
from torch import nn
from torch.nn import functional as F

# By the number of dimensions of places: in signals, pictures and volumes.
CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
BATCH_NORMS = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
MAX_POOLS = {
    1: (nn.MaxPool1d, F.max_pool1d, torch.max_pool1d),
    2: (nn.MaxPool2d, F.max_pool2d, torch.max_pool2d),
    3: (nn.MaxPool3d, F.max_pool3d, torch.max_pool3d),
}
AVERAGE_POOLS = {
    1: (nn.AvgPool1d, F.avg_pool1d),
    2: (nn.AvgPool2d, F.avg_pool2d),
    3: (nn.AvgPool3d, F.avg_pool3d),
}
ADAPTIVE_POOLS = {
    1: (nn.AdaptiveAvgPool1d, F.adaptive_avg_pool1d),
    2: (nn.AdaptiveAvgPool2d, F.adaptive_avg_pool2d),
    3: (nn.AdaptiveAvgPool3d, F.adaptive_avg_pool3d),
}


def places(dims):
    """The dimensions of places of a map (N, C, ...)."""
    return tuple(range(2, dims + 2))


def to_last(x, dims):
    return x.permute(0, *places(dims), 1)


def to_first(x, dims):
    return x.permute(0, dims + 1, *range(1, dims + 1))


def _convolution(draw, dims, c, out=None, *, keeps_size=False):
    kernel = tuple(
        draw(st.sampled_from([1, 3, 5] if keeps_size else [1, 2, 3, 4, 5])) for _ in range(dims)
    )
    dilation = draw(st.sampled_from([1, 1, 2]))
    stride = 1 if keeps_size else draw(st.sampled_from([1, 1, 2, 3, (2, 1, 2)[:dims]]))
    padding = tuple(k // 2 * dilation for k in kernel) if keeps_size else draw(st.integers(0, 2))
    if not keeps_size and stride == 1:
        padding = draw(st.sampled_from([padding, padding, "same", "valid"]))
    out = out or draw(st.sampled_from([2, 3, 4, 6]))
    groups = draw(st.sampled_from([g for g in (1, 1, 2, 3, c) if c % g == 0 == out % g]))
    mode = draw(st.sampled_from(["zeros"] * 6 + ["reflect", "circular", "replicate"]))
    bias = draw(st.booleans())
    return CONVOLUTIONS[dims](c, out, kernel, stride, padding, dilation, groups, bias, mode)


def _add_one(x):
    x += 1
    return x


ACTIVATIONS = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.SiLU, nn.Mish, nn.Hardswish,
    nn.Hardsigmoid, nn.Hardtanh,
)  # fmt: skip
OTHERS = (
    nn.GELU(), nn.Sigmoid(), nn.Tanh(), nn.Softplus(), nn.PReLU(), nn.Identity(),
    nn.Dropout(inplace=True),
)  # fmt: skip
# On maps of other dimensions, these are about the examples of the batch, or warn.
OTHERS_OF = {1: (nn.Dropout1d(),), 2: (nn.Dropout2d(), nn.Softmax2d()), 3: (nn.Dropout3d(),)}
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


def _activation(draw, dims, c=None):
    if draw(st.booleans()):
        return draw(st.sampled_from(ACTIVATIONS))(inplace=draw(st.booleans()))
    if draw(st.integers(0, 4)) == 0:
        return draw(st.sampled_from(OTHERS + OTHERS_OF[dims]))
    name = draw(st.sampled_from(list(FUNCTIONS)))
    return Layer(name, FUNCTIONS[name])


def _max_pool(draw, dims, c):
    kernel, stride, padding, ceil_mode = _pool(draw, dims)
    module, *functions = MAX_POOLS[dims]
    if draw(st.booleans()):
        dilation = draw(st.sampled_from([1, 2]))
        return module(kernel, stride, padding, dilation, ceil_mode=ceil_mode)
    call = draw(st.sampled_from(functions))
    return Layer("max_pool", lambda x: call(x, kernel, stride or kernel, padding))


def _average_pool(draw, dims, c):
    module, function = AVERAGE_POOLS[dims]
    settings = (*_pool(draw, dims), draw(st.booleans()))
    if dims > 1:
        settings = (*settings, draw(st.sampled_from([None, None, 3])))
    if draw(st.booleans()):
        return module(*settings)
    return Layer("avg_pool", lambda x: function(x, *settings))


def _pool(draw, dims):
    kernel = draw(st.sampled_from([2, 3, (3, 2, 2)[:dims], (1, 2, 1)[-dims:], 1]))
    padding = draw(st.sampled_from([0, (1,) * dims if kernel in (2, 3) else 0]))
    stride = draw(st.sampled_from([None, 1, 2, 3, (2, 1, 2)[:dims]]))
    return kernel, stride, padding, draw(st.booleans())


def _adaptive_pool(draw, dims, c):
    module, function = ADAPTIVE_POOLS[dims]
    sizes = [(None,) * dims, 2, 3, 4, (3, 5, 2)[:dims], (None, 4, 2)[:dims]]
    asked = draw(st.sampled_from([each for each in sizes if dims > 1 or each != (None,)]))
    return module(asked) if draw(st.booleans()) else Layer("pool", lambda x: function(x, asked))


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
    "cat of three": lambda a, b: torch.cat((b, a, b), dim=1),
    "cat of one": lambda a, b: torch.cat([a, a], 1) * torch.cat([b, a], 1),
    "same twice": lambda a, b: a + a * b + b,
    "maximum": torch.maximum,
}


def _branches(draw, dims, c):
    """Two ways through, one of which may be none, and what is made of both."""
    name = draw(st.sampled_from(list(JOINS)))
    inner = [_convolution(draw, dims, c, c, keeps_size=True) for _ in range(2)]
    inner.insert(1, _activation(draw, dims))
    if draw(st.booleans()):
        inner.insert(1, BATCH_NORMS[dims](c))
    other = (
        nn.Identity() if draw(st.booleans()) else _convolution(draw, dims, c, c, keeps_size=True)
    )
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


def _conv_next(dims):
    def forward(x, conv, norm, up, down, scale):
        y = down(F.gelu(up(norm(to_last(conv(x), dims))))) * scale.weight
        return x + to_first(y, dims)

    return forward


def _transposed(x, norm, up, down):
    """As networks of sequences write it."""
    return x + down(F.silu(up(norm(x.transpose(1, 2))))).transpose(-1, -2)


def _padded(x, conv):
    return F.conv2d(F.pad(x, (2, 1, 0, 1)), conv.weight, conv.bias, stride=(1, 2))


def _shuffled(x):
    b, c, h, w = x.shape
    return x.view(b, c // 2, 2, h, w).transpose(1, 2).contiguous().view(b, -1, h, w)


def _squeeze_excite(x, pool, down, up):
    return x * torch.sigmoid(up(F.relu(down(pool(x)))))


def _mean_subtracted(dims):
    over = places(dims)
    return lambda x: x - x.mean(over, keepdim=True) + x.tanh().mean(-1, keepdim=True)


def _scaled(dims):
    spread = (slice(None), *[None] * dims)
    return lambda x, norm: x * norm.weight[spread]


def _attend_to_channels(x, scale):
    return x * torch.sigmoid(scale(x.mean((2, 3)))).view(x.size(0), -1, 1, 1)


def _attend_to_places(x, conv):
    pooled = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
    return x * torch.sigmoid(conv(pooled))


def _up_again(x):
    return x + F.interpolate(F.max_pool2d(x, 2), size=x.shape[2:])


BLOCKS = {
    "read later": lambda conv, dims, c: (_read_later, conv(c, c, 3, 1, 1), conv(c, c, 3, 1, 1)),
    "shared": lambda conv, dims, c: (_shared, conv(c, c, 3, 1, 1)),
    "ConvNeXt": lambda conv, dims, c: (
        _conv_next(dims), conv(c, c, 5, 1, 2, groups=c), nn.LayerNorm(c), nn.Linear(c, 2 * c),
        nn.Linear(2 * c, c), nn.LayerNorm(c),
    ),
    "scaled": lambda conv, dims, c: (_scaled(dims), nn.LayerNorm(c)),
    "means": lambda conv, dims, c: (_mean_subtracted(dims),),
    "GroupNorm": lambda conv, dims, c: (lambda x, norm: norm(x), nn.GroupNorm(1, c)),
    "LocalResponseNorm": lambda conv, dims, c: (lambda x, norm: norm(x), nn.LocalResponseNorm(2)),
    "roll": lambda conv, dims, c: (lambda x: torch.roll(x, 1, 2),),
    "flip": lambda conv, dims, c: (lambda x: x + x.flip(-1),),
    "interpolate": lambda conv, dims, c: (lambda x: F.interpolate(x, scale_factor=2.0),),
}  # fmt: skip
BLOCKS_OF_SIGNALS = {
    "transposed": lambda conv, dims, c: (
        _transposed, nn.LayerNorm(c), nn.Linear(c, 2 * c), nn.Linear(2 * c, c)
    ),
    "squeeze-excitation": lambda conv, dims, c: (
        _squeeze_excite, nn.AdaptiveAvgPool1d(1), conv(c, 2, 1), conv(2, c, 1)
    ),
    "InstanceNorm1d": lambda conv, dims, c: (
        lambda x, norm: norm(x), nn.InstanceNorm1d(c, affine=True)
    ),
}  # fmt: skip
BLOCKS_OF_PICTURES = {
    "padded": lambda conv, dims, c: (_padded, nn.Conv2d(c, 3, (3, 2))),
    "shuffled": lambda conv, dims, c: (_shuffled,),
    "squeeze-excitation": lambda conv, dims, c: (
        _squeeze_excite,
        nn.AdaptiveAvgPool2d(1),
        conv(c, 2, 1),
        conv(2, c, 1),
    ),
    "channel attention": lambda conv, dims, c: (_attend_to_channels, nn.Linear(c, c)),
    "spatial attention": lambda conv, dims, c: (_attend_to_places, nn.Conv2d(2, 1, 3, 1, 1)),
    "up again": lambda conv, dims, c: (_up_again,),
    "pixel shuffle": lambda conv, dims, c: (lambda x: F.pixel_shuffle(torch.cat([x] * 4, 1), 2),),
    "InstanceNorm2d": lambda conv, dims, c: (
        lambda x, norm: norm(x),
        nn.InstanceNorm2d(c, affine=True),
    ),
    "ConvTranspose2d": lambda conv, dims, c: (
        lambda x, conv: conv(x),
        nn.ConvTranspose2d(c, 3, 3, 2),
    ),
}
BLOCKS_OF_VOLUMES = {
    "squeeze-excitation": lambda conv, dims, c: (
        _squeeze_excite, nn.AdaptiveAvgPool3d(1), conv(c, 2, 1), conv(2, c, 1)
    ),
    "factorised": lambda conv, dims, c: (
        lambda x, a, b: b(F.relu(a(x))), conv(c, 4, (1, 3, 3), 1, (0, 1, 1)),
        conv(4, c, (3, 1, 1), 1, (1, 0, 0)),
    ),
    "slices as pictures": lambda conv, dims, c: (
        lambda x, conv: conv(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (-1, x.size(2)))
        .transpose(1, 2).contiguous(), nn.Conv2d(c, c, 3, 1, 1),
    ),
}  # fmt: skip
OF_DIMS = {1: BLOCKS_OF_SIGNALS, 2: BLOCKS_OF_PICTURES, 3: BLOCKS_OF_VOLUMES}


def _block(draw, dims, c):
    blocks = BLOCKS | OF_DIMS[dims]
    name = draw(st.sampled_from(list(blocks)))
    return Layer(name, *blocks[name](CONVOLUTIONS[dims], dims, c))


def _batch_norm(draw, dims, c):
    return BATCH_NORMS[dims](c, affine=draw(st.booleans()))


LAYERS = (
    *[_convolution] * 5, *[_activation] * 3, *[_branches] * 2, *[_block] * 4, _max_pool,
    _average_pool, _adaptive_pool, _batch_norm,
)  # fmt: skip


def heads_of(dims):
    """By name: whether the last layer takes all numbers of the map; what is made of the map."""
    over, last_over = places(dims), tuple(range(1, dims + 1))
    everything = (1, *over)
    largest, average = MAX_POOLS[dims][1], AVERAGE_POOLS[dims][1]
    adaptive = ADAPTIVE_POOLS[dims][1]
    return {
        "view": (True, lambda x, last: last(x.view(x.size(0), -1))),
        "flatten": (True, lambda x, last: last(torch.flatten(x, 1))),
        "reshape": (True, lambda x, last: last(x.reshape(x.shape[0], -1))),
        "mean": (False, lambda x, last: last(x.mean(over))),
        "mean, kept": (False, lambda x, last: last(x.mean(over[::-1], keepdim=True).flatten(1))),
        "mean of rows": (False, lambda x, last: last(x.flatten(2).mean(2))),
        "adaptive": (False, lambda x, last: last(adaptive(x, 1).flatten(1))),
        "average": (False, lambda x, last: last(average(x, x.size()[2:]).flatten(1))),
        "largest": (False, lambda x, last: last(largest(x, x.shape[2:]).flatten(1))),
        "channels last": (False, lambda x, last: last(to_last(x, dims)).mean(last_over)),
        "sum": (False, lambda x, last: last(F.dropout(x, 0.5, False).sum(over))),
        "the map": (False, lambda x, last: x),
        "the map's mean": (False, lambda x, last: x.mean(everything)),
    }


@st.composite
def networks(draw, shape):
    """A network for signals, pictures or volumes (n, C, ...)."""
    dims, layers, x = len(shape) - 2, [], torch.zeros(1, *shape[1:], dtype=DTYPE)
    for _ in range(draw(st.integers(2, 6))):
        layer = draw(st.sampled_from(LAYERS))(draw, dims, x.shape[1]).to(DTYPE).eval()
        try:
            made = layer(x.clone())
        except (RuntimeError, ValueError, IndexError):  # the map is too small for it
            continue
        if made.shape[1] <= 12 and 4 <= made[0, 0].numel() <= 1500:
            layers.append(layer)
            x = made.detach()
    heads = heads_of(dims)
    name = draw(st.sampled_from(list(heads)))
    takes_all, function = heads[name]
    last = nn.Linear(x[0].numel() if takes_all else x.shape[1], 5)
    net = Network(layers, Layer(name, function, last)).to(DTYPE).eval()
    return scatter(net, draw(st.integers(0, 2**20)))
