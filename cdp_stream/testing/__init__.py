"""The test kit for topologies: `TopologyDriver`."""

from cdp_stream.testing.driver import TopologyDriver

__all__ = ["TopologyDriver"]
