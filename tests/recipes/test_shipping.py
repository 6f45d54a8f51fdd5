"""What ships of a run is small, names no folder of the machine it came from, and keeps the log's validations."""

from noiseladder.recipes.shipping import LINES, portable, thinned


def test_a_recipe_that_ships_names_no_folder_of_one_machine():
    known = {"start": "/some/where/runs/video/weights.safetensors", "autoencoder": None, "width": 8}
    assert portable(known) == {"start": "video/weights.safetensors", "autoencoder": None, "width": 8}


def test_a_thin_log_keeps_its_validations():
    rows = [f"{step},0.5,{'0.7' if step % 1000 == 999 else ''}" for step in range(10 * LINES)]
    kept = thinned("\n".join(["step,loss,validation", *rows]) + "\n").splitlines()
    assert kept[0] == "step,loss,validation"
    assert [row.split(",")[0] for row in kept[1:4]] == ["9", "19", "29"]
    assert len(kept) == 1 + LINES
    assert rows[999] in kept
    assert rows[1999] in kept


def test_a_short_log_stays_whole():
    assert thinned("step,loss\n0,1\n1,2\n") == "step,loss\n0,1\n1,2\n"


def test_a_log_without_validations_is_thinned_too():
    rows = [f"{step},0.5" for step in range(10 * LINES)]
    assert len(thinned("\n".join(["step,loss", *rows]) + "\n").splitlines()) == 1 + LINES
