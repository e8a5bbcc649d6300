# SPDX-License-Identifier: Apache-2.0
"""Film strips: a row a model, its clip's frames side by side, a block a caption."""
import glob
import os
import shutil
import subprocess

from PIL import Image, ImageDraw, ImageFont

from evidence_data import BadInput

FRAME, LABEL, GAP = 96, 128, 3
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


def frames_by_program(path):
    """Every frame, as a picture of FRAME x FRAME."""
    out = subprocess.run(["ffmpeg", "-v", "error", "-i", path, "-vf", f"scale={FRAME}:{FRAME}:flags=area", "-f", "rawvideo",
                          "-pix_fmt", "rgb24", "-"], stdout=subprocess.PIPE, check=True).stdout
    size = 3 * FRAME * FRAME
    return [Image.frombytes("RGB", (FRAME, FRAME), out[i:i + size]) for i in range(0, len(out) - size + 1, size)]


def frames_by_av(path):
    import av
    with av.open(path) as file:
        return [f.to_image().resize((FRAME, FRAME), Image.Resampling.BOX) for f in file.decode(video=0)]


def frames_of(path, read):
    try:
        frames = read(path)
    except (ValueError, OSError, subprocess.CalledProcessError) as err:
        raise BadInput(f"{path} cannot be read as a video ({err}): make it again or delete it") from None
    if not frames:
        raise BadInput(f"{path} holds no frame: make it again or delete it")
    return frames


def common_clips(folders):
    """The names that all folders have, in order."""
    names = [{os.path.basename(p) for p in glob.glob(os.path.join(folder, "*.mp4"))} for folder in folders]
    return sorted(set.intersection(*names)) if names else []


def strip(models, captions, most, path):
    """models: {label: folder}. Returns how many captions there are in the picture; 0: none, and no picture."""
    read = decoder()
    names = common_clips(models.values())[:most]
    if not read or not names:
        return 0
    films = [{label: frames_of(os.path.join(folder, name), read) for label, folder in models.items()} for name in names]
    columns = max(len(frames) for film in films for frames in film.values())
    line, title = FRAME + GAP, 20
    picture = Image.new("RGB", (LABEL + columns * line, len(names) * (title + len(models) * line)), "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(12)
    y = 0
    for name, film in zip(names, films):
        number = int(os.path.splitext(name)[0]) if os.path.splitext(name)[0].isdigit() else 0
        caption = captions[number - 1] if 0 < number <= len(captions) else name
        draw.text((4, y + 3), caption, fill="black", font=font)
        y += title
        for label, frames in film.items():
            draw.text((4, y + FRAME // 2 - 16), label.replace("_", "\n"), fill="black", font=font)
            for i, frame in enumerate(frames):
                picture.paste(frame, (LABEL + i * line, y))
            y += line
    for quality in (85, 70, 55, 40):
        picture.save(path + ".tmp", format="WEBP", quality=quality, method=6)
        if os.path.getsize(path + ".tmp") < MOST_BYTES:
            break
    os.replace(path + ".tmp", path)
    return len(names)
