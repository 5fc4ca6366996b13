"""What happens: catalogue, writes, embedding, search, jobs."""
