"""The `siglip` command."""
