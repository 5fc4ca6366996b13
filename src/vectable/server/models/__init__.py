"""Bodies of requests and answers. Where the core has the noun already, its own object is the body."""
