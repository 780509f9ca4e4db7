"""Draws scenes and trains the demo checkpoint on them. Not part of the wheel."""

import os

# Before torch starts its threads: they sleep while they wait instead of spinning, because the
# process that draws the scenes needs the same cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
