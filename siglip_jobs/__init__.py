"""Jobs over any number of items: what a source holds is embedded, written, and never computed twice.

It knows no command line: `siglip embed` and recipes for other engines put it together.
"""
