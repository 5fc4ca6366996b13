"""Guards around remote endpoints: rate limits, concurrency, retries, circuit breaker, spend cap."""
