import io

from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont, ImageStat


def use(seed: int) -> None:
    image = Image.new("RGB", (200, 100), (10, 20, 30))
    draw = ImageDraw.Draw(image)
    draw.rectangle((50, 25, 99, 74), fill=(255, seed % 256, 0))
    assert image.getpixel((50, 25)) == (255, seed % 256, 0)
    assert image.getpixel((100, 25)) == (10, 20, 30)
    red = image.getchannel("R").histogram()
    assert red[255] == 50 * 50 and red[10] == 200 * 100 - 50 * 50
    mean = ImageStat.Stat(image).mean[0]
    assert abs(mean - (255 * 2500 + 10 * 17500) / 20000) < 1e-9

    # Codecs: what loses nothing comes back as it was, JPEG nearly so.
    for format in ("PNG", "TIFF", "BMP", "WEBP", "GIF"):
        file = io.BytesIO()
        image.save(file, format, **({"lossless": True} if format == "WEBP" else {}))
        file.seek(0)
        with Image.open(file) as loaded:
            assert loaded.format == format and loaded.size == (200, 100)
            assert ImageChops.difference(loaded.convert("RGB"), image).getbbox() is None
    file = io.BytesIO()
    image.save(file, "JPEG", quality=95)
    assert file.getvalue()[:3] == b"\xff\xd8\xff"
    file.seek(0)
    with Image.open(file) as loaded:
        difference = ImageStat.Stat(ImageChops.difference(loaded, image)).mean
        assert max(difference) < 4, difference
    try:
        Image.open(io.BytesIO(b"\x89PNG\r\n\x1a\n" + bytes(40))).load()
    except Exception as error:
        assert type(error).__name__ in ("SyntaxError", "UnidentifiedImageError")
    else:
        raise AssertionError("no error")

    # Geometry and filters.
    turned = image.rotate(90, expand=True)
    assert turned.size == (100, 200) and turned.getpixel((25, 149)) == (255, seed % 256, 0)
    small = image.resize((20, 10), Image.Resampling.BOX)
    assert small.getpixel((5, 3)) == (255, seed % 256, 0)
    flat = Image.new("L", (50, 50), 77).filter(ImageFilter.GaussianBlur(3))
    assert flat.getextrema() == (77, 77)
    mapped = Image.new("L", (2, 2), 100).point(lambda value: value // 2 + 1)
    assert list(mapped.tobytes()) == [51] * 4
    grey = Image.new("RGB", (1, 1), (100, 150, 200)).convert("L").getpixel((0, 0))
    assert grey == (100 * 19595 + 150 * 38470 + 200 * 7471 + 0x8000) >> 16

    # Text with FreeType, and a palette.
    font = ImageFont.load_default(size=20)
    canvas = Image.new("L", (200, 40))
    ImageDraw.Draw(canvas).text((5, 5), f"atoll {seed}", fill=255, font=font)
    box = canvas.getbbox()
    assert box is not None and box[0] >= 5 and box[2] - box[0] >= 40
    colours = image.quantize(4).convert("RGB").getcolors()
    assert colours is not None and len(colours) <= 4
