# A model that ends the process does not end it as if all were well.
from __future__ import annotations

import os
import sys

import pytest
from cli_folders import cli_folder
from PIL import Image

from captum_infomask.cli import main

LEAVING = """
import sys
from dataclasses import replace

def exits():
    sys.exit(0)

def exits_with_words():
    sys.exit("bye")

class Leaves(nn.Module):
    def __init__(self, error):
        super().__init__()
        self.error = error
        self.linear = nn.Linear(3, 2)

    def forward(self, x):
        if x.std() > 0:
            raise self.error
        return self.linear(x.mean((2, 3)))

def forward_exits():
    return Classifier("Mine", Leaves(SystemExit(0)), ("a", "b"), Preprocess(48, 48))

def forward_interrupted():
    return Classifier("Mine", Leaves(KeyboardInterrupt()), ("a", "b"), Preprocess(48, 48))

def preprocessing_exits():
    class Exits(Preprocess):
        def __call__(self, image):
            raise SystemExit
    return replace(make(), preprocess=Exits(48, 48))

def goes_elsewhere():
    import os
    os.chdir("elsewhere")
    return make()
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    made = cli_folder(tmp_path, monkeypatch, LEAVING)
    (made / "pictures").mkdir()
    Image.open("photo.jpg").save(made / "pictures" / "a.png")
    (made / "elsewhere").mkdir()
    (made / "exits_at_import.py").write_text("import sys; sys.exit(0)")
    return made


def commands(model: str) -> list[list[str]]:
    return [
        ["compare", "photo.jpg", "--model", model, "--metrics", "none"],
        ["attribute", "photo.jpg", "--model", model],
        ["run", "--data", "pictures", "--out", "out", "--workers", "0", "--model", model],
    ]


@pytest.mark.parametrize(
    ("function", "code"),
    [
        ("exits", "0"),
        ("exits_with_words", "'bye'"),
        ("forward_exits", "0"),
        ("preprocessing_exits", "None"),
    ],
)
def test_a_model_that_calls_exit_makes_the_command_line_exit_1(function, code, folder, capsys):
    for words in commands(f"my_network_for_cli:{function}"):
        sys.modules.pop("my_network_for_cli", None)
        assert main(words) == 1
        error = capsys.readouterr().err.splitlines()[-1]
        assert error == f"captum-infomask: error: the model ended the process: sys.exit({code})"


def test_a_module_that_calls_exit_as_it_is_imported(folder, capsys):
    for words in commands("exits_at_import:make"):
        assert main(words) == 1
        assert "the model ended the process: sys.exit(0)" in capsys.readouterr().err


def test_an_interrupt_in_a_network_stays_one(folder, capsys):
    for words in commands("my_network_for_cli:forward_interrupted"):
        assert main(words) == 130
        assert capsys.readouterr().err.endswith("captum-infomask: interrupted\n")


def test_version_and_help_still_exit_0(capsys):
    with pytest.raises(SystemExit) as left:
        main(["--version"])
    assert left.value.code == 0


def test_paths_mean_what_they_meant_wherever_a_model_goes(folder, capsys):
    quick = ["--methods", "centred blob (control)"]
    assert main([*commands("my_network_for_cli:goes_elsewhere")[0], *quick]) == 0
    assert os.getcwd() == str(folder)
    assert (folder / "infomask-photo.html").is_file()
    assert os.listdir(folder / "elsewhere") == []
