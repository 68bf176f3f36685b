# The script that measures the information of each epoch.
import information_per_epoch
import pytest


@pytest.mark.slow
def test_the_example_writes_its_table_and_its_figure(tmp_path, capsys):
    information_per_epoch.main(["--out", str(tmp_path), "--epochs", "3", "--seeds", "2"])
    printed = capsys.readouterr().out
    assert "| cross-entropy |" in printed
    assert "| squared error |" in printed
    assert (tmp_path / "information_per_epoch.png").stat().st_size > 10_000
    assert (tmp_path / "information_per_epoch.md").read_text(encoding="utf-8") in printed
