"""Throughput over workers, gateways and shards, with a stand-in of known speed for the model."""
