"""Collections larger than a machine: encoded, scored and sampled shard by shard, here or by a Ray cluster.

One function maps a shard to a parquet file; the engines only decide who calls it. So what is in a file depends on the
run, the shard, the settings and the seed, never on who computed it or on how many there were.
"""

from vaekit.shards.running import Done, encode, sample

__all__ = ["Done", "encode", "sample"]
