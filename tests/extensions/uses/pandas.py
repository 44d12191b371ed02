import io

import numpy as np
import pandas as pd


def use(seed: int) -> None:
    n = 3000
    frame = pd.DataFrame(
        {
            "key": [f"k{i % 7}" for i in range(n)],
            "value": np.arange(n) + seed,
            "share": np.arange(n) / 4,
        }
    )
    sums = frame.groupby("key")["value"].sum()
    assert sums.to_dict() == {f"k{k}": sum(i + seed for i in range(k, n, 7)) for k in range(7)}
    mixed = frame.groupby("key").agg(
        least=("value", "min"),
        mean=("share", "mean"),
        spread=("value", lambda v: v.max() - v.min()),
    )
    assert mixed.loc["k3", "least"] == 3 + seed and mixed.loc["k0", "spread"] == 2996
    right = pd.DataFrame({"key": ["k1", "k5", "none"], "name": ["one", "five", "?"]})
    merged = frame.merge(right, on="key", how="inner")
    assert len(merged) == sum(i % 7 in (1, 5) for i in range(n))
    assert set(merged["name"]) == {"one", "five"}

    # The C parser, and back.
    text = frame.to_csv(index=False)
    assert text.startswith(f"key,value,share\nk0,{seed},0.0\nk1,{seed + 1},0.25\n")
    pd.testing.assert_frame_equal(pd.read_csv(io.StringIO(text)), frame)
    quoted = pd.read_csv(
        io.StringIO('when;text;x\n2024-02-29;"a;""b""";1,5\n2024-03-01;;NA\n'),
        sep=";",
        decimal=",",
        parse_dates=["when"],
    )
    assert quoted["text"].iloc[0] == 'a;"b"' and quoted["x"].iloc[0] == 1.5
    assert quoted["text"].isna().tolist() == [False, True]
    assert quoted["when"].dt.dayofyear.tolist() == [60, 61]
    pd.testing.assert_frame_equal(
        pd.read_json(io.StringIO(frame.to_json(orient="table")), orient="table"), frame
    )

    # Time: zones, periods, resampling, rolling windows.
    hours = pd.date_range("2024-03-30", periods=48, freq="h", tz="Europe/Berlin")
    assert str(hours[25]) == "2024-03-31 01:00:00+01:00"
    assert str(hours[26]) == "2024-03-31 03:00:00+02:00"  # the clocks change
    series = pd.Series(np.ones(48), index=hours)
    assert series.resample("D").sum().tolist() == [24, 23, 1]
    rolled = pd.Series(range(10)).rolling(3).sum().dropna()
    assert rolled.tolist() == [3 * i for i in range(1, 9)]
    assert (pd.Timestamp("2024-01-31") + pd.offsets.MonthEnd(1)).day == 29
    assert pd.Period("2024Q1", freq="Q").end_time.date().isoformat() == "2024-03-31"
    assert pd.to_timedelta("1 days 02:03:04").total_seconds() == 93784

    wide = pd.DataFrame({"id": [1, 1, 2], "c": list("aba"), "v": [seed, 2, 3]}).pivot(
        index="id", columns="c", values="v"
    )
    assert wide.loc[1].tolist() == [seed, 2] and np.isnan(wide.loc[2, "b"])
    levels = pd.MultiIndex.from_product([["x", "y"], range(3)])
    assert pd.Series(range(6), index=levels).xs(1, level=1).tolist() == [1, 4]
    kinds = pd.Categorical(["b", "a", "b"], categories=["a", "b"])
    assert kinds.codes.tolist() == [1, 0, 1]
    intervals = pd.cut(pd.Series([1, 5, 9]), [0, 4, 10])
    assert intervals.cat.codes.tolist() == [0, 1, 1]
    assert pd.Series(["a1", "b22", None]).str.extract(r"(\d+)")[0].tolist()[:2] == ["1", "22"]
    assert frame.query("value > @seed + 2990")["key"].tolist()[0] == "k2"
    assert frame.sort_values(["key", "value"], ascending=[True, False])["value"].iloc[0] == (
        2996 + seed
    )
    assert pd.factorize(np.array([3, 1, 3]))[0].tolist() == [0, 1, 0]
    assert pd.Series([1, None, 3], dtype="Int64").sum() == 4
    assert pd.util.hash_array(np.array([1, 2])).dtype == np.uint64
