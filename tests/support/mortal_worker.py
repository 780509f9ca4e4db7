"""`siglip` whose workers one picture kills: `python -m tests.support.mortal_worker worker --tower vision`."""

import io
import os
import signal

from PIL import Image

from siglip_cli.__main__ import main
from workers.batch import Rows, Vectors
from workers.tower import ModelTower

# Every pixel of it, in all channels.
DEADLY = 123


def deadly_picture() -> bytes:
    """Encoded; of this one grey whatever it is resized to."""
    data = io.BytesIO()
    Image.new("RGB", (64, 64), (DEADLY,) * 3).save(data, "PNG")
    return data.getvalue()


def make_mortal() -> None:
    """From now on towers of this process do not survive it."""
    right = ModelTower.run

    def run(tower: ModelTower, rows: Rows) -> Vectors:
        if tower.dtype == "uint8" and any((row == DEADLY).all() for row in rows):
            os.kill(os.getpid(), signal.SIGKILL)
        return right(tower, rows)

    ModelTower.run = run  # type: ignore[method-assign]


if __name__ == "__main__":
    make_mortal()
    main()
