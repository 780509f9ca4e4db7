"""The checks of `siglip doctor`; each gives findings, the worst of which decides the exit code."""
