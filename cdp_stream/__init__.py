"""cdp-stream: a streaming identity-graph processor for customer data."""

__version__ = "0.1.0"
