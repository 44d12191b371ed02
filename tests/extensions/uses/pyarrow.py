import datetime
import decimal
import io
import uuid

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.dataset
import pyarrow.ipc
import pyarrow.json
import pyarrow.parquet as pq


class Celsius(pa.ExtensionType):
    """A type of our own, kept by what is written to files."""

    def __init__(self, name: str) -> None:
        super().__init__(pa.float64(), name)

    def __arrow_ext_serialize__(self) -> bytes:
        return b"celsius"

    @classmethod
    def __arrow_ext_deserialize__(cls, storage: pa.DataType, data: bytes) -> "Celsius":
        assert storage == pa.float64() and data == b"celsius"
        return cls(cls.name)

    name = ""


def use(seed: int) -> None:
    n = 5000
    table = pa.table(
        {
            "id": pa.array(range(seed, seed + n)),
            "kind": pa.array([None if i % 10 == 9 else f"k{i % 3}" for i in range(n)]),
            "price": pa.array(
                [decimal.Decimal(i) / 100 for i in range(n)], pa.decimal128(9, 2)
            ),
            "tags": pa.array([[i, i + 1] for i in range(n)]),
        }
    )
    assert pc.sum(table["id"]).as_py() == sum(range(seed, seed + n))
    assert table["kind"].null_count == n // 10
    kept = table.filter(pc.and_(pc.equal(table["kind"], "k1"), pc.less(table["id"], seed + 20)))
    assert kept["id"].to_pylist() == [seed + i for i in (1, 4, 7, 10, 13, 16)]
    groups = table.group_by("kind").aggregate([("id", "count"), ("id", "max")]).to_pylist()
    assert {g["kind"]: g["id_count"] for g in groups}[None] == n // 10
    dates = pa.array([datetime.datetime(2024, 2, 29, 12), None])
    assert pc.day_of_year(dates).to_pylist() == [60, None]
    assert pc.utf8_upper(pa.array(["naïve"])).to_pylist() == ["NAÏVE"]
    assert pc.sort_indices(pa.array([3, 1, 2])).to_pylist() == [1, 2, 0]

    # Formats, through memory.
    for compression in ("snappy", "zstd"):
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression=compression, row_group_size=1000)
        data = sink.getvalue()
        assert data[:4].to_pybytes() == b"PAR1"
        assert pq.read_table(pa.BufferReader(data)) == table
        assert pq.ParquetFile(pa.BufferReader(data)).num_row_groups == 5
    with pa.BufferOutputStream() as sink:
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=700)
        assert pa.ipc.open_stream(sink.getvalue()).read_all() == table
    read = pa.csv.read_csv(io.BytesIO(b"a,b\n1,x\n2,\n"))
    assert read.to_pydict() == {"a": [1, 2], "b": ["x", ""]}
    lines = pa.json.read_json(io.BytesIO(b'{"a": [1], "b": {"c": 2}}\n{"a": [], "b": null}\n'))
    assert lines.to_pylist() == [{"a": [1], "b": {"c": 2}}, {"a": [], "b": None}]
    dataset = pa.dataset.dataset(table)
    assert dataset.count_rows(filter=pc.field("id") >= seed + n - 3) == 3
    functions_and_types(seed)


def functions_and_types(seed: int) -> None:
    """A function in Python that Arrow calls, and a type of our own."""
    name = f"atoll_{uuid.uuid4().hex}"

    def plus(context: pc.UdfContext, values: pa.Array) -> pa.Array:
        return pc.add(values, seed, memory_pool=context.memory_pool)

    doc = {"summary": "adds", "description": "adds the seed"}
    pc.register_scalar_function(plus, name, doc, {"values": pa.int64()}, pa.int64())
    got = pc.call_function(name, [pa.array([1, None, 3])])
    assert got.to_pylist() == [seed + 1, None, seed + 3]
    scanned = pa.dataset.dataset(pa.table({"x": range(3)})).to_table(
        columns={"y": pc.Expression._call(name, [pc.field("x")])}
    )
    assert scanned["y"].to_pylist() == [seed, seed + 1, seed + 2]

    kind = type("Kind", (Celsius,), {"name": name})
    pa.register_extension_type(kind(name))
    try:
        array = pa.ExtensionArray.from_storage(kind(name), pa.array([20.5, -3.0]))
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table({"t": array}), sink)
        back = pq.read_table(pa.BufferReader(sink.getvalue()))
        assert isinstance(back.schema.field("t").type, kind)
        assert back["t"].combine_chunks().storage.to_pylist() == [20.5, -3.0]
    finally:
        pa.unregister_extension_type(name)
