import datetime
import io

import polars as pl


def twice(value: int) -> int:
    return [value, value].count(value) * value


def fails(value: int) -> int:
    raise ZeroDivisionError(f"of {value}")


def use(seed: int) -> None:
    n = 5000
    frame = pl.DataFrame(
        {
            "id": range(seed, seed + n),
            "kind": [f"k{i % 7}" for i in range(n)],
            "x": [i / 4 for i in range(n)],
        }
    )
    groups = frame.group_by("kind").agg(pl.col("id").sum(), pl.col("x").max().alias("most"))
    assert dict(groups.select("kind", "id").iter_rows()) == {
        f"k{k}": sum(i + seed for i in range(k, n, 7)) for k in range(7)
    }
    right = pl.DataFrame({"kind": ["k1", "k5"], "name": ["one", "five"]})
    lazy = (
        frame.lazy()
        .filter(pl.col("id") < seed + 20)
        .join(right.lazy(), on="kind")
        .with_columns((pl.col("x") * 4).cast(pl.Int64).alias("four"))
        .sort("id", descending=True)
        .select("four", "name")
    )
    assert lazy.collect().rows() == [
        (i, "one" if i % 7 == 1 else "five") for i in range(19, -1, -1) if i % 7 in (1, 5)
    ]

    # Python functions that Rust calls, one of which fails.
    mapped = frame.head(50)["id"].map_elements(twice, return_dtype=pl.Int64)
    assert mapped.to_list() == [2 * (seed + i) for i in range(50)]
    batched = frame.lazy().select(
        pl.col("x").map_batches(lambda s: s + seed, return_dtype=pl.Float64).sum()
    )
    assert batched.collect().item() == n * (n - 1) / 8 + seed * n
    try:
        frame.head(3)["id"].map_elements(fails, return_dtype=pl.Int64)
    except Exception as error:
        assert "ZeroDivisionError" in f"{type(error).__name__} {error}"
    else:
        raise AssertionError("no ZeroDivisionError")

    # Formats, through memory.
    text = frame.write_csv()
    assert text.startswith(f"id,kind,x\n{seed},k0,0.0\n{seed + 1},k1,0.25\n")
    assert pl.read_csv(io.StringIO(text)).equals(frame)
    for write, read in (
        (frame.write_parquet, pl.read_parquet),
        (frame.write_ipc, pl.read_ipc),
        (frame.write_json, pl.read_json),
    ):
        file = io.BytesIO()
        write(file)
        file.seek(0)
        assert read(file).equals(frame)

    days = pl.date_range(datetime.date(2024, 2, 27), datetime.date(2024, 3, 2), eager=True)
    assert days.dt.ordinal_day().to_list() == [58, 59, 60, 61, 62]
    words = pl.Series(["a1", "b22", None])
    assert words.str.extract(r"(\d+)").cast(pl.Int64).to_list() == [1, 22, None]
    window = frame.head(14).select(pl.col("id").rank().over("kind"))["id"].to_list()
    assert window == [1.0] * 7 + [2.0] * 7
    query = pl.SQLContext(frame=frame).execute(
        "SELECT kind, COUNT(*) AS n FROM frame GROUP BY kind ORDER BY kind LIMIT 1"
    )
    assert query.collect().rows() == [("k0", 715)]
    try:
        frame.select(pl.col("missing"))
    except pl.exceptions.ColumnNotFoundError:
        pass
    else:
        raise AssertionError("no ColumnNotFoundError")
