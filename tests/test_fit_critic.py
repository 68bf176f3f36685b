# fit_critic: it finds the mean posterior given a view, and loses nothing on the way.
from __future__ import annotations

import itertools
import re
import warnings
from functools import cache

import pytest
import torch
from refused import refused
from state import unchanged
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset, WeightedRandomSampler

from captum_infomask import (
    ArgumentError,
    Constant,
    FittedCritic,
    InfoMask,
    fit_critic,
    grid,
)
from captum_infomask.critics.fit_loaders import fit_and_held_out
from captum_infomask.critics.fitted_critic import FitReport

# Pictures of two pixels, each −1, 0.5 or 1: 9 pictures in all, and 0 is none of the values.
VALUES = (-1.0, 0.5, 1.0)
ALL = torch.tensor(list(itertools.product(VALUES, VALUES))).reshape(9, 1, 1, 2)


def network() -> nn.Sequential:
    """Three classes, and answers that hang on both pixels together."""
    generator = torch.Generator().manual_seed(2)
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 3))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return model.eval()


def loader(n: int = 288, batch_size: int = 48, **kwargs) -> DataLoader:
    return DataLoader(
        TensorDataset(ALL.repeat(n // 9, 1, 1, 1)), batch_size=batch_size, shuffle=True, **kwargs
    )


def quick(model=None, given=None, **kwargs) -> FittedCritic:
    """A short fit."""
    settings = {"steps": 8, "learning_rate": 1e-3, "views": ("windows",), "window_shapes": [1]}
    return fit_critic(
        network() if model is None else model,
        loader() if given is None else given,
        **(settings | kwargs),
    )


@cache
def fitted() -> FittedCritic:
    return fit_critic(
        network(),
        loader(),
        held_out=[ALL],
        views=("windows", "patches", "rest"),
        window_shapes=[1],
        steps=400,
        learning_rate=1e-2,
    )


def same_weights(a: nn.Module, b: nn.Module) -> bool:
    one, other = a.state_dict(), b.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


# What it estimates


def mean_posterior(left: float | None, right: float | None) -> torch.Tensor:
    """The mean of p(y | x) over all pictures that look like this where something is shown."""
    rows = [
        network()(torch.tensor([[[[a, b]]]])).softmax(1)[0]
        for a, b in itertools.product(VALUES, VALUES)
        if left in (None, a) and right in (None, b)
    ]
    return torch.stack(rows).mean(0)


@pytest.mark.slow
@torch.no_grad()
def test_the_critic_is_the_mean_posterior_given_the_view():
    before, after = [], []
    for left, right in itertools.product((None, *VALUES), repeat=2):
        view = torch.tensor([[[[left or 0.0, right or 0.0]]]])
        exact = mean_posterior(left, right)
        before.append((network()(view).softmax(1)[0] - exact).abs().max())
        after.append((fitted()(view).softmax(1)[0] - exact).abs().max())
    assert max(before) > 0.4
    assert max(after) < 0.05


@torch.no_grad()
def test_the_report_is_the_divergence_of_the_held_out_pictures():
    posterior = network()(ALL).softmax(1)
    blank = network()(torch.zeros(1, 1, 1, 2)).softmax(1)
    expected = (posterior * (posterior / blank).log2()).sum(1).mean()
    rows = {row.view: row for row in fitted().report.rows}
    assert list(rows) == ["whole", "windows", "patches", "rest", "blank"]
    assert rows["whole"].before == pytest.approx(0, abs=1e-6)
    assert rows["blank"].before == pytest.approx(float(expected), rel=1e-5)
    blank = fitted()(torch.zeros(1, 1, 1, 2)).softmax(1)
    expected = (posterior * (posterior / blank).log2()).sum(1).mean()
    assert rows["blank"].after == pytest.approx(float(expected), rel=1e-5)
    assert rows["blank"].size is None
    assert rows["windows"].size == (1, 1)
    assert all(row.views == 9 for row in rows.values())
    assert rows["windows"].after < rows["windows"].before - 0.2


@torch.no_grad()
def test_held_out_divergence_cannot_fall_below_what_the_view_lacks():
    exact = mean_posterior(None, None)
    posterior = network()(ALL).softmax(1)
    least = float((posterior * (posterior / exact).log2()).sum(1).mean())
    blank = next(row for row in fitted().report.rows if row.view == "blank")
    assert least > 0.1
    assert least - 1e-6 < blank.after < least + 0.01


def test_report_prints_as_a_table():
    lines = str(fitted().report).splitlines()
    assert re.fullmatch(r"view +size +KL before +KL after +views", lines[0])
    assert re.fullmatch(r"windows +1 × 1 +\d\.\d\d +\d\.\d\d +9", lines[2])
    assert len({len(line) for line in lines[:-1]}) == 1
    assert lines[-1].endswith("of 400 is kept.")


def test_infomask_takes_the_critic():
    with torch.no_grad():
        whole = fitted()(ALL).log_softmax(1)[:, 2]
        blank = fitted()(torch.zeros(1, 1, 1, 2)).log_softmax(1)[:, 2]
        left = fitted()(ALL * torch.tensor([1.0, 0.0])).log_softmax(1)[:, 2]
    infomap = InfoMask(fitted(), unit="nats").score_regions(
        ALL, target=2, view="keep", regions=grid(ALL, 1, 2)
    )
    torch.testing.assert_close(infomap.scores[:, 0], left - blank)
    torch.testing.assert_close(infomap.total, whole + torch.tensor(3.0).log())


@torch.no_grad()
def test_temperature_divides_the_networks_logits():
    class Fitted:
        def __float__(self) -> float:
            return 2.0

    critic = quick(temperature=Fitted(), held_out=[ALL])
    x = torch.randn(4, 1, 1, 2)
    torch.testing.assert_close(critic(x), critic.network(x) / 2)
    assert critic.report.rows[0].before == pytest.approx(0, abs=1e-6)
    blank = (network()(torch.zeros(1, 1, 1, 2)) / 2).softmax(1)
    posterior = (network()(ALL) / 2).softmax(1)
    expected = (posterior * (posterior / blank).log2()).sum(1).mean()
    assert critic.report.rows[-1].before == pytest.approx(float(expected), rel=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("how", [{"baselines": 0.7}, {"imputer": Constant(0.7)}])
def test_hidden_pixels_take_the_imputers_value(how):
    critic = quick(held_out=[ALL], **how)
    posterior = network()(ALL).softmax(1)
    blank = network()(torch.full((1, 1, 1, 2), 0.7)).softmax(1)
    expected = (posterior * (posterior / blank).log2()).sum(1).mean()
    assert critic.report.rows[-1].before == pytest.approx(float(expected), rel=1e-5)


# What it leaves alone


class Restless(nn.Module):
    """Batch statistics, dropout and a frozen layer, left in training mode with a gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 1)
        self.norm, self.dropout = nn.BatchNorm2d(4), nn.Dropout(0.5)
        self.last = nn.Linear(8, 3).requires_grad_(False)
        self.first.weight.grad = torch.ones_like(self.first.weight)
        self.first.register_forward_hook(lambda *_: None)

    def forward(self, x):
        return self.last(self.dropout(self.norm(self.first(x)).relu()).flatten(1))


def test_the_network_and_the_random_state_stay_as_they_were():
    model, images = Restless(), ALL.clone()
    with unchanged(model, images):
        critic = quick(model, DataLoader(TensorDataset(images), batch_size=3, shuffle=True))
    assert not critic.training
    assert not any(module.training for module in critic.modules())
    assert not any(parameter.requires_grad for parameter in critic.parameters())
    assert all(parameter.grad is None for parameter in critic.parameters())
    assert not torch.equal(critic.network.last.weight, model.last.weight)
    assert torch.equal(critic.network.norm.running_mean, model.norm.running_mean)


def test_they_stay_as_they_were_after_an_exception():
    class Broken:
        def __iter__(self):
            yield ALL
            torch.rand(3)
            raise OSError("the disk is gone")

    model = Restless()
    with unchanged(model), pytest.raises(OSError, match="the disk is gone"):
        quick(model, Broken(), held_out=[ALL])


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_it_fits_where_gradients_are_off(context):
    with context():
        critic = quick()
    assert same_weights(critic, quick())


def test_the_seed_decides_and_the_global_one_does_not():
    torch.manual_seed(1)
    one = quick(seed=5)
    torch.manual_seed(2)
    assert same_weights(one, quick(seed=5))
    assert not same_weights(one, quick(seed=6))


def test_autocast_is_close_but_not_the_same():
    plain, half = quick(steps=40), quick(steps=40, autocast=True)
    assert not same_weights(plain, half)
    change = (plain(ALL) - network()(ALL)).abs().max()
    assert (plain(ALL) - half(ALL)).abs().max() < 0.3 * change


@pytest.mark.usefixtures("terminal")
def test_progress_reaches_its_end_on_stderr(capsys):
    quick(show_progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "Fitting critic: 100%" in err
    assert "8/8" in err
    assert "KL=" in err
    quick()
    assert capsys.readouterr().err == ""


# Loaders


def test_a_tenth_is_held_out_by_the_seed():
    images = torch.arange(100.0).reshape(100, 1, 1, 1)
    given = DataLoader(TensorDataset(images), batch_size=7, drop_last=True)

    def values(seed: int) -> tuple[list[float], list[float]]:
        both = fit_and_held_out(given, None, seed)
        return tuple([v for batch in part for v in batch[0].flatten().tolist()] for part in both)

    fit, held = values(0)
    assert len(held) == 10
    assert sorted(fit + held) == list(range(100))
    assert fit != sorted(fit)
    assert values(0)[1] == held
    assert values(1)[1] != held


def test_a_list_of_batches_is_split_batch_by_batch():
    given = [(torch.full((2, 1, 1, 1), float(k)), torch.zeros(2)) for k in range(20)]
    fit, held = fit_and_held_out(given, None, 0)
    seen = [float(images[0]) for images, _ in fit] + [float(images[0]) for images, _ in held]
    assert len(held) == 2
    assert sorted(seen) == list(range(20))


def test_labels_are_not_used():
    images = ALL.repeat(8, 1, 1, 1)
    bare = [images[k::4] for k in range(4)]
    labelled = [(batch, torch.full((len(batch),), 99)) for batch in bare]
    assert same_weights(quick(given=bare), quick(given=labelled))


def test_a_batch_with_nan_is_left_out_with_one_warning():
    bad = ALL.clone()
    bad[4, 0, 0, 1] = float("nan")
    with pytest.warns(UserWarning, match="Batch 1 of `loader`.*in 1 of 9 pictures") as caught:
        critic = quick(given=[ALL, bad, ALL.flip(0), bad], held_out=[ALL])
    assert len(caught) == 1
    assert same_weights(critic, quick(given=[ALL, ALL.flip(0)], held_out=[ALL]))
    assert not same_weights(critic.network, network())


@pytest.mark.filterwarnings("ignore:Batch 0 of")
@pytest.mark.parametrize("where", ["loader", "held_out"])
def test_nothing_finite(where):
    bad = [torch.full_like(ALL, float("inf"))]
    both = {"loader": [ALL], "held_out": [ALL]} | {where: bad}
    refused((f"`{where}`", "finite"), lambda: quick(given=both.pop("loader"), **both))


class Endless(IterableDataset):
    def __iter__(self):
        while True:
            yield from ALL


UNSPLIT = [
    DataLoader(Endless(), batch_size=9),
    DataLoader(TensorDataset(ALL), sampler=WeightedRandomSampler([1.0] * 9, 9)),
    DataLoader(TensorDataset(ALL), batch_size=None),
]


@pytest.mark.parametrize("given", UNSPLIT, ids=["stream", "sampler", "single"])
def test_loaders_that_cannot_be_split_ask_for_held_out(given):
    refused(("`held_out`",), lambda: quick(given=given))


def test_a_stream_will_do_with_held_out():
    assert quick(given=DataLoader(Endless(), batch_size=9), held_out=[ALL]).report.steps == 8


BAD_LOADERS = [
    (["x"], ("at least 2 batches", "got 1")),
    (DataLoader(TensorDataset(ALL[:1])), ("at least 2 pictures", "got 1")),
    (ALL, ("`loader`", "DataLoader", "`held_out`")),
    (iter([ALL]), ("`loader`", "`held_out`")),
    ({1: 2}, ("`loader`", "`held_out`")),
    ([ALL[:, 0], ALL[:, 0]], ("`loader`", "(N, C, H, W)", "(9, 1, 2)")),
    ([ALL.long(), ALL.long()], ("`loader`", "floating-point", "int64")),
    ([{"image": ALL}] * 2, ("`loader`", "(N, C, H, W)")),
    ([ALL, ALL[:, :, :, :1]] * 9, ("`loader`", "one shape", "batch")),
]


@pytest.mark.parametrize(("given", "words"), BAD_LOADERS)
def test_bad_loaders(given, words):
    refused(words, lambda: quick(given=given))


def test_bad_held_out_and_empty_loaders():
    refused(("`held_out`", "at least one batch"), lambda: quick(held_out=[]))
    refused(("`loader`", "at least one batch"), lambda: fit([], held_out=[ALL]))
    refused(("`held_out`", "once only"), lambda: quick(held_out=iter([ALL])))
    refused(("`loader`", "once only"), lambda: quick(given=iter([ALL]), held_out=[ALL]))
    refused(("`held_out`", "3 (int)"), lambda: quick(held_out=3))
    refused(
        ("`loader`", "(1, 1, 3)", "(1, 1, 2)"),
        lambda: quick(held_out=[ALL.repeat(1, 1, 1, 2)[..., :3]], model=Wide()),
    )


class Wide(nn.Module):
    """A network for pictures of any width."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(1, 3)

    def forward(self, x):
        return self.last(x.mean((2, 3)))


def fit(given, **kwargs) -> FittedCritic:
    return fit_critic(network(), given, steps=2, views=("windows",), window_shapes=[1], **kwargs)


# Divergence


def test_a_fit_that_diverges_says_so_and_keeps_the_best():
    with pytest.warns(UserWarning, match="diverged.*after step 0.*learning_rate"):
        critic = quick(learning_rate=1e30, steps=30)
    assert same_weights(critic.network, network())
    assert critic.report.best_step == 0
    assert [row.before for row in critic.report.rows] == [row.after for row in critic.report.rows]


def test_a_fit_that_only_gets_worse_says_so():
    with pytest.warns(UserWarning, match=r"diverged: the held-out divergence is \d"):
        critic = quick(learning_rate=3.0, steps=10)
    assert critic.report.best_step < 10


# Checkpoints


class Interrupted(TensorDataset):
    """Ctrl-C as the n-th picture is read."""

    def __init__(self, after: int | None) -> None:
        super().__init__(ALL.repeat(8, 1, 1, 1))
        self.left = after

    def __getitem__(self, index):
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
        return super().__getitem__(index)


def long(dataset, path, **kwargs) -> FittedCritic:
    given = DataLoader(dataset, batch_size=9, shuffle=True)
    settings = {"steps": 25, "checkpoint": path, "views": ("windows", "rest"), **kwargs}
    return quick(given=given, **settings)


@pytest.mark.slow
@pytest.mark.parametrize("after", [8, 30, 100, 150, 190])
def test_a_fit_goes_on_after_an_interrupt_and_ends_the_same(tmp_path, after):
    unbroken = long(Interrupted(None), None)
    path = tmp_path / "fit.safetensors"
    with pytest.raises(KeyboardInterrupt):
        long(Interrupted(after + 7), path)  # 7 pictures are held out, and read first
    assert path.exists()
    resumed = long(Interrupted(None), path)
    assert same_weights(resumed, unbroken)
    assert resumed.report == unbroken.report


class Augmented(Interrupted):
    """A transform that draws from the global generator."""

    def __getitem__(self, index):
        (image,) = super().__getitem__(index)
        return (image + 0.1 * torch.randn_like(image),)


class Drawing(nn.Module):
    """A network that draws as it runs, in evaluation mode too."""

    def __init__(self) -> None:
        super().__init__()
        self.network = network()

    def forward(self, x):
        return self.network(x) + 0.1 * torch.randn(len(x), 3)


@pytest.mark.slow
@pytest.mark.parametrize("after", [31, 100])
def test_an_interrupt_changes_no_draw(tmp_path, after):
    unbroken = long(Augmented(None), None, model=Drawing())
    path = tmp_path / "fit.safetensors"
    with pytest.raises(KeyboardInterrupt):
        long(Augmented(after), path, model=Drawing())
    assert same_weights(long(Augmented(None), path, model=Drawing()), unbroken)


@pytest.mark.slow
def test_interrupted_again_and_again(tmp_path):
    path = tmp_path / "fit.safetensors"
    tries = 0
    while True:
        tries += 1
        try:
            critic = long(Interrupted(90), path)
        except KeyboardInterrupt:
            continue
        break
    assert tries > 2
    assert same_weights(critic, long(Interrupted(None), None))


def test_a_finished_fit_is_not_run_again(tmp_path, capsys):
    path = tmp_path / "fit.safetensors"
    done = long(Interrupted(None), path)
    again = long(Interrupted(7), path)  # one more picture would be an interrupt
    assert same_weights(done, again)
    assert done.report == again.report
    assert sorted(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"steps": 26}, ("steps 25 instead of 26",)),
        ({"learning_rate": 0.5}, ("learning_rate 0.001 instead of 0.5",)),
        ({"baselines": 1}, ("'Constant(baselines=None)' instead of 'Constant(baselines=1)'",)),
        ({"model": network()[:3].append(nn.Linear(32, 3))}, ("model",)),
    ],
)
def test_a_checkpoint_of_another_fit_is_refused(tmp_path, change, words):
    path = tmp_path / "fit.safetensors"
    long(Interrupted(None), path)
    held = path.read_bytes()
    refused(("`checkpoint`", *words), lambda: long(Interrupted(None), path, **change))
    assert path.read_bytes() == held


def test_a_checkpoint_that_is_none(tmp_path):
    path = tmp_path / "fit.safetensors"
    path.write_bytes(b"not a safetensors file")
    refused(("`checkpoint`", "cannot be read"), lambda: quick(checkpoint=path))
    fitted().save(path)
    refused(("`checkpoint`", "FittedCritic"), lambda: quick(checkpoint=path))
    refused(("`checkpoint`", "folder"), lambda: quick(checkpoint=tmp_path / "no" / "x"))
    refused(("`checkpoint`", "path"), lambda: quick(checkpoint=3))


# Files


def test_save_and_load(tmp_path):
    path = tmp_path / "critic.safetensors"
    critic = quick(temperature=1.5)
    critic.save(path)
    model = network().requires_grad_(True)
    with unchanged(model):
        loaded = FittedCritic.load(path, model)
    assert torch.equal(loaded(ALL), critic(ALL))
    assert loaded.report == critic.report
    assert not loaded.training


def test_files_that_do_not_fit(tmp_path):
    path = tmp_path / "critic.safetensors"
    fitted().save(path)
    refused(("Linear", "Expected"), lambda: FittedCritic.load(path, nn.Linear(2, 2)))
    refused(("`path`",), lambda: FittedCritic.load(tmp_path / "none", network()))
    refused(("`model`", "is no network yet"), lambda: FittedCritic.load(path, "net"))
    refused(("`path`", "folder"), lambda: fitted().save(tmp_path / "no" / "x"))
    path.write_bytes(path.read_bytes()[:100])
    refused(("`path`", "cannot be read"), lambda: FittedCritic.load(path, network()))


# Bad settings


BAD = [
    ({"views": "windows"}, ("`views`",)),
    ({"window_shapes": [3]}, ("`window_shapes`", "1 × 2", "3 × 3")),
    ({"crop_size": "small"}, ("`crop_size`",)),
    ({"imputer": Constant(0), "baselines": 0}, ("`baselines`", "`imputer`")),
    ({"imputer": "blurr"}, ("`imputer`",)),
    ({"temperature": 0}, ("`temperature`",)),
    ({"steps": 0}, ("`steps`",)),
    ({"steps": 1.5}, ("`steps`",)),
    ({"learning_rate": 0}, ("`learning_rate`",)),
    ({"learning_rate": float("nan")}, ("`learning_rate`",)),
    ({"seed": -1}, ("`seed`",)),
    ({"autocast": "bfloat16"}, ("`autocast`", "True or False")),
    ({"show_progress": 1}, ("`show_progress`", "True or False")),
    ({"model": lambda x: x}, ("`model`", "torch.nn.Module")),
    ({"model": nn.Flatten()}, ("`model`", "weights")),
    ({"model": nn.Linear(2, 2)}, ("`model`", "(N, M)", "(9, 1, 1, 2)")),
    ({"model": nn.Sequential(nn.Flatten(), nn.Linear(2, 1))}, ("`model`", "M ≥ 2")),
]


@pytest.mark.parametrize(("change", "words"), BAD)
def test_bad_settings(change, words):
    refused(words, lambda: quick(held_out=[ALL], **change))


def test_a_network_that_gives_nan():
    model = network()
    with torch.no_grad():
        model[1].bias[0] = float("nan")
    refused(("`model`", "finite"), lambda: quick(model))


def test_a_network_that_cannot_take_a_crop():
    model = nn.Sequential(nn.Conv2d(1, 2, (1, 2)), nn.Flatten(), nn.Linear(2, 3))
    refused(
        ("`model`", "crops of size (1, 1)", "`crop_size`"),
        lambda: quick(model, views=("crops",), crop_size="native", held_out=[ALL]),
    )


def test_a_network_that_keeps_what_hangs_on_a_graph_is_copied():
    model = network()
    model.cache = model(ALL)
    before = model.cache.detach().clone()
    critic = quick(model)
    assert critic.network.cache is not model.cache
    assert torch.equal(model.cache, before)
    assert model.cache.requires_grad


def test_errors_come_before_any_step():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ArgumentError):
            quick(given=[ALL, ALL], window_shapes=[5])


def test_report_is_comparable():
    assert FitReport((), 1, 0) == FitReport((), 1, 0)
