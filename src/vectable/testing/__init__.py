"""What outside authors prove their adapters with: conformance suites, oracle, samples."""
