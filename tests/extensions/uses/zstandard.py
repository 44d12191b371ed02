import io

import zstandard


def use(seed: int) -> None:
    assert zstandard.backend == "cext"
    text = b"".join(b"line %d of the file\n" % (seed + i) for i in range(20_000))
    # A frame by hand from RFC 8878: one raw block of "abc" in a single segment.
    frame = (
        bytes.fromhex("28b52ffd") + b"\x20\x03" + (3 << 3 | 1).to_bytes(3, "little") + b"abc"
    )
    assert zstandard.ZstdDecompressor().decompress(frame) == b"abc"
    for level in (-3, 3, 10):
        packed = zstandard.ZstdCompressor(level=level, write_checksum=True).compress(text)
        assert packed[:4] == frame[:4] and len(packed) < len(text) / 2
        assert zstandard.ZstdDecompressor().decompress(packed) == text
        assert zstandard.get_frame_parameters(packed).content_size == len(text)

    file = io.BytesIO()
    with zstandard.ZstdCompressor(threads=2).stream_writer(file, closefd=False) as writer:
        for i in range(0, len(text), 10_000):
            writer.write(text[i : i + 10_000])
    file.seek(0)
    with zstandard.ZstdDecompressor().stream_reader(file) as reader:
        assert io.BufferedReader(reader).readlines()[7] == b"line %d of the file\n" % (seed + 7)
    chunks = zstandard.ZstdCompressor().read_to_iter(io.BytesIO(text), read_size=4096)
    unpacker = zstandard.ZstdDecompressor().decompressobj()
    assert b"".join(unpacker.decompress(chunk) for chunk in chunks) == text

    samples = [b"key=%d value=%d" % (i, i * i + seed) for i in range(2000)]
    words = zstandard.train_dictionary(4096, samples)
    some = b"".join(samples[5:9])
    with_words = zstandard.ZstdCompressor(dict_data=words).compress(some)
    assert zstandard.get_frame_parameters(with_words).dict_id == words.dict_id() != 0
    assert zstandard.ZstdDecompressor(dict_data=words).decompress(with_words) == some
    many = zstandard.ZstdCompressor().multi_compress_to_buffer(samples, threads=2)
    assert len(many) == 2000
    back = zstandard.ZstdDecompressor().multi_decompress_to_buffer(many, threads=2)
    assert [part.tobytes() for part in back] == samples
    try:
        zstandard.ZstdDecompressor().decompress(b"no frame")
    except zstandard.ZstdError:
        pass
    else:
        raise AssertionError("no ZstdError")
