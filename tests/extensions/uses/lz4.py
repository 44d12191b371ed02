import io

import lz4.block
import lz4.frame


def use(seed: int) -> None:
    text = b"".join(b"line %d of the file\n" % (seed + i) for i in range(20_000))
    # By hand: a block of literals only, and one with a match that repeats.
    assert lz4.block.decompress(b"\x30abc", uncompressed_size=3) == b"abc"
    repeated = b"\x14a\x01\x00" + b"\x50" + b"aaaaa"
    assert lz4.block.decompress(repeated, uncompressed_size=14) == b"a" * 14

    for mode in ("default", "fast", "high_compression"):
        packed = lz4.block.compress(text, mode=mode)
        assert int.from_bytes(packed[:4], "little") == len(text) and len(packed) < len(text)
        assert lz4.block.decompress(packed) == text
    for level in (0, 9):
        frame = lz4.frame.compress(text, compression_level=level, content_checksum=True)
        assert frame[:4] == bytes.fromhex("04224d18")
        assert lz4.frame.decompress(frame) == text
        assert lz4.frame.get_frame_info(frame)["content_size"] == len(text)

    file = io.BytesIO()
    with lz4.frame.open(file, "wb") as stream:
        for i in range(0, len(text), 9999):
            stream.write(text[i : i + 9999])
    file.seek(0)
    with lz4.frame.open(file, "rt") as stream:
        assert stream.readlines()[11] == f"line {seed + 11} of the file\n"
    unpacker = lz4.frame.LZ4FrameDecompressor()
    frame = lz4.frame.compress(text)
    parts = [unpacker.decompress(frame[i : i + 500]) for i in range(0, len(frame), 500)]
    assert b"".join(parts) == text and unpacker.eof
    words = text[:4000]
    with_words = lz4.block.compress(text[100:500], dict=words, store_size=False)
    assert len(with_words) < len(lz4.block.compress(text[100:500], store_size=False))
    assert lz4.block.decompress(with_words, uncompressed_size=400, dict=words) == text[100:500]
    checked = lz4.frame.compress(text, content_checksum=True)
    for broken in (frame[:-20], b"no frame at all", checked[:-1] + b"x"):
        try:
            lz4.frame.decompress(broken)
        except RuntimeError:
            pass
        else:
            raise AssertionError("no RuntimeError")
