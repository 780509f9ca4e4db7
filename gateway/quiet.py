"""Keeps the log free of lines that strangers' pictures write."""

import ctypes

from PIL import _imaging


def silence_libtiff() -> None:
    """libtiff describes each damaged TIFF on stderr itself; the caller is told in its reply.

    Where Pillow's library cannot be asked (it is linked otherwise) it does nothing.
    """
    library = ctypes.CDLL(_imaging.__file__)
    for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
        set_handler = getattr(library, name, None)
        if set_handler is not None:
            set_handler.restype = ctypes.c_void_p
            set_handler(ctypes.c_void_p(None))
