"""A worker runs one tower: it takes jobs from the queue, batches them, computes, and replies."""
