"""Picture files of every kind, honest and hostile, become plain pixels or a sentence that says why not."""

from __future__ import annotations

import io
import random
import struct
import zipfile
import zlib
from contextlib import suppress
from typing import Any

import pytest
from PIL import Image, ImageCms, PngImagePlugin
from trenza_pictures.opening import MAX_JPEG_SCANS, OpenPicture, PictureError, open_picture

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def file_of(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def plain(mode: str = "RGB", colour: Any = RED, size: tuple[int, int] = (12, 8)) -> Image.Image:
    return Image.new(mode, size, colour)


def colour_at(picture: OpenPicture, x: int, y: int) -> tuple[int, ...]:
    at = 3 * (y * picture.width + x)
    return tuple(picture.pixels[at : at + 3])


def near(colour: tuple[int, ...], wanted: tuple[int, ...], tolerance: int = 12) -> bool:
    return all(abs(one - other) <= tolerance for one, other in zip(colour, wanted, strict=True))


def complaint(data: bytes, **options: Any) -> str:
    with pytest.raises(PictureError) as caught:
        open_picture(data, **{"longest_side": 64, **options})
    return str(caught.value)


def png_of(width: int, height: int, rows: bytes, *extra: tuple[bytes, bytes], depth: int = 8, kind: int = 2) -> bytes:
    """A PNG written by hand, whatever its header and its rows say."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    chunks = [(b"IHDR", header), *extra, (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(name, body) for name, body in chunks)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF"])
def test_every_format_opens_by_its_content(form: str) -> None:
    picture = open_picture(file_of(plain(), form), 64)
    assert (picture.width, picture.height, len(picture.pixels)) == (12, 8, 3 * 12 * 8)
    assert near(colour_at(picture, 5, 5), RED)


@pytest.mark.parametrize(
    ("image", "wanted"),
    [
        (plain("1", 1), WHITE),
        (plain("L", 100), (100, 100, 100)),
        (plain("I;16", 0x8040), (128, 128, 128)),
        (plain("RGBA", (255, 0, 0, 255)), RED),
        (plain("RGBA", (255, 0, 0, 0)), WHITE),
        (plain("RGBA", (255, 0, 0, 128)), (255, 127, 127)),
        (plain("LA", (0, 128)), (127, 127, 127)),
        (plain().quantize(4), RED),
    ],
    ids=lambda value: value.mode if isinstance(value, Image.Image) else "",
)
def test_every_kind_of_pixel_becomes_rgb_on_white(image: Image.Image, wanted: tuple[int, ...]) -> None:
    assert near(colour_at(open_picture(file_of(image), 64), 3, 3), wanted, 1)


def test_a_palette_with_a_transparent_colour_and_cmyk() -> None:
    image = plain("P", 0)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 1), 1)
    for form in ("PNG", "GIF"):
        picture = open_picture(file_of(image, form, transparency=0), 64)
        assert (colour_at(picture, 0, 0), colour_at(picture, 1, 1)) == (WHITE, BLUE)
    assert near(colour_at(open_picture(file_of(plain("CMYK", (0, 255, 255, 0)), "JPEG"), 64), 5, 5), RED)
    sixteen_bit_rgb = png_of(4, 4, (b"\0" + b"\x80\x00\x40\x00\xff\xff" * 4) * 4, depth=16)
    assert near(colour_at(open_picture(sixteen_bit_rgb, 64), 2, 2), (128, 64, 255), 1)


def corners(picture: OpenPicture) -> list[tuple[int, ...]]:
    right, bottom = picture.width - 2, picture.height - 2
    return [colour_at(picture, x, y) for x, y in ((1, 1), (right, 1), (1, bottom), (right, bottom))]


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_set_upright(orientation: int, form: str) -> None:
    upright = Image.new("RGB", (64, 32), WHITE)
    upright.paste(RED, (0, 0, 32, 16))
    upright.paste(BLUE, (32, 0, 64, 16))
    upright.paste(GREEN, (0, 16, 32, 32))
    turns = Image.Transpose
    stored = {
        1: [],
        2: [turns.FLIP_LEFT_RIGHT],
        3: [turns.ROTATE_180],
        4: [turns.FLIP_TOP_BOTTOM],
        5: [turns.ROTATE_90, turns.FLIP_TOP_BOTTOM],
        6: [turns.ROTATE_90],
        7: [turns.ROTATE_270, turns.FLIP_TOP_BOTTOM],
        8: [turns.ROTATE_270],
    }
    image = upright
    for turn in stored[orientation]:
        image = image.transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = open_picture(file_of(image, form, exif=exif), 64)
    assert (picture.width, picture.height) == (64, 32)
    assert all(near(*pair, 40) for pair in zip(corners(picture), [RED, BLUE, GREEN, WHITE], strict=True))


@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"Exif\0\0" + b"\xff" * 200])
def test_broken_camera_notes_do_no_harm(exif: bytes) -> None:
    assert open_picture(file_of(plain(), "JPEG", exif=exif), 64).width == 12


@pytest.mark.parametrize("profile", [b"", b"no profile", b"\0" * 4096, None], ids=["empty", "text", "zeros", "srgb"])
@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_colour_profiles_are_left_alone(form: str, profile: bytes | None) -> None:
    if profile is None:
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture = open_picture(file_of(plain(), form, icc_profile=profile), 64)
    assert near(colour_at(picture, 5, 5), RED)


def test_a_compressed_profile_or_text_of_gigabytes_is_not_unpacked() -> None:
    bomb = zlib.compress(bytes(50 * 2**20), 9)
    pixels = b"\0" + RED[0].to_bytes() * 3
    for name, head in ((b"iCCP", b"x\0\0"), (b"zTXt", b"x\0\0")):
        data = png_of(1, 1, pixels, (name, head + bomb))
        with suppress(PictureError):
            assert open_picture(data, 64).width == 1


def test_large_pictures_are_scaled_down_and_small_ones_stay() -> None:
    image = Image.new("RGB", (1600, 500), BLUE)
    image.paste(RED, (0, 0, 800, 500))
    for form in ("PNG", "JPEG", "WEBP"):
        picture = open_picture(file_of(image, form), 512)
        assert (picture.width, picture.height) == (512, 160)
        assert near(colour_at(picture, 100, 80), RED)
        assert near(colour_at(picture, 400, 80), BLUE)
    assert open_picture(file_of(plain(size=(1, 1))), 512).pixels == bytes(RED)
    odd = open_picture(file_of(plain(size=(1999, 1001))), 333)
    assert (odd.width, odd.height) == (333, 167)
    assert set(odd.pixels[::3]) == {255}
    thin = open_picture(file_of(plain(size=(3000, 20))), 100)
    assert (thin.width, thin.height) == (100, 1)


def test_scaling_looks_at_every_pixel_also_over_transparency() -> None:
    image = Image.new("RGBA", (800, 800), (0, 0, 0, 0))
    for row in range(0, 800, 2):
        image.paste((255, 0, 0, 255), (0, row, 800, row + 1))
    picture = open_picture(file_of(image), 100)
    assert near(colour_at(picture, 50, 50), (255, 127, 127), 3)


@pytest.mark.parametrize("form", ["PNG", "WEBP", "GIF"])
def test_of_an_animation_the_first_picture_counts(form: str) -> None:
    frames = [plain(colour=colour, size=(32, 32)) for colour in (RED, GREEN, BLUE)]
    data = file_of(frames[0], form, save_all=True, append_images=frames[1:], duration=10)
    assert near(colour_at(open_picture(data, 64), 9, 9), RED)


@pytest.mark.parametrize("form", ["PNG", "WEBP", "GIF"])
def test_an_animation_of_very_many_frames_costs_one(form: str) -> None:
    frames = [Image.new("L", (1000, 1000), shade % 2 * 255) for shade in range(60)]
    data = file_of(frames[0], form, save_all=True, append_images=frames[1:], duration=10)
    picture = open_picture(data, 64, limit_pixels=2_000_000)
    assert near(colour_at(picture, 9, 9), (0, 0, 0))


def test_a_frame_that_is_larger_than_its_gif_is_refused() -> None:
    data = bytearray(file_of(plain(size=(8, 8)), "GIF"))
    at = data.index(b"\x2c")
    data[at + 5 : at + 9] = struct.pack("<HH", 60_000, 60_000)
    assert complaint(bytes(data), limit_pixels=10_000)


def test_an_animated_png_whose_first_frame_lies_is_refused_or_harmless() -> None:
    control = struct.pack(">IIIIIHHBB", 0, 50_000, 50_000, 0, 0, 1, 1, 0, 0)
    data = png_of(2, 2, (b"\0" + bytes(6)) * 2, (b"acTL", struct.pack(">II", 5, 0)), (b"fcTL", control))
    assert "damaged" in complaint(data)


def bomb_png() -> bytes:
    compressor = zlib.compressobj(9)
    row = bytes(1 + 20_000 // 8)
    body = b"".join(compressor.compress(row) for _ in range(20_000)) + compressor.flush()
    data = png_of(20_000, 20_000, b"", depth=1, kind=0)
    empty = struct.pack(">I", len(zlib.compress(b"", 9))) + b"IDAT" + zlib.compress(b"", 9)
    at = data.index(empty)
    chunk = struct.pack(">I", len(body)) + b"IDAT" + body + struct.pack(">I", zlib.crc32(b"IDAT" + body))
    return data[:at] + chunk + data[at + len(empty) + 4 :]


def test_the_limit_is_a_half_for_webp_which_takes_twice_the_memory() -> None:
    for form, most in (("PNG", 100), ("JPEG", 100), ("GIF", 100), ("WEBP", 50)):
        assert open_picture(file_of(plain(size=(10, most // 10)), form), 64, limit_pixels=100).width == 10
        assert f"at most {most} can" in complaint(file_of(plain(size=(10, most // 10 + 1)), form), limit_pixels=100)


def test_a_small_file_of_four_hundred_million_pixels_is_refused_by_its_header() -> None:
    data = bomb_png()
    assert len(data) < 60_000
    assert "20000 x 20000" in complaint(data)
    assert "20000 x 20000" in complaint(data[:40]), "not a pixel of it is needed for that"


@pytest.mark.parametrize(
    "header",
    [
        b"GIF89a" + struct.pack("<HH", 60_000, 60_000),
        b"RIFF\0\0\0\0WEBPVP8X" + struct.pack("<II", 10, 0) + b"\xff\xff\xff" * 2,
        b"RIFF\0\0\0\0WEBPVP8L" + struct.pack("<I", 10) + b"\x2f" + b"\xff" * 4,
        b"RIFF\0\0\0\0WEBPVP8 " + struct.pack("<I", 10) + b"\0\0\0\x9d\x01\x2a" + b"\xff\x3f" * 2,
        b"\xff\xd8\xff\xe0\0\x04ab\xff\xff\xc2\0\x0b\x08" + b"\xff\xff" * 2 + b"\x03",
    ],
    ids=["gif", "webp extended", "webp lossless", "webp lossy", "jpeg"],
)
def test_huge_claims_are_refused_by_the_header_in_every_format(header: bytes) -> None:
    assert "pixels" in complaint(header + bytes(100))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "no bytes"),
        (b"\0", "no PNG"),
        (b"hello, this is no picture at all", "no PNG"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>", "an SVG drawing"),
        (b"\xef\xbb\xbf <?xml version='1.0'?><svg/>", "an XML document"),
        (b"%PDF-1.7\n", "a PDF document"),
        (b"BM" + bytes(60), "a BMP picture"),
        (b"II*\0" + bytes(60), "a TIFF picture"),
        (b"\0\0\0\x18ftypheic" + bytes(60), "a HEIC picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n(%pipe%id) (w) file", "no PNG"),
        (b"\x89PNG\r\n\x1a\n", "damaged"),
        (b"\xff\xd8\xff", "damaged"),
        (b"\xff\xd8\xff\xe0\0\0" * 1000, "damaged"),
        (b"\xff\xd8" + b"\xff" * 5000, "damaged"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "damaged"),
        (b"GIF89a", "damaged"),
        (b"GIF89a/*\x01\x00\x01=1;alert(1)", "pixels"),
    ],
)
def test_what_is_no_picture_is_named(data: bytes, said: str) -> None:
    assert said in complaint(data)


def test_an_archive_under_a_pictures_name_and_files_that_are_two_things() -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.png", file_of(plain()))
    assert "a ZIP archive" in complaint(stream.getvalue())
    both = file_of(plain(), "JPEG") + stream.getvalue()
    assert near(colour_at(open_picture(both, 64), 5, 5), RED), "the picture counts; what follows it is never looked at"
    assert complaint(stream.getvalue() + file_of(plain()))


def noise(side: int = 64) -> Image.Image:
    return Image.frombytes("RGB", (side, side), random.Random(1).randbytes(3 * side * side))


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF"])
def test_a_file_cut_off_anywhere_is_refused(form: str) -> None:
    data = file_of(noise(), form)
    for part in (0.02, 0.1, 0.5, 0.8):
        assert complaint(data[: int(len(data) * part)])


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF"])
def test_files_with_wrong_bytes_open_or_are_refused_and_nothing_else(form: str) -> None:
    dice = random.Random(2)
    data = file_of(noise(24), form)
    for _ in range(150):
        broken = bytearray(data)
        for _ in range(dice.randint(1, 8)):
            broken[dice.randrange(len(broken))] = dice.randrange(256)
        try:
            picture = open_picture(bytes(broken), 64, limit_pixels=10_000)
        except PictureError:
            continue
        assert len(picture.pixels) == 3 * picture.width * picture.height


def test_a_progressive_jpeg_opens_and_one_of_endless_passes_is_refused() -> None:
    data = file_of(noise(), "JPEG", progressive=True)
    assert open_picture(data, 64).width == 64
    scan = data.rindex(b"\xff\xda")
    end = data.rindex(b"\xff\xd9")
    assert "passes" in complaint(data[:end] + data[scan:end] * MAX_JPEG_SCANS + data[end:])


def test_empty_and_thread_like_pictures_are_refused() -> None:
    assert "no pixels" in complaint(png_of(0, 5, b""))
    assert "long as wide" in complaint(file_of(plain(size=(2010, 10))))


def test_text_in_a_picture_is_no_reason_to_refuse_it() -> None:
    notes = PngImagePlugin.PngInfo()
    notes.add_text("comment", "<svg>" * 100)
    assert open_picture(file_of(plain(), pnginfo=notes), 64).width == 12
