"""A worker looks at itself before it serves: does it give the vectors that are stored with the checkpoint?"""

import logging
from pathlib import Path

from siglip_model.config import SiglipTextConfig, SiglipVisionConfig
from siglip_model.golden import FILE, TOLERANCE, distance, read_golden, text_row, vision_row
from siglip_settings import Tower as TowerName
from workers.batch import Rows, Tower
from workers.errors import SetupError

log = logging.getLogger(__name__)


def verify(folder: Path, name: TowerName, tower: Tower, dtype: str) -> None:
    """Raises SetupError when the tower computes something else. A checkpoint without vectors passes."""
    golden = read_golden(folder)
    if not golden:
        log.info("%s has no %s: nothing to compare with", folder, FILE)
        return
    found = distance(tower.run(_row(folder, name)[None]).units[0], golden[name])
    limit = TOLERANCE[dtype]
    if not found <= limit:
        raise SetupError(
            f"the {name} tower gives a wrong vector: 1 - cosine to {folder / FILE} is {found:.2g}, "
            f"at most {limit:g} in {dtype}; the weights, the device or the installation is broken"
        )
    log.info("the %s tower gives its golden vector: 1 - cosine is %.1e", name, max(0.0, found))


def _row(folder: Path, name: TowerName) -> Rows:
    if name == "text":
        return text_row(SiglipTextConfig.from_pretrained(folder))
    return vision_row(SiglipVisionConfig.from_pretrained(folder))
