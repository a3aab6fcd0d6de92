"""Thumbnails of real images, compared with ImageMagick's, and of pillow's test images, crashers among them.

WICK_URL says where the homeserver is, WICK_IMAGES where pillow's source is, WICK_PID_FILE where the server's process id is.
"""

import json
import os
import pathlib
import subprocess
import tempfile
import time
import unittest
import urllib.error
import urllib.request

URL = os.environ["WICK_URL"]
IMAGES = pathlib.Path(os.environ["WICK_IMAGES"])
# How far apart pixels may be on average, of 1, and in the worst of the images' nine parts.
FAR, FAR_PART = 0.04, 0.06
# The same, of what a shift of ImageMagick's thumbnail by one pixel makes.
OF_A_SHIFT = 0.5
# How much memory the server may take, in MiB, whatever it was sent.
MEMORY = 1200


def request(method, path, token=None, body=None, content_type="application/octet-stream"):
    headers = {"Content-Type": content_type}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    asked = urllib.request.Request(URL + path, data=body, method=method, headers=headers)
    try:
        with urllib.request.urlopen(asked, timeout=120) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def register():
    body = {"username": f"images{time.time_ns()}", "password": "client test only", "auth": {"type": "m.login.dummy"}}
    status, answer = request("POST", "/_matrix/client/v3/register", body=json.dumps(body).encode())
    assert status == 200, answer
    return json.loads(answer)["access_token"]


def magick(*arguments):
    return subprocess.run(arguments, capture_output=True, text=True, timeout=120, check=True).stdout


def memory():
    path = os.environ.get("WICK_PID_FILE")
    if not path:
        return 0
    status = pathlib.Path("/proc", pathlib.Path(path).read_text().strip(), "status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) // 1024


class Images(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.token = register()
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)

    def upload(self, path):
        status, answer = request("POST", "/_matrix/media/v3/upload", self.token, path.read_bytes())
        self.assertEqual(status, 200, answer)
        return json.loads(answer)["content_uri"].removeprefix("mxc://")

    def thumbnail(self, media, width, height, method, animated=False):
        query = f"width={width}&height={height}&method={method}&animated={str(animated).lower()}"
        return request("GET", f"/_matrix/client/v1/media/thumbnail/{media}?{query}", self.token)

    def photos(self):
        """Photos of our own making in every orientation, and what pillow has of photos."""
        folder = pathlib.Path(self.folder.name)
        for number in range(1, 9):
            photo = folder / f"photo{number}.jpg"
            magick(
                "convert", "-seed", str(number), "-size", "1600x1200", "plasma:fractal", "-blur", "0x2", "-fill", "white",
                "-draw", "rectangle 100,100 500,300 circle 1200,800 1300,900", "-orient",
                ["TopLeft", "TopRight", "BottomRight", "BottomLeft", "LeftTop", "RightTop", "RightBottom", "LeftBottom"][number - 1],
                "-quality", "90", str(photo),
            )
            yield photo
        progressive, png, webp = folder / "progressive.jpg", folder / "photo.png", folder / "photo.webp"
        magick("convert", str(folder / "photo1.jpg"), "-interlace", "Plane", str(progressive))
        magick("convert", str(folder / "photo1.jpg"), "-resize", "2000x500!", str(png))
        magick("convert", str(folder / "photo1.jpg"), "-quality", "90", str(webp))
        yield from (progressive, png, webp)
        for name in ["hopper.jpg", "hopper.png", "flower.jpg", "flower2.jpg", "hopper.webp", "exif-72dpi-int.jpg", "rgb.jpg"]:
            if (IMAGES / name).exists():
                yield IMAGES / name

    def test_thumbnails_look_like_those_of_imagemagick(self):
        folder, seen = pathlib.Path(self.folder.name), []
        for photo in self.photos():
            media = self.upload(photo)
            for width, height, method in [(96, 96, "crop"), (320, 240, "scale"), (800, 600, "scale")]:
                status, bytes_of = self.thumbnail(media, width, height, method)
                self.assertEqual(status, 200, f"{photo.name}: {bytes_of[:200]}")
                ours, theirs = folder / "ours", folder / "theirs.png"
                ours.write_bytes(bytes_of)
                size = f"{width}x{height}"
                # Neither makes anything larger than it is. Cut first: ImageMagick cuts at whole pixels of the result.
                w, h = map(int, magick("convert", str(photo), "-auto-orient", "-format", "%w %h", "info:").split())
                side = min(w, h)
                resize = ["-crop", f"{side}x{side}+{(w - side) // 2}+{(h - side) // 2}", "+repage"]
                resize += ["-filter", "Catrom", "-resize", f"{size}>"]
                if method == "scale":
                    resize = ["-filter", "Catrom", "-resize", f"{size}>"]
                magick("convert", str(photo), "-auto-orient", *resize, "-background", "black", str(theirs))
                measure = ["identify", "-format", "%w %h"]
                # An original may stand for its thumbnail, with its metadata.
                magick("convert", str(ours), "-auto-orient", "-background", "black", str(folder / "ours.png"))
                sizes = [magick(*measure, str(folder / "ours.png")), magick(*measure, str(theirs))]
                (w, h), (v, g) = ([int(side) for side in size.split()] for size in sizes)
                self.assertLessEqual(max(abs(w - v), abs(h - g)), 1, f"{photo.name} {size}: {sizes}")
                if (w, h) != (v, g):
                    magick("mogrify", "-resize", f"{w}x{h}!", str(theirs))
                far = self.distance(folder / "ours.png", theirs)
                part = max(
                    self.distance(folder / "ours.png", theirs, f"33.4%x33.4%+{x * w // 3}+{y * h // 3}")
                    for x in range(3) for y in range(3)
                )
                shift = min(self.shift(theirs, way) for way in ("+1+0", "+0+1"))
                seen.append((far, part, far / shift))
                print(f"{photo.name} {size} {method}: {far:.4f}, in a ninth {part:.4f}, {far / shift:.2f} of a shift")
                self.assertLess(far, FAR, f"{photo.name} {size} {method}")
                self.assertLess(part, FAR_PART, f"{photo.name} {size} {method}, one part")
                self.assertLess(far, shift * OF_A_SHIFT, f"{photo.name} {size} {method}, of a shift by one pixel")
        most = [max(values) for values in zip(*seen)]
        print(f"{len(seen)} thumbnails; RMSE at most {most[0]:.4f}, in a ninth {most[1]:.4f}, {most[2]:.2f} of a shift by a pixel")

    def shift(self, image, way):
        """How far an image is from itself shifted by one pixel."""
        moved = pathlib.Path(self.folder.name) / "moved.png"
        magick("convert", str(image), "-roll", way, str(moved))
        return self.distance(image, moved)

    def distance(self, one, other, part=None):
        """The root mean square of the difference of pixels, of 1."""
        crop = ["-crop", part, "+repage"] if part else []
        script = ["convert", str(one), str(other), "-alpha", "off", "-colorspace", "sRGB", *crop]
        script += ["-compose", "difference", "-composite", "-evaluate", "pow", "2", "-format", "%[fx:mean]", "info:"]
        if part:
            script = [
                "convert", "(", str(one), *crop, ")", "(", str(other), *crop, ")", "-alpha", "off", "-colorspace", "sRGB",
                "-compose", "difference", "-composite", "-evaluate", "pow", "2", "-format", "%[fx:mean]", "info:",
            ]
        return float(magick(*script)) ** 0.5

    def test_every_image_of_pillow_gets_a_thumbnail_or_is_refused(self):
        statuses, slowest = {}, (0.0, None)
        files = sorted(path for path in IMAGES.rglob("*") if path.is_file())
        self.assertGreater(len(files), 1000)
        for path in files:
            media = self.upload(path)
            for animated in (False, True):
                begun = time.monotonic()
                status, answer = self.thumbnail(media, 64, 64, "scale", animated)
                slowest = max(slowest, (time.monotonic() - begun, path.name))
                self.assertIn(status, (200, 400, 413), f"{path.name}: {answer[:200]}")
                if status != 200:
                    self.assertIn("errcode", json.loads(answer), path.name)
                statuses[status] = statuses.get(status, 0) + 1
        for path in files:
            if path.suffix in (".jpg", ".jpeg", ".png", ".gif", ".webp") and path.stem.startswith("hopper"):
                status, answer = self.thumbnail(self.upload(path), 64, 64, "scale")
                self.assertEqual(status, 200, f"{path.name}: {answer[:200]}")
        print(f"{len(files)} files: {statuses}; slowest {slowest[0]:.2f} s ({slowest[1]}); memory at most {memory()} MiB")
        self.assertLess(memory(), MEMORY)


if __name__ == "__main__":
    unittest.main()
