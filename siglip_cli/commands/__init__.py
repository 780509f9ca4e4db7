"""One module for each command. Each imports what it needs inside, so that `siglip --help` is quick."""
