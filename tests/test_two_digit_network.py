# The packaged network of two digits.
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import captum_infomask.models.two_digits as network_module
from captum_infomask import ArgumentError
from captum_infomask.datasets import sklearn_digits, two_digits
from captum_infomask.models.two_digits import load_two_digit_network, two_digit_network


@pytest.mark.parametrize("size", [(28, 56), (20, 20), (8, 8), (10, 31)])
def test_network_takes_crops_of_any_size(size):
    assert two_digit_network().eval()(torch.rand(2, 1, *size)).shape == (2, 2)


def test_network_is_small():
    assert sum(parameter.numel() for parameter in two_digit_network().parameters()) < 100_000


def test_packaged_network_is_small_and_answers_right():
    file = Path(network_module.__file__).with_suffix(".safetensors")
    assert file.stat().st_size < 500_000
    network = load_two_digit_network()
    assert not network.training
    unseen = two_digits(*sklearn_digits(train=False), target=0, count=400, seed=5)
    answers = network(unseen.images).argmax(1)
    assert float((answers == unseen.labels).float().mean()) > 0.97


def test_saved_network_is_read_back(tmp_path):
    network = two_digit_network()
    save_file(network.state_dict(), tmp_path / "mine.safetensors")
    loaded = load_two_digit_network(tmp_path / "mine.safetensors")
    x = torch.rand(2, 1, 28, 56)
    assert torch.equal(loaded(x), network.eval()(x))


def write_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps({"a": 1}))


def write_other_tensors(path: Path) -> None:
    save_file({"weight": torch.zeros(2)}, path)


@pytest.mark.parametrize("write", [write_pickle, write_other_tensors, lambda path: None])
def test_file_without_such_a_network_is_refused(write, tmp_path):
    write(tmp_path / "net.safetensors")
    with pytest.raises(ArgumentError, match=r"`weights`.*net\.safetensors"):
        load_two_digit_network(tmp_path / "net.safetensors")
