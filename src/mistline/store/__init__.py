"""One record, one shard, one folder of shards: how the dataset lies on disk."""
