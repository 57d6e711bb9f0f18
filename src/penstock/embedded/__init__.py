"""Local Kafka, Milvus and Ray for `penstock up`, and the supervisor that runs them with both planes."""
