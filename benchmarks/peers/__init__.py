"""Other servers of the same model, to be measured beside ours."""
