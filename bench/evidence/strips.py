# SPDX-License-Identifier: Apache-2.0
"""Film strips, a row a model with its clip's frames side by side, a block a caption; and stills, a column a model."""

import glob
import os
import shutil
import subprocess

from PIL import Image, ImageDraw, ImageFont

from data import BadInput

STRIP, STILL, TILE, CLIP = 96, 192, 64, 192  # pixels: a frame of a strip, of a still; of the models' tiles and clips
LABEL, TITLE, GAP, TICK = 128, 20, 3, 6
MOST_BYTES = 300_000


def decoder():
    """What can read clips, None where nothing can."""
    if shutil.which("ffmpeg"):
        return frames_by_program
    try:
        import av  # noqa: F401
    except ImportError:
        return None
    return frames_by_av


def frames_by_program(path, side):
    """Every frame, as a picture of side x side."""
    out = subprocess.run(
        [
            "ffmpeg",
            "-v",
            "error",
            "-i",
            path,
            "-vf",
            f"scale={side}:{side}:flags=area",
            "-f",
            "rawvideo",
            "-pix_fmt",
            "rgb24",
            "-",
        ],
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    size = 3 * side * side
    return [Image.frombytes("RGB", (side, side), out[i : i + size]) for i in range(0, len(out) - size + 1, size)]


def frames_by_av(path, side):
    import av

    with av.open(path) as file:
        return [f.to_image().resize((side, side), Image.Resampling.BOX) for f in file.decode(video=0)]


def frames_of(path, side):
    try:
        frames = decoder()(path, side)
    except (ValueError, OSError, subprocess.CalledProcessError) as err:
        raise BadInput(f"{path} cannot be read as a video ({err}): make it again or delete it") from None
    if not frames:
        raise BadInput(f"{path} holds no frame: make it again or delete it")
    return frames


def common_clips(models, most):
    """The first names that all folders have, in order."""
    names = [{os.path.basename(p) for p in glob.glob(os.path.join(folder, "*.mp4"))} for folder in models.values()]
    return sorted(set.intersection(*names))[:most] if names else []


def caption_of(name, captions):
    """Clips are named after their number."""
    number = os.path.splitext(name)[0]
    return captions[int(number) - 1] if number.isdigit() and 0 < int(number) <= len(captions) else name


def save(picture, path):
    """As good as fits."""
    for quality in (90, 80, 65, 50):
        picture.save(path + ".tmp", format="WEBP", quality=quality, method=6)
        if os.path.getsize(path + ".tmp") < MOST_BYTES:
            break
    os.replace(path + ".tmp", path)


def strip(models, captions, most, path):
    """models: {label: folder}. Returns how many captions there are in the picture; 0: none, and no picture."""
    names = common_clips(models, most)
    if not names:
        return 0
    films = [
        {label: frames_of(os.path.join(folder, name), STRIP) for label, folder in models.items()} for name in names
    ]
    columns = max(len(frames) for film in films for frames in film.values())
    line = STRIP + GAP
    picture = Image.new("RGB", (LABEL + columns * line, len(names) * (TITLE + len(models) * line)), "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(12)
    y = 0
    for name, film in zip(names, films):
        draw.text((4, y + 3), caption_of(name, captions), fill="black", font=font)
        y += TITLE
        for label, frames in film.items():
            draw.text((4, y + STRIP // 2 - 16), label.replace("_", "\n"), fill="black", font=font)
            for i, frame in enumerate(frames):
                picture.paste(frame, (LABEL + i * line, y))
            y += line
    save(picture, path)
    return len(names)


def stills(models, most, path):
    """The middle frames at full size, with ticks where tiles meet. Returns how many clips, as strip()."""
    names = common_clips(models, most)
    if not names:
        return 0
    cell = STILL + 2 * TICK + GAP
    picture = Image.new("RGB", (len(models) * cell, TITLE + len(names) * cell), "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(12)
    for column, (label, folder) in enumerate(models.items()):
        draw.text((column * cell + TICK, 3), label, fill="black", font=font)
        for row, name in enumerate(names):
            x, y = column * cell + TICK, TITLE + row * cell + TICK
            frames = frames_of(os.path.join(folder, name), STILL)
            picture.paste(frames[len(frames) // 2], (x, y))
            for edge in range(TILE, CLIP, TILE):
                at = edge * STILL // CLIP
                for line in [
                    (x + at, y - TICK, x + at, y - 2),
                    (x + at, y + STILL + 1, x + at, y + STILL + TICK - 1),
                    (x - TICK, y + at, x - 2, y + at),
                    (x + STILL + 1, y + at, x + STILL + TICK - 1, y + at),
                ]:
                    draw.line(line, fill="black")
    save(picture, path)
    return len(names)
