"""What is written to an evaluation's folder stays in it."""

import pytest

from grouprl.cli.evaluate import main


@pytest.mark.parametrize("name", ["results.json", "results.md", "tiny-cot.parquet", "samples", "samples/tiny/cot/block-000000.parquet"])  # fmt: skip
def test_a_link_that_leads_out_of_an_evaluations_folder_is_refused(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    link = tmp_path / "out" / name
    link.parent.mkdir(parents=True)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir() if name == "samples" else elsewhere.write_text("precious")
    link.symlink_to(elsewhere)
    with pytest.raises(SystemExit) as left:
        main(["policy=tiny", "benchmark=tiny", "limit=2", "max_new_tokens=8", "out=out"])
    assert left.value.code == 2
    shown = capsys.readouterr().err
    assert f"out/{name}: it is a link that leads out of the folder" in shown
    assert "Traceback" not in shown
    assert list(elsewhere.iterdir()) == [] if elsewhere.is_dir() else elsewhere.read_text() == "precious"
