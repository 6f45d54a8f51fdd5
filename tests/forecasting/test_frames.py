import numpy as np
import pandas as pd
import pytest
import torch

from noiseladder.forecasting.frames import panel_from_frame, read_table


def wide(steps: int = 30) -> pd.DataFrame:
    times = pd.date_range("2024-01-01", periods=steps, freq="D")
    return pd.DataFrame({"ds": times, "a": np.arange(steps) * 1.0, "b": np.arange(steps) ** 0.5})


def long(names: tuple[str, str, str]) -> pd.DataFrame:
    return wide().melt("ds", var_name=names[0], value_name=names[2]).rename(columns={"ds": names[1]})


@pytest.mark.parametrize("names", [("unique_id", "ds", "y"), ("item_id", "timestamp", "target")])
def test_long_and_wide_are_the_same_panel(names):
    expected, given = panel_from_frame(wide()), panel_from_frame(long(names))
    assert torch.equal(expected.values, given.values)
    assert expected.names == given.names == ("a", "b")
    assert expected.times.equals(given.times)
    assert given.frequency == "D"


def test_a_time_index_and_a_first_column_of_another_name_are_read():
    expected = panel_from_frame(wide()).values
    assert torch.equal(panel_from_frame(wide().set_index("ds")).values, expected)
    assert torch.equal(panel_from_frame(wide().rename(columns={"ds": "day"})).values, expected)


def test_csv_and_parquet_are_read_alike(tmp_path):
    wide().to_csv(tmp_path / "a.csv", index=False)
    wide().to_parquet(tmp_path / "a.parquet")
    values = [panel_from_frame(read_table(tmp_path / name)).values for name in ("a.csv", "a.parquet")]
    torch.testing.assert_close(*values)


def test_empty_cells_are_missing_and_left_out_steps_too():
    frame = wide()
    frame.loc[3, "a"] = np.nan
    panel = panel_from_frame(frame.drop(index=[7]), frequency="D")
    assert panel.values.isnan().nonzero().tolist() == [[3, 0], [7, 0], [7, 1]]
    assert len(panel) == 30


def broken(**changes: object) -> pd.DataFrame:
    frame = wide().astype(object)
    for column, (row, value) in changes.items():
        frame.loc[row, column] = value
    return frame


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (broken(b=(4, "oops")), "column 'b', row 5 holds 'oops', expected a number"),
        (broken(a=(2, float("inf"))), "column 'a', row 3 is infinite"),
        (broken(a=(2, -1e300)), "column 'a', row 3 is infinite or beyond 1e.18"),
        (broken(ds=(2, "yesterdayish")), "column 'ds', row 3 holds 'yesterdayish', expected a date"),
        (pd.concat([wide(), wide().tail(1)]), "is there twice"),
        (wide().iloc[::-1], "not sorted"),
        (wide().iloc[[0, 1, 2, 5, 6, 9, 10]], "irregular: 2024-01-03.*2024-01-06.*--frequency"),
        (broken(ds=(5, pd.Timestamp("2024-01-06 03:00"))), "irregular: 2024-01-05.*2024-01-06 03.*--frequency"),
        (wide().head(0), "no rows"),
        (wide()[["ds"]], "only the column 'ds'"),
        (wide().assign(ds=range(30)), "holds numbers, expected dates"),
        (long(("unique_id", "ds", "y")).drop(columns="y"), "has unique_id but not ds, y|has unique_id, ds but not y"),
        (wide().assign(a=np.nan), "series 'a' has 0 values"),
        (wide().head(2), "2 steps"),
    ],
)
def test_bad_tables_get_one_clear_sentence(frame, message):
    with pytest.raises(ValueError, match=message):
        panel_from_frame(frame)


def test_duplicates_and_disorder_within_one_long_series_are_named():
    frame = long(("unique_id", "ds", "y"))
    with pytest.raises(ValueError, match="series 'b' has the timestamp 2024-01-30 00:00:00 twice"):
        panel_from_frame(pd.concat([frame, frame.tail(1)]))
    with pytest.raises(ValueError, match="timestamps of series 'b' are not sorted"):
        panel_from_frame(frame.iloc[::-1])


def test_a_wrong_frequency_is_refused():
    with pytest.raises(ValueError, match="unknown frequency 'fortnight'"):
        panel_from_frame(wide(), "fortnight")
    with pytest.raises(ValueError, match="does not fit the frequency W"):
        panel_from_frame(wide(), "W")


def test_unreadable_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_table(tmp_path / "none.csv")
    (tmp_path / "empty.csv").touch()
    with pytest.raises(ValueError, match="is empty"):
        read_table(tmp_path / "empty.csv")
    (tmp_path / "header.csv").write_text("ds,a\n")
    with pytest.raises(ValueError, match="has no rows"):
        read_table(tmp_path / "header.csv")
    (tmp_path / "not.parquet").write_text("no")
    with pytest.raises(ValueError, match="cannot be read as Parquet"):
        read_table(tmp_path / "not.parquet")


@pytest.mark.parametrize(
    ("times", "frequency"),
    [
        (pd.bdate_range("2022-01-03", periods=60), "B"),
        (pd.date_range("2022-01-03", periods=60), "D"),
        (pd.date_range("2022-01-02", periods=60, freq="W"), "W-SUN"),
        (pd.date_range("2022-01-01", periods=60, freq="MS"), "MS"),
        (pd.date_range("2022-01-01", periods=60, freq="h"), "h"),
        (pd.date_range("2022-01-01", periods=60, freq="15min"), "15min"),
    ],
)
def test_a_few_steps_left_out_are_missing_values(times, frequency):
    there = times.delete([7, 8, 31])
    panel = panel_from_frame(pd.DataFrame({"ds": there, "a": range(len(there))}))
    assert panel.frequency == frequency
    assert panel.times.equals(times.rename("ds"))
    assert panel.values.isnan().nonzero()[:, 0].tolist() == [7, 8, 31]


@pytest.mark.parametrize("names", [("ds", "y"), ("timestamp", "target")])
def test_a_long_table_of_one_series_needs_no_name_for_it(names):
    frame = pd.DataFrame({names[0]: wide()["ds"], names[1]: wide()["a"]})
    panel = panel_from_frame(frame)
    assert panel.names == (names[1],)
    assert torch.equal(panel.values[:, 0], panel_from_frame(wide()).values[:, 0])


def test_what_spreadsheets_write_where_the_comma_is_a_decimal_point(tmp_path):
    rows = [f"{day:02}.02.2024;{day},5" for day in range(1, 11)]
    (tmp_path / "table.csv").write_text("\n".join(["Datum;Wert", *rows]), encoding="utf-8-sig")
    panel = panel_from_frame(read_table(tmp_path / "table.csv"))
    assert panel.values[:, 0].tolist() == [day + 0.5 for day in range(1, 11)]
    assert panel.times[1] == pd.Timestamp("2024-02-02")
    assert panel.names == ("Wert",)


def test_years_may_be_whole_numbers():
    panel = panel_from_frame(pd.DataFrame({"year": range(1990, 2010), "a": range(20)}))
    assert panel.times[-1] == pd.Timestamp("2009-01-01")
    assert panel.future_times(2)[-1] == pd.Timestamp("2011-01-01")
